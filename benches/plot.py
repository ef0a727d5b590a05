"""A line plot with logarithmic axes as SVG text, readable on light and dark pages."""

from __future__ import annotations

import math
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 20, 50
COLOURS = ("#1b7fd6", "#d1495b", "#3a9a5b", "#b5762a", "#7a5cc2", "#8a8a8a")


@dataclass(frozen=True)
class Line:
    """A named series of positive points."""

    name: str
    points: list[tuple[float, float]]


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "#808080") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def plot(across: str, up: str, lines: list[Line]) -> str:
    """Plots the lines that have points."""
    lines = [line for line in lines if line.points]
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    span = math.log10(xs[-1] / xs[0]) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (WIDTH - LEFT - RIGHT) * math.log10(x / xs[0]) / span
        down = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(y) - low) / (high - low)
        return right, down

    frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>']
    for power in range(low, high + 1):
        _, y = at(xs[0], 10.0**power)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#80808060"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{10.0**power:g}", "end"))
    for x in xs:
        parts.append(_text(at(x, ys[0])[0], HEIGHT - BOTTOM + 18, f"{x:,.0f}"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, across))
    parts.append(f'<g transform="translate(16 {HEIGHT / 2}) rotate(-90)">{_text(0, 0, up)}</g>')
    for line, colour in zip(lines, COLOURS, strict=False):
        points = [at(x, y) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(_text(points[-1][0] + 8, points[-1][1] + 4, line.name, "start", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"
