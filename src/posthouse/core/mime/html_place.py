"""Where in an HTML text a notice can stand: behind `<body>`, or before `</body>`.

No parser: one linear pass over tags that knows comments, quoted attributes and elements whose text is no markup, so
that a `</body>` in a script or a comment is not taken for the end. What is left open at the end of the text would
swallow what follows; then the place before it is taken. Whether a style sheet hides the notice is not looked at.
Source: the tokenisation of the HTML standard (WHATWG), without its escapes in scripts.
"""

import re
from dataclasses import dataclass

_OPENING = re.compile(r"<(?:!--|([!?])|(/?)([a-zA-Z][^\s/>]*+))")
_ATTRIBUTES = re.compile(r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+'|(?!["'])))*+>""")
_NO_MARKUP = frozenset({"script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"})
_COMMENT_END = re.compile(r"--!?>")


@dataclass(slots=True)
class _Seen:
    body: int | None = None
    """Behind the first `<body>`; likewise the next."""
    head: int | None = None
    html: int | None = None
    doctype: int = 0
    body_end: int | None = None
    """Before the last `</body>`."""
    html_end: int | None = None
    open: int | None = None
    """Before what is not closed when the text ends."""


def head_place(text: str) -> int:
    """Offset behind `<body ...>`; without one behind the head, `<html>` or the document type, else 0."""
    seen = _look(text)
    for place in (seen.body, seen.head, seen.html):
        if place is not None:
            return place
    return seen.doctype


def end_place(text: str) -> int:
    """Offset before the last `</body>`; without one before `</html>`, else the end of the text."""
    seen = _look(text)
    for place in (seen.body_end, seen.html_end, seen.open):
        if place is not None:
            return place
    return len(text)


def _look(text: str) -> _Seen:
    seen = _Seen()
    at = 0
    while opening := _OPENING.search(text, at):
        start, end = opening.span()
        declaration, closing, name = opening.groups()
        if name is not None:
            after = _ATTRIBUTES.match(text, end)
            at = after.end() if after else -1
        elif declaration:
            at = text.find(">", end) + 1 or -1
            if text[start + 2 : start + 9].lower() == "doctype" and at > 0 and seen.html is None:
                seen.doctype = at
        else:
            # `<!-->` and `<!--->` are comments, too.
            ended = _COMMENT_END.search(text, start + 2)
            at = ended.end() if ended else -1
        if at > 0 and name is not None:
            _note(seen, name.lower(), bool(closing), start, at)
            if not closing:
                at = _after_text(text, name.lower(), at)
        if at < 0:
            seen.open = start
            break
    return seen


def _note(seen: _Seen, name: str, closing: bool, start: int, end: int) -> None:
    match name, closing:
        case "body", False if seen.body is None:
            seen.body = end
        case "head", True if seen.head is None:
            seen.head = end
        case "html", False if seen.html is None:
            seen.html = end
        case "body", True:
            seen.body_end = start
        case "html", True:
            seen.html_end = start
        case _:
            pass


def _after_text(text: str, name: str, at: int) -> int:
    """Offset of the end tag of an element without markup, -1 if it has none; `at` for all others."""
    if name == "plaintext":
        return -1
    if name not in _NO_MARKUP:
        return at
    ended = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(text, at)
    return ended.start() if ended else -1
