"""A bar chart as SVG, without a drawing library."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 760
LEFT = 190
BAR = 22
GAP = 26
COLOURS = ("#d3d6db", "#9aa1ad", "#2f6db5", "#7fb37a")


def bars(title: str, unit: str, labels: Sequence[str], groups: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Draw one horizontal bar per label in each group, with its value at its end."""
    largest = max(value for _name, values in groups for value in values) or 1
    scale = (WIDTH - LEFT - 110) / largest
    y = 64
    parts = []
    for name, values in groups:
        height = BAR * len(values)
        middle = y + height / 2 + 5
        parts.append(f'<text x="{LEFT - 12}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>')
        for number, value in enumerate(values):
            top = y + number * BAR
            colour = COLOURS[number % len(COLOURS)]
            length = value * scale
            parts.append(
                f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR - 4}" fill="{colour}" rx="2"/>'
            )
            parts.append(
                f'<text x="{LEFT + length + 8:.1f}" y="{top + 14}">{value:,.0f} {escape(unit)}</text>'
            )
        y += height + GAP
    x = LEFT
    for number, label in enumerate(labels):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 11}">{escape(label)}</text>')
        x += 40 + 7 * len(label)
    height = y + 36
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">',
            '<g font-family="sans-serif" font-size="13" fill="#222">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="20" y="32" font-size="17" font-weight="bold">{escape(title)}</text>',
            *parts,
            "</g></svg>",
            "",
        ]
    )
