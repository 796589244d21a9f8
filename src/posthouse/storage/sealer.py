"""Sealing for the spool: in a thread of its own, through a sink, so that memory is bounded and the loop goes on."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from posthouse.core.mail import Content, InlineOctets
from posthouse.ports import ContentUnreadable
from posthouse.storage.content import FileSink, OpenFiles, Room
from posthouse.storage.quarantine_key import QuarantineKey
from posthouse.storage.reading import pieces
from posthouse.storage.sealing import sealed, unsealed


class Sealer:
    """One for each spool; one content at a time."""

    def __init__(self, key: QuarantineKey, folder: Path, open_files: OpenFiles) -> None:
        self._key = key
        self._folder = folder
        self._open_files = open_files
        self._room = Room()
        """Not that of the receiver, whose thread is another."""
        self._thread = ThreadPoolExecutor(1, "sealer")

    async def seal(self, content: Content) -> Content:
        """ports.Spool.seal."""
        if content.sealed:
            return content
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._seal, content)

    async def unseal(self, content: Content) -> Content:
        """ports.Spool.unseal."""
        if not content.sealed:
            return content
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._unseal, content)

    def _seal(self, content: Content) -> Content:
        key = self._key.get(make=True)
        assert key is not None
        return self._written(sealed(key, pieces(content)), is_sealed=True)

    def _unseal(self, content: Content) -> Content:
        key = self._key.get(make=False)
        if key is None:
            raise ContentUnreadable("what is in quarantine was sealed with a key that is not there")
        return self._written(unsealed(key, pieces(content)), is_sealed=False)

    def _written(self, octets: Iterable[bytes], *, is_sealed: bool) -> Content:
        sink = FileSink(self._folder, self._open_files, self._room)
        try:
            size = 0
            for piece in octets:
                sink.write(piece)
                size += len(piece)
            source = sink.close(size=size, header=b"", normalised=0).content.source
        except BaseException:
            sink.release()
            raise
        if isinstance(source, InlineOctets):
            sink.release()
        return Content(source, sealed=is_sealed)

    def close(self) -> None:
        """Waits for what is under way."""
        self._thread.shutdown(cancel_futures=True)
        self._key.close()
