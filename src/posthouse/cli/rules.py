"""`posthouse rule`: security rules, and why which of them matches."""

from pathlib import Path
from typing import Annotated, cast

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import cell, console, line, pairs, plain, show_json, table
from posthouse.cli.remote import Remote, segment
from posthouse.cli.trail import mapping, mappings

app = typer.Typer(help="Security rules: first match first.", no_args_is_help=True)

HEADER_OCTETS = 1024 * 1024
"""How much of an .eml file is looked at."""


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


@app.command()
def explain(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.eml", help="Mail whose Return-Path, From, To and Cc are the defaults."),
    ] = None,
    client: Annotated[str, typer.Option("--client", metavar="IP", help="Address of the client.")] = "127.0.0.1",
    sender: Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="Reverse-path; '' for <>.")] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ADDRESS", help="Recipient; may be repeated.")
    ] = None,
    helo: Annotated[str, typer.Option("--helo", metavar="NAME", help="Name given at EHLO.")] = "",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Tell condition by condition which rule would match, and what would happen. Nothing is sent."""
    if file is not None:
        file_sender, file_to = read_addresses(file)
        sender = file_sender if sender is None else sender
        to = to or file_to
    if not to:
        raise Stop(Exit.USAGE, "There is no recipient.", remedy="Give --to ADDRESS, or a file with a To field.")
    question = {"client": client, "from": _bare(sender or ""), "to": [_bare(one) for one in to], "helo": helo}
    with Remote(server, data_dir) as remote:
        answer = remote.post("/api/v1/rule-explanations", question)
    if as_json:
        show_json(answer)
        return
    for item in mappings(answer["items"]):
        _explanation(item)


def read_addresses(file: Path) -> tuple[str, list[str]]:
    """Reverse-path and recipients that the header of an .eml file suggests."""
    from email import policy
    from email.parser import BytesHeaderParser
    from email.utils import getaddresses

    try:
        with file.open("rb") as stream:
            octets = stream.read(HEADER_OCTETS)
    except OSError as fault:
        raise Stop(Exit.FAULT, f"{file} cannot be read: {fault.strerror}.") from fault
    header = BytesHeaderParser(policy=policy.compat32).parsebytes(octets)

    def addresses(*names: str) -> list[str]:
        fields = [str(value) for name in names for value in header.get_all(name, [])]
        return [address for _, address in getaddresses(fields) if address]

    path = header.get("Return-Path")
    sender = next(iter(addresses("From")), "") if path is None else _bare(str(path).strip())
    return sender, list(dict.fromkeys(addresses("To", "Cc", "Bcc")))


def _explanation(item: object) -> None:
    """One recipient: each rule with its conditions, then the end."""
    from rich.tree import Tree

    told = mapping(item)
    tree = Tree(cell(f"recipient <{told.get('asked')}>", "bold"))
    for rule in mappings(told.get("rules")):
        matched = rule.get("matched")
        word = "matches" if matched else "does not match" if rule.get("looked_at") else "not looked at"
        branch = tree.add(cell(f"rule {rule.get('rule')}: {word}", "green" if matched else "dim"))
        if not rule.get("looked_at"):
            continue
        for condition in mappings(rule.get("conditions")):
            sign = "yes" if condition.get("met") else "no "
            branch.add(cell(f"{sign}  {condition.get('sentence')}", "" if condition.get("met") else "yellow"))
    end = tree.add(cell(told.get("outcome"), "bold" if told.get("accepted") else "bold red"))
    servers = cast(list[object], told.get("servers") or [])
    if servers:
        end.add(cell(f"{told.get('preference')}: " + " > ".join(plain(server) for server in servers)))
    console().print(tree)
    line("")


def _rules(server: str | None, data_dir: str) -> dict[str, object]:
    with Remote(server, data_dir) as remote:
        return remote.whole("/api/v1/rules")


def _entries(rule: object, name: str) -> str:
    entries = mapping(mapping(rule).get("match")).get(name)
    return ", ".join(str(entry) for entry in entries) if isinstance(entries, list) else "any"


def _bare(address: str) -> str:
    """Without angle brackets."""
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address
