"""One session over a transport of the test's own and a clock that the test moves."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from posthouse.core.limits import Limits
from posthouse.core.smtp_reply import Reply, reply
from posthouse.inbound.listener import Listener, Listeners
from posthouse.inbound.session import Session
from posthouse.settings import Address, BareNewlines, ListenerSettings, NodeSettings
from support.flow import FakeClock
from support.receiving import QUEUED, MemoryReception

REFUSED = reply(554, "5.4.6", "Too many Received fields, this mail loops")

BEGIN = b"EHLO t.example\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<you@inside.example>\r\n"
NET = (ip_network("192.0.2.0/24"),)


class Wire(asyncio.Transport):
    """Keeps what a session writes and whether it reads."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.writes: list[bytes] = []
        self.reading = True
        self.closing = self.aborted = False
        self.closed = asyncio.Event()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self.address, 4000) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading

    def is_aborted(self) -> bool:
        return self.aborted

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.closed.set()

    def abort(self) -> None:
        self.closing = self.aborted = True

    @property
    def text(self) -> str:
        return b"".join(self.writes).decode()


class Bench:
    """A listener without a socket."""

    def __init__(self, reception: MemoryReception, limits: Limits, settings: ListenerSettings, trusted: bool) -> None:
        self.clock = FakeClock()
        node = NodeSettings(
            "mx.example", limits=limits, listeners=(settings,), trusted_clients=NET if trusted else ()
        )
        self.owner = Listeners(sockets=(), settings=node, reception=reception, tls_contexts=(), clock=self.clock)
        self.listener = Listener(self.owner, settings, "127.0.0.1:25", None)

    def connect(self, address: str = "192.0.2.1") -> tuple[Session, Wire]:
        session, wire = Session(self.listener), Wire(address)
        session.connection_made(wire)
        return session, wire

    def after(self, seconds: float, session: Session) -> None:
        self.clock.at += seconds
        session.look_at_deadlines()


def run(
    test: Callable[[Bench], None],
    reception: MemoryReception | None = None,
    limits: Limits | None = None,
    settings: ListenerSettings | None = None,
    trusted: bool = False,
) -> None:
    async def within() -> None:
        bench = Bench(
            reception or MemoryReception(), limits or Limits(), settings or ListenerSettings(Address("", 0)), trusted
        )
        test(bench)
        for session in list(bench.owner._sessions):
            session.connection_lost(None)

    asyncio.run(within())


def test_replies_of_a_batch_leave_in_one_write() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\n")
        assert len(wire.writes) == 2  # the greeting, and all the rest
        assert wire.writes[1].endswith(b"250 2.1.5 Recipient ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n")

    run(test)


def test_reception_gets_facts_envelope_and_wire_form() -> None:
    reception = MemoryReception()

    def test(bench: Bench) -> None:
        session, wire = bench.connect("::ffff:192.0.2.1")
        session.data_received(BEGIN + b"DATA\r\nA: b\r\n\r\n..x\r\n.\r\nQUIT\r\n")
        assert wire.text.endswith("250 2.0.0 queued as 01TEST\r\n221 2.0.0 Bye\r\n")
        assert wire.is_closing()

    run(test, reception, trusted=True)
    ((facts, envelope, content),) = reception.mails
    assert (facts.client_address, facts.client_port, facts.helo) == ("192.0.2.1", 4000, "t.example")
    assert (facts.protocol, facts.listener, facts.tls, facts.trusted) == ("ESMTP", "127.0.0.1:25", "", True)
    assert envelope.reverse_path == "a@sender.example"
    assert (content.size, content.header) == (12, b"A: b\r\n")
    assert b"".join(reception.sinks[0].pieces) == b"A: b\r\n\r\n..x\r\n.\r\n"


@pytest.mark.parametrize(
    ("hello", "parameter", "keyword"),
    [(b"HELO", b"", "SMTP"), (b"EHLO", b"", "ESMTP"), (b"EHLO", b" SMTPUTF8", "UTF8SMTP")],
)
def test_protocol_keyword_follows_the_dialogue(hello: bytes, parameter: bytes, keyword: str) -> None:
    reception = MemoryReception()

    def test(bench: Bench) -> None:
        session, _ = bench.connect()
        mail = b"MAIL FROM:<a@b.example>" + parameter + b"\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\n"
        session.data_received(b"EHLO first.example\r\n" + hello + b" second.example\r\n" + mail)

    run(test, reception)
    assert [(m[0].protocol, m[0].helo) for m in reception.mails] == [(keyword, "second.example")]


def test_reply_to_the_final_dot_may_come_later_and_input_waits_for_it() -> None:
    reception = MemoryReception(answer=None)

    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\nx\r\n.\r\nNOOP\r\n")
        assert "354" in wire.writes[-1].decode()
        reception.waiting[0](QUEUED)
        assert wire.writes[-1] == b"250 2.0.0 queued as 01TEST\r\n250 2.0.0 Ok\r\n"
        reception.waiting[0](QUEUED)
        assert wire.text.count("queued") == 1

    run(test, reception)


def test_too_much_input_behind_the_final_dot_stops_the_reading_until_the_reply() -> None:
    reception = MemoryReception(answer=None)

    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\nx\r\n.\r\n")
        session.data_received(b"NOOP " + b"x" * 2000 + b"\r\n")
        assert wire.is_reading()
        session.data_received((b"NOOP " + b"x" * 2000 + b"\r\n") * 3)
        assert not wire.is_reading()
        reception.waiting[0](QUEUED)
        assert wire.is_reading()
        assert wire.text.count("250 2.0.0 Ok") == 4

    run(test, reception, Limits(pending_input_octets=4096))


def test_client_that_does_not_read_is_not_read_from() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.pause_writing()
        assert not wire.is_reading()
        session.data_received(b"NOOP\r\n")
        assert len(wire.writes) == 1
        session.resume_writing()
        assert wire.is_reading()
        assert wire.writes[-1] == b"250 2.0.0 Ok\r\n"

    run(test)


def test_mail_of_a_client_that_went_away_before_the_reply_is_still_taken() -> None:
    reception = MemoryReception(answer=None)

    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\nx\r\n.\r\n")
        session.connection_lost(None)
        held = [sink.released for sink in reception.sinks]
        reception.waiting[0](QUEUED)
        assert (held, [sink.released for sink in reception.sinks]) == ([False], [True])
        assert "queued" not in wire.text
        assert bench.owner.sessions_open == 0

    run(test, reception)


@pytest.mark.parametrize("answer", [QUEUED, REFUSED])
def test_what_a_sink_holds_is_released_with_the_answer_to_the_final_dot(answer: Reply) -> None:
    reception = MemoryReception(answer=answer)

    def test(bench: Bench) -> None:
        session, _ = bench.connect()
        session.data_received(BEGIN + b"DATA\r\nx\r\n")
        assert not reception.sinks[0].released
        session.data_received(b".\r\n")
        assert reception.sinks[0].released

    run(test, reception)


def test_content_cut_off_by_the_client_is_thrown_away() -> None:
    reception = MemoryReception()

    def test(bench: Bench) -> None:
        session, _ = bench.connect()
        session.data_received(BEGIN + b"DATA\r\nSubject: cut\r\n\r\nhalf")
        session.connection_lost(ConnectionResetError())

    run(test, reception)
    assert reception.mails == []
    assert reception.sinks[0].released


# --- trouble ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "sent"), [("begin", "MAIL"), ("admit", "RCPT"), ("accept", "dot"), ("open_content", "dot")]
)
def test_trouble_in_the_reception_is_451_with_an_id_and_the_session_goes_on(where: str, sent: str) -> None:
    reception = MemoryReception(error=RuntimeError("a bug"), raises=where)

    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + (b"DATA\r\nx\r\n.\r\n" if sent == "dot" else b"") + b"NOOP\r\n")
        assert "451 4.3.0 Internal trouble, try again later (id " in wire.text
        assert wire.text.endswith("250 2.0.0 Ok\r\n")
        assert "a bug" not in wire.text
        assert not wire.is_closing()

    run(test, reception)
    assert reception.mails == []


def test_full_disk_is_452_at_the_end_of_the_content_wherever_it_is_met() -> None:
    for reception in (
        MemoryReception(sink_fails=True),
        MemoryReception(error=OSError(28, "No space left on device"), raises="open_content"),
    ):

        def test(bench: Bench) -> None:
            session, wire = bench.connect()
            session.data_received(BEGIN + b"DATA\r\n")
            session.data_received(b"x" * 1000)
            session.data_received(b"\r\n.\r\nNOOP\r\n")
            assert "452 4.3.1" in wire.text
            assert wire.text.endswith("250 2.0.0 Ok\r\n")

        run(test, reception)
        assert reception.mails == []
        assert all(sink.released for sink in reception.sinks)


def test_refusal_of_the_reception_reaches_the_client() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN)
        assert "452 4.3.1 full\r\n503 " in wire.text

    run(test, MemoryReception(refusal=reply(452, "4.3.1", "full")))


# --- deadlines -------------------------------------------------------------------------------------------


def test_command_has_its_deadline_in_total_however_it_trickles() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        for _ in range(29):
            session.data_received(b"x")
            bench.after(10, session)
        assert not wire.is_closing()
        bench.after(10, session)
        assert wire.is_closing()
        assert wire.text.endswith("421 4.4.2 Timeout\r\n")

    run(test)


def test_deadline_is_looked_at_without_anybody_asking() -> None:
    async def within() -> Wire:
        bench = Bench(MemoryReception(), Limits(command_seconds=0), ListenerSettings(Address("", 0)), False)
        session, wire = bench.connect()
        assert not wire.is_closing()
        await wire.closed.wait()
        session.connection_lost(None)
        return wire

    assert asyncio.run(within()).text.endswith("421 4.4.2 Timeout\r\n")


def test_reply_of_ours_starts_the_deadline_anew() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        for _ in range(5):
            bench.after(299, session)
            session.data_received(b"NOOP\r\n")
        assert not wire.is_closing()

    run(test)


def test_content_without_an_octet_times_out_and_is_thrown_away() -> None:
    reception = MemoryReception()

    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\n" + b"x" * 200_000)
        bench.after(299, session)
        assert not wire.is_closing()
        bench.after(1, session)
        assert wire.text.endswith("421 4.4.2 Timeout\r\n")
        assert wire.is_closing()

    run(test, reception)
    assert reception.sinks[0].released


def test_content_that_comes_too_slowly_ends_the_session_after_the_grace() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\n")
        for _ in range(6):
            session.data_received(b"x" * 4990)
            bench.after(10, session)
        assert not wire.is_closing()
        bench.after(1, session)
        assert wire.text.endswith("421 4.4.2 Content comes too slowly\r\n")

    run(test)


def test_content_at_the_least_rate_goes_on() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\n")
        for _ in range(30):
            session.data_received(b"x" * 5000)
            bench.after(10, session)
        assert not wire.is_closing()

    run(test)


def test_octets_of_bdat_count_toward_the_rate_though_they_come_with_their_command() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN)
        for _ in range(20):
            session.data_received(b"BDAT 6000\r\n" + b"x" * 6000)
            bench.after(10, session)
        session.data_received(b"BDAT 10 LAST\r\nx")
        bench.after(1, session)
        assert not wire.is_closing()

    run(test)


def test_octets_of_a_refused_bdat_have_a_rate_of_their_own() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        for _ in range(2):
            bench.after(250, session)
            session.data_received(b"EHLO t.example\r\n")
            bench.after(250, session)
            session.data_received(b"BDAT 50000 LAST\r\n")
            bench.after(5, session)
            for _ in range(10):
                session.data_received(b"x" * 5000)
                bench.after(10, session)
            assert wire.text.endswith("503 5.5.1 MAIL first\r\n")
        session.data_received(b"BDAT 50000 LAST\r\n")
        for _ in range(7):
            bench.after(10, session)
            assert not wire.is_closing()
            session.data_received(b"x" * 4000)
        bench.after(1, session)
        assert wire.text.endswith("421 4.4.2 Content comes too slowly\r\n")

    run(test)


def test_no_deadline_holds_while_the_client_waits_for_us() -> None:
    reception = MemoryReception(answer=None)

    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN + b"DATA\r\nx\r\n.\r\n")
        bench.after(1000, session)
        assert not wire.is_closing()
        reception.waiting[0](QUEUED)
        bench.after(299, session)
        assert not wire.is_closing()

    run(test, reception)


def test_stress_shortens_the_deadlines_of_sessions_already_open() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        bench.after(9, session)
        others = [bench.connect() for _ in range(8)]
        assert bench.listener.stressed
        bench.after(1, session)
        assert wire.is_closing()
        assert not others[0][1].is_closing()

    run(test, limits=Limits(sessions=10))


def test_client_that_reads_nothing_is_cut_off_at_its_deadline() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.pause_writing()
        bench.after(300, session)
        assert wire.is_aborted()

    run(test)


def test_closed_connection_that_does_not_drain_is_cut_off() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(b"QUIT\r\n")
        assert wire.is_closing()
        assert not wire.is_aborted()
        bench.after(9, session)
        assert not wire.is_aborted()
        bench.after(1, session)
        assert wire.is_aborted()

    run(test)


def test_last_word_is_said_once() -> None:
    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(b"QUIT\r\n")
        assert session.idle
        session.shut_down()
        assert wire.text.endswith("221 2.0.0 Bye\r\n")

    run(test)


# --- who may what ----------------------------------------------------------------------------------------


def test_sessions_past_the_limit_of_a_client_are_421() -> None:
    def test(bench: Bench) -> None:
        first, _ = bench.connect()
        bench.connect()
        _, refused = bench.connect()
        assert refused.text == "421 4.3.2 Too many sessions, try again later\r\n"
        assert refused.is_closing()
        assert bench.connect("198.51.100.1")[1].text.startswith("220 ")
        first.connection_lost(None)
        assert bench.connect()[1].text.startswith("220 ")

    run(test, limits=Limits(sessions_per_client=2))


def test_sessions_past_the_limit_of_the_worker_are_421() -> None:
    def test(bench: Bench) -> None:
        for n in range(10):
            assert bench.connect(f"198.51.100.{n}")[1].text.startswith("220 ")
        assert bench.connect("198.51.100.99")[1].text.startswith("421 4.3.2")

    run(test, limits=Limits(sessions=10))


def test_newline_rule_is_chosen_by_client_network() -> None:
    settings = ListenerSettings(Address("", 0), bare_newlines=BareNewlines.REFUSE)
    reception = MemoryReception()

    def test(bench: Bench) -> None:
        for address, code in (("192.0.2.1", "250 2.0.0 queued"), ("198.51.100.1", "550 5.6.11")):
            session, wire = bench.connect(address)
            session.data_received(BEGIN + b"DATA\r\na\nb\r\n.\r\n")
            assert code in wire.text

    run(test, reception, settings=settings, trusted=True)
    assert [m[2].normalised for m in reception.mails] == [1]


def test_xclient_changes_the_client_for_allowed_peers_only_and_keeps_pipelined_input() -> None:
    settings = ListenerSettings(Address("", 0), xclient_from=NET)
    reception = MemoryReception()
    octets = (
        b"EHLO proxy.example\r\nXCLIENT ADDR=203.0.113.9 PORT=7 HELO=real.example PROTO=ESMTP\r\n"
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n"
    )

    def test(bench: Bench) -> None:
        session, wire = bench.connect("192.0.2.1")
        session.data_received(octets)
        assert "XCLIENT ADDR" in wire.text
        other, refused = bench.connect("198.51.100.1")
        other.data_received(octets)
        assert "XCLIENT ADDR" not in refused.text
        assert "550 5.7.0" in refused.text

    run(test, reception, settings=settings)
    assert [(m[0].client_address, m[0].client_port, m[0].helo, m[0].peer_address) for m in reception.mails] == [
        ("203.0.113.9", 7, "real.example", "192.0.2.1"),
        ("198.51.100.1", 4000, "proxy.example", ""),
    ]


def test_xclient_between_two_mails_of_the_same_name_still_changes_the_client() -> None:
    reception = MemoryReception()
    mail = b"EHLO same.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n"

    def test(bench: Bench) -> None:
        session, _ = bench.connect("192.0.2.1")
        session.data_received(mail + b"XCLIENT ADDR=203.0.113.9 PORT=7\r\n" + mail)

    run(test, reception, settings=ListenerSettings(Address("", 0), xclient_from=NET), trusted=True)
    assert [(m[0].client_address, m[0].trusted) for m in reception.mails] == [
        ("192.0.2.1", True),
        ("203.0.113.9", False),
    ]


def test_reload_changes_hostname_and_trust_for_new_sessions_and_leaves_open_ones_alone() -> None:
    reception = MemoryReception()

    def test(bench: Bench) -> None:
        session, wire = bench.connect()
        session.data_received(BEGIN)
        bench.owner.reload(NodeSettings("new.example", listeners=bench.owner.node.listeners, trusted_clients=NET))
        session.data_received(b"DATA\r\nx\r\n.\r\n")
        assert "queued" in wire.text
        later, greeted = bench.connect()
        assert greeted.text.startswith("220 new.example ")
        later.data_received(BEGIN + b"DATA\r\nx\r\n.\r\n")

    run(test, reception)
    assert [m[0].trusted for m in reception.mails] == [False, True]
