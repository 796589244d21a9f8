"""Scanning by a real clamd with signatures made here, over TCP and over its socket."""

import asyncio
import hashlib
import io
import os
import signal
import subprocess
import zipfile
from base64 import encodebytes
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.clients.clamav import ClamdScanner
from posthouse.core.scan import Failure, Verdict
from posthouse.scan_ports import ScanAnswer
from support.clamd_peer import EICAR, Clamd, clamd
from support.scanning import Given, asked, order
from support.servers import LOOPS, profile, run
from support.waiting import eventually

MARKER = b"POSTHOUSE-MARKER-1"
CLEAN = b"nothing to be found here\r\n"
LIMIT = 2_000_000


@pytest.fixture(scope="module")
def peer() -> Iterator[Clamd]:
    with clamd(
        {"Local.Eicar": EICAR},
        markers={"Local.Marker": MARKER},
        conf=f"StreamMaxLength {LIMIT}\nAlertEncrypted yes\n",
    ) as running:
        yield running


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["tcp", "unix"])
def server(request: pytest.FixtureRequest, peer: Clamd) -> str:
    return str(getattr(peer, request.param))


def scanned(loop: str, server: str, *items: bytes | Given, seconds: float = 60) -> ScanAnswer:
    async def go() -> ScanAnswer:
        scanner = ClamdScanner()
        try:
            return await scanner.scan(profile(server, type="clamav"), server, order(), asked(*items), seconds)
        finally:
            await scanner.close()

    return run(loop, go())


def verdicts(answer: ScanAnswer) -> list[Verdict]:
    assert answer.fault == "", answer
    return [answer.results[number].found.verdict for number in sorted(answer.results)]


def zipped(octets: bytes, name: str = "a.txt") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, octets)
    return made.getvalue()


def mail(octets: bytes) -> bytes:
    head = b"From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    head += b"--b\r\n\r\ntext\r\n"
    part = b'--b\r\nContent-Type: application/octet-stream; name="a.com"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return head + part + encodebytes(octets).replace(b"\n", b"\r\n") + b"--b--\r\n"


def test_eicar_in_every_dress(loop: str, server: str) -> None:
    dressed = (EICAR, mail(EICAR), zipped(EICAR), zipped(zipped(EICAR, "b.zip")), mail(zipped(EICAR)))
    answer = scanned(loop, server, CLEAN, *dressed, b"", mail(CLEAN))
    assert verdicts(answer) == [Verdict.CLEAN, *[Verdict.BLOCKED] * 5, Verdict.CLEAN, Verdict.CLEAN]
    assert {answer.results[n].found.threat for n in range(1, 6)} == {"Local.Eicar.UNOFFICIAL"}


def test_three_hundred_items_in_one_session(loop: str, server: str) -> None:
    items = [b"item %d %s" % (number, MARKER if number % 7 == 3 else b"") for number in range(300)]
    expected = [Verdict.BLOCKED if number % 7 == 3 else Verdict.CLEAN for number in range(300)]
    assert verdicts(scanned(loop, server, *items)) == expected


def test_large_items_are_found_in_to_their_last_octet(loop: str, server: str) -> None:
    large = bytes(LIMIT - 100) + MARKER
    assert verdicts(scanned(loop, server, large, b"x" + large[:-1])) == [Verdict.BLOCKED, Verdict.CLEAN]


@pytest.mark.parametrize("octets", [LIMIT + 1, 10 * LIMIT])
def test_an_item_above_the_limit_is_not_scanned_and_all_others_are(loop: str, server: str, octets: int) -> None:
    items: list[bytes | Given] = [b"item %d" % number for number in range(20)]
    items[5], items[9] = Given(size=octets), MARKER
    items[17] = Given(size=octets + 1)
    answer = scanned(loop, server, *items)
    expected = [Verdict.CLEAN] * 20
    expected[5] = expected[17] = Verdict.FAILED
    expected[9] = Verdict.BLOCKED
    assert verdicts(answer) == expected
    for number in (5, 17):
        found = answer.results[number].found
        assert found.failure is Failure.NOT_SCANNED
        assert "StreamMaxLength" in found.reason


def test_an_encrypted_archive_is_told_as_such(loop: str, server: str) -> None:
    archive = bytearray(zipped(CLEAN))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(signature) + flags] |= 1
    answer = scanned(loop, server, bytes(archive))
    assert verdicts(answer) == [Verdict.ENCRYPTED]


def test_what_clamd_does_not_scan_whole_is_not_clean(loop: str) -> None:
    large = bytes(200_000) + MARKER
    with clamd({}, markers={"Local.Marker": MARKER}, conf="MaxFileSize 100000\nAlertExceedsMax yes\n") as small:
        answer = scanned(loop, small.unix, large, CLEAN)
    assert verdicts(answer) == [Verdict.FAILED, Verdict.CLEAN]
    assert answer.results[0].found.failure is Failure.NOT_SCANNED


def test_equal_items_are_sent_once(loop: str, peer: Clamd) -> None:
    marked = b"equal" + MARKER
    before = found_from(peer)
    answer = scanned(loop, peer.tcp, marked, CLEAN, marked, marked)
    assert verdicts(answer) == [Verdict.BLOCKED, Verdict.CLEAN, Verdict.BLOCKED, Verdict.BLOCKED]
    # clamd writes its log behind the reply: of a further scan the last line tells that all before it are there.
    assert verdicts(scanned(loop, peer.unix, MARKER)) == [Verdict.BLOCKED]
    eventually(lambda: found_from(peer)[-1] == "instream(local", "the last line in clamd's log")
    assert len(found_from(peer)) == len(before) + 2


def test_a_session_serves_one_mail_after_the_other(loop: str, peer: Clamd) -> None:
    async def go() -> None:
        scanner = ClamdScanner()
        used = profile(peer.tcp, type="clamav")
        for number in range(5):
            answer = await scanner.scan(used, peer.tcp, order(), asked(b"mail %d" % number + MARKER), 30)
            assert verdicts(answer) == [Verdict.BLOCKED]
        await scanner.close()

    before = found_from(peer)
    run(loop, go())
    eventually(lambda: len(found_from(peer)) == len(before) + 5, "five lines in clamd's log")
    assert len(set(found_from(peer)[-5:])) == 1


def found_from(peer: Clamd) -> list[str]:
    """The ends of the connections over which the marker was found."""
    return [line.partition(")")[0] for line in peer.log.read_text().splitlines() if "Local.Marker" in line]


def test_probe(loop: str, server: str) -> None:
    assert run(loop, ClamdScanner().probe(profile(server, type="clamav"), server, 10)) == ""


# --- A clamd that goes -----------------------------------------------------------------------------------


def many(peer: Clamd, item: Given) -> "asyncio.Task[ScanAnswer]":
    scanner = ClamdScanner()
    return asyncio.ensure_future(
        scanner.scan(profile(peer.unix, type="clamav"), peer.unix, order(), asked(b"first", item, b"last"), 30)
    )


@pytest.mark.parametrize("loop_name", LOOPS)
def test_a_clamd_that_is_killed_in_the_middle_has_told_nothing_of_the_rest(loop_name: str) -> None:
    with clamd({"Local.Eicar": EICAR}) as peer:

        async def go() -> ScanAnswer:
            return await many(peer, Given(size=1_000_000, at_middle=peer.process.kill))

        answer = run(loop_name, go())
    assert answer.failure is Failure.UNREACHABLE
    assert answer.fault
    assert set(answer.results) <= {0}


@pytest.mark.parametrize("loop_name", LOOPS)
def test_a_clamd_that_stands_still_is_too_slow(loop_name: str) -> None:
    with clamd({"Local.Eicar": EICAR}) as peer:
        stop(peer.process)
        try:
            answer = scanned(loop_name, peer.tcp, CLEAN, seconds=0.5)
            assert (answer.failure, dict(answer.results)) == (Failure.TIMEOUT, {})
            assert answer.fault == "no verdict within 0.5 s"
            probed = run(loop_name, ClamdScanner().probe(profile(peer.tcp, type="clamav"), peer.tcp, 0.5))
            assert probed == "no reply to PING within 0.5 s"
        finally:
            os.kill(peer.process.pid, signal.SIGCONT)
        assert verdicts(scanned(loop_name, peer.tcp, CLEAN)) == [Verdict.CLEAN]


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Returns once it stands still."""
    os.kill(process.pid, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def test_a_clamd_that_is_started_anew_costs_no_verdict(tmp_path: Path) -> None:
    """The kept session is stale then; that is found out and costs nothing."""

    async def go() -> None:
        scanner = ClamdScanner(kept_seconds=60)
        for _ in range(2):
            with clamd({"Local.Eicar": EICAR}) as peer:
                socket = tmp_path / "clamd.ctl"
                socket.unlink(missing_ok=True)
                socket.symlink_to(peer.unix.removeprefix("clamd://"))
                server = f"clamd://{socket}"
                used = profile(server, type="clamav")
                for octets in (EICAR, hashlib.sha256(os.urandom(8)).digest()):
                    answer = await scanner.scan(used, server, order(), asked(octets), 30)
                    assert verdicts(answer) == [Verdict.BLOCKED if octets == EICAR else Verdict.CLEAN]
        await scanner.close()

    asyncio.run(go())
