"""The cache of verdicts is bounded."""

from posthouse.core.scan import Found, Verdict
from posthouse.mailflow.verdict_cache import CacheKey, VerdictCache
from support.flow import FakeClock


def key(number: int) -> CacheKey:
    return CacheKey("core", 1, "", sanitize=False, sha256=f"{number:064x}", kind="part", extension="")


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = VerdictCache(FakeClock(), entries=3)
    for number in (1, 2, 3):
        cache.keep(key(number), Found(Verdict.CLEAN), "a")
    assert cache.find(key(1)) is not None
    cache.keep(key(4), Found(Verdict.CLEAN), "a")
    assert [cache.find(key(number)) is not None for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert len(cache) == 3


def test_a_newer_verdict_takes_the_place_of_an_older() -> None:
    cache = VerdictCache(FakeClock())
    cache.keep(key(1), Found(Verdict.CLEAN), "a")
    cache.keep(key(1), Found(Verdict.BLOCKED, threat="x"), "b")
    assert cache.find(key(1)) == (Found(Verdict.BLOCKED, threat="x", cached=True), "b")
    assert len(cache) == 1


def test_what_has_expired_is_forgotten() -> None:
    clock = FakeClock()
    cache = VerdictCache(clock, seconds=10)
    cache.keep(key(1), Found(Verdict.CLEAN), "a")
    clock.at += 10
    assert cache.find(key(1)) is None
    assert len(cache) == 0


def test_a_verdict_does_not_live_on_by_being_reused() -> None:
    clock = FakeClock()
    cache = VerdictCache(clock, seconds=10)
    cache.keep(key(1), Found(Verdict.CLEAN), "a")
    clock.at += 9
    found = cache.find(key(1))
    assert found is not None
    cache.keep(key(1), *found)
    clock.at += 1
    assert cache.find(key(1)) is None
