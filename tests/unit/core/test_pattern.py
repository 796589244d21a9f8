"""Patterns of security rules: what they match and to which domain they confine."""

import pytest

from posthouse.core.pattern import Kind, Pattern, literal_domain, normalise, parse_pattern


def pattern(text: str) -> Pattern:
    parsed = parse_pattern(text, null_path=True)
    assert isinstance(parsed, Pattern), parsed
    return parsed


@pytest.mark.parametrize(
    ("text", "kind", "yes", "no"),
    [
        ("*", Kind.ANY, ["a@b.example", "", "postmaster"], []),
        ("**", Kind.ANY, ["a@b.example", ""], []),
        ("<>", Kind.ADDRESS, [""], ["a@b.example", "postmaster"]),
        ("*@*", Kind.WILD, ["a@b.example"], ["", "postmaster"]),
        ("bob@ours.example", Kind.ADDRESS, ["bob@ours.example", "BOB@OURS.Example"], ["bobb@ours.example", "bob@x"]),
        ("postmaster", Kind.ADDRESS, ["postmaster", "PostMaster"], ["postmaster@ours.example"]),
        (
            "*@ours.example",
            Kind.DOMAIN,
            ["a@ours.example", "A@OURS.EXAMPLE"],
            ["a@evilours.example", "a@x.ours.example", "a@ours.example.evil", "", "postmaster", "ours.example"],
        ),
        ("*@*.ours.example", Kind.SUBDOMAINS, ["a@x.ours.example", "a@x.y.ours.example"], ["a@ours.example"]),
        ("sales*@ours.example", Kind.WILD, ["sales@ours.example", "sales-eu@ours.example"], ["xsales@ours.example"]),
        ("*-list@*.ours.example", Kind.WILD, ["a-list@x.ours.example"], ["a-list@ours.example", "a@x.ours.example"]),
        ("*ours.example", Kind.WILD, ["a@ours.example", "a@evilours.example"], ["a@ours.example.evil"]),
        ("a*b*c@x.example", Kind.WILD, ["abc@x.example", "a1b2c@x.example"], ["acb@x.example", "ab@x.example"]),
        ("a*a@x.example", Kind.WILD, ["aa@x.example"], ["a@x.example"]),
        ("*@bücher.example", Kind.DOMAIN, ["a@bücher.example", "a@BÜCHER.example", "a@xn--bcher-kva.example"], []),
        ("*@*.bücher.example", Kind.SUBDOMAINS, ["a@x.xn--bcher-kva.example"], ["a@bücher.example"]),
        ("jürgen@x.example", Kind.ADDRESS, ["JÜRGEN@x.example", "ju\u0308rgen@x.example"], ["jurgen@x.example"]),
        ("*@[192.0.2.1]", Kind.DOMAIN, ["a@[192.0.2.1]"], ["a@[192.0.2.10]"]),
        ('o"', None, [], []),
        (r"/a.*@x\.example/", Kind.REGEX, ["ab@x.example", "AB@X.example"], ["ba@x.example", "a@x.example.evil"]),
        (r"/<>/", Kind.REGEX, [""], ["a@b.example"]),
        (r"/a|b/", Kind.REGEX, [], ["a@b.example"]),
        (r"/^bob@x\.example$/", Kind.REGEX, ["bob@x.example"], ["bob@xyexample"]),
    ],
)
def test_what_a_pattern_matches(text: str, kind: Kind | None, yes: list[str], no: list[str]) -> None:
    if kind is None:
        assert isinstance(parse_pattern(text, null_path=True), tuple)
        return
    parsed = pattern(text)
    assert parsed.kind is kind
    assert [address for address in yes if not parsed.matches(*normalise(address))] == []
    assert [address for address in no if parsed.matches(*normalise(address))] == []


def test_a_quoted_local_part_is_the_same_without_its_quotes() -> None:
    assert pattern("bob@ours.example").matches(*normalise('"bob"@ours.example'))
    assert pattern("bob@ours.example").matches(*normalise(r'"b\ob"@ours.example'))
    assert normalise('"a b"@X.example') == ("a b@x.example", "x.example")


def test_a_domain_that_idna_refuses_is_compared_as_it_is() -> None:
    assert normalise("a@-ü.example") == ("a@-ü.example", "-ü.example")
    assert normalise("ÄB") == ("äb", "")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "1 to 1000"),
        ("x" * 1001, "1 to 1000"),
        ("a\0@x.example", "control"),
        ("a b@x.example", "white space"),
        ("<a@x.example>", "angle"),
        ("ours.example", "matches no address"),
        ("@ours.example", "missing"),
        ("bob@", "missing"),
        ("bob@-x.example", "no domain"),
        ("bob@x..example", "no domain"),
        ("*@*.x/y.example", "no domain"),
        ("*@ü*.example", "no domain"),
        ("/", "two slashes"),
        ("//", "two slashes"),
        ("/abc", "two slashes"),
        ("/(/", "RE2"),
        (r"/(?=x)/", "RE2"),
        (r"/(a)\1/", "RE2"),
    ],
)
def test_what_is_no_pattern(text: str, word: str) -> None:
    parsed = parse_pattern(text, null_path=True)
    assert isinstance(parsed, tuple)
    assert word in parsed[0]
    assert parsed[1]


def test_a_bare_domain_gets_the_pattern_that_was_meant() -> None:
    for text in ("ours.example", "@ours.example"):
        parsed = parse_pattern(text, null_path=False)
        assert isinstance(parsed, tuple)
        assert "*@ours.example" in parsed[1]


def test_no_recipient_is_the_null_path() -> None:
    assert isinstance(parse_pattern("<>", null_path=False), tuple)


@pytest.mark.parametrize(
    ("text", "confined"),
    [
        ("*@ours.example", True),
        ("bob@ours.example", True),
        ("b*@ours.example", True),
        ("*@*.ours.example", True),
        ("b*@*.ours.example", True),
        ("postmaster", True),
        ("*@[192.0.2.1]", True),
        ("*", False),
        ("*@*", False),
        ("bob@*", False),
        ("*ours.example", False),
        ("*@*ours.example", False),
        ("*@ours.*", False),
        ("*@o*s.example", False),
        ("*@*.example", False),
        ("*@*.*.example", False),
        ("*@x.*.ours.example", False),
        (r"/.*@ours\.example$/", True),
        (r"/(a|b)@ours\.example$/", True),
        (r"/(?:a|b)+@ours\.example$/", True),
        (r"/(?P<who>a|b)@ours\.example$/", True),
        (r"/^.*\@ours[.]example$/", True),
        (r"/[|(]@ours\.example$/", True),
        (r"/[])|]@ours\.example$/", True),
        (r"/[^]|]@ours\.example$/", True),
        (r"/[[:alpha:]|]@ours\.example$/", True),
        (r"/[\]|]@ours\.example$/", True),
        (r"/\|\(@ours\.example$/", True),
        (r"/.*@ours\.example/", False),
        (r"/.*@ours.example$/", False),
        (r"/a|.*@ours\.example$/", False),
        (r"/(?:.*|a)|b@ours\.example$/", False),
        (r"/(.*@ours\.example$)/", False),
        (r"/(.*@evil|.*@ours\.example$)/", False),
        (r"/.*@ours\.example$|.*/", False),
        (r"/.*@ours\.example\$/", False),
        (r"/.*@(ours|evil)\.example$/", False),
        (r"/.*@.*\.example$/", False),
        (r"/.*ours\.example$/", False),
        (r"/.*@ours\.example?$/", False),
        (r"/.*@our[s]\.example$/", False),
        (r"/(?i).*@ours\.example$/", False),
        (r"/(?m).*@ours\.example$/", False),
        (r"/(?i:.*)@ours\.example$/", False),
        (r"/\Qa|b\E@ours\.example$/", False),
        (r"/.*@ours\.$/", False),
        (r"/.*@\.example$/", False),
        (r"/.*@bücher\.example$/", False),
    ],
)
def test_which_patterns_are_confined_to_literal_domains(text: str, confined: bool) -> None:
    assert pattern(text).confined is confined


def test_an_unclosed_class_or_group_confines_nothing() -> None:
    for expression in (r"[@x\.example$", r"[[:x@x\.example$", r"(@x\.example$", "a\\", r"[a\\@x\.example$"):
        assert literal_domain(expression) == ""


def test_the_domain_of_a_confined_expression_is_told() -> None:
    assert literal_domain(r".*@Ours[.]my\-example$") == "ours.my-example"
