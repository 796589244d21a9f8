"""docs/performance.svg: posthouse beside Postfix, drawn from the saved figures.

Left mails a second as a multiple of Postfix's, right CPU for each mail as a part of Postfix's. It has a ground of its
own, so it is readable wherever it is embedded; colours follow the reader's choice of light or dark.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.figures import Taken
from benchmarks.workloads import WORKLOADS, peer, postfix, ratio

_ROW, _BAR, _TOP, _BELOW = 30, 16, 84, 40
_LABELS, _PANEL, _GAP, _WIDTH = 212, 270, 60, 880
_STYLE = """
    svg { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
    .ground { fill: #ffffff; stroke: #d0d7de }
    text { fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 }
    .soft { fill: #59636e; font-size: 12px }
    .value { font-weight: 600 }
    .bar { fill: #0a7d6c }
    .postfix { stroke: #8c959f; stroke-dasharray: 4 3 }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0d1117; stroke: #3d444d }
      text { fill: #f0f6fc }
      .soft { fill: #9198a1 }
      .bar { fill: #2ea997 }
      .postfix { stroke: #9198a1 }
    }
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One workload; None: not compared with Postfix."""

    label: str
    rate: float | None
    """Times Postfix's."""
    cpu: float | None
    """Of Postfix's."""


def rows(taken: Sequence[Taken]) -> list[Row]:
    """The workloads in which both were measured."""
    found = []
    for each in taken:
        ours, base = peer(each.figures, "posthouse"), postfix(each.figures)
        row = Row(WORKLOADS[each.workload].short, ratio(ours.rates, base.rates), ratio(ours.cpu_ms, base.cpu_ms))
        if (row.rate, row.cpu) != (None, None):
            found.append(row)
    return found


def origin(taken: Sequence[Taken]) -> str:
    """Commits and days of what is shown."""
    runs = dict.fromkeys((each.commit, each.moment.partition(" ")[0]) for each in taken)
    return "; ".join(f"commit {commit}, {day}" for commit, day in runs)


def draw(taken: Sequence[Taken]) -> str:
    """The whole document."""
    shown = rows(taken)
    bottom = _TOP + len(shown) * _ROW
    height = bottom + _BELOW
    rates, costs = _LABELS, _LABELS + _PANEL + _GAP
    told = "; ".join(f"{row.label}: {_times(row.rate)} mails/s, {_part(row.cpu)} of the CPU" for row in shown)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title told">',
        '<title id="title">posthouse beside Postfix</title>',
        f'<desc id="told">{escape(told)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
        '<text class="title" x="16" y="28">posthouse beside Postfix, in one run on one machine</text>',
        f'<text class="value" x="{rates}" y="56">Mails a second, times Postfix’s</text>',
        f'<text class="soft" x="{rates}" y="72">more is better</text>',
        f'<text class="value" x="{costs}" y="56">CPU for each mail, of Postfix’s</text>',
        f'<text class="soft" x="{costs}" y="72">less is better</text>',
    ]
    for at, row in enumerate(shown):
        middle = _TOP + at * _ROW + _ROW / 2
        lines.append(f'<text x="{rates - 12}" y="{middle + 4:g}" text-anchor="end">{escape(row.label)}</text>')
    lines += _panel(rates, [row.rate for row in shown], _times)
    lines += _panel(costs, [row.cpu for row in shown], _part)
    lines.append(
        f'<text class="soft" x="16" y="{bottom + 26}">Dashed: Postfix. Measured at {escape(origin(taken))}.'
        " How it was measured: docs/performance.md</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


def _panel(left: int, values: Sequence[float | None], shown: Callable[[float | None], str]) -> list[str]:
    """Bars with their values, and a line where Postfix is."""
    room = _PANEL - 48
    scale = room / max([1.0, *(value for value in values if value is not None)])
    lines = []
    for at, value in enumerate(values):
        top = _TOP + at * _ROW + (_ROW - _BAR) / 2
        if value is None:
            lines.append(f'<text class="soft" x="{left + 4}" y="{top + 12:g}">–</text>')
            continue
        width = max(1.0, value * scale)
        lines.append(f'<rect class="bar" x="{left}" y="{top:g}" width="{width:.1f}" height="{_BAR}" rx="2"/>')
        beside = left + width + 6
        if beside - 8 < left + scale < beside + 40:
            beside = left + scale + 6  # clear of the line
        lines.append(f'<text class="value" x="{beside:.1f}" y="{top + 12.5:g}">{shown(value)}</text>')
    at_postfix = f"{left + scale:.1f}"
    bottom = _TOP + len(values) * _ROW
    lines.append(f'<line class="postfix" x1="{at_postfix}" x2="{at_postfix}" y1="{_TOP}" y2="{bottom}"/>')
    return lines


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}×"


def _part(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
