"""Pictures of loss-to-loss relations: of one translation, and those of arXiv 2411.12925 with their intervals.

Each panel is one `Translation`: dots are fitted runs of equal (N, D), the line is the posterior median with its
intervals, stars are runs that were not fitted, each with what its loss on the x axis says about that on the y axis.
The intervals are often narrower than the line; in percent of the median they are seen.

Figure 1 of the paper is `overview`, 3 and 7 are `train_to_train`, 4 is that with ``show="law"``, 5 `train_to_test`
and 6 `test_to_test`; its Figure 2, the law of every set, is `bayes_l2l.plotting.laws.curves`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError
from bayes_l2l.plotting import style as drawing
from bayes_l2l.plotting.laws import REACH
from bayes_l2l.plotting.style import DOT, GREY, GRID, LARGE_RUN, LEVELS
from bayes_l2l.prediction.optimum import tokens_of
from bayes_l2l.prediction.translations import translate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.data.sweep import Cell, Sweep
    from bayes_l2l.laws.scaling import Law
    from bayes_l2l.posterior.posterior import Posterior
    from bayes_l2l.prediction.translations import Translation

Floats = npt.NDArray[np.float64]
#: What a panel shows: the relation, the same as differences from its median in percent, or the translated law.
Show = Literal["relation", "percent", "law"]


def translation(
    translation: Translation,
    *,
    large: Sweep | None = None,
    levels: Sequence[float] = LEVELS,
    ax: Sequence[Axes] | None = None,
) -> Figure:
    """Draw a translation: the relation, the same in percent of its median, and the translated law.

    Parameters
    ----------
    translation : Translation
        From `Fit.translate`.
    large : Sweep, optional
        Runs that were not fitted.
    levels : sequence of float, default (0.5, 0.9)
        Central intervals.
    ax : sequence of three matplotlib.axes.Axes, optional
        Where to draw; two of a model of pairs, which has no law to translate.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If `ax` has another number of axes.
    """
    shown = get_args(Show)[: 2 if translation.source_law is None else 3]
    fig, axes = _axes(ax, len(shown), "pictures of a translation")
    for one, show in zip(axes, shown, strict=True):
        panel(drawing.tidy(one), translation, show=show, large=large, levels=levels)
    drawing.title(axes[0], _name(translation), translation.sweep)
    drawing.legend(axes[-1], _keys(shown, levels, held_out=large is not None))
    return fig


def loss_to_loss(
    translation: Translation,
    *,
    show: Show = "relation",
    large: Sweep | None = None,
    levels: Sequence[float] = LEVELS,
    ax: Axes | None = None,
) -> Figure:
    """Draw one panel of a translation: by default the target's loss against the source's.

    Parameters
    ----------
    translation : Translation
        From `Fit.translate`.
    show : {"relation", "percent", "law"}
        The relation, the same as differences from its median in percent, or the translated law along its
        compute-optimal sizes.
    large : Sweep, optional
        Runs that were not fitted: stars, and in a relation the forecast of each from the source's loss.
    levels : sequence of float, default (0.5, 0.9)
        Central intervals of the curve; forecasts of runs show the widest.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = drawing.figure(ax, (9.5, 5.2))
    panel(ax, translation, show=show, large=large, levels=levels)
    drawing.title(ax, _name(translation), translation.sweep)
    drawing.legend(ax, _keys([show], levels, held_out=large is not None))
    return fig


def grid(
    fit: Posterior,
    pairs: Iterable[tuple[Cell, Cell]],
    *,
    show: Show = "relation",
    large: Sweep | None = None,
    levels: Sequence[float] = LEVELS,
    ax: Sequence[Axes] | None = None,
) -> Figure:
    """Draw a panel for every pair of cells.

    Parameters
    ----------
    fit : Posterior
        A posterior of a model that relates its cells.
    pairs : iterable of (source, target)
        Cells, as `Fit.translate` takes them.
    show : {"relation", "percent", "law"}
        As in `loss_to_loss`.
    large : Sweep, optional
        Runs that were not fitted; a panel shows those of its cells.
    levels : sequence of float, default (0.5, 0.9)
        Central intervals.
    ax : sequence of matplotlib.axes.Axes, optional
        Where to draw, one a pair.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If a cell was not fitted, there is no pair, or `ax` has not one axes a pair.
    ForecastError
        If the model does not relate its cells.
    """
    translations = [translate(fit, source, target) for source, target in pairs]
    if not translations:
        raise DataError("There is no pair of fitted cells to draw.")
    fig, axes = _axes(ax, len(translations), "pairs")
    for one, translation in zip(axes, translations, strict=True):
        panel(drawing.tidy(one), translation, show=show, large=large, levels=levels)
        drawing.title(one, drawing.label_of(translation.target), *([fit.sweep] if one is axes[0] else []))
    drawing.legend(axes[min(len(axes), 3) - 1], _keys([show], levels, held_out=large is not None))
    return fig


def train_to_train(fit: Posterior, *, source: str, targets: Sequence[str] | None = None, **options: Any) -> Figure:
    """Draw the own losses of training sets against that of one (Figures 3 and 7; 4 with ``show="law"``).

    Parameters
    ----------
    fit : Posterior
        A posterior of a model that relates its cells.
    source : str
        Training set on the x axes.
    targets : sequence of str, optional
        Training sets, a panel each; by default all others that have an own loss.
    **options
        Of `grid`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    targets = [t for e, t in fit.cells if e == t != source] if targets is None else targets
    return grid(fit, [(source, target) for target in targets], **options)


def train_to_test(
    fit: Posterior, *, eval_set: str, train_sets: Sequence[str] | None = None, **options: Any
) -> Figure:
    """Draw an evaluation's loss against the own loss of the same models (Figure 5).

    Parameters
    ----------
    fit : Posterior
        A posterior of a model that relates its cells.
    eval_set : str
        Evaluation on the y axes.
    train_sets : sequence of str, optional
        Training sets, a panel each; by default all that have this evaluation and an own loss.
    **options
        Of `grid`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if train_sets is None:
        train_sets = [t for e, t in fit.cells if e == eval_set != t and (t, t) in fit.cells]
    return grid(fit, [(name, (eval_set, name)) for name in train_sets], **options)


def test_to_test(
    fit: Posterior,
    *,
    eval_set: str,
    source: str,
    targets: Sequence[str] | None = None,  # noqa: PT028 - not a test
    **options: Any,
) -> Figure:
    """Draw an evaluation's loss of models of one training set against those of another (Figure 6).

    Parameters
    ----------
    fit : Posterior
        A posterior of a model that relates its cells.
    eval_set : str
        Evaluation on both axes.
    source : str
        Training set of the models on the x axes.
    targets : sequence of str, optional
        Training sets, a panel each; by default all others that have this evaluation.
    **options
        Of `grid`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    targets = [t for e, t in fit.cells if e == eval_set and t != source] if targets is None else targets
    return grid(fit, [((eval_set, source), (eval_set, target)) for target in targets], **options)


def overview(fit: Posterior, *, source: str, target: str, eval_set: str, **options: Any) -> Figure:
    """Draw one relation of each kind, train-to-train, train-to-test and test-to-test (Figure 1).

    Parameters
    ----------
    fit : Posterior
        A posterior of a model that relates its cells.
    source, target : str
        Training sets.
    eval_set : str
        Evaluation.
    **options
        Of `grid`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    test = (eval_set, source), (eval_set, target)
    return grid(fit, [(source, target), (source, test[0]), test], **options)


def exponents(fit: Posterior, pairs: Iterable[tuple[Cell, Cell]], *, ax: Axes | None = None) -> Figure:
    """Draw the posterior of kappa, a row a pair of cells, with that of K beside it.

    Parameters
    ----------
    fit : Posterior
        A posterior of a model that relates its cells.
    pairs : iterable of (source, target)
        Cells, as `Fit.translate` takes them.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If a cell was not fitted, or there is no pair.
    ForecastError
        If the model does not relate its cells.
    """
    translations = [translate(fit, source, target) for source, target in pairs]
    if not translations:
        raise DataError("There is no pair of fitted cells to draw.")
    fig, ax = drawing.figure(ax, (9.5, 1.4 + 0.34 * len(translations)))
    for row, one in enumerate(translations):
        drawing.forest_row(ax, row, one.kappa, _colour(one))
    ax.axvline(1, color=GREY, lw=0.9, ls=":", zorder=0)
    ax.set_yticks(range(len(translations)), [drawing.literal(_name(one)) for one in translations])
    ax.set(xlabel="exponent kappa of the relation", ylim=(len(translations) - 0.4, -0.6))
    ends = np.array([np.quantile(one.kappa, [0.5, 0.05, 0.95]) for one in translations])
    drawing.forest_within(ax, *ends.T)
    scales = [np.quantile(one.K, [0.5, 0.05, 0.95]) for one in translations]
    drawing.right_labels(ax, ["{:.3g} ({:.3g} to {:.3g})".format(*K) for K in scales], "K: median (90% interval)")
    drawing.title(ax, f"Loss-to-loss exponents, model {fit.spec.name}", fit.sweep)
    drawing.legend(
        ax,
        [
            *drawing.forest_keys("posterior median"),
            drawing.key(color=GREY, lw=0.9, ls=":", label="losses in proportion"),
        ],
        below=True,
    )
    return fig


def panel(ax: Axes, translation: Translation, *, show: Show, large: Sweep | None, levels: Sequence[float]) -> None:
    """Draw what `loss_to_loss` shows, without title and legend."""
    if show not in get_args(Show):
        raise DataError(f"show is {show!r}; it must be one of {', '.join(get_args(Show))}.")
    if show == "law":
        _law(ax, translation, large=large, levels=levels)
    else:
        _relation(ax, translation, large=large, levels=levels, percent=show == "percent")


def _relation(
    ax: Axes, translation: Translation, *, large: Sweep | None, levels: Sequence[float], percent: bool
) -> None:
    """Draw runs, relation, and forecasts of large runs from the source's loss."""
    own, runs = _colour(translation), translation.pairs
    held_out = _pairs(large, translation)
    seen = drawing.rows_of(translation.sweep.table, translation.source)
    # A model of pairs has no law that says how far the source's loss will go: the curve ends with the runs.
    law = translation.source_law
    ahead = seen["loss"].min() if law is None else _at_optimum(law, np.array([REACH * seen["flops"].max()]))
    # A draw ends at its E0: the curve is drawn as far as all of them go.
    low = max(float(np.min([np.median(ahead), *held_out["x"]])), float(np.max(translation.relation.E0)))
    x = np.linspace(min(low, seen["loss"].min()), seen["loss"].max(), GRID)

    def height(at: Any, loss: Any) -> Any:
        """Losses as they are drawn: as they are, or relative to the median curve."""
        return 100 * (loss / np.median(translation.curve(at), axis=0) - 1) if percent else loss

    curve = translation.curve(x)
    ax.plot(runs["x"], height(runs["x"], runs["y"]), **DOT, color=own)
    drawing.band(ax, x, height(x, curve).T, levels=levels, color=own)
    ax.plot(x, height(x, np.median(curve, axis=0)), color=own, lw=1.3)
    if len(held_out):
        forecast = translation.forecast(held_out["x"].to_numpy())
        drawing.point_intervals(ax, held_out["x"], height(held_out["x"], forecast).T, level=max(levels), color=own)
        ax.plot(held_out["x"], height(held_out["x"], held_out["y"]), **LARGE_RUN, color=own)
    if len(runs):
        ax.axvline(runs["x"].min(), color=GREY, lw=0.9, ls=":", zorder=0)
    unit = translation.sweep.loss_unit
    ax.set_xlabel(drawing.literal(f"{drawing.label_of(translation.source)} ({unit})"))
    _height_label(ax, translation, "less the median (%)" if percent else f"({unit})")


def _law(ax: Axes, translation: Translation, *, large: Sweep | None, levels: Sequence[float]) -> None:
    """Draw the translated law along its compute-optimal sizes, beside the target's runs."""
    own = _colour(translation)
    runs = drawing.rows_of(translation.sweep.table, translation.target)
    held_out = drawing.rows_of(large.table if large else runs.iloc[:0], translation.target)
    end = np.max([REACH * runs["flops"].max(), *held_out["flops"]])
    flops = np.geomspace(runs["flops"].min(), 1.5 * end, GRID)
    loss = _at_optimum(translation.law, flops)
    ax.plot(runs["flops"], runs["loss"], **DOT, color=own)
    drawing.band(ax, flops, loss.T, levels=levels, color=own)
    ax.plot(flops, np.median(loss, axis=0), color=own, lw=1.3)
    ax.plot(held_out["flops"], held_out["loss"], **LARGE_RUN, color=own)
    ax.axvline(runs["flops"].max(), color=GREY, lw=0.9, ls=":", zorder=0)
    ax.set(xscale="log", xlabel="training compute C (FLOPs)")
    _height_label(ax, translation, f"({translation.sweep.loss_unit})")


def _axes(ax: Sequence[Axes] | None, count: int, what: str) -> tuple[Figure, list[Axes]]:
    """Axes to draw so many panels in: those given, or new ones."""
    if ax is None:
        return drawing.panels(count)
    if len(ax) != count:
        raise DataError(f"There are {count} {what} to draw and {len(ax)} axes to draw them in.")
    return drawing.owner(ax[0]), list(ax)


def _height_label(ax: Axes, translation: Translation, unit: str) -> None:
    # In two lines: a small panel is lower than the name of a task and its training set is long.
    ax.set_ylabel(drawing.literal(f"{drawing.label_of(translation.target)}\n{unit}"))


def _pairs(large: Sweep | None, translation: Translation) -> pd.DataFrame:
    """Large runs of both cells at equal size; none where a cell was not measured."""
    ends = (
        [] if large is None else [drawing.rows_of(large.table, c) for c in (translation.source, translation.target)]
    )
    if large is None or not all(map(len, ends)):
        return translation.pairs.iloc[:0]
    return large.pairs(translation.source, translation.target)


def _at_optimum(law: Law, flops: Floats) -> Floats:
    """Loss (draw, budget) at the posterior median of the compute-optimal sizes."""
    each = type(law)(**{name: np.asarray(value)[:, None] for name, value in vars(law).items()})
    params = np.median(each.best(flops)[0], axis=0)
    return np.asarray(each.loss(params, tokens_of(flops, params)))


def _keys(shown: Sequence[str], levels: Sequence[float], *, held_out: bool) -> list[Artist]:
    """Legend entries of panels."""
    relation = any(show != "law" for show in shown)
    handles = [
        drawing.key(**DOT, color=GREY, label="fitted runs" + (" of equal N and D" if relation else "")),
        drawing.key(color=GREY, lw=1.3, label="posterior median"),
        *drawing.band_keys(levels, GREY),
        drawing.key(color=GREY, lw=0.9, ls=":", label="end of the fitted runs"),
    ]
    if held_out and relation:
        bar = f"forecast of a run from the loss\non the x axis: median, {100 * max(levels):g}% interval"
        handles.append(drawing.bar_key(bar, GREY))
    return (
        [*handles, drawing.key(**LARGE_RUN, color="white", label="large runs, not fitted")] if held_out else handles
    )


def _colour(translation: Translation) -> str:
    return drawing.palette(translation.sweep.train_sets)[translation.target[1]]


def _name(translation: Translation) -> str:
    return f"{drawing.label_of(translation.source)} to {drawing.label_of(translation.target)}"
