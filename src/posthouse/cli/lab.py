"""`posthouse send` and `posthouse sink`: a small sender and a recording next hop, for trying things out."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from posthouse.cli.output import console, line, plain, show_json, span
from posthouse.cli.remote import node_file


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.command()(send)
    app.command()(sink)


def send(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE.eml", help="Mails to send as they are.")] = None,
    smtp: Annotated[
        str, typer.Option("--smtp", metavar="HOST:PORT", help="Where to; default: the node of the data dir.")
    ] = "",
    sender: Annotated[str, typer.Option("--from", metavar="ADDRESS", help="Reverse-path.")] = "sender@client.example",
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ADDRESS", help="Recipient; may be repeated.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Generated mails.")] = 1,
    size: Annotated[int, typer.Option("--size", min=1, metavar="OCTETS", help="Of a generated mail, about.")] = 4096,
    sessions: Annotated[int, typer.Option("--sessions", min=1, max=1000, help="Connections at a time.")] = 1,
    per_session: Annotated[int, typer.Option("--per-session", min=0, help="Mails per connection; 0: no limit.")] = 0,
    helo: Annotated[str, typer.Option("--helo", metavar="NAME", help="Name given at EHLO.")] = "client.example",
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="Append Message-ID and id of every 250, synced.")
    ] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Send generated mails or files, and count what came of them."""
    from posthouse.lab.send import SendOptions, SendResult
    from posthouse.lab.send import send as run

    host, port = _address(smtp or _listener(data_dir), "--smtp")
    for file in files or ():
        if not file.is_file():
            raise Stop(Exit.FAULT, f"{file} cannot be read.")
    options = SendOptions(
        host=host,
        port=port,
        count=count,
        size=size,
        sessions=sessions,
        per_session=per_session,
        reverse_path=sender,
        recipients=tuple(to or ("recipient@ours.example",)),
        files=tuple(files or ()),
        ledger=ledger,
        helo=helo,
    )

    def with_progress() -> SendResult:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        to_people = console(stderr=True)
        quiet = as_json or not to_people.is_terminal
        columns = ("sending", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=to_people, disable=quiet, transient=True) as bar:
            task = bar.add_task("send", total=None)
            return asyncio.run(run(options, lambda done, total: bar.update(task, completed=done, total=total)))

    try:
        result = with_progress()
    except OSError as fault:
        raise Stop(Exit.FAULT, f"A file cannot be used: {fault.strerror or fault}.") from fault
    if as_json:
        show_json(
            {
                "accepted": result.accepted,
                "refused": dict(result.refused),
                "broken": dict(result.broken),
                "seconds": result.seconds,
                "ids": [{"message_id": message_id, "id": queue_id} for message_id, queue_id in result.ids],
            }
        )
    else:
        for message_id, queue_id in result.ids[:20]:
            line(f"{queue_id or '(no id)'}  {message_id}")
        if len(result.ids) > 20:
            line(f"... and {len(result.ids) - 20} more")
        rate = (
            f", {result.accepted / result.seconds:.0f} mails/s" if result.seconds > 0 and result.accepted > 1 else ""
        )
        line(f"{result.accepted} accepted in {span(result.seconds)}{rate}.")
        for word, counts in (("refused", result.refused), ("broken", result.broken)):
            for reason, number in counts.most_common():
                line(f"{number} {word}: {plain(reason)}")
    raise typer.Exit(_code(result.accepted, dict(result.refused), dict(result.broken)))


def sink(
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT")] = "127.0.0.1:2526",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep each mail here.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule", metavar="RULE", help="STAGE[:PATTERN[:TIMES]]=ACTION, as 'RCPT:*@full.example=452 4.2.2 full'."
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="EXTENSION", help="Do not offer it.")
    ] = None,
    helo_only: Annotated[bool, typer.Option("--helo-only", help="Refuse EHLO.")] = False,
    recipients: Annotated[int, typer.Option("--recipients", min=0, help="Taken per transaction; 0: all.")] = 0,
    delay: Annotated[float, typer.Option("--delay", min=0.0, metavar="SECONDS", help="Before each reply.")] = 0.0,
    black_hole: Annotated[bool, typer.Option("--black-hole", help="Accept connections and say nothing.")] = False,
) -> None:
    """A next hop that takes mail, tells each as a JSON line, and misbehaves on request. Ctrl-C ends it."""
    from posthouse.lab.sink import SinkOptions, run_sink
    from posthouse.lab.sink_rules import parse_rule

    host, port = _address(listen, "--listen")
    try:
        rules = tuple(parse_rule(text) for text in rule or ())
    except ValueError as fault:
        raise Stop(Exit.USAGE, str(fault)) from fault
    options = SinkOptions(
        host=host,
        port=port,
        out=out,
        rules=rules,
        without=frozenset(name.upper() for name in without or ()),
        helo_only=helo_only,
        recipients=recipients,
        delay=delay,
        black_hole=black_hole,
    )

    def started(actual: int) -> None:
        typer.echo(f"sink listens on {host}:{actual}", err=True)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run_sink(options, started))
    except OSError as fault:
        raise Stop(Exit.FAULT, f"{listen} cannot be used: {fault.strerror or fault}.") from fault


def _listener(data_dir: str) -> str:
    node = node_file(data_dir)
    return node.smtp[0] if node is not None and node.smtp else "127.0.0.1:2525"


def _address(text: str, option: str) -> tuple[str, int]:
    from posthouse.core.uri import parse_address

    found = parse_address(text)
    if isinstance(found, list):
        raise Stop(Exit.USAGE, f"{option} {text!r}: {found[0].rule}", remedy=found[0].remedy)
    return found


def _code(accepted: int, refused: dict[str, int], broken: dict[str, int]) -> Exit:
    """3 if nothing but broken connections came of it, 4 if there were refusals by policy (5.7.x), 1 for others."""
    if not refused and not broken:
        return Exit.OK
    if broken:
        return Exit.FAULT if accepted or refused else Exit.UNREACHABLE
    return Exit.REFUSED if all(reply[:1] == "5" and reply[4:8] == "5.7." for reply in refused) else Exit.FAULT
