"""ports.InventoryStore, Accounts, Commands and History, the same on SQLite and PostgreSQL."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import cast

import pytest
from sqlalchemy import func, select

from posthouse.core.fields import Secret
from posthouse.core.kept_act import KeptOptions, options_of, options_text
from posthouse.core.mail import MailId, RecipientState, TrailEntry
from posthouse.core.owner import Start
from posthouse.ports import (
    Acted,
    MailQuery,
    QueueCommand,
    RevisionConflict,
    SecretKeyUnusable,
    SecretUnreadable,
    ServerRows,
    ServerState,
    WorkerState,
)
from posthouse.storage import files, schema
from posthouse.storage.history import History
from posthouse.storage.open import SharedStore, open_shared
from posthouse.storage.secrets import Keyring
from posthouse.storage.spool import MailSpool
from support.flow import FakeClock, mail

NOW = 1_000_000.0
PROFILE = {"name": "exchange", "type": "smtp", "servers": ["smtp://10.0.0.1:25"]}
RULE = {"name": "inbound", "relay": {"profile": "exchange"}}


def test_a_change_of_the_inventory_bumps_its_revision_and_only_that_profile(shared: SharedStore) -> None:
    inventory = shared.inventory
    assert inventory.revision() == 0
    other = {**PROFILE, "name": "other"}
    assert inventory.replace([PROFILE, other], [RULE], expected_revision=0, by="op", now=NOW) == 1
    edited = {**other, "servers": ["smtp://10.0.0.9:25"]}
    assert inventory.replace([PROFILE, edited], [RULE], expected_revision=1, by="op", now=NOW) == 2
    stored = inventory.load()
    assert [(p.document["name"], p.revision) for p in stored.profiles] == [("exchange", 1), ("other", 2)]
    assert stored.rules == (RULE,)
    assert inventory.revision() == stored.revision == 2


def test_the_same_inventory_again_changes_nothing(shared: SharedStore) -> None:
    shared.inventory.replace([PROFILE], [RULE], expected_revision=0, by="op", now=NOW)
    assert shared.inventory.replace([PROFILE], [RULE], expected_revision=1, by="op", now=NOW) == 1
    assert len(shared.inventory.audit(10, None)) == 1


def test_the_order_of_profiles_says_nothing(shared: SharedStore) -> None:
    other = {**PROFILE, "name": "other"}
    assert shared.inventory.replace([PROFILE, other], [RULE], expected_revision=0, by="op", now=NOW) == 1
    assert shared.inventory.replace([other, PROFILE], [RULE], expected_revision=1, by="op", now=NOW) == 1


def test_a_change_is_audited_with_what_was_before_and_after(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.replace([PROFILE], [RULE], expected_revision=0, by="op", now=NOW)
    edited = {**PROFILE, "servers": ["smtp://10.0.0.9:25"]}
    inventory.replace([edited], [], expected_revision=1, by="key k (1)", now=NOW + 1, what="rule removed")
    (row, _) = inventory.audit(2, None)
    assert (row["at"], row["by"], row["what"]) == (NOW + 1, "key k (1)", "rule removed")
    assert row["detail"] == {
        "revision": 2,
        "changes": [
            {
                "change": "changed",
                "field": "server_profiles[exchange].servers[0]",
                "old": "smtp://10.0.0.1:25",
                "new": "smtp://10.0.0.9:25",
            },
            {"change": "removed", "field": "rules[inbound]", "old": RULE, "new": None},
        ],
    }


def test_a_new_secret_is_audited_as_set_before_and_after(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.replace([WITH_PASSWORD], [RULE], expected_revision=0, by="op", now=NOW, secrets=GIVEN)
    other = {"exchange": {"password": Secret("text", "another")}}
    inventory.replace([WITH_PASSWORD], [RULE], expected_revision=1, by="op", now=NOW, secrets=other)
    detail = cast(dict[str, object], inventory.audit(1, None)[0]["detail"])
    field = "server_profiles[exchange].password"
    assert detail["changes"] == [{"change": "changed", "field": field, "old": {"set": True}, "new": {"set": True}}]


CANARY = "canary-in-a-coal-mine"
WITH_PASSWORD = {**PROFILE, "username": "relay", "password": {"set": True}}
GIVEN = {"exchange": {"password": Secret("text", CANARY)}}


def test_of_a_secret_the_database_has_nothing_but_a_token(shared: SharedStore, data_dir: str) -> None:
    inventory = shared.inventory
    inventory.replace([WITH_PASSWORD], [RULE], expected_revision=0, by="op", now=NOW, secrets=GIVEN)
    (profile,) = inventory.load().profiles
    assert profile.document == WITH_PASSWORD
    assert shared.keyring.unseal(profile.secrets["password"].token) == CANARY
    with shared.database.read() as connection:
        rows = [row for table in schema.shared.sorted_tables for row in connection.execute(select(table))]
    assert CANARY not in str(rows)
    assert profile.secrets["password"].token in str(rows)
    key = (Path(data_dir) / "secret.key").read_text().strip()
    assert key not in str(rows)


def test_an_api_key_is_stored_as_a_password_is(shared: SharedStore) -> None:
    core = {"name": "Core", "type": "metadefender-core", "servers": ["http://h:8008"], "api_key": {"set": True}}
    given = {"core": {"api_key": Secret("text", CANARY)}}
    shared.inventory.replace([core], [], expected_revision=0, by="op", now=NOW, secrets=given)
    (profile,) = shared.inventory.load().profiles
    assert (profile.document, list(profile.secrets)) == (core, ["api_key"])
    assert shared.keyring.unseal(profile.secrets["api_key"].token) == CANARY
    with shared.database.read() as connection:
        assert CANARY not in str(connection.execute(select(schema.profile)).all())


def test_the_same_secret_again_changes_nothing_and_another_one_does(shared: SharedStore) -> None:
    inventory = shared.inventory
    for secrets in (GIVEN, GIVEN, None):
        revision = inventory.revision()
        kept = inventory.replace(
            [WITH_PASSWORD], [RULE], expected_revision=revision, by="op", now=NOW, secrets=secrets
        )
        assert kept == 1
    first = inventory.load().profiles[0]
    assert inventory.same_secret(first.secrets["password"], CANARY)
    assert not inventory.same_secret(first.secrets["password"], "other")
    other = {"exchange": {"password": Secret("text", "other")}}
    assert inventory.replace([WITH_PASSWORD], [RULE], expected_revision=1, by="op", now=NOW, secrets=other) == 2
    second = inventory.load().profiles[0]
    assert (first.revision, second.revision) == (1, 2)
    assert first.secrets != second.secrets
    assert shared.keyring.unseal(second.secrets["password"].token) == "other"
    assert inventory.replace([PROFILE], [RULE], expected_revision=2, by="op", now=NOW) == 3
    assert inventory.load().profiles[0].secrets == {}


def test_a_secret_goes_with_its_profile_to_another_name(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.replace([WITH_PASSWORD], [], expected_revision=0, by="op", now=NOW, secrets=GIVEN)
    kept = inventory.load().profiles[0].secrets
    renamed = {**WITH_PASSWORD, "name": "Relay"}
    inventory.replace([renamed], [], expected_revision=1, by="op", now=NOW, secrets={"relay": kept})
    (profile,) = inventory.load().profiles
    assert profile.document["name"] == "Relay"
    assert shared.keyring.unseal(profile.secrets["password"].token) == CANARY


def test_a_lost_key_is_replaced_only_when_every_secret_is_given_anew(shared: SharedStore, data_dir: str) -> None:
    inventory = shared.inventory
    second = {**WITH_PASSWORD, "name": "second"}
    both = {**GIVEN, "second": {"password": Secret("text", "other")}}
    inventory.replace([WITH_PASSWORD, second], [], expected_revision=0, by="op", now=NOW, secrets=both)
    (Path(data_dir) / "secret.key").unlink()
    lost = open_shared(data_dir, "sqlite" if shared.database.sqlite else _url(shared))
    try:
        with pytest.raises(SecretUnreadable):
            lost.keyring.unseal(inventory.load().profiles[0].secrets["password"].token)
        with pytest.raises(SecretKeyUnusable):
            lost.inventory.replace([WITH_PASSWORD, second], [], expected_revision=1, by="op", now=NOW, secrets=GIVEN)
        assert lost.inventory.revision() == 1
        lost.inventory.replace([WITH_PASSWORD, second], [], expected_revision=1, by="op", now=NOW, secrets=both)
        texts = [lost.keyring.unseal(p.secrets["password"].token) for p in lost.inventory.load().profiles]
        assert texts == [CANARY, "other"]
    finally:
        lost.close()


def test_a_rotation_encrypts_anew_and_leaves_profiles_as_they_are(shared: SharedStore, data_dir: str) -> None:
    inventory = shared.inventory
    inventory.replace([WITH_PASSWORD], [RULE], expected_revision=0, by="op", now=NOW, secrets=GIVEN)
    before = inventory.load()
    assert inventory.rotate_secrets(by="op", now=NOW).secrets == 1
    after = inventory.load()
    assert (after.revision, after.profiles, after.rules) == (2, before.profiles, before.rules)
    token = after.profiles[0].secrets["password"].token
    assert token != before.profiles[0].secrets["password"].token
    assert Keyring(data_dir, {}).unseal(token) == CANARY


class SlowCommit(files.SystemCalls):
    """files.calls whose first commit waits until `go_on`."""

    def __init__(self) -> None:
        self.committing, self.go_on = Event(), Event()

    def commit(self, transaction: files.Transaction, /) -> None:
        if not self.committing.is_set():
            self.committing.set()
            assert self.go_on.wait(20)
        super().commit(transaction)


def test_a_secret_stored_while_a_rotation_begins_is_encrypted_anew_with_the_others(
    shared: SharedStore, data_dir: str, database: str
) -> None:
    shared.inventory.replace([WITH_PASSWORD], [], expected_revision=0, by="op", now=NOW, secrets=GIVEN)
    rotating = open_shared(data_dir, database)
    real = files.calls
    slow = SlowCommit()
    try:
        with ThreadPoolExecutor(2) as threads:
            files.calls = slow
            other = {"exchange": {"password": Secret("text", "other")}}
            edit = threads.submit(
                shared.inventory.replace,
                [WITH_PASSWORD],
                [],
                expected_revision=1,
                by="op",
                now=NOW,
                secrets=other,
            )
            assert slow.committing.wait(20)
            rotation = threads.submit(rotating.inventory.rotate_secrets, by="op", now=NOW)
            with contextlib.suppress(TimeoutError):
                rotation.result(0.2)  # it must wait; if it does not, it has missed the secret that is coming
            slow.go_on.set()
            assert edit.result(20) == 2
            assert rotation.result(40).secrets == 1
        (profile,) = shared.inventory.load().profiles
        assert Keyring(data_dir, {}).unseal(profile.secrets["password"].token) == "other"
    finally:
        files.calls = real
        rotating.close()


def _url(shared: SharedStore) -> str:
    url = shared.database.engine.url.set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def test_a_change_on_top_of_another_is_refused(shared: SharedStore) -> None:
    shared.inventory.replace([PROFILE], [RULE], expected_revision=0, by="op", now=NOW)
    with pytest.raises(RevisionConflict):
        shared.inventory.replace([], [], expected_revision=0, by="op", now=NOW)
    assert len(shared.inventory.load().profiles) == 1


def test_of_two_changes_at_once_one_is_refused(data_dir: str, database: str) -> None:
    first, second = open_shared(data_dir, database), open_shared(data_dir, database)
    real = files.calls
    slow = SlowCommit()
    try:
        with ThreadPoolExecutor(2) as threads:
            files.calls = slow
            one = threads.submit(first.inventory.replace, [PROFILE], [], expected_revision=0, by="one", now=1.0)
            assert slow.committing.wait(20)
            two = threads.submit(
                second.inventory.replace, [{**PROFILE, "name": "other"}], [], expected_revision=0, by="two", now=2.0
            )
            with contextlib.suppress(TimeoutError):
                two.result(0.2)  # it must wait; if it does not, it has changed the same revision
            slow.go_on.set()
            assert one.result(20) == 1
            with pytest.raises(RevisionConflict):
                two.result(40)
        assert [p.document for p in first.inventory.load().profiles] == [PROFILE]
    finally:
        files.calls = real
        first.close()
        second.close()


def test_a_key_is_known_by_its_secret_until_it_is_revoked(shared: SharedStore, database: str) -> None:
    key, secret = shared.accounts.create_key(name="ci", role="operator", by="op", now=NOW)
    assert secret.startswith("ph_")
    found = shared.accounts.authenticate(secret)
    assert found is not None
    assert (found.id, found.role) == (key.id, "operator")
    assert shared.accounts.authenticate(secret + "x") is None
    assert shared.accounts.revoke_key(key.id, by="op", now=NOW)
    assert not shared.accounts.revoke_key(key.id, by="op", now=NOW)
    assert shared.accounts.authenticate(secret) is None
    known = shared.accounts.keys()
    assert [k.revoked_at for k in known] == [NOW]


def test_a_command_is_pending_for_each_worker_until_it_reports(shared: SharedStore) -> None:
    commands = shared.commands
    for worker in ("w0", "w1"):
        commands.heartbeat(WorkerState(worker, NOW, {"pid": 1}))
    made = commands.submit(QueueCommand(0, "retry", "op", (MailId("m1"),)), NOW)
    assert [c.id for c in commands.pending("w0", NOW - 1)] == [made]
    commands.report("w0", made, Acted(2, (MailId("m1"),)), NOW)
    assert commands.pending("w0", NOW - 1) == []
    assert [c.mails for c in commands.pending("w1", NOW - 1)] == [("m1",)]
    progress = commands.progress(made, NOW)
    assert (progress.expected, progress.reported, progress.recipients, progress.mails) == (2, 1, 2, ("m1",))


def test_passwords_of_a_command_are_in_no_row_in_clear(shared: SharedStore) -> None:
    target = options_text(KeptOptions(passwords=("canary-7f3a9d",), release_if_clean=True))
    made = shared.commands.submit(QueueCommand(0, "quarantine-rescan", "op", (MailId("m1"),), target=target), NOW)
    with shared.database.read() as connection:
        row = connection.execute(select(schema.command)).one()
    assert "canary" not in str(row)
    (given,) = shared.commands.pending("w0", NOW - 1)
    assert (given.id, given.target) == (made, target)
    (Path(shared.data_dir) / "secret.key").unlink()
    other = open_shared(shared.data_dir, shared.setting)
    (given,) = other.commands.pending("w0", NOW - 1)
    assert options_of(given.target) == KeptOptions()
    other.close()


def test_a_command_without_passwords_needs_no_key(shared: SharedStore) -> None:
    for kind, target in (("quarantine-rescan", options_text(KeptOptions(reason="x"))), ("reroute", "sealed:x")):
        shared.commands.submit(QueueCommand(0, kind, "op", (MailId("m1"),), target=target), NOW)
    assert [c.target for c in shared.commands.pending("w0", NOW - 1)] == ['{"reason": "x"}', "sealed:x"]
    assert not (Path(shared.data_dir) / "secret.key").exists()


def test_a_worker_without_a_fresh_heartbeat_does_not_count(shared: SharedStore) -> None:
    shared.commands.heartbeat(WorkerState("w0", NOW, {"sessions": 1}))
    shared.commands.heartbeat(WorkerState("w0", NOW + 1, {"sessions": 2}))
    assert [(w.at, w.facts) for w in shared.commands.workers(NOW + 2)] == [(NOW + 1, {"sessions": 2})]
    assert shared.commands.workers(NOW + 60) == []


def test_a_start_forgets_the_workers_of_its_nodes_earlier_starts(shared: SharedStore) -> None:
    commands = shared.commands
    for worker in ("a_b/0/one", "a_b/1/one", "axb/0/one"):
        commands.heartbeat(WorkerState(worker, NOW, {}))
    commands.begin(Start("a_b", "two"))
    assert [w.worker for w in commands.workers(NOW)] == ["axb/0/one"]
    made = commands.submit(QueueCommand(0, "retry", "op"), NOW)
    assert commands.progress(made, NOW).expected == 1


def row(worker: str, server: str, facts: Mapping[str, object], profile: str = "exchange") -> ServerState:
    return ServerState(worker, profile, server, NOW, facts)


def beat(shared: SharedStore, worker: str, at: float, *rows: ServerState, whole: bool = False) -> None:
    shared.commands.heartbeat(WorkerState(worker, at, {}), ServerRows(rows, all=whole))


def known(shared: SharedStore, now: float = NOW) -> list[tuple[str, str, str, object]]:
    return [(s.profile, s.server, s.worker, s.facts["in_use"]) for s in shared.commands.server_states(now)]


def rows_stored(shared: SharedStore) -> int:
    with shared.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(schema.server_state)) or 0


def test_a_worker_writes_the_rows_of_its_servers_that_changed(shared: SharedStore) -> None:
    refused = {"in_use": 0, "reason": "550 5.7.1 \0 \ud800 \N{SNOWMAN}"}
    beat(shared, "w1", NOW, row("w1", "a", refused), row("w1", "b", {"in_use": 1}), whole=True)
    beat(shared, "w0", NOW, row("w0", "a", {"in_use": 2}), row("w0", "c", {"in_use": 3}, "archive"), whole=True)
    assert known(shared) == [
        ("archive", "c", "w0", 3),
        ("exchange", "a", "w0", 2),
        ("exchange", "a", "w1", 0),
        ("exchange", "b", "w1", 1),
    ]
    assert shared.commands.server_states(NOW)[2] == row("w1", "a", refused)
    beat(shared, "w1", NOW + 1, row("w1", "b", {"in_use": 7}))
    beat(shared, "w0", NOW + 1)
    assert [in_use for *_, in_use in known(shared)] == [3, 2, 0, 7]


def test_rows_of_servers_that_a_worker_knows_no_longer_vanish(shared: SharedStore) -> None:
    beat(shared, "w0", NOW, row("w0", "a", {"in_use": 0}))
    beat(shared, "w1", NOW, row("w1", "a", {"in_use": 0}), row("w1", "b", {"in_use": 0}))
    beat(shared, "w1", NOW + 1, row("w1", "b", {"in_use": 1}), whole=True)
    assert known(shared) == [("exchange", "a", "w0", 0), ("exchange", "b", "w1", 1)]


def test_rows_of_a_worker_that_is_gone_are_not_told_and_later_removed(shared: SharedStore) -> None:
    beat(shared, "gone", NOW, row("gone", "a", {"in_use": 1}), whole=True)
    beat(shared, "w1", NOW + 15, row("w1", "a", {"in_use": 0}), whole=True)
    assert [worker for _, _, worker, _ in known(shared, NOW + 15)] == ["w1"]
    assert rows_stored(shared) == 2
    beat(shared, "w1", NOW + 61, row("w1", "a", {"in_use": 1}))
    assert rows_stored(shared) == 1


def test_many_servers_are_written_at_once(shared: SharedStore) -> None:
    beat(shared, "w0", NOW, *(row("w0", f"s{number:03d}", {"in_use": number}) for number in range(150)), whole=True)
    assert [in_use for *_, in_use in known(shared)] == list(range(150))


@pytest.fixture
def history(data_dir: str, database: str) -> Iterator[History]:
    """Six mails in two workers' stores; the youngest is held, the one before it failed."""

    async def main() -> None:
        clock = FakeClock(NOW)
        spools = [MailSpool(data_dir, database, f"node/{n}/b", clock, asyncio.get_running_loop()) for n in range(2)]
        for number in range(6):
            made = mail(f"user{number}@ours.example", at=NOW + number, subject=f"Subject {number}_%")
            state = {5: RecipientState.HELD, 4: RecipientState.FAILED}.get(number, RecipientState.QUEUED)
            made = replace(made, recipients=(replace(made.recipients[0], state=state, due_at=NOW + number),))
            future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            spools[number % 2].accept(made, (TrailEntry(NOW, "received", {}),), future.set_result)
            assert await future is None
        for spool in spools:
            await spool.close()

    asyncio.run(main())
    opened = History(data_dir, database)
    yield opened
    opened.close()


def subjects(history: History, query: MailQuery) -> list[str]:
    return [str(m["subject"])[8] for m in history.search(query)]


def test_mails_come_newest_first_page_by_page_over_all_stores(history: History) -> None:
    first = history.search(MailQuery(limit=4))
    assert [str(m["subject"])[8] for m in first] == ["5", "4", "3", "2"]
    assert subjects(history, MailQuery(limit=4, before=str(first[-1]["id"]))) == ["1", "0"]


def test_filters_must_all_match_and_take_no_wildcards(history: History) -> None:
    assert subjects(history, MailQuery(recipient="USER3@")) == ["3"]
    assert subjects(history, MailQuery(subject="4_%")) == ["4"]
    assert subjects(history, MailQuery(subject="%")) == ["5", "4", "3", "2", "1", "0"]
    assert subjects(history, MailQuery(subject="_5")) == []
    assert subjects(history, MailQuery(sender="outside.example", status="failed")) == ["4"]
    assert subjects(history, MailQuery(status="held")) == ["5"]
    assert subjects(history, MailQuery(status="queued")) == ["3", "2", "1", "0"]
    assert subjects(history, MailQuery(since=NOW + 2, until=NOW + 4)) == ["3", "2"]
    assert subjects(history, MailQuery(rule="INBOUND", recipient="user1")) == ["1"]
    assert subjects(history, MailQuery(rule="inbou")) == []


def test_the_queue_is_summed_up_by_next_hop(history: History) -> None:
    assert history.queue() == [{"profile": "exchange", "queued": 4, "held": 1, "oldest_at": NOW, "next_due": NOW}]


def test_one_mail_is_shown_whole_and_an_unknown_one_not_at_all(history: History) -> None:
    newest = history.search(MailQuery(limit=1))[0]
    whole = history.mail(str(newest["id"]))
    assert whole is not None
    assert whole["status"] == "held"
    assert [entry["kind"] for entry in whole["trail"]] == ["received"]  # type: ignore[attr-defined]
    assert whole["session"]["client_address"] == "192.0.2.1"  # type: ignore[index]
    assert history.mail("nobody") is None


def test_a_file_whose_worker_is_still_starting_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "mail-000.db").touch()
    starting = History(str(tmp_path), "sqlite")
    assert starting.search(MailQuery()) == []
    assert starting.queue() == []
    starting.close()


def test_mail_in_a_workers_memory_counts_as_queued(data_dir: str, database: str) -> None:
    async def main() -> None:
        spool = MailSpool(data_dir, database, "node/0/b", FakeClock(NOW), asyncio.get_running_loop())
        future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        spool.accept(mail("user@ours.example"), (), future.set_result)
        assert await future is None
        await spool.close()

    asyncio.run(main())
    opened = History(data_dir, database)
    assert [(row["queued"], row["held"], row["oldest_at"]) for row in opened.queue()] == [(1, 0, NOW)]
    opened.close()
