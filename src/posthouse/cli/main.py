"""The program `posthouse`: one Typer app; heavy imports are inside the commands."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from posthouse.cli import (
    audit,
    config,
    database,
    digital_id,
    doctor,
    drains,
    keys,
    lab,
    mail,
    node,
    profile_changes,
    profiles,
    queue,
    rule_changes,
    rules,
    secrets,
    users,
)
from posthouse.cli.errors import Exit, Stop
from posthouse.cli.output import show_stop

app = typer.Typer(
    name="posthouse",
    help="An email security gateway: receives, scans and relays mail, and loses none.",
    epilog="Exit codes: 0 ok, 1 fault, 2 usage, 3 unreachable, 4 refused by policy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

node.register(app)
lab.register(app)
doctor.register(app)
app.add_typer(mail.app, name="mail")
app.add_typer(queue.app, name="queue")
rule_changes.register(rules.app)
app.add_typer(rules.app, name="rule")
profile_changes.register(profiles.app)
app.add_typer(profiles.app, name="profile")
drains.register(profiles.app)
app.add_typer(profiles.uri_app, name="uri")
app.add_typer(digital_id.app, name="digital-id")
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.add_typer(users.app, name="user")
app.add_typer(keys.app, name="key")
app.add_typer(secrets.app, name="secret")
app.add_typer(database.app, name="db")


def run(arguments: Sequence[str]) -> int:
    """Carries out one command line and returns its exit code."""
    try:
        app(args=list(arguments), prog_name="posthouse")
    except Stop as stop:
        show_stop(stop, as_json="--json" in arguments)
        return stop.code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK if end.code is None else Exit.FAULT
    return Exit.OK


def main() -> NoReturn:
    """Entry point of the program."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
