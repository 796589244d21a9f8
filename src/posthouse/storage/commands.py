"""ports.Commands: rows by which the console steers workers, and the workers' live rows."""

import json

from sqlalchemy import delete, exists, func, insert, select, update

from posthouse.core.mail import MailId
from posthouse.core.owner import Start
from posthouse.ports import Acted, CommandProgress, QueueCommand, WorkerState
from posthouse.storage import schema
from posthouse.storage.database import Database

ALIVE_SECONDS = 15.0
KEPT_SECONDS = 3600.0


class Commands:
    """Commands are kept for an hour."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, command: QueueCommand, now: float) -> int:
        c, report = schema.command.c, schema.command_report
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
                    target=command.target,
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
            QueueCommand(row.id, row.kind, row.by, tuple(map(MailId, json.loads(row.mails))), row.profile, row.target)
            for row in rows
        ]

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
            of_node = schema.worker.c.worker.startswith(f"{start.node}/", autoescape=True)
            connection.execute(delete(schema.worker).where(of_node))

    def heartbeat(self, state: WorkerState) -> None:
        w = schema.worker.c
        values = {"at": state.at, "facts": json.dumps(state.facts)}
        with self._database.write() as connection:
            changed = connection.execute(update(schema.worker).where(w.worker == state.worker).values(**values))
            if not changed.rowcount:
                connection.execute(delete(schema.worker).where(w.at < state.at - KEPT_SECONDS))
                connection.execute(insert(schema.worker).values(worker=state.worker, **values))

    def workers(self, now: float) -> list[WorkerState]:
        w = schema.worker.c
        with self._database.read() as connection:
            rows = connection.execute(select(schema.worker).where(w.at > now - ALIVE_SECONDS).order_by(w.worker))
            return [WorkerState(row.worker, row.at, json.loads(row.facts)) for row in rows]
