"""How many notices an address gets in an hour."""

from posthouse.core.notice_rate import HOUR, REMEMBERED, NoticeRate


def test_an_address_gets_so_many_in_any_hour_and_no_more() -> None:
    rate = NoticeRate(2)
    assert [rate.allows("a@x.example", at) for at in (0.0, 10.0, 20.0)] == [True, True, False]
    assert rate.left_out == 1
    assert not rate.allows("a@x.example", HOUR - 1)
    assert rate.allows("a@x.example", HOUR + 1), "the first is an hour ago"
    assert not rate.allows("a@x.example", HOUR + 2), "the second is not"
    assert rate.allows("a@x.example", HOUR + 11)
    assert rate.left_out == 3


def test_case_makes_no_other_address_and_addresses_do_not_count_for_each_other() -> None:
    rate = NoticeRate(1)
    assert rate.allows("A@x.example", 0.0)
    assert not rate.allows("a@X.example", 1.0)
    assert rate.allows("b@x.example", 1.0)


def test_what_was_left_out_does_not_count() -> None:
    rate = NoticeRate(1)
    assert rate.allows("a", 0.0)
    for at in range(1, 3600, 100):
        assert not rate.allows("a", float(at))
    assert rate.allows("a", HOUR)


def test_none_may_be_allowed_and_the_limit_may_change() -> None:
    rate = NoticeRate(0)
    assert not rate.allows("a", 0.0)
    rate.most = 1
    assert rate.allows("a", 1.0)


def test_only_so_many_addresses_are_remembered_the_latest() -> None:
    rate = NoticeRate(1)
    for number in range(REMEMBERED):
        assert rate.allows(str(number), 0.0)
    assert not rate.allows("0", 1.0), "asked for again: now it is the latest"
    assert rate.allows("one more", 2.0)
    assert not rate.allows("0", 3.0)
    assert rate.allows("1", 3.0), "it was the oldest, and is forgotten"
