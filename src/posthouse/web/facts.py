"""Reading the JSON of live rows, which other processes have written."""

from collections.abc import Iterable, Mapping

Facts = Mapping[str, object]


def part(facts: Facts, name: str) -> Facts:
    """A table among the facts."""
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}


def text(facts: Facts, name: str) -> str:
    return str(facts.get(name, ""))


def moment(facts: Facts, name: str) -> float | None:
    """Epoch seconds."""
    found = facts.get(name)
    return float(found) if isinstance(found, int | float) else None


def number(facts: Facts, name: str) -> int:
    """A count; 0 if there is none."""
    found = facts.get(name)
    return found if isinstance(found, int) else 0


def moments(facts: Iterable[Facts], name: str) -> list[float]:
    return [at for at in (moment(f, name) for f in facts) if at is not None]


def total(facts: Iterable[Facts], name: str) -> int:
    return sum(number(f, name) for f in facts)
