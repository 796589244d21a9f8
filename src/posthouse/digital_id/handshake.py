"""A handshake with a digital ID before it is in force, in memory: what no client can speak to is never shown."""

import ssl

_ROUNDS = 8
"""More than a handshake has."""


def handshake_fault(path: str) -> str:
    """Why a client of TLS, which verifies nothing, gets no connection with certificate and key (PEM) of that file;
    empty if it gets one. The words are those of OpenSSL."""
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path, password="")
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        _shake(client, server)
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)
    return ""


def _shake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Raises ssl.SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(_ROUNDS):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    if ends:
        raise ssl.SSLError("the handshake does not end")
