"""The one HTTP client of scan servers and vaults: httpx2 over connections that the profile's TLS settings hold for.

No redirect is followed, no proxy variable is read, no cookie is kept; every wait has a deadline, every body a bound.
A body that is sent has a length and is never chunked: MetaDefender Core and Vault take no other.
Standards: RFC 9110; design 2.8, 2.11 and section 5.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpcore2
import httpx2

from posthouse.clients.connecting import NoConnection
from posthouse.clients.http_stream import HttpStream, NoAnswer, StaleConnection, TlsFailed, TooSlow
from posthouse.core.http_ladder import BROKEN, MOST_OCTETS, NO_ANSWER, NOT_ENDED, Answer
from posthouse.scan_ports import Octets

__all__ = ["Dial", "HttpClient", "HttpRequest", "NoAnswer", "NoConnection", "Sink", "TlsFailed", "TooSlow"]

Dial = Callable[[], Awaitable[HttpStream]]
"""Opens a connection to the one server of a client. Raises NoConnection and TlsFailed."""
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "posthouse"}
_DROPPED = (b"location", b"set-cookie")
"""Fields that nobody here is to act on; httpx2 looks at a redirect even where it does not follow it."""
Sink = Callable[[bytes], object]
"""Takes the body of an answer piece by piece. May raise OSError."""
_CONNECTIONS = 20
"""Open at once, unless a client is made for more; further requests wait for one of them."""
_KEPT_SECONDS = 15.0
"""How long an idle connection is kept."""
_STALE = 3
"""Kept connections that may prove closed by the server before one request gives up: each try uses one up."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked of the server. It may reach the server twice, where a kept connection proves closed."""

    method: str
    path: str
    """After the base."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Printable ASCII; a Content-Length is none of the caller's."""
    body: Octets | None = None


class HttpClient:
    """Speaks to the server at `base` over connections of `dial`; a context manager."""

    def __init__(self, base: str, dial: Dial, connections: int = _CONNECTIONS) -> None:
        self._base = base
        self._client = httpx2.AsyncClient(
            transport=_Transport(dial, connections),
            headers=_HEADERS,
            timeout=None,
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends its connections; what is under way over them fails."""
        await self._client.aclose()

    async def get(
        self, path: str, headers: Mapping[str, str], seconds: float, most_octets: int = MOST_OCTETS
    ) -> Answer:
        """`send` of a GET."""
        return await self.send(HttpRequest("GET", path, headers), seconds, most_octets)

    async def send(
        self, request: HttpRequest, seconds: float, most_octets: int = MOST_OCTETS, sink: Sink | None = None
    ) -> Answer:
        """The answer, whatever its status. `seconds` are for all of it.

        Of a body `most_octets` are read. With a `sink` the body of a 200 goes there and not into the answer; where
        more would come than `most_octets`, or the answer is not whole, what is in the sink is to be thrown away.
        Raises NoAnswer (TooSlow if the time was up), NoConnection and TlsFailed, each with one sentence; as they are,
        ContentUnreadable of the body sent and OSError of the sink.
        """
        head = dict(request.headers)
        if request.body is not None:
            head["Content-Length"] = str(request.body.size)
        begun = False
        try:
            async with asyncio.timeout(seconds) as deadline:
                for _ in range(_STALE):
                    try:
                        async with self._client.stream(
                            request.method,
                            self._base + request.path,
                            headers=head,
                            content=None if request.body is None else _sent(request.body),
                        ) as got:
                            begun = True
                            return await _answer(got, most_octets, sink)
                    except StaleConnection:
                        continue
                raise NoAnswer(BROKEN)
        except TimeoutError as error:
            if not deadline.expired():
                raise  # the sink's: it is an OSError, too
            raise TooSlow(NOT_ENDED if begun else NO_ANSWER) from error
        except (httpcore2.ProtocolError, httpcore2.NetworkError) as error:
            raise NoAnswer(BROKEN) from error


async def _sent(body: Octets) -> AsyncIterator[bytes]:
    for piece in body.pieces():
        yield bytes(piece)
        await asyncio.sleep(0)  # a connection that is lost is seen only now; others have their turn


async def _answer(got: httpx2.Response, most_octets: int, sink: Sink | None) -> Answer:
    fields = {name.lower(): value for name, value in got.headers.items()}
    to_sink = sink if got.status_code == 200 else None
    if to_sink is not None or most_octets > MOST_OCTETS:
        got.extensions["network_stream"].expect(most_octets)
    body = bytearray()
    octets_read = 0
    async for octets in got.aiter_raw():
        await asyncio.sleep(0)  # a read may have brought hundreds of chunks of one octet
        octets_read += len(octets)
        if octets_read > most_octets:
            over = octets_read - most_octets
            return Answer(got.status_code, bytes(body + octets[: len(octets) - over]), whole=False, fields=fields)
        if to_sink is not None:
            to_sink(octets)
        else:
            body += octets
    return Answer(got.status_code, bytes(body), fields=fields)


class _Transport(httpx2.AsyncBaseTransport):
    """What httpx2's own does, over our connections."""

    def __init__(self, dial: Dial, connections: int) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            # Never used, but without one a context with all CAs of the system would be made.
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=_Network(dial),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        headers = [(name, value) for name, value in answer.headers if name.lower() not in _DROPPED]
        extensions = {"network_stream": answer.extensions["network_stream"]}
        return httpx2.Response(
            answer.status, headers=headers, stream=_Body(answer), request=request, extensions=extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for octets in self._answer.aiter_stream():
            yield octets

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Network(httpcore2.AsyncNetworkBackend):
    """Whatever host a request names: there is one server only."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await self._dial()
