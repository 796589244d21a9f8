"""HTML of a hostile mail as it can be shown: text, tables and lists; nothing that runs, loads, sends or styles.

Links have no address any more: the addresses are told beside the text. What may be left is a list, not what must go.
The sanitizer takes time by the square of how deep elements stand in each other, so their number is bounded before.
"""

import re
from dataclasses import dataclass

import nh3

HTML_CHARACTERS = 256 * 1024
ELEMENTS = 10_000
"""Start tags; 10,000 in each other take a second."""
LINKS = 200
LINK_CHARACTERS = 2000

_START_TAG = re.compile(r"<[A-Za-z]")
_TAGS = frozenset(
    {
        *("a", "abbr", "b", "bdi", "bdo", "blockquote", "br", "caption", "center", "cite", "code", "col", "colgroup"),
        *("dd", "del", "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "ins", "kbd"),
        *("li", "mark", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup"),
        *("table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var", "wbr"),
    }
)
_WITH_THEIR_CONTENT = frozenset(
    {
        *("applet", "audio", "button", "canvas", "embed", "frameset", "iframe", "math", "noembed", "noframes"),
        *("noscript", "object", "script", "select", "style", "svg", "template", "textarea", "title", "video", "xmp"),
    }
)
_ATTRIBUTES = {
    "*": {"dir", "lang"},
    "a": {"href"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}


@dataclass(frozen=True, slots=True)
class SafeHtml:
    """What can be shown."""

    html: str
    links: tuple[str, ...]
    """Addresses of links, each once, in their order; the first ones."""
    cut: bool
    """There is more that is not shown."""


def safe_html(text: str) -> SafeHtml:
    """A fragment for the inside of an element; still to be shown in a sandbox."""
    shown = text[:HTML_CHARACTERS]
    for count, tag in enumerate(_START_TAG.finditer(shown), 1):
        if count > ELEMENTS:
            shown = shown[: tag.start()]
            break
    links: dict[str, None] = {}

    def inert(tag: str, name: str, value: str) -> str | None:
        if tag == "a" and name == "href":
            if len(links) < LINKS:
                links[" ".join(value.split())[:LINK_CHARACTERS]] = None
            return None
        return value

    html = nh3.clean(
        shown,
        tags=set(_TAGS),
        clean_content_tags=set(_WITH_THEIR_CONTENT),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=inert,
        strip_comments=True,
        link_rel=None,
    )
    return SafeHtml(html, tuple(links), len(shown) < len(text))
