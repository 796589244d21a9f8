"""The servers that other tests judge the client by do what they say."""

import base64
import ssl
import threading
import warnings

import pytest

from support.plain_client import PlainClient
from support.tls_servers import (
    EXTENSIONS,
    EXTENSIONS_IN_CLEAR,
    EXTENSIONS_UNDER_TLS,
    NAME,
    STARTTLS_ONLY,
    Command,
    Login,
    ServerKind,
    TakenMail,
    TlsServer,
    tls_server,
)

LOGINS = {"relay": "p\u00e4ss"}
RIGHT = base64.b64encode("\0relay\0päss".encode()).decode()


def context_for(server: TlsServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.ca)


def under_tls(client: PlainClient, server: TlsServer) -> str:
    """To the reply to EHLO under TLS."""
    if not server.implicit:
        client.reply()
        client.say("EHLO client.example")
        client.say("STARTTLS")
    client.start_tls(context_for(server), NAME)
    if server.implicit:
        client.reply()
    return client.say("EHLO client.example")


@pytest.mark.parametrize("implicit", [False, True])
def test_a_pipelined_mail_is_taken_octet_for_octet(implicit: bool) -> None:
    with tls_server(implicit=implicit) as server, PlainClient(server.port) as client:
        assert under_tls(client, server).split("\n") == [
            f"250-{NAME}",
            *(f"250-{each}" for each in EXTENSIONS[:-1]),
            f"250 {EXTENSIONS[-1]}",
        ]
        envelope = ("MAIL FROM:<a@client.example> SIZE=9", "RCPT TO:<b@ours.example>", "RCPT TO:<c@ours.example>")
        assert client.say(*envelope, "DATA") == "354 go ahead"
        client.send(b"..\r\n.a\r\nb\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<d@ours.example>\r\nDATA\r\n")
        assert [client.reply()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        client.send(b".\r\nQUIT\r\n")
        assert [client.reply()[:3] for _ in range(2)] == ["250", "221"]
        with pytest.raises(EOFError):
            client.reply()
    assert server.mails == [
        TakenMail("a@client.example", ("b@ours.example", "c@ours.example"), b".\r\na\r\nb\r\n", True, ""),
        TakenMail("", ("d@ours.example",), b"", True, ""),
    ]
    assert server.session.in_clear == ([] if implicit else ["EHLO client.example", "STARTTLS"])
    assert server.session.ehlo_repeated
    assert server.specification == f"{'smtps' if implicit else 'smtp'}://127.0.0.1:{server.port}"


def test_commands_out_of_sequence_are_refused_and_tls_forgets_what_was_said() -> None:
    with tls_server() as server, PlainClient(server.port) as client:
        assert client.reply() == f"220 {NAME} ESMTP"
        for command in ("MAIL FROM:<>", "RCPT TO:<b@ours.example>", "DATA"):
            assert client.say(command).startswith("503")
        assert client.say("HELO client.example") == f"250 {NAME}"
        for command in ("RCPT TO:<b@ours.example>", "DATA"):
            assert client.say(command).startswith("503")
        assert client.say("MAIL FROM:<>").startswith("250")
        assert client.say("MAIL FROM:<>").startswith("503")
        assert client.say("RSET", "NOOP", "MAIL FROM:<>").startswith("250")
        assert client.say("BDAT 1").startswith("502")
        assert client.say("STARTTLS").startswith("220")
        client.start_tls(context_for(server), NAME)
        assert client.say("MAIL FROM:<>").startswith("503")
        assert client.say("STARTTLS").startswith("503")
    assert not server.session.ehlo_repeated


def test_capabilities_change_under_tls() -> None:
    with tls_server(ServerKind.CAPABILITIES_CHANGE) as server, PlainClient(server.port) as client:
        client.reply()
        offered = client.say("EHLO client.example").split("\n")[1:]
        assert [line[4:] for line in offered] == [*EXTENSIONS_IN_CLEAR, "STARTTLS"]
        assert client.say("MAIL FROM:<> SIZE=11").startswith("552")
        client.say("STARTTLS")
        client.start_tls(context_for(server), NAME)
        offered = client.say("EHLO client.example").split("\n")[1:]
        assert [line[4:] for line in offered] == list(EXTENSIONS_UNDER_TLS)
        assert client.say("MAIL FROM:<> SIZE=11").startswith("250")


def test_starttls_may_be_missing_or_refused_and_mail_goes_in_clear() -> None:
    for kind, code in ((ServerKind.NOT_OFFERED, "502"), (ServerKind.REFUSED_454, "454")):
        with tls_server(kind) as server, PlainClient(server.port) as client:
            client.reply()
            offered = client.say("EHLO client.example")
            assert ("STARTTLS" in offered) == (kind is ServerKind.REFUSED_454)
            assert client.say("STARTTLS").startswith(code)
            client.say("MAIL FROM:<a@client.example>", "RCPT TO:<b@ours.example>", "DATA")
            client.send(b"x\r\n.\r\n")
            assert client.reply().startswith("250")
        assert server.mails == [TakenMail("a@client.example", ("b@ours.example",), b"x\r\n", False, "")]
        assert not server.session.tls


def test_injected_octets_come_with_the_reply_to_starttls() -> None:
    with tls_server(ServerKind.INJECTED) as server, PlainClient(server.port) as client:
        client.reply()
        client.say("EHLO client.example")
        assert client.say("STARTTLS") == "220 go"
        assert client.unread == b"250 injected\r\n"
        client.start_tls(context_for(server), NAME)
        assert client.say("EHLO client.example").startswith("250")


def test_octets_before_the_go_ahead_are_recorded_and_thrown_away() -> None:
    with tls_server() as server, PlainClient(server.port) as client:
        client.reply()
        client.send(b"EHLO client.example\r\nSTARTTLS\r\nRSET\r\n")
        assert client.reply().startswith("250")
        assert client.reply().startswith("220")
        client.start_tls(context_for(server), NAME)
        assert client.say("NOOP").startswith("250")
    assert server.session.too_early == b"RSET\r\n"
    assert server.session.commands[-1] == Command("NOOP", True)


def test_logins_are_recorded_with_what_protected_them() -> None:
    with tls_server(logins=LOGINS, auth_required=True) as server, PlainClient(server.port) as client:
        client.reply()
        assert "AUTH" not in client.say("EHLO client.example")
        assert client.say("AUTH PLAIN x").startswith("530")
        client.say("STARTTLS")
        client.start_tls(context_for(server), NAME)
        assert "250 AUTH PLAIN LOGIN" in client.say("EHLO client.example")
        assert client.say("MAIL FROM:<>").startswith("530")
        assert client.say("AUTH CRAM-MD5").startswith("504")
        assert client.say("AUTH PLAIN no!").startswith("501")
        assert client.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert client.say("cmVsYXk=") == "334 UGFzc3dvcmQ6"
        assert client.say("d3Jvbmc=").startswith("535")
        assert client.say("AUTH PLAIN") == "334 "
        assert client.say(RIGHT).startswith("235")
        assert client.say(f"AUTH PLAIN {RIGHT}").startswith("503")
        client.say("MAIL FROM:<>", "RCPT TO:<b@ours.example>", "DATA")
        client.send(b".\r\n")
        client.reply()
    assert server.logins == [
        Login("LOGIN", "relay", "wrong", True, "535 5.7.8 wrong user name or password"),
        Login("PLAIN", "relay", "päss", True, "235 2.7.0 logged in"),
    ]
    assert server.mails[0].username == "relay"


def test_logins_may_be_offered_in_clear_or_not_at_all_or_answered_as_told() -> None:
    with tls_server(logins=LOGINS, auth_in_clear=True) as server, PlainClient(server.port) as client:
        client.reply()
        assert "AUTH PLAIN LOGIN" in client.say("EHLO client.example")
        assert client.say(f"AUTH PLAIN {RIGHT}").startswith("235")
    assert [login.tls for login in server.logins] == [False]
    with tls_server(logins=LOGINS, auth_offered=False, implicit=True) as server, PlainClient(server.port) as client:
        assert "AUTH" not in under_tls(client, server)
        assert client.say(f"AUTH PLAIN {RIGHT}").startswith("502")
        assert client.say("MAIL FROM:<>").startswith("250")
    with (
        tls_server(auth_offered=True, auth_reply=b"454 4.7.0 later", mechanisms=["LOGIN"], implicit=True) as server,
        PlainClient(server.port) as client,
    ):
        assert "250 AUTH LOGIN" in under_tls(client, server)
        assert client.say("AUTH LOGIN cmVsYXk=") == "334 UGFzc3dvcmQ6"
        assert client.say("cMOkc3M=") == "454 4.7.0 later"


def test_the_server_of_tls_1_1_really_speaks_it() -> None:
    with tls_server(ServerKind.TLS11_ONLY) as server, PlainClient(server.port) as client:
        context = context_for(server)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1_1
        client.reply()
        client.say("EHLO client.example")
        client.say("STARTTLS")
        client.start_tls(context, NAME)
        assert client.say("EHLO client.example").startswith("250")
    assert server.session.tls_version == "TLSv1.1"


@pytest.mark.parametrize("kind", sorted(STARTTLS_ONLY))
def test_kinds_about_starttls_have_no_implicit_form(kind: ServerKind) -> None:
    with pytest.raises(ValueError, match="makes no sense with implicit TLS"), tls_server(kind, implicit=True):
        pass


def test_nothing_is_left_running_whatever_clients_do() -> None:
    before = set(threading.enumerate())
    with tls_server() as server, tls_server(ServerKind.HANDSHAKE_CUT, implicit=True) as other:
        clients = [PlainClient(port) for port in (server.port, server.port, other.port)]
        clients[0].reply()
        clients[1].reply()
        clients[1].say("EHLO client.example")
        clients[1].say("STARTTLS")
    assert set(threading.enumerate()) == before
    for client in clients:
        client.socket.close()
    assert len(server.sessions) == 2
    assert server.sessions[0].handshake_fault == ""
    assert server.sessions[1].handshake_fault
