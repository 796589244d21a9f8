"""A vault that keeps what it is given, as the vendor's documents say; and the ways in which one misbehaves.

Written from "File Upload", the pages on its five steps, "Delete Group Transfer", "Delete A File" and "Download A
File" of the REST API of Vault (October 2019). Parameters come as header fields: 401 is one that is missing or
invalid, 403 a key that is wrong or not the owner's. What the documents leave open is marked `Open:`.
"""

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote
from uuid import UUID, uuid4

from support.http_servers import Request, Response

KEY = "f3I8Vss3cWAuh3EscB06QRDcQfMzHY"
OTHER_KEY = "b9T2Kqq1xLPmw7ZsdV48NJYgRtHcWu"
MOST_CHUNK = 100_000_000
_AFTER = re.compile(r"(\d{1,8}):(\d\d):(\d\d)(?::(\d\d))?")
_WELL = Response(200, {"result": "success"})


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class StoredFile:
    """One file of a group."""

    name: str
    """As it came in its header field."""
    size: int
    method: str
    octets: bytearray
    chunks: list[tuple[int, int]] = field(default_factory=list)
    """Offset and octets of each, in the order of coming."""
    whole: bool = False
    """Step 4 has been done."""

    def missing(self) -> bool:
        """Some octets have not come."""
        reached = 0
        for offset, length in sorted(self.chunks):
            if offset > reached:
                return True
            reached = max(reached, offset + length)
        # Open: whether a file of 0 octets needs a chunk.
        return reached < self.size or not self.chunks


@dataclass
class Group:
    """One transfer."""

    owner: str
    files: dict[str, StoredFile] = field(default_factory=dict)


@dataclass
class Visible:
    """A file after the last step."""

    owner: str
    file: StoredFile
    expires: float | None


@dataclass
class StatefulVault:
    """`answer` for `http_server`."""

    users: dict[str, str] = field(default_factory=lambda: {KEY: "gateway", OTHER_KEY: "somebody"})
    """By key."""
    hyphens: bool = False
    """Ids of groups are written with them, as the client does; MFT 3 writes none."""
    now: float = 0.0
    """Its clock, in seconds."""
    instead: Callable[[Request], Response | None] = lambda _: None
    """Answers, where it gives one, and nothing is done."""
    changed: Callable[[Request, Response], Response] = lambda _, response: response
    """Makes another answer of that to what has been done."""
    groups: dict[UUID, Group] = field(default_factory=dict)
    """Not visible yet."""
    files: dict[str, Visible] = field(default_factory=dict)
    path: str = "/vault_rest"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self) -> dict[str, bytes]:
        """What can be downloaded, by name as people would see it."""
        return {unquote(each.file.name): bytes(each.file.octets) for each in self.files.values() if self._there(each)}

    def nothing(self) -> bool:
        """Nothing is visible and nothing is left of any transfer."""
        return not self.groups and not self.names()

    def answer(self, request: Request) -> Response:
        """One request."""
        response = self.instead(request)
        if response is not None:
            return response
        with self._lock:
            try:
                response = self._done(request)
            except _Refused as refused:
                response = Response(refused.status, {"message": None, "ui_message_key": None})
        return self.changed(request, response)

    def _done(self, request: Request) -> Response:
        user = self._user(request)
        path = request.path.removeprefix(self.path)
        if path.startswith("/file/"):
            return self._file(request.method, user, path.removeprefix("/file/"))
        if (request.method, path) == ("GET", "/transfer"):
            return self._open(user, request)
        group = self._group(user, request)
        match request.method, path:
            case "GET", "/transfer_file":
                return self._open_file(self.groups[group], request)
            case "PATCH", "/transfer_file":
                return self._chunk(self._file_of(group, request), request)
            case "POST", "/transfer_file":
                file = self._file_of(group, request)
                if file.missing():
                    raise _Refused(400)
                file.whole = True
                return _WELL
            case "POST", "/transfer":
                return self._complete(group, request)
            case "DELETE", "/transfer":
                del self.groups[group]
                return _WELL
            case "DELETE", "/transfer_file":
                self._file_of(group, request)
                del self.groups[group].files[_given(request, "file_id")]
                return _WELL
            case _:
                raise _Refused(404)

    def _user(self, request: Request) -> str:
        if not request.path.startswith(self.path):
            raise _Refused(404)
        scheme, _, key = request.fields.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise _Refused(401)
        if key not in self.users:
            raise _Refused(403)
        return self.users[key]

    def _open(self, user: str, request: Request) -> Response:
        group = _uuid(request) if "group_id" in request.fields else uuid4()
        if group in self.groups:
            raise _Refused(400)  # Open: what a group gets that is there already.
        self.groups[group] = Group(user)
        return Response(200, {"group_id": str(group) if self.hyphens else group.hex, "owner": {"username": user}})

    def _group(self, user: str, request: Request) -> UUID:
        group = _uuid(request)
        if group not in self.groups:
            raise _Refused(404)
        if self.groups[group].owner != user:
            raise _Refused(403)
        return group

    def _open_file(self, group: Group, request: Request) -> Response:
        method, size = _given(request, "transfer_method"), _given(request, "file_size")
        if method not in ("Stream", "Chunk") or not size.isdigit():
            raise _Refused(401)
        file = uuid4().hex
        group.files[file] = StoredFile(_given(request, "file_name"), int(size), method, bytearray(int(size)))
        return Response(200, {"file_id": file})

    def _file_of(self, group: UUID, request: Request) -> StoredFile:
        file = self.groups[group].files.get(_given(request, "file_id"))
        if file is None:
            raise _Refused(404)
        return file

    def _chunk(self, file: StoredFile, request: Request) -> Response:
        if file.method == "Chunk" and "chunk_offset" not in request.fields:
            raise _Refused(401)
        offset = request.fields.get("chunk_offset", str(sum(length for _, length in file.chunks)))
        if not offset.isdigit():
            raise _Refused(401)
        start, length = int(offset), len(request.body)
        if str(length) != request.fields.get("content-length") or file.whole:
            raise _Refused(400)
        if length > MOST_CHUNK or start + length > file.size:
            raise _Refused(400)
        checksum = request.fields.get("chunk_checksum")
        if checksum is not None and checksum != hashlib.md5(request.body, usedforsecurity=False).hexdigest():
            raise _Refused(400)
        file.octets[start : start + length] = request.body
        file.chunks.append((start, length))
        return _WELL

    def _complete(self, group: UUID, request: Request) -> Response:
        files = self.groups[group].files
        if not all(each.whole for each in files.values()):
            raise _Refused(400)
        if {"expires", "expires_after"} <= request.fields.keys():
            raise _Refused(400)
        expires = self._expiry(request.fields.get("expires_after"))
        told = []
        for file_id, file in files.items():
            self.files[file_id] = Visible(self.groups[group].owner, file, expires)
            told.append(
                {
                    "file_id": file_id,
                    "file_url": f"http://vault.example:8010{self.path}/file/{file_id}",
                    "folder_url": "http://vault.example:8010/files/personal/folder/845fc3013bf049",
                }
            )
        del self.groups[group]
        return Response(200, {"files": told[::-1]})  # Open: in which order; so not in that of coming.

    def _expiry(self, after: str | None) -> float | None:
        if after is None:
            return None
        found = _AFTER.fullmatch(after)
        if found is None:
            raise _Refused(401)
        days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
        if days > 10_675_199 or hours > 23 or minutes > 59 or seconds > 59:
            raise _Refused(401)
        return self.now + 86400 * days + 3600 * hours + 60 * minutes + seconds

    def _there(self, visible: Visible) -> bool:
        return visible.expires is None or self.now < visible.expires

    def _file(self, method: str, user: str, file_id: str) -> Response:
        visible = self.files.get(file_id)
        if visible is None or not self._there(visible):
            raise _Refused(404)
        if visible.owner != user:
            raise _Refused(403)
        if method == "DELETE":
            del self.files[file_id]
            return _WELL
        return Response(200, octets=bytes(visible.file.octets))


def _given(request: Request, name: str) -> str:
    value = request.fields.get(name, "")
    if not value:
        raise _Refused(401)
    return value


def _uuid(request: Request) -> UUID:
    try:
        group = UUID(_given(request, "group_id"))
    except ValueError as error:
        raise _Refused(401) from error
    if group.version != 4:
        raise _Refused(401)
    return group
