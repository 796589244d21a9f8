"""`posthouse secret`: the key of stored secrets, on the data dir."""

import time

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.keys import DatabaseOption
from posthouse.cli.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from posthouse.cli.output import line, show_json
from posthouse.cli.stores import operator, shared_store
from posthouse.ports import SecretUnreadable

app = typer.Typer(help="Stored secrets (work on the data dir).", no_args_is_help=True)


@app.callback()
def _secret() -> None:
    """Stored secrets (work on the data dir)."""


@app.command()
def rotate(
    as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = "sqlite"
) -> None:
    """Encrypt all stored secrets with a new key, and drop the old one. A running node goes on with the new key."""
    with shared_store(data_dir, database) as shared:
        try:
            rotated = shared.inventory.rotate_secrets(by=operator(), now=time.time())
        except SecretUnreadable as error:
            remedy = getattr(error, "remedy", "Enter these secrets again, then call this again.")
            raise Stop(Exit.FAULT, f"Nothing was changed: {error}.", remedy=remedy) from error
    if as_json:
        show_json({"secrets": rotated.secrets, "key": rotated.where, "old_keys_to_remove": rotated.to_drop})
        return
    line(f"{rotated.secrets} stored secrets are encrypted with the first key of {rotated.where}.")
    if rotated.to_drop:
        line("The others there are needed no more: remove them, and restart the nodes.")
