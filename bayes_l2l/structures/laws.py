"""Cells whose losses are laws of (N, D): the PyMC model that such structures share, and what its draws mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass as validated
from typing_extensions import override

from bayes_l2l.data.sizes import size_labels
from bayes_l2l.errors import ForecastError
from bayes_l2l.laws.family import LAW_FORMS
from bayes_l2l.laws.residuals import Residuals
from bayes_l2l.laws.scaling import D0, FLOPS_PER_PARAM_TOKEN, from_reference, log_progress
from bayes_l2l.posterior.draws import LAW_VARIABLES, law_draws, parts, stacked, thinned
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.spec.likelihood import LawLikelihood
from bayes_l2l.spec.model import CellPriors, ModelSpec
from bayes_l2l.spec.prior import Prior
from bayes_l2l.spec.reading import one_of
from bayes_l2l.structures.arrays import LossArrays, discrepancy_scale, discrepancy_shift
from bayes_l2l.structures.differences import Differences, departure, differences, groups_of
from bayes_l2l.structures.evaluation_correlation import EvaluationCorrelation, evaluation_correlation
from bayes_l2l.structures.parameters import Effects, coords, effects_of, number_of_cells, parameter
from bayes_l2l.structures.pointwise import Pointwise, law_densities, loss_names
from bayes_l2l.structures.protocol import Kind, Structure, scattered
from bayes_l2l.structures.run_likelihood import independent_runs, run_likelihood
from bayes_l2l.structures.size_effect import drawn_effect, expected_effect

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]

#: What a posterior holds of the likelihood.
NOISE_VARIABLES: Final = ("residual_scale", "size_effect_scale")
#: Noise of log loss that chains start with: wide, so that none is trapped in a corner before it has seen the law.
WIDE: Final = 0.05
#: Loss (nats/token) at which curves level off that would reach 0.
_LEAST: Final = 1e-3
#: Draws of which the mean law of every run is made, about which residuals are taken.
_ENOUGH: Final = 100
_CORRELATIONS: Final[WeakKeyDictionary[Posterior, EvaluationCorrelation]] = WeakKeyDictionary()
_DIFFERENCES: Final[WeakKeyDictionary[Posterior, list[Differences]]] = WeakKeyDictionary()


@validated(frozen=True, kw_only=True)
class LawSpec(ModelSpec):
    """A model whose cells have scaling laws.

    Parameters
    ----------
    name, title, equation, source, structure, priors : see `ModelSpec`
        As in `ModelSpec`. Priors of a law are ``E_fraction`` (E over the cell's smallest loss), ``excess`` (loss of
        the law at the reference size over that smallest loss, less 1), ``share`` (part of R that is the model-size
        term at the reference), those of its exponents, and optionally ``c``.
    likelihood : LawLikelihood
        How runs scatter about the law.
    law : str
        Member of the family (`bayes_l2l.laws.family`).
    """

    priors: CellPriors
    law: Annotated[str, BeforeValidator(one_of(lambda: list(LAW_FORMS), what="no known member"))]
    likelihood: LawLikelihood


Spec = TypeVar("Spec", bound=LawSpec)


@dataclass(frozen=True, eq=False)
class Place:
    """What a law is parameterised by, as variables of a model: amid the runs, where the data know it.

    Attributes
    ----------
    E, loss : tensor, shape (cell,)
    share : tensor, shape (cell,), or a scalar
        Irreducible entropy, loss at the reference size (nats/token), and the model-size term's part of R there.
    """

    E: Any
    loss: Any
    share: Any

    @property
    def log_slope(self) -> Any:
        """Logarithm of (L - E)/L: the slope of log loss in the logarithm of what is reducible."""
        import pytensor.tensor as pt

        return pt.log1p(-self.E / self.loss)


def build_laws(
    spec: LawSpec, data: LossArrays, exponents: Callable[[Callable[..., Any], Place], tuple[Any, Any, Any]]
) -> pm.Model:
    """Build the model of cells with laws.

    Parameters
    ----------
    spec : LawSpec
        What is believed.
    data : LossArrays
        What is known.
    exponents : callable
        Gives alpha/gamma, beta/gamma and gamma, from the function that draws a quantity by name (and an optional
        shift of its logarithm that the data know better), and from what the laws are at the reference.

    Returns
    -------
    pymc.Model
        With `LAW_VARIABLES` along ``cell``, `NOISE_VARIABLES`, and the hyper-parameters; the likelihood is the
        potential ``log_likelihood``, summed over runs, with the shared effects of sizes integrated out.
    """
    import pymc as pm
    import pytensor.tensor as pt

    effects = effects_of(data.cells)
    with pm.Model(coords=coords("cell", data.labels, effects)) as model:
        known = {name: pm.Data(name, value) for name, value in data.arrays().items()}

        def value(name: str, shift: Any = None) -> Any:
            report = name not in LAW_VARIABLES
            odds = name == "E_fraction"
            return parameter(name, spec.priors[name], effects, shift=shift, odds=odds, report=report)

        share = value("share")
        E = value("E_fraction") * known["smallest"]
        place = Place(E, known["smallest"] * (1 + value("excess")), share)
        a, b, gamma = exponents(value, place)
        c = value("c") * known["short"] if "c" in spec.priors else pt.as_tensor(0.0)
        _report(place, known["reference"], a, b, gamma, c)
        _observe(spec.likelihood, known, place, (a, b, gamma, c), effects)
    return model


def _report(place: Place, reference: Any, a: Any, b: Any, gamma: Any, c: Any) -> None:
    """Add the laws of all cells to what the posterior holds (`LAW_VARIABLES`)."""
    import pymc as pm
    import pytensor.tensor as pt

    log_A, log_B = from_reference(
        log_reducible_ref=pt.log(place.loss - place.E) - gamma * pt.log1p(c * pt.exp(np.log(D0) - reference[1])),
        share=place.share,
        alpha=a * gamma,
        beta=b * gamma,
        gamma=gamma,
        log_N_ref=reference[0],
        log_D_ref=reference[1],
    )
    law = {
        "E": place.E,
        "log_A": log_A,
        "log_B": log_B,
        "alpha": a * gamma,
        "beta": b * gamma,
        "gamma": gamma,
        "c": c,
    }
    for name in LAW_VARIABLES:
        pm.Deterministic(name, law[name] + pt.zeros_like(place.E), dims="cell")


def _observe(
    likelihood: LawLikelihood,
    known: Mapping[str, Any],
    place: Place,
    exponents: tuple[Any, ...],
    effects: Effects,
) -> None:
    """Add the likelihood to the model."""
    import pymc as pm
    import pytensor.tensor as pt

    a, b, gamma, c = (pt.as_tensor(value) for value in exponents)
    share, cell, point = pt.as_tensor(place.share), known["cell_index"], known["point_index"]
    log_params, log_tokens = known["log_params"], known["log_tokens"]
    # Where R is common to all cells it is computed once a size.
    common = all(value.ndim == 0 for value in (share, a, b, c))
    if not common:
        log_params, log_tokens = log_params[point], log_tokens[point]
        share, a, b, c = (value if value.ndim == 0 else value[cell] for value in (share, a, b, c))
    progress = log_progress(log_params, log_tokens, reference=known["reference"], share=share, alpha=a, beta=b, c=c)
    progress = progress + (known["shift"] if common else known["shift"][point])
    zeros = pt.zeros_like(place.E)
    scale = parameter("residual_scale", likelihood.residual_scale, effects, start=WIDE, report=False)
    residual_scale = pm.Deterministic("residual_scale", scale + zeros, dims="cell")
    # What runs of a size share is told from what each scatters by itself by cells that share sizes.
    shared = likelihood.size_effect_scale if number_of_cells(effects) > 1 else Prior.fixed(0.0)
    scale = pt.as_tensor(parameter("size_effect_scale", shared, effects, start=WIDE, report=False))
    size_effect_scale = pm.Deterministic("size_effect_scale", scale)
    law = {
        "progress": progress[point] if common else progress,
        "log_scale": pt.log(place.loss - place.E),
        "E": place.E,
        "gamma": gamma + zeros,
        "residual_scale": residual_scale,
    }
    if likelihood.residuals.is_normal:
        law["effect_scale"] = pt.sqrt(size_effect_scale**2 + known["discrepancy"] ** 2)
        density = run_likelihood(known, law)
    else:
        density = independent_runs(residuals_of(likelihood, effects), known, law)
    pm.Potential("log_likelihood", density)


def residuals_of(likelihood: Any, effects: Any) -> Residuals:
    """Distribution of residuals whose parameters are variables of the model, reported under their names."""
    import pymc as pm
    import pytensor.tensor as pt

    drawn = {}
    for name, prior in likelihood.parameters.items():
        drawn[name] = pt.as_tensor(parameter(name, prior, effects, report=False))
        pm.Deterministic(name, drawn[name])
    residuals: Residuals = likelihood.residuals(**drawn)
    return residuals


def residual_draws(likelihood: Any, posterior: xr.Dataset) -> Residuals:
    """The same with the draws of its parameters, arrays of shape (draw,), from a stacked posterior."""
    drawn = {name: posterior[name].to_numpy() for name in likelihood.parameters}
    residuals: Residuals = likelihood.residuals(**drawn)
    return residuals


class LawStructure(Structure[Spec, LossArrays]):
    """What structures have in common whose cells have laws."""

    variables = (*LAW_VARIABLES, *NOISE_VARIABLES)

    @override
    def arrange(self, spec: Spec, sweep: Sweep) -> LossArrays:
        likelihood = spec.likelihood
        return LossArrays.of(sweep, weight_exponent=likelihood.weight_exponent, discrepancy=likelihood.discrepancy)

    @override
    def describe(self, spec: Spec) -> list[str]:
        likelihood, said = spec.likelihood, []
        if likelihood.discrepancy:
            said.append("Small runs may deviate from the law, together, and more so the smaller they are.")
        if likelihood.extrapolation_discrepancy:
            said.append(
                "Beyond the runs an evaluation may depart from its law: this widens the intervals further out."
            )
        if likelihood.weight_exponent:
            said.append(
                f"A run counts (C / largest C)^{likelihood.weight_exponent:g}: the law is to hold where it is used."
            )
        return [f"The law is {LAW_FORMS[spec.law].words}.", *said]

    @abstractmethod
    def is_anchor(self, posterior: Posterior) -> npt.NDArray[np.bool_]:
        """Which cells decide the progress R of runs, shape (cell,)."""

    @override
    def losses(
        self, posterior: Posterior, at: pd.DataFrame, *, kind: Kind, source: str | None = None, noisy: bool = True
    ) -> Floats:
        if source is not None:
            raise ForecastError(
                f"Model {posterior.spec.name!r} forecasts from all its cells together: leave out the source."
            )
        draws, column = stacked(posterior.draws), posterior.columns(at)
        law = law_draws(draws, column)
        params, tokens = at["params"].to_numpy(), at["tokens"].to_numpy()
        relative_flops = FLOPS_PER_PARAM_TOKEN * params * tokens / max(posterior.max_flops.values())
        spec: LawSpec = posterior.spec  # type: ignore[assignment]
        loss = law.loss(params, tokens, discrepancy_shift(relative_flops, spec.likelihood.discrepancy))
        anchor = self.is_anchor(posterior)[column]
        if kind == "predictive":
            # Anchor losses were fitted with the effect of a size to first order, others exactly.
            off = discrepancy_scale(relative_flops, spec.likelihood.discrepancy)
            moved = law.gamma * self._size_effect(posterior, draws, at, off)
            first_order = loss * np.exp(moved * np.where(anchor, 1 - law.E / np.where(anchor, loss, 1.0), 0.0))
            loss = np.where(anchor, first_order, law.E + (loss - law.E) * np.exp(moved))
        residual_scale = draws["residual_scale"].to_numpy()[:, column]
        log_loss = np.log(np.where(anchor, loss, _above_zero(loss)))
        if noisy:
            log_loss += residual_scale * self._departures(posterior, at, len(loss))
        self._add_differences(posterior, draws, at, log_loss)
        if kind == "predictive" and noisy:
            log_loss += self._residuals(posterior, at, len(loss))
        return np.asarray(np.exp(log_loss))

    @override
    def pointwise(self, posterior: Posterior) -> Pointwise:
        spec: Spec = posterior.spec  # type: ignore[assignment]
        data, draws = self.arrange(spec, posterior.sweep), stacked(posterior.draws)
        cell, point = np.nonzero(data.observed.T)
        density = np.empty((draws.sizes["sample"], len(cell)))
        for part in parts(len(density), of=density.shape[1]):
            density[part] = self.loss_densities(spec, data, draws.isel(sample=part))
        return Pointwise(density, data.weight[point], loss_names(data))

    def loss_densities(self, spec: Spec, data: LossArrays, draws: xr.Dataset) -> Floats:
        """Log density of every loss of the arrays in stacked draws of their cells, shape (draw, loss)."""
        likelihood = spec.likelihood
        return law_densities(
            law_draws(draws, slice(None)),
            data,
            residual_scale=draws["residual_scale"].to_numpy(),
            shift=data.shift,
            effect_scale=np.hypot(draws["size_effect_scale"].to_numpy()[:, None], data.discrepancy),
            residuals=residual_draws(likelihood, draws),
        )

    def _size_effect(self, posterior: Posterior, draws: xr.Dataset, at: pd.DataFrame, off: Floats) -> Floats:
        """Draws of what runs of every point's size deviate in log R, by the fitted losses that decide R."""
        deciding = np.flatnonzero(self.is_anchor(posterior)).tolist()
        data = self.arrange(posterior.spec, posterior.sweep).only(deciding)  # type: ignore[arg-type]
        of_deciding = draws.isel(cell=deciding)
        scale = np.hypot(draws["size_effect_scale"].to_numpy()[:, None], off)
        residual_scale = of_deciding["residual_scale"].to_numpy()
        law = law_draws(of_deciding, slice(None))
        return drawn_effect(posterior.seed, law, data, at, residual_scale=residual_scale, scale=scale)

    def _departures(self, posterior: Posterior, at: pd.DataFrame, n_draws: int) -> Floats:
        """Draws of how far every evaluation has departed from its law at the points, over the cell's residual scale.

        The same draws in every forecast of a posterior: a law departs once. Evaluations depart together as far as
        their residuals correlate: tasks that bend do so alike.
        """
        departed = self.departed(posterior, at)
        if not departed.any():
            return np.zeros((n_draws, len(at)))
        names = sorted(posterior.sweep.table["eval_set"].unique())
        normal = np.random.default_rng([posterior.seed, 1]).standard_normal((n_draws, len(names)))
        normal = self.evaluation_correlation(posterior).correlated(normal, names, [None] * len(names))
        return np.asarray(normal[:, [names.index(name) for name in at["eval_set"]]] * departed)

    @override
    def departed(self, posterior: Posterior, at: pd.DataFrame) -> Floats:
        spec: LawSpec = posterior.spec  # type: ignore[assignment]
        reached = at["eval_set"].map(posterior.sweep.table.groupby("eval_set")["flops"].max()).to_numpy()
        distance = np.log(np.maximum(at["flops"].to_numpy() / reached, 1.0))
        return np.asarray(spec.likelihood.extrapolation_discrepancy * distance)

    def _add_differences(self, posterior: Posterior, draws: xr.Dataset, at: pd.DataFrame, log_loss: Floats) -> None:
        """Have training sets differ on an evaluation as their largest runs do, not as their laws go on."""
        column = np.asarray(posterior.columns(at))
        params, tokens = at["params"].to_numpy(), at["tokens"].to_numpy()
        log_flops = np.log(FLOPS_PER_PARAM_TOKEN * params * tokens)

        def log_law(cell: int, places: npt.NDArray[np.int_]) -> Floats:
            law = law_draws(draws, [cell])
            return np.asarray(np.log(_above_zero(law.loss(params[places], tokens[places]))))

        for found in self._differences(posterior):
            # The same draws in every forecast of a posterior, as of departures.
            rng = np.random.default_rng([posterior.seed, 11, *posterior.cells[found.columns[0]][0].encode()])
            normal = rng.standard_normal((len(log_loss), len(found.mean)))
            places, off = departure(found, log_law=log_law, column=column, log_flops=log_flops, normal=normal)
            log_loss[:, places] += off

    def _differences(self, posterior: Posterior) -> list[Differences]:
        """Differences between training sets on every evaluation; computed once for a posterior."""
        spec: LawSpec = posterior.spec  # type: ignore[assignment]
        given = spec.likelihood.differences
        if given is None:
            return []
        if posterior not in _DIFFERENCES:
            data, anchor = self.arrange(posterior.spec, posterior.sweep), self.is_anchor(posterior)  # type: ignore[arg-type]
            scale = np.sqrt((posterior.draws["residual_scale"] ** 2).mean(["chain", "draw"]).to_numpy())
            _DIFFERENCES[posterior] = differences(
                data,
                groups_of(posterior.cells, anchor),
                log_law=self._log_laws(posterior, data),
                residual_scale=scale,
                given=given,
            )
        return _DIFFERENCES[posterior]

    def _residuals(self, posterior: Posterior, at: pd.DataFrame, n_draws: int) -> Floats:
        """Draws of what runs scatter on their own at the points, shape (draw, point)."""
        column, evaluations = posterior.columns(at), at["eval_set"].tolist()
        of_cell = dict(zip(set(column), self.noise(posterior, list(set(column))), strict=True))

        def together(normal: Floats) -> Floats:
            if len(set(evaluations)) == 1:
                return normal
            runs = list(zip(at["train_set"], size_labels(at), strict=True))
            return self.evaluation_correlation(posterior).correlated(normal, evaluations, runs)

        return scattered(
            posterior.seed, at.index, n_draws, lambda rng, z, i: of_cell[column[i]].draw(rng, z), together=together
        )

    @override
    def evaluation_correlation(self, posterior: Posterior) -> EvaluationCorrelation:
        """Correlation of the fitted runs' residuals between evaluations; computed once for a posterior."""
        if posterior not in _CORRELATIONS:
            _CORRELATIONS[posterior] = self._measured_correlation(posterior)
        return _CORRELATIONS[posterior]

    def _measured_correlation(self, posterior: Posterior) -> EvaluationCorrelation:
        data = self.arrange(posterior.spec, posterior.sweep)  # type: ignore[arg-type]
        residual = np.where(data.observed > 0, data.log_loss - self._log_laws(posterior, data), np.nan)
        return evaluation_correlation(residual, data.cells)

    def _log_laws(self, posterior: Posterior, data: LossArrays) -> Floats:
        """Mean logarithm of every cell's law at the sizes of the runs, with what each size deviates by."""
        draws = stacked(thinned(posterior, _ENOUGH).draws)
        law = law_draws(draws, slice(None))
        deciding = np.flatnonzero(self.is_anchor(posterior)).tolist()
        of_deciding = draws.isel(cell=deciding)
        scales = {name: of_deciding[name].to_numpy() for name in NOISE_VARIABLES}
        effect = expected_effect(law_draws(of_deciding, slice(None)), data.only(deciding), **scales)
        mean = np.zeros_like(data.log_loss)
        for p, (n, d) in enumerate(zip(np.exp(data.log_params), np.exp(data.log_tokens), strict=True)):
            mean[p] = np.log(_above_zero(law.loss(n, d, effect[:, [p]]))).mean(axis=0)
        return mean


def _above_zero(loss: Floats) -> Floats:
    """Losses of curves that far out would reach 0, as those may whose E is below: they level off above it.

    Along a hyperbola, which leaves a loss of 1 nat as it is to six digits.
    """
    return np.asarray((loss + np.hypot(loss, 2 * _LEAST)) / 2)
