"""What goes to the terminal. Texts from elsewhere (subjects, addresses, replies) are shown, never obeyed:
control and bidirectional characters appear as escapes, and rich markup is not looked for in them.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from posthouse.cli.errors import Stop

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {
    "relayed": "green",
    "ok": "green",
    "active": "cyan",
    "queued": "cyan",
    "held": "yellow",
    "closed": "green",
    "half-open": "yellow",
    "open": "bold red",
    "warn": "yellow",
    "deferred": "yellow",
    "failed": "bold red",
    "fault": "bold red",
    "refused": "bold red",
    "deleted": "dim",
}
"""Colour is never the only sign: the word stands there too."""


def plain(value: object) -> str:
    """`value` as text of printable characters only; others as `\\x1b` or `\\u202e`."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def show_json(document: object) -> None:
    """One document on stdout; ASCII, so nothing in it can act on a terminal."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def console(*, stderr: bool = False) -> "Console":
    """A rich console without markup, emoji and highlighting; when piped plain, and no line is wrapped or cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=width)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A moving sign on stderr while something takes its time; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with console(stderr=True).status(plain(what)):
        yield


def line(*parts: object) -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(" ".join(plain(part) for part in parts) + "\n")


def cell(value: object, style: str = "") -> "Text":
    """A text from elsewhere as a rich cell; styled by `style` or, for a known word, by that word."""
    from rich.text import Text

    text = plain(value)
    return Text(text, style=style or STYLES.get(text, ""), overflow="fold")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table on stdout, or the sentence `empty` when there are no rows."""
    shown = [list(row) for row in rows]
    if not shown:
        line(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in shown:
        grid.add_row(*(cell(value) for value in row))
    console().print(grid)


def pairs(values: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        line(f"{name:<{width}}  {plain(value)}")


def moment(value: object) -> str:
    """Epoch seconds as UTC; empty for none."""
    if not isinstance(value, int | float):
        return ""
    try:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(value)


def span(seconds: object) -> str:
    """A time span as people say it: 12 ms, 1.5 s, 4 min, 3.5 h."""
    if not isinstance(seconds, int | float):
        return ""
    size = abs(seconds)
    if size < 0.1:
        return f"{seconds * 1000:.2g} ms"
    if size < 60:
        return f"{seconds:.3g} s"
    if size < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if size < 172800 else f"{seconds / 86400:.3g} d"


def octets(value: object) -> str:
    """A size as people say it."""
    if not isinstance(value, int | float):
        return ""
    size = float(value)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def show_stop(stop: Stop, *, as_json: bool) -> None:
    """Why a command ends: a JSON document on stdout, or lines on stderr."""
    if as_json:
        show_json(stop.document())
        return
    from rich.text import Text

    to = console(stderr=True)
    to.print(Text.assemble(("error: ", "bold red"), plain(stop.message)))
    for fault in stop.faults:
        where = fault.field or "input"
        value = f" = {plain(fault.value)}" if fault.value else ""
        to.print(Text.assemble("  ", (plain(where), "bold"), value))
        to.print(Text(f"    {plain(fault.rule)}"))
        if fault.remedy:
            to.print(Text(f"    {plain(fault.remedy)}", style="green"))
    if stop.remedy:
        to.print(Text(plain(stop.remedy), style="green"))
