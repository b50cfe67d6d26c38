"""Forecast: draws of losses and error rates at new sizes, of the law (mean) or of a run that scatters about it.

Everything here is a pure function of the posterior draws: nothing samples and nothing imports PyMC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.mixtures import weight_columns
from bayes_l2l.data.sizes import impossible, size_labels
from bayes_l2l.display import SHOWN, as_html
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import QUANTILES, parts, quantiles_of, summary
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.prediction.averages import Weights, by_run, name_of, shares_of, weighted, weights_of
from bayes_l2l.prediction.doubts import too_far, too_small
from bayes_l2l.prediction.mixtures import named_mixtures, new_cells, untrained
from bayes_l2l.prediction.optimum import optimal_points, optimal_sizes
from bayes_l2l.structures.error_rate import at_chance, error_draws, metrics_of, predictor_of
from bayes_l2l.structures.protocol import Kind, structure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]
Sizes = float | Sequence[float] | Floats

#: Words for what is forecast, and what they mean.
KINDS: Final[Mapping[str, Kind]] = {"predictive": "predictive", "run": "predictive", "mean": "mean", "curve": "mean"}

_POINT: Final = ["train_set", "eval_set", "params", "tokens"]


class TrackRecord(Protocol):
    """What knows how earlier forecasts did: a backtest."""

    def notes_on(self, points: pd.DataFrame, *, model: str, largest_fitted: float) -> tuple[Note, ...]:
        """Say how far forecast points can be believed."""


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    """Draws of the loss, or error rate, at every forecast point.

    Parameters
    ----------
    points : pandas.DataFrame
        One row a point: train_set, eval_set, params, tokens, flops, extrapolation (how many times the largest
        compute among the fitted runs of its training set); with a column metric ("loss", "error" or "accuracy") if
        the fit has error rates or accuracies.
    draws : ndarray, shape (draw, point)
        Losses in nats/token, error rates and accuracies in [0, 1], NaN where nothing can be learned. Draws of one
        row belong together: what is uncertain about all points is shared.
    kind : {"predictive", "mean"}
        Whether a run that scatters about the law is forecast, or the law itself.
    notes : tuple of Note
        Objections to the fit and to these points.
    sweep : Sweep, optional
        The fitted runs: pictures have their training sets' colours.
    """

    points: pd.DataFrame
    draws: Floats
    kind: Kind
    notes: tuple[Note, ...] = ()
    sweep: Sweep | None = None

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return f"<Forecast of {len(self)} points, kind {self.kind!r}, {len(self.draws)} draws>"

    def _repr_html_(self) -> str:
        return as_html(repr(self)[1:-1], table=self.table(quantiles=SHOWN), notes=self.notes)

    def mean(self) -> Floats:
        """Posterior mean at every point, shape (point,): nats/token, or a fraction."""
        return np.asarray(self.draws.mean(axis=0))

    def quantile(self, level: float | Sequence[float]) -> Floats:
        """Quantiles at every point.

        Parameters
        ----------
        level : float or sequence of float
            Levels in (0, 1).

        Returns
        -------
        ndarray, shape (point,) or (level, point)
            Nats/token, or a fraction.

        Raises
        ------
        ForecastError
            If a level is not between 0 and 1.
        """
        wanted = np.asarray(level, dtype=float)
        if (wrong := wanted[~((wanted > 0) & (wanted < 1))]).size:
            raise ForecastError(f"A quantile must lie between 0 and 1, not {wrong[0]:g}.")
        return quantiles_of(self.draws, wanted)

    def interval(self, level: float = 0.9) -> tuple[Floats, Floats]:
        """Both ends of the central interval at every point.

        Parameters
        ----------
        level : float
            Probability that it is to hold, in (0, 1).

        Returns
        -------
        lower, upper : ndarray, shape (point,)
            Nats/token, or fractions.

        Raises
        ------
        ForecastError
            If the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ForecastError(f"The level of an interval must lie between 0 and 1, not {level:g}.")
        lower, upper = self.quantile([(1 - level) / 2, (1 + level) / 2])
        return lower, upper

    def table(self, *, quantiles: Sequence[float] = QUANTILES) -> pd.DataFrame:
        """Forecast table.

        Parameters
        ----------
        quantiles : sequence of float
            Levels in (0, 1); ascending in the table.

        Returns
        -------
        pandas.DataFrame
            train_set, eval_set, params, tokens, flops, kind, mean, sd, a column ``q0.05`` a level (``median``
            besides), extrapolation; losses in nats/token. If the fit has error rates or accuracies, metric after
            eval_set; of forecasts from losses that were seen, ``given``, and no sizes.

        Raises
        ------
        ForecastError
            If a level is not between 0 and 1.
        """
        import pandas as pd

        # One frame of all levels: pandas warns when a hundred columns come one by one.
        levels = pd.DataFrame(summary(self.draws, quantiles), index=self.points.index)
        leading = [*(n for n in ("run_id",) if n in self.points), *_POINT[:2]]
        leading += [*(n for n in ("metric", "given") if n in self.points), *_POINT[2:], "flops"]
        sizes = self.points[leading].assign(kind=self.kind)
        return pd.concat([sizes, levels, self.points[["extrapolation"]]], axis=1)

    def average(self, weights: Weights | None = None) -> Forecast:
        """Forecast of the weighted mean of all evaluations of every run.

        Parameters
        ----------
        weights : mapping of str to float, or sequence of float, optional
            Of the evaluations, in the order in which they first appear among the points; equal by default. They are
            scaled to sum to 1.

        Returns
        -------
        Forecast
            A point a run; its eval_set says what was averaged.

        Raises
        ------
        ForecastError
            If weights are refused, or losses would be averaged with rates.
        DataError
            If a run lacks an evaluation that another one has.
        """
        points = self.points
        shares = shares_of(points["eval_set"].drop_duplicates().tolist(), weights)
        metrics = points["metric"].unique() if "metric" in points else ()
        if len(metrics) > 1:
            raise ForecastError(
                f"Average losses, error rates or accuracies, not several of them ({', '.join(metrics)} were asked "
                "for): name the evaluations (eval_set)."
            )
        places = by_run(points, list(shares))
        of_runs = points.iloc[places[0]].assign(eval_set=name_of(list(shares))).reset_index(drop=True)
        return replace(self, points=of_runs, draws=weighted(self.draws[:, places.ravel()], shares))

    def plot(self, **options: Any) -> Figure:
        """Draw the forecast points with their intervals (see `bayes_l2l.plotting.laws.forecast`)."""
        if self.points["params"].isna().all():
            raise ForecastError("A forecast from losses that were seen has no sizes to be drawn over: see its table.")
        from bayes_l2l.plotting import laws

        figure: Figure = laws.forecast(self, **options)
        return figure


def forecast(
    posterior: Posterior,
    points: pd.DataFrame | None = None,
    *,
    train_set: str | Sequence[str] | None = None,
    eval_set: str | Sequence[str] | None = None,
    params: Sizes | None = None,
    tokens: Sizes | None = None,
    flops: Sizes | None = None,
    kind: str = "predictive",
    backtest: TrackRecord | None = None,
    source: str | None = None,
    average: bool | Weights = False,
) -> Forecast:
    """Forecast losses and error rates at a table of points, one (N, D), or a budget's compute-optimal size.

    Parameters
    ----------
    posterior : Posterior
        What is forecast from.
    points : pandas.DataFrame, optional
        Columns params, tokens, and where not every fitted cell is meant train_set, eval_set; of a model of mixtures
        also weight:DOMAIN, of mixtures that need not have been trained.
    train_set, eval_set : str or sequence of str, optional
        Keep these; by default every fitted cell.
    params, tokens : float or sequence of float, optional
        N (parameters) and D (tokens); several are broadcast against each other, and every cell is forecast at each.
    flops : float or sequence of float, optional
        Budgets C in FLOPs, instead of sizes: each cell is forecast at the posterior median of its N*(C).
    kind : {"predictive", "mean"}
        "mean" is the law, with what it may depart from itself beyond the runs; "predictive" (or "run") adds what a
        run deviates from it: its own scatter, and the effect that all runs of equal (N, D) share, which is
        conditioned on the fitted runs of that size. A model of relations reads the target's loss off the fitted run
        of a source at that size: "mean" (or "curve") is the relation at its loss, "predictive" adds what both runs
        scatter.
    backtest : Backtest, optional
        Of the same model: the notes say how often its intervals were right as far out.
    source : str, optional
        Of a model of relations: the cell to forecast from ("eval@train"), or its training set; by default every
        source with a run of the size, in equal parts of the draws.
    average : bool, mapping of str to float, or sequence of float
        Whether the mean of the evaluations of each run is forecast; or their weights, scaled to sum to 1. A budget is
        then spent on one run.

    Returns
    -------
    Forecast
        With its draws.

    Raises
    ------
    ForecastError
        If not exactly one of the three ways is used, a size, the kind, the source or weights are refused, no source
        has a run of the size, losses would be averaged with rates, or the backtest is of other models.
    DataError
        If a set was not fitted, or a training set lacks an evaluation to average.
    """
    at = _Asked(points, train_set, eval_set, params, tokens, flops, average).of(posterior)
    found = _at(posterior, at, kind=kind_of(kind), backtest=backtest, source=source)
    return found if average is False else found.average(weights_of(average))


def forecast_table(
    posterior: Posterior,
    points: pd.DataFrame | None = None,
    *,
    quantiles: Sequence[float] = QUANTILES,
    train_set: str | Sequence[str] | None = None,
    eval_set: str | Sequence[str] | None = None,
    params: Sizes | None = None,
    tokens: Sizes | None = None,
    flops: Sizes | None = None,
    kind: str = "predictive",
    backtest: TrackRecord | None = None,
    source: str | None = None,
    average: bool | Weights = False,
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Table of forecasts, whose draws are not kept: of any number of points in little memory.

    Parameters
    ----------
    posterior : Posterior
        What is forecast from.
    points : pandas.DataFrame, optional
        As in `forecast`.
    quantiles : sequence of float
        Levels in (0, 1).
    train_set, eval_set : str or sequence of str, optional
        As in `forecast`.
    params, tokens, flops : float or sequence of float, optional
        As in `forecast`.
    kind : {"predictive", "mean"}
        As in `forecast`.
    backtest : Backtest, optional
        As in `forecast`.
    source : str, optional
        As in `forecast`.
    average : bool, mapping of str to float, or sequence of float
        As in `forecast`.

    Returns
    -------
    table : pandas.DataFrame
        As `Forecast.table`.
    notes : tuple of Note
        As those of a `Forecast` of all points.

    Raises
    ------
    ForecastError, DataError
        As `forecast`.
    """
    import pandas as pd

    at = _Asked(points, train_set, eval_set, params, tokens, flops, average).of(posterior)
    kept, tables = kind_of(kind), []
    shares = None if average is False else shares_of(at["eval_set"].drop_duplicates().tolist(), weights_of(average))
    for points_there, draws in _parts(posterior, at, kind=kept, source=source):
        found = Forecast(points_there, draws, kept)
        tables.append((found if shares is None else found.average(shares)).table(quantiles=quantiles))
    # Parts are of runs in their order; a point is in the place where it was asked for.
    table = pd.concat(tables, ignore_index=True) if shares else pd.concat(tables).sort_index()
    return table, _notes(posterior, at, backtest)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Where to forecast, as it was said."""

    points: pd.DataFrame | None
    train_set: str | Sequence[str] | None
    eval_set: str | Sequence[str] | None
    params: Sizes | None
    tokens: Sizes | None
    flops: Sizes | None
    average: bool | Weights

    def of(self, posterior: Posterior) -> pd.DataFrame:
        """Points with all that belongs to them (see `expand`)."""
        points, params, tokens, flops = self.points, self.params, self.tokens, self.flops
        ways = (points is not None, params is not None or tokens is not None, flops is not None)
        if sum(ways) != 1 or (ways[1] and (params is None or tokens is None)):
            raise ForecastError("Say where to forecast: a table of points, or both params and tokens, or flops.")
        cells = named_cells(posterior, self.train_set, self.eval_set)
        if points is not None:
            if structure_of(posterior.spec).of_mixtures:
                points = named_mixtures(posterior, points)
            named = self.train_set is not None or self.eval_set is not None
            cells = [*cells, *new_cells(posterior, points, self.eval_set)]
            wanted = _only(points, cells) if named else points
        elif flops is not None:
            budgets = _numbers(flops=flops)[0]
            wanted = _each([self._optimal(posterior, float(c), cells) for c in budgets])
        else:
            wanted = _at_size(cells, params=params, tokens=tokens)
        every = [*posterior.cells, *new_cells(posterior, wanted), *posterior.error_cells]
        return expand(wanted, cells=every, max_flops=posterior.max_flops)

    def _optimal(self, posterior: Posterior, budget: float, cells: list[tuple[str, str]]) -> pd.DataFrame:
        """Points of every cell at its own optimum, or of the one run whose evaluations are averaged."""
        if self.average is False:
            return optimal_points(posterior, budget, cells=cells)
        names, sets = (list(dict.fromkeys(part)) for part in zip(*cells, strict=True))
        sizes = optimal_sizes(posterior, sets, shares_of(names, weights_of(self.average)), np.array([budget]))
        return _each([sizes.assign(eval_set=name) for name in names])


def kind_of(word: str) -> Kind:
    """What a word for what is forecast means.

    Raises
    ------
    ForecastError
        If it is none.
    """
    if word not in KINDS:
        raise ForecastError(f"kind is {word!r}; it must be 'predictive' (a run) or 'mean' (the law).")
    return KINDS[word]


def named_cells(
    posterior: Posterior, train_set: str | Sequence[str] | None, eval_set: str | Sequence[str] | None
) -> list[tuple[str, str]]:
    """Fitted cells of the sets that are named.

    Raises
    ------
    DataError
        If a set was not fitted, or no cell is of both.
    """
    every = cells = [*posterior.cells, *posterior.error_cells]
    for index, kind, names in ((1, "training set", train_set), (0, "evaluation", eval_set)):
        if names is None:
            continue
        wanted = [names] if isinstance(names, str) else list(names)
        fitted = sorted({cell[index] for cell in every})
        if unknown := [n for n in wanted if n not in fitted]:
            raise DataError(f"The {kind} {unknown[0]!r} was not fitted; fitted are {', '.join(fitted)}.")
        cells = [cell for cell in cells if cell[index] in wanted]
    if not cells:
        raise DataError(f"No cell was fitted for {eval_set} of {train_set}.")
    return cells


def _only(points: pd.DataFrame, cells: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Points of these cells; where a point names no cell or half of one, of all that it may mean."""
    import pandas as pd

    fitted = pd.DataFrame(cells, columns=["eval_set", "train_set"])
    named = [c for c in fitted if c in points]
    return points.merge(fitted, on=named) if named else points.merge(fitted, how="cross")


def _at_size(cells: Sequence[tuple[str, str]], *, params: Sizes | None, tokens: Sizes | None) -> pd.DataFrame:
    """Every cell (outer) at every size (inner)."""
    import pandas as pd

    of_cells = pd.DataFrame(cells, columns=["eval_set", "train_set"])
    sizes = zip(*_numbers(params=params, tokens=tokens), strict=True)
    return _each([of_cells.assign(params=n, tokens=d) for n, d in sizes])


def _each(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Points of all parts, which have the same cells: cell by cell."""
    import pandas as pd

    if not parts:
        raise ForecastError("There are no points to forecast.")
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def _numbers(**given: Any) -> list[Floats]:
    """Sizes or budgets of equal length, along one dimension."""
    try:
        values = [np.ravel(np.asarray(value, dtype=float)) for value in given.values()]
        return [np.asarray(one) for one in np.broadcast_arrays(*values)]
    except (TypeError, ValueError):
        lengths = " and ".join(f"{name} {np.size(value)}" for name, value in given.items())
        raise ForecastError(
            f"{' and '.join(given)} must be numbers, or as many as each other, or one of them a single one (there "
            f"are: {lengths})."
        ) from None


def _at(
    posterior: Posterior, at: pd.DataFrame, *, kind: Kind, backtest: TrackRecord | None, source: str | None
) -> Forecast:
    """Forecast at expanded points."""
    import pandas as pd

    draws, found = np.empty((_n_draws(posterior), len(at))), []
    for points, some in _parts(posterior, at, kind=kind, source=source):
        draws[:, points.index] = some
        found.append(points)
    notes = _notes(posterior, at, backtest)
    points = pd.concat(found).sort_index()
    return Forecast(points=points, draws=draws, kind=kind, notes=notes, sweep=posterior.sweep)


def _n_draws(posterior: Posterior) -> int:
    return posterior.draws.sizes["chain"] * posterior.draws.sizes["draw"]


def _parts(
    posterior: Posterior, at: pd.DataFrame, *, kind: Kind, source: str | None
) -> Iterator[tuple[pd.DataFrame, Floats]]:
    """Points and draws, a part of the points after the other; the same ones however they are parted.

    Runs stay whole: what one scatters, its evaluations have in common.
    """
    run = at.groupby(["train_set", size_labels(at)], sort=False).ngroup().to_numpy()
    order, first = np.argsort(run, kind="stable"), 0
    for part in parts(len(at), of=_n_draws(posterior)):
        stop = int(np.searchsorted(run[order], run[order[min(part.stop, len(at)) - 1]], side="right"))
        if stop > first:
            yield _draws(posterior, at.iloc[np.sort(order[first:stop])], kind=kind, source=source)
        first = max(first, stop)


def _draws(posterior: Posterior, at: pd.DataFrame, *, kind: Kind, source: str | None) -> tuple[pd.DataFrame, Floats]:
    """Points and draws of losses, and of the error rates and accuracies that are functions of these draws."""
    structure, errors = structure_of(posterior.spec), posterior.errors
    through = _through(posterior, at)
    draws = structure.losses(posterior, through, kind=kind, source=source)
    if errors is None:
        return at, draws
    is_error, given = _is_error(posterior, at), metrics_of(posterior)
    draws = draws.copy()
    if is_error.any():
        draws[:, is_error] = error_draws(errors, at[is_error], draws[:, is_error], kind=kind)
    metric = np.array([given[cell] for cell in zip(at["eval_set"], at["train_set"], strict=True)])
    right = metric == "accuracy"
    draws[:, right] = 1 - draws[:, right]
    return at.assign(metric=metric), draws


def _notes(posterior: Posterior, at: pd.DataFrame, backtest: TrackRecord | None) -> tuple[Note, ...]:
    """Notes on a posterior and on forecasts from it at expanded points."""
    through, errors = _through(posterior, at), posterior.errors
    if backtest is None:
        notes = too_far(through["extrapolation"])
    else:
        largest = max(posterior.max_flops.values())
        notes = backtest.notes_on(through, model=posterior.spec.name, largest_fitted=largest)
    notes = (*notes, *too_small(through, posterior.sweep.table), *untrained(posterior, at))
    if errors is None:
        return (*posterior.notes, *notes)
    of_errors = at[_is_error(posterior, at)]
    asked = list(zip(of_errors["eval_set"], of_errors["train_set"], strict=True))
    kept = [note for note in (*posterior.notes, *notes) if note.code != "at_chance"]
    return (*kept, *at_chance(errors, asked))


def _is_error(posterior: Posterior, at: pd.DataFrame) -> npt.NDArray[np.bool_]:
    cells = set(posterior.error_cells)
    return np.array([cell in cells for cell in zip(at["eval_set"], at["train_set"], strict=True)], dtype=bool)


def _through(posterior: Posterior, at: pd.DataFrame) -> pd.DataFrame:
    """The points, those of rates with the evaluation whose loss they are a function of."""
    if posterior.errors is None:
        return at
    predictor = predictor_of(posterior.errors)
    cells = zip(at["eval_set"], at["train_set"], strict=True)
    return at.assign(eval_set=[predictor.get(cell, cell[0]) for cell in cells])


def without_noise(posterior: Posterior, points: pd.DataFrame) -> tuple[pd.DataFrame, Floats, Floats, Floats]:
    """Draws of runs but for what each scatters and its evaluation departs by, which are given beside them.

    Parameters
    ----------
    posterior : Posterior
        What is forecast from.
    points : pandas.DataFrame
        As in `forecast`.

    Returns
    -------
    points : pandas.DataFrame
        As in `Forecast`.
    draws : ndarray, shape (draw, point)
        Losses in nats/token, error rates and accuracies. Of a posterior with any of these, both are in them.
    scale : ndarray, shape (point,)
        Standard deviation of log loss that is not in the draws, of what a run scatters.
    departed : ndarray, shape (point,)
        The same of what its evaluation has departed from its law by, in these scales.
    """
    if posterior.errors is not None:
        runs = forecast(posterior, points)
        return runs.points, runs.draws, np.zeros(len(runs)), np.zeros(len(runs))
    at = expand(points, cells=posterior.cells, max_flops=posterior.max_flops)
    structure = structure_of(posterior.spec)
    noise = structure.noise(posterior, range(len(posterior.cells)))
    scale = np.array([np.sqrt((one.scale**2).mean()) for one in noise])
    draws = structure.losses(posterior, at, kind="predictive", noisy=False)
    return at, draws, scale[posterior.columns(at)], structure.departed(posterior, at)


def expand(points: pd.DataFrame, *, cells: Sequence[tuple[str, str]], max_flops: Mapping[str, float]) -> pd.DataFrame:
    """Points with both names of their cell, their compute and how far they lie beyond the fitted runs.

    Parameters
    ----------
    points : pandas.DataFrame
        Columns params, tokens; train_set, eval_set and flops optional.
    cells : sequence of (str, str)
        Fitted (eval_set, train_set).
    max_flops : mapping
        Largest fitted compute of every training set.

    Returns
    -------
    pandas.DataFrame
        train_set, eval_set, params, tokens, flops, extrapolation.

    Raises
    ------
    ForecastError
        If there is no point or a size is missing or not positive.
    DataError
        If a cell was not fitted; it is named, with those that were.
    """
    import pandas as pd

    for name in ("params", "tokens"):
        if name not in points:
            raise ForecastError(f"The points to forecast have no column {name!r}.")
        if not (np.isfinite(points[name]) & (points[name] > 0)).all():
            raise ForecastError(f"The points to forecast need positive, finite {name}.")
        for value in (points[name].min(), points[name].max()):
            if wrong := impossible(name, value):
                raise ForecastError(f"The points to forecast need possible {name}: {wrong}.")
    if not len(points):
        raise ForecastError("There are no points to forecast.")
    fitted = pd.DataFrame(list(cells), columns=["eval_set", "train_set"]).assign(_fitted=True)
    named = [c for c in ("train_set", "eval_set") if c in points]
    at = points.merge(fitted, on=named, how="left") if named else points.merge(fitted, how="cross")
    if (unknown := at["_fitted"].isna()).any():
        cell = " of ".join(str(at[c][unknown].iloc[0]) for c in reversed(named))
        known = ", ".join(sorted(f"{e} of {t}" for e, t in cells)[:12])
        more = f" and {len(cells) - 12} more" if len(cells) > 12 else ""
        raise DataError(
            f"No cell was fitted for {cell}, asked for by {unknown.sum()} of {len(at)} points; "
            f"fitted are {known}{more}."
        )
    flops = FLOPS_PER_PARAM_TOKEN * at["params"] * at["tokens"]
    at["flops"] = at["flops"].fillna(flops) if "flops" in at else flops
    # What was never trained is as far out as from the largest run of all.
    at["extrapolation"] = at["flops"] / at["train_set"].map(max_flops).fillna(max(max_flops.values()))
    return at[[*_POINT, "flops", "extrapolation", *weight_columns(at)]].reset_index(drop=True)
