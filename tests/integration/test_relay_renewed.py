"""Kept connections and a digital ID that is renewed meanwhile: the former certificate is shown by none any more."""

from pathlib import Path

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.limits import Limits
from posthouse.core.outcome import Result
from support.servers import LOOPS, profile, run, transaction
from support.tls_servers import NAME, ServerKind, client_digital_id, tls_server


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("shown", [True, False])
def test_a_connection_with_a_former_certificate_is_not_used_again(loop: str, shown: bool, tmp_path: Path) -> None:
    first, second = client_digital_id(tmp_path, "first.example"), client_digital_id(tmp_path, "second.example")
    in_force = [first]
    kind = ServerKind.WANTS_CERTIFICATE if shown else ServerKind.GOOD
    with tls_server(kind) as server:
        by = profile(
            server.specification,
            tls="starttls-required",
            tls_name=NAME,
            tls_ca=server.ca,
            client_certificate=shown,
            pool={"enabled": True},
        )

        async def go() -> None:
            relay = SmtpRelay("mx1.example", Limits(), digital_id=lambda: in_force[-1])
            for renewed in (None, None, second, None):
                in_force.extend([renewed] if renewed else [])
                answer = await relay.send(by, server.specification, transaction("b@ours.example"), lambda: True)
                assert [each.result for each in answer.recipients] == [Result.RELAYED], answer
            relay.close()
            await relay.closed(10)

        run(loop, go())
    used = [(session.client_subject, len(session.mails)) for session in server.sessions]
    assert used == ([("first.example", 2), ("second.example", 2)] if shown else [("", 4)])
