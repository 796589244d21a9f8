"""`posthouse queue`: what waits, and the operator's actions on it."""

import sys
from typing import Annotated, cast

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, MailIds, ServerOption
from posthouse.cli.output import line, moment, show_json, table
from posthouse.cli.remote import Remote

app = typer.Typer(help="Mail that waits: look at it and steer it.", no_args_is_help=True)

AllOption = Annotated[bool, typer.Option("--all", help="All open mail instead of single ids.")]
ProfileOption = Annotated[str, typer.Option("--profile", metavar="NAME", help="Only recipients of this profile.")]


@app.command("list")
def list_(
    as_json: JsonOption = False, server: ServerOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """What waits, per next hop."""
    with Remote(server, data_dir) as remote:
        answer = remote.get("/api/v1/queue")
    if as_json:
        show_json(answer)
        return
    rows = cast(list[dict[str, object]], answer["items"])
    table(
        ("Next hop", "Queued", "Held", "Oldest mail", "Next attempt", "Waits for"),
        (
            (
                row.get("profile"),
                row.get("queued"),
                row.get("held"),
                moment(row.get("oldest_at")),
                moment(row.get("next_due")),
                row.get("waits_for"),
            )
            for row in rows
        ),
        "The queue is empty.",
    )


@app.command()
def retry(
    mails: MailIds = None,
    all_: AllOption = False,
    profile: ProfileOption = "",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Make mails due now."""
    _act("retry", mails, all_, profile, "", as_json, server, data_dir)


@app.command()
def hold(
    mails: MailIds = None,
    all_: AllOption = False,
    profile: ProfileOption = "",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Keep mails in the queue until they are released."""
    _act("hold", mails, all_, profile, "", as_json, server, data_dir)


@app.command()
def release(
    mails: MailIds = None,
    all_: AllOption = False,
    profile: ProfileOption = "",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """End a hold: the mails are due now."""
    _act("release", mails, all_, profile, "", as_json, server, data_dir)


@app.command()
def reroute(
    mails: MailIds = None,
    target: Annotated[
        str,
        typer.Option("--to-profile", "--target", metavar="NAME", help="SMTP server profile that relays from now on."),
    ] = "",
    all_: AllOption = False,
    profile: ProfileOption = "",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Have mails relayed by another server profile."""
    if not target:
        raise Stop(Exit.USAGE, "--to-profile is missing.", remedy="Name the server profile that relays from now on.")
    _act("reroute", mails, all_, profile, target, as_json, server, data_dir)


@app.command()
def delete(
    mails: MailIds = None,
    all_: AllOption = False,
    profile: ProfileOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting --all at a terminal.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Delete mails from the queue: they are not relayed, and nobody is told."""
    if all_ and not yes and not as_json and sys.stdin.isatty():
        typer.confirm("Delete all open mail?" if not profile else "Delete all open mail of this profile?", abort=True)
    _act("delete", mails, all_, profile, "", as_json, server, data_dir)


_DONE = {"retry": "due now", "hold": "held", "release": "released", "reroute": "rerouted", "delete": "deleted"}


def _act(
    action: str,
    mails: list[str] | None,
    all_: bool,
    profile: str,
    target: str,
    as_json: bool,
    server: str | None,
    data_dir: str,
) -> None:
    """A profile alone means all its mail. Exit 1 if mails were named and none of them was in the queue."""
    everything = all_ or (bool(profile) and not mails)
    if everything == bool(mails):
        raise Stop(Exit.USAGE, "Which mails?", remedy="Give ids, or --all, or --profile NAME; not ids and --all.")
    body: dict[str, object] = {"profile": profile, "target": target}
    body.update({"all": True} if everything else {"mails": mails})
    with Remote(server, data_dir) as remote:
        answer = remote.post(f"/api/v1/queue/{action}", body)
    if as_json:
        show_json(answer)
    else:
        line(
            f"{answer['recipients']} recipients of {len(cast(list[object], answer['mails']))} mails {_DONE[action]}."
        )
        if not answer["complete"]:
            line(f"{answer['reported']} of {answer['workers']} workers have reported; the others act when they can.")
    if mails and answer["complete"] and not answer["recipients"]:
        raise typer.Exit(Exit.FAULT)
