"""Opening databases: engines, pragmas, tables, the version of the schema."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, insert, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError

from posthouse.storage import files, schema

SHARED_FILE = "shared.db"
BUSY_SECONDS = 30
"""How long SQLite waits for another process's write."""
PREPARED = 1000
"""Statements that a connection to SQLite keeps: those of the hot path have a text for each number of rows."""
_CREATING = 0x706F7374
"""Key of the PostgreSQL advisory lock held while tables are created ("post")."""
_READS = "posthouse_reads"


class SchemaTooNew(Exception):
    """A newer posthouse wrote this database; going on could damage it."""


class NoTables(Exception):
    """Nothing of posthouse is in this database."""


class Database:
    """One database: short reads and writes from any thread. Mail's hot path has a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.sqlite = engine.dialect.name == "sqlite"
        # By itself every statement of PostgreSQL sees what was committed until then: no snapshot.
        snapshot = {} if self.sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._readers = engine.execution_options(**{_READS: True}, **snapshot)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot; never waits for a writer."""
        with self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end, rolled back when the block raises."""
        with self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
                files.commit(transaction)
            except BaseException:
                if transaction.is_active:  # not, where the commit took place and was reported as failed
                    transaction.rollback()
                raise

    def set_patience(self, connection: Connection, patient: bool) -> None:
        """Whether a transaction waits for another process that writes to the same SQLite file, or fails at once."""
        if self.sqlite:
            cursor = connection.connection.cursor()  # past the connection, which would begin a transaction
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000 if patient else 0}")
            cursor.close()

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def cursor_of(connection: Connection) -> Iterator[DBAPICursor]:
    """The driver's own cursor within the transaction of `connection`, for statements that are run very often.

    Its errors are raised as SQLAlchemy's.
    """
    dialect, raw = connection.dialect, connection.connection
    cursor = raw.cursor()
    try:
        yield cursor
    except dialect.loaded_dbapi.Error as error:
        gone = dialect.is_disconnect(error, raw.dbapi_connection, cursor)
        raise DBAPIError.instance(
            None, None, error, dialect.loaded_dbapi.Error, connection_invalidated=gone, dialect=dialect
        ) from error
    finally:
        with suppress(Exception):
            cursor.close()


def is_sqlite(database: str) -> bool:
    """Whether the setting `database` means the embedded one."""
    return database == "sqlite"


def open_sqlite(path: Path, *, read_only: bool = False) -> Database:
    """One SQLite file: write-ahead log, full sync at every commit."""
    mode = "ro" if read_only else "rwc"
    engine = create_engine(
        URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": mode, "uri": "true"}),
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS, "cached_statements": PREPARED},
    )

    @event.listens_for(engine, "connect")
    def connected(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            # Debian's SQLite would write zeros over every content that goes: a sixth of all pages written.
            cursor.execute("PRAGMA secure_delete = FAST")
            cursor.execute("PRAGMA wal_autocheckpoint = 4000")
            cursor.execute("PRAGMA journal_size_limit = 67108864")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        reads = read_only or connection.get_execution_options().get(_READS)
        with cursor_of(connection) as cursor:
            cursor.execute("BEGIN" if reads else "BEGIN IMMEDIATE")

    return Database(engine)


def open_postgresql(url: str) -> Database:
    """A PostgreSQL database by `postgresql://...`. Nothing is connected yet."""
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        paramstyle="format",
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 20000},
    )
    return Database(engine)


def open_shared_database(data_dir: str, database: str, *, make: bool = True) -> Database:
    """The tables all processes share, created when they are missing. Raises SchemaTooNew.

    Without `make` nothing is written: raises NoTables.
    """
    folder = Path(data_dir)
    found = open_sqlite(folder / SHARED_FILE) if is_sqlite(database) else open_postgresql(database)
    try:
        if make:
            with creating(folder):
                create(found, schema.shared, schema.shared_version)
        else:
            with found.read() as connection:
                if check_version(connection, schema.shared_version) is None:
                    raise NoTables("it has no tables of posthouse")
    except BaseException:
        found.close()
        raise
    return found


@contextmanager
def creating(data_dir: Path) -> Iterator[None]:
    """One process of the node at a time creates files and tables in the data dir; names are durable at the end."""
    with open(data_dir / "schema.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = set(os.listdir(data_dir))
        yield
        if set(os.listdir(data_dir)) != before:
            files.fsync_folder(data_dir)


def create(database: Database, tables: MetaData, version: Table) -> None:
    """Creates what is missing and checks the version. Raises SchemaTooNew."""
    with database.write() as connection:
        if not database.sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATING})"))
        if check_version(connection, version) is None:
            tables.create_all(connection)
            connection.execute(insert(version).values(version=schema.VERSION))
            if tables is schema.shared:
                connection.execute(insert(schema.inventory_revision).values(revision=0))
        if not database.sqlite and tables is schema.mails:
            schema.leases.create_all(connection)


def check_version(connection: Connection, version: Table) -> int | None:
    """The version of the tables, None when there are none yet. Raises SchemaTooNew."""
    if not inspect(connection).has_table(version.name):
        return None
    found: int | None = connection.scalar(select(version.c.version))
    if found is not None and found > schema.VERSION:
        raise SchemaTooNew(
            f"the database has schema {found}, this posthouse knows {schema.VERSION}: "
            "a newer posthouse wrote it, use that one"
        )
    return found
