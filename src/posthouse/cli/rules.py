"""`posthouse rule`: security rules."""

from typing import Annotated

import typer

from posthouse.cli import explain, replay
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import pairs, show_json, table
from posthouse.cli.remote import Remote, segment
from posthouse.cli.trail import mapping, mappings

app = typer.Typer(help="Security rules: first match first.", no_args_is_help=True)
explain.register(app)
replay.register(app)


@app.command("list")
def list_(
    as_json: JsonOption = False, server: ServerOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """All rules in their order."""
    answer = _rules(server, data_dir)
    if as_json:
        show_json(answer)
        return
    table(
        ("#", "Name", "Enabled", "Direction", "Clients", "Senders", "Recipients", "Profile", "Remarks"),
        (
            (
                number,
                rule.get("name"),
                "yes" if rule.get("enabled", True) else "no",
                rule.get("direction"),
                *(_entries(rule, name) for name in ("clients", "senders", "recipients")),
                mapping(rule.get("relay")).get("profile"),
                "OPEN RELAY" if rule.get("open_relay") else "",
            )
            for number, rule in enumerate(mappings(answer["items"]), 1)
        ),
        "There are no rules: every recipient is refused.",
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """One rule."""
    with Remote(server, data_dir) as remote:
        rule = remote.get(f"/api/v1/rules/{segment(name)}")
    if as_json:
        show_json(rule)
        return
    pairs(
        {
            "name": rule.get("name"),
            "enabled": "yes" if rule.get("enabled", True) else "no",
            "direction": rule.get("direction"),
            **{name: _entries(rule, name) for name in ("clients", "senders", "recipients")},
            "relay profile": mapping(rule.get("relay")).get("profile"),
            "open relay": "YES" if rule.get("open_relay") else "no",
        }
    )


def _rules(server: str | None, data_dir: str) -> dict[str, object]:
    with Remote(server, data_dir) as remote:
        return remote.whole("/api/v1/rules")


def _entries(rule: object, name: str) -> str:
    entries = mapping(mapping(rule).get("match")).get(name)
    return ", ".join(str(entry) for entry in entries) if isinstance(entries, list) else "any"
