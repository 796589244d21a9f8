"""An SMTP client that does what a test says, word by word, and blocks: for what a proper client never does."""

import socket
import ssl
from types import TracebackType


class PlainClient:
    """Its end of one connection to a port of loopback."""

    def __init__(self, port: int) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.unread = b""
        """What came behind the last reply."""

    def __enter__(self) -> "PlainClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def reply(self) -> str:
        """All lines of the next reply, each without CRLF, joined by LF. EOFError if the server has closed."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            while b"\r\n" not in self.unread:
                octets = self.socket.recv(65536)
                if not octets:
                    raise EOFError("closed by the server")
                self.unread += octets
            line, _, self.unread = self.unread.partition(b"\r\n")
            lines.append(line.decode())
        return "\n".join(lines)

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def say(self, *commands: str) -> str:
        """Sends the commands in one write and reads a reply to each; the last one is returned."""
        self.send("".join(f"{command}\r\n" for command in commands).encode())
        return [self.reply() for _ in commands][-1]

    def start_tls(self, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        """The handshake alone, without STARTTLS."""
        self.unread = b""
        wrapped = context.wrap_socket(self.socket, server_hostname=name)
        self.socket = wrapped
        return wrapped
