"""Mail whose content is kept: quarantine and failed emails, taken by operators' commands; ports.Spool."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.core.mail import (
    GONE,
    Content,
    InlineOctets,
    Mail,
    QuarantineRow,
    RecipientState,
    ScanRow,
    TrailEntry,
    UploadRow,
    UploadState,
)
from posthouse.ports import (
    ContentUnreadable,
    Findings,
    KeptQuery,
    LeaseLost,
    MailQuery,
    Outcome,
    QueueCommand,
    SecretUnreadable,
)
from posthouse.storage import acting
from posthouse.storage.history import History
from posthouse.storage.open import SharedStore
from posthouse.storage.spool import MailSpool
from support.flow import mail
from support.storage import HELD, LARGE, NOW, TWO, YOU, Place, accept, changed, received, record, run

CANARY = b"canary-7f3a9d-of-the-plaintext"
DAY = 86400.0
ROW = QuarantineRow(NOW, "blocked", "Eicar-Test-Signature", "inbound", NOW + 30 * DAY)
SCAN = ScanRow(
    NOW, "inbound", "core", "http://10.0.1.1:8008", "1.2", "1.2", "a.zip", 70, "ab" * 32, "blocked", "Eicar",
    engines=(("ClamAV", "infected", "Eicar"),),
)  # fmt: skip
UPLOAD = UploadRow("inbound", "vault", "1.3", "large.iso", 5 << 20, UploadState.WAITING, NOW)
RELAYED, QUARANTINED, FAILED, QUEUED = (
    RecipientState.RELAYED,
    RecipientState.QUARANTINED,
    RecipientState.FAILED,
    RecipientState.QUEUED,
)


@pytest.fixture
def place(data_dir: str, database: str) -> Place:
    return Place(data_dir, database)


def octets_of(kind: str) -> bytes:
    base = {"inline": b"x\r\n.\r\n", "held": HELD, "file": LARGE}[kind]
    return b"Subject: " + CANARY + b"\r\n\r\n" + base


def read(content: Content) -> bytes:
    source = content.source
    return source.octets if isinstance(source, InlineOctets) else Path(source.path).read_bytes()[: source.size]


async def quarantined(spool: MailSpool, one: Mail, row: QuarantineRow = ROW, *states: RecipientState) -> Mail:
    """Accepts the mail and puts it into quarantine; `states` of its recipients, else all QUARANTINED."""
    await accept(spool, one)
    return await quarantine(spool, one, row, *states)


async def quarantine(spool: MailSpool, one: Mail, row: QuarantineRow = ROW, *states: RecipientState) -> Mail:
    sealed = await spool.seal(one.contents[0])
    after = replace(one, contents=(*one.contents, sealed))
    chosen = states or (QUARANTINED,) * len(one.recipients)
    recipients = tuple(replace(r, state=state) for r, state in zip(one.recipients, chosen, strict=True))
    findings = Findings((SCAN,), (UPLOAD,), row)
    await record(spool, Outcome(after, recipients, contents=((1, sealed),), findings=findings))
    return after


@pytest.mark.parametrize("kind", ["inline", "held", "file"])
def test_of_mail_in_quarantine_only_what_is_sealed_stays(place: Place, kind: str) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of(kind), YOU, TWO)
        await quarantined(spool, one)
        found = place.found(one.id)
        assert found["open"] in (False, 0)
        assert found["kept_since"] is None
        assert [(c["version"], bool(c["sealed"])) for c in found["contents"]] == [(1, True)]  # type: ignore[attr-defined]
        kept = await spool.take_kept(one.id, 1)
        assert kept is not None
        assert kept.quarantine == ROW
        assert kept.scans == (SCAN,)
        assert kept.uploads == (UPLOAD,)
        assert [r.state for r in kept.mail.recipients] == [QUARANTINED, QUARANTINED]
        assert kept.mail.contents[0] == GONE
        again = await spool.unseal(kept.mail.contents[1])
        assert read(again) == octets_of(kind)
        spool.discard(again)
        await spool.give_back(one.id)
        for folder, _, names in os.walk(Path(place.data_dir) / "content"):
            for name in names:
                assert CANARY not in (Path(folder) / name).read_bytes(), name
        await spool.close()

    run(main)


def contents(place: Place, one: Mail) -> list[tuple[int, bool]]:
    found = place.found(one.id)["contents"]
    assert isinstance(found, list)
    return [(content["version"], content["sealed"]) for content in found]


def files(place: Place) -> int:
    return sum(len(names) for _, _, names in os.walk(Path(place.data_dir) / "content"))


def test_a_command_is_carried_out_once_and_by_one_at_a_time(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of("inline"), YOU)
        await accept(spool, one)
        assert await spool.take_kept(one.id, 1) is None, "it is not kept yet"
        after = await quarantine(spool, one)
        kept = await spool.take_kept(one.id, 5)
        assert kept is not None
        assert await spool.take_kept(one.id, 6) is None, "somebody has it"
        await spool.give_back(one.id)
        kept = await spool.take_kept(one.id, 5)
        assert kept is not None, "it was given back, nothing recorded"
        await record(spool, Outcome(kept.mail, trail=(TrailEntry(NOW, "released", {"by": "ann"}),), command=5))
        for number in (4, 5):
            assert await spool.take_kept(one.id, number) is None, f"{number} comes too late"
        assert await spool.take_kept(one.id, 6) is not None
        await spool.give_back(one.id)
        assert contents(place, after) == [(1, True)]
        await spool.close()
        other = place.spool("node/1/boot")
        await other.take_back(NOW)
        assert await other.take_kept(one.id, 5) is None
        assert await other.take_kept(one.id, 6) is not None
        await other.close()

    run(main)


def test_a_kept_mail_that_another_worker_has_is_left_to_it(data_dir: str, database: str) -> None:
    if database == "sqlite":
        return  # no file has two workers
    place = Place(data_dir, database)

    async def main() -> None:
        spool, other = place.spool(), place.spool("other/0/boot", f"{data_dir}/other")
        one = received(spool, octets_of("file"), YOU)
        await quarantined(spool, one)
        kept = await other.take_kept(one.id, 1)
        assert kept is not None
        assert await spool.take_kept(one.id, 1) is None
        with pytest.raises(LeaseLost):
            await record(spool, Outcome(kept.mail, forget=True, command=1))
        await record(other, Outcome(kept.mail, forget=True, command=1))
        assert place.found(one.id)["contents"] == []
        for one_of_them in (spool, other):
            await one_of_them.close()

    run(main)


@pytest.mark.parametrize("kind", ["inline", "held", "file"])
def test_a_release_is_a_mail_of_its_own_with_the_content_as_it_came(place: Place, kind: str) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of(kind), YOU)
        await quarantined(spool, one)
        kept = await spool.take_kept(one.id, 1)
        assert kept is not None
        content = await spool.unseal(kept.mail.contents[1])
        released = replace(mail(YOU), contents=(content,))
        entry = TrailEntry(NOW, "generated", {"for": one.id})
        await record(spool, Outcome(kept.mail, generated=((released, (entry,)),), command=1))
        await record(spool, Outcome(released, changed(released, QUEUED, due_at=NOW)))
        (taken,) = await spool.take_due("exchange", NOW, 10, 1 << 30)
        assert read(taken.contents[0]) == octets_of(kind)
        assert contents(place, one) == [(1, True)]
        await record(spool, Outcome(taken, changed(taken, RELAYED)))
        await spool.close()
        assert files(place) == (1 if place.database == "sqlite" and kind != "inline" else 0)

    run(main)


def test_what_is_forgotten_leaves_history(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of("file"), YOU)
        await quarantined(spool, one)
        kept = await spool.take_kept(one.id, 1)
        assert kept is not None
        entry = TrailEntry(NOW, "forgotten", {"by": "ann", "why": "deleted"})
        await record(spool, Outcome(kept.mail, trail=(entry,), command=1, forget=True))
        found = place.found(one.id)
        assert (found["contents"], found["quarantine"], found["kept_since"]) == ([], None, None)
        assert len(found["scans"]) == 1  # type: ignore[arg-type]
        assert place.states(one.id) == ["quarantined"]
        assert place.trail(one.id)[-1] == "forgotten"
        assert files(place) == 0
        assert await spool.take_kept(one.id, 2) is None
        await spool.close()

    run(main)


def test_of_mail_that_is_under_way_too_only_what_is_sealed_is_forgotten(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of("file"), YOU, TWO)
        await quarantined(spool, one, ROW, QUARANTINED, RecipientState.ACTIVE)
        assert contents(place, one) == [(0, False), (1, True)]
        kept = await spool.take_kept(one.id, 1)
        assert kept is not None
        assert [r.state for r in kept.mail.recipients] == [QUARANTINED, RecipientState.ACTIVE]
        # The other recipient's attempt ends first: the command goes on.
        await record(spool, Outcome(one, (replace(one.recipients[1], state=QUEUED, due_at=NOW),)))
        assert await spool.take_due("other", NOW, 10, 1 << 30) == []
        await record(spool, Outcome(kept.mail, command=1, forget=True))
        assert contents(place, one) == [(0, False)]
        (taken,) = await spool.take_due("exchange", NOW, 10, 1 << 30)
        assert read(taken.contents[0]) == octets_of("file")
        await record(spool, Outcome(taken, (replace(taken.recipients[0], state=RELAYED),)))
        assert contents(place, one) == []
        assert files(place) == 0
        await spool.close()

    run(main)


@pytest.mark.parametrize("kind", ["inline", "file"])
def test_a_failed_recipient_keeps_all_and_its_end_leaves_what_is_sealed(place: Place, kind: str) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of(kind), YOU, TWO)
        await quarantined(spool, one, ROW, QUARANTINED, FAILED)
        assert contents(place, one) == [(0, False), (1, True)]
        assert await spool.purge(NOW + 15 * DAY, 14 * DAY) == 1
        assert contents(place, one) == [(1, True)]
        acted = await spool.act(QueueCommand(1, "retry", "ann", (one.id,)), NOW + 15 * DAY)
        assert acted.recipients == 0, "its content is gone"
        kept = await spool.take_kept(one.id, 2)
        assert kept is not None
        await record(spool, Outcome(kept.mail, findings=Findings(quarantine=replace(ROW, pinned=True)), command=2))
        assert place.found(one.id)["kept_since"] is None
        await spool.close()

    run(main)


def test_a_pin_of_a_failed_email_does_not_keep_the_rest_for_longer(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of("inline"), YOU, TWO)
        await quarantined(spool, one, ROW, QUARANTINED, FAILED)
        place.clock.at = NOW + 5 * DAY
        kept = await spool.take_kept(one.id, 1)
        assert kept is not None
        await record(spool, Outcome(kept.mail, findings=Findings(quarantine=replace(ROW, pinned=True)), command=1))
        assert place.found(one.id)["kept_since"] == NOW
        await spool.take_kept(one.id, 2)
        await spool.give_back(one.id)
        assert place.found(one.id)["kept_since"] == NOW
        await spool.close()

    run(main)


def test_what_has_expired_goes_unless_it_is_pinned_or_in_use(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        late, pinned, used = [received(spool, octets_of("file"), YOU) for _ in range(3)]
        soon = replace(ROW, expires_at=NOW + 10)
        await quarantined(spool, late, soon)
        await quarantined(spool, pinned, replace(soon, pinned=True))
        await quarantined(spool, used, soon)
        assert await spool.take_kept(used.id, 1) is not None
        assert await spool.purge(NOW + 9, 0) == 0
        assert await spool.purge(NOW + 11, 0) == 1
        assert place.found(late.id)["quarantine"] is None
        assert contents(place, late) == []
        assert place.trail(late.id)[-1] == "forgotten"
        assert contents(place, pinned) == contents(place, used) == [(1, True)]
        await spool.give_back(used.id)
        assert await spool.purge(NOW + 11, 0) == 1
        assert contents(place, used) == []
        await spool.close()
        assert files(place) == (1 if place.database == "sqlite" else 0)

    run(main)


def test_a_long_quarantine_is_purged_some_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "AT_ONCE", 2)

    async def main() -> None:
        spool = place.spool()
        for _ in range(5):
            await quarantined(spool, received(spool, octets_of("inline"), YOU), replace(ROW, expires_at=NOW))
        assert await spool.purge(NOW + 1, 0) == 5
        await spool.close()

    run(main)


def test_mail_deleted_from_the_queue_leaves_what_is_sealed(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of("inline"), YOU, TWO)
        await quarantined(spool, one, ROW, QUARANTINED, QUEUED)
        await spool.act(QueueCommand(1, "delete", "ann", (one.id,)), NOW)
        assert place.states(one.id) == ["quarantined", "deleted"]
        assert contents(place, one) == [(1, True)]
        await spool.close()

    run(main)


@pytest.mark.parametrize("kind", ["inline", "held", "file"])
def test_before_acceptance_what_is_refused_or_discarded_leaves_history_only(place: Place, kind: str) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of(kind), YOU, TWO)
        states = (RecipientState.REJECTED, RecipientState.DISCARDED)
        recipients = tuple(replace(r, state=s) for r, s in zip(one.recipients, states, strict=True))
        await accept(spool, replace(one, recipients=recipients), findings=Findings((SCAN,)))
        spool.discard(one.contents[0])
        found = place.found(one.id)
        assert (found["contents"], found["kept_since"], found["verdict"]) == ([], None, "blocked")
        assert place.states(one.id) == ["rejected", "discarded"]
        both = received(spool, octets_of(kind), YOU)
        sealed = await spool.seal(both.contents[0])
        both = replace(both, contents=(*both.contents, sealed), recipients=changed(both, QUARANTINED))
        await accept(spool, both, findings=Findings((SCAN,), (), ROW))
        spool.discard(both.contents[0])
        assert contents(place, both) == [(1, True)]
        assert await spool.take_kept(both.id, 1) is not None
        await spool.give_back(both.id)
        await spool.close()
        assert files(place) == (1 if place.database == "sqlite" and kind != "inline" else 0)

    run(main)


@pytest.mark.parametrize("state", [QUARANTINED, FAILED])
def test_what_a_worker_that_is_gone_has_kept_is_reached_by_others(place: Place, state: RecipientState) -> None:
    async def main() -> None:
        first, second = place.spool(), place.spool("node/1/boot")
        one = received(second, octets_of("file"), YOU)
        await quarantined(second, one) if state is QUARANTINED else await accept(second, one)
        if state is FAILED:
            await record(second, Outcome(one, changed(one, FAILED)))
        assert await first.take_kept(one.id, 1) is None or place.database != "sqlite"
        await first.give_back(one.id)
        await second.close()
        await first.take_back(NOW)
        kept = await first.take_kept(one.id, 1)
        assert kept is not None
        # A new version for a mail in another worker's file
        sealed = await first.seal(kept.mail.contents[0]) if state is FAILED else kept.mail.contents[1]
        again = await first.unseal(sealed)
        assert read(again) == octets_of("file")
        number = len(kept.mail.contents)
        await record(first, Outcome(kept.mail, contents=((number, again),), command=1))
        await first.close()

    run(main)


def test_versions_of_mail_in_an_adopted_file_are_whole(place: Place) -> None:
    async def main() -> None:
        first, second = place.spool(), place.spool("node/1/boot")
        one = received(second, octets_of("file"), YOU)
        await accept(second, replace(one, recipients=changed(one, QUEUED, due_at=NOW)))
        await second.close()
        await first.take_back(NOW)
        (taken,) = await first.take_due("exchange", NOW, 10, 1 << 30)
        other = received(first, octets_of("file")[::-1], YOU).contents[0]
        after = replace(taken, contents=(*taken.contents, other))
        waiting = (replace(taken.recipients[0], version=1, state=QUEUED),)
        await record(first, Outcome(after, waiting, contents=((1, other),)))
        (again,) = await first.take_due("exchange", NOW, 10, 1 << 30)
        assert read(again.contents[0]) == octets_of("file")
        assert read(again.contents[1]) == octets_of("file")[::-1]
        await record(first, Outcome(again, (replace(again.recipients[0], state=RELAYED),)))
        assert contents(place, one) == []
        assert files(place) == 0
        await first.close()

    run(main)


def test_an_outcome_without_the_lease_takes_its_content_with_it(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of("inline"), YOU)
        await accept(spool, one)
        await record(spool, Outcome(one, changed(one, QUEUED, due_at=NOW)))
        more = received(spool, LARGE, YOU).contents[0]
        with pytest.raises(LeaseLost):
            await record(spool, Outcome(one, contents=((1, more),)))
        assert contents(place, one) == [(0, False)]
        assert files(place) == 0
        await spool.close()

    run(main)


@pytest.mark.parametrize("kind", ["inline", "file"])
def test_content_that_was_tampered_with_is_not_given_out(place: Place, kind: str) -> None:
    async def main() -> None:
        spool = place.spool()
        one = received(spool, octets_of(kind), YOU)
        await quarantined(spool, one)
        kept = await spool.take_kept(one.id, 1)
        assert kept is not None
        octets = bytearray(read(kept.mail.contents[1]))
        octets[len(octets) // 2] ^= 1
        for spoilt in (bytes(octets), bytes(octets[:-20]), b""):
            with pytest.raises(ContentUnreadable):
                await spool.unseal(Content(InlineOctets(spoilt), sealed=True))
        with pytest.raises(ContentUnreadable):
            await spool.unseal(GONE)
        await spool.close()

    run(main)


@pytest.mark.parametrize("kind", ["inline", "held", "file"])
def test_the_console_reads_what_is_kept(place: Place, kind: str) -> None:
    async def main() -> tuple[Mail, Mail]:
        spool = place.spool()
        one, failed = received(spool, octets_of(kind), YOU), received(spool, octets_of(kind), YOU)
        await quarantined(spool, one)
        cut = replace(failed, contents=(*failed.contents, replace(failed.contents[0], cuts=((0, 9), (300, 400)))))
        await accept(spool, cut)
        await record(spool, Outcome(cut, changed(cut, FAILED)))
        await spool.close()
        return one, failed

    one, failed = run(main)
    history = History(place.data_dir, place.database)

    def whole(mail_id: str, version: int | None = None) -> bytes | None:
        found = history.kept_content(mail_id, version)
        return b"".join(found) if found is not None else None

    octets = octets_of(kind)
    assert whole(one.id) == whole(one.id, 1) == octets
    assert whole(failed.id) == whole(failed.id, 0) == octets
    assert whole(failed.id, 1) == octets[9:300] + octets[400:]
    assert whole(one.id, 0) is whole(one.id, 7) is whole("none", 0) is None
    history.close()
    (Path(place.data_dir) / "secret.key").unlink()
    history = History(place.data_dir, place.database)
    with pytest.raises(SecretUnreadable):
        whole(one.id)
    assert whole(failed.id) == octets
    history.close()


def test_rotation_of_the_key_of_secrets_leaves_the_quarantine_readable(place: Place, shared: SharedStore) -> None:
    async def put() -> Mail:
        spool = place.spool()
        one = received(spool, octets_of("inline"), YOU)
        await quarantined(spool, one)
        await spool.close()
        return one

    async def taken(one: Mail) -> bytes:
        spool = place.spool("node/0/next")
        kept = await spool.take_kept(one.id, 1)
        assert kept is not None
        content = await spool.unseal(kept.mail.contents[1])
        await spool.close()
        return read(content)

    one = run(put)
    before = (Path(place.data_dir) / "secret.key").read_text()
    assert shared.inventory.rotate_secrets(by="ann", now=NOW).secrets == 1
    assert (Path(place.data_dir) / "secret.key").read_text() != before
    assert run(lambda: taken(one)) == octets_of("inline")
    target = Path(place.data_dir) / "backup"
    assert "quarantine_key" not in shared.backup(target, NOW).rows
    shared.restore(target, "ann", NOW)
    assert run(lambda: taken(one)) == octets_of("inline"), "a restore leaves the key of the mails that are here"


def test_history_tells_of_scans_uploads_and_quarantine(place: Place) -> None:
    async def main() -> list[Mail]:
        spool = place.spool()
        mails = [received(spool, octets_of("inline"), address) for address in (YOU, TWO, YOU)]
        rows = (ROW, replace(ROW, at=NOW + 5, cause="encrypted", rule="Other", pinned=True))
        for one, row in zip(mails, rows, strict=False):
            await quarantined(spool, one, row)
        clean = Findings((replace(SCAN, verdict="clean"), replace(SCAN, verdict="sanitized")))
        await accept(spool, mails[2])
        done = replace(UPLOAD, state=UploadState.DONE, url="https://vault.example/1")
        await record(spool, Outcome(mails[2], changed(mails[2], RELAYED), findings=clean))
        failed = received(spool, octets_of("inline"), YOU)
        await accept(spool, failed, findings=Findings((SCAN,), (UPLOAD,)))
        more = Findings((replace(SCAN, verdict="clean"),), (done,))
        await record(spool, Outcome(failed, changed(failed, FAILED), findings=more))
        await spool.close()
        return [*mails, failed]

    first, second, third, failed = run(main)
    history = History(place.data_dir, place.database)

    def listed(query: KeptQuery) -> list[str]:
        return [str(found["id"]) for found in history.quarantined(query)]

    assert listed(KeptQuery()) == [second.id, first.id]
    assert listed(KeptQuery(limit=1)) == [second.id]
    assert listed(KeptQuery(before=second.id)) == [first.id]
    assert listed(KeptQuery(recipient="TWO@")) == listed(KeptQuery(rule="other")) == [second.id]
    assert listed(KeptQuery(cause="encrypted")) == listed(KeptQuery(pinned=True)) == [second.id]
    assert listed(KeptQuery(pinned=False)) == listed(KeptQuery(until=NOW + 1)) == [first.id]
    assert listed(KeptQuery(since=NOW + 1)) == [second.id]
    assert listed(KeptQuery(sender="nobody")) == listed(KeptQuery(subject="nothing")) == []
    (row,) = history.quarantined(KeptQuery(pinned=True))
    quarantine, recipients = row["quarantine"], row["recipients"]
    assert quarantine == {
        "at": NOW + 5,
        "cause": "encrypted",
        "why": ROW.why,
        "rule": "Other",
        "expires_at": ROW.expires_at,
        "pinned": True,
    }
    assert isinstance(recipients, list)
    assert (row["status"], row["verdict"], recipients[0]["stage"]) == ("quarantined", "blocked", "relay")
    kept = history.failed(KeptQuery())
    assert [(found["id"], found["quarantine"]) for found in kept] == [(failed.id, None)]
    assert history.failed(KeptQuery(rule="second")) == history.failed(KeptQuery(before=failed.id)) == []
    assert history.failed(KeptQuery(rule="INBOUND", recipient="you", since=NOW, until=NOW + 1)) == kept

    def of(query: MailQuery) -> set[str]:
        return {str(found["id"]) for found in history.search(query)}

    assert of(MailQuery(verdict="sanitized")) == {third.id}
    assert of(MailQuery(verdict="clean")) == set(), "something else in it was sanitized"
    assert of(MailQuery(verdict="blocked")) == {first.id, second.id, failed.id}
    assert of(MailQuery(status="quarantined")) == {first.id, second.id}
    found = history.mail(failed.id)
    assert found is not None
    scans, uploads = found["scans"], found["uploads"]
    assert isinstance(scans, list)
    assert isinstance(uploads, list)
    assert [(scan["n"], scan["verdict"], scan["cached"]) for scan in scans] == [
        (0, "blocked", False),
        (1, "clean", False),
    ]
    assert scans[0]["engines"] == [["ClamAV", "infected", "Eicar"]]
    assert [(u["part"], u["state"], u["url"]) for u in uploads] == [("1.3", "done", "https://vault.example/1")]
    assert (found["quarantine"], found["verdict"]) == (None, "blocked")
    history.close()
