"""The ladder of a TEST as people read it: one line a stage, with its facts, what went wrong and what to do."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.output import cell, console, plain, span

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Document = Mapping[str, object]

_MARKS = {True: ("ok", "✓"), False: ("failed", "✗")}
"""Word and sign; the word stands there too, since colours and signs do not reach everybody."""


def show_ladder(profile: str, result: Document) -> None:
    """All servers, then one line for the whole."""
    to = console()
    servers = cast(list[Document], result["servers"])
    for server in servers:
        for text in _server(server, signs=_signs(to.encoding)):
            to.print(text)
    good = sum(bool(server["ok"]) for server in servers)
    word = "ok" if result["ok"] else "failed"
    to.print(cell(f"{profile}: {word}, {good} of {len(servers)} servers can be used", _style(bool(result["ok"]))))


def show_growing(lines: Iterable[Document]) -> Document:
    """Ladders while they grow, on a terminal: each line has the ladder of one server so far, the last one the whole
    result, which is returned and not shown."""
    from rich.console import Group
    from rich.live import Live

    to = console()
    ladders: dict[str, Document] = {}
    with Live(console=to, transient=True, auto_refresh=False) as live:
        for line in lines:
            if "servers" in line:
                return line
            ladders[str(line["server"])] = line
            texts = [text for server in ladders.values() for text in _server(server, signs=_signs(to.encoding))]
            live.update(Group(*texts), refresh=True)
    raise Stop(Exit.UNREACHABLE, "The node ended the test before its end.")


def _server(server: Document, *, signs: bool) -> Iterator["RenderableType"]:
    yield cell(server["server"], "bold")
    for stage in cast(list[Document], server["stages"]):
        yield from _stage(stage, signs=signs)


def _stage(stage: Document, *, signs: bool) -> Iterator["RenderableType"]:
    from rich.text import Text

    ok = bool(stage["ok"])
    word, sign = _MARKS[ok]
    mark = f"{sign} {word}" if signs else word
    detail = cast(Document, stage["detail"])
    yield Text.assemble(
        "  ",
        (f"{mark:<8}", _style(ok)),
        f" {plain(stage['name']):<8} {span(stage['seconds']):>8}  ",
        plain(_facts(detail)),
    )
    if not ok:
        for line in cast(list[object], stage["transcript"]):
            yield _indented(Text(plain(line), style="dim"))
    if stage["advice"]:
        yield _indented(Text(plain(stage["advice"]), style="green" if ok else "yellow"))


def _indented(text: "Text") -> "RenderableType":
    """Also where it is wrapped."""
    from rich.padding import Padding

    return Padding(text, (0, 0, 0, 11), expand=False)


def _signs(encoding: str) -> bool:
    return encoding.lower().replace("-", "") == "utf8"


def _style(ok: bool) -> str:
    return "green" if ok else "bold red"


def _facts(detail: Document) -> str:
    """What a stage found out, its fault first; nothing that this version does not know is left out."""
    told = {name: _text(value) for name, value in detail.items()}
    words = [told.pop("fault", "")]
    if "version" in told:
        words.append(f"{told.pop('version')} {told.pop('cipher', '')}".strip())
    if "certificate" in told:
        words.append(f"certificate {told.pop('certificate')}")
    if "names" in told:
        words.append(f"for {told.pop('names')}")
    if "issuer" in told:
        words.append(f"issued by {told.pop('issuer')}")
    if "valid_from" in told:
        words.append(f"valid from {told.pop('valid_from')} to {told.pop('valid_until', '')}")
    if "days_left" in told:
        words.append(f"{told.pop('days_left')} days left")
    if "sha256" in told:
        words.append(f"SHA-256 {told.pop('sha256')}")
    words += [told.pop(name) for name in ("reply", "addresses", "address", "offers") if name in told]
    words += [f"{name} {value}" for name, value in told.items()]
    return ", ".join(word for word in words if word)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
