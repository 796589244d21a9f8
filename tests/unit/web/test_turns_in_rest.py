"""TEST in REST where many are asked for at once: two for each key, and a bounded wait for a turn."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from posthouse.core.profile_test import StageResult
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.profile_test import AT_ONCE, OF_ONE, ProfileTest
from posthouse.web.server import create_app
from support.rest import Rest, ScriptedTester

NEW = {"name": "new", "type": "smtp", "servers": ["10.0.0.9"]}
TESTS, PROFILES = "/api/v1/server-profile-tests", "/api/v1/server-profiles"


@dataclass
class Meddled(ScriptedTester):
    """Something happens while a test is under way."""

    meddle: Callable[[], object] = lambda: None

    async def test(self, *given: Any, **more: Any) -> tuple[StageResult, ...]:
        stages = await super().test(*given, **more)
        await asyncio.to_thread(self.meddle)
        return stages


def post(rest: Rest, test: ProfileTest, role: str, path: str) -> Any:
    app = create_app(replace(rest.tools, profile_test=test))
    headers = {"Authorization": f"Bearer {rest.secrets[role]}"}
    body = {} if path.endswith("/exchange/test") else NEW
    return TestClient(app, base_url="http://127.0.0.1:8025", headers=headers).post(path, json=body)


def test_a_key_has_two_tests_at_once_and_stops_nobody_else() -> None:
    rest, tester = Rest(), Meddled()
    test = ProfileTest({ServiceType.SMTP: tester})
    inner: list[Any] = []

    def meddle() -> None:
        if len(tester.tested) <= OF_ONE:
            inner.append(post(rest, test, "operator", TESTS))
        if len(tester.tested) == OF_ONE:
            inner.append(post(rest, test, "administrator", PROFILES))

    tester.meddle = meddle
    assert post(rest, test, "operator", TESTS).status_code == 200
    refused, saved, under_way = inner
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert (saved.status_code, under_way.status_code) == (201, 200)
    assert len(tester.tested) == OF_ONE + 1
    assert post(rest, test, "operator", TESTS).status_code == 200


@pytest.mark.parametrize("path", [TESTS, PROFILES, f"{PROFILES}/exchange/test"])
def test_without_a_turn_nothing_is_tested_saved_or_audited(path: str) -> None:
    rest = Rest()
    test = ProfileTest({ServiceType.SMTP: rest.tester}, turn_seconds=0.01)
    before = rest.inventory.revision(), list(rest.inventory.rows)

    async def go() -> Any:
        async with AsyncExitStack() as others:
            for number in range(AT_ONCE):
                await others.enter_async_context(test.turn(f"other {number}"))
            return await asyncio.to_thread(post, rest, test, "administrator", path)

    refused = asyncio.run(go())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert (rest.inventory.revision(), rest.inventory.rows) == before
    assert rest.tester.tested == []


def test_openapi_tells_of_503_where_servers_are_tested() -> None:
    paths = Rest().app().openapi()["paths"]
    operations = [
        paths[TESTS]["post"],
        paths[PROFILES]["post"],
        paths[f"{PROFILES}/{{name}}"]["put"],
        paths[f"{PROFILES}/{{name}}/test"]["post"],
    ]
    assert all({"429", "503"} <= set(operation["responses"]) for operation in operations)
