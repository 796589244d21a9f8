"""One transfer to a vault: its five steps, and how it is dropped. Parameters travel as header fields.

1. GET /transfer opens a group; for each attachment 2. GET /transfer_file, 3. PATCH /transfer_file for each chunk,
4. POST /transfer_file; 5. POST /transfer makes all of them visible, and only now are there links.
Standards: REST API of Vault (October 2019), "File Upload"; design 3.
"""

import asyncio
from collections.abc import Mapping, Sequence

from posthouse.clients.http_client import HttpClient, HttpRequest, NoAnswer, NoConnection, TlsFailed, TooSlow
from posthouse.clients.vault_chunks import CHUNK_OCTETS, chunks
from posthouse.core.http_ladder import Answer
from posthouse.core.vault_answer import Refusal, done, file_opened, group_opened, links
from posthouse.core.vault_name import file_name
from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import Octets, ToUpload, Uploaded, UploadFailed

_GROUP, _FILE = "/transfer", "/transfer_file"
_TOO_SLOW = "the vault did not take the attachments within the time for it"


class Transfer:
    """Of one group; `end`: when its time is up, by the clock of the event loop."""

    def __init__(self, client: HttpClient, key: tuple[str, str], group: str, end: float) -> None:
        self._client, self._key, self._group, self._end = client, key, group, end
        self._files: list[str] = []
        """Ids, in the order of the attachments."""
        self._last_step = False
        """It has begun."""
        self.begun = False
        """The vault may have something of it."""

    async def carry_out(self, files: Sequence[ToUpload], expires_days: int) -> tuple[Uploaded, ...]:
        """Where the vault keeps them, in their order. Raises UploadFailed; then there is something to drop if
        `begun`."""
        await self._open()
        for file in files:
            try:
                await self._upload(file)
            except ContentUnreadable as error:
                raise UploadFailed(str(error), again=True) from error
        self._last_step = True
        expiry = {"expires_after": f"{expires_days:02}:00:00:00"} if expires_days else {}
        found = links(await self._ask("POST", _GROUP, expiry), self._files)
        if isinstance(found, Refusal):
            raise _failed(found)
        return tuple(Uploaded(file, url) for file, url in zip(self._files, found, strict=True))

    async def drop(self, client: HttpClient, end: float) -> bool:
        """Nothing of the group stays; False if the vault does not say so until `end`.

        Where the last step was under way the files may be visible already: then they are deleted one by one.
        """
        self._client, self._end = client, end
        try:
            group = await self._ask("DELETE", _GROUP)
            if not self._last_step:
                return _gone(group)
            files = [await self._ask("DELETE", f"/file/{file}") for file in self._files]
            return 200 <= group.status < 300 or all(_gone(each) for each in files)
        except UploadFailed:
            return False

    async def _open(self) -> None:
        try:
            answer = await self._ask("GET", _GROUP)
        except UploadFailed as failed:
            self.begun = not isinstance(failed.__cause__, NoConnection | TlsFailed)
            raise
        self.begun = answer.status < 300 or answer.status >= 500  # what is refused was not begun
        _demand(group_opened(answer, self._group))

    async def _upload(self, file: ToUpload) -> None:
        size = file.octets.size
        about = {
            "file_name": file_name(file.name),
            "file_size": str(size),
            "transfer_method": "Chunk" if size > CHUNK_OCTETS else "Stream",
        }
        opened = file_opened(await self._ask("GET", _FILE, about), self._files)
        if isinstance(opened, Refusal):
            raise _failed(opened)
        self._files.append(opened)
        same = {"file_id": opened}
        async for chunk in chunks(file.octets, file.md5):
            fields = {
                **same,
                # Needed for Chunk only, but a chunk that a lost connection sends twice is to be there once.
                "chunk_offset": str(chunk.offset),
                "chunk_checksum": chunk.md5,
                "Content-Type": "application/octet-stream",
            }
            _demand(done(await self._ask("PATCH", _FILE, fields, chunk)))
        _demand(done(await self._ask("POST", _FILE, same)))

    async def _ask(
        self, method: str, path: str, fields: Mapping[str, str] | None = None, body: Octets | None = None
    ) -> Answer:
        """Raises UploadFailed and, from the body, ContentUnreadable."""
        head = dict([self._key, ("group_id", self._group)], **(fields or {}))
        left = self._end - asyncio.get_running_loop().time()
        try:
            return await self._client.send(HttpRequest(method, path, head, body), max(left, 0.0))
        except TooSlow as error:
            raise UploadFailed(_TOO_SLOW, again=True) from error
        except (NoAnswer, NoConnection, TlsFailed) as error:
            raise UploadFailed(f"the vault cannot be asked: {error}", again=True) from error


def _gone(answer: Answer) -> bool:
    """What was to be deleted is, or was not there."""
    return 200 <= answer.status < 300 or answer.status == 404


def _demand(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise _failed(refusal)


def _failed(refusal: Refusal) -> UploadFailed:
    return UploadFailed(refusal.why, again=refusal.again)
