"""The notice of attachments in a vault: what people read, and that no name or link gets out of its place."""

from datetime import date
from html.parser import HTMLParser

import pytest

from posthouse.core.examination import NAME_LENGTH, Position
from posthouse.core.vault_notice import KeptInVault, readable_size, vault_notice

URL = "https://vault.example/vault_rest/file/e351?a=1&b=2"


def test_one_attachment_that_was_removed() -> None:
    notice = vault_notice([KeptInVault("report.pdf", 1536, URL)], removed=True, expires=date(2026, 12, 25))
    assert notice.position is Position.END
    assert notice.text == (
        "An attachment of this mail was removed and stored in a vault:\n\n"
        f"- report.pdf (1.5 KiB)\n  {URL}\n\nAvailable until 2026-12-25 (UTC).\n"
    )
    link = URL.replace("&", "&amp;")
    assert notice.html == (
        "<div><p>An attachment of this mail was removed and stored in a vault:</p><ul>"
        f'<li>report.pdf (1.5 KiB)<br><a href="{link}">{link}</a></li></ul>'
        "<p>Available until 2026-12-25 (UTC).</p></div>"
    )


def test_two_that_stay_in_the_mail_without_an_end() -> None:
    files = [KeptInVault("a", 1, URL + "1"), KeptInVault("b", 2, URL + "2")]
    notice = vault_notice(files, removed=False, expires=None, position=Position.HEAD)
    assert notice.position is Position.HEAD
    assert notice.text == (
        f"2 attachments of this mail are also stored in a vault:\n\n- a (1 byte)\n  {URL}1\n- b (2 bytes)\n  {URL}2\n"
    )
    assert "Available" not in notice.html
    assert vault_notice(files[:1], removed=False, expires=None).text.startswith("An attachment of this mail is also")
    assert vault_notice(files, removed=True, expires=None).text.startswith("2 attachments of this mail were removed")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert [name for name, _ in attrs] == (["href"] if tag == "a" else [])
        self.links += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=y>',
        "a' onmouseover='b",
        "&lt;b&gt;",
        "a\r\nb\u2028c\u202ed",
    ],
)
@pytest.mark.parametrize(
    "url", [URL, "javascript:alert(1)", 'https://a.example/"><script>', "https://a.example/\n- x"]
)
def test_nothing_gets_out_of_its_place(name: str, url: str) -> None:
    notice = vault_notice([KeptInVault(name, 5, url)], removed=True, expires=None)
    parser = _Tags()
    parser.feed(notice.html)
    parser.close()
    good = url == URL
    assert parser.tags == ["div", "p", "ul", "li", "br", *(["a"] if good else [])]
    assert parser.links == ([URL] if good else [])
    lines = notice.text.splitlines()
    assert len(lines) == 4
    assert lines[3] == (f"  {URL}" if good else "  ask your administrator for it")
    assert f"{lines[2].removeprefix('- ')}{lines[3].strip()}" in parser.text
    assert notice.html.isprintable()


def test_a_long_name_is_cut_and_none_is_told() -> None:
    assert (
        f"- {'n' * NAME_LENGTH} (" in vault_notice([KeptInVault("n" * 999, 5, URL)], removed=True, expires=None).text
    )
    assert "- attachment (" in vault_notice([KeptInVault("", 5, URL)], removed=True, expires=None).text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (12_700, "12 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1024 * 1024 - 1, "1 MiB"),
        (11 * 1024**2, "11 MiB"),
        (3_650_722_202, "3.4 GiB"),
        (5 * 1024**4, "5 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes_as_people_read_them(octets: int, text: str) -> None:
    assert readable_size(octets) == text
