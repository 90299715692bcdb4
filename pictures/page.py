"""The page of a run's report, for narrow and wide, light and dark screens, and its curves as inline SVG.

It is one HTML file without external files; the page sets the colors of the curves.
"""

import base64
import re
from html import escape
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

from options.config import GENERATOR_LOSSES

HEAD = "<!doctype html>\n<!-- the report of a run of JESRL-FER -->\n"
STYLE = """
:root{color-scheme:light dark;--ink:#212529;--paper:#fff;--faint:#5c656e;--rule:#dee2e6;--card:#f6f8fa;--a:#0b5cad;
--b:#b4450a;--good:#1a6b38;--bad:#a3301c}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--paper:#15181b;--faint:#a5adb5;--rule:#353b41;--card:#1e2327;
--a:#7ab8f5;--b:#f2a06b;--good:#7fd39a;--bad:#ff9c86}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:20px;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.5em;margin:.2em 0}h2{font-size:1.15em;margin:2em 0 .6em;border-bottom:1px solid var(--rule)}
p{margin:.4em 0}.faint{color:var(--faint)}
.verdict{border-left:4px solid var(--good);background:var(--card);padding:.6em 1em;margin:1em 0}
.verdict.bad{border-color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr));gap:14px}
svg{width:100%;background:var(--card);border-radius:6px;padding:6px}
svg text{font-size:11px;fill:var(--faint)}svg .title{font-size:13px;fill:var(--ink)}
.rule{stroke:var(--rule)}.level{stroke:var(--faint);stroke-dasharray:4 4}
polyline{fill:none;stroke-width:2}.line0{stroke:var(--a)}.line1{stroke:var(--b)}.dot0{fill:var(--a)}.dot1{fill:var(--b)}
svg .name0{fill:var(--a)}svg .name1{fill:var(--b)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25em .8em;border-bottom:1px solid var(--rule);white-space:nowrap;font-weight:400;
overflow-wrap:normal}
th{color:var(--faint)}th:first-child,td:first-child{text-align:left;padding-left:0}
.text{text-align:left;white-space:normal;overflow-wrap:break-word}.flag{white-space:nowrap}
@media(max-width:520px){body{padding:12px}table{font-size:.82em}th,td{padding:.25em .35em}}
img{max-width:100%;height:auto;border-radius:6px;background:#fff}
"""


def page(title: str, note: str, sections: Sequence[tuple[str, str]]) -> str:
    """Return the whole page from sections, each a heading and its HTML."""
    body = "".join((f"<h2>{escape(heading)}</h2>\n" if heading else "") + f"{content}\n"
                   for heading, content in sections)
    return (f'{HEAD}<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1><p class="faint">{escape(note)}</p>\n'
            f'{body}</body></html>\n')


def with_whole_flags(text: str) -> str:
    """Return a text as HTML in which no line breaks within a flag such as ``--epochs``."""
    return re.sub(r"(?<![\w-])--?[a-zA-Z]\w*", r'<span class="flag">\g<0></span>', escape(text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Return a table that scrolls by itself on a narrow screen; its first ``text_columns`` are aligned to the left."""
    def line(row: Sequence[str], tag: str = "td") -> str:
        cells = (f'<{tag} class="{"text" if i < text_columns else "figure"}">{with_whole_flags(cell)}</{tag}>'
                 for i, cell in enumerate(row))
        return f"<tr>{''.join(cells)}</tr>"

    return f'<div class="wide"><table>{line(head, "th") if head else ""}{"".join(map(line, rows))}</table></div>'


def verdict(findings: Sequence[str], otherwise: str) -> str:
    """Return the findings about a result as HTML, or the sentence ``otherwise`` if there are none."""
    return "".join(f'<p class="verdict bad">{with_whole_flags(finding[:1].upper() + finding[1:])}.</p>'
                   for finding in findings) \
        or f'<p class="verdict">{escape(otherwise)}</p>'


def picture(path: Path, description: str) -> str:
    """Return a JPEG or PNG file as HTML that contains it."""
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(description)}" src="data:image/{kind};base64,{data}">'


# ------------------------------------------------------------------------------------------------- curves

METRICS = {"loss": "loss", "D": "discriminators: loss", "D1": "first discriminator", "D2": "second discriminator",
           "mismatched": "mismatched labels", "D_updated": "share of updated discriminators", "G": "generator: loss",
           **{loss.name: loss.title for loss in GENERATOR_LOSSES}, "best_test_acc": "best test accuracy",
           "swap_quality": "quality of the swaps (0: chance, 1: real images)"}
ACCURACIES = {"acc": "training", "val_acc": "validation", "test_acc": "test"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 300, 176, 58, 288, 34, 146


class Line(NamedTuple):
    """A named line through the points (x, y)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def chart(title: str, lines: Sequence[Line], level: tuple[str, float] | None = None, unit: str = "") -> str:
    """Return lines over epochs with their last values, as SVG; ``level`` names a dashed line, such as chance."""
    values = [value for line in lines for value in line.y] + ([level[1]] if level else [])
    low, high = min(values), max(values)
    low, high = (low - 1, high + 1) if low == high else (low - 0.04 * (high - low), high + 0.04 * (high - low))
    first, last = (end(line.x[i] for line in lines) for end, i in ((min, 0), (max, -1)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = 0.5 if first == last else (x - first) / (last - first)
        return LEFT + across * (RIGHT - LEFT), BOTTOM - (y - low) / (high - low) * (BOTTOM - TOP)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
             f'<text class="title" x="4" y="14">{escape(title)}</text>']
    for tick in (min(values), (min(values) + max(values)) / 2, max(values))[::1 if min(values) < max(values) else 3]:
        y = place(first, tick)[1]
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
                     f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}{unit}</text>')
    for x in sorted({first, last}):
        parts.append(f'<text class="tick" x="{place(x, low)[0]:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{x:g}'
                     "</text>")
    parts.append(f'<text class="tick" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 18}" text-anchor="middle">epoch</text>')
    if level:
        y = place(first, level[1])[1]
        parts.append(f'<path class="level" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
                     f'<text class="tick" x="{RIGHT}" y="{y - 4:.1f}" text-anchor="end">{escape(level[0])}</text>')
    for number, line in enumerate(lines):
        points = [place(x, y) for x, y in zip(line.x, line.y)]
        parts.append(f'<polyline class="line{number}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'
                     f'<circle class="dot{number}" cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="3"/>')
        if len(lines) > 1:
            parts.append(f'<text class="name{number}" x="{RIGHT}" y="{14 if number else 27}" text-anchor="end">'
                         f'{escape(line.name)} {line.y[-1]:.3g}{unit}</text>')
    return "".join([*parts, "</svg>"])


def charts(metrics: Mapping[str, Sequence[tuple[float, float]]], chance: float | None) -> str:
    """Return a chart of the accuracies in percent, and one of each other metric, as SVG.

    ``metrics`` are points (epoch, value) by the metric's name in the log; ``chance`` is the accuracy of guessing.
    """
    accuracies = [Line(label, *zip(*metrics[name])) for name, label in ACCURACIES.items() if name in metrics]
    level = ("chance", chance) if chance is not None else None
    first = [chart("accuracy", accuracies, level, " %")] if accuracies else []
    return "".join([*first, *(chart(METRICS.get(name, name), [Line(name, *zip(*points))])
                              for name, points in metrics.items() if name not in ACCURACIES)])
