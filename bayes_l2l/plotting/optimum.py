"""Picture of compute-optimal sizes: loss against model size, a curve a budget, and where each has its minimum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.sizes import budgets_of
from bayes_l2l.errors import DataError
from bayes_l2l.plotting import style as drawing
from bayes_l2l.plotting.style import DOT, GREY, GRID, LEVELS
from bayes_l2l.posterior.draws import thinned
from bayes_l2l.prediction.forecasts import forecast
from bayes_l2l.prediction.optimum import tokens_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.data.sweep import Cell
    from bayes_l2l.posterior.posterior import Posterior
    from bayes_l2l.prediction.optimum import Optimum

Floats = npt.NDArray[np.float64]

#: Panels at most.
_MOST: Final = 6
#: Runs are of a budget if their compute is no further from it, in logs.
_NEAR: Final = 0.15
#: Curves go so far to either side of the minimum where no runs are.
_AROUND: Final = 6.0
#: Draws that curves are made of.
_DRAWS: Final = 600


def isoflops(
    optimum: Optimum,
    *,
    cells: Sequence[Cell] | None = None,
    levels: Sequence[float] = LEVELS[1:],
    ax: Axes | None = None,
) -> Figure:
    """Draw the loss of models of equal compute against their size: a curve a budget, its runs, and its minimum.

    Parameters
    ----------
    optimum : Optimum
        From `Fit.optimum`. Budgets that no run has are drawn, too, and so are those of the runs.
    cells : sequence of str or (str, str), optional
        Those of the optimum to draw, a panel each; by default the first six.
    levels : sequence of float, default (0.9,)
        Central intervals of the law along each curve; bars at the minima show the widest.
    ax : matplotlib.axes.Axes, optional
        Where to draw the first of them.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If a cell was not fitted, or none is of losses.
    """
    fit = optimum.fit
    shown = [fit.sweep.cell(cell) for cell in cells] if cells else [c for c in optimum.cells if c in fit.cells]
    if not shown:
        raise DataError("The picture is of losses, and this optimum of error rates or accuracies alone: name a loss.")
    shown = shown[: _MOST if ax is None else 1]
    few = thinned(fit, _DRAWS)
    seen = [budgets_of(drawing.rows_of(fit.sweep.table, cell)["flops"].to_numpy()) for cell in shown]
    every = np.unique(np.concatenate([optimum.flops, *seen]))
    colour = _colours(every)
    if ax is not None or len(shown) == 1:
        fig, first = drawing.figure(ax, (9.5, 5.8))
        axes = [first]
    else:
        fig, axes = drawing.panels(len(shown))
    for one, cell, own in zip(axes, shown, seen, strict=True):
        _panel(one, few, cell, budgets=_joined(own, optimum.flops), levels=levels, colour=colour)
        drawing.title(one, f"{drawing.label_of(cell)}: loss at equal compute", fit.sweep)
    many = len(every) > 2 * _MOST  # a key of each would be longer than the picture
    named = every[:: -(-len(every) // _MOST)] if many else every
    handles: list[Artist] = [drawing.key(color=colour(c), lw=1.6, label=f"{c:.3g} FLOPs") for c in named[::-1]]
    reach = f"{100 * max(levels):g}% interval"
    handles += [
        drawing.key(**DOT, color=GREY, label="fitted runs of that compute"),
        drawing.key(color=GREY, lw=1.3, label="law: median"),
        *drawing.band_keys(levels, GREY),
        drawing.key(color="black", marker="o", ms=5, mfc="white", lw=1.0, label=f"minimum N*: median, {reach}"),
    ]
    drawing.legend(axes[min(len(axes), 3) - 1], handles)
    return fig


def _panel(
    ax: Axes, fit: Posterior, cell: tuple[str, str], *, budgets: Floats, levels: Sequence[float], colour: Any
) -> None:
    """Draw the curves of a cell."""
    from bayes_l2l.prediction.optimum import optimal_params

    runs = drawing.rows_of(fit.sweep.table, cell)
    sizes = optimal_params(fit, [cell], budgets)[..., 0]
    best = np.median(sizes, axis=1)
    lowest = forecast(fit, _points(cell, best, budgets), kind="mean").draws.T
    for flops, size, middle, loss in zip(budgets, sizes, best, lowest, strict=True):
        own = runs[np.abs(np.log(runs["flops"] / flops)) < _NEAR]
        ends = np.array(
            [*own["params"], middle / _AROUND, middle * _AROUND] if own.empty else [*own["params"], middle]
        )
        grid = np.geomspace(ends.min() / 1.1, ends.max() * 1.1, GRID)
        draws = forecast(fit, _points(cell, grid, np.full(GRID, flops)), kind="mean").draws.T
        drawing.band(ax, grid, draws, levels=levels, color=colour(flops))
        ax.plot(grid, np.median(draws, axis=1), color=colour(flops), lw=1.3)
        ax.plot(own["params"], own["loss"], **DOT, color=colour(flops))
        reach = np.abs(drawing.interval(size, max(levels))[:, None] - middle)
        height = np.abs(drawing.interval(loss, max(levels))[:, None] - np.median(loss))
        look: dict[str, Any] = {"marker": "o", "ms": 5, "mfc": "white", "capsize": 2, "lw": 1.0, "zorder": 5}
        ax.errorbar(middle, np.median(loss), yerr=height, xerr=reach, color="black", **look)
    ax.plot(best, np.median(lowest, axis=1), color="black", lw=1.0, zorder=4)
    ax.set(xlabel="parameters N", ylabel=f"loss ({fit.sweep.loss_unit})")
    drawing.size_ticks(ax.xaxis)
    drawing.plain_log(ax)
    drawing.within(ax, runs["loss"], np.median(lowest, axis=1))


def _points(cell: tuple[str, str], params: Floats, flops: Floats) -> pd.DataFrame:
    import pandas as pd

    at = pd.DataFrame({"params": params, "tokens": tokens_of(flops, params), "flops": flops})
    return at.assign(eval_set=cell[0], train_set=cell[1])


def _joined(own: Floats, asked: Floats) -> Floats:
    """Budgets of the runs, and those asked for that are not among them."""
    apart = np.abs(np.log(asked[:, None] / own)).min(axis=1) if own.size else np.full(len(asked), np.inf)
    return np.sort(np.concatenate([own, asked[apart > _NEAR]]))


def _colours(budgets: Floats) -> Any:
    """Colour of every budget, in their order along the middle of a map: on a light and on a dark page."""
    from matplotlib import colormaps

    last = max(len(budgets) - 1, 1)
    return lambda flops: colormaps["viridis"](0.22 + 0.64 * np.searchsorted(budgets, flops * (1 - 1e-9)) / last)
