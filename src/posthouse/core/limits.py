"""Every limit and deadline in one table: name, default, minimum, maximum, unit, meaning.

`docs/settings.md` is generated from it; `[limits]` of posthouse.toml changes them.
Standards: RFC 5321 sections 4.5.3.1, 4.5.3.2; design section 3.
"""

from dataclasses import dataclass, fields

from posthouse.core.examination import ExaminationLimits


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the table."""

    name: str
    default: int
    minimum: int
    maximum: int
    unit: str
    meaning: str


TABLE: tuple[Limit, ...] = (
    Limit("command_octets", 2048, 512, 65536, "octets", "longest command line, CRLF included"),
    Limit("recipients", 1000, 100, 100000, "recipients", "per mail transaction; further ones get 452 4.5.3"),
    Limit("header_octets", 1048576, 65536, 16777216, "octets", "longest header section; past it 554 5.6.0"),
    Limit("received_fields", 100, 20, 1000, "fields", "Received fields above which a mail loops: 554 5.4.6"),
    Limit("errors", 20, 3, 1000, "replies", "5yz replies in one SMTP session before 421 4.7.0 ends it"),
    Limit("idle_commands", 200, 20, 100000, "commands", "NOOP, RSET, VRFY, HELP, EHLO without a mail"),
    Limit("sessions", 1000, 10, 100000, "sessions", "open SMTP sessions per worker; further ones get 421 4.3.2"),
    Limit("sessions_per_client", 200, 1, 100000, "sessions", "open SMTP sessions per client address and worker"),
    Limit("pending_input_octets", 65536, 4096, 1048576, "octets", "input kept while a reply is outstanding"),
    Limit("command_seconds", 300, 10, 3600, "seconds", "for a whole command line, from the last reply"),
    Limit("data_idle_seconds", 300, 10, 3600, "seconds", "without an octet of content"),
    Limit("data_rate_octets", 500, 0, 1000000, "octets/s", "least average rate of content after data_rate_grace"),
    Limit("data_rate_grace_seconds", 60, 1, 3600, "seconds", "before data_rate_octets is asked for"),
    Limit("stress_seconds", 10, 1, 300, "seconds", "each deadline while sessions exceed stress_percent"),
    Limit("stress_percent", 80, 10, 100, "percent", "of `sessions`, above which stress_seconds holds"),
    Limit("tls_handshake_seconds", 60, 1, 600, "seconds", "for a TLS handshake"),
    Limit("drain_seconds", 10, 1, 600, "seconds", "that SIGTERM leaves to open transactions"),
    Limit("connect_seconds", 10, 1, 600, "seconds", "as client: TCP connect"),
    Limit("greeting_seconds", 60, 1, 3600, "seconds", "as client: greeting, EHLO and RSET reply each"),
    Limit("command_reply_seconds", 300, 1, 3600, "seconds", "as client: reply to MAIL and RCPT"),
    Limit("data_reply_seconds", 120, 1, 3600, "seconds", "as client: reply to DATA"),
    Limit("block_seconds", 180, 1, 3600, "seconds", "as client: writing a block of content"),
    Limit("final_dot_seconds", 600, 1, 3600, "seconds", "as client: reply to the final dot"),
    Limit("reply_octets", 65536, 4096, 1048576, "octets", "as client: longest reply, all its lines"),
    Limit("transactions_per_server", 20, 1, 1000, "transactions", "open at one server at a time, per node"),
    Limit(
        "probe_seconds", 0, 0, 86400, "seconds", "between probes of a server that is not used, per worker; 0: none"
    ),
    Limit("memory_mails", 5000, 10, 1000000, "mails", "in the memory of a worker; further ones by id only"),
    Limit("memory_octets", 134217728, 1048576, 17179869184, "octets", "of content in the memory of a worker"),
    Limit("lifetime_seconds", 432000, 60, 2592000, "seconds", "from receipt until a failure DSN ends the tries"),
    Limit("delay_seconds", 14400, 60, 2592000, "seconds", "from receipt until the delay DSN"),
    Limit("free_octets", 536870912, 1048576, 1099511627776, "octets", "least free space: below it 452 4.3.1"),
    Limit("failed_days", 14, 1, 3650, "days", "that the content of a failed email is kept"),
    Limit("quarantine_days", 30, 1, 3650, "days", "that quarantined mail is kept, unless it is pinned"),
    Limit("notices_per_hour", 20, 0, 10000, "notices", "that rules have sent to one address, per worker"),
    Limit("scans", 20, 1, 1000, "mails", "scanned at the same time, per worker"),
    Limit("scan_seconds", 300, 5, 3600, "seconds", "for one scanner to answer for one mail"),
    Limit("examination_seconds", 30, 1, 600, "seconds", "for reading and unpacking one mail, in its own process"),
    Limit("examination_octets", 1073741824, 268435456, 17179869184, "octets", "of memory for the same"),
    Limit("examinations", 2, 1, 64, "processes", "that read mail, per worker"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force; see `TABLE` for unit and meaning of each."""

    command_octets: int = 2048
    recipients: int = 1000
    header_octets: int = 1048576
    received_fields: int = 100
    errors: int = 20
    idle_commands: int = 200
    sessions: int = 1000
    sessions_per_client: int = 200
    pending_input_octets: int = 65536
    command_seconds: int = 300
    data_idle_seconds: int = 300
    data_rate_octets: int = 500
    data_rate_grace_seconds: int = 60
    stress_seconds: int = 10
    stress_percent: int = 80
    tls_handshake_seconds: int = 60
    drain_seconds: int = 10
    connect_seconds: int = 10
    greeting_seconds: int = 60
    command_reply_seconds: int = 300
    data_reply_seconds: int = 120
    block_seconds: int = 180
    final_dot_seconds: int = 600
    reply_octets: int = 65536
    transactions_per_server: int = 20
    probe_seconds: int = 0
    memory_mails: int = 5000
    memory_octets: int = 134217728
    lifetime_seconds: int = 432000
    delay_seconds: int = 14400
    free_octets: int = 536870912
    failed_days: int = 14
    quarantine_days: int = 30
    notices_per_hour: int = 20
    scans: int = 20
    scan_seconds: int = 300
    examination_seconds: int = 30
    examination_octets: int = 1073741824
    examinations: int = 2

    @property
    def examination(self) -> ExaminationLimits:
        """For one mail. What is made of it, in a file of memory, counts beside the examiner's own memory."""
        return ExaminationLimits(header_octets=self.header_octets, made_octets=self.examination_octets // 2)


def table_and_class_agree() -> bool:
    """Every row has its attribute with the same default (asserted by a test)."""
    return {f.name: f.default for f in fields(Limits)} == {row.name: row.default for row in TABLE}
