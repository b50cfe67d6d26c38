"""Pictures of fits and forecasts: every estimate with its intervals, in the unit of the losses of the sweep.

The functions return the Figure. Without ``ax`` they make one that pyplot does not keep: a notebook shows it once
and nothing has to be closed. A training set has one colour in all pictures of a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.data.columns import SHOWN_LOSS_UNITS
from bayes_l2l.data.rates import METRICS, PLURALS, is_rate
from bayes_l2l.data.sizes import budgets_of
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.plotting import style as drawing
from bayes_l2l.plotting.style import DOT, GREY, GRID, LARGE_RUN, LEVELS, TICK, palette
from bayes_l2l.posterior.draws import law_draws, stacked
from bayes_l2l.prediction import forecasts
from bayes_l2l.prediction.optimum import laws_of, optimal_params, optimal_path, tokens_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.data.sweep import Cell
    from bayes_l2l.posterior.posterior import Posterior
    from bayes_l2l.prediction.forecasts import Forecast

#: How far pictures look beyond the largest fitted compute of a training set.
REACH: Final = 20.0
#: What is forecast, by its kind.
_WHAT: Final = {"predictive": "forecast of a run", "mean": "forecast of the law"}
_COMPUTE: Final = "training compute C (FLOPs)"
#: What a model chooses among that knows nothing, and what that is called, by the unit of losses.
_GUESSES: Final = {
    "nats/token": (50_000, "tokens"), "nats/byte": (256, "bytes"), "nats/character": (256, "characters"),
}  # fmt: skip
_INTERVAL: Final = "median (90% interval)"


def curves(
    fit: Posterior,
    *,
    cells: Sequence[Cell] | None = None,
    levels: Sequence[float] = LEVELS,
    large: Sweep | None = None,
    flops: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw loss against training compute: runs, compute-optimal curves, and forecasts of runs 20 times further.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    cells : sequence of str or (str, str), optional
        ``"eval@train"``, ``(eval_set, train_set)``, or a training set alone for its own evaluation; by default
        each training set's own evaluation, or every cell if there is none.
    levels : sequence of float, default (0.5, 0.9)
        Central intervals of the curves; forecasts of runs show the widest.
    large : Sweep, optional
        Runs that were not fitted: forecasts are made at their sizes, and their losses drawn as stars, the marker of
        held-out runs.
    flops : float, optional
        Budget (FLOPs) that runs are forecast at, if there are no large ones; by default 20 times the largest of
        each training set.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If a cell was not fitted, or no large run is of a cell that is shown.
    """
    import pandas as pd

    shown, colour = drawing.cells_of(fit.sweep, cells), palette(fit.sweep.train_sets)
    if large is None:
        ahead = [optimal_path(fit, c, np.array([flops or REACH * fit.max_flops[c[1]]])) for c in shown]
    else:
        ahead = [drawing.rows_of(large.table, cell) for cell in shown]
        if not any(map(len, ahead)):
            raise DataError(f"{large.name} has no run of the cells that are shown.")
    at = pd.concat(ahead, ignore_index=True)
    runs = forecasts.forecast(fit, at, kind="predictive")
    fig, ax = drawing.figure(ax, (9.5, 5.8))
    lines: list[tuple[float, Artist]] = []
    styles = _styles(shown)
    for cell in shown:
        own, new = colour[cell[1]], drawing.is_cell(runs.points, cell)
        lines.append(
            _curve(
                ax, fit, cell, levels=levels, color=own, style=styles[cell], furthest=runs.points["flops"][new].max()
            )
        )
        drawing.point_intervals(ax, at["flops"][new], runs.draws[:, new].T, level=max(levels), color=own)
        if large is not None:
            ax.plot(at["flops"][new], at["loss"][new], **LARGE_RUN, color=own)
    ax.axvline(max(fit.max_flops[t] for _, t in shown), color=GREY, lw=0.9, ls=":", zorder=0)
    ax.set(xlabel=_COMPUTE, ylabel=f"loss ({fit.sweep.loss_unit})")
    drawing.flops_ticks(ax.xaxis)
    drawing.plain_log(ax)
    seen = [drawing.rows_of(fit.sweep.table, cell)["loss"] for cell in shown]
    drawing.within(ax, *seen, np.median(runs.draws, axis=0), *(() if large is None else (at["loss"],)))
    drawing.title(ax, f"Loss against compute, model {fit.spec.name}", fit.sweep)
    handles = [line for _, line in sorted(lines, key=lambda end: -end[0])]
    drawing.legend(ax, handles + drawing.curve_keys(levels, held_out=large is not None))
    return fig


def forecast(
    forecast: Forecast,
    *,
    actual: Sweep | pd.DataFrame | None = None,
    fit: Posterior | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw forecasts with their 50% and 90% intervals, a row a point, in percent of each median.

    Error rates and accuracies are drawn in points, hundredths. Intervals are far narrower than the distances between
    cells; medians and 90% intervals are written beside the rows.

    Parameters
    ----------
    forecast : Forecast
        From `Fit.forecast`.
    actual : Sweep or pandas.DataFrame, optional
        Losses, error rates or accuracies that were then measured: stars at the points of equal training
        set, evaluation and size.
    fit : Fit, optional
        Whose training sets' colours are meant, where it is not the fit that the forecast comes from. A forecast
        that comes from no fit is grey.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If none of the actual losses is of a forecast point.
    """
    points, source = forecast.points, fit.sweep if fit else forecast.sweep
    sweeps = [] if source is None else [source]
    colour = palette(source.train_sets) if source else dict.fromkeys(points["train_set"], GREY)
    median, (low, high) = np.median(forecast.draws, axis=0), drawing.interval(forecast.draws.T, 0.9)
    rate = is_rate(points).to_numpy() if "metric" in points else np.zeros(len(points), dtype=bool)
    unit = np.where(rate, 1.0, median)  # of which a hundredth is a percent, or a point
    fig, ax = drawing.figure(ax, (9.5, 1.6 + 0.45 * len(points)))
    for row, train_set in enumerate(points["train_set"]):
        drawing.forest_row(ax, row, 100 * (forecast.draws[:, row] - median[row]) / unit[row], colour[train_set])
    handles = drawing.forest_keys(f"{_WHAT[forecast.kind]}: median")
    if actual is not None:
        truth = drawing.matched(points, actual.table if isinstance(actual, Sweep) else actual)
        place = truth["row"].to_numpy()
        ax.plot(100 * (truth["loss"].to_numpy() - median[place]) / unit[place], place, **LARGE_RUN, color="white")
        what = "actual value, not fitted" if rate.any() else "actual loss, not fitted"
        handles.append(drawing.key(**LARGE_RUN, color="white", label=what))
        sweeps += [actual] if isinstance(actual, Sweep) else []
    ax.axvline(0, color=GREY, lw=0.8, zorder=0)
    drawing.forest_within(ax, 0 * median, 100 * (low - median) / unit, 100 * (high - median) / unit)
    rows = [drawing.literal(drawing.row_label(point)) for _, point in points.iterrows()]
    ax.set_yticks(range(len(points)), rows, fontsize=8)
    given = [m for m in METRICS if m in set(points.get("metric", ["loss"]))]
    percent = ", ".join(f"{PLURALS[m]}: {'%' if m == 'loss' else 'points'}" for m in given)
    nats = sweeps[0].loss_unit if sweeps else SHOWN_LOSS_UNITS[0]
    units = f", {nats}" if given == ["loss"] else f", losses in {nats}" if "loss" in given else ""
    ax.set(
        xlabel=f"difference from the median ({'% of loss' if given == ['loss'] else percent})",
        ylim=(len(points) - 0.4, -0.6),
    )
    drawing.right_labels(ax, [_number(*ends) for ends in zip(median, low, high, strict=True)], _INTERVAL + units)
    drawing.title(ax, "Forecast " + " and ".join(PLURALS[m] for m in given), *sweeps)
    drawing.legend(ax, handles, below=True)
    return fig


def entropy(fit: Posterior, *, cells: Sequence[Cell] | None = None, ax: Axes | None = None) -> Figure:
    """Draw the posterior of the irreducible entropy E, a row a cell, beside the smallest loss seen.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    cells : sequence of str or (str, str), optional
        As in `curves`; by default every cell.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If a cell was not fitted, or the model has no laws.
    """
    shown = fit.cells if cells is None else drawing.cells_of(fit.sweep, cells)
    draws, colour = laws_of(fit, fit.cells).E, palette(fit.sweep.train_sets)
    fig, ax = drawing.figure(ax, (9.5, 1.4 + 0.34 * len(shown)))
    for row, cell in enumerate(shown):
        drawing.forest_row(ax, row, draws[:, fit.cells.index(cell)], colour[cell[1]])
        ax.plot(drawing.rows_of(fit.sweep.table, cell)["loss"].min(), row, **TICK)
    ax.set_yticks(range(len(shown)), [drawing.literal(drawing.label_of(cell)) for cell in shown])
    ax.set(xlabel=f"irreducible entropy E ({fit.sweep.loss_unit})", ylim=(len(shown) - 0.4, -0.6))
    ends = drawing.interval(draws[:, [fit.cells.index(cell) for cell in shown]].T, max(LEVELS))
    smallest = max(drawing.rows_of(fit.sweep.table, cell)["loss"].min() for cell in shown)
    ax.set_xlim(left=min(0.0, float(ends[0].min())), right=1.05 * max(smallest, float(ends[1].max())))
    drawing.title(ax, f"Irreducible entropy, model {fit.spec.name}", fit.sweep)
    drawing.legend(ax, [*drawing.forest_keys("posterior median"), drawing.key(**TICK, label="smallest loss seen")])
    return fig


def isoflop(
    fit: Posterior, *, train_set: str | None = None, eval_set: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw contours of a cell's law over model size and tokens, its runs, and the compute-optimal sizes.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    train_set, eval_set : str, optional
        The cell; by default the first one, a training set's own evaluation before others.
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
    cell = drawing.one_cell(fit.sweep, train_set, eval_set)
    runs, own = drawing.rows_of(fit.sweep.table, cell), palette(fit.sweep.train_sets)[cell[1]]
    flops = np.geomspace(runs["flops"].min(), REACH * runs["flops"].max(), GRID)
    sizes = optimal_params(fit, [cell], flops)[..., 0]
    widest = drawing.interval(sizes, max(LEVELS))
    n = drawing.around(runs["params"], *widest)
    d = drawing.around(runs["tokens"], *(tokens_of(flops, size) for size in widest))
    fig, ax = drawing.figure(ax, (9.5, 5.8))
    law = drawing.law_of(fit, cell, most=400)
    loss = np.stack([np.median(law.loss(n[:, None], tokens), axis=1) for tokens in d])
    drawing.contours(ax, n, d, loss, floor=float(np.median(law.E)))
    for budget in budgets_of(runs["flops"].to_numpy()):
        ax.plot(n, tokens_of(budget, n), color=GREY, lw=0.7, ls=":")
    ax.plot(n, tokens_of(flops[-1], n), color=GREY, lw=1.0, ls="--")
    drawing.size_band(ax, flops, sizes, levels=LEVELS, color=own)
    ax.plot(runs["params"], runs["tokens"], **DOT, color=own)
    ax.set(xlabel="parameters N", ylabel="tokens D")
    drawing.size_ticks(ax.xaxis, ax.yaxis)
    ax.set(xlim=(n[0], n[-1]), ylim=(d[0], d[-1]))
    drawing.title(ax, f"Loss of {drawing.label_of(cell)}, model {fit.spec.name}", fit.sweep)
    handles = [
        drawing.key(**DOT, color=own, label="fitted runs"),
        drawing.key(color=own, lw=1.6, label="compute-optimal size: median"),
        *drawing.band_keys(LEVELS, own),
        drawing.key(color="#21918c", lw=0.9, label=f"law: posterior median ({fit.sweep.loss_unit})"),
        drawing.key(color=GREY, lw=0.7, ls=":", label="equal compute"),
        drawing.key(color=GREY, lw=1.0, ls="--", label=f"{REACH:g}x the largest: {flops[-1]:.2g} FLOPs"),
    ]
    drawing.legend(ax, handles)
    return fig


def prior_predictive(
    prior: xr.Dataset,
    sweep: Sweep,
    *,
    train_set: str | None = None,
    eval_set: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw curves of loss against compute from the prior, beside the runs.

    Parameters
    ----------
    prior : xarray.Dataset
        From `bayes_l2l.inference.CompiledModel.prior`; its first 50 draws are drawn as curves.
    sweep : Sweep
        Runs that the model was compiled for.
    train_set, eval_set : str, optional
        The cell; by default the first one, a training set's own evaluation before others.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If the sweep has no such cell.
    """
    cell = drawing.one_cell(sweep, train_set, eval_set)
    runs, own = drawing.rows_of(sweep.table, cell), palette(sweep.train_sets)[cell[1]]
    law = law_draws(stacked(prior), prior["cell"].to_numpy().tolist().index("|".join(cell)))
    ratio = float(np.median(runs["tokens"] / runs["params"]))
    flops = np.geomspace(runs["flops"].min(), REACH * runs["flops"].max(), GRID)
    params = np.sqrt(flops / (FLOPS_PER_PARAM_TOKEN * ratio))[:, None]
    loss = law.loss(params, ratio * params)
    fig, ax = drawing.figure(ax, (9.5, 4.8))
    drawing.band(ax, flops, loss, levels=LEVELS, color=GREY)
    ax.plot(flops, loss[:, :50], color="black", lw=0.4, alpha=0.5)
    ax.plot(runs["flops"], runs["loss"], **DOT, color=own)
    options, what = _GUESSES[sweep.loss_unit]
    ax.axhline(np.log(options), color="black", lw=1.0, ls="--")
    ax.set(xscale="log", xlabel=_COMPUTE, ylabel=f"loss ({sweep.loss_unit})", ylim=(0, 1.1 * np.log(options)))
    drawing.title(ax, f"Prior predictive loss of {drawing.label_of(cell)}", sweep)
    handles = [
        drawing.key(**DOT, color=own, label="runs"),
        drawing.key(color="black", lw=0.4, label=f"curves from the prior\nat {ratio:.3g} tokens a parameter"),
        *drawing.band_keys(LEVELS, GREY),
        drawing.key(color="black", lw=1.0, ls="--", label=f"uniform guess among {options:,} {what}"),
    ]
    drawing.legend(ax, handles)
    return fig


def residuals(fit: Posterior, *, cells: Sequence[Cell] | None = None, ax: Sequence[Axes] | None = None) -> Figure:
    """Draw what runs deviate from their law, in percent, against tokens a parameter and against compute.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    cells : sequence of str or (str, str), optional
        As in `curves`.
    ax : sequence of two matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If a cell was not fitted.
    """
    shown, colour = drawing.cells_of(fit.sweep, cells), palette(fit.sweep.train_sets)
    fig, axes = drawing.figures((10.5, 4.2), columns=2) if ax is None else (drawing.owner(ax[0]), list(ax))
    handles = []
    for cell in shown:
        runs = drawing.rows_of(fit.sweep.table, cell)
        law = drawing.law_of(fit, cell).loss(runs[["params"]].to_numpy(), runs[["tokens"]].to_numpy())
        percent = 100 * (runs["loss"] / np.median(law, axis=1) - 1)
        for one, x in zip(axes, (runs["tokens"] / runs["params"], runs["flops"]), strict=True):
            one.plot(x, percent, **DOT, color=colour[cell[1]])
        near = runs["flops"] > runs["flops"].max() / 10
        label = "{}: {:.2f}%, {:.2f}%".format(drawing.label_of(cell), *map(drawing.rms, (percent, percent[near])))
        handles.append(drawing.key(**DOT, color=colour[cell[1]], label=label))
    for one, label in zip(axes, ("tokens a parameter D/N", _COMPUTE), strict=True):
        one.axhline(0, color="black", lw=0.8)
        one.set_xlabel(label)
    drawing.size_ticks(axes[0].xaxis)
    drawing.flops_ticks(axes[1].xaxis)
    axes[0].set_ylabel("run less law (% of the law's loss)")
    drawing.title(axes[0], f"Residuals about the posterior median, model {fit.spec.name}", fit.sweep)
    drawing.legend(axes[1], handles, heading="root mean square: all runs,\nand those less than 10x below the largest")
    return fig


def _number(median: float, low: float, high: float) -> str:
    """Median and interval of a row of a forecast."""
    return "at chance: no forecast" if np.isnan(median) else f"{median:.3f} ({low:.3f} to {high:.3f})"


def _curve(
    ax: Axes,
    fit: Posterior,
    cell: tuple[str, str],
    *,
    levels: Sequence[float],
    color: str,
    style: str,
    furthest: float,
) -> tuple[float, Artist]:
    """Draw runs and compute-optimal curve of a cell; its loss furthest out, and its line."""
    runs = drawing.rows_of(fit.sweep.table, cell)
    ax.plot(runs["flops"], runs["loss"], **DOT, color=color)
    end = 1.5 * np.nanmax([REACH * fit.max_flops[cell[1]], furthest])
    path = optimal_path(fit, cell, np.geomspace(runs["flops"].min(), end, GRID))
    draws = forecasts.forecast(fit, path, kind="mean").draws.T
    drawing.band(ax, path["flops"], draws, levels=levels, color=color)
    middle = np.median(draws, axis=1)
    label = drawing.literal(drawing.label_of(cell))
    (line,) = ax.plot(path["flops"], middle, color=color, ls=style, lw=1.3, label=label)
    return float(middle[-1]), line


def _styles(cells: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Line of every cell: solid for train losses, or if there is one evaluation, else broken by evaluation."""
    others = sorted({e for e, t in cells if e != t})
    if len({e for e, _ in cells}) == 1:
        return dict.fromkeys(cells, "-")
    return {(e, t): "-" if e == t else ("--", "-.", ":")[others.index(e) % 3] for e, t in cells}
