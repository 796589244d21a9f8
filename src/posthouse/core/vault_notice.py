"""The notice that tells the recipients of a mail where its attachments are, as text and as HTML.

Names come from strangers and links from the vault: names are one line, cut and escaped, and a link stands only where
it is one that may stand in a mail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

from posthouse.core.examination import NAME_LENGTH, AddNotice, Position
from posthouse.core.mime_text import one_line
from posthouse.core.vault_answer import is_link

_NO_LINK = "ask your administrator for it"


@dataclass(frozen=True, slots=True)
class KeptInVault:
    """One attachment, with what people are told of it."""

    name: str
    size: int
    """Octets."""
    url: str


def vault_notice(
    files: Sequence[KeptInVault], *, removed: bool, expires: date | None, position: Position = Position.END
) -> AddNotice:
    """One notice for all `files`, of which there is one at least; `expires`: the last whole day they can be had, UTC;
    None: no limit is set."""
    head = _head(len(files), removed)
    until = f"Available until {expires.isoformat()} (UTC)." if expires is not None else ""
    text, html = [head, ""], [f"<div><p>{escape(head)}</p><ul>"]
    for each in files:
        name = one_line(each.name)[:NAME_LENGTH] or "attachment"
        line = f"{name} ({readable_size(each.size)})"
        link = each.url if is_link(each.url) else ""
        text += [f"- {line}", f"  {link or _NO_LINK}"]
        shown = f'<a href="{escape(link)}">{escape(link)}</a>' if link else _NO_LINK
        html.append(f"<li>{escape(line)}<br>{shown}</li>")
    html.append("</ul>")
    if until:
        text += ["", until]
        html.append(f"<p>{until}</p>")
    return AddNotice(position, "\n".join(text) + "\n", "".join(html) + "</div>")


def _head(count: int, removed: bool) -> str:
    if removed:
        what = "An attachment of this mail was" if count == 1 else f"{count} attachments of this mail were"
        return f"{what} removed and stored in a vault:"
    what = "An attachment of this mail is" if count == 1 else f"{count} attachments of this mail are"
    return f"{what} also stored in a vault:"


def readable_size(octets: int) -> str:
    """As people read it: `1 byte`, `812 bytes`, `1.5 KiB`, `12 MiB`."""
    if octets < 1024:
        return "1 byte" if octets == 1 else f"{octets} bytes"
    size, units = octets / 1024, ["KiB", "MiB", "GiB", "TiB"]
    while round(size) >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    tenths = f"{size:.1f}".removesuffix(".0")
    return f"{tenths if len(tenths) <= 3 else f'{size:.0f}'} {units[0]}"
