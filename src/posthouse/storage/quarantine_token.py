"""The row of the quarantine key: what `quarantine_key` makes of it, `secret rotate` need not know."""

from sqlalchemy import Connection, select, update

from posthouse.ports import SecretUnreadable
from posthouse.storage import schema
from posthouse.storage.secrets import Rotation


def stored_token(connection: Connection) -> str | None:
    """The quarantine key as it is stored, None if there is none yet."""
    found: str | None = connection.scalar(select(schema.quarantine_key.c.token))
    return found


def rotate(connection: Connection, rotation: Rotation) -> int:
    """Under the keyring's new key. How many tokens that were. Raises SecretUnreadable."""
    token = stored_token(connection)
    if token is None:
        return 0
    try:
        renewed = rotation.renew(token)
    except SecretUnreadable as error:
        raise SecretUnreadable(f"the key of the quarantine: {error}") from None
    connection.execute(update(schema.quarantine_key).values(token=renewed))
    return 1
