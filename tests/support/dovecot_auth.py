"""What Postfix asks about logins where Dovecot would be: its authentication protocol 1.1, for PLAIN and LOGIN.

So Postfix itself speaks AUTH, and nothing is installed or configured for the whole machine.
"""

import asyncio
import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.limited_server import running

_GREETING = (
    "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
    "SPID\t1\nCUID\t1\nCOOKIE\t00112233445566778899aabbccddeeff\nDONE\n"
)


@dataclass
class DovecotAuth:
    """`logins`: passwords by user name."""

    logins: Mapping[str, str]
    tried: list[tuple[str, str]] = field(default_factory=list)
    """Mechanism and user name of each finished login."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_GREETING.encode())
        pending: dict[str, list[str]] = {}
        while line := (await reader.readline()).decode().rstrip("\n"):
            verb, *fields = line.split("\t")
            match verb, fields:
                case "AUTH", [number, "PLAIN", *more]:
                    response = next((each[5:] for each in more if each.startswith("resp=")), "")
                    _, username, password = _decoded(response).split("\0")
                    writer.write(self._decided(number, "PLAIN", username, password))
                case "AUTH", [number, "LOGIN", *_]:
                    pending[number] = []
                    writer.write(f"CONT\t{number}\t{_encoded('Username:')}\n".encode())
                case "CONT", [number, response]:
                    said = pending[number]
                    said.append(_decoded(response))
                    if len(said) == 1:
                        writer.write(f"CONT\t{number}\t{_encoded('Password:')}\n".encode())
                    else:
                        writer.write(self._decided(number, "LOGIN", *pending.pop(number)))
                case _:
                    pass  # VERSION and CPID of the client
            await writer.drain()
        writer.close()

    def _decided(self, number: str, mechanism: str, username: str, password: str) -> bytes:
        self.tried.append((mechanism, username))
        answer = "OK" if self.logins.get(username) == password else "FAIL"
        return f"{answer}\t{number}\tuser={username}\n".encode()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


@contextmanager
def dovecot_auth(logins: Mapping[str, str]) -> Iterator[tuple[DovecotAuth, int]]:
    """With its port; in a thread of this process."""
    server = DovecotAuth(logins)
    with running(server) as port:
        yield server, port
