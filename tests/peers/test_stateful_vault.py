"""The double of a vault is as the documents say, also where the client never goes."""

import hashlib
from typing import Any
from uuid import uuid4

import pytest

from support.http_servers import Request, Response
from support.stateful_vault import KEY, OTHER_KEY, StatefulVault

GROUP = str(uuid4())


class Asking:
    """One transfer, step by step."""

    def __init__(self) -> None:
        self.vault = StatefulVault()

    def ask(self, method: str, path: str, body: bytes = b"", key: str = KEY, **fields: str) -> Response:
        head = {"authorization": f"Bearer {key}", "content-length": str(len(body)), "group_id": GROUP, **fields}
        given = {name: value for name, value in head.items() if value}
        return self.vault.answer(Request(method, f"/vault_rest{path}", given, body))

    def open(self, size: int = 6, method: str = "Chunk") -> str:
        assert self.ask("GET", "/transfer").status == 200
        about: dict[str, Any] = {"file_name": "a", "file_size": str(size), "transfer_method": method}
        return str(_document(self.ask("GET", "/transfer_file", **about))["file_id"])

    def chunk(self, file: str, body: bytes, offset: str = "0", **fields: str) -> int:
        return self.ask("PATCH", "/transfer_file", body, file_id=file, chunk_offset=offset, **fields).status


def _document(response: Response) -> dict[str, Any]:
    assert response.status == 200
    assert isinstance(response.document, dict)
    return response.document


@pytest.fixture
def asking() -> Asking:
    return Asking()


def test_chunks_in_any_order_are_visible_after_the_last_step(asking: Asking) -> None:
    file = asking.open()
    assert asking.chunk(file, b"def", "3") == 200
    assert asking.ask("POST", "/transfer_file", file_id=file).status == 400
    assert asking.chunk(file, b"abc") == 200
    assert asking.ask("POST", "/transfer").status == 400
    assert asking.ask("POST", "/transfer_file", file_id=file).status == 200
    assert asking.ask("GET", f"/file/{file}").status == 404
    (told,) = _document(asking.ask("POST", "/transfer"))["files"]
    assert told["file_id"] == file
    assert asking.ask("GET", f"/file/{file}").body == b"abcdef"
    assert asking.ask("GET", f"/file/{file}", key=OTHER_KEY).status == 403
    assert asking.ask("DELETE", f"/file/{file}").status == 200
    assert asking.ask("GET", f"/file/{file}").status == 404


def test_a_chunk_that_cannot_be(asking: Asking) -> None:
    file = asking.open()
    well = hashlib.md5(b"abc", usedforsecurity=False).hexdigest()
    assert asking.chunk(file, b"abc", chunk_checksum=well) == 200
    assert asking.chunk(file, b"abd", chunk_checksum=well) == 400
    assert asking.chunk(file, b"abc", "4") == 400
    assert asking.chunk(file, b"abc", "x") == 401
    assert asking.chunk(file, b"abc", "") == 401
    assert asking.chunk(file, b"abc", **{"content-length": "4"}) == 400
    assert asking.chunk("another", b"abc") == 404


def test_a_stream_needs_no_offsets(asking: Asking) -> None:
    file = asking.open(method="Stream")
    assert [asking.chunk(file, each, "") for each in (b"ab", b"cdef")] == [200, 200]
    assert asking.ask("POST", "/transfer_file", file_id=file).status == 200
    asking.ask("POST", "/transfer")
    assert asking.vault.names() == {"a": b"abcdef"}


@pytest.mark.parametrize("gone", ["authorization", "group_id", "file_name", "file_size", "transfer_method"])
def test_a_missing_parameter_is_401(asking: Asking, gone: str) -> None:
    asking.open()
    about: dict[str, Any] = {"file_name": "a", "file_size": "1", "transfer_method": "Stream", gone: ""}
    assert asking.ask("GET", "/transfer_file", **about).status == 401


def test_only_the_owner_of_a_transfer_may_touch_it(asking: Asking) -> None:
    file = asking.open()
    for method, path in (("PATCH", "/transfer_file"), ("POST", "/transfer"), ("DELETE", "/transfer")):
        assert asking.ask(method, path, key=OTHER_KEY, file_id=file).status == 403
    assert asking.ask("POST", "/transfer", key="wrong").status == 403


def test_deleting_before_the_last_step(asking: Asking) -> None:
    file = asking.open()
    assert asking.ask("DELETE", "/transfer_file", file_id=file).status == 200
    assert asking.ask("POST", "/transfer_file", file_id=file).status == 404
    assert asking.ask("DELETE", "/transfer").status == 200
    assert asking.ask("DELETE", "/transfer").status == 404
    assert asking.vault.nothing()


@pytest.mark.parametrize(
    ("after", "status", "until"),
    [
        ("01:02:03:04", 200, 93784),
        ("1:02:03", 200, 93780),
        ("10675199:00:00:00", 200, 10675199 * 86400),
        ("10675200:00:00:00", 401, 0),
        ("01:24:00:00", 401, 0),
        ("30", 401, 0),
    ],
)
def test_expiry(asking: Asking, after: str, status: int, until: int) -> None:
    file = asking.open(0)
    asking.chunk(file, b"")
    asking.ask("POST", "/transfer_file", file_id=file)
    assert asking.ask("POST", "/transfer", expires_after=after, expires="2030-01-01").status == 400
    assert asking.ask("POST", "/transfer", expires_after=after).status == status
    asking.vault.now = until - 0.5
    assert bool(asking.vault.names()) == (status == 200)
    asking.vault.now = until
    assert not asking.vault.names()


def test_a_group_that_is_no_uuid_of_version_4(asking: Asking) -> None:
    assert asking.ask("GET", "/transfer", group_id="1").status == 401
    assert asking.ask("GET", "/transfer", group_id="2b6dea8f-2fed-19f5-a5bb-61c766394f45").status == 401
    assert asking.ask("GET", "/transfer", group_id="").status == 200
