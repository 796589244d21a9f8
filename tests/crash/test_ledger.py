"""The drills' own arithmetic: what is lost, damaged or doubled is seen."""

from collections.abc import Sequence
from pathlib import Path

from support.kill_drill import Result
from support.ledger import Account, Arrival, Arrivals, Ledger, drill_mail, settle
from support.recording import Taken

OUR_FIELD = b"Received: from c ([127.0.0.1])\r\n\tby mx.test (posthouse) with ESMTP id 0abc;\r\n\tnow\r\n"


def account_of(folder: Path, ids: Sequence[str], arrivals: Sequence[Arrival]) -> Account:
    """Acknowledges the mails, each to two recipients, and settles."""
    with Ledger(folder / "ledger") as ledger:
        for mail_id in ids:
            ledger.acknowledge(mail_id, f"key-{mail_id}", ["a@x", "b@x"])
        return settle(ledger, arrivals)


def arrival(mail_id: str, *recipients: str, key: str = "") -> Arrival:
    return Arrival(1.0, mail_id, recipients, key or f"key-{mail_id}", True)


def test_a_mail_that_arrived_for_one_of_two_recipients_is_half_lost(tmp_path: Path) -> None:
    account = account_of(tmp_path, "12", [arrival("1", "a@x", "b@x"), arrival("2", "a@x")])
    assert account.lost == (("2", "b@x"),)
    assert (account.acknowledged, account.arrived, account.duplicates) == (2, 2, {})


def test_a_mail_with_the_content_of_another_is_damaged(tmp_path: Path) -> None:
    account = account_of(tmp_path, "12", [arrival("1", "a@x", "b@x"), arrival("2", "a@x", "b@x", key="key-1")])
    assert (account.lost, account.damaged) == ((), ("2",))


def test_recipients_that_arrive_in_two_transactions_are_no_duplicate(tmp_path: Path) -> None:
    account = account_of(tmp_path, "1", [arrival("1", "a@x"), arrival("1", "b@x")])
    assert (account.lost, account.duplicates) == ((), {})


def test_a_mail_that_nobody_was_told_of_is_counted_and_not_a_fault(tmp_path: Path) -> None:
    account = account_of(tmp_path, "", [arrival("9", "a@x")])
    assert (account.unacknowledged, account.lost) == (1, ())


def test_the_ledger_is_on_disk_before_a_mail_counts(tmp_path: Path) -> None:
    account_of(tmp_path, "1", [])
    assert (tmp_path / "ledger").read_text() == "1 key-1 a@x,b@x\n"


def test_a_content_that_is_cut_or_changed_is_damaged() -> None:
    content = OUR_FIELD + drill_mail("k1", 4096)
    sink = Arrivals()
    for each in (content, content[:-10], content.replace(b"\r\n..\r\n", b"\r\n.\r\n"), OUR_FIELD + b"\r\n"):
        sink.take(Taken("a", ("b",), each))
    assert [arrival.whole for arrival in sink.arrivals] == [True, False, False, False]
    assert {arrival.mail_id for arrival in sink.arrivals} == {"0abc"}


def test_a_duplicate_is_a_fault_unless_a_kill_stands_between_its_arrivals() -> None:
    twice = Account(1, 1, 0, (), (), {"1": (10.0, 20.0)})
    assert Result(0, 1, kills=[15.0], account=twice).faults() == []
    assert len(Result(0, 1, kills=[25.0], account=twice).faults()) == 1


def test_a_lost_mail_is_a_fault() -> None:
    lost = Account(1, 0, 0, (("1", "a@x"),), (), {})
    assert len(Result(0, 1, kills=[1.0], restarts=[0.5, 9.0], account=lost).faults()) == 1
