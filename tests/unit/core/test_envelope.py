"""Arguments of MAIL, RCPT and XCLIENT (RFC 5321 section 4.1.2 and its extensions)."""

import pytest

from posthouse.core.envelope import (
    Body,
    MailArguments,
    Recipient,
    XclientAttributes,
    is_helo,
    parse_mail,
    parse_rcpt,
    parse_xclient,
)
from posthouse.core.smtp_reply import Reply

MAX = 1000


def mail(argument: str) -> MailArguments | Reply:
    return parse_mail(argument.encode(), MAX)


def rcpt(argument: str, smtputf8: bool = False) -> Recipient | Reply:
    return parse_rcpt(argument.encode(), smtputf8=smtputf8)


def refused(result: object) -> tuple[int, str]:
    assert isinstance(result, Reply), result
    return result.code, result.status


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("", ""),
        ("a@sender.example", "a@sender.example"),
        ("A.b+c@SENDER.Example", "A.b+c@sender.example"),
        ("a%b!c@sender.example", "a%b!c@sender.example"),
        ('"a b"@sender.example', '"a b"@sender.example'),
        ('"a>b"@sender.example', '"a>b"@sender.example'),
        (r'"a\"b"@sender.example', r'"a\"b"@sender.example'),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]"),
        ("@one.example,@two.example:a@sender.example", "a@sender.example"),
        ("a@localhost", "a@localhost"),
        ("x" * 100 + "@sender.example", "x" * 100 + "@sender.example"),
    ],
)
def test_reverse_path_that_the_grammar_allows_is_taken(path: str, address: str) -> None:
    parsed = mail(f"FROM:<{path}>")
    assert isinstance(parsed, MailArguments), parsed
    assert parsed.reverse_path == address


@pytest.mark.parametrize(
    "argument",
    [
        "FROM:<a@b.example> <c@d.example>",
        "FROM : <a@b.example>",
        "FROM: <a@b.example>",
        "FROM:a@b.example",
        "FROM:<a@b.example",
        "FROM:<a@b.example>SIZE=1",
        "TO:<a@b.example>",
        "",
        "FROM:<a>",
        "FROM:<@b.example>",
        "FROM:<a@>",
        "FROM:<.a@b.example>",
        "FROM:<a.@b.example>",
        "FROM:<a..c@b.example>",
        "FROM:<a@b..example>",
        "FROM:<a@b.example.>",
        "FROM:<a@-b.example>",
        "FROM:<a@b_c.example>",
        "FROM:<a b@c.example>",
        "FROM:<a@[127.0.0.1>",
        "FROM:<a@[127.0.0.256]>",
        "FROM:<a@[IPv6:::g]>",
        "FROM:<a@[X-tag:abc]>",
        "FROM:<@one.example:>",
        "FROM:<@one.example,a@b.example>",
        "FROM:<a\0b@c.example>",
        "FROM:<a\x1b@c.example>",
        "FROM:<a\x7f@c.example>",
        'FROM:<"a\tb"@c.example>',
        "FROM:<a@" + "x" * 64 + ".example>",
        "FROM:<a@" + "x." * 130 + "example>",
        "FROM:<" + "x" * 256 + "@b.example>",
    ],
)
def test_reverse_path_that_the_grammar_does_not_produce_is_refused(argument: str) -> None:
    code, status = refused(mail(argument))
    assert code == 501
    assert status in ("5.5.4", "5.1.7")


def test_octets_that_are_no_utf8_are_refused() -> None:
    assert refused(parse_mail(b"FROM:<\xff@b.example>", MAX))[0] == 501


def test_all_parameters_of_mail_are_read() -> None:
    parsed = mail("from:<a@b.example> size=10 body=8bitmime SMTPUTF8 ret=hdrs ENVID=QQ+2B314159")
    assert parsed == MailArguments("a@b.example", 10, Body.EIGHT_BIT, True, "HDRS", "QQ+2B314159")


def test_declared_size_of_exactly_the_limit_is_taken_fast_and_slow() -> None:
    for argument in ("FROM:<a@b.example> SIZE=1000", "FROM:<a@b.example> RET=FULL SIZE=1000"):
        parsed = mail(argument)
        assert isinstance(parsed, MailArguments)
        assert parsed.size == MAX


def test_common_parameters_are_read_the_same_fast_and_slow() -> None:
    fast = mail("FROM:<a@B.example> SIZE=10 BODY=8BITMIME")
    slow = mail("FROM:<a@B.example> BODY=8BITMIME SIZE=10")
    assert fast == slow == MailArguments("a@b.example", 10, Body.EIGHT_BIT)


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ("SIZE=1001", (552, "5.3.4")),
        ("SIZE=99999999999999999999", (552, "5.3.4")),
        ("BODY=7BIT SIZE=1001", (552, "5.3.4")),
        ("SIZE=-1", (501, "5.5.4")),
        ("SIZE=999999999999999999999", (501, "5.5.4")),
        ("SIZE", (501, "5.5.4")),
        ("SIZE=1 SIZE=1", (501, "5.5.4")),
        ("BODY=BINARYMIME", (501, "5.5.4")),
        ("SMTPUTF8=1", (501, "5.5.4")),
        ("RET=BODY", (501, "5.5.4")),
        ("ENVID=", (501, "5.5.4")),
        ("ENVID=a+0D+0Ab", (501, "5.5.4")),
        ("ENVID=" + "x" * 101, (501, "5.5.4")),
        ("=x", (501, "5.5.4")),
        ("XFOO=1", (555, "5.5.4")),
        ("AUTH=<>", (555, "5.5.4")),
        ("NOTIFY=NEVER", (555, "5.5.4")),
    ],
)
def test_bad_parameter_of_mail_is_refused(parameter: str, expected: tuple[int, str]) -> None:
    assert refused(mail(f"FROM:<a@b.example> {parameter}")) == expected


@pytest.mark.parametrize("path", ["a%b@ours.example", "a!b@ours.example", '"a@b"@ours.example', "a@b@ours.example"])
def test_recipient_that_may_be_read_as_a_route_is_refused(path: str) -> None:
    assert refused(rcpt(f"TO:<{path}>")) == (553, "5.1.3")


@pytest.mark.parametrize("path", ["", "you", '"you@outside.example"', "you@ours.example.", " you@ours.example"])
def test_forward_path_without_a_proper_domain_is_refused(path: str) -> None:
    assert refused(rcpt(f"TO:<{path}>"))[0] in (501, 553)


@pytest.mark.parametrize("path", ["postmaster", "Postmaster", "POSTMASTER"])
def test_bare_postmaster_is_a_recipient(path: str) -> None:
    assert rcpt(f"TO:<{path}>") == Recipient("postmaster")


def test_source_route_of_a_recipient_is_stripped_and_does_not_hide_its_domain() -> None:
    assert rcpt("TO:<@ours.example:you@outside.example>") == Recipient("you@outside.example")


def test_recipient_domain_is_lower_case_and_local_part_as_given() -> None:
    assert rcpt("TO:<You@OURS.Example>") == Recipient("You@ours.example")


def test_parameters_of_rcpt_are_read() -> None:
    parsed = rcpt("TO:<a@b.example> notify=success,delay ORCPT=rfc822;x+2By@z.example")
    assert parsed == Recipient("a@b.example", "SUCCESS,DELAY", "rfc822;x+2By@z.example")


@pytest.mark.parametrize(
    ("parameter", "code"),
    [
        ("NOTIFY=NEVER,FAILURE", 501),
        ("NOTIFY=SUCCESS,SUCCESS", 501),
        ("NOTIFY=", 501),
        ("NOTIFY=SOMETIMES", 501),
        ("ORCPT=x@y.example", 501),
        ("ORCPT=rfc822;", 501),
        ("ORCPT=rfc822;a+0Ab", 501),
        ("ORCPT=rfc822;" + "x" * 500, 501),
        ("SIZE=1", 555),
    ],
)
def test_bad_parameter_of_rcpt_is_refused(parameter: str, code: int) -> None:
    assert refused(rcpt(f"TO:<a@b.example> {parameter}"))[0] == code


def test_utf8_address_needs_the_smtputf8_parameter() -> None:
    assert refused(mail("FROM:<é@sender.example>")) == (553, "5.6.7")
    assert refused(rcpt("TO:<é@ours.example>")) == (553, "5.6.7")


def test_utf8_address_with_smtputf8_is_taken_and_its_u_label_left_as_it_is() -> None:
    parsed = mail("FROM:<é@BÜCHER.Example> SMTPUTF8")
    assert isinstance(parsed, MailArguments)
    assert parsed.reverse_path == "é@bÜcher.example"
    assert rcpt("TO:<é@bücher.example>", smtputf8=True) == Recipient("é@bücher.example")


@pytest.mark.parametrize("path", ["é\u2028@b.example", "é\x85@b.example", "é@b\u3002example", "é@xn--\u00fc.example"])
def test_control_characters_and_odd_dots_never_pass_in_utf8_addresses(path: str) -> None:
    assert refused(mail(f"FROM:<{path}> SMTPUTF8"))[0] == 501


def test_xclient_attributes_are_read_and_xtext_decoded() -> None:
    parsed = parse_xclient(b"NAME=x.example ADDR=IPV6:2001:DB8::1 PORT=25 HELO=a+2Bb PROTO=ESMTP LOGIN=[UNAVAILABLE]")
    assert parsed == XclientAttributes("2001:db8::1", 25, "a+b", "ESMTP")


def test_unavailable_xclient_attributes_are_empty() -> None:
    assert parse_xclient(b"ADDR=[UNAVAILABLE] HELO=[TEMPUNAVAIL]") == XclientAttributes()


@pytest.mark.parametrize(
    "argument", [b"", b"ADDR", b"ADDR=1.2.3", b"ADDR=fe80::1%eth0", b"PORT=65536", b"PORT=-1", b"PROTO=LMTP",
                 b"FOO=1", b"ADDR=1.2.3.4 ADDR=1.2.3.5", b"HELO=a+0Ab", b"HELO=\xff"]
)  # fmt: skip
def test_bad_xclient_attribute_is_refused(argument: bytes) -> None:
    assert refused(parse_xclient(argument)) == (501, "5.5.4")


def test_helo_name_is_printable_and_bounded() -> None:
    assert is_helo("[192.0.2.1]")
    assert is_helo("WIN_HOST")
    assert not is_helo("")
    assert not is_helo("a b")
    assert not is_helo("a\x1b")
    assert not is_helo("a" * 256)


@pytest.mark.parametrize(
    ("orcpt", "smtputf8", "taken"),
    [
        ("utf-8;grüße@b.example", True, True),
        ("utf-8;grüße@b.example", False, False),
        (r"utf-8;gr\x{FC}\x{DF}e@b.example", False, True),
        ("UTF-8;plain@b.example", False, True),
        (r"utf-8;a\x{0A}b@c.example", True, False),
        (r"utf-8;a\x{0000D}b@c.example", True, False),
        (r"utf-8;a\x{7}b@c.example", True, False),
        ("rfc822;grüße@b.example", True, False),
    ],
)
def test_utf8_original_recipient_needs_smtputf8_unless_it_is_encoded(orcpt: str, smtputf8: bool, taken: bool) -> None:
    parsed = rcpt(f"TO:<a@b.example> ORCPT={orcpt}", smtputf8)
    if taken:
        assert parsed == Recipient("a@b.example", "", orcpt)
    else:
        assert refused(parsed) == (501, "5.5.4")
