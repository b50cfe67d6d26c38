"""Error rates: error as a function of loss, partially pooled over tasks and training sets.

A model of errors stands beside a model of losses: its draws are joined with those of the losses, one to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator
from pydantic.dataclasses import dataclass as validated
from typing_extensions import override

from bayes_l2l.data.rates import Metric
from bayes_l2l.laws.error_curves import ERROR_CURVES, ErrorCurve
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import stacked
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.spec.likelihood import Likelihood, Small
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.spec.prior import Prior, Quantity
from bayes_l2l.spec.reading import one_of, refuse
from bayes_l2l.structures.error_arrays import MOST, PREDICTORS, Cell, ErrorArrays
from bayes_l2l.structures.laws import residuals_of
from bayes_l2l.structures.parameters import coords, effects_of, parameter
from bayes_l2l.structures.protocol import Kind, Module, Structure, scattered

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]

#: Least residual scale: some tasks have the same error in nearly every run, which a scale of 0 would explain.
_LEAST: Final = 0.002
#: Ending of the variables that are effects and not yet quantities of a cell.
_EFFECT: Final = "_effect"


def _along_names(prior: Prior) -> Prior:
    if prior.dims not in ((), ("cell",), ("eval_set",), ("train_set",)):
        refuse(f".dims may be cell, eval_set or train_set; it is {', '.join(prior.dims)}.")
    return prior


def _predictor(value: Any) -> str:
    if not isinstance(value, str) or not value:
        refuse(f"must be {', '.join(PREDICTORS)} or an evaluation's name, not {value!r}.")
    return value


#: A quantity of cells (task, training set), which may vary along either name.
OfName = Annotated[Quantity, AfterValidator(_along_names)]


@validated(frozen=True, kw_only=True)
class ErrorLikelihood(Likelihood):
    """Of error rates about their curve.

    Parameters
    ----------
    dist, parameters, residual_scale : see `Likelihood`
        As in `Likelihood`; the scale is of the error rate, besides the binomial noise of ``n_items`` questions.
    discrepancy : Prior
        Runs need not lie on the curve where their loss is above the reference: additional scale of their error, over
        chance, per nat of loss above it.
    extrapolation_discrepancy : float
        Beyond the fitted runs, progress in loss counts exp(extrapolation_discrepancy z) as much, z standard normal,
        for each task: no closed form is that of every task.
    """

    residual_scale: OfName
    discrepancy: OfName = Prior.fixed(0.0)
    extrapolation_discrepancy: Small = 0.0


@validated(frozen=True, kw_only=True)
class ErrorRateSpec(ModelSpec):
    """A model of error rates.

    Parameters
    ----------
    name, title, equation, source, structure : see `ModelSpec`
        As in `ModelSpec`.
    priors : mapping of str to Prior
        Of the curve's quantities: ``ceiling`` (what it differs from chance by, on the logit scale), ``level``,
        ``rate`` or ``kappa``, of "richards" ``shape``, and of "power" ``floor`` (over the ceiling), ``E_fraction``
        (of the smallest loss) and ``sharpness``. ``level`` and ``rate`` of "richards" are log(-log(err / ceiling))
        and its slope (per nat) at the reference loss. A prior varies along cell, eval_set (task), train_set, or not
        at all.
    likelihood : ErrorLikelihood
        How runs scatter about the curve.
    curve : str
        The closed form (`bayes_l2l.laws.error_curves`).
    predictor : str
        The loss that error is a function of: a key of `PREDICTORS`, or the name of an evaluation.
    """

    curve: Annotated[str, BeforeValidator(one_of(lambda: list(ERROR_CURVES)))]
    predictor: Annotated[str, BeforeValidator(_predictor)] = "shared"
    priors: Mapping[str, OfName]
    likelihood: ErrorLikelihood

    @override
    @classmethod
    def prior_names(cls, record: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
        curve = record.get("curve")
        if not isinstance(curve, str) or curve not in ERROR_CURVES:
            return None
        return ERROR_CURVES[curve].priors, (), f"curve = {curve!r}"

    @property
    def form(self) -> type[ErrorCurve]:
        """The closed form."""
        return ERROR_CURVES[self.curve]


def build_errors(spec: ErrorRateSpec, data: ErrorArrays) -> pm.Model:
    """Build the model.

    Parameters
    ----------
    spec : ErrorRateSpec
        What is believed.
    data : ErrorArrays
        What is known.

    Returns
    -------
    pymc.Model
        With the parameters of the curve and ``residual_scale`` along ``cell``, and those of the residuals; the
        likelihood is the potential ``log_likelihood``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    effects, ones, likelihood = effects_of(data.cells), pt.ones(len(data.cells)), spec.likelihood
    with pm.Model(coords=coords("cell", data.labels, effects)) as model:
        known = {name: pm.Data(name, value) for name, value in _data(spec, data).items()}

        def value(name: str, prior: Prior) -> Any:
            drawn = parameter(f"{name}{_EFFECT}", prior, effects)
            dim = prior.dims[0] if prior.dims else ""
            return drawn[effects[dim][1]] if dim in effects else drawn * ones

        drawn = {name: value(name, prior) for name, prior in spec.priors.items()}
        chance = pt.minimum(known["chance"], MOST)
        ceiling = pt.sigmoid(pt.log(chance) - pt.log1p(-chance) + drawn["ceiling"])
        reference = known["reference"]
        curve = spec.form.from_priors(drawn, reference=reference, ceiling=ceiling, smallest=known.get("smallest"))
        residual_scale = value("residual_scale", likelihood.residual_scale)
        residuals = residuals_of(likelihood, effects)
        for name in spec.form.parameters():
            pm.Deterministic(name, getattr(curve, name), dims="cell")
        pm.Deterministic("residual_scale", residual_scale, dims="cell")
        expected = curve(known["loss"])
        inside = pt.clip(expected, 0.0, 1.0)
        above = pt.maximum(known["loss"] - reference, 0.0)
        off = value("discrepancy", likelihood.discrepancy) * known["chance"] * above
        scale = pt.sqrt(residual_scale**2 + _LEAST**2 + off**2 + known["per_item"] * inside * (1 - inside))
        density = residuals.log_density(known["error"] - expected, scale)
        pm.Potential("log_likelihood", (known["observed"] * density).sum())
    return model


def _data(spec: ErrorRateSpec, data: ErrorArrays) -> dict[str, Floats]:
    """What the model holds as `pm.Data`, by name."""
    names = ["error", "loss", "observed", "per_item", "chance", "reference"]
    return {name: getattr(data, name) for name in (*names, *(["smallest"] if spec.form.uses_smallest else []))}


class ErrorRate(Structure[ErrorRateSpec, ErrorArrays]):
    """Error as a function of loss."""

    name = "error_rate"
    words = "error is a function of loss; tasks and training sets resemble each other by their priors"
    spec = ErrorRateSpec
    has_laws = False
    variables = ("ceiling", "level", "slope", "residual_scale")
    metric = "error"

    @override
    def arrange(self, spec: ErrorRateSpec, sweep: Sweep) -> ErrorArrays:
        return ErrorArrays.of(sweep, predictor=spec.predictor, model=spec.name)

    @override
    def modules(self, spec: ErrorRateSpec, arrays: ErrorArrays) -> tuple[Module[ErrorArrays], ...]:
        if not arrays.learned.any():
            return ()
        build = partial(build_errors, spec, arrays.only(arrays.learned))
        reported = (*spec.form.parameters(), "residual_scale", *spec.likelihood.parameters)

        def data(runs: ErrorArrays, _: Any) -> dict[str, Floats]:
            return _data(spec, runs.only(runs.learned))

        # The posterior bends less than that of a law, and needs no shorter steps.
        return (Module(build, data, reported=reported, target_accept=0.95),)

    @override
    def join(
        self,
        spec: ErrorRateSpec,
        arrays: ErrorArrays,
        drawn: Sequence[xr.Dataset],
        given: Sequence[Mapping[str, Any]] | None,
        *,
        size: tuple[int, int],
    ) -> xr.Dataset:
        posterior = _reported(drawn[0]) if drawn else _nothing(spec, size)
        return posterior.reindex(cell=arrays.labels).assign_coords(arrays.coordinates)

    @override
    def diagnosed(self, posterior: xr.Dataset) -> xr.Dataset:
        return posterior.isel(cell=posterior["learned"].to_numpy().astype(bool))


def _reported(posterior: xr.Dataset) -> xr.Dataset:
    """Quantities of the cells, and hyper-parameters that are single numbers."""
    kept = []
    for name, values in posterior.items():
        dims = set(values.dims) - {"chain", "draw"}
        if not dims or (dims == {"cell"} and not str(name).endswith(_EFFECT)):
            kept.append(str(name))
    return posterior[kept].drop_vars(["eval_set", "train_set"], errors="ignore")


def _nothing(spec: ErrorRateSpec, size: tuple[int, int]) -> xr.Dataset:
    """Draws of no cell."""
    import xarray as xr

    names = (*spec.form.parameters(), "residual_scale")
    along: dict[str, Any] = {name: (("chain", "draw", "cell"), np.empty((*size, 0))) for name in names}
    along |= {name: (("chain", "draw"), np.full(size, np.nan)) for name in spec.likelihood.parameters}
    return xr.Dataset(
        along, coords={"chain": range(size[0]), "draw": range(size[1]), "cell": np.array([], dtype=str)}
    )


# What its draws mean


def curve_draws(errors: Posterior, task: str, train_set: str) -> ErrorCurve:
    """Curve of a cell, arrays of shape (draw,)."""
    return _curves(errors, stacked(errors.draws), errors.cells.index((task, train_set)))


def learned(errors: Posterior) -> dict[Cell, bool]:
    """Whether each cell has left chance in the data; if not, nothing is forecast."""
    return dict(zip(errors.cells, errors.draws["learned"].to_numpy().astype(bool).tolist(), strict=True))


def metrics_of(posterior: Posterior) -> dict[Cell, Metric]:
    """What every cell was given as: a loss, an error rate, or an accuracy."""
    losses: dict[Cell, Metric] = dict.fromkeys(posterior.cells, "loss")
    if (errors := posterior.errors) is None:
        return losses
    given = errors.draws.get("metric")  # fits of before have error rates alone
    names: list[Metric] = ["error"] * len(errors.cells) if given is None else given.to_numpy().tolist()
    return losses | dict(zip(errors.cells, names, strict=True))


def predictor_of(errors: Posterior) -> dict[Cell, str]:
    """Evaluation whose loss the error of each cell is a function of."""
    return dict(zip(errors.cells, map(str, errors.draws["predictor"].to_numpy()), strict=True))


def error_draws(errors: Posterior, at: pd.DataFrame, loss: Floats, *, kind: Kind) -> Floats:
    """Draws of the error where the loss is what the draws of another posterior say.

    Parameters
    ----------
    errors : Posterior
        Of error rates.
    at : pandas.DataFrame
        Columns eval_set (the task) and train_set, one row a point; the index numbers the points.
    loss : ndarray, shape (draw, point)
        Loss on each cell's predictor (nats/token). Draws are joined in their order with those of the curves.
    kind : {"predictive", "mean"}
        The error of a run, or the curve.

    Returns
    -------
    ndarray, shape (draw, point)
        Error rates in [0, 1]; NaN where the task has not left chance in the data.
    """
    spec: ErrorRateSpec = errors.spec  # type: ignore[assignment]
    column, draws = errors.columns(at), stacked(errors.draws)
    rng = np.random.default_rng([errors.seed, 3])
    n_draws = draws.sizes["sample"]
    joined = np.arange(len(loss)) if len(loss) == n_draws else rng.integers(n_draws, size=len(loss))
    draws = draws.isel(sample=joined)
    # Beyond the fitted runs each task, on all training sets, goes on faster or more slowly than its curve says.
    tasks = list(dict.fromkeys(task for task, _ in errors.cells))
    pace = np.exp(spec.likelihood.extrapolation_discrepancy * rng.standard_normal((len(loss), len(tasks))))
    pace = pace[:, [tasks.index(task) for task in at["eval_set"]]]
    smallest = errors.draws["smallest"].to_numpy()[column]
    error = _curves(errors, draws, column)(np.where(loss < smallest, smallest - pace * (smallest - loss), loss))
    if kind == "predictive":
        along = {name: draws[name].to_numpy()[:, None] for name in spec.likelihood.parameters}
        residuals = spec.likelihood.residuals(**along)
        residual_scale = draws["residual_scale"].to_numpy()[:, column]
        noise = scattered(errors.seed, at.index, len(loss), lambda rng, z, _: residuals.draw(rng, z[:, None])[:, 0])
        error = error + residual_scale * noise
    known = errors.draws["learned"].to_numpy()[column].astype(bool)
    return np.where(known, np.clip(error, 0.0, 1.0), np.nan)


def at_chance(errors: Posterior, cells: list[Cell] | None = None) -> tuple[Note, ...]:
    """Note on the tasks that have not left chance, of these cells or of all."""
    has_left = learned(errors)
    stuck: dict[str, list[str]] = {}
    for task, train in dict.fromkeys(errors.cells if cells is None else cells):
        if not has_left[task, train]:
            stuck.setdefault(task, []).append(train)
    if not stuck:
        return ()
    sets = len(dict.fromkeys(train for _, train in errors.cells))
    named = [f"{task} ({_trained_on(trains, sets)})" for task, trains in list(stuck.items())[:3]]
    more = f" and {len(stuck) - 3} more" if len(stuck) > 3 else ""
    message = (
        f"{', '.join(named)}{more} {'has' if len(stuck) == 1 else 'have'} not left chance by more than runs scatter: "
        "nothing can be learned about them beyond these runs, and their forecasts are left empty"
    )
    return (Note("at_chance", "warning", message, {"tasks": stuck}),)


def _trained_on(trains: list[str], sets: int) -> str:
    """Training sets in a sentence."""
    if len(trains) == sets and sets > 1:
        return "on all training sets"
    return "trained on " + ", ".join(trains[:3]) + (f" and {len(trains) - 3} more" if len(trains) > 3 else "")


def _curves(errors: Posterior, draws: xr.Dataset, column: Any) -> ErrorCurve:
    """Curves of some cells from stacked draws, arrays of shape (draw, cell)."""
    spec: ErrorRateSpec = errors.spec  # type: ignore[assignment]
    drawn = {name: draws[name].to_numpy()[:, column] for name in spec.form.parameters()}
    return spec.form(reference=errors.draws["reference"].to_numpy()[column], **drawn)
