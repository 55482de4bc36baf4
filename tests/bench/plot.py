"""The picture of a run, as SVG.

Lightness tells the bars of a peer apart, so that it can be read in grey; the file has a second set of colours
for readers whose screen is dark.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import panels, rows
from tests.bench.panels import Bar, Panel
from tests.bench.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TEXT, _GRID, _PAPER, _MARK, _DOT = "#1f2328", "#d8dee4", "#ffffff", "#b33c00", "#1f2329"
_OURS = ("#0b3d91", "#86b3f2", "#c9dcf7")
_OTHERS = ("#58606b", "#b1b9c2", "#dde1e6")
_DARK = {
    _TEXT: "#e6edf3",
    _GRID: "#30363d",
    _PAPER: "#0d1117",
    _MARK: "#ffa657",
    _DOT: "#f6f8fa",
    **dict(zip(_OURS, ("#6cb0ff", "#2f64b5", "#1d3d70"), strict=True)),
    **dict(zip(_OTHERS, ("#a5aeb8", "#616a75", "#3d444d"), strict=True)),
}
"""Colour on light paper → colour on dark paper. Each appears for one purpose only."""

_COLUMNS = 2
_BAND = 0.8
"""Share of a peer's line that its bars fill."""
_LEAST = 1e-3
"""What is below this share of the largest value has no bar on a logarithmic axis: it would only push the others."""


def draw(results: Results, facts: dict[str, str], path: Path) -> None:
    """raises: ImportError without matplotlib (requirements/bench.txt)."""
    import matplotlib

    # Nothing of it needs a screen, and the same figures give the same file.
    matplotlib.use("svg")
    from matplotlib import pyplot

    shown = panels.all_of(results)
    if not shown:
        return
    peers = max(len(panel.bars) for panel in shown)
    lines = -(-len(shown) // _COLUMNS)
    settings: dict[Any, Any] = {
        **dict.fromkeys(("figure.constrained_layout.w_pad", "figure.constrained_layout.h_pad"), 0.12),
        "svg.fonttype": "none",
        "svg.hashsalt": "lockgate",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.edgecolor": _GRID,
        "axes.facecolor": _PAPER,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT),
    }
    with pyplot.rc_context(settings):
        figure, grid = pyplot.subplots(
            lines,
            _COLUMNS,
            squeeze=False,
            figsize=(13, lines * (1.25 + 0.34 * peers) + 0.9),
            facecolor=_PAPER,
            layout="constrained",
        )
        spots = list(grid.flat)
        for spot, panel in zip(spots, shown, strict=False):
            _panel(spot, panel)
        for spot in spots[len(shown) :]:
            spot.set_visible(False)
        figure.suptitle("Lockgate beside its peers, medians of one run", fontsize=13, fontweight="bold")
        figure.supxlabel(_footer(facts), fontsize=8)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    path.write_text(with_dark_colours(drawn.getvalue()))


def _footer(facts: dict[str, str]) -> str:
    told = ("date", "processor", "kernel", "wireguard-go", "openvpn", "ocserv", "rounds")
    return (
        "Dashed line: floor, solid line: goal of that bar; where it is a ratio, against its peer in this run.\n"
        + "; ".join(f"{name} {facts[name]}" for name in told if name in facts)
    )


def _panel(spot: Axes, panel: Panel) -> None:
    height = _BAND / len(panel.series)
    peers = list(panel.bars)
    if panel.log:
        spot.set_xscale("log")
    for line, peer in enumerate(peers):
        shades = _OURS if peer in rows.OURS else _OTHERS
        for number, bar in enumerate(panel.bars[peer]):
            middle = line - _BAND / 2 + (number + 0.5) * height
            _bar(spot, bar, middle, height, shades[number])
    _legend(spot, panel)
    spot.set_yticks(range(len(peers)), peers)
    for label in spot.get_yticklabels():
        if label.get_text() in rows.OURS:
            label.set_fontweight("bold")
    spot.set_ylim(len(peers) - 0.4, -0.6)
    _reach(spot, panel)
    spot.set_xlabel(f"{panel.unit}, {'more' if panel.best == 'high' else 'less'} is better")
    spot.grid(axis="x", color=_GRID, linewidth=0.8)
    spot.set_axisbelow(True)
    spot.tick_params(length=0)
    for side in ("top", "right", "left"):
        spot.spines[side].set_visible(False)
    title = f"{panel.title} ({panel.raw})" if panel.raw else panel.title
    spot.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=22)


def _bar(spot: Axes, bar: Bar, middle: float, height: float, shade: str) -> None:
    if bar.value is None:
        return
    spot.barh(middle, bar.value, height=height * 0.92, color=shade, linewidth=0)
    half = height * 0.5
    for limit, style in ((bar.floor, (0, (2, 1.2))), (bar.goal, "solid")):
        if limit is not None:
            # On paper of its own, to be seen on the bar as well.
            line = ([limit, limit], [middle - half, middle + half])
            spot.plot(*line, color=_PAPER, lw=4, solid_capstyle="butt")
            spot.plot(*line, color=_MARK, lw=1.8, ls=style, solid_capstyle="butt")
    if bar.dot is not None:
        spot.plot([bar.dot], [middle], marker="D", markersize=3.2, color=_DOT, markeredgewidth=0)
    # In a column at the side, where no mark can be mistaken for what the number tells.
    number = _short(bar.value) if bar.dot is None else f"{_short(bar.value)} ◆ {_short(bar.dot)}"
    spot.annotate(number, (1.01, middle), xycoords=("axes fraction", "data"), va="center", fontsize=7)


def _legend(spot: Axes, panel: Panel) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Patch | Line2D] = []
    if len(panel.series) > 1:
        # One swatch for both families of colours: their lightness is alike.
        entries += [Patch(color=_OTHERS[n], label=name) for n, name in enumerate(panel.series)]
    if panel.dots:
        entries.append(
            Line2D([], [], color=_DOT, marker="D", markersize=3.2, lw=0, markeredgewidth=0, label=panel.dots)
        )
    if entries:
        spot.legend(
            handles=entries,
            loc="lower left",
            bbox_to_anchor=(-0.01, 0.995),
            ncols=4,
            frameon=False,
            fontsize=8,
            borderaxespad=0.1,
            handlelength=1.1,
            columnspacing=1.2,
        )


def _reach(spot: Axes, panel: Panel) -> None:
    """The axis: from the smallest to the largest bar, mark or dot."""
    values = [
        value
        for bars in panel.bars.values()
        for bar in bars
        for value in (bar.value, bar.floor, bar.goal, bar.dot)
        if value
    ]
    if panel.log:
        spot.set_xlim(max(min(values) / 2, max(values) * _LEAST), max(values) * 1.3)
        spot.minorticks_off()
        spot.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        spot.set_xlim(0, max(values) * 1.04)


def _short(value: float) -> str:
    """Three digits that matter."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:.{digits}f}"


def with_dark_colours(svg: str) -> str:
    """The same drawing with a style sheet that changes its colours where the reader's screen is dark."""
    changes = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark} !important}}'
        for light, dark in _DARK.items()
        for what in ("fill", "stroke")
    )
    sheet = f"<style>@media (prefers-color-scheme: dark){{{changes}}}</style>"
    head, opening, rest = svg.partition("<defs>")
    if not opening:
        raise ValueError("the drawing has no <defs>")
    return f"{head}{sheet}\n{opening}{rest}"
