"""Live rows: what they say of a server, and that only what changed is written."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from posthouse.core.outcome import RecipientResult, Result, Stage
from posthouse.core.profile import ServerProfile
from posthouse.mailflow.live import LiveRows
from posthouse.ports import ServerRows
from support.flow import FAULT, PERMANENT, RELAYED, A, B, C, Flow, flow, mail

YOU = "you@ours.example"
TLS = RecipientResult(Result.SERVER_FAULT, "certificate expired", "4.7.5", Stage.TLS)
LOGIN = RecipientResult(Result.SERVER_FAULT, "535 5.7.8 wrong password", "5.7.8", Stage.AUTH)
REST = {"phase": "closed", "reason": "", "since": 1_000_000.0, "next_probe": None, "faults": 0}


class Rows:
    """A worker's live rows and the profiles in force."""

    def __init__(self, made: Flow) -> None:
        self.flow = made
        self.idle = 0
        self.profiles: list[ServerProfile] = list(made.delivery.inventory.profiles.values())
        self.live = LiveRows("w/0", self.facts, made.clock)

    def facts(
        self, profile: ServerProfile, server: str, epoch: Callable[[float], float | None]
    ) -> Mapping[str, object]:
        return {**self.flow.delivery.servers.facts(profile, server, epoch), "pool": {"idle": self.idle}}

    def look(self) -> ServerRows:
        return self.live.look(self.profiles)

    def write(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Looks, and has what changed written."""
        rows = self.look()
        self.live.written(rows)
        return {(row.profile, row.server): row.facts for row in rows.rows}


def deliver(made: Flow, count: int) -> None:
    async def go() -> None:
        for _ in range(count):
            await made.run(mail(YOU))

    asyncio.run(go())


def test_at_first_every_server_has_a_row_and_what_an_earlier_process_left_goes() -> None:
    rows = Rows(flow())
    assert rows.look().all
    assert set(rows.write()) == {("exchange", A), ("exchange", B), ("exchange", C), ("other", C)}
    assert rows.look() == ServerRows()


def test_a_server_nobody_has_used_yet_is_at_rest() -> None:
    assert Rows(flow()).write()["exchange", A] == {
        "endpoint": REST,
        "identity": REST,
        "login_locked_until": None,
        "not_now": "",
        "in_use": 0,
        "limit": 20,
        "ceiling": 20,
        "relayed": 0,
        "served_at": None,
        "last_fault": "",
        "last_fault_at": None,
        "last_errors": [],
        "pool": {"idle": 0},
    }


def test_only_rows_that_changed_are_written_and_again_until_they_are() -> None:
    made = flow()
    rows = Rows(made)
    rows.write()
    made.clock.at += 5
    deliver(made, 3)
    for _ in range(2):  # the first time the database refused
        (row,) = rows.look().rows
        assert (row.worker, row.profile, row.server, row.at) == ("w/0", "exchange", A, 1_000_005.0)
        assert (row.facts["relayed"], row.facts["served_at"]) == (3, 1_000_005.0)
    rows.write()
    assert rows.look() == ServerRows()
    rows.idle = 1
    assert len(rows.look().rows) == 4


def test_an_open_circuit_is_told_with_reason_and_next_probe_and_its_end() -> None:
    made = flow({A: [FAULT] * 3})
    made.relay.probe_faults[A] = "no answer to connect within 10 s"
    rows = Rows(made)
    rows.write()
    deliver(made, 3)
    facts = rows.write()["exchange", A]
    assert facts["endpoint"] == {
        "phase": "open",
        "reason": "connection refused",
        "since": 1_000_000.0,
        "next_probe": 1_000_010.0,
        "faults": 3,
    }
    assert facts["identity"] == REST
    assert facts["not_now"] == "circuit open: connection refused"
    assert (facts["last_fault"], facts["last_fault_at"]) == ("connection refused", 1_000_000.0)

    async def probe(seconds: int) -> None:
        made.clock.at += seconds
        made.delivery.look_at_servers()
        for _ in range(5):
            await asyncio.sleep(0)
        await made.settle()

    asyncio.run(probe(10))
    facts = rows.write()["exchange", A]
    assert (facts["last_fault"], facts["last_fault_at"]) == ("no answer to connect within 10 s", 1_000_010.0)
    assert facts["endpoint"]["next_probe"] == 1_000_030.0
    made.relay.probe_faults.clear()
    asyncio.run(probe(20))
    assert rows.write()["exchange", A]["endpoint"]["phase"] == "half-open"
    deliver(made, 1)
    facts = rows.write()["exchange", A]
    assert (facts["endpoint"], facts["not_now"]) == ({**REST, "since": 1_000_030.0}, "")
    assert facts["last_fault"] == "no answer to connect within 10 s"


def test_faults_of_tls_and_logins_are_of_the_identity() -> None:
    made = flow({A: [TLS] * 3, B: [LOGIN]})
    rows = Rows(made)
    deliver(made, 3)
    found = rows.write()
    assert found["exchange", A]["endpoint"] == REST
    assert found["exchange", A]["identity"]["phase"] == "open"
    locked = found["exchange", B]
    assert (locked["login_locked_until"], locked["last_fault"]) == (1_000_900.0, "535 5.7.8 wrong password")
    assert locked["not_now"] == "the login was refused there and is left alone for 15 minutes"
    made.clock.at += 900
    assert rows.write()["exchange", B]["login_locked_until"] is None


def test_what_is_in_use_belongs_to_all_profiles_that_name_the_endpoint() -> None:
    made = flow({A: [PERMANENT], B: [RELAYED]}, per_server=2)
    rows = Rows(made)

    async def go() -> None:
        made.relay.gate = asyncio.Event()
        one = mail("x@other.example")
        one = replace(one, recipients=tuple(replace(r, profile="other") for r in one.recipients))
        for _ in range(2):
            made.delivery.enqueue(made.delivery.admit(one))
        for _ in range(5):
            await asyncio.sleep(0)
        found = rows.write()
        for profile in ("exchange", "other"):
            facts = found[profile, C]
            assert (facts["in_use"], facts["limit"], facts["not_now"]) == (
                2,
                2,
                "the limit of 2 open transactions is reached there",
            )
        made.relay.gate.set()
        await made.settle()

    asyncio.run(go())


def test_a_server_that_no_profile_names_any_more_takes_its_row_with_it() -> None:
    made = flow()
    rows = Rows(made)
    deliver(made, 2)
    rows.write()
    rows.profiles = [p for p in rows.profiles if p.name == "exchange"]
    made.delivery.servers.keep_only(rows.profiles)
    again = rows.look()
    assert again.all
    assert {(row.profile, row.server) for row in again.rows} == {("exchange", A), ("exchange", B), ("exchange", C)}
    assert again.rows[0].facts["relayed"] == 2
    rows.write()
    assert rows.look() == ServerRows()


def test_after_a_long_pause_all_rows_are_written_again() -> None:
    made = flow()
    rows = Rows(made)
    rows.write()
    made.clock.at += 15
    assert rows.look() == ServerRows()
    made.clock.at += 16
    assert rows.look().all
