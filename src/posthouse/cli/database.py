"""`posthouse db`: backups of what all nodes share, and whether the databases are whole; on the data dir."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.keys import DatabaseOption, make_data_dir
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from posthouse.cli.output import line, moment, show_json
from posthouse.cli.stores import operator, shared_store
from posthouse.ports import BackupUnusable

if TYPE_CHECKING:
    from posthouse.ports import BackedUp

app = typer.Typer(help="The databases (work on the data dir).", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE")]


@app.command()
def backup(
    file: FileArgument,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = "sqlite",
) -> None:
    """Write server profiles, rules, accounts and audit log to FILE; the node may run.

    Mail is not in it (a queue that is put back would be delivered twice), nor are the key of stored secrets and the
    digital ID: keep copies of these apart from it.
    """
    _check_is_there(data_dir, database)
    with shared_store(data_dir, database, make=False) as shared:
        try:
            made = shared.backup(file, time.time())
        except OSError as fault:
            raise Stop(Exit.FAULT, f"{file} cannot be written: {fault.strerror}.") from fault
    _show(made, as_json, f"{file} has")


@app.command()
def restore(
    file: FileArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = "sqlite",
) -> None:
    """Put the state of FILE in force instead of the one of now; a running node takes it up within a second.

    Keys and users of now that the backup does not have are gone; keys revoked by now stay revoked. The audit log goes
    on, and mail stays as it is.
    """
    from posthouse.app.console_key import renew_console_key

    if not yes and not typer.confirm("Replace server profiles, rules, keys and users of now?", err=True):
        raise Stop(Exit.REFUSED, "Nothing was changed.")
    make_data_dir(data_dir, database)
    with shared_store(data_dir, database) as shared:
        try:
            found = shared.restore(file, operator(), time.time())
        except BackupUnusable as error:
            raise Stop(Exit.FAULT, f"Nothing was changed: {file}: {error}.") from error
        except OSError as fault:
            raise Stop(Exit.FAULT, f"Nothing was changed: {file} cannot be read: {fault.strerror}.") from fault
        renew_console_key(Path(data_dir), shared.accounts, by=operator())
    backed_up = found.backup
    keys = {"keys_back": found.keys_back, "keys_gone": found.keys_gone}
    if as_json:
        shown = {name: [{"id": k.id, "name": k.name, "role": k.role} for k in each] for name, each in keys.items()}
        show_json({"at": backed_up.at, "version": backed_up.version, "rows": dict(backed_up.rows), **shown})
        return
    _show(backed_up, as_json, f"In force, as of {moment(backed_up.at)}:")
    for said, each in (("In force again", found.keys_back), ("Gone", found.keys_gone)):
        for key in each:
            line(f"{said}: key {key.id} ({key.name}, {key.role}).")


@app.command()
def check(
    as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = "sqlite"
) -> None:
    """Look whether the databases are whole and every queued mail has its content; the node may run. Exit 1 if not."""
    _check_is_there(data_dir, database)
    with shared_store(data_dir, database, make=False) as shared:
        wrong = shared.check()
    if as_json:
        show_json({"ok": not wrong, "faults": wrong})
    else:
        for sentence in wrong:
            line(sentence)
        line(f"{len(wrong)} faults." if wrong else "The databases are whole.")
    if wrong:
        raise typer.Exit(Exit.FAULT)


def _check_is_there(data_dir: str, database: str) -> None:
    """An empty database that is made by looking would be whole, and a backup of it worthless."""
    if database == "sqlite" and not (Path(data_dir) / "shared.db").exists():
        remedy = "Give --data-dir as `serve` has it, or --database for PostgreSQL."
        raise Stop(Exit.FAULT, f"There is no database in {data_dir}.", remedy=remedy)


def _show(made: "BackedUp", as_json: bool, begin: str) -> None:
    if as_json:
        show_json({"at": made.at, "version": made.version, "rows": dict(made.rows)})
        return
    line(f"{begin} " + ", ".join(f"{count} rows of {name}" for name, count in made.rows.items()) + ".")
