"""Audit rows that are too old go, the same on SQLite and PostgreSQL."""

from posthouse.storage.open import SharedStore
from posthouse.web.audit_end import DAY, MOST, AuditEnd

NOW = 100_000_000.0


def note(shared: SharedStore, *days_ago: float) -> None:
    for days in days_ago:
        shared.inventory.note(by="op", what=f"{days:g} days ago", detail={}, now=NOW - days * DAY)


def kept(shared: SharedStore) -> list[object]:
    return [row["what"] for row in shared.inventory.audit(99, None)]


def test_the_oldest_go_first_and_no_more_than_wanted(shared: SharedStore) -> None:
    note(shared, 9, 8, 7, 2, 1)
    assert shared.inventory.forget_audit(NOW - 5 * DAY, 2) == 2
    assert kept(shared) == ["1 days ago", "2 days ago", "7 days ago"]
    assert shared.inventory.forget_audit(NOW - 2 * DAY, 2) == 1
    assert kept(shared) == ["1 days ago", "2 days ago"]


def test_once_a_day_what_is_older_than_the_setting_goes_and_nothing_for_ever(shared: SharedStore) -> None:
    days = 0
    end = AuditEnd(shared.inventory, lambda: days)
    note(shared, 500, 399.5)
    assert (end.look(NOW), len(kept(shared))) == (False, 2)
    days = 400
    assert (end.look(NOW), kept(shared)) == (False, ["399.5 days ago"])
    assert (end.look(NOW + DAY - 1), len(kept(shared))) == (False, 1)
    assert (end.look(NOW + DAY), kept(shared)) == (False, [])


def test_many_go_bit_by_bit() -> None:
    class Many:
        left = MOST + 5

        def forget_audit(self, before: float, most: int) -> int:
            assert before == NOW - DAY
            gone = min(self.left, most)
            self.left -= gone
            return gone

    many = Many()
    end = AuditEnd(many, lambda: 1)
    assert [end.look(NOW), many.left, end.look(NOW), many.left] == [True, 5, False, 0]
