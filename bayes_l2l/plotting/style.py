"""What pictures are made of: colours, axes, intervals, legends, and the cells and sizes that are drawn.

The pictures themselves are in `plots`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.numerals import write_size
from bayes_l2l.data.sizes import size_labels
from bayes_l2l.errors import DataError
from bayes_l2l.posterior.draws import law_draws, stacked
from bayes_l2l.prediction.optimum import tokens_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

    from bayes_l2l.data.sweep import Cell, Sweep
    from bayes_l2l.laws.scaling import Law
    from bayes_l2l.posterior.posterior import Posterior

Floats = npt.NDArray[np.float64]
Name = tuple[str, str]

#: Okabe and Ito's colours, which colour-blind eyes tell apart; those that are weak on white come last.
COLOURS: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip
#: Central intervals of every estimate, unless others are asked for.
LEVELS: Final = (0.5, 0.9)
GREY: Final = "0.35"
#: Axes that go less far than this factor have evenly spaced ticks.
_DECADE: Final = 9.0
#: What intervals may add to either side of an axis, over what data and medians span; and to either side of a forest,
#: over the width of its typical interval.
_ROOM, _TYPICAL = 0.5, 2.5
#: Mark of the words that say that intervals run out of a picture.
CUT: Final = "cut"
#: Points along a curve, and along either side of a map.
GRID: Final = 60
LARGE_RUN: Final[dict[str, Any]] = {"marker": "*", "ms": 8, "ls": "", "mec": "black", "mew": 0.7, "zorder": 6}
DOT: Final[dict[str, Any]] = {"marker": "o", "ms": 3.5, "ls": "", "mew": 0, "alpha": 0.6}
TICK: Final[dict[str, Any]] = {"marker": "|", "ms": 11, "ls": "", "color": "black", "mew": 1.4}


def palette(train_sets: Iterable[str]) -> dict[str, str]:
    """Colour of every training set: by its place among the sorted names, so give all; again after eight."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(set(train_sets)))}


def figure(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Figure and axes to draw in: those given, or new ones."""
    if ax is not None:
        return owner(ax), tidy(ax)
    fig, axes = figures(size, columns=1)
    return fig, axes[0]


def figures(size: tuple[float, float], *, columns: int) -> tuple[Figure, list[Axes]]:
    """New figure that pyplot does not keep, with axes side by side."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, columns, figsize=size, layout="constrained", sharey=True, squeeze=False)
    # A notebook would show a kept figure at the cell's end, and again as the cell's value.
    plt.close(fig)
    return fig, [tidy(ax) for ax in axes[0]]


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """New figure that pyplot does not keep, with axes of their own scales, at most three in a row."""
    from matplotlib import pyplot as plt

    columns = min(count, 3)
    rows = -(-count // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(4.2 * columns + 2.4, 3.6 * rows), layout="constrained", squeeze=False
    )
    plt.close(fig)
    for spare in axes.flat[count:]:
        spare.remove()
    return fig, [tidy(ax) for ax in axes.flat[:count]]


def owner(ax: Axes) -> Figure:
    """Figure that the axes are in."""
    fig = ax.get_figure(root=True)
    assert fig is not None  # axes that were removed from their figure cannot be drawn in
    return fig


def tidy(ax: Axes) -> Axes:
    """Axes without a box, with a faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(color="0.92", lw=0.6)
    return ax


def interval(draws: Floats, level: float) -> Floats:
    """Both ends of the central interval along the last axis."""
    return np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=-1)


def shades(levels: Sequence[float]) -> list[tuple[float, float]]:
    """Levels, the widest first, and how opaque each is: narrower ones lie on top of wider ones."""
    return [(level, 0.22 + 0.1 * i) for i, level in enumerate(sorted(levels, reverse=True))]


def band(ax: Axes, x: Any, draws: Floats, *, levels: Sequence[float], color: str) -> None:
    """Shade the central intervals of draws (x, sample)."""
    for level, alpha in shades(levels):
        ax.fill_between(x, *interval(draws, level), color=color, alpha=alpha, lw=0)


def point_intervals(ax: Axes, x: Any, draws: Floats, *, level: float, color: str) -> None:
    """Draw medians and central intervals of draws (x, sample) as dashes with bars."""
    middle = np.median(draws, axis=-1)
    reach = np.abs(interval(draws, level) - middle)
    look: dict[str, Any] = {"fmt": "_", "ms": 9, "mew": 1.3, "capsize": 7, "lw": 1.5, "zorder": 5}
    ax.errorbar(x, middle, reach, color=color, **look)


def size_band(ax: Axes, flops: Floats, sizes: Floats, *, levels: Sequence[float], color: str) -> None:
    """Draw compute-optimal sizes (budget, sample) over N and D: median, and intervals along equal compute."""
    for level, alpha in shades(levels):
        low, high = interval(sizes, level)
        outline = np.r_[low, high[::-1]], np.r_[tokens_of(flops, low), tokens_of(flops, high)[::-1]]
        ax.fill(*outline, color=color, alpha=alpha, lw=0)
    middle = np.median(sizes, axis=1)
    ax.plot(middle, tokens_of(flops, middle), color=color, lw=1.6)


def forest_row(ax: Axes, row: int, draws: Floats, color: str) -> None:
    """Draw median, 50% and 90% interval of draws (sample,) as a row of a forest."""
    for level, width in zip(LEVELS, (4.5, 1.5), strict=True):
        ax.plot(interval(draws, level), [row, row], color=color, lw=width, solid_capstyle="butt")
    ax.plot(np.median(draws), row, marker="o", ms=6, color=color, mfc="white", mew=1.6, zorder=4)


def literal(text: str) -> str:
    """Text with names of the user's in it, as matplotlib has to be told to show it.

    A dollar sign begins a formula, and what begins with an underscore is left out of legends.
    """
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def key(*, label: str, **style: Any) -> Artist:
    """Legend entry of a line or a marker."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=literal(label), **style)


def band_keys(levels: Sequence[float], color: str) -> list[Artist]:
    """Legend entries of shaded intervals."""
    from matplotlib.patches import Patch

    # What lies on top of the wider ones looks as opaque as all of them together.
    clear = np.cumprod([1 - alpha for _, alpha in shades(levels)])
    named = sorted(zip(sorted(levels, reverse=True), 1 - clear, strict=True))
    return [Patch(color=color, alpha=alpha, lw=0, label=f"{100 * level:g}% interval") for level, alpha in named]


def bar_key(label: str, color: str) -> Artist:
    """Legend entry of a median with its interval, as `point_intervals` draws them."""
    from matplotlib.path import Path

    dashes = [[(-0.7, y), (0.7, y)] for y in (-1, 0, 1)]
    bar = Path(np.concatenate([*dashes, [(0, -1), (0, 1)]]), [Path.MOVETO, Path.LINETO] * 4)
    return key(color=color, marker=bar, ms=10, mew=1.3, mfc="none", ls="", label=label)


def forest_keys(what: str, color: str = GREY) -> list[Artist]:
    """Legend entries of the rows of a forest."""
    return [
        key(color=color, marker="o", ls="", mfc="white", mew=1.6, label=what),
        *(
            key(color=color, lw=width, label=f"{100 * level:g}% interval")
            for level, width in zip(LEVELS, (4.5, 1.5), strict=True)
        ),
    ]


def curve_keys(levels: Sequence[float], *, held_out: bool) -> list[Artist]:
    """Legend entries of what every cell's curve is drawn with."""
    handles = [
        key(**DOT, color=GREY, label="fitted runs"),
        key(color=GREY, lw=1.3, label="compute-optimal curve: median"),
        *band_keys(levels, GREY),
        bar_key(f"forecast of a run: median, {100 * max(levels):g}% interval", GREY),
        key(color=GREY, lw=0.9, ls=":", label="largest fitted compute"),
    ]
    return [*handles, key(**LARGE_RUN, color="white", label="large runs, not fitted")] if held_out else handles


def legend(ax: Axes, handles: Sequence[Artist], *, heading: str | None = None, below: bool = False) -> None:
    """Put the legend beside the axes or below them, where it hides nothing."""
    from matplotlib.transforms import ScaledTranslation

    right, down = (0.0, -0.6) if below else (0.1, 0.0)  # inches from the corner of the axes
    shift = ScaledTranslation(right, down, owner(ax).dpi_scale_trans)
    ax.legend(
        handles=handles,
        title=heading,
        alignment="left",
        ncols=2 if below else 1,
        loc="upper left",
        bbox_to_anchor=(0, 0) if below else (1, 1),
        bbox_transform=ax.transAxes + shift,
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )


def right_labels(ax: Axes, labels: Sequence[str], heading: str) -> None:
    """Write a label beside every row of a forest, at its right, under a heading."""
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(labels)), labels, fontsize=9)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    ax.annotate(heading, (1.0, 1.0), (6, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9)


def contours(ax: Axes, x: Floats, y: Floats, loss: Floats, *, floor: float) -> None:
    """Draw labelled contours of a loss (y, x), evenly spaced in the logarithm of what is above the floor."""
    low, high = (float(np.quantile(loss, q)) - floor for q in (0.003, 0.97))
    levels = floor + np.geomspace(low, high, 12)
    from matplotlib import colormaps

    # Its middle: both ends of the map are lost on a light or on a dark page.
    colours = colormaps["viridis"](np.linspace(0.35, 0.8, len(levels)))
    ax.clabel(
        ax.contour(x, y, loss, levels=levels, colors=colours, linewidths=0.9),
        fmt="%.3g",
        fontsize=7,
        inline_spacing=1,
    )
    ax.grid(visible=False)


def rms(values: Any) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def title(ax: Axes, text: str, *sweeps: Sweep) -> None:
    """Say what is shown, and that it is simulated where any of the sweeps is."""
    if any(sweep.simulated for sweep in sweeps):
        text += "\nsimulated runs, not measured"
    ax.set_title(literal(text), loc="left", fontsize=11)


def plain_log(ax: Axes) -> None:
    """Make the y axis logarithmic, with ticks that are written out: some, however short the axis is."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    class Plain(LogLocator):
        """Round numbers: evenly spaced ones where they span less than a factor of ten."""

        def tick_values(self, vmin: float, vmax: float) -> Any:
            found: Any = super().tick_values(vmin, vmax)
            if 0 < vmin < vmax < _DECADE * vmin:
                found = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(vmin, vmax)
            return found[found > 0]

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(Plain(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def size_ticks(*axes: Axis) -> None:
    """Make axes of model sizes or tokens logarithmic, with ticks as people write them: 20M, 50M, 100M."""
    from matplotlib.ticker import FuncFormatter

    for axis in axes:
        _log_ticks(axis, FuncFormatter(lambda value, _: write_size(value)))


def flops_ticks(axis: Axis) -> None:
    """Make an axis of compute logarithmic, with ticks between powers of ten where these are few."""
    from matplotlib.ticker import LogFormatterSciNotation

    _log_ticks(axis, LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))


def _log_ticks(axis: Axis, formatter: Formatter) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    class Some(LogLocator):
        """More ticks where powers of ten are few."""

        def tick_values(self, vmin: float, vmax: float) -> Any:
            decades = np.log10(vmax / vmin) if 0 < vmin < vmax else 0.0
            few = (1.0, 2.0, 5.0) if decades < 1.7 else (1.0, 3.0) if decades < 2.7 else (1.0,)
            self.set_params(subs=few, numticks=8)
            return super().tick_values(vmin, vmax)

    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_locator(Some())
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(NullLocator())


def within(ax: Axes, *values: Any) -> None:
    """Let data and medians decide how far the y axis goes: an interval adds so much, and runs out of the picture.

    Parameters
    ----------
    ax : Axes
        With everything drawn that it will show.
    *values : array_like
        Data and medians along its y axis.
    """
    every = np.concatenate([np.ravel(np.asarray(one, dtype=float)) for one in values])
    is_log = ax.get_yscale() == "log"
    every = every[np.isfinite(every) & ((every > 0) | (not is_log))]
    if not every.size:
        return
    low, high = (np.log(every.min()), np.log(every.max())) if is_log else (every.min(), every.max())
    more = _ROOM * max(high - low, 1e-3 * max(abs(low), abs(high), 1e-9))
    ends = np.exp([low - more, high + more]) if is_log else np.array([low - more, high + more])
    _cut(ax, "y", *ends)


def forest_within(ax: Axes, middles: Any, lows: Any, highs: Any) -> None:
    """The same of the rows of a forest: no interval makes the others too short to be read."""
    middles, lows, highs = (np.asarray(one, dtype=float) for one in (middles, lows, highs))
    known = np.isfinite(middles) & np.isfinite(lows) & np.isfinite(highs)
    if known.any():
        reach = _TYPICAL * np.median((highs - lows)[known])
        _cut(ax, "x", middles[known].min() - reach, middles[known].max() + reach)


def _cut(ax: Axes, axis: str, low: float, high: float) -> None:
    """Shorten an axis to these ends, and say so in the picture; ends beyond it change nothing."""
    first, last = getattr(ax, f"get_{axis}lim")()
    turned = first > last
    before = (min(first, last), max(first, last))
    after = (max(before[0], low), min(before[1], high))
    if after == before:
        return
    getattr(ax, f"set_{axis}lim")(*(after[::-1] if turned else after))
    place: dict[str, Any] = {"xy": (1, 1), "xycoords": "axes fraction", "ha": "right", "va": "bottom"}
    ax.annotate("intervals run out of the picture", **place, fontsize=7, color=GREY, gid=CUT)


def is_cut(fig: Figure) -> bool:
    """Whether intervals run out of a picture."""
    return any(text.get_gid() == CUT for ax in fig.axes for text in ax.texts)


def cells_of(sweep: Sweep, cells: Sequence[Cell] | None) -> list[Name]:
    """Cells by name; by default each training set's own, or all where there is none."""
    if cells is not None:
        return [sweep.cell(cell) for cell in cells]
    names = sweep.cells
    every = list(zip(names["eval_set"], names["train_set"], strict=True))
    return [cell for cell in every if cell[0] == cell[1]] or every


def one_cell(sweep: Sweep, train_set: str | None, eval_set: str | None) -> Name:
    """First cell of these sets, a training set's own before others."""
    train_sets, eval_sets = (None if name is None else [name] for name in (train_set, eval_set))
    return cells_of(sweep.select(train_sets, eval_sets), None)[0]


def label_of(cell: Name) -> str:
    """Name of a cell for people."""
    return cell[0] if cell[0] == cell[1] else f"{cell[0]} of {cell[1]}"


def row_label(point: pd.Series[Any]) -> str:
    """Name of a row of a forecast's points."""
    size = f"{write_size(point['params'])} parameters, {write_size(point['tokens'])} tokens"
    return f"{label_of((point['eval_set'], point['train_set']))}\n{size}, {point['extrapolation']:.3g}x compute"


def is_cell(table: pd.DataFrame, cell: Name) -> npt.NDArray[np.bool_]:
    """Whether each row is of the cell."""
    return ((table["eval_set"] == cell[0]) & (table["train_set"] == cell[1])).to_numpy(dtype=bool)


def rows_of(table: pd.DataFrame, cell: Name) -> pd.DataFrame:
    """Rows of the cell."""
    return table[is_cell(table, cell)]


def matched(points: pd.DataFrame, actual: pd.DataFrame) -> pd.DataFrame:
    """Actual losses of forecast points, and the row of each."""
    tables = [table.assign(_size=size_labels(table)) for table in (points.assign(row=range(len(points))), actual)]
    key = ["train_set", "eval_set", "_size"]
    both = tables[0][[*key, "row"]].merge(tables[1][[*key, "loss"]], on=key)
    if both.empty:
        raise DataError("None of the actual losses is of a forecast point (training set, evaluation and size).")
    return both


def law_of(fit: Posterior, cell: Name, *, most: int | None = None) -> Law:
    """Draws of a cell's law, thinned evenly to about as many as asked for."""
    draws = stacked(fit.draws)
    step = max(1, draws.sizes["sample"] // most) if most else 1
    return law_draws(draws.isel(sample=slice(None, None, step)), fit.cells.index(cell))


def around(values: pd.Series, *more: Floats) -> Floats:
    """Grid that spans the values, and half as much again at both ends."""
    every = np.concatenate([values.to_numpy(), *more])
    return np.geomspace(every.min() / 1.5, every.max() * 1.5, GRID)
