"""Pictures of calibration: whether intervals of a backtest held what they promised, and how far out.

As in `plots`, the functions return a figure that pyplot does not keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import ForecastError
from bayes_l2l.evaluation.scores import score_rows
from bayes_l2l.plotting import style as drawing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.evaluation.backtests import Backtest

Floats = npt.NDArray[np.float64]

#: Chance with which the bands and bars hold a calibrated forecast.
BAND: Final = 0.9
_NOMINAL: Final = np.linspace(0, 1, 101)


def reliability(backtest: Backtest, *, by: str | Sequence[str] = "model", ax: Sequence[Axes] | None = None) -> Figure:
    """Draw coverage against nominal level, and the distribution of the PIT, which says on which side losses fall.

    The bands are where losses that fall independently of each other would lie. Those of one split do not: they are
    off together, so that a line may leave its band without the intervals being wrong.

    Parameters
    ----------
    backtest : Backtest
        Forecasts beside what happened.
    by : str or sequence of str
        Columns of its table, or ``"distance"``: a line each.
    ax : sequence of two matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ForecastError
        If there is no such column.
    """
    groups = _groups(backtest, by)
    colour = _colours(groups)
    fig, axes = drawing.figures((11.5, 4.8), columns=2) if ax is None else (drawing.owner(ax[0]), list(ax))
    handles: list[Artist] = []
    fewest = min(map(len, groups.values()))
    for one in axes:
        one.plot([0, 1], [0, 1], color=drawing.GREY, lw=0.9, ls=":")
        one.fill_between(_NOMINAL, *_binomial(fewest, _NOMINAL), color=drawing.GREY, alpha=0.15, lw=0)
    for name, rows in groups.items():
        value = rows["pit"].to_numpy()
        # A central interval holds what its level promises of the PIT's distance from the middle.
        for one, ordered in zip(axes, (np.sort(np.abs(2 * value - 1)), np.sort(value)), strict=True):
            one.plot(_NOMINAL, _share(ordered, _NOMINAL), color=colour[name], lw=1.6)
        handles.append(drawing.key(color=colour[name], lw=1.6, label=f"{name}: {len(rows)} losses"))
    axes[0].set(xlabel="nominal level of the central interval", ylabel="part of the losses")
    axes[1].set(xlabel="probability integral transform (PIT)")
    drawing.title(axes[0], "Held by the interval" + _simulated(backtest))
    drawing.title(axes[1], "PIT up to here (above the diagonal: forecasts too high)")
    handles.append(drawing.key(color=drawing.GREY, lw=0.9, ls=":", label="calibrated"))
    handles.append(_band_key(f"{100 * BAND:g}% band of {fewest}\nindependent losses"))
    drawing.legend(axes[1], handles)
    return fig


def coverage_by_extrapolation(
    backtest: Backtest, *, level: float = 0.9, by: str | Sequence[str] = "model", ax: Axes | None = None
) -> Figure:
    """Draw how often intervals held the loss, against how far it lay beyond the largest fitted compute.

    Parameters
    ----------
    backtest : Backtest
        Forecasts beside what happened.
    level : float
        Nominal coverage, one of 0.5, 0.8, 0.9 and 0.95.
    by : str or sequence of str
        Columns of its table: a line each.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A point a class of distance, with the binomial interval of its losses, were they independent; their number
        is written below.

    Raises
    ------
    ForecastError
        If there is no such column or interval.
    """
    groups = _groups(backtest, by)
    inside = f"in{100 * level:.0f}"
    if inside not in next(iter(groups.values())):
        raise ForecastError(f"The backtest has no {100 * level:g}% intervals.")
    colour = _colours(groups)
    fig, ax = drawing.figure(ax, (8.5, 4.8))
    handles: list[Artist] = []
    for place, (name, rows) in enumerate(groups.items()):
        found = rows.groupby("distance", observed=True).agg(
            at=("extrapolation", lambda x: np.exp(np.log(x).mean())), n=(inside, "size"), held=(inside, "sum")
        )
        share = (found["held"] / found["n"]).to_numpy()
        # Lines of several groups stand side by side.
        x = found["at"].to_numpy() * 1.03 ** (place - (len(groups) - 1) / 2)
        reach = np.abs(_jeffreys(found["held"], found["n"]) - share)
        ax.errorbar(x, share, reach, color=colour[name], marker="o", ms=5, lw=1.3, capsize=4)
        for at, n in zip(x, found["n"], strict=True):
            ax.annotate(f"{n}", (at, 0), (0, 4 + 10 * place), textcoords="offset points", ha="center", fontsize=8,
                        color=colour[name])  # fmt: skip
        handles.append(drawing.key(color=colour[name], marker="o", ms=5, lw=1.3, label=f"{name}: {len(rows)} losses"))
    ax.axhline(level, color=drawing.GREY, lw=0.9, ls=":")
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="compute over the largest fitted", ylabel="part of the losses")
    ax.xaxis.set_major_formatter("{x:g}x")
    ax.xaxis.set_major_locator(_ticks())
    ax.minorticks_off()
    drawing.title(ax, f"Held by {100 * level:g}% intervals, by distance" + _simulated(backtest))
    handles.append(drawing.key(color=drawing.GREY, lw=0.9, ls=":", label="promised"))
    drawing.legend(ax, handles)
    return fig


def _groups(backtest: Backtest, by: str | Sequence[str]) -> dict[str, pd.DataFrame]:
    """Scored rows of every group, by its name."""
    columns = [by] if isinstance(by, str) else list(by)
    scored = score_rows(backtest.frame)
    if unknown := [c for c in columns if c not in scored]:
        raise ForecastError(f"The backtest has no column {unknown[0]!r}; it has {', '.join(map(str, scored))}.")
    return {", ".join(map(str, key)): rows for key, rows in scored.groupby(columns, observed=True)}


def _simulated(backtest: Backtest) -> str:
    return "\nsimulated runs, not measured" if backtest.frame["simulated"].any() else ""


def _colours(groups: dict[str, Any]) -> dict[str, str]:
    return {name: drawing.COLOURS[i % len(drawing.COLOURS)] for i, name in enumerate(groups)}


def _share(ordered: Floats, levels: Floats) -> Floats:
    """Part of the ordered values that is at most each level."""
    return np.searchsorted(ordered, levels, side="right") / len(ordered)


def _binomial(n: int, chance: Floats) -> tuple[Floats, Floats]:
    """Both ends of the band of n independent losses."""
    from scipy.stats import binom

    low, high = (binom.ppf(q, n, chance) / n for q in (0.5 - BAND / 2, 0.5 + BAND / 2))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def _jeffreys(held: pd.Series, n: pd.Series) -> Floats:
    """Both ends of Jeffreys' interval of a share, shape (2, class); it holds the share itself."""
    from scipy.stats import beta

    ends = [beta.ppf(q, held + 0.5, n - held + 0.5) for q in (0.5 - BAND / 2, 0.5 + BAND / 2)]
    return np.array([np.minimum(ends[0], held / n), np.maximum(ends[1], held / n)])


def _ticks() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0))


def _band_key(label: str) -> Artist:
    from matplotlib.patches import Patch

    return Patch(color=drawing.GREY, alpha=0.15, lw=0, label=label)
