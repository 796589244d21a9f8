"""docs/performance.json: the figures behind docs/performance.md, by workload, with how they were taken."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from benchmarks.figures import Figures, Taken


def write(taken: Sequence[Taken]) -> str:
    """JSON with a line for each peer, so that a new run is a readable change. Fields without a value are left out."""
    entries = []
    for each in taken:
        head = {"workload": each.workload, "moment": each.moment, "commit": each.commit, "how": each.how}
        lines = ",\n".join(f"  {json.dumps(_figures(one))}" for one in each.figures)
        entries.append(f'{json.dumps(head)[:-1]}, "figures": [\n{lines}\n]}}')
    return "[\n" + ",\n".join(entries) + "\n]\n"


def read(text: str) -> tuple[Taken, ...]:
    """The opposite of `write`."""
    return tuple(
        Taken(
            entry["workload"],
            entry["moment"],
            entry["commit"],
            entry["how"],
            tuple(Figures(workload=entry["workload"], **_tuples(one)) for one in entry["figures"]),
        )
        for entry in json.loads(text)
    )


def merge(before: Sequence[Taken], new: Sequence[Taken], order: Sequence[str]) -> tuple[Taken, ...]:
    """What was measured anew takes the place of what was there; workloads that are no more are dropped."""
    found = {each.workload: each for each in (*before, *new)}
    return tuple(found[name] for name in order if name in found)


def _figures(one: Figures) -> dict[str, object]:
    values = {name: _rounded(value) for name, value in asdict(one).items() if name != "workload"}
    return {name: value for name, value in values.items() if value not in (0, ())}


def _rounded(value: object) -> object:
    """Four significant digits are more than any of these figures has."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case tuple():
            return tuple(_rounded(each) for each in value)
        case _:
            return value


def _tuples(one: dict[str, object]) -> dict[str, Any]:
    known = {field.name for field in fields(Figures)} - {"workload"}
    return {name: _tuple(value) for name, value in one.items() if name in known}


def _tuple(value: object) -> object:
    return tuple(_tuple(each) for each in value) if isinstance(value, list) else value
