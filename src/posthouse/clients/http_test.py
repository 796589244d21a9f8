"""The stages of a TEST that every service over HTTP has: resolve, connect, TLS, then questions with their readings.

Standards: design 2.11.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from posthouse.client_tls import TlsSettingsError
from posthouse.clients.connecting import NoConnection
from posthouse.clients.http_client import HttpClient
from posthouse.clients.http_key import api_key
from posthouse.clients.http_stream import (
    HttpStream,
    HttpWay,
    NoAnswer,
    TlsFailed,
    http_way_to,
    open_socket,
    open_stream,
)
from posthouse.clients.tested_addresses import Listeners, addresses_to_test, connected_to_test
from posthouse.clients.way import DigitalId, no_key
from posthouse.core.http_ladder import Answer, Facts
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import Inquiry, StageName, StageResult, Told, failed, unheard
from posthouse.ports import SecretUnreadable, Unseal


@dataclass(frozen=True, slots=True)
class Question:
    """One GET of a ladder and what its answer means."""

    stage: StageName
    path: str
    read: Callable[[Answer], Facts]
    with_key: bool = False
    """Asked with the API key, and only where the profile has one."""
    otherwise: "Question | None" = None
    """Asked instead where the server does not know the path (4yz)."""


class HttpTester:
    """`ports.ServerTester` of a service: `questions` in their order, the key in the field that `key_field` makes."""

    def __init__(
        self,
        questions: Sequence[Question],
        key_field: Callable[[str], tuple[str, str]],
        digital_id: DigitalId,
        listeners: Listeners,
        unseal: Unseal = no_key,
    ) -> None:
        """`key_field`: name and value of the header field for a key; `listeners`: where this node listens."""
        self._questions, self._key_field = questions, key_field
        self._digital_id, self._listeners, self._unseal = digital_id, listeners, unseal

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        """ports.ServerTester.test. The key is sent after the server has answered as what it should be, not before."""
        try:
            way = http_way_to(profile, server, self._digital_id)
        except TlsSettingsError as error:
            return (failed(StageName.TLS, 0.0, str(error)),)
        try:
            key = api_key(profile, self._unseal)
        except SecretUnreadable as error:
            return (failed(StageName.KEY, 0.0, str(error)),)
        climb = _Climb(way, seconds, told)
        resolved, addresses = await addresses_to_test(way.host, way.port, self._listeners, seconds)
        climb.add(resolved)
        if addresses and await climb.open(addresses):
            fields = dict([self._key_field(key)]) if key else {}
            await climb.ask([each for each in self._questions if key or not each.with_key], fields)
        return tuple(climb.stages)


class _Climb:
    """One server's test under way."""

    def __init__(self, way: HttpWay, seconds: float, told: Told) -> None:
        self._way = way
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + seconds
        self._address = ""
        self._opened: HttpStream | None = None
        """Not used yet."""
        self.stages: list[StageResult] = []

    def add(self, stage: StageResult) -> None:
        self.stages.append(stage)
        self._told(self.stages)

    def _left(self) -> float:
        return max(0.0, self._end - self._loop.time())

    async def open(self, addresses: Sequence[str]) -> bool:
        """The stages `connect` and, for https, `tls`."""
        stage, first = await connected_to_test(addresses, partial(open_socket, self._way.port), self._left())
        self.add(stage)
        if first is None:
            return False
        self._address = first.address
        began = self._loop.time()
        try:
            self._opened = await open_stream(self._way, first.connection, self._left())
        except TlsFailed as error:
            self.add(failed(StageName.TLS, self._loop.time() - began, str(error), error.facts))
            return False
        if self._way.policy is not None:
            self.add(StageResult(StageName.TLS, True, self._loop.time() - began, self._opened.tls))
        return True

    async def _dial(self) -> HttpStream:
        """The connection that the stages before have opened; a server that ends it gets another one."""
        opened, self._opened = self._opened, None
        if opened is None:
            opened = await open_stream(
                self._way, await open_socket(self._way.port, self._address, self._left()), self._left()
            )
        return opened

    async def ask(self, questions: Sequence[Question], key: Mapping[str, str]) -> None:
        """One stage for each question, until one fails."""
        try:
            async with HttpClient(self._way.base, self._dial) as client:
                for question in questions:
                    stage = await self._asked(client, question, key if question.with_key else {})
                    self.add(stage)
                    if not stage.ok:
                        return
        finally:
            if self._opened is not None:
                await self._opened.aclose()

    async def _asked(self, client: HttpClient, question: Question, key: Mapping[str, str]) -> StageResult:
        began = self._loop.time()
        transcript: list[str] = []
        try:
            answer = await self._answer(client, question, key, transcript)
            if question.otherwise is not None and 400 <= answer.status < 500:
                question = question.otherwise
                answer = await self._answer(client, question, key, transcript)
        except TlsFailed as error:
            # A client certificate is refused after the handshake has ended for us (TLS 1.3): it has failed.
            self.stages = [stage for stage in self.stages if stage.name is not StageName.TLS]
            return failed(StageName.TLS, self._loop.time() - began, str(error), error.facts)
        except (NoAnswer, NoConnection) as error:
            return failed(question.stage, self._loop.time() - began, str(error), transcript=tuple(transcript))
        facts, fault = question.read(answer)
        took = self._loop.time() - began
        if fault:
            return failed(question.stage, took, fault, facts, tuple(transcript))
        return StageResult(question.stage, True, took, facts, tuple(transcript))

    async def _answer(
        self, client: HttpClient, question: Question, key: Mapping[str, str], transcript: list[str]
    ) -> Answer:
        transcript.append(f"C: GET {question.path}")
        transcript.extend(f"C: {name}: ***" for name in key)
        answer = await client.get(question.path, key, self._left())
        transcript.append(f"S: {answer.status}, {len(answer.body)} octets{'' if answer.whole else ' and more'}")
        return answer
