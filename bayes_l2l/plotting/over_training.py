"""Pictures of over-training: loss against compute by tokens per parameter, and error rates against the loss.

As in `plots`, the functions return a figure that pyplot does not keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.data.rates import WORDS, Metric
from bayes_l2l.errors import DataError
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.plotting import style as drawing
from bayes_l2l.plotting.style import DOT, GREY, GRID, LARGE_RUN, LEVELS, palette
from bayes_l2l.prediction import forecasts
from bayes_l2l.structures.error_rate import error_draws, learned, metrics_of, predictor_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.data.sweep import Cell, Sweep
    from bayes_l2l.posterior.posterior import Posterior

#: Curves go on so much beyond the outermost run, in compute and in loss.
_BEYOND: Final = 1.5
_LOWER: Final = 0.97
#: Lines of equal M: as many as the runs have, unless that is too many to be told apart.
_MOST: Final = 8
_FEW: Final = 5


def multiples(
    fit: Posterior,
    *,
    cell: Cell | None = None,
    values: Sequence[float] | None = None,
    levels: Sequence[float] = LEVELS[1:],
    large: Sweep | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw loss against training compute along lines of equal M = D/N, the tokens per parameter.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    cell : str or (str, str), optional
        ``"eval@train"``, ``(eval_set, train_set)``, or a training set alone for its own evaluation; by default the
        first.
    values : sequence of float, optional
        Values of M (tokens per parameter) to draw a line at; by default those, to two digits, of the cell's runs, or
        five among them if they have more than eight.
    levels : sequence of float, default (0.9,)
        Central intervals of the curves; forecasts of runs show the widest.
    large : Sweep, optional
        Runs that were not fitted: forecasts are made at their sizes, and their losses drawn as stars, the marker of
        held-out runs.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If the cell was not fitted.
    """
    shown = drawing.cells_of(fit.sweep, None if cell is None else [cell])[0]
    runs = drawing.rows_of(fit.sweep.table, shown)
    ahead = runs.iloc[:0] if large is None else drawing.rows_of(large.table, shown)
    every = sorted({*_multiple(runs), *_multiple(ahead)})
    spread = every if len(every) <= _MOST else np.geomspace(every[0], every[-1], _FEW).tolist()
    lines = spread if values is None else list(values)
    flops = np.append(runs["flops"], ahead["flops"])
    grid = np.geomspace(flops.min(), _BEYOND * flops.max(), GRID)
    colour = _colours([*every, *lines])
    fig, ax = drawing.figure(ax, (9.5, 5.8))
    handles: list[Artist] = []
    medians: list[Any] = []
    for multiple in lines:
        params = np.sqrt(grid / (FLOPS_PER_PARAM_TOKEN * multiple))
        draws = forecasts.forecast(fit, _points(shown, params, multiple * params), kind="mean").draws
        drawing.band(ax, grid, draws.T, levels=levels, color=colour(multiple))
        middle = np.median(draws, axis=0)
        medians.append(middle)
        handles += ax.plot(grid, middle, color=colour(multiple), lw=1.2, label=f"M = {multiple:.3g}")
    for x, y, multiple in zip(runs["flops"], runs["loss"], _multiple(runs), strict=True):
        ax.plot(x, y, **DOT, color=colour(multiple))
    for (_, run), multiple in zip(ahead.iterrows(), _multiple(ahead), strict=True):
        draws = forecasts.forecast(fit, _points(shown, [run["params"]], [run["tokens"]]), kind="predictive").draws
        drawing.point_intervals(ax, [run["flops"]], draws.T, level=max(levels), color=colour(multiple))
        ax.plot(run["flops"], run["loss"], **LARGE_RUN, color=colour(multiple))
    ax.axvline(runs["flops"].max(), color=GREY, lw=0.9, ls=":", zorder=0)
    ax.set(xlabel="training compute C (FLOPs)", ylabel=f"loss ({fit.sweep.loss_unit})")
    drawing.flops_ticks(ax.xaxis)
    drawing.plain_log(ax)
    drawing.within(ax, runs["loss"], ahead["loss"], *medians)
    drawing.title(ax, f"{drawing.label_of(shown)}, by tokens per parameter, model {fit.spec.name}", fit.sweep)
    drawing.legend(ax, handles + _keys("law at this M", levels, held_out=len(ahead) > 0))
    return fig


def errors(
    fit: Posterior,
    task: str | None = None,
    *,
    runs: Sweep | None = None,
    levels: Sequence[float] = LEVELS[1:],
    large: Sweep | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the error rate or accuracy of a task against the loss that it is a function of, a colour a training set.

    Parameters
    ----------
    fit : Posterior
        A posterior with laws of error rates or accuracies.
    task : str, optional
        Name of the task, or average of tasks; by default the first that has left chance, else the first. Where it has
        not left chance, its runs are shown alone.
    runs : Sweep, optional
        Runs with both losses and error rates or accuracies, other than those that were fitted.
    levels : sequence of float, default (0.9,)
        Central intervals of the curves.
    large : Sweep, optional
        Runs that were not fitted: stars at the loss and error that they have.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If no error rate or accuracy of the task was fitted, or the runs have none of it.
    """
    if fit.errors is None:
        raise DataError(
            "No error rate and no accuracy was fitted: give the table rows of metric 'error' or 'accuracy', or name "
            "their columns in the mapping file ([errors], [accuracies])."
        )
    has_left, every = learned(fit.errors), list(dict.fromkeys(name for name, _ in fit.error_cells))
    shown = task or next((name for name, train in fit.error_cells if has_left[name, train]), every[0])
    cells = [cell for cell in fit.error_cells if cell[0] == shown]
    if not cells:
        raise DataError(f"No error rate or accuracy of {task!r} was fitted; fitted are: {', '.join(every)}.")
    measured = runs or fit.errors.sweep
    if not any(map(len, (drawing.rows_of(measured.table, cell) for cell in cells))):
        raise DataError(f"{measured.name} has no values of {shown!r}: leave the runs out for those that were fitted.")
    metric, colour = metrics_of(fit)[cells[0]], palette(fit.sweep.train_sets)
    fig, ax = drawing.figure(ax, (9.5, 5.8))
    handles: list[Artist] = []
    for cell in cells:
        _error_curve(
            ax, fit.errors, cell, metric=metric, levels=levels, color=colour[cell[1]], runs=(measured, large)
        )
        stuck = "" if has_left[cell] else ", at chance: no law"
        handles.append(drawing.key(color=colour[cell[1]], lw=1.3, label=cell[1] + stuck))
    chance = fit.errors.draws["chance"].to_numpy()[fit.error_cells.index(cells[0])]
    ax.axhline(1 - chance if metric == "accuracy" else chance, color=GREY, lw=0.9, ls=":", zorder=0)
    names = dict.fromkeys(predictor_of(fit.errors)[cell] for cell in cells)
    xlabel = f"loss on {', '.join(names)} ({fit.sweep.loss_unit})"
    ax.set(xlabel=drawing.literal(xlabel), ylabel=WORDS[metric])
    what = f"{WORDS[metric].capitalize()} on {shown} against loss"
    drawing.title(ax, f"{what}, model {fit.errors.spec.name}", fit.sweep)
    guess = drawing.key(color=GREY, lw=0.9, ls=":", label="chance")
    drawing.legend(ax, [*handles, *_keys("law", levels, held_out=large is not None), guess])
    return fig


def _error_curve(
    ax: Axes,
    errors: Posterior,
    cell: tuple[str, str],
    *,
    metric: Metric,
    levels: Sequence[float],
    color: str,
    runs: tuple[Sweep, Sweep | None],
) -> None:
    """Draw runs, large runs and law of one task and training set, as what was given; at chance its runs alone."""
    import pandas as pd

    predictor = predictor_of(errors)[cell]
    seen, new = (_measured(one, cell, predictor) for one in runs)
    ax.plot(seen["x"], seen["y"], **DOT, color=color)
    ax.plot(new["x"], new["y"], **LARGE_RUN, color=color)
    if not learned(errors)[cell] or seen.empty:
        return
    losses = np.append(seen["x"], new["x"])
    grid = np.linspace(_LOWER * losses.min(), losses.max(), GRID)
    at = pd.DataFrame({"eval_set": cell[0], "train_set": cell[1]}, index=range(GRID))
    n_draws = errors.draws.sizes["chain"] * errors.draws.sizes["draw"]
    draws = error_draws(errors, at, np.broadcast_to(grid, (n_draws, GRID)), kind="mean")
    if metric == "accuracy":
        draws = 1 - draws
    drawing.band(ax, grid, draws.T, levels=levels, color=color)
    ax.plot(grid, np.median(draws, axis=0), color=color, lw=1.3)


def _multiple(rows: pd.DataFrame) -> list[float]:
    """Tokens per parameter of every row, to two digits."""
    return [float(f"{m:.2g}") for m in rows["tokens"] / rows["params"]]


def _colours(multiples: Sequence[float]) -> Callable[[float], Any]:
    """Colour of every M, along a map in log M whose light end is left out."""
    from matplotlib import colormaps

    low, high = np.log([min(multiples), max(multiples)])
    return lambda multiple: colormaps["viridis"](0.88 * (np.log(multiple) - low) / max(high - low, 1e-9))


def _points(cell: tuple[str, str], params: Any, tokens: Any) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"eval_set": cell[0], "train_set": cell[1], "params": params, "tokens": tokens})


def _measured(runs: Sweep | None, cell: tuple[str, str], predictor: str) -> pd.DataFrame:
    """Loss x and error y of every run of a cell that has both."""
    import pandas as pd

    if runs is None:
        return pd.DataFrame({"x": [], "y": []})
    y = drawing.rows_of(runs.table, cell).set_index("run_id")["loss"].rename("y")
    x = drawing.rows_of(runs.table, (predictor, cell[1])).set_index("run_id")["loss"].rename("x")
    return pd.concat([x, y], axis=1, join="inner")


def _keys(what: str, levels: Sequence[float], *, held_out: bool) -> list[Artist]:
    """Legend entries of what both pictures are drawn with."""
    handles = [
        drawing.key(**DOT, color=GREY, label="fitted runs"),
        drawing.key(color=GREY, lw=1.3, label=f"{what}: median"),
        *drawing.band_keys(levels, GREY),
    ]
    return (
        [*handles, drawing.key(**LARGE_RUN, color="white", label="large runs, not fitted")] if held_out else handles
    )
