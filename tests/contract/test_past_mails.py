"""History.past_mails: what the policy was asked with, page by page over all stores, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from posthouse.core.mail import Mail, TrailEntry
from posthouse.core.past_mail import PastMail, PastRecipient
from posthouse.storage.history import History
from posthouse.storage.spool import MailSpool
from support.flow import FakeClock, mail

NOW = 1_000_000.0
MANY = 30
"""Recipients, more than a search shows."""


def _mails() -> list[Mail]:
    """Seven; the fourth is our own, the last one has many recipients of several rules."""
    made = [mail(f"user{number}@ours.example", at=NOW + number) for number in range(6)]
    made[1] = replace(made[1], reverse_path="")
    made[3] = replace(made[3], own=True)
    last = mail(*(f"to{number}@ours.example" for number in range(MANY)), at=NOW + 6)
    changed = tuple(
        replace(r, rule="vip" if r.seq % 2 else "", profile="archive" if r.seq % 3 else "exchange")
        for r in last.recipients
    )
    return [*made, replace(last, recipients=changed)]


@pytest.fixture
def history(data_dir: str, database: str) -> Iterator[History]:
    """The mails, in the stores of two workers by turns."""

    async def main() -> None:
        loop, clock = asyncio.get_running_loop(), FakeClock(NOW)
        spools = [MailSpool(data_dir, database, f"node/{n}/b", clock, loop) for n in range(2)]
        for number, made in enumerate(_mails()):
            future: asyncio.Future[Exception | None] = loop.create_future()
            spools[number % 2].accept(made, (TrailEntry(NOW, "received", {}),), future.set_result)
            assert await future is None
        for spool in spools:
            await spool.close()

    asyncio.run(main())
    opened = History(data_dir, database)
    yield opened
    opened.close()


def _times(mails: list[PastMail]) -> list[float]:
    return [mail.received_at - NOW for mail in mails]


def test_received_mails_come_newest_first_without_our_own(history: History) -> None:
    assert _times(history.past_mails(100)) == [6, 5, 4, 2, 1, 0]


def test_pages_follow_each_other_without_gap_or_repetition(history: History) -> None:
    pages: list[list[PastMail]] = []
    before = ""
    while page := history.past_mails(2, before):
        pages.append(page)
        before = page[-1].id
    assert [_times(page) for page in pages] == [[6, 5], [4, 2], [1, 0]]


def test_each_mail_has_what_the_policy_was_asked_with_and_all_recipients(history: History) -> None:
    newest, *_, second, _ = history.past_mails(100)
    assert (newest.client, newest.reverse_path) == ("192.0.2.1", "sender@outside.example")
    assert len(newest.recipients) == MANY
    assert newest.recipients[:3] == (
        PastRecipient("to0@ours.example", "", "exchange"),
        PastRecipient("to1@ours.example", "vip", "archive"),
        PastRecipient("to2@ours.example", "", "archive"),
    )
    assert second.reverse_path == ""
    assert second.recipients == (PastRecipient("user1@ours.example", "inbound", "exchange"),)
