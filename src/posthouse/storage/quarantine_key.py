"""The key of the quarantine: random, one for all nodes, in the shared database under the keyring of stored secrets.

So `secret rotate` encrypts one short token anew, and no mail.
"""

import os
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from threading import Lock

from sqlalchemy import Connection, insert, text

from posthouse.ports import SecretUnreadable
from posthouse.storage import schema
from posthouse.storage.database import Database, open_shared_database
from posthouse.storage.inventory import read_inventory
from posthouse.storage.quarantine_token import stored_token
from posthouse.storage.sealing import KEY_OCTETS
from posthouse.storage.secrets import Keyring

_ID = 1
_MAKING = 0x706F7171
"""Key of the PostgreSQL advisory lock under which it is made."""


class QuarantineKey:
    """As one process knows it: read once. From any thread."""

    def __init__(self, data_dir: str, database: str) -> None:
        self._data_dir = data_dir
        self._setting = database
        self._keyring = Keyring(data_dir)
        self._opened: Database | None = None
        self._known: bytes | None = None
        self._lock = Lock()

    def get(self, *, make: bool) -> bytes | None:
        """None if there is none and it is not to be made. Raises SecretUnreadable."""
        with self._lock:
            if self._known is None:
                token = self._token(make=make)
                self._known = _decoded(self._keyring.unseal(token)) if token is not None else None
            return self._known

    def _token(self, *, make: bool) -> str | None:
        if self._opened is None:
            self._opened = open_shared_database(self._data_dir, self._setting)
        with self._opened.read() as connection:
            token = stored_token(connection)
        if token is None and make:
            with self._opened.write() as connection:
                if not self._opened.sqlite:
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_MAKING})"))
                token = stored_token(connection) or self._made(connection)
        return token

    def _made(self, connection: Connection) -> str:
        """As with any secret: no key of the keyring is made where one that fits the others is missing."""
        stored = [s.token for p in read_inventory(connection).profiles for s in p.secrets.values()]
        if tokens := [token for token in stored if token]:
            self._keyring.check_fits(tokens)
        key = b64encode(os.urandom(KEY_OCTETS)).decode("ascii")
        token = self._keyring.seal(key, may_make=not tokens)
        connection.execute(insert(schema.quarantine_key).values(id=_ID, token=token))
        return token

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


def _decoded(text: str) -> bytes:
    try:
        key = b64decode(text, validate=True)
    except NotBase64:
        key = b""
    if len(key) != KEY_OCTETS:
        raise SecretUnreadable("the stored key of the quarantine is no key")
    return key
