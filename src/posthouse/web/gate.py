"""Looks at every request before the app does: Host allow-list (DNS rebinding) and the size of the body."""

from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posthouse.settings import Address
from posthouse.web.problems import Problem, problem_response

BODY_OCTETS = 8 * 1024 * 1024
"""Longest request body."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class HostList:
    """Which names a Host field may carry.

    Loopback names, the console's own address and configured names; a console that listens beyond loopback may
    also be addressed by IP address, since rebinding needs a name that an attacker controls.
    """

    def __init__(self, console: Address, names: tuple[str, ...]) -> None:
        self._names = LOOPBACK_NAMES | {_normal(name) for name in (console.host, *names)}
        own = _address(_normal(console.host))
        self._addresses = own is not None and not own.is_loopback

    def allows(self, host: str) -> bool:
        """`host` is the value of the Host field, with or without port; IPv6 in brackets."""
        name, rest = _split(host)
        if rest and not (rest.startswith(":") and (rest[1:].isdigit() or rest == ":")):
            return False
        name = _normal(name)
        return name in self._names or (self._addresses and _address(name) is not None)


class Gate:
    """ASGI middleware. A body is counted while it is read: a false or absent Content-Length does not help."""

    def __init__(self, app: ASGIApp, hosts: HostList, limit: int = BODY_OCTETS) -> None:
        self._app = app
        self._hosts = hosts
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if not self._hosts.allows(headers.get(b"host", b"").decode("latin-1")):
            refusal = problem_response(HTTPStatus.MISDIRECTED_REQUEST, "This Host is not a name of the console.")
            await refusal(scope, receive, send)
            return
        stated = headers.get(b"content-length", b"")
        if stated.isdigit() and int(stated[:20]) > self._limit:
            refusal = problem_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
            await refusal(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
            return message

        await self._app(scope, counted, send)

    @property
    def _too_large(self) -> str:
        return f"A body may have {self._limit} octets at most."


def _split(host: str) -> tuple[str, str]:
    """Name and the rest (`:8025` or nothing)."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return (name, rest) if bracket else ("", "unclosed")
    name, colon, port = host.partition(":")
    return name, colon + port


def _normal(name: str) -> str:
    return name.strip("[]").lower().removesuffix(".")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
