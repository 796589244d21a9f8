"""ports.Accounts: API keys, of which only a digest is stored."""

import hashlib
import json
import secrets

from sqlalchemy import insert, select, update

from posthouse.ports import Key
from posthouse.storage import schema
from posthouse.storage.database import Database


class Accounts:
    """API keys. A key is 256 bits of chance, so a plain SHA-256 of it is enough."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_key(self, *, name: str, role: str, now: float) -> tuple[Key, str]:
        secret = f"ph_{secrets.token_urlsafe(32)}"
        made = Key(secrets.token_hex(6), name, role, now)
        with self._database.write() as connection:
            connection.execute(
                insert(schema.key).values(id=made.id, name=name, role=role, digest=_digest(secret), created_at=now)
            )
            connection.execute(
                insert(schema.audit).values(
                    at=now, by="", what="key created", detail=json.dumps({"id": made.id, "name": name, "role": role})
                )
            )
        return made, secret

    def keys(self) -> list[Key]:
        k = schema.key.c
        with self._database.read() as connection:
            rows = connection.execute(select(k.id, k.name, k.role, k.created_at, k.revoked_at).order_by(k.created_at))
            return [Key(*row) for row in rows]

    def revoke_key(self, key_id: str, now: float) -> bool:
        k = schema.key.c
        with self._database.write() as connection:
            revoked = connection.execute(
                update(schema.key).where(k.id == key_id, k.revoked_at.is_(None)).values(revoked_at=now)
            ).rowcount
            if revoked:
                connection.execute(
                    insert(schema.audit).values(at=now, by="", what="key revoked", detail=json.dumps({"id": key_id}))
                )
        return revoked > 0

    def authenticate(self, secret: str) -> Key | None:
        k = schema.key.c
        with self._database.read() as connection:
            row = connection.execute(
                select(k.id, k.name, k.role, k.created_at).where(k.digest == _digest(secret), k.revoked_at.is_(None))
            ).one_or_none()
        return None if row is None else Key(*row)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
