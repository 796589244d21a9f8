"""ports.Accounts: API keys and users; of their secrets only a digest and a hash are stored."""

import hashlib
import secrets
from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from posthouse.core.account import Role
from posthouse.core.fields import name_key
from posthouse.core.inventory import Change, Difference
from posthouse.core.profile import KEPT
from posthouse.ports import Key, LastAdministrator, NameTaken, User, UserChanged
from posthouse.storage import audit, schema
from posthouse.storage.database import Database
from posthouse.storage.passwords import hash_password, password_fits

_USER = (schema.user.c.name, schema.user.c.role, schema.user.c.created_at)


class Accounts:
    """API keys and users. A key is 256 bits of chance, so a plain SHA-256 of it is enough."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- keys ----------------------------------------------------------------------------------------

    def create_key(self, *, name: str, role: str, by: str, now: float) -> tuple[Key, str]:
        secret = f"ph_{secrets.token_urlsafe(32)}"
        made = Key(secrets.token_hex(6), name, role, now)
        with self._database.write() as connection:
            connection.execute(
                insert(schema.key).values(id=made.id, name=name, role=role, digest=_digest(secret), created_at=now)
            )
            change = Difference(Change.ADDED, f"keys[{made.id}]", None, {"name": name, "role": role})
            audit.write(connection, by=by, now=now, what="key created", changes=[change])
        return made, secret

    def keys(self) -> list[Key]:
        k = schema.key.c
        with self._database.read() as connection:
            rows = connection.execute(
                select(k.id, k.name, k.role, k.created_at, k.revoked_at).order_by(k.created_at, k.id)
            )
            return [Key(*row) for row in rows]

    def revoke_key(self, key_id: str, *, by: str, now: float) -> Key | None:
        k = schema.key.c
        with self._database.write() as connection:
            row = connection.execute(
                update(schema.key)
                .where(k.id == key_id, k.revoked_at.is_(None))
                .values(revoked_at=now)
                .returning(k.id, k.name, k.role, k.created_at, k.revoked_at)
            ).one_or_none()
            if row is None:
                return None
            revoked = Key(*row)
            before = {"name": revoked.name, "role": revoked.role}
            change = Difference(Change.REMOVED, f"keys[{key_id}]", before, None)
            audit.write(connection, by=by, now=now, what="key revoked", changes=[change])
        return revoked

    def authenticate(self, secret: str) -> Key | None:
        k = schema.key.c
        with self._database.read() as connection:
            row = connection.execute(
                select(k.id, k.name, k.role, k.created_at).where(k.digest == _digest(secret), k.revoked_at.is_(None))
            ).one_or_none()
        return None if row is None else Key(*row)

    # --- users ---------------------------------------------------------------------------------------

    def users(self) -> list[User]:
        with self._database.read() as connection:
            return [User(*row) for row in connection.execute(select(*_USER).order_by(schema.user.c.key))]

    def add_user(self, *, name: str, role: str, password: str, by: str, now: float) -> User:
        added = User(name, role, now)
        values = {**_values(added), "password_hash": hash_password(password), "created_at": now}
        try:
            with self._database.write() as connection:
                connection.execute(insert(schema.user).values(values))
                change = Difference(Change.ADDED, f"users[{name}]", None, _shown(added))
                audit.write(connection, by=by, now=now, what="user added", changes=[change])
        except IntegrityError as error:
            raise NameTaken(name) from error
        return added

    def change_user(self, old: User, *, name: str, role: str, by: str, now: float) -> User:
        changed = User(name, role, old.created_at)
        if changed == old:
            return old
        try:
            with self._database.write() as connection:
                _hold(connection, old, gone=role != Role.ADMINISTRATOR)
                connection.execute(
                    update(schema.user).where(schema.user.c.key == name_key(old.name)).values(_values(changed))
                )
                before, after = _shown(old), _shown(changed)
                changes = [
                    Difference(Change.CHANGED, f"users[{old.name}].{field}", before[field], after[field])
                    for field in before
                    if before[field] != after[field]
                ]
                audit.write(connection, by=by, now=now, what="user changed", changes=changes)
        except IntegrityError as error:
            raise NameTaken(name) from error
        return changed

    def set_password(self, name: str, password: str, *, by: str, now: float) -> bool:
        u = schema.user.c
        hashed = hash_password(password)
        with self._database.write() as connection:
            found = connection.scalar(
                update(schema.user).where(u.key == name_key(name)).values(password_hash=hashed).returning(u.name)
            )
            if found is None:
                return False
            change = Difference(Change.CHANGED, f"users[{found}].password", dict(KEPT), dict(KEPT))
            audit.write(connection, by=by, now=now, what="password set", changes=[change])
        return True

    def remove_user(self, old: User, *, by: str, now: float, last_too: bool = False) -> None:
        with self._database.write() as connection:
            _hold(connection, old, gone=not last_too)
            connection.execute(delete(schema.user).where(schema.user.c.key == name_key(old.name)))
            change = Difference(Change.REMOVED, f"users[{old.name}]", _shown(old), None)
            audit.write(connection, by=by, now=now, what="user removed", changes=[change])

    def verify_user(self, name: str, password: str) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(
                select(*_USER, schema.user.c.password_hash).where(schema.user.c.key == name_key(name))
            ).one_or_none()
        fits = password_fits(None if row is None else row.password_hash, password)
        return User(row.name, row.role, row.created_at) if row is not None and fits else None


def _hold(connection: Connection, old: User, *, gone: bool) -> None:
    """Nobody else changes administrators, nor this user, from here to the commit. `gone`: it will be none then."""
    u = schema.user.c
    rows = connection.execute(
        select(*_USER)
        .where((u.role == Role.ADMINISTRATOR.value) | (u.key == name_key(old.name)))
        .order_by(u.key)
        .with_for_update()
    )
    found = [User(*row) for row in rows]
    if old not in found:
        raise UserChanged(old.name)
    if gone and old.role == Role.ADMINISTRATOR and not any(u.role == old.role for u in found if u != old):
        raise LastAdministrator(old.name)


def _values(user: User) -> dict[str, object]:
    return {"key": name_key(user.name), "name": user.name, "role": user.role}


def _shown(user: User) -> Mapping[str, object]:
    return {"name": user.name, "role": user.role}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
