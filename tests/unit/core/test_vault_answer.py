"""Answers of a vault: what is read off them, and what of everything else becomes of an upload."""

import json

import pytest

from posthouse.core.http_ladder import Answer
from posthouse.core.vault_answer import NOT_KEPT, Refusal, done, file_opened, group_opened, is_link, links, refusal

GROUP = "2b6dea8f-2fed-49f5-a5bb-61c766394f45"
URL = "http://server:8000/vault_rest/file/"


def answer(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def kept(*files: str) -> Answer:
    return answer({"files": [{"file_id": file, "file_url": URL + file, "folder_url": "http://x/"} for file in files]})


# --- status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "again", "words"),
    [
        (302, False, "correct the server specification"),
        (400, False, "look in its log"),
        (401, False, "no matter of the API key"),
        (403, False, "wrong or has expired"),
        (404, False, "server specification"),
        (405, False, "405"),
        (408, True, "408"),
        (413, False, "8 MiB"),
        (417, True, "directory server"),
        (425, True, "425"),
        (429, True, "later"),
        (500, True, "500"),
        (503, True, "503"),
        (599, True, "599"),
    ],
)
def test_a_status_says_whether_to_try_again_or_what_to_mend(status: int, again: bool, words: str) -> None:
    for body in (b"", b'{"group_id": "x", "result": "success", "files": []}'):
        given = Answer(status, body)
        found = group_opened(given, GROUP)
        assert found is not None
        assert (found.again, words in found.why, str(status) in found.why) == (again, True, True)
        if status != 404:
            assert done(given) == file_opened(given, ()) == links(given, ()) == found


def test_a_transfer_that_the_vault_has_forgotten() -> None:
    given = Answer(404, b"")
    for found in (done(given), file_opened(given, ()), links(given, ())):
        assert found == Refusal("the vault knows the transfer no more (404)", again=True)


@pytest.mark.parametrize("opened", [False, True])
def test_a_success_is_no_refusal_unless_it_is_too_long(opened: bool) -> None:
    assert refusal(Answer(200, b""), opened=opened) is None
    assert refusal(Answer(204, b""), opened=opened) is None
    found = refusal(Answer(200, b"", whole=False), opened=opened)
    assert found is not None
    assert found.again


# --- steps 1 to 4 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [GROUP, GROUP.upper(), GROUP.replace("-", "")])
def test_the_group_that_was_asked_for_however_it_is_written(told: str) -> None:
    assert group_opened(answer({"group_id": told, "owner": {}}), GROUP) is None


@pytest.mark.parametrize(
    "document", [{}, [], {"group_id": None}, {"group_id": "x"}, {"group_id": GROUP[:-1] + "6"}, {"group_id": 7}]
)
def test_another_group_or_none_is_odd(document: object) -> None:
    found = group_opened(answer(document), GROUP)
    assert found is not None
    assert found.again


def test_the_id_of_a_file() -> None:
    assert file_opened(answer({"file_id": "e351401338b1420a9b56f32714b8804f"}), ()) == (
        "e351401338b1420a9b56f32714b8804f"
    )


@pytest.mark.parametrize(
    "told", [None, 1, "", "a b", "a\r\nAuthorization: x", "a/../b", "..", "é", "a" * 101, ["a"], "earlier"]
)
def test_an_id_that_cannot_be_is_odd(told: object) -> None:
    assert isinstance(file_opened(answer({"file_id": told}), ("earlier",)), Refusal)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"result": "success"}', b'{"result": "Success"}', b"\xff", b"[1]"])
def test_a_step_is_done(body: bytes) -> None:
    assert done(Answer(200, body)) is None


@pytest.mark.parametrize("body", [b'{"result": "failed"}', b'{"result": null}', b'{"result": 1}'])
def test_a_step_that_says_it_failed_has(body: bytes) -> None:
    assert done(Answer(200, body)) is not None


# --- step 5 ------------------------------------------------------------------------------------------


def test_links_are_in_the_order_of_the_files() -> None:
    assert links(kept("b", "a"), ("a", "b")) == (URL + "a", URL + "b")


@pytest.mark.parametrize(
    "odd",
    [
        kept(),
        kept("a"),
        kept("a", "c"),
        kept("a", "a"),
        kept("a", "b", "c"),
        kept("a", "b", "b"),
        answer({"files": {"a": 1}}),
        answer({"files": [{"file_id": "a", "file_url": URL}, {"file_id": "b"}]}),
        answer({"files": [{"file_id": "a", "file_url": URL}, {"file_id": "b", "file_url": 1}]}),
        answer({"files": [{"file_id": "a", "file_url": URL}, {"file_id": "b", "file_url": "javascript:a"}]}),
        answer({"files": [{"file_id": "a", "file_url": URL}, "b"]}),
        answer({"files": [{"file_id": ["a"], "file_url": URL}, {"file_id": "b", "file_url": URL}]}),
        answer([{"file_id": "a", "file_url": URL}, {"file_id": "b", "file_url": URL}]),
        Answer(200, b""),
        Answer(200, b"<html>logged in</html>"),
        Answer(200, b"[" * 100_000),
        Answer(200, b'{"files":' + b"[" * 100_000),
    ],
)
def test_anything_but_each_file_once_is_odd(odd: Answer) -> None:
    assert links(odd, ("a", "b")) == Refusal(NOT_KEPT, again=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://server:8000/vault_rest/file/e351",
        "HTTPS://vault.example/files?id=1&n=a%20b#top",
        "http://[2001:db8::1]:8010/x",
        "http://a.example/" + "x" * 1983,
    ],
)
def test_a_link(url: str) -> None:
    assert is_link(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http:///file",
        "ftp://vault.example/x",
        "javascript:alert(1)",
        "//vault.example/x",
        "http://vault.example/a b",
        "http://vault.example/\r\nX: y",
        "http://vault.example/\u202egpj.exe",
        'http://vault.example/"onmouseover="x',
        "http://vault.example/<script>",
        "http://user:word@vault.example/x",
        "http://bank.example@evil.example/",
        "http://vault.example:99999/x",
        "http://vault.example:0/x",
        "http://[::1/x",
        "http://vault.example/\n",
        "http://a.example/" + "x" * 1984,
    ],
)
def test_no_link_for_a_mail(url: str) -> None:
    assert not is_link(url)
