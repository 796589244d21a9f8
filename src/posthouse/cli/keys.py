"""`posthouse key`: API keys, on the data dir, so that the first one can be made before any exists."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from posthouse.cli.output import line, moment, show_json, table
from posthouse.cli.stores import operator, shared_store
from posthouse.core.account import Role
from posthouse.ports import Accounts

app = typer.Typer(help="API keys (work on the data dir).", no_args_is_help=True)

ROLES = tuple(role.value for role in Role)
DatabaseOption = Annotated[
    str,
    typer.Option("--database", envvar="POSTHOUSE_DATABASE", metavar="URL", help="`sqlite` or a postgresql:// URL."),
]


@app.command()
def create(
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help=", ".join(ROLES))] = "administrator",
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="What the key is for.")] = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = "sqlite",
) -> None:
    """Make a key and show it once."""
    if role not in ROLES:
        raise Stop(Exit.USAGE, f"{role!r} is no role.", remedy=f"Roles: {', '.join(ROLES)}.")
    name = name or f"{role} key"
    if len(name) > 64 or not name.isprintable():
        raise Stop(Exit.USAGE, "A key's name has 1 to 64 printable characters.")
    with accounts_of(data_dir, database) as accounts:
        key, secret = accounts.create_key(name=name, role=role, by=operator(), now=time.time())
    if as_json:
        show_json({"key": secret, "id": key.id, "name": key.name, "role": key.role})
        return
    line(secret)
    typer.echo(f"Key {key.id} ({role}). It is not shown again.", err=True)


@app.command("list")
def list_(
    as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = "sqlite"
) -> None:
    """All keys, without their secrets."""
    with accounts_of(data_dir, database) as accounts:
        keys = accounts.keys()
    if as_json:
        rows = [
            {"id": k.id, "name": k.name, "role": k.role, "created_at": k.created_at, "revoked_at": k.revoked_at}
            for k in keys
        ]
        show_json({"items": rows, "next": None})
        return
    table(
        ("Id", "Name", "Role", "Created", "Revoked"),
        ((k.id, k.name, k.role, moment(k.created_at), moment(k.revoked_at)) for k in keys),
        "There are no keys.",
    )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = "sqlite",
) -> None:
    """End a key, at once."""
    with accounts_of(data_dir, database) as accounts:
        revoked = accounts.revoke_key(key_id, by=operator(), now=time.time())
    if revoked is None:
        raise Stop(Exit.FAULT, f"There is no key {key_id!r} in force.", remedy="`posthouse key list` shows them.")
    if as_json:
        show_json({"revoked": key_id, "name": revoked.name, "role": revoked.role})
        return
    line(f"Key {key_id} ({revoked.name}, {revoked.role}) is revoked.")


@contextmanager
def accounts_of(data_dir: str, database: str) -> Iterator[Accounts]:
    """Keys and users of a data dir, which is made if there is none."""
    make_data_dir(data_dir, database)
    with shared_store(data_dir, database) as shared:
        yield shared.accounts


def make_data_dir(data_dir: str, database: str) -> None:
    """For what may come before the first start."""
    if database == "sqlite":
        try:
            os.makedirs(data_dir, 0o700, exist_ok=True)
        except OSError as fault:
            raise Stop(Exit.FAULT, f"{data_dir} cannot be made: {fault.strerror}.") from fault
