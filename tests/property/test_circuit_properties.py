"""Whatever becomes of mails and probes, in any order: no hammering, one probe, one first mail; limits in range."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from posthouse.core import circuit, throttle
from posthouse.core.circuit import (
    Answered,
    CircuitState,
    Closed,
    Event,
    Faulted,
    Opened,
    Phase,
    ProbeAbandoned,
    ProbeAt,
    ProbeFailed,
    ProbeStarted,
    ProbeSucceeded,
    ProbeWanted,
    Served,
    SetOut,
    WakeOne,
    Withdrawn,
    admits,
    probe_due,
)

UNITS = st.floats(0, 1, exclude_max=True)
SECONDS = st.integers(0, 400)
PROBE_RESULTS = st.sampled_from([ProbeSucceeded(), ProbeFailed("probe"), ProbeAbandoned()])
BATTERED = CircuitState(0.0, Phase.OPEN, era=1, faults=3, waits=1, next_probe_at=10.0)


class Circuit(RuleBasedStateMachine):
    """A caller who keeps to the rules, with any number of mails under way and a clock that goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.state = CircuitState(since=0.0)
        self.now = 0.0
        self.mails: list[int] = []
        """Eras of the mails under way."""
        self.probes = 0
        self.faults_since_answer = 0
        """Of any era, failed probes included: at least as many as the circuit may count."""
        self.opened_since_delivery = 0

    def tell(self, event: Event, jitter: float = 0.0) -> None:
        before = self.state
        self.state, actions = circuit.step(before, event, self.now, jitter)
        kinds = [type(action) for action in actions]
        after = self.state
        assert (Opened in kinds) is (before.phase is not Phase.OPEN and after.phase is Phase.OPEN)
        assert (Closed in kinds) is (before.phase is not Phase.CLOSED and after.phase is Phase.CLOSED)
        assert (WakeOne in kinds) is (before.phase is not Phase.FIRST_AWAITED and after.phase is Phase.FIRST_AWAITED)
        if Opened in kinds:
            assert self.faults_since_answer >= 3 or before.phase is not Phase.CLOSED
            assert after.era == before.era + 1
            self.opened_since_delivery += 1
        else:
            assert after.era == before.era
        for action in actions:
            if isinstance(action, ProbeAt):
                self.check_wait(before, event, action.at)
        assert after.since == (self.now if after.phase is not before.phase else before.since)

    def check_wait(self, before: CircuitState, event: Event, at: float) -> None:
        assert self.state.phase is Phase.OPEN
        assert at == self.state.next_probe_at
        if isinstance(event, ProbeWanted):
            assert at == self.now
            return
        schedule = min(10 * 2 ** (self.state.waits - 1), 300)
        assert 0.8 * schedule <= at - self.now + 1e-6
        assert at - self.now <= schedule + 1e-6
        if not isinstance(event, ProbeAbandoned):
            assert self.state.waits == before.waits + 1

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: admits(self.state))
    @rule(count=st.integers(1, 5))
    def mails_set_out(self, count: int) -> None:
        for _ in range(count):
            if admits(self.state):
                self.mails.append(self.state.era)
                self.tell(SetOut())

    @precondition(lambda self: self.mails)
    @rule(data=st.data(), jitter=UNITS, count=st.integers(1, 4))
    def faults(self, data: st.DataObject, jitter: float, count: int) -> None:
        for _ in range(min(count, len(self.mails))):
            self.faults_since_answer += 1
            before, era = self.state, self.mail(data)
            self.tell(Faulted(era, "fault"), jitter)
            if before.phase is Phase.OPEN or era != before.era:
                assert self.state == before

    @precondition(lambda self: self.mails)
    @rule(data=st.data())
    def serves(self, data: st.DataObject) -> None:
        self.mail(data)
        self.tell(Served())
        self.faults_since_answer = self.opened_since_delivery = 0
        assert self.state.phase is Phase.CLOSED
        assert (self.state.waits, self.state.faults) == (0, 0)

    @precondition(lambda self: self.mails)
    @rule(data=st.data())
    def answers(self, data: st.DataObject) -> None:
        era, waits = self.mail(data), self.state.waits
        self.tell(Answered(era))
        if era == self.state.era:
            self.faults_since_answer = 0
        assert self.state.waits == waits

    @precondition(lambda self: self.mails)
    @rule(data=st.data())
    def mail_is_withdrawn(self, data: st.DataObject) -> None:
        self.tell(Withdrawn(self.mail(data)))

    @precondition(lambda self: probe_due(self.state, self.now, 30))
    @rule()
    def probe_starts(self) -> None:
        self.probes += 1
        self.tell(ProbeStarted())

    @precondition(lambda self: self.probes)
    @rule(result=PROBE_RESULTS, jitter=UNITS)
    def probe_ends(self, result: ProbeSucceeded | ProbeFailed | ProbeAbandoned, jitter: float) -> None:
        self.probes -= 1
        self.faults_since_answer += isinstance(result, ProbeFailed)
        self.tell(result, jitter)

    @rule()
    def operator_asks(self) -> None:
        self.tell(ProbeWanted())

    def mail(self, data: st.DataObject) -> int:
        """The era of a mail that ends now."""
        return self.mails.pop(data.draw(st.integers(0, len(self.mails) - 1)))

    @invariant()
    def there_is_never_a_second_probe(self) -> None:
        assert self.probes == int(self.state.probing) <= 1
        assert not (self.probes and probe_due(self.state, 1e12, 1))

    @invariant()
    def the_first_mail_goes_alone(self) -> None:
        """Of the era there is none under way before it and none beside it."""
        of_this_era = self.mails.count(self.state.era)
        match self.state.phase:
            case Phase.OPEN | Phase.FIRST_AWAITED:
                assert of_this_era == 0
            case Phase.FIRST_OUT:
                assert of_this_era == 1
            case Phase.CLOSED:
                pass

    @invariant()
    def an_open_circuit_comes_to_a_probe(self) -> None:
        if self.state.phase is Phase.OPEN:
            assert self.state.next_probe_at <= self.now + 300
            assert self.probes or probe_due(self.state, self.now + 300)

    @invariant()
    def the_back_off_counts_every_opening_since_the_last_delivery(self) -> None:
        assert self.state.waits >= self.opened_since_delivery


class OpenCircuit(Circuit):
    """As above from an open circuit with mails still under way: what happens rarely happens here at once."""

    def __init__(self) -> None:
        super().__init__()
        self.state = BATTERED
        self.mails = [0, 0, 0]
        self.faults_since_answer = 3
        self.opened_since_delivery = 1


TestCircuit = Circuit.TestCase
TestOpenCircuit = OpenCircuit.TestCase


@given(st.lists(SECONDS), UNITS)
def test_a_server_that_only_serves_is_never_closed_to_mail(pauses: list[int], jitter: float) -> None:
    state, now = CircuitState(since=0.0), 0.0
    for pause in pauses:
        now += pause
        for event in (SetOut(), Served()):
            state, actions = circuit.step(state, event, now, jitter)
            assert actions == ()
            assert admits(state)


@given(st.lists(UNITS, min_size=1, max_size=30))
def test_a_server_that_stays_dead_is_probed_ever_more_rarely_and_forever(jitters: list[float]) -> None:
    """Also if each probe succeeds and each first mail then fails."""
    for probe in (ProbeFailed("dead"), ProbeSucceeded()):
        state, now = BATTERED, 0.0
        for jitter in jitters:
            before = state.next_probe_at - now
            now = state.next_probe_at
            assert probe_due(state, now)
            state, _ = circuit.step(state, ProbeStarted(), now, jitter)
            state, _ = circuit.step(state, probe, now, jitter)
            if state.phase is Phase.FIRST_AWAITED:
                state, _ = circuit.step(state, SetOut(), now, jitter)
                state, _ = circuit.step(state, Faulted(state.era, "dead"), now, jitter)
            after = state.next_probe_at - now
            assert after <= 300 + 1e-6
            assert after > before or before > 239


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3), st.booleans()), max_size=60),
    st.integers(1, 60),
)
def test_the_limit_stays_between_one_and_its_ceiling(
    ceiling: int, history: list[tuple[int, int, bool]], mails: int
) -> None:
    state, now, changed = throttle.unthrottled(ceiling), 0.0, 0.0
    for pause, behind, throttled in history:
        now += pause
        before = state
        if throttled:
            state, actions = throttle.step(state, throttle.Throttled(state.generation - behind), now)
            assert state.limit == (before.limit if behind else max(1, before.limit // 2))
            assert bool(actions) is (state.limit < before.limit)
            changed = changed if behind else now
        else:
            for _ in range(mails):
                previous = state
                state, actions = throttle.step(state, throttle.Taken(), now)
                assert bool(actions) is (state.limit > previous.limit)
            assert state.limit <= before.limit + 1
            if state.limit > before.limit:
                assert now - changed >= 10
                changed = now
        assert 1 <= state.limit <= ceiling
        assert throttle.has_room(state, 0)
        assert not throttle.has_room(state, state.limit)
