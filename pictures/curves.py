"""Curves over epochs as inline SVG, in colors that the page around them sets."""

from html import escape
from typing import Mapping, NamedTuple, Sequence

METRICS = {"loss": "loss", "D": "discriminators: loss", "D1": "first discriminator", "D2": "second discriminator",
           "mismatched": "mismatched labels", "D_updated": "share of updated discriminators", "G": "generator: loss",
           "adv": "adversarial loss", "vgg": "perceptual loss", "l1": "swap consistency loss",
           "l2": "reconstruction loss", "tv": "total variation", "truth": "loss to ground truth",
           "coarse": "difference at 8 × 8 pixels", "gray": "color of gray photographs",
           "best_test_acc": "best test accuracy"}
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
