"""`posthouse rule explain`: why which rule matches, and where the mail would go first now."""

from pathlib import Path
from typing import Annotated, cast

import typer

from posthouse.cli.config import PruneOption, read_document
from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import cell, console, line, plain, show_json
from posthouse.cli.remote import Remote
from posthouse.cli.trail import Record, mapping, mappings

HEADER_OCTETS = 1024 * 1024
"""How much of an .eml file is looked at."""

STYLES = {"yes": "green", "no": "bold red", "on some workers": "yellow", "not known": "dim"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(explain)


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
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--inventory",
            metavar="INVENTORY",
            help="Ask about this file, laid over what is in force (.toml or .json; - for standard input).",
        ),
    ] = None,
    prune: PruneOption = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Tell condition by condition which rule would match, and where the mail would go first now.

    Nothing is sent, and nothing of INVENTORY is saved.
    """
    if file is not None:
        file_sender, file_to = read_addresses(file)
        sender = file_sender if sender is None else sender
        to = to or file_to
    if not to:
        raise Stop(Exit.USAGE, "There is no recipient.", remedy="Give --to ADDRESS, or a file with a To field.")
    question: dict[str, object] = {
        "client": client,
        "from": _bare(sender or ""),
        "to": [_bare(one) for one in to],
        "helo": helo,
    }
    if inventory is not None:
        question |= {"inventory": read_document(inventory), "prune": prune}
    elif prune:
        raise Stop(Exit.USAGE, "--prune is of use together with --inventory only.")
    with Remote(server, data_dir) as remote:
        answer = remote.post("/api/v1/rule-explanations", question)
    if as_json:
        show_json(answer)
        return
    if inventory is not None:
        line(f"As it would be with {inventory} in force; nothing is saved.")
        line("")
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
    if told.get("start"):
        end.add(cell(told.get("start"), "yellow"))
    for state in mappings(told.get("states")):
        end.add(cell(_state(state), STYLES.get(str(state.get("may_be_addressed")), "")))
    if told.get("now"):
        end.add(cell(told.get("now"), "bold" if told.get("goes_to") else "bold red"))
    console().print(tree)
    line("")


def _state(state: Record) -> str:
    """One server: whether a mail may be sent there now, and what is known of it."""
    may, why = state.get("may_be_addressed"), state.get("why")
    if state.get("circuit") is None:
        return f"{state.get('server')}: state not known: {why}"
    used = f"{state.get('in_use')} of {state.get('limit')} in use"
    if may == "yes":
        return f"{state.get('server')}: may be addressed now, circuit {state.get('circuit')}, {used}"
    part = "not now on some workers" if may == "on some workers" else "not now"
    return f"{state.get('server')}: {part}: {why}; {used}"


def _bare(address: str) -> str:
    """Without angle brackets."""
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address
