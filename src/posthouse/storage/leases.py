"""Who is alive, on PostgreSQL: one row per worker, good for 30 s by the clock of the database, renewed every 10 s.

Nodes whose own clocks differ agree this way. With SQLite the lock on the shard's file says who is alive.
"""

from sqlalchemy import ColumnElement, Connection, Double, and_, cast, delete, func, insert, or_, select, text, update

from posthouse.core.mail import MailId
from posthouse.core.owner import Start
from posthouse.storage import schema

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
FRESH_SECONDS = 20.0
"""A lease renewed less than this ago still stands long enough to write a final dot."""
_TAKING = 0x706F7375
"""Key of the advisory lock under which mail of dead workers is taken, and a lost lease is seen to."""

_l, _m = schema.lease.c, schema.mail.c
_NOW: ColumnElement[float] = cast(func.extract("epoch", func.clock_timestamp()), Double)


def lock(connection: Connection) -> None:
    """Held until the end of the transaction."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_TAKING})"))


def begin(connection: Connection, owner: str) -> None:
    """This worker is alive. Workers of its node's earlier starts are not: no start begins before they have ended."""
    start = Start.of(owner)
    of_node = _l.owner.startswith(f"{start.node}/", autoescape=True)
    earlier = and_(of_node, ~_l.owner.endswith(f"/{start.boot}", autoescape=True))
    connection.execute(delete(schema.lease).where(or_(_l.owner == owner, earlier)))
    connection.execute(insert(schema.lease).values(owner=owner, lease_until=_NOW + LEASE_SECONDS))


def renew(connection: Connection, owner: str) -> set[MailId] | None:
    """Good for another 30 s: None. If another worker has found the lease run out: the mails still left to `owner`."""
    extended = update(schema.lease).where(_l.owner == owner).values(lease_until=_NOW + LEASE_SECONDS)
    if connection.execute(extended).rowcount:
        return None
    lock(connection)
    connection.execute(insert(schema.lease).values(owner=owner, lease_until=_NOW + LEASE_SECONDS))
    return {MailId(mail_id) for mail_id in connection.scalars(select(_m.id).where(_m.lease_owner == owner))}


def end(connection: Connection, owner: str) -> None:
    """What is still leased to this worker is free for others at once."""
    connection.execute(delete(schema.lease).where(_l.owner == owner))


def bury(connection: Connection, owner: str) -> None:
    """Ends the leases of others that have run out; `lock` must be held. Their workers learn of it when they renew."""
    connection.execute(delete(schema.lease).where(_l.lease_until < _NOW, _l.owner != owner))


def left_behind(owner: str) -> ColumnElement[bool]:
    """Mails that are leased to `owner` itself or to nobody alive."""
    alive = select(_l.owner).where(_l.owner == _m.lease_owner).exists()
    return and_(_m.lease_owner.is_not(None), or_(_m.lease_owner == owner, ~alive))
