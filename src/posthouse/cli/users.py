"""`posthouse user`: who may log in to the console, on the data dir, so that the first one can be made."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.keys import DatabaseOption, accounts_of
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from posthouse.cli.output import line, moment, show_json, table
from posthouse.cli.stores import operator
from posthouse.core.account import Role
from posthouse.ports import Accounts, NameTaken, User, UserChanged

app = typer.Typer(help="Users of the console (work on the data dir).", no_args_is_help=True)

LONGEST_FILE = 4096
"""Octets of a password file that are looked at."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="Its first line is the password; - for standard input. Default: asked for, or read from a pipe.",
    ),
]


@app.command()
def add(
    name: NameArgument,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help=", ".join(Role))] = "administrator",
    password_file: PasswordFileOption = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = "sqlite",
) -> None:
    """Add a user. The password is asked for; it is never an argument, which others could see."""
    from posthouse.core.account import check_new_user

    password = _password(password_file, name)
    name, role, password, faults = check_new_user({"name": name, "role": role, "password": password})
    if faults:
        raise Stop(Exit.FAULT, "No user was added.", faults)
    with accounts_of(data_dir, database) as accounts:
        try:
            added = accounts.add_user(name=name, role=role, password=password, by=operator(), now=time.time())
        except NameTaken as error:
            message = f"There is a user {name!r} already; case is ignored."
            raise Stop(Exit.FAULT, message, remedy="`posthouse user passwd` sets a new password.") from error
    if as_json:
        show_json(_json(added))
    else:
        line(f"User {added.name} ({added.role}) is added.")


@app.command()
def passwd(
    name: NameArgument,
    password_file: PasswordFileOption = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = "sqlite",
) -> None:
    """Set a new password."""
    from posthouse.core.account import check_password, password_text

    with accounts_of(data_dir, database) as accounts:
        user = _user(accounts, name)
        password = _password(password_file, user.name)
        if faults := check_password(password, user.name):
            raise Stop(Exit.FAULT, "The password was not changed.", faults)
        if not accounts.set_password(user.name, password_text(password), by=operator(), now=time.time()):
            raise _missing(name)
    if as_json:
        show_json(_json(user))
    else:
        line(f"The password of {user.name} is set.")


@app.command("list")
def list_(
    as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = "sqlite"
) -> None:
    """All users."""
    with accounts_of(data_dir, database) as accounts:
        users = accounts.users()
    if as_json:
        show_json({"items": [_json(user) for user in users], "next": None})
        return
    table(
        ("Name", "Role", "Added"),
        ((user.name, user.role, moment(user.created_at)) for user in users),
        "There are no users.",
    )


@app.command()
def remove(
    name: NameArgument,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = "sqlite",
) -> None:
    """Remove a user; also the last administrator, since whoever has the data dir can add one again."""
    with accounts_of(data_dir, database) as accounts:
        user = _user(accounts, name)
        try:
            accounts.remove_user(user, by=operator(), now=time.time(), last_too=True)
        except UserChanged as error:
            raise Stop(Exit.FAULT, f"{user.name} was changed at the same time.", remedy="Try again.") from error
        left = any(other.role == Role.ADMINISTRATOR for other in accounts.users())
    if as_json:
        show_json({"removed": user.name})
    else:
        line(f"User {user.name} is removed.")
    if not left:
        typer.echo("Nobody can log in to the console as administrator now.", err=True)


def _user(accounts: Accounts, name: str) -> User:
    from posthouse.core.fields import name_key

    found = next((user for user in accounts.users() if name_key(user.name) == name_key(name)), None)
    if found is None:
        raise _missing(name)
    return found


def _missing(name: str) -> Stop:
    return Stop(Exit.FAULT, f"There is no user {name!r}.", remedy="`posthouse user list` shows them.")


def _json(user: User) -> dict[str, object]:
    return {"name": user.name, "role": user.role, "created_at": user.created_at}


def _password(file: Path | None, name: str) -> str:
    """The first line of the file or of standard input, or what is typed, twice, unseen."""
    if file is None and sys.stdin.isatty():
        entered: str = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True)
        return entered
    try:
        if file is None or str(file) == "-":
            octets = sys.stdin.buffer.read(LONGEST_FILE)
        else:
            with file.open("rb") as stream:
                octets = stream.read(LONGEST_FILE)
        return octets.decode("utf-8").partition("\n")[0].removesuffix("\r")
    except OSError as fault:
        raise Stop(Exit.FAULT, f"{file} cannot be read: {fault.strerror}.") from fault
    except UnicodeDecodeError as fault:
        raise Stop(Exit.FAULT, "The password is not UTF-8 text.") from fault
