"""All tables. Column names are public vocabulary: REST shows them.

`shared` holds what all workers and nodes share; `mail` holds mails, one set per worker file on SQLite. On
PostgreSQL both live in one database.
"""

import sqlalchemy as sa
from sqlalchemy import Table as Table

VERSION = 1

shared = sa.MetaData()
mails = sa.MetaData()
leases = sa.MetaData()
"""PostgreSQL only: on SQLite a file lock is the lease."""

shared_version = sa.Table("shared_version", shared, sa.Column("version", sa.Integer, nullable=False))
mail_version = sa.Table("mail_version", mails, sa.Column("version", sa.Integer, nullable=False))
lease = sa.Table(
    "lease",
    leases,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("lease_until", sa.Double, nullable=False),
)
inventory_revision = sa.Table("inventory_revision", shared, sa.Column("revision", sa.Integer, nullable=False))
profile = sa.Table(
    "server_profile",
    shared,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("tested", sa.Text),
    # JSON of core.profile_mark.Mark
    sa.Column("former", sa.Text, nullable=False, server_default="[]"),
    # JSON list of names it had
)
rule = sa.Table(
    "rule",
    shared,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("document", sa.Text, nullable=False),
)
audit = sa.Table(
    "audit",
    shared,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)
key = sa.Table(
    "key",
    shared,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("revoked_at", sa.Double),
)
user = sa.Table(
    "user",
    shared,
    # What makes two names the same: NFC, case ignored
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)
command = sa.Table(
    "command",
    shared,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Double, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("mails", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
)
command_report = sa.Table(
    "command_report",
    shared,
    sa.Column("command_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("recipients", sa.Integer, nullable=False),
    sa.Column("mails", sa.Text, nullable=False),
)
worker = sa.Table(
    "worker",
    shared,
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
)
server_state = sa.Table(
    "server_state",
    shared,
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("profile", sa.Text, primary_key=True),
    sa.Column("server", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
)
# Servers of profiles that mail is kept from; one that has ended by itself is removed by the next change.
server_drain = sa.Table(
    "server_drain",
    shared,
    sa.Column("profile", sa.Text, primary_key=True),
    sa.Column("server", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("until", sa.Double),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
# One row, made when the first mail is put into quarantine.
quarantine_key = sa.Table(
    "quarantine_key",
    shared,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("token", sa.Text, nullable=False),
    # The key, encrypted by the keyring of stored secrets
)

mail = sa.Table(
    "mail",
    mails,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("reverse_path", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("smtputf8", sa.Boolean, nullable=False),
    sa.Column("ret", sa.Text, nullable=False),
    sa.Column("envid", sa.Text, nullable=False),
    sa.Column("trace_field", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("own", sa.Boolean, nullable=False),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("kept_since", sa.Double),
    # When the last recipient ended while the content is kept for the failed emails.
    sa.Column("lease_owner", sa.Text),
)
sa.Index(
    "mail_leased",
    mail.c.lease_owner,
    sqlite_where=mail.c.lease_owner.is_not(None),
    postgresql_where=mail.c.lease_owner.is_not(None),
)
# Failed emails whose content is kept: by age, and newest first.
sa.Index(
    "mail_kept",
    mail.c.kept_since,
    sqlite_where=mail.c.kept_since.is_not(None),
    postgresql_where=mail.c.kept_since.is_not(None),
)
sa.Index(
    "mail_failed",
    mail.c.id,
    sqlite_where=mail.c.kept_since.is_not(None),
    postgresql_where=mail.c.kept_since.is_not(None),
)
content = sa.Table(
    "content",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    # inline: octets; file: name of the file; chunks: rows of content_chunk; cuts: version 0 less `cuts`
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("cuts", sa.Text),
    sa.Column("file", sa.Text),
    sa.Column("octets", sa.LargeBinary),
    sa.Column("sealed", sa.Boolean, nullable=False),
    # By `sealing`, with the key of quarantine_key
)
content_chunk = sa.Table(
    "content_chunk",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("octets", sa.LargeBinary, nullable=False),
)
# Without rowid: small rows that are only ever found by their key, in one tree instead of two.
recipient = sa.Table(
    "recipient",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("waits", sa.Integer, nullable=False),
    sa.Column("deferral", sa.Text, nullable=False),
    sa.Column("delay_told", sa.Boolean, nullable=False),
    sa.Column("uncertain_at", sa.Text, nullable=False),
    sa.Column("notify", sa.Text, nullable=False),
    sa.Column("orcpt", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
# As literals: a planner uses a partial index only where a query repeats its condition word for word.
IS_ACTIVE = recipient.c.state == sa.literal_column("'active'")
IS_QUEUED = recipient.c.state == sa.literal_column("'queued'")
IS_HELD = recipient.c.state == sa.literal_column("'held'")
IS_DUE = sa.and_(IS_QUEUED, recipient.c.stage == sa.literal_column("'relay'"))
"""To be relayed, once it is due."""
IS_UNSCANNED = sa.and_(IS_QUEUED, recipient.c.stage == sa.literal_column("'scan'"))
"""To be scanned, once it is due: in none of the indexes that mail is taken by to be relayed."""
IS_SERVERS_FAULT = recipient.c.deferral == sa.literal_column("'server-fault'")
# Straight-through mail stays ACTIVE and never enters these: they hold what waits, by next hop.
sa.Index(
    "recipient_due",
    recipient.c.profile,
    recipient.c.due_at,
    recipient.c.mail_id,
    sqlite_where=IS_DUE,
    postgresql_where=IS_DUE,
)
# What waits for a scan, whatever its next hop.
sa.Index(
    "recipient_unscanned",
    recipient.c.due_at,
    recipient.c.profile,
    recipient.c.mail_id,
    sqlite_where=IS_UNSCANNED,
    postgresql_where=IS_UNSCANNED,
)
# What is woken when a circuit closes. All entries have the same `deferral`: a planner without statistics then knows
# that this index leads to fewer rows than recipient_due does.
sa.Index(
    "recipient_server_fault",
    recipient.c.deferral,
    recipient.c.profile,
    recipient.c.due_at,
    sqlite_where=sa.and_(IS_DUE, IS_SERVERS_FAULT),
    postgresql_where=sa.and_(IS_DUE, IS_SERVERS_FAULT),
)
sa.Index(
    "recipient_held",
    recipient.c.profile,
    recipient.c.mail_id,
    sqlite_where=IS_HELD,
    postgresql_where=IS_HELD,
)
attempt = sa.Table(
    "attempt",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("server", sa.Text, nullable=False),
    sa.Column("order", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("replies", sa.Text, nullable=False),
    sa.Column("transcript", sa.Text, nullable=False),
    sa.Column("marks", sa.Text, nullable=False),
    # JSON of core.way.WayFacts; null where there was no connection
    sa.Column("way", sa.Text),
    sa.Column("mail_number", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
trail = sa.Table(
    "trail",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
scan = sa.Table(
    "scan",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("server", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("part", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("threat", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("failure", sa.Text, nullable=False),
    sa.Column("data_id", sa.Text, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("cached", sa.Boolean, nullable=False),
    sa.Column("engines", sa.Text, nullable=False),
    # JSON list of [engine, result, threat]
    sqlite_with_rowid=False,
)
upload = sa.Table(
    "upload",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("part", sa.Text, primary_key=True),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("file_id", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
# Mail in quarantine; its content is the sealed version.
quarantine = sa.Table(
    "quarantine",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(
    "quarantine_expires",
    quarantine.c.expires_at,
    sqlite_where=sa.not_(quarantine.c.pinned),
    postgresql_where=sa.not_(quarantine.c.pinned),
)
# The last command of an operator that was carried out on a kept mail.
obeyed = sa.Table(
    "obeyed",
    mails,
    sa.Column("mail_id", sa.Text, primary_key=True),
    sa.Column("command", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
OF_MAIL = (recipient, attempt, trail, scan, upload, quarantine, obeyed)
"""Tables with rows of one mail, but for its content."""
