"""ports.Commands: rows by which the console steers workers, and the workers' live rows."""

import json

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from posthouse.core.kept_act import KeptAct, KeptOptions, options_of, options_text
from posthouse.core.mail import MailId
from posthouse.core.owner import Start
from posthouse.ports import (
    Acted,
    CommandProgress,
    QueueCommand,
    SecretUnreadable,
    ServerRows,
    ServerState,
    WorkerState,
)
from posthouse.storage import schema
from posthouse.storage.database import Database, cursor_of
from posthouse.storage.rows import encode
from posthouse.storage.secrets import Keyring
from posthouse.storage.statements import Inserting
from posthouse.telemetry import logger

_SEALED = "sealed:"
log = logger("commands")

ALIVE_SECONDS = 15.0
KEPT_SECONDS = 3600.0
GONE_SECONDS = 60.0
"""After its last heartbeat a worker's rows of servers are removed; should it go on, it writes them again."""


class Commands:
    """Commands are kept for an hour. One that has passwords is sealed until then: they are in no row in clear."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._put_server = Inserting(
            schema.server_state,
            database.engine.dialect,
            key=("worker", "profile", "server"),
            changing=("at", "facts"),
        )

    def submit(self, command: QueueCommand, now: float) -> int:
        c, report = schema.command.c, schema.command_report
        target = self._sealed(command)
        with self._database.write() as connection:
            connection.execute(delete(report).where(report.c.at < now - KEPT_SECONDS))
            connection.execute(delete(schema.command).where(c.at < now - KEPT_SECONDS))
            made = connection.execute(
                insert(schema.command)
                .values(
                    at=now,
                    kind=command.kind,
                    by=command.by,
                    mails=json.dumps(command.mails),
                    profile=command.profile,
                    target=target,
                )
                .returning(c.id)
            ).scalar_one()
            return int(made)

    def pending(self, worker: str, since: float) -> list[QueueCommand]:
        c, report = schema.command.c, schema.command_report.c
        done = exists().where(report.command_id == c.id, report.worker == worker)
        with self._database.read() as connection:
            rows = connection.execute(select(schema.command).where(c.at > since, ~done).order_by(c.id)).all()
        return [
            QueueCommand(
                row.id,
                row.kind,
                row.by,
                tuple(map(MailId, json.loads(row.mails))),
                row.profile,
                self._unsealed(row.kind, row.target),
                row.at,
            )
            for row in rows
        ]

    def _sealed(self, command: QueueCommand) -> str:
        """The target as it is stored. Raises SecretKeyUnusable."""
        if command.kind != KeptAct.RESCAN or not options_of(command.target).passwords:
            return command.target
        return _SEALED + self._keyring.seal(command.target, may_make=True)

    def _unsealed(self, kind: str, target: str) -> str:
        """As it was given; without passwords if they cannot be read, so that no other command waits for them."""
        if kind != KeptAct.RESCAN or not target.startswith(_SEALED):
            return target
        try:
            return self._keyring.unseal(target.removeprefix(_SEALED))
        except SecretUnreadable as error:
            log.error("passwords of a command cannot be read", why=str(error))
            return options_text(KeptOptions())

    def report(self, worker: str, command_id: int, acted: Acted, now: float) -> None:
        with self._database.write() as connection:
            connection.execute(
                insert(schema.command_report).values(
                    command_id=command_id,
                    worker=worker,
                    at=now,
                    recipients=acted.recipients,
                    mails=json.dumps(acted.mails[:1000]),
                )
            )

    def progress(self, command_id: int, now: float) -> CommandProgress:
        report, w = schema.command_report, schema.worker.c
        with self._database.read() as connection:
            rows = connection.execute(select(report).where(report.c.command_id == command_id)).all()
            expected = connection.scalar(
                select(func.count()).select_from(schema.worker).where(w.at > now - ALIVE_SECONDS)
            )
        mails = tuple(MailId(mail) for row in rows for mail in json.loads(row.mails))
        return CommandProgress(expected or 0, len(rows), sum(row.recipients for row in rows), mails)

    def begin(self, start: Start) -> None:
        with self._database.write() as connection:
            for table in (schema.worker, schema.server_state):
                of_node = table.c.worker.startswith(f"{start.node}/", autoescape=True)
                connection.execute(delete(table).where(of_node))

    def heartbeat(self, state: WorkerState, servers: ServerRows = ServerRows()) -> None:
        w = schema.worker.c
        values = {"at": state.at, "facts": json.dumps(state.facts)}
        with self._database.write() as connection:
            changed = connection.execute(update(schema.worker).where(w.worker == state.worker).values(**values))
            if not changed.rowcount:
                connection.execute(delete(schema.worker).where(w.at < state.at - KEPT_SECONDS))
                connection.execute(insert(schema.worker).values(worker=state.worker, **values))
            if servers.all or servers.rows:
                self._write_servers(connection, state, servers)

    def _write_servers(self, connection: Connection, state: WorkerState, servers: ServerRows) -> None:
        s, w = schema.server_state.c, schema.worker.c
        living = select(w.worker).where(w.at > state.at - GONE_SECONDS)
        connection.execute(delete(schema.server_state).where(s.worker.not_in(living)))
        if servers.all:
            connection.execute(delete(schema.server_state).where(s.worker == state.worker))
        rows = [(r.worker, r.profile, r.server, r.at, encode(r.facts)) for r in servers.rows]
        with cursor_of(connection) as cursor:
            self._put_server.execute(cursor, rows)

    def workers(self, now: float) -> list[WorkerState]:
        w = schema.worker.c
        with self._database.read() as connection:
            rows = connection.execute(select(schema.worker).where(w.at > now - ALIVE_SECONDS).order_by(w.worker))
            return [WorkerState(row.worker, row.at, json.loads(row.facts)) for row in rows]

    def server_states(self, now: float) -> list[ServerState]:
        s, w = schema.server_state.c, schema.worker.c
        query = (
            select(schema.server_state)
            .join_from(schema.server_state, schema.worker, s.worker == w.worker)
            .where(w.at > now - ALIVE_SECONDS)
            .order_by(s.profile, s.server, s.worker)
        )
        with self._database.read() as connection:
            return [
                ServerState(row.worker, row.profile, row.server, row.at, json.loads(row.facts))
                for row in connection.execute(query)
            ]
