"""A small line chart as SVG."""

import html
from collections.abc import Sequence

ACCENT = "#4f46e5"


def curve_svg(xs: Sequence[float], ys: Sequence[float], title: str) -> str:
    """A small line chart with its end values."""
    low, high = min(ys), max(ys)
    span = (high - low) or 1.0
    x0, x1 = min(xs), max(xs)

    def at(x: float, y: float) -> tuple[float, float]:
        return 30 + 250 * (x - x0) / ((x1 - x0) or 1.0), 90 - 75 * (y - low) / span

    points = [at(x, y) for x, y in zip(xs, ys, strict=True)]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{ACCENT}"><title>{x:g}: {y:.4g}</title>'
        "</circle>"
        for (a, b), x, y in zip(points, xs, ys, strict=True)
    )
    words = ", ".join(f"{x:g}: {y:.3g}" for x, y in zip(xs, ys, strict=True))
    return (
        f'<svg viewBox="0 0 300 120" width="100%" style="max-width:420px" role="img"'
        f' aria-label="{html.escape(title)}. {words}">'
        f'<text x="30" y="10" font-size="10" fill="currentColor">{html.escape(title)}</text>'
        f'<polyline points="{line}" fill="none" stroke="{ACCENT}" stroke-width="2"/>{dots}'
        f'<text x="2" y="94" font-size="9" fill="currentColor">{low:.3g}</text>'
        f'<text x="2" y="20" font-size="9" fill="currentColor">{high:.3g}</text>'
        f'<text x="30" y="112" font-size="9" fill="currentColor">{x0:g}</text>'
        f'<text x="270" y="112" font-size="9" fill="currentColor">{x1:g}</text></svg>'
    )
