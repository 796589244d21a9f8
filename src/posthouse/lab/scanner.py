"""The demo's scanner: speaks clamd's INSTREAM and finds the EICAR test pattern in what it is shown.

It is no scanner: it knows one pattern. It stands in for a clamd where a newcomer has none.
Standards: clamd(8), commands PING, VERSION, INSTREAM, IDSESSION.
"""

import asyncio
import contextlib

# In two parts, so that no scanner finds it here.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_LARGEST_CHUNK = 64 * 1024 * 1024
_KEPT = len(EICAR)
_IDLE_SECONDS = 60.0


class DemoScanner:
    """Listens on loopback, port by chance."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self.port = 0
        self.scanned = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Commands with a NUL at their end, as posthouse sends them."""
        number, session = 0, False
        try:
            async with asyncio.timeout(None) as deadline:
                while True:
                    deadline.reschedule(asyncio.get_running_loop().time() + _IDLE_SECONDS)
                    command = (await reader.readuntil(b"\0"))[:-1].removeprefix(b"z")
                    if command in (b"IDSESSION", b"END"):
                        session = command == b"IDSESSION"
                        if not session:
                            return
                        continue
                    number += 1
                    answer = await self._answer(command, reader)
                    prefix = b"%d: " % number if session else b""
                    writer.write(prefix + answer + b"\0")
                    await writer.drain()
                    if not session:
                        return
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, or asks for nothing more
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, command: bytes, reader: asyncio.StreamReader) -> bytes:
        match command:
            case b"PING":
                return b"PONG"
            case b"VERSION":
                return b"ClamAV 0.0-demo"
            case b"INSTREAM":
                return await self._scan(reader)
            case _:
                return b"UNKNOWN COMMAND"

    async def _scan(self, reader: asyncio.StreamReader) -> bytes:
        found, before = False, b""
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            if size > _LARGEST_CHUNK:
                return b"INSTREAM size limit exceeded. ERROR"
            chunk = before + await reader.readexactly(size)
            found = found or EICAR in chunk
            before = chunk[-_KEPT:]
        self.scanned += 1
        return b"stream: Eicar-Test-Signature FOUND" if found else b"stream: OK"
