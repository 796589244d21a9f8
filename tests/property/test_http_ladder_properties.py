"""Whatever a server answers: a reading has facts that may be shown and one fault at most, and raises nothing."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.core import http_ladder
from posthouse.core.http_ladder import Answer, stranger

READINGS = [
    http_ladder.core_version,
    http_ladder.core_ready,
    http_ladder.core_engines,
    http_ladder.core_key,
    http_ladder.core_licence,
    http_ladder.vault_there,
    http_ladder.vault_key,
]
_names = st.sampled_from(
    ["version", "product_id", "license", "database", "status", "days_left", "expiration", "active", "canary"]
)
_leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=80), st.sampled_from(["ok", "expired"])
)
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=4)),
    max_leaves=8,
)
_bodies = st.one_of(st.binary(max_size=60), _values.map(lambda value: json.dumps(value).encode()))
_statuses = st.one_of(st.integers(100, 999), st.sampled_from([200, 400, 401, 403, 404, 405, 503]))


@given(_statuses, _bodies, st.booleans())
@example(200, b"[" * 100_000, True)
@example(503, b'{"license": {"status": {"status": 1}}, "database": 3}', True)
@example(200, b'{"days_left": true}', True)
@example(200, b'{"days_left": 1e400}', True)
def test_every_answer_is_read(status: int, body: bytes, whole: bool) -> None:
    for read in READINGS:
        facts, fault = read(Answer(status, body, whole))
        shown = json.dumps(facts)
        assert len(shown) < 3000
        assert len(fault) < 1000
        assert shown.isprintable()
        assert fault.isprintable()
        if 300 <= status < 400:
            assert "redirects" in fault
        if not whole:
            assert fault


@given(_bodies.filter(lambda body: b"version" not in body), _statuses)
def test_of_what_is_no_core_nothing_is_shown(body: bytes, status: int) -> None:
    facts, fault = http_ladder.core_version(Answer(status, body))
    assert facts == {}
    assert fault


@given(st.binary(max_size=8))
def test_only_what_begins_as_http_is_no_stranger(octets: bytes) -> None:
    assert (stranger(octets) == "") == octets.startswith(b"HTTP/")
