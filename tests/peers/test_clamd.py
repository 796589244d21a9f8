"""TEST of a clamd against a real one: with EICAR's signature, with another one only, and with none."""

import asyncio

from posthouse.clients.clamd_test import ClamdTester
from posthouse.core.clamd_reply import NO_SIGNATURES
from posthouse.core.profile_test import ServerResult
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.profile_test import ProfileTest
from support.clamd_peer import EICAR, Clamd, clamd
from support.servers import profile


def climbed(server: str) -> ServerResult:
    test = ProfileTest({ServiceType.CLAMAV: ClamdTester(())})
    (result,) = asyncio.run(test.run(profile(server, type="clamav"))).servers
    return result


def both(peer: Clamd) -> list[ServerResult]:
    return [climbed(peer.tcp), climbed(peer.unix)]


def test_a_real_clamd_finds_eicar_by_tcp_and_by_socket() -> None:
    with clamd({"Local.Eicar": EICAR}) as peer:
        by_tcp, by_socket = both(peer)
    ladder = ["connect", "ping", "version", "eicar"]
    assert [stage.name for stage in by_tcp.stages] == ["resolve", *ladder]
    assert [stage.name for stage in by_socket.stages] == ladder
    for result in (by_tcp, by_socket):
        assert result.ok, result
        version, eicar = result.stages[-2:]
        assert eicar.detail == {"found": "Local.Eicar.UNOFFICIAL"}
        assert eicar.transcript == ("C: zINSTREAM", "S: stream: Local.Eicar.UNOFFICIAL FOUND")
        assert set(version.detail) == {"scanner", "database"}
        assert "Run freshclam" in version.advice


def test_a_real_clamd_without_the_signatures_of_clamav_does_not_find_it() -> None:
    with clamd({"Local.Other": b"something else"}) as peer:
        results = both(peer)
    for result in results:
        assert [stage.ok for stage in result.stages][-3:] == [True, True, False]
        eicar = result.stages[-1]
        assert (eicar.name, eicar.fault) == ("eicar", NO_SIGNATURES)
        assert eicar.transcript == ("C: zINSTREAM", "S: stream: OK")
        assert eicar.advice == "Run freshclam and let clamd reload: without its signatures it finds nothing."


def test_a_real_clamd_with_no_signature_at_all_does_not_start_and_the_advice_says_so() -> None:
    with clamd({}) as peer:
        assert peer.code == 1, peer.log.read_text("utf-8", "replace")
        by_tcp, by_socket = both(peer)
    assert (by_tcp.stages[-1].name, by_tcp.stages[-1].fault) == ("connect", "connection refused")
    assert by_socket.stages[-1].name == "connect"
    assert by_socket.stages[-1].fault.endswith("no such file or directory")
    for result in (by_tcp, by_socket):
        assert "without signatures it does not start: run freshclam" in result.stages[-1].advice
