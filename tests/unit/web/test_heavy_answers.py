"""Explanations and replays that take long: nothing else waits for them, and each has an end."""

import asyncio
from threading import Event
from typing import Any

import httpx2

from posthouse.ports import StoredInventory
from posthouse.web import heavy, replays
from support.memory_stores import MemoryClock, MemoryInventory
from support.rest import Rest, mail

QUESTION: dict[str, Any] = {"client": "192.0.2.7", "from": "a@example.net", "to": ["b@ours.example"]}


class SlowInventory(MemoryInventory):
    """Loading takes until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = Event()
        self.slow = False

    def load(self) -> StoredInventory:
        assert not self.slow or self.go.wait(20)
        return super().load()


def test_readiness_and_login_do_not_wait_for_them_and_further_ones_are_refused() -> None:
    stored = SlowInventory()
    rest = Rest(inventory=stored)
    stored.slow = True
    fields = {"Authorization": f"Bearer {rest.secrets['auditor']}"}

    async def go(client: httpx2.AsyncClient) -> None:
        async def explained() -> httpx2.Response:
            return await client.post("/api/v1/rule-explanations", json=QUESTION)

        asked = [asyncio.create_task(explained()) for _ in range(45)]
        try:
            ended = asyncio.as_completed(asked)
            for _ in range(45 - heavy.AT_ONCE):
                answer = await next(ended)
                assert (answer.status_code, answer.headers["retry-after"]) == (429, str(heavy.RETRY_SECONDS))
                assert "under way" in answer.json()["detail"]
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/api/v1/keys")).status_code == 200
            assert (await client.post("/api/v1/rule-replays", json={"inventory": {}})).status_code == 429
        finally:
            stored.go.set()
        assert sorted([(await each).status_code for each in asked])[: heavy.AT_ONCE] == [200] * heavy.AT_ONCE
        assert (await explained()).status_code == 200

    async def whole() -> None:
        app = httpx2.ASGITransport(app=rest.app())
        async with (
            httpx2.AsyncClient(transport=app, base_url="http://127.0.0.1:8025", headers=fields) as client,
            asyncio.timeout(30),
        ):
            await go(client)

    asyncio.run(whole())


class HurryingClock(MemoryClock):
    """A second later each time somebody looks."""

    def monotonic(self) -> float:
        self.steady += 1
        return self.steady


def test_a_replay_ends_when_its_time_is_up_and_says_how_far_it_came() -> None:
    rest = Rest(clock=HurryingClock())
    rest.history.mails = [mail(number, rest.clock.now()) for number in range(50)]
    pruned = {"server_profiles": [{"name": "x", "type": "smtp", "servers": ["10.0.0.7"]}]}
    question = {"inventory": pruned, "prune": True, "mails": 100}
    told = rest.client("auditor").post("/api/v1/rule-replays", json=question).json()
    done = told["mails"]
    assert not told["complete"]
    assert 0 < done < replays.MOST_SECONDS
    assert (told["recipients"], told["mails_differ"], len(told["items"])) == (done, done, done)
    assert told["items"][-1]["received_at"] == told["since"]
    assert told["sentence"] == (
        f"Time was up: only the last {done} of up to 100 mails were looked at; "
        f"of these this file would treat {done} differently."
    )
    question["mails"] = 3
    assert rest.client("auditor").post("/api/v1/rule-replays", json=question).json()["complete"]


def test_openapi_tells_of_the_refusal() -> None:
    paths = Rest().client().get("/api/v1/openapi.json").json()["paths"]
    for path in ("rule-explanations", "rule-replays"):
        assert "Retry-After" in paths[f"/api/v1/{path}"]["post"]["responses"]["429"]["description"]
