"""Tests of server profiles that nobody has tested: those of files, once for each time they change.

One profile at a time, and of many nodes on one database one: who is to test claims the profile by its mark. What came
of it is the new mark, a row of the audit log and, where a server failed, a line of the log. Neither a start nor time
that passes tests anything again, but for one more attempt after a test that was interrupted: repeated logins lock
accounts. Touches no circuit: runs in the console process.
Standards: design 2.11.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from posthouse.core.kept_secret import with_secrets
from posthouse.core.profile import ServerProfile, parse_profile
from posthouse.core.profile_mark import Mark, MarkState, mark_of, refused_logins
from posthouse.core.profile_test import ProfileResult, summary_json
from posthouse.mailflow.profile_test import NoTurn, ProfileTest
from posthouse.ports import Clock, InventoryStore, StoredProfile
from posthouse.telemetry import logger

LOOK_SECONDS = 1.0
"""Between looks at the revision of the inventory."""
SPREAD_SECONDS = 2.0
"""Between two tests, so that a node with a large file does not knock at every door at once."""
CLAIM_SECONDS = 60.0
"""A claim that a node has seen for as long is of one that has ended in the middle of its test: a test takes 10 s. By
the seeing node's own monotonic clock: what the clocks of others say, and where one is set back, is no matter."""
ATTEMPTS = 2
"""Of testing one revision of a profile; the second where the first was interrupted."""
REFUSED_SECONDS = 900.0
"""For which a refused login is not tried again unasked, whatever else of its profile changes."""

P = ParamSpec("P")
T = TypeVar("T")

Login = tuple[str, str, str, str]
"""Server, user name, source and reference of the password."""

log = logger("profile tests")


class BackgroundTests:
    """The tests of one node; `node` is what its marks and audit rows call it."""

    def __init__(self, inventory: InventoryStore, profile_test: ProfileTest, clock: Clock, node: str) -> None:
        self._inventory = inventory
        self._profile_test = profile_test
        self._clock = clock
        self._node = node
        self._quiet = (-1, 0.0)
        """A revision of the inventory in which there is nothing to do, and until when (monotonic) that holds."""
        self._claims: dict[str, tuple[Mark, float]] = {}
        """By profile: the claim that is seen, and since when (monotonic)."""
        self._refused: dict[Login, float] = {}
        """Logins that a test of this process saw refused, and until when (monotonic) they are left alone."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            tested = False
            try:
                tested = await self.test_next()
            except Exception as error:
                log.error("shared database not reached", error=repr(error))
            await asyncio.sleep(SPREAD_SECONDS if tested else LOOK_SECONDS)

    async def test_next(self) -> bool:
        """Tests one profile that is due and that no other node tests; False if there is none, or no turn."""
        revision, until = self._quiet
        if revision == await _aside(self._inventory.revision) and self._clock.monotonic() < until:
            return False
        stored = await _aside(self._inventory.load)
        if self._due(stored.profiles):
            # The turn comes before the claim: who claims tests at once, and is done before the claim is over.
            try:
                async with self._profile_test.turn():
                    return await self._test_one()
            except NoTurn:
                return False
        over = [since + CLAIM_SECONDS for _, since in self._claims.values()]
        self._quiet = stored.revision, min((*over, *self._refused.values()), default=math.inf)
        return False

    async def _test_one(self) -> bool:
        stored = await _aside(self._inventory.load)
        for saved, profile in self._due(stored.profiles):
            attempts = saved.tested.attempts + 1 if saved.tested is not None else 1
            if attempts > ATTEMPTS:
                await self._give_up(saved, profile.name)
                continue
            now = self._clock.now()
            claim = Mark(MarkState.TESTING, now, self._node, revision=saved.revision, attempts=attempts)
            if await _aside(self._inventory.mark, profile.name, saved.tested, claim):
                await self._test(profile, claim)
                return True
        return False

    def _due(self, profiles: Iterable[StoredProfile]) -> list[tuple[StoredProfile, ServerProfile]]:
        """Those to be tested, with their secrets, as far as their type can be."""
        self._see(profiles)
        now = self._clock.monotonic()
        self._refused = {login: until for login, until in self._refused.items() if until > now}
        found = []
        for saved in profiles:
            mark = saved.tested
            if mark is None or not (mark.due or self._left(saved)):
                continue
            profile, _ = parse_profile(saved.document, "")
            if profile is None or profile.type not in self._profile_test.types:
                continue
            profile = with_secrets(profile, saved.secrets)
            if self._refused.keys().isdisjoint(_logins(profile, profile.server_texts)):
                found.append((saved, profile))
        return found

    def _see(self, profiles: Iterable[StoredProfile]) -> None:
        seen, now = self._claims, self._clock.monotonic()
        self._claims = {}
        for saved in profiles:
            if saved.tested is not None and saved.tested.state is MarkState.TESTING:
                claim, since = seen.get(_name(saved), (None, now))
                self._claims[_name(saved)] = saved.tested, since if claim == saved.tested else now

    def _left(self, saved: StoredProfile) -> bool:
        _, since = self._claims.get(_name(saved), (None, math.inf))
        return self._clock.monotonic() - since >= CLAIM_SECONDS

    async def _give_up(self, saved: StoredProfile, name: str) -> None:
        log.warning("server profile not tested: interrupted again and again", profile=name)
        mark = Mark(MarkState.FAILED, self._clock.now(), self._node, "interrupted", revision=saved.revision)
        await _aside(self._inventory.mark, name, saved.tested, mark)

    async def _test(self, profile: ServerProfile, claim: Mark) -> None:
        result: ProfileResult | None = None
        try:
            result = await self._profile_test.run(profile)
            mark = mark_of(result, at=self._clock.now(), by=self._node, revision=claim.revision)
        except Exception:
            # A bug of ours: told once, and not tried again every minute.
            log.exception("server profile not tested", profile=profile.name)
            now = self._clock.now()
            mark = Mark(MarkState.FAILED, now, self._node, "internal trouble", revision=claim.revision)
        finally:
            # Servers may have been logged in to, whatever became of the test.
            await asyncio.shield(_aside(self._note, profile.name, result, self._clock.now()))
        until = self._clock.monotonic() + REFUSED_SECONDS
        self._refused.update(dict.fromkeys(_logins(profile, refused_logins(mark)), until))
        # A profile that has been changed meanwhile has another mark already.
        await _aside(self._inventory.mark, profile.name, claim, mark)
        for server in mark.failed:
            log.warning(
                "server profile failed its test",
                profile=profile.name,
                server=server.server,
                stage=server.stage,
                fault=server.fault,
            )

    def _note(self, name: str, result: ProfileResult | None, now: float) -> None:
        detail = summary_json(name, result, as_saved=True)
        self._inventory.note(by=self._node, what="server profile tested", detail=detail, now=now)


def _name(saved: StoredProfile) -> str:
    return str(saved.document["name"])


def _logins(profile: ServerProfile, servers: Iterable[str]) -> list[Login]:
    secret = profile.password
    return [(server, profile.username, secret.source, secret.value) for server in servers] if secret else []


async def _aside(call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """On a thread: the stores of the console are synchronous."""
    return await asyncio.to_thread(call, *given, **named)
