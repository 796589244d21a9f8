"""The log warns of certificates that end at 30, 14 and 3 days, and every day from then on."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from posthouse import telemetry
from posthouse.core.certificate import facts_of
from posthouse.digital_id.authorities import Authorities
from posthouse.digital_id.endings import Ending
from posthouse.digital_id.store import DigitalIds, KeyType
from posthouse.web import expiry
from posthouse.web.expiry import LOOK_SECONDS, ExpiryWatch
from support.certificates import HOST, NOW, issuer, pem

DAY = 86400.0


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    structlog.reset_defaults()
    telemetry.configure("test")
    yield
    structlog.contextvars.clear_contextvars()


class Lines:
    """What the watch has said since it was last looked at."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self) -> list[tuple[str, int]]:
        read = [json.loads(line) for line in self._capture.readouterr().err.splitlines()]
        return [(line["level"], line["days_left"]) for line in read]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Lines:
    return Lines(capsys)


def test_each_stage_is_told_at_once_and_then_daily(tmp_path: Path, said: Lines) -> None:
    DigitalIds(str(tmp_path)).generate([HOST], 100, KeyType.ECDSA, NOW, replace=False)
    watch, end = ExpiryWatch(str(tmp_path)), NOW + 100 * DAY
    told: list[tuple[float, tuple[str, int]]] = []
    at = NOW
    while at < end + 2 * DAY:
        watch.look(at)
        told += [((end - at) / DAY, line) for line in said()]
        at += LOOK_SECONDS
    lefts = [left for left, _ in told]
    assert lefts[0] == 30.0
    assert {30.0, 14.0, 3.0, 0.0} <= set(lefts)
    gaps = [before - after for before, after in pairwise(lefts)]
    assert max(gaps) <= 1.0
    assert len(told) == 32
    assert [level for left, (level, _) in told] == ["warning" if left > 3 else "error" for left in lefts]


def test_a_start_tells_at_once_and_a_renewal_ends_it(tmp_path: Path, said: Lines) -> None:
    ids = DigitalIds(str(tmp_path))
    ids.generate([HOST], 10, KeyType.ECDSA, NOW, replace=False)
    watch = ExpiryWatch(str(tmp_path))
    watch.look(NOW)
    assert said() == [("warning", 10)]
    ids.renew(100, NOW, new_key=False)
    watch.look(NOW + 2 * DAY)
    assert said() == []
    ids.renew(5, NOW, new_key=False)
    watch.look(NOW + 2 * DAY)
    assert said() == [("error", 3)]


def test_own_cas_are_watched_too(tmp_path: Path, said: Lines) -> None:
    Authorities(str(tmp_path)).add(pem(issuer("Own", until=NOW + 2 * DAY).certificate), NOW)
    ExpiryWatch(str(tmp_path)).look(NOW)
    assert said() == [("error", 2)]


def test_a_file_that_cannot_be_read_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = Authorities(str(tmp_path))
    own.add(pem(issuer("Own").certificate), NOW)
    Path(own.path).write_bytes(b"broken")
    watch = ExpiryWatch(str(tmp_path))
    for _ in range(3):
        watch.look(NOW)
    assert capsys.readouterr().err.count("certificates of this node cannot be read") == 1


def test_the_watch_goes_on_whatever_it_meets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    DigitalIds(str(tmp_path)).generate([HOST], 1, KeyType.ECDSA, NOW, replace=False)
    watch = ExpiryWatch(str(tmp_path))

    def fails(_: str) -> list[Ending]:
        raise UnsupportedAlgorithm("of 2040")

    with monkeypatch.context() as patch:
        patch.setattr(expiry, "endings", fails)
        watch.look(NOW)
        watch.look(NOW)
    (line,) = capsys.readouterr().err.splitlines()
    assert "of 2040" in json.loads(line)["error"]
    watch.look(NOW)
    assert "certificate expires" in capsys.readouterr().err


def test_a_key_of_an_unknown_kind_is_shown_as_such(tmp_path: Path, said: Lines) -> None:
    made = issuer("Own", until=NOW + DAY).certificate.public_bytes(Encoding.DER)
    p_256, other = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030105")
    assert made.count(p_256) == 1
    unknown = x509.load_der_x509_certificate(made.replace(p_256, other))
    assert facts_of(unknown).key == "unknown"
    Authorities(str(tmp_path)).add(pem(unknown), NOW)
    ExpiryWatch(str(tmp_path)).look(NOW)
    assert said() == [("error", 1)]
