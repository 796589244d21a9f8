"""Where a mail goes first now, against a naive walk of each worker from each start that is possible."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.addressed_now import Addressable, addressed_now
from posthouse.core.profile import Preference

SERVERS = ["a", "b", "c", "d"]
WORKERS = st.lists(
    st.dictionaries(st.sampled_from(SERVERS), st.sampled_from(["", "circuit open", "limit"])), max_size=3
)


@given(st.sampled_from(Preference), st.lists(st.sampled_from(SERVERS), min_size=1, unique=True), WORKERS)
def test_a_mail_goes_where_the_walk_of_some_worker_would_take_it(
    preference: Preference, listed: list[str], workers: list[dict[str, str]]
) -> None:
    now = addressed_now(preference, listed, workers)
    walks = [
        [*listed[start:], *listed[:start]]
        for start in (range(len(listed)) if preference is Preference.RANDOM_START else [0])
    ]
    firsts = [next((s for s in walk if not worker.get(s)), None) for worker in workers or [{}] for walk in walks]
    assert set(now.goes_to) == set(firsts) - {None}
    assert [one.server for one in now.servers] == listed
    assert ("waits" in now.sentence) == (None in firsts)
    for one in now.servers:
        told = [worker[one.server] for worker in workers if one.server in worker]
        may = [not why for why in told]
        expected = (
            Addressable.NOT_KNOWN
            if not may
            else Addressable.YES
            if all(may)
            else Addressable.SOME
            if any(may)
            else Addressable.NO
        )
        assert one.addressable is expected
        assert bool(one.why_not) == (expected in (Addressable.NO, Addressable.SOME))
        assert one.server not in now.goes_to or expected is not Addressable.NO or len(told) < len(workers)
