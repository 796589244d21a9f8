"""Templates of notices: variables, faults all at once, text and HTML."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.examination import Position
from posthouse.core.faults import Fault
from posthouse.core.mime.notice_text import (
    LONGEST,
    VARIABLES,
    Style,
    Template,
    Variable,
    fill,
    html_notice,
    notice,
    parse_template,
    text_notice,
)


def template(text: str) -> Template:
    parsed = parse_template(text)
    assert isinstance(parsed, Template), parsed
    return parsed


def faults(text: str) -> tuple[Fault, ...]:
    parsed = parse_template(text, "rules[0].disclaimer")
    assert not isinstance(parsed, Template), parsed
    return parsed


@pytest.mark.parametrize(
    ("text", "value", "filled"),
    [
        ("a %[from ]email_sender[nobody]% z", "x@y.example", "a from x@y.example z"),
        ("a %[from ]email_sender[nobody]% z", "", "a from nobody z"),
        ("a %[from ]email_sender[]% z", "", "a  z"),
        ("%[]email_sender[]%%[]email_sender[]%", "v", "vv"),
        ("100 % [of] ]% it", "v", "100 % [of] ]% it"),
        ("%[%]email_sender[]%", "v", "%v"),
        ("%[]email_sender[]%", "%[]email_subject[]%", "%[]email_subject[]%"),
        ("%[]email_sender[]%", "a\r\n[WARNING]\x1b\u202e", "a  [WARNING]"),
        ("%[]scan_verdicts[]%", "a.zip: blocked\nb: clean\n", "a.zip: blocked\nb: clean"),
        ("", "v", ""),
    ],
)
def test_values_take_their_places(text: str, value: str, filled: str) -> None:
    assert fill(template(text), {"email_sender": value, "scan_verdicts": value, "email_subject": "never"}) == filled


def test_every_name_that_is_offered_can_be_used() -> None:
    assert set(VARIABLES) == {
        *("email_date", "email_sender", "email_recipients", "email_subject", "email_message_id", "origin_ip"),
        "scan_verdicts",
    }
    parsed = template("".join(f"%[]{name}[]%" for name in VARIABLES))
    assert parsed.names == set(VARIABLES)
    assert parsed.pieces[0] == Variable("email_date")


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        "%[]email_subjct[]%\n%[open\n%[a[b]email_date[]%\n%[]rescan_link_url[]% %[]email_date[x]y]% %[]email_date]%"
    )
    assert [fault.field for fault in found] == ["rules[0].disclaimer"] * 6
    assert found[0].rule == "There is no variable 'email_subjct'."
    assert found[0].remedy.startswith("Did you mean email_subject? Known here: email_date, ")
    assert found[1].rule == "A variable is not closed."
    assert [fault.rule for fault in found[2:]] == [
        "Its brackets do not match.", "There is no variable 'rescan_link_url'.", "Its brackets do not match.",
        "Its brackets do not match.",
    ]  # fmt: skip
    assert len(faults("x" * (LONGEST + 1))) == 1


def test_a_value_is_cut() -> None:
    assert len(fill(template("%[]email_subject[]%"), {"email_subject": "s" * 100_000})) == 4000


def test_styles_in_text_and_html() -> None:
    assert text_notice("first \n\nsecond\n", Style.WARNING) == "[WARNING]\nfirst\n\nsecond\n"
    made = html_notice("first & <b>\nline\n\n\nsecond\n", Style.CRITICAL)
    assert made.startswith('<div style="border:1px solid #b00020;')
    assert '<p style="margin:4px 0">first &amp; &lt;b&gt;<br>\nline</p>\n<p style="margin:4px 0">second</p>' in made
    assert len({html_notice("x", style) for style in Style}) == 3


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.sampled_from("<>&\"' \n!-/=ab\u2028"), max_size=60))
def test_no_value_is_markup(value: str) -> None:
    tags = _Tags()
    tags.feed(html_notice(value, Style.INFORMATION))
    tags.close()
    assert set(tags.tags) <= {"div", "p", "br"}
    assert "".join(tags.text.split()) == "".join(value.split())


@given(st.text(st.sampled_from("%[]email_dt x\n"), max_size=40))
def test_any_text_is_a_template_or_has_faults(text: str) -> None:
    parsed = parse_template(text)
    if isinstance(parsed, Template):
        assert fill(parsed, {}) == "".join(
            piece if isinstance(piece, str) else piece.prefix * bool(piece.placeholder) + piece.placeholder
            for piece in parsed.pieces
        )
        assert "%[" not in "".join(piece for piece in parsed.pieces if isinstance(piece, str))
    else:
        assert parsed


def test_a_notice_has_both_forms() -> None:
    made = notice(template("From %[]email_sender[?]%"), {"email_sender": "<a@b>"}, Style.CRITICAL, Position.END)
    assert (made.position, made.text) == (Position.END, "[CRITICAL]\nFrom <a@b>\n")
    assert "From &lt;a@b&gt;" in made.html
