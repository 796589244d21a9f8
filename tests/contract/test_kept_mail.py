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
    UploadRow,
    UploadState,
)
from posthouse.ports import Findings, Outcome
from posthouse.storage.spool import MailSpool
from support.storage import HELD, LARGE, NOW, TWO, YOU, Place, accept, received, record, run

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


async def quarantined(
    spool: MailSpool, one: Mail, row: QuarantineRow = ROW, *states: RecipientState, command: int = 0
) -> Mail:
    """Accepts the mail and puts it into quarantine; `states` of its recipients, else all QUARANTINED."""
    await accept(spool, one)
    sealed = await spool.seal(one.contents[0])
    after = replace(one, contents=(*one.contents, sealed))
    chosen = states or (QUARANTINED,) * len(one.recipients)
    recipients = tuple(replace(r, state=state) for r, state in zip(one.recipients, chosen, strict=True))
    findings = Findings((SCAN,), (UPLOAD,), row)
    await record(spool, Outcome(after, recipients, contents=((1, sealed),), findings=findings, command=command))
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
