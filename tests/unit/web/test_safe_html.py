"""HTML of a hostile mail: nothing that runs, loads, sends or styles is left, and it takes bounded time."""

import re
import time

import pytest

from posthouse.web.downloads import disposition
from posthouse.web.safe_html import ELEMENTS, HTML_CHARACTERS, LINKS, safe_html

HOSTILE = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//x.example/a.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<img src='cid:1'><picture><source srcset=//x.example></picture>",
    '<a href="javascript:alert(1)" onclick=alert(1)>a</a>',
    '<a href="//x.example" ping="//y.example" target=_top download>a</a>',
    "<svg><script>alert(1)</script><image href=//x.example></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<style>@import '//x.example/a.css'; p { background: url(//y.example) }</style>",
    '<p style="background:url(//x.example)">a</p>',
    '<table background="//x.example"><tr><td background=//x.example style=x>a</table>',
    "<form action=//x.example><input><button formaction=//y.example>a</button></form>",
    "<iframe src=//x.example></iframe><object data=//x.example></object><embed src=//x.example>",
    "<link rel=stylesheet href=//x.example><base href=//x.example>",
    "<meta http-equiv=refresh content='0;url=//x.example'>",
    "<video src=//x.example poster=//y.example></video><audio src=//x.example></audio><bgsound src=//x.example>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<textarea></textarea><img src=x onerror=alert(1)>",
    "<!--<img src=x onerror=alert(1)>--><![CDATA[<img src=x onerror=alert(1)>]]>",
    "<body background=//x.example onload=alert(1)>a</body>",
    "<p id=login class=x name=y data-x=z contenteditable autofocus>a</p>",
    "<template><img src=x onerror=alert(1)></template>",
    "<blockquote cite=//x.example>a</blockquote><q cite=//x.example>b</q>",
    "<<img src=x onerror=alert(1)//>",
    "<x/><p/onmouseover=alert(1)>",
]
ALLOWED = re.compile(r"</?[a-z][a-z0-9]*(?: (?:dir|lang|start|colspan|rowspan)=\"[^\"<>]*\")*>")


@pytest.mark.parametrize("html", HOSTILE)
def test_only_elements_without_addresses_and_styles_are_left(html: str) -> None:
    safe = safe_html(f"<p>before</p>{html}").html
    assert safe.startswith("<p>before</p>")
    assert "<" not in ALLOWED.sub("", safe), safe


def test_what_is_harmless_stays() -> None:
    html = '<h1 dir="rtl">a</h1><table><tbody><tr><td colspan="2"><b>b</b><br>c &amp; d</td></tr></tbody></table>'
    assert safe_html(html).html == html
    assert safe_html("5 < 6 & 7 > 6").html == "5 &lt; 6 &amp; 7 &gt; 6"


def test_links_are_told_and_lead_nowhere() -> None:
    many = "".join(f'<a href="https://h.example/{n}">x</a>' for n in range(LINKS + 10))
    found = safe_html(f'<a href="javascript:alert(1)">x</a><a href=" a\n\tb ">x</a>{many}')
    assert "href" not in found.html
    assert found.links[:3] == ("a b", "https://h.example/0", "https://h.example/1")
    assert len(found.links) == LINKS
    assert len(safe_html(f'<a href="{"x" * 9999}">').links[0]) == 2000


@pytest.mark.parametrize("unit", ["<div>", "<b><p>", "<a href=x>", "<table><tr><td>", "&", "<", "<p a=1 b=2", "</p>"])
def test_sanitizing_takes_bounded_time(unit: str) -> None:
    began = time.process_time()
    found = safe_html(unit * (2 * HTML_CHARACTERS // len(unit)))
    assert found.cut
    assert time.process_time() - began < 20


def test_what_is_too_much_is_cut_at_an_element() -> None:
    found = safe_html("<p>a</p>" * (ELEMENTS + 1))
    assert found.cut
    assert found.html == "<p>a</p>" * ELEMENTS
    assert not safe_html("<p>a</p>" * ELEMENTS).cut


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("a.exe", 'attachment; filename="a.exe"'),
        ('a"; x="b\r\nSet-Cookie: c=d', 'attachment; filename="a_; x=_b__Set-Cookie_ c=d"'),
        ("../../etc/passwd", 'attachment; filename="_.._etc_passwd"'),
        ("üa", "attachment; filename=\"_a\"; filename*=UTF-8''%C3%BCa"),
        ("invoice\u202efdp.exe", 'attachment; filename="invoice_fdp.exe"'),
        ("...", 'attachment; filename="part"'),
        ("", 'attachment; filename="part"'),
        ("x" * 999, f'attachment; filename="{"x" * 150}"'),
        ("\ud800", 'attachment; filename="_"'),
    ],
)
def test_a_name_of_others_cannot_break_a_content_disposition(name: str, field: str) -> None:
    assert disposition(name) == field
    field.encode("ascii")
