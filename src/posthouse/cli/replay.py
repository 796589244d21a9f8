"""`posthouse rule replay`: what a file would change for the last mails."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from posthouse.cli.config import PruneOption, read_document
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, moment, show_json, table, waiting
from posthouse.cli.remote import Remote
from posthouse.cli.trail import Record, mapping, mappings


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(replay)


def replay(
    inventory: Annotated[
        Path,
        typer.Option(
            "--inventory",
            metavar="INVENTORY",
            help="Asked about, laid over what is in force (.toml or .json; - for standard input).",
        ),
    ],
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="Mails of the history.")] = 1000,
    prune: PruneOption = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Mails shown.")] = 20,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Tell how many of the last mails a file would treat differently from what is in force, and which.

    Nothing is sent, and nothing of INVENTORY is saved.
    """
    question = {"inventory": read_document(inventory), "prune": prune, "mails": last}
    with Remote(server, data_dir) as remote, waiting("Replaying ..."):
        answer = remote.post("/api/v1/rule-replays", question)
    if as_json:
        show_json(answer)
        return
    _show(answer, limit)


def _show(answer: Mapping[str, object], limit: int) -> None:
    line(answer.get("sentence"))
    changes = mappings(answer.get("changes"))
    if changes:
        line("")
        table(
            ("Recipients", "In force", "With the file", "What differs"),
            (
                (
                    change.get("recipients"),
                    _treatment(mapping(change.get("before"))),
                    _treatment(mapping(change.get("after"))),
                    _what(change),
                )
                for change in changes
            ),
            "",
        )
        items = mappings(answer.get("items"))[:limit]
        table(
            ("Mail", "Received", "Recipient", "In force", "With the file"),
            (
                (
                    item.get("mail"),
                    moment(item.get("received_at")),
                    item.get("recipient"),
                    _treatment(mapping(item.get("before"))),
                    _treatment(mapping(item.get("after"))),
                )
                for item in items
            ),
            "",
        )
        count = answer.get("count")
        if isinstance(count, int) and count > len(items):
            line(f"{count - len(items):,} more recipients: --limit shows up to 1,000.")
        line("")
    otherwise = mapping(answer.get("decided_otherwise")).get("sentence")
    for sentence in (otherwise, answer.get("not_seen")):
        if sentence:
            line(sentence)


def _treatment(treatment: Record) -> str:
    if treatment.get("refused"):
        return "refused"
    return f"{treatment.get('rule') or 'own_mail'} > {treatment.get('profile')}"


def _what(change: Record) -> str:
    """The sentence, and both lists where the servers are others."""
    said = str(change.get("sentence"))
    if "servers" not in _texts(change.get("differs")):
        return said
    old, new = (", ".join(_texts(mapping(change.get(name)).get("servers"))) for name in ("before", "after"))
    return f"{said}: {old or 'none'} -> {new or 'none'}"


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
