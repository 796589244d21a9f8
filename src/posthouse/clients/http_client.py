"""The one HTTP client of scan servers and vaults: httpx2 over connections that the profile's TLS settings hold for.

No redirect is followed, no proxy variable is read, no cookie is kept; every wait has a deadline, every body a bound.
Standards: RFC 9110; design 2.8, 2.11 and section 5.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

import httpcore2
import httpx2

from posthouse.clients.connecting import NoConnection
from posthouse.clients.http_stream import HttpStream, NoAnswer, TlsFailed
from posthouse.core.http_ladder import BROKEN, MOST_OCTETS, NO_ANSWER, NOT_ENDED, Answer

__all__ = ["Dial", "HttpClient", "NoAnswer", "NoConnection", "TlsFailed"]

Dial = Callable[[], Awaitable[HttpStream]]
"""Opens a connection to the one server of a client. Raises NoConnection and TlsFailed."""
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "posthouse"}
_DROPPED = (b"location", b"set-cookie")
"""Fields that nobody here is to act on; httpx2 looks at a redirect even where it does not follow it."""
_CONNECTIONS = 20
"""Open at once."""
_KEPT_SECONDS = 15.0
"""How long an idle connection is kept."""


class HttpClient:
    """Speaks to the server at `base` over connections of `dial`; a context manager."""

    def __init__(self, base: str, dial: Dial) -> None:
        self._base = base
        self._client = httpx2.AsyncClient(
            transport=_Transport(dial), headers=_HEADERS, timeout=None, trust_env=False, follow_redirects=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(
        self, path: str, headers: Mapping[str, str], seconds: float, most_octets: int = MOST_OCTETS
    ) -> Answer:
        """The answer to GET of a path after the base, whatever its status. `seconds` are for all of it.

        Raises NoAnswer, NoConnection and TlsFailed, each with one sentence.
        """
        begun = False
        body = bytearray()
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream("GET", self._base + path, headers=headers) as got,
            ):
                begun = True
                fields = {name.lower(): value for name, value in got.headers.items()}
                async for octets in got.aiter_raw():
                    await asyncio.sleep(0)  # a read may have brought hundreds of chunks of one octet
                    body += octets
                    if len(body) > most_octets:
                        return Answer(got.status_code, bytes(body[:most_octets]), whole=False, fields=fields)
                return Answer(got.status_code, bytes(body), fields=fields)
        except TimeoutError as error:
            raise NoAnswer(NOT_ENDED if begun else NO_ANSWER) from error
        except (httpcore2.ProtocolError, httpcore2.NetworkError) as error:
            raise NoAnswer(BROKEN) from error


class _Transport(httpx2.AsyncBaseTransport):
    """What httpx2's own does, over our connections."""

    def __init__(self, dial: Dial) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            # Never used, but without one a context with all CAs of the system would be made.
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
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
        return httpx2.Response(answer.status, headers=headers, stream=_Body(answer), request=request)

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
