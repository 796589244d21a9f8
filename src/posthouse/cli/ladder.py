"""The ladder of a TEST as people read it: one line a stage, with its facts, what went wrong and what to do."""

from collections.abc import Mapping
from typing import cast

from posthouse.cli.output import cell, console, plain, span

Document = Mapping[str, object]

_MARKS = {True: ("ok", "✓"), False: ("failed", "✗")}
"""Word and sign; the word stands there too, since colours and signs do not reach everybody."""


def show_ladder(profile: str, result: Document) -> None:
    """All servers, then one line for the whole."""
    to = console()
    servers = cast(list[Document], result["servers"])
    for server in servers:
        to.print(cell(server["server"], "bold"))
        for stage in cast(list[Document], server["stages"]):
            _show_stage(stage)
    good = sum(bool(server["ok"]) for server in servers)
    word = "ok" if result["ok"] else "failed"
    to.print(cell(f"{profile}: {word}, {good} of {len(servers)} servers can be used", _style(bool(result["ok"]))))


def _show_stage(stage: Document) -> None:
    from rich.text import Text

    to = console()
    ok = bool(stage["ok"])
    word, sign = _MARKS[ok]
    mark = f"{sign} {word}" if _signs(to.encoding) else word
    detail = cast(Document, stage["detail"])
    to.print(
        Text.assemble(
            "  ",
            (f"{mark:<8}", _style(ok)),
            f" {plain(stage['name']):<8} {span(stage['seconds']):>8}  ",
            plain(_facts(detail)),
        )
    )
    if not ok:
        for line in cast(list[object], stage["transcript"]):
            to.print(Text(f"           {plain(line)}", style="dim"))
    if stage["advice"]:
        to.print(Text(f"           {plain(stage['advice'])}", style="green" if ok else "yellow"))


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
