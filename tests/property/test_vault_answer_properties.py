"""Whatever a vault answers: it is read, or refused in one line; what is read can stand in a header or in a mail."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.core.http_ladder import Answer
from posthouse.core.vault_answer import Refusal, done, file_opened, group_opened, is_link, links

GROUP = "2b6dea8f-2fed-49f5-a5bb-61c766394f45"
_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=60),
    st.sampled_from([GROUP, "a", "b", "success", "http://vault.example/x", "http://vault.example/\r\n"]),
)
_names = st.sampled_from(["group_id", "file_id", "file_url", "files", "result"])
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=4)),
    max_leaves=10,
)
_bodies = st.one_of(st.binary(max_size=60), _values.map(lambda value: json.dumps(value).encode()))
_statuses = st.one_of(st.integers(100, 999), st.just(200))


@given(_statuses, _bodies, st.booleans())
@example(200, b"[" * 100_000, True)
@example(200, b'{"files": [{"file_id": "a", "file_url": "http://[/"}]}', True)
@example(200, b'{"group_id": 1e999, "file_id": NaN}', True)
@example(200, b'{"files": [{"file_id": {}, "file_url": []}]}', True)
@example(200, b'{"group_id": ' + b"9" * 5000 + b"}", True)
def test_every_answer_is_read_or_refused(status: int, body: bytes, whole: bool) -> None:
    answer = Answer(status, body, whole)
    file = file_opened(answer, ())
    urls = links(answer, ("a",))
    for found in (group_opened(answer, GROUP), file, done(answer), urls):
        if isinstance(found, Refusal):
            assert found.why.isprintable()
            assert len(found.why) < 300
        else:
            assert 200 <= status < 300
            assert whole
    if isinstance(file, str):
        assert file.isascii()
        assert file.isprintable()
        assert not set(file) & set("/ \r\n")
    if not isinstance(urls, Refusal):
        assert [is_link(url) for url in urls] == [True]


@given(st.text(max_size=60).map("http://vault.example/".__add__) | st.from_regex(r"https?://[^/]{0,20}/\w*"))
def test_a_link_ends_no_line_and_no_attribute(url: str) -> None:
    if is_link(url):
        assert url.isascii()
        assert url.isprintable()
        assert not set(url) & set(' <>"\\')
