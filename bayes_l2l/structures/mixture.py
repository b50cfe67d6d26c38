"""Mixtures: training sets of known weights of domains, whose losses follow one mixing law for each evaluation.

Every size has a level, the loss of a reference mixture, and levels follow a law of (N, D) up to an effect of the
size. What mixtures change of it is a mixing law (`bayes_l2l.laws.mixing`) whose coefficients drift with log compute.
A mixture departs from the law in what it is worth, at all sizes alike: its loss at one size tells of those at others.
Departures are integrated out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import AfterValidator, model_validator
from pydantic.dataclasses import dataclass as validated
from typing_extensions import override

from bayes_l2l.errors import ForecastError
from bayes_l2l.laws.mixing import below_both
from bayes_l2l.laws.residuals import Normal, StudentT
from bayes_l2l.laws.scaling import log_progress
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.spec.likelihood import Likelihood
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.spec.prior import Prior, Quantity
from bayes_l2l.spec.reading import refuse
from bayes_l2l.structures.evaluation_correlation import EvaluationCorrelation
from bayes_l2l.structures.mixture_arrays import MixtureArrays
from bayes_l2l.structures.mixture_draws import mixture_draws
from bayes_l2l.structures.parameters import parameter
from bayes_l2l.structures.protocol import Floats, Kind, Module, Noise, Structure

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep

#: Of the level, of the mixing law, and of how its coefficients change with a hundredfold compute.
_LEVEL: Final = ("E_fraction", "excess", "gamma", "share", "alpha_over_gamma", "beta_over_gamma")
_MIXING: Final = ("floor", "worth", "power", "strength", "tilt")
_CHANGES: Final = ("worth_change", "strength_change", "tilt_change", "scale_change")
_NOISE: Final = ("residual_scale", "departure_scale", "weight_error", "size_effect_scale")
_OF_DOMAINS: Final = ("worth", "tilt", "worth_change", "tilt_change")
#: Domains and evaluations trade off along many directions, which the sampler is told.
_DIRECTIONS: Final = 1000
#: What is reported besides these, and in place of the first two.
_LAW: Final = ("E", "K", "reference_loss")


def _along(prior: Prior) -> Prior:
    if prior.dims not in ((), ("eval_set",), ("domain",), ("eval_set", "domain")):
        refuse(f".dims may be eval_set, domain, both or nothing; it is {', '.join(prior.dims)}.")
    return prior


#: A quantity that may vary along evaluations and domains.
OfMixture = Annotated[Quantity, AfterValidator(_along)]


@validated(frozen=True, kw_only=True)
class MixtureLikelihood(Likelihood):
    """Of losses about the mixing law.

    Parameters
    ----------
    dist, parameters : see `Likelihood`
        Of what the losses of a mixture on one evaluation deviate by, at all sizes: Normal, or StudentT.
    residual_scale : Prior
        Of a run on its own, in the log of the loss above its floor, at the reference size.
    departure_scale : Prior
        Of what a mixture departs by from the law in the log of what it is worth, at all sizes alike.
    weight_error : Prior
        Further departure, over what the mixture is worth: weights are rounded, and few data of a kind tell much.
    size_effect_scale : Prior
        Of the log loss of the reference mixture at a size about the law of (N, D).
    """

    residual_scale: OfMixture
    departure_scale: OfMixture
    weight_error: OfMixture
    size_effect_scale: OfMixture

    @model_validator(mode="after")
    def _integrable(self) -> Self:
        if self.residuals not in (Normal, StudentT):
            refuse(f".dist = {self.dist!r} cannot be that of mixtures: Normal and StudentT can.")
        return self


@validated(frozen=True, kw_only=True)
class MixtureSpec(ModelSpec):
    """A model of mixtures of domains.

    Parameters
    ----------
    name, title, equation, source, structure : see `ModelSpec`
        As in `ModelSpec`.
    priors : mapping of str to Prior
        Of the loss of the reference mixture: ``E_fraction``, ``excess``, ``gamma``, ``share``, ``alpha_over_gamma``,
        ``beta_over_gamma``, as in the joint model. Of the mixing law: ``floor`` (part of the smallest loss of a size
        that no mixture takes away), ``worth``, ``power``, ``strength``, ``tilt``, and ``worth_change``,
        ``strength_change``, ``tilt_change``, ``scale_change``: how the logarithms of worth and strength, the tilt,
        and the logarithm of the residual scale change with a hundredfold compute. A number in place of a prior holds
        a quantity there.
    likelihood : MixtureLikelihood
        How mixtures and runs deviate from it.
    """

    priors: Mapping[str, OfMixture]
    likelihood: MixtureLikelihood

    @override
    @classmethod
    def prior_names(cls, record: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
        return (*_LEVEL, *_MIXING, *_CHANGES), (), "structure = 'mixture'"


def build_mixture(spec: MixtureSpec, data: MixtureArrays) -> pm.Model:
    """Build the model of one evaluation.

    Parameters
    ----------
    spec : MixtureSpec
        What is believed.
    data : MixtureArrays
        What is known.

    Returns
    -------
    pymc.Model
        With ``E``, ``K``, ``gamma`` and the coefficients of the mixing law along ``eval_set`` (and ``domain``),
        ``reference_loss`` along ``eval_set`` and ``size``, and the scales. The likelihood is the potential
        ``log_likelihood``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    shape = len(data.evaluations), len(data.domains)
    effects = {name: (names, list(range(len(names)))) for name, names in _names(data).items()}
    with pm.Model(coords={**_names(data), "size": data.sizes}) as model:
        known = {name: pm.Data(name, value) for name, value in data.arrays().items()}

        def value(name: str, prior: Prior) -> Any:
            along = shape if name in _OF_DOMAINS else shape[:1]
            drawn = pt.as_tensor(parameter(name, prior, effects, report=False))
            if prior.dims == ("eval_set",) and len(along) == 2:
                drawn = drawn[:, None]
            drawn = drawn + pt.zeros(along)
            if name in ("E_fraction", "excess"):
                return drawn
            return pm.Deterministic(name, drawn, dims=("eval_set", "domain")[: len(along)])

        of = {name: value(name, prior) for name, prior in spec.priors.items()}
        of |= {name: value(name, getattr(spec.likelihood, name)) for name in _NOISE}
        of["log_reference"] = _log_reference(known, of, data.reference_size)
        pm.Deterministic("reference_loss", pt.exp(of["log_reference"]), dims=("eval_set", "size"))
        nu = None
        for name, prior in spec.likelihood.parameters.items():
            nu = value(name, prior)
        pm.Potential("log_likelihood", _log_likelihood(known, of, data, nu))
    return model


def _names(data: MixtureArrays) -> dict[str, list[str]]:
    return {"eval_set": data.evaluations, "domain": data.domains}


def _log_reference(known: Mapping[str, Any], of: Mapping[str, Any], reference: tuple[float, float]) -> Any:
    """Log loss of the reference mixture at every size, shape (evaluation, size): random about a law of (N, D)."""
    import pymc as pm
    import pytensor.tensor as pt

    least = known["least"]
    E = pm.Deterministic("E", of["E_fraction"] * least, dims="eval_set")
    K = pm.Deterministic("K", least * (1 + of["excess"]) - E, dims="eval_set")
    log_R = log_progress(
        known["log_params"],
        known["log_tokens"],
        reference=reference,
        share=of["share"][:, None],
        alpha=of["alpha_over_gamma"][:, None],
        beta=of["beta_over_gamma"][:, None],
    )
    law = pt.log(E[:, None] + K[:, None] * pt.exp(of["gamma"][:, None] * log_R))
    # Centred: the runs of a size know its level well.
    return pm.Normal("log_reference_drawn", law, of["size_effect_scale"], dims=("eval_set", "size"))


def _log_likelihood(known: Mapping[str, Any], of: Mapping[str, Any], data: MixtureArrays, nu: Any) -> Any:
    """Log density of all losses; departures of mixtures are integrated out (a rank-one covariance)."""
    import pytensor.tensor as pt

    raised = known["some"] * pt.exp(of["power"][0] * known["log_weights"])
    at_reference = pt.exp(of["power"][0] * known["log_reference_weights"])
    own = of["weight_error"][:, None] / (1 + pt.dot(of["worth"], raised))
    departure = of["departure_scale"][:, None] ** 2 + own**2
    floors = of["floor"][:, None] * pt.exp(below_both(pt.log(known["smallest"]), of["log_reference"]))
    sizes = [_at_size(of, known, at_reference, floors[:, s], s) for s in range(len(data.sizes))]
    density: Any = 0.0
    for blocks in data.groups:
        mixtures = blocks[0].mixtures
        quadratic, log_variance, pull, weight = 0.0, 0.0, 0.0, 0.0
        for block in blocks:
            size, observed = sizes[block.size], known["observed"][:, block.runs]
            above = known["loss"][:, block.runs] - size["floor"][:, None]
            amount = pt.log1p(pt.dot(size["worth"], raised[:, mixtures]))
            moved = pt.dot(size["tilt"], known["centred"][:, mixtures]) - size["strength"][:, None] * amount
            residual = pt.log(above) - size["level"][:, None] - moved
            variance = size["scale"][:, None] ** 2 + (known["noise"][:, block.runs] / above) ** 2
            precision = observed / variance
            density = density - (observed * pt.log(above)).sum()
            pulled = size["strength"][:, None] * precision
            quadratic = quadratic + residual**2 * precision
            log_variance = log_variance + observed * pt.log(variance)
            pull = pull + residual * pulled
            weight = weight + size["strength"][:, None] * pulled
        of_group = departure[:, mixtures]
        gain = 1 + of_group * weight
        quadratic = quadratic - pull**2 * of_group / gain
        density = density - 0.5 * (log_variance + pt.log(gain)).sum()
        if nu is None:
            density = density - 0.5 * quadratic.sum()
        else:
            counts = known["counts"][:, mixtures]
            constants = pt.gammaln((nu + counts) / 2) - pt.gammaln(nu / 2) - counts / 2 * pt.log(nu)
            density = density + (constants - (nu + counts) / 2 * pt.log1p(quadratic / nu)).sum()
    return density


def _at_size(
    of: Mapping[str, Any], known: Mapping[str, Any], at_reference: Any, floor: Any, s: int
) -> dict[str, Any]:
    """Coefficients of the mixing law at a size, and the level of what is above the floor, with the reference's."""
    import pytensor.tensor as pt

    fold = known["folds"][s]
    worth = of["worth"] * pt.exp(fold * of["worth_change"])
    strength = of["strength"] * pt.exp(fold * of["strength_change"])
    of_reference = pt.log1p((worth * at_reference[None, :]).sum(axis=1))
    return {
        "floor": floor,
        "worth": worth,
        "strength": strength,
        "tilt": of["tilt"] + fold * of["tilt_change"],
        "scale": of["residual_scale"] * pt.exp(fold * of["scale_change"]),
        "level": pt.log(pt.exp(of["log_reference"][:, s]) - floor) + strength * of_reference,
    }


class Mixture(Structure[MixtureSpec, MixtureArrays]):
    """Training sets are mixtures of domains."""

    name = "mixture"
    words = "training sets are mixtures of domains, whose weights decide their losses by one law for each evaluation"
    spec = MixtureSpec
    has_laws = False
    of_mixtures = True
    variables = (*_LAW, *_LEVEL[2:], *_MIXING, *_CHANGES, *_NOISE)

    @override
    def arrange(self, spec: MixtureSpec, sweep: Sweep) -> MixtureArrays:
        return MixtureArrays.of(sweep)

    @override
    def modules(self, spec: MixtureSpec, arrays: MixtureArrays) -> tuple[Module[MixtureArrays], ...]:
        # Evaluations share nothing but what is believed of them: each is sampled by itself, which is quick.
        reported = (*self.variables, *spec.likelihood.parameters)

        def module(e: int) -> Module[MixtureArrays]:
            return Module(
                partial(build_mixture, spec, arrays.only(e)),
                lambda runs, _: runs.only(e).arrays(),
                reported=reported,
                suffix=f"_{e}" if e else "",
                target_accept=0.9,
                directions=_DIRECTIONS,
                again=False,
            )

        return tuple(module(e) for e in range(len(arrays.evaluations)))

    @override
    def join(
        self,
        spec: MixtureSpec,
        arrays: MixtureArrays,
        drawn: Sequence[xr.Dataset],
        given: Sequence[Mapping[str, Any]] | None,
        *,
        size: tuple[int, int],
    ) -> xr.Dataset:
        import xarray as xr

        # Along cells, which are what can be forecast, nothing is drawn.
        found = xr.concat(drawn, dim="eval_set").transpose("chain", "draw", "eval_set", ...)
        return found.rename(eval_set="evaluation").assign_coords(arrays.coordinates)

    @override
    def losses(
        self, posterior: Posterior, at: pd.DataFrame, *, kind: Kind, source: str | None = None, noisy: bool = True
    ) -> Floats:
        if source is not None:
            raise ForecastError(
                f"Model {posterior.spec.name!r} forecasts from all mixtures together: leave out the source."
            )
        return mixture_draws(posterior).losses(at, predictive=kind == "predictive", noisy=noisy)

    @override
    def evaluation_correlation(self, posterior: Posterior) -> EvaluationCorrelation:
        return mixture_draws(posterior).correlation

    @override
    def noise(self, posterior: Posterior, cells: Sequence[int]) -> list[Noise]:
        # Of the log of the loss above its floor, of which a loss has a part.
        scale = posterior.draws["residual_scale"].to_numpy()
        scale = scale.reshape(-1, scale.shape[-1]).T
        place = {str(name): i for i, name in enumerate(posterior.draws["evaluation"].values)}
        names = posterior.draws["eval_set"].values
        return [Noise(scale[place[str(names[cell])]]) for cell in cells]

    @override
    def describe(self, spec: MixtureSpec) -> list[str]:
        return ["A mixture that was never trained is forecast from its weights, with what mixtures depart by."]
