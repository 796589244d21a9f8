"""`posthouse audit`: who changed what."""

from collections.abc import Mapping
from typing import Annotated

import typer

from posthouse.cli.changes import change_text
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, moment, pairs, show_json, table
from posthouse.cli.remote import Remote
from posthouse.cli.trail import mapping, mappings

app = typer.Typer(help="The audit log: who changed what, when.", no_args_is_help=True)

CHANGES_SHOWN = 5
"""Of one row in the table."""
CHARACTERS_SHOWN = 160
"""Of one change there."""


@app.command("list")
def list_(
    by: Annotated[str, typer.Option("--by", metavar="TEXT", help="Part of who did it.")] = "",
    what: Annotated[str, typer.Option("--what", metavar="TEXT", help="Part of what was done, such as rule.")] = "",
    about: Annotated[
        str, typer.Option("--about", metavar="TEXT", help="Part of the changes: a rule, a user, a value.")
    ] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="ISO 8601 (UTC) or epoch seconds.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="ISO 8601 (UTC) or epoch seconds.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Rows at most.")] = 50,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Newest first; all filters given must match."""
    filters = {"by": by, "what": what, "about": about, "since": since, "until": until}
    with Remote(server, data_dir) as remote:
        rows = list(remote.pages("/api/v1/audit", filters, limit))
    if as_json:
        show_json({"items": rows, "next": None})
        return
    table(
        ("Row", "When", "Who", "What", "Changes"),
        ((row.get("id"), moment(row.get("at")), row.get("by"), row.get("what"), _short(row)) for row in rows),
        "No row matches.",
    )


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="ROW", help="As `posthouse audit list` shows it.")],
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """One row with all its changes."""
    with Remote(server, data_dir) as remote:
        row = remote.get(f"/api/v1/audit/{number}")
    if as_json:
        show_json(row)
        return
    pairs({"when": moment(row.get("at")), "who": row.get("by"), "what": row.get("what"), **_facts(row)})
    for change in mappings(mapping(row.get("detail")).get("changes")):
        line(change_text(change))


def _short(row: Mapping[str, object]) -> str:
    """The first changes, or what else the row tells, in one cell."""
    detail = mapping(row.get("detail"))
    changes = mappings(detail.get("changes"))
    if not changes:
        return ", ".join(f"{name} {value}" for name, value in _facts(row).items())
    told = [_cut(change_text(change)) for change in changes[:CHANGES_SHOWN]]
    more = detail.get("more")
    left = len(changes) - len(told) + (more if isinstance(more, int) else 0)
    return "; ".join([*told, f"and {left} more"] if left else told)


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS_SHOWN else text[: CHARACTERS_SHOWN - 1] + "…"


def _facts(row: Mapping[str, object]) -> dict[str, object]:
    """What is told besides changes, as far as it fits a line."""
    return {
        name: value
        for name, value in mapping(row.get("detail")).items()
        if name not in ("changes", "more") and not isinstance(value, dict | list)
    }
