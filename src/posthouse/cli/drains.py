"""`posthouse profile drain`, `undrain`, `simulate`: keep mail from one server of a profile, and let it go again."""

from typing import Annotated, cast

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, ServerOption
from posthouse.cli.output import line, moment, show_json
from posthouse.cli.remote import Remote, segment

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a server profile.")]
Server = Annotated[str, typer.Argument(metavar="SERVER", help="One of its servers: URI, or number (1 is the first).")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Told in trail, queue and audit log.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `posthouse profile`."""
    for command in (drain, undrain, simulate):
        app.command()(command)


def drain(
    name: Name,
    server: Server,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="N", help="End by itself; default: until `undrain`.")
    ] = None,
    reason: Reason = "",
    as_json: JsonOption = False,
    console: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Keep mail from one server of a profile; open transactions end as usual."""
    _drain(name, server, minutes, reason, False, as_json, console, data_dir)


def simulate(
    name: Name,
    server: Server,
    minutes: Annotated[float, typer.Option("--minutes", metavar="N", help="For so long.")] = 10.0,
    reason: Reason = "",
    as_json: JsonOption = False,
    console: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Treat one server of a profile as down for a while, to see what failover does."""
    _drain(name, server, minutes, reason, True, as_json, console, data_dir)


def undrain(
    name: Name,
    server: Server,
    as_json: JsonOption = False,
    console: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Let mail go to a server again that was drained or treated as down."""
    with Remote(console, data_dir) as remote:
        tag = _tag(remote, name, server)
        path = f"/api/v1/server-profiles/{segment(name)}/drain"
        answer = remote.call("DELETE", path, {"server": server}, if_match=tag)
    if as_json:
        show_json(answer)
    elif answer["before"] is None:
        line(f"{answer['server']} was not left out.")
    else:
        line(f"{answer['server']} gets mail of {answer['profile']} again.")


def _tag(remote: Remote, name: str, server: str) -> str:
    """Where SERVER is a number: ETag of the profile that it counts in, so that a change of the order in between is
    refused."""
    return remote.tagged(f"/api/v1/server-profiles/{segment(name)}")[1] if server.isdigit() else ""


def _drain(
    name: str,
    server: str,
    minutes: float | None,
    reason: str,
    simulated: bool,
    as_json: bool,
    console: str | None,
    data_dir: str,
) -> None:
    if minutes is not None and not 0 < minutes <= 1440:
        raise Stop(Exit.USAGE, f"{minutes:g} minutes are too few or too many.", remedy="Give up to 1440 minutes.")
    body: dict[str, object] = {
        "server": server,
        "seconds": minutes * 60 if minutes is not None else None,
        "reason": reason,
        "simulate": simulated,
    }
    with Remote(console, data_dir) as remote:
        tag = _tag(remote, name, server)
        path = f"/api/v1/server-profiles/{segment(name)}/drain"
        answer = remote.call("POST", path, body=body, if_match=tag)
    if as_json:
        show_json(answer)
        return
    until = f"until {moment(answer['until'])}" if answer["until"] is not None else "until it is undrained"
    what = "is treated as down" if simulated else "is drained"
    line(f"{cast(str, answer['server'])} {what} for mail of {answer['profile']}, {until}.")
