"""Memory for what examiners have made, of all mails whose scan is not over: beyond a bound no more mail is examined.

So many mails as are scanned at a time would otherwise hold as many times what one mail may unpack to.
"""

import asyncio

from posthouse.clients.examined import MadeOctets
from posthouse.scan_ports import ExaminerUnavailable


class MadeRoom:
    """Of one event loop. What the examiners that work at the moment make comes on top of the bound."""

    def __init__(self, octets: int) -> None:
        self._octets = octets
        self._held = 0
        self._freed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until there is room. Raises ExaminerUnavailable after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self._held >= self._octets:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError as error:
            raise ExaminerUnavailable("mail that is being scanned holds all memory for unpacked octets") from error

    def hold(self, made: MadeOctets) -> None:
        """Until they are closed."""
        size = made.size
        self._held += size

        def forget() -> None:
            self._held -= size
            self._freed.set()

        made.forgotten = forget
