"""Forecast: draws of losses at new sizes, for the curve of a law or for a run that scatters about it.

Everything here is a pure function of the posterior draws: nothing samples and nothing imports PyMC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from bayes_l2l.build import LAW_VARIABLES, RELATION_VARIABLES, ModelData, discrepancy, evidence, point_label
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.laws import FLOPS_PER_PARAM_TOKEN, Law, ShiftedPowerLaw
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from bayes_l2l.fits import Fit
    from bayes_l2l.rollouts import Rollout
    from bayes_l2l.sweep import Sweep

Floats = npt.NDArray[np.float64]
Kind = Literal["run", "curve"]

#: Default quantiles of a table: both ends of every interval that `scores` reports, and the median.
QUANTILES: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
#: Hindcasts inside public sweeps reach about this far beyond the largest fitted compute.
TESTED_EXTRAPOLATION: Final = 25.0

#: Loss (nats/token) at which curves level off that would reach 0.
_LEAST: Final = 1e-3
_POINT: Final = ["train_set", "eval_set", "params", "tokens"]
_RUN: Final = ["eval_set", "train_set", "params", "tokens"]


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    """Draws of the loss, or error rate, at every forecast point.

    Parameters
    ----------
    points : pandas.DataFrame
        One row a point: train_set, eval_set, params, tokens, flops, extrapolation (how many times the largest
        compute among the fitted runs of its training set); with a column metric ("loss" or "error") if the fit has
        error rates.
    draws : ndarray, shape (draw, point)
        Losses in nats/token and error rates in [0, 1], NaN where nothing can be learned. Draws of one
        row belong together: what is uncertain about all points is shared.
    kind : {"run", "curve"}
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
            besides), extrapolation; losses in nats/token. If the fit has error rates, metric after eval_set.

        Raises
        ------
        ForecastError
            If a level is not between 0 and 1.
        """
        import pandas as pd

        # One frame of all levels: pandas warns when a hundred columns come one by one.
        levels = pd.DataFrame(summary(self.draws, quantiles), index=self.points.index)
        leading = [*_POINT[:2], *(["metric"] if "metric" in self.points else []), *_POINT[2:], "flops"]
        sizes = self.points[leading].assign(kind=self.kind)
        return pd.concat([sizes, levels, self.points[["extrapolation"]]], axis=1)

    def plot(self, **options: Any) -> Figure:
        """Draw the forecast points with their intervals (see `bayes_l2l.plots.forecast`)."""
        from bayes_l2l import plots

        figure: Figure = plots.forecast(self, **options)
        return figure


def summary(draws: Floats, quantiles: Sequence[float]) -> dict[str, Floats]:
    """Columns of a table that summarise draws.

    Parameters
    ----------
    draws : ndarray, shape (draw, row)
        What is summarised.
    quantiles : sequence of float
        Levels in (0, 1).

    Returns
    -------
    dict
        mean, sd, median and ``q0.05`` a level, ascending; each of shape (row,).

    Raises
    ------
    ForecastError
        If a level is not between 0 and 1.
    """
    levels = sorted(set(quantiles))
    if wrong := [q for q in levels if not 0 < q < 1]:
        raise ForecastError(f"A quantile must lie between 0 and 1, not {wrong[0]:g}.")
    values = np.quantile(draws, levels, axis=0)
    columns = {"mean": draws.mean(axis=0), "sd": draws.std(axis=0), "median": np.median(draws, axis=0)}
    return columns | {f"q{level:g}": value for level, value in zip(levels, values, strict=True)}


def forecast(
    fit: Fit,
    points: pd.DataFrame,
    *,
    kind: Kind = "run",
    rollout: Rollout | None = None,
    source: str | None = None,
) -> Forecast:
    """Forecast losses at given sizes.

    Parameters
    ----------
    fit : Fit
        A posterior.
    points : pandas.DataFrame
        Columns params, tokens; and train_set, eval_set where not every fitted cell is meant.
    kind : {"run", "curve"}
        "curve" is the law, with what it may drift off beyond the runs; "run" adds what a run deviates from it: its
        own scatter, and the deviation that all runs of equal (N, D) share, which is conditioned on the fitted runs
        of that size. A model of pairs reads the target's loss off the fitted run of a source at that
        size: "curve" is the relation at its loss, "run" adds what both runs scatter.
    rollout : Rollout, optional
        Of the same model: the notes say how often its intervals were right as far out.
    source : str, optional
        Of a model of pairs: the cell to forecast from ("eval@train"), or its training set. By default every source
        with a run of the size, in equal parts of the draws.

    Returns
    -------
    Forecast

    Raises
    ------
    ForecastError
        If there is no point, or a size, the kind or the source is refused, or no source has a run of the size.
    DataError
        If a cell was not fitted.
    """
    if kind not in ("run", "curve"):
        raise ForecastError(f"kind is {kind!r}; it must be 'run' or 'curve'.")
    at = expand(points, cells=[*fit.cells, *fit.error_cells], max_flops=fit.max_flops)
    if fit.errors is not None:
        return _with_errors(fit, at, kind=kind, rollout=rollout, source=source)
    return _of_losses(fit, at, kind=kind, rollout=rollout, source=source)


def _of_losses(fit: Fit, at: pd.DataFrame, *, kind: Kind, rollout: Rollout | None, source: str | None) -> Forecast:
    """Forecast of losses at expanded points."""
    if fit.spec.structure == "pairs":
        draws = _through_pairs(fit, at, kind=kind, source=source)
    elif source is not None:
        raise ForecastError(f"Model {fit.spec.name!r} forecasts from all its cells together: leave out the source.")
    else:
        draws = _through_laws(fit, at, kind=kind)
    if rollout is None:
        notes = _distance(at)
    else:
        notes = rollout.notes_on(at, model=fit.spec.name, largest_fitted=max(fit.max_flops.values()))
    return Forecast(points=at, draws=draws, kind=kind, notes=(*fit.notes, *notes), sweep=fit.sweep)


def _with_errors(fit: Fit, at: pd.DataFrame, *, kind: Kind, rollout: Rollout | None, source: str | None) -> Forecast:
    """Forecast of losses, and of errors through the draws of the losses that they are a function of."""
    assert fit.errors is not None
    cells = list(zip(at["eval_set"], at["train_set"], strict=True))
    is_error = np.array([cell in set(fit.error_cells) for cell in cells])
    through = at.assign(eval_set=[fit.errors.predictor.get(cell, cell[0]) for cell in cells])
    forecast = _of_losses(fit, through, kind=kind, rollout=rollout, source=source)
    draws = forecast.draws.copy()
    draws[:, is_error] = fit.errors.draw(at[is_error], draws[:, is_error], kind=kind)
    asked = [cell for cell, wanted in zip(cells, is_error, strict=True) if wanted]
    notes = tuple(note for note in forecast.notes if note.code != "at_chance")
    points = at.assign(metric=np.where(is_error, "error", "loss"))
    return Forecast(points=points, draws=draws, kind=kind, notes=(*notes, *fit.errors.objections(asked)))


def one_way(flops: Any, params: Any, tokens: Any) -> bool:
    """Whether a size is said in one of the two ways, by compute or by both N and D, and in no other."""
    return (flops is None) != (params is None) and (params is None) == (tokens is None)


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
    at["extrapolation"] = at["flops"] / at["train_set"].map(max_flops)
    return at[[*_POINT, "flops", "extrapolation"]].reset_index(drop=True)


def optimal_points(fit: Fit, flops: float, *, cells: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Compute-optimal sizes of a budget, one row a cell: the posterior median of N*(C), and D = C / (6 N).

    Parameters
    ----------
    fit : Fit
        A posterior.
    flops : float
        Budget C (FLOPs).
    cells : sequence of (str, str)
        (eval_set, train_set) of the cells.

    Returns
    -------
    pandas.DataFrame
        train_set, eval_set, params, tokens, flops.
    """
    import pandas as pd

    if fit.spec.structure == "pairs":
        raise ForecastError(
            f"Model {fit.spec.name!r} has no laws, so no compute-optimal size: say params and tokens."
        )
    if not (np.isfinite(flops) and flops > 0):
        raise ForecastError(f"flops must be positive and finite, not {flops:g}.")
    # An error rate has the optimum of the loss that it is a function of.
    of_loss = {c: (fit.errors.predictor[c], c[1]) if fit.errors and c in fit.errors.predictor else c for c in cells}
    law = law_draws(stacked(fit.posterior), [fit.cells.index(of_loss[cell]) for cell in cells])
    params = np.median(law.optimal(flops)[0], axis=0)
    evals, trains = zip(*cells, strict=True)
    tokens = flops / (FLOPS_PER_PARAM_TOKEN * params)
    return pd.DataFrame(
        {"train_set": trains, "eval_set": evals, "params": params, "tokens": tokens, "flops": float(flops)}
    )


def stacked(posterior: xr.Dataset) -> xr.Dataset:
    """Posterior with chains and draws as one dimension ``sample``, which comes first."""
    long = posterior.stack(sample=("chain", "draw"), create_index=False)  # noqa: PD013
    return long.transpose("sample", ...)


def thinned(fit: Fit, most: int) -> Fit:
    """The fit with every so many-th draw, so that about as many are left as asked for."""
    import xarray as xr

    posterior = fit.posterior
    step = posterior.sizes["chain"] * posterior.sizes["draw"] // most
    if step < 2:
        return fit
    groups = {name: group.to_dataset() for name, group in fit.tree.children.items()}
    return replace(
        fit, tree=xr.DataTree.from_dict(groups | {"posterior": posterior.isel(draw=slice(None, None, step))})
    )


def law_draws(posterior: xr.Dataset, cell: Sequence[int] | slice | int) -> Law:
    """Law of a cell (arrays of shape (sample,)) or of several (sample, cell) from stacked draws."""
    names = LAW_VARIABLES
    if "log_A" not in posterior:
        raise DataError("This model relates losses to each other and has no laws: fit the joint model for them.")
    return Law(**{name: posterior[name].to_numpy()[:, cell] for name in names})


def degrees_of_freedom(fit: Fit) -> Floats:
    """Of what the runs of every cell scatter by themselves, shape (cell,); infinite where it is normal."""
    return np.where(_reads(fit), fit.spec.readings_nu, np.inf)


def _reads(fit: Fit) -> npt.NDArray[np.bool_]:
    """Which cells read R that others decide, shape (cell,)."""
    if "decides" not in fit.posterior.coords:
        return np.zeros(len(fit.cells), dtype=bool)
    return ~fit.posterior["decides"].to_numpy().astype(bool)


def noise(rng: np.random.Generator, shape: tuple[int, ...], *, nu: Floats) -> Floats:
    """Draws by Student's t with scale 1 and `nu` degrees of freedom (broadcast to `shape`); normal where infinite.

    All normal draws are made first, so that they are those of a model without heavy tails.
    """
    normal = rng.standard_normal(shape)
    heavy = np.isfinite(nu)
    if not heavy.any():
        return normal
    some = np.where(heavy, nu, 1.0)
    return np.where(heavy, normal / np.sqrt(rng.chisquare(some, shape) / some), normal)


def unscattered(fit: Fit, points: pd.DataFrame) -> tuple[pd.DataFrame, Floats, Floats]:
    """Draws of runs but for what each scatters by itself, which is given beside them.

    Parameters
    ----------
    fit : Fit
        A posterior.
    points : pandas.DataFrame
        As in `forecast`.

    Returns
    -------
    points : pandas.DataFrame
        As in `Forecast`.
    draws : ndarray, shape (draw, point)
        Losses in nats/token. Of a model of pairs, or of error rates, the scatter is in them.
    scatter : ndarray, shape (point,)
        Standard deviation of log loss that is not in the draws.
    """
    if fit.errors is not None or fit.spec.structure == "pairs":
        runs = forecast(fit, points)
        return runs.points, runs.draws, np.zeros(len(runs))
    at = expand(points, cells=fit.cells, max_flops=fit.max_flops)
    column = [fit.cells.index(cell) for cell in zip(at["eval_set"], at["train_set"], strict=True)]
    variance = (fit.posterior["scatter"].to_numpy() ** 2).mean(axis=(0, 1))
    return at, _through_laws(fit, at, kind="run", scattered=False), np.sqrt(variance[column])


def _through_laws(fit: Fit, at: pd.DataFrame, *, kind: Kind, scattered: bool = True) -> Floats:
    """Draws of the loss at every point, by the law of its cell."""
    posterior = stacked(fit.posterior)
    column = [fit.cells.index(cell) for cell in zip(at["eval_set"], at["train_set"], strict=True)]
    law = law_draws(posterior, column)
    loss = law.loss(at["params"].to_numpy(), at["tokens"].to_numpy())
    scatter, reads = posterior["scatter"].to_numpy()[:, column], _reads(fit)[column]
    rng = np.random.default_rng(fit.settings.seed)
    if kind == "run":
        # Runs of one size deviate in R. What decides it was fitted with that to first order, readings exactly.
        moved = law.gamma * _deviations(fit, posterior, at, rng)
        first_order = loss * np.exp(moved * np.where(reads, 0.0, 1 - law.E / np.where(reads, 1.0, loss)))
        loss = np.where(reads, law.E + (loss - law.E) * np.exp(moved), first_order)
    log_loss = np.log(np.where(reads, _above_zero(loss), loss)) + scatter * _drift(fit, at, len(loss))
    if kind == "run" and scattered:
        log_loss += scatter * noise(rng, loss.shape, nu=degrees_of_freedom(fit)[column])
    return np.asarray(np.exp(log_loss))


def _above_zero(loss: Floats) -> Floats:
    """Losses of curves that far out would reach 0, as a reading's may whose E is below: they level off above it.

    Along a hyperbola, which leaves a loss of 1 nat as it is to six digits.
    """
    return np.asarray((loss + np.hypot(loss, 2 * _LEAST)) / 2)


def _deviations(fit: Fit, posterior: xr.Dataset, at: pd.DataFrame, rng: np.random.Generator) -> Floats:
    """Draws of the shared deviation of log R at every point, alike where (N, D) are, given the fitted runs.

    Given the parameters it is normal, with what the losses that decide R say of it (see `build.evidence`).
    """
    likelihood = fit.spec.likelihood
    data = ModelData.of(fit.sweep, likelihood=likelihood)
    if "decides" in posterior.coords:
        # What only reads R tells nothing of it.
        deciding = np.flatnonzero(posterior["decides"].to_numpy()).tolist()
        posterior, data = posterior.isel(cell=deciding), data.only(deciding)
    largest = max(fit.max_flops.values())
    known: dict[str, list[int]] = {}
    for i, (n, d) in enumerate(zip(np.exp(data.log_params), np.exp(data.log_tokens), strict=True)):
        known.setdefault(point_label(n, d), []).append(i)
    law, scatter = law_draws(posterior, slice(None)), posterior["scatter"].to_numpy()
    drawn: dict[str, Floats] = {}
    labels = [point_label(n, d) for n, d in zip(at["params"], at["tokens"], strict=True)]
    for label, n, d in zip(labels, at["params"], at["tokens"], strict=True):
        if label in drawn:
            continue
        off = discrepancy(np.array(FLOPS_PER_PARAM_TOKEN * n * d / largest), likelihood)
        deviation = np.hypot(posterior["deviation"].to_numpy(), off)
        pull, precision = evidence(law, data, known.get(label, ()), params=n, tokens=d, scatter=scatter)
        # Standardised, so that a deviation of 0 is none.
        precision = 1 + deviation**2 * precision
        delta = deviation * pull / precision + rng.standard_normal(precision.size) / np.sqrt(precision)
        drawn[label] = deviation * delta
    return np.stack([drawn[label] for label in labels], axis=1)


def _drift(fit: Fit, at: pd.DataFrame, n_draws: int) -> Floats:
    """Draws of how far every evaluation has drifted off its law at the points, over the scatter of the cell.

    The same draws in every forecast of a fit: a law drifts off once.
    """
    reached = fit.sweep.table.groupby("eval_set")["flops"].max()
    column = [reached.index.tolist().index(name) for name in at["eval_set"]]
    distance = np.log(np.maximum(at["flops"].to_numpy() / reached.to_numpy()[column], 1.0))
    per_fold = np.random.default_rng([fit.settings.seed, 1]).standard_normal((n_draws, len(reached)))
    return np.asarray(fit.spec.likelihood.drift * per_fold[:, column] * distance)


def _through_pairs(fit: Fit, at: pd.DataFrame, *, kind: Kind, source: str | None) -> Floats:
    """Draws of the loss at every point, read off the fitted runs of the sources at its size.

    Every draw takes one source, and the same one at all points with the same choice. A source's run and the
    target's scatter by s each, the former by the slope of the relation (errors in variables, to first order).
    """
    posterior = stacked(fit.posterior)
    rng = np.random.default_rng(fit.settings.seed)
    n_draws = posterior.sizes["sample"]
    place = (rng.permutation(n_draws) + 0.5) / n_draws
    losses = _fitted_losses(fit)
    sources, targets = posterior["source"].to_numpy(), posterior["target"].to_numpy()
    if source is not None:
        named = np.array([source in (cell, cell[cell.rfind("@") + 1 :]) for cell in sources])
        if not named.any():
            known = ", ".join(dict.fromkeys(map(str, sources)))
            raise ForecastError(f"No relation was fitted from source {source!r}; fitted sources are {known}.")
        targets = np.where(named, targets, "")
    draws = np.empty((n_draws, len(at)))
    for i, (evaluation, train, n, d) in enumerate(zip(*(at[c] for c in _RUN), strict=True)):
        target, label = f"{evaluation}@{train}", point_label(n, d)
        pairs = [p for p in np.flatnonzero(targets == target) if (sources[p], label) in losses]
        if not pairs:
            raise ForecastError(
                f"No run of {n:.4g} parameters and {d:.4g} tokens was fitted on {source or 'a source'} of {target}: "
                "fit again with the source's run in the table, or fit the joint model, which needs none."
            )
        pair = np.array(pairs)[(place * len(pairs)).astype(int)]
        x = np.array([losses[cell, label] for cell in sources[pair]])
        each = np.arange(n_draws), pair
        relation = ShiftedPowerLaw(**{name: posterior[name].to_numpy()[each] for name in RELATION_VARIABLES})
        y = relation(x)
        if kind == "run":
            slope = relation.kappa * (1 - relation.E1 / y) / (1 - relation.E0 / x)
            nu = posterior["nu"].to_numpy() if fit.spec.likelihood.nu is not None else np.array(np.inf)
            scatter = posterior["scatter"].to_numpy()[each] * np.hypot(1, slope)
            y = y * np.exp(scatter * noise(rng, (n_draws,), nu=nu))
        draws[:, i] = y
    return draws


def _fitted_losses(fit: Fit) -> dict[tuple[str, str], float]:
    """Fitted loss of every cell ("eval@train") and size, repeats averaged."""
    table = fit.sweep.table
    cells = table["eval_set"] + "@" + table["train_set"]
    losses: dict[tuple[str, str], list[float]] = {}
    for cell, n, d, loss in zip(cells, table["params"], table["tokens"], table["loss"], strict=True):
        losses.setdefault((cell, point_label(n, d)), []).append(loss)
    return {key: float(np.mean(repeats)) for key, repeats in losses.items()}


def _distance(at: pd.DataFrame) -> tuple[Note, ...]:
    """Note on points that lie further out than hindcasts have tested; a rollout of the user's own knows better."""
    far = at[at["extrapolation"] > TESTED_EXTRAPOLATION]
    if not len(far):
        return ()
    most = float(far["extrapolation"].max())
    message = (
        f"{len(far)} of {len(at)} points have up to {most:.0f} times the largest compute fitted; hindcasts have "
        f"tested forecasts to about {TESTED_EXTRAPOLATION:.0f} times: do not trust the intervals there"
    )
    return (Note("far_extrapolation", "warning", message, {"points": len(far), "extrapolation": most}),)
