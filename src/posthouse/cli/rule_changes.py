"""`posthouse rule add|edit|move|remove|enable|disable`: changes of single security rules, through REST."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from posthouse.cli.config import read_document
from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, show_json
from posthouse.cli.remote import Remote, segment

RULES = "/api/v1/rules"

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The rule as TOML or JSON: alone, or the one NAME of an inventory."),
]
RecipientsOption = Annotated[
    list[str] | None,
    typer.Option("--recipients", metavar="PATTERN", help="Such as *@ours.example; may be repeated; '' for any."),
]
SendersOption = Annotated[
    list[str] | None,
    typer.Option("--senders", metavar="PATTERN", help="Of the reverse-path; may be repeated; '' for any."),
]
ClientsOption = Annotated[
    list[str] | None,
    typer.Option("--clients", metavar="NETWORK", help="Such as 192.0.2.0/24; may be repeated; '' for any."),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Server profile that relays what matches.")
]
DirectionOption = Annotated[
    str | None,
    typer.Option("--direction", metavar="WORD", help="inbound, outbound or internal: a label; '' for none."),
]
OpenRelayOption = Annotated[
    bool | None, typer.Option("--open-relay/--no-open-relay", help="Anybody may relay anywhere by this rule.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `posthouse rule`."""
    for name, command in (
        ("add", add),
        ("edit", edit),
        ("move", move),
        ("remove", remove),
        ("enable", enable),
        ("disable", disable),
    ):
        app.command(name)(command)


def add(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="May be left out with --file.")] = "",
    file: FileOption = None,
    recipients: RecipientsOption = None,
    senders: SendersOption = None,
    clients: ClientsOption = None,
    profile: ProfileOption = None,
    direction: DirectionOption = None,
    open_relay: OpenRelayOption = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="It matches nothing yet.")] = False,
    position: Annotated[
        int | None, typer.Option("--position", metavar="N", help="Its place, from 1; default: the last.")
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Add a rule, from flags or a file; it is in force within a second."""
    if file is None and not name:
        raise Stop(Exit.USAGE, "Which rule?", remedy="Give NAME, or --file FILE.")
    document = _of_file(file, name) if file is not None else {"name": name}
    document = _edited(document, recipients, senders, clients, profile, direction, open_relay)
    if disabled:
        document["enabled"] = False
    with Remote(server, data_dir) as remote:
        rule = remote.post(RULES, document, {"position": position})
    _done(rule, as_json, f"Rule {rule['name']} is added.")


def edit(
    name: NameArgument,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Rename it.")] = None,
    file: FileOption = None,
    recipients: RecipientsOption = None,
    senders: SendersOption = None,
    clients: ClientsOption = None,
    profile: ProfileOption = None,
    direction: DirectionOption = None,
    open_relay: OpenRelayOption = None,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Change what is given of a rule, or all of it by a file; its place stays."""

    def change(rule: Mapping[str, object]) -> dict[str, object]:
        document = _of_file(file, name) if file is not None else dict(rule)
        document = _edited(document, recipients, senders, clients, profile, direction, open_relay)
        return document if new_name is None else {**document, "name": new_name}

    with Remote(server, data_dir) as remote:
        read, tag = remote.tagged(f"{RULES}/{segment(name)}")
        rule = remote.call("PUT", f"{RULES}/{segment(name)}", body=change(read), if_match=tag)
    _done(
        rule,
        as_json,
        f"Rule {rule['name']} is as it was already." if rule == read else f"Rule {rule['name']} is changed.",
    )


def move(
    name: NameArgument,
    position: Annotated[int, typer.Argument(metavar="POSITION", help="From 1, which is looked at first.")],
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Move a rule to another place in the order."""
    with Remote(server, data_dir) as remote:
        moved = remote.post(f"{RULES}/{segment(name)}/move", {"position": position})
    _done(moved, as_json, f"Rule {moved['name']} is number {moved['position']}.")


def remove(
    name: NameArgument,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Remove a rule. Mail that it has matched already goes on."""
    with Remote(server, data_dir) as remote:
        remote.call("DELETE", f"{RULES}/{segment(name)}")
    _done({"removed": name}, as_json, f"Rule {name} is removed.")


def enable(
    name: NameArgument,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Let a disabled rule match again."""
    _switch(name, True, as_json, server, data_dir)


def disable(
    name: NameArgument,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Keep a rule, but let it match nothing."""
    _switch(name, False, as_json, server, data_dir)


def _switch(name: str, enabled: bool, as_json: bool, server: str | None, data_dir: str) -> None:
    with Remote(server, data_dir) as remote:
        read, tag = remote.tagged(f"{RULES}/{segment(name)}")
        rule = remote.call("PUT", f"{RULES}/{segment(name)}", body={**read, "enabled": enabled}, if_match=tag)
    _done(rule, as_json, f"Rule {rule['name']} is {'enabled' if enabled else 'disabled'}.")


def _edited(
    document: Mapping[str, object],
    recipients: list[str] | None,
    senders: list[str] | None,
    clients: list[str] | None,
    profile: str | None,
    direction: str | None,
    open_relay: bool | None,
) -> dict[str, object]:
    """`document` with what the flags give; what they do not give stays, an empty text removes."""
    edited = dict(document)
    match = edited.get("match")
    conditions = dict(match) if isinstance(match, Mapping) else {}
    for name, entries in (("recipients", recipients), ("senders", senders), ("clients", clients)):
        if entries == [""]:
            conditions.pop(name, None)
        elif entries:
            conditions[name] = entries
    if conditions or "match" in edited:
        edited["match"] = conditions
    if profile is not None:
        edited["relay"] = {"profile": profile}
    if direction is not None:
        edited["direction"] = direction or None
    if open_relay is not None:
        edited["open_relay"] = open_relay
    return edited


def _of_file(file: Path, name: str) -> dict[str, object]:
    """The rule of that name, or the only one; the file may be an inventory or a rule alone."""
    from posthouse.core.fields import name_key

    document = read_document(file)
    listed = document.get("rules", [document])
    rules = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    found = [rule for rule in rules if not name or name_key(str(rule.get("name", ""))) == name_key(name)]
    if len(found) != 1:
        message = f"{file} has no rule {name!r}." if name else f"{file} has {len(found)} rules."
        names = ", ".join(str(rule.get("name", "")) for rule in rules)
        raise Stop(Exit.USAGE, message, remedy=f"Name one of: {names}." if names else "")
    return found[0]


def _done(document: Mapping[str, object], as_json: bool, said: str) -> None:
    if as_json:
        show_json(document)
    else:
        line(said)
