"""Joint model: every loss is a shifted power law of one progress R, which depends on (N, D) alone.

R is decided by anchor losses: every training set's train loss. All downstream evaluations (tasks, other validation
sets) are shifted power laws of the R that was found, and do not act back on it: the small runs of a task are nearly
at chance, its noise is common to many tasks, and where its curve is no shifted power law it would otherwise bend R,
and with it the forecasts of losses that are well measured. So there are two modules, of which the second is cut off
from the first (Plummer, 2015, doi:10.1007/s11222-014-9503-z; Jacob et al., 2017, arXiv 1708.08719).

The downstream module is sampled at the mean of R; each draw is then moved to the R that it is joined with, as far as
the posterior mean moves to first order, which is exact where the posterior is normal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass as validated
from typing_extensions import override

from bayes_l2l.laws.family import LAW_FORMS
from bayes_l2l.laws.residuals import Normal, Residuals
from bayes_l2l.laws.scaling import Law, log_reducible
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.posterior.draws import law_draws, stacked
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.spec.likelihood import OfCell, ResidualSpec
from bayes_l2l.spec.model import possible
from bayes_l2l.spec.prior import Prior
from bayes_l2l.spec.reading import only_known, refuse
from bayes_l2l.structures.arrays import LossArrays, anchors
from bayes_l2l.structures.laws import NOISE_VARIABLES, WIDE, LawSpec, LawStructure, Place, build_laws
from bayes_l2l.structures.parameters import coords, effects_of, parameter
from bayes_l2l.structures.pointwise import law_densities
from bayes_l2l.structures.protocol import Cell, Module, Noise, Related
from bayes_l2l.structures.run_likelihood import independent_runs, run_likelihood
from bayes_l2l.structures.size_effect import expected_effect

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]

#: What NUTS reports of every downstream evaluation: the loss at the reference size besides E, gamma and its noise.
DOWNSTREAM_VARIABLES: Final = ("E", "loss_at_reference", "gamma", "residual_scale")
_PRIORS: Final = ("E_fraction", "excess", "share", "alpha_over_gamma", "beta_over_gamma", "gamma")
_DOWNSTREAM_PRIORS: Final = ("E_fraction", "excess", "gamma")


@validated(frozen=True, kw_only=True)
class Downstream:
    """Priors of downstream evaluations, where they are not those of train losses.

    Parameters
    ----------
    E_fraction, excess, gamma : Prior, optional
        As in `bayes_l2l.structures.laws.LawSpec`.
    likelihood : ResidualSpec
        Distribution of residuals, its parameters numbers; by default normal.
    """

    E_fraction: OfCell | None = None
    excess: OfCell | None = None
    gamma: OfCell | None = None
    likelihood: ResidualSpec = Field(default_factory=lambda: ResidualSpec(dist="Normal"))

    @model_validator(mode="before")
    @classmethod
    def _known(cls, record: Any) -> Any:
        return only_known(cls, record)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        possible(self.priors)
        for name, prior in self.likelihood.parameters.items():
            if prior.value is None:
                refuse(f".likelihood.{name} must be a number.")
        return self

    @property
    def priors(self) -> dict[str, Prior]:
        """Those that are given."""
        return {name: prior for name in _DOWNSTREAM_PRIORS if (prior := getattr(self, name)) is not None}

    @property
    def residuals(self) -> Residuals:
        """Distribution of residuals."""
        return self.likelihood.residuals(**{name: prior.value for name, prior in self.likelihood.parameters.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in the file."""
        likelihood = {} if self.likelihood.residuals.is_normal else {"likelihood": self.likelihood.to_dict()}
        return {name: prior.to_dict() for name, prior in self.priors.items()} | likelihood


@validated(frozen=True, kw_only=True)
class JointSpec(LawSpec):
    """A model whose cells read one progress R.

    Parameters
    ----------
    name, title, equation, source, structure, priors, likelihood, law : see `LawSpec`
        As in `LawSpec`; ``alpha_over_gamma`` and ``beta_over_gamma`` have priors instead of ``alpha`` and ``beta``.
    downstream : Downstream
        What is believed of downstream evaluations.
    """

    downstream: Downstream = Field(default_factory=Downstream)

    @override
    @classmethod
    def prior_names(cls, record: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
        law = record.get("law")
        if law != "generalised":
            if law in LAW_FORMS:
                refuse(f".structure = 'joint' needs law = 'generalised', not {law!r}.")
            return None
        return _PRIORS, ("c",), "structure = 'joint'"

    @override
    def quantities(self) -> dict[str, Mapping[str, Prior]]:
        parts = super().quantities()
        return {"law": parts.pop("law"), "downstream": self.downstream.priors, **parts}


class Joint(LawStructure[JointSpec]):
    """Every loss is a shifted power law of one progress R."""

    name = "joint"
    words = "every cell is a shifted power law of one progress R, which depends on (N, D) alone"
    spec = JointSpec

    @override
    def arrange(self, spec: JointSpec, sweep: Sweep) -> LossArrays:
        data = super().arrange(spec, sweep)
        return replace(data, anchors=anchors(data))

    @override
    def modules(self, spec: JointSpec, arrays: LossArrays) -> tuple[Module[LossArrays], ...]:
        first: Module[LossArrays] = Module(
            lambda: build_laws(spec, arrays.only(arrays.anchors), _exponents),
            lambda runs, _: runs.only(runs.anchors).arrays(),
            reported=self.variables,
        )
        if not _downstream(arrays):
            return (first,)
        second = Module(
            lambda: build_downstream(spec, arrays.only(_downstream(arrays))),
            downstream_data,
            reported=DOWNSTREAM_VARIABLES,
            suffix="_downstream",
            # Given R the cells hang together by their priors alone: there is nothing that needs shorter steps.
            target_accept=0.9,
        )
        return first, second

    @override
    def join(
        self,
        spec: JointSpec,
        arrays: LossArrays,
        drawn: Sequence[xr.Dataset],
        given: Sequence[Mapping[str, Any]] | None,
        *,
        size: tuple[int, int],
    ) -> xr.Dataset:
        posterior = drawn[0]
        if len(drawn) > 1:
            downstream = _downstream_draws(drawn[1])
            if given is not None:
                downstream = moved(
                    downstream,
                    arrays.only(_downstream(arrays)),
                    progress=_progress(posterior, arrays),
                    drawn_at=given[1]["progress"],
                    residuals=spec.downstream.residuals,
                )
            posterior = _along_all_cells(posterior, downstream, arrays, size)
        anchor = [i in arrays.anchors for i in range(len(arrays.cells))]
        return posterior.assign_coords(arrays.coordinates).assign_coords(anchor=("cell", anchor))

    @override
    def is_anchor(self, posterior: Posterior) -> npt.NDArray[np.bool_]:
        return np.asarray(posterior.draws["anchor"].to_numpy().astype(bool))

    @override
    def noise(self, posterior: Posterior, cells: Sequence[int]) -> list[Noise]:
        spec: JointSpec = posterior.spec  # type: ignore[assignment]
        anchor = self.is_anchor(posterior)
        return [
            one if anchor[cell] else replace(one, residuals=spec.downstream.residuals)
            for cell, one in zip(cells, super().noise(posterior, cells), strict=True)
        ]

    @override
    def loss_densities(self, spec: JointSpec, data: LossArrays, draws: xr.Dataset) -> Floats:
        # Of a downstream evaluation given R, which its losses do not decide.
        deciding, others = list(data.anchors), _downstream(data)
        anchors = draws.isel(cell=deciding)
        cell = np.nonzero(data.observed.T)[0]
        found = np.empty((draws.sizes["sample"], len(cell)))
        found[:, np.isin(cell, deciding)] = super().loss_densities(spec, data.only(deciding), anchors)
        if others:
            scales = {name: anchors[name].to_numpy() for name in NOISE_VARIABLES}
            law = law_draws(anchors, slice(None))
            found[:, np.isin(cell, others)] = law_densities(
                law_draws(draws, others),
                data.only(others),
                residual_scale=draws["residual_scale"].to_numpy()[:, others],
                shift=expected_effect(law, data.only(deciding), **scales),
                residuals=spec.downstream.residuals,
            )
        return found

    @override
    def related(self, posterior: Posterior, source: Cell, target: Cell) -> Related:
        columns = [posterior.cells.index(cell) for cell in (source, target)]
        draws = stacked(posterior.draws)
        source_law, target_law = (law_draws(draws, column) for column in columns)
        if not source_law.shares_progress_with(target_law):
            return super().related(posterior, source, target)
        of_source, of_target = self.noise(posterior, columns)
        return Related(source_law.relation_to(target_law), source_law, (of_source, of_target))

    @override
    def relations(self, posterior: Posterior, source: Cell) -> list[tuple[Cell, Cell]] | None:
        is_train_loss = source[0] == source[1]

        def like_source(cell: Cell) -> bool:
            return cell[0] == cell[1] if is_train_loss else cell[0] == source[0]

        shown = [cell for cell in posterior.cells if cell[1] == source[1] or like_source(cell)]
        return [(source, cell) for cell in shown if cell != source]

    @override
    def anchors(self, posterior: Posterior, train_set: str) -> list[str]:
        decides = zip(posterior.cells, self.is_anchor(posterior), strict=True)
        return [evaluation for (evaluation, train), anchor in decides if anchor and train == train_set]

    @override
    def describe(self, spec: JointSpec) -> list[str]:
        said = []
        if spec.downstream.priors:
            said.append(
                "A training set's train loss determines the progress R of a run; downstream evaluations are "
                "functions of it, and have no influence on it."
            )
        return said + super().describe(spec)


def _exponents(value: Callable[..., Any], place: Place) -> tuple[Any, Any, Any]:
    """Exponents of R, and of the loss of every cell in it."""
    import pytensor.tensor as pt

    # As of separate laws, what the data know is sampled: slopes of log loss in log N, log D and log R.
    a = value("alpha_over_gamma")
    slope = pt.log(a) + pt.log(place.share)
    b = value("beta_over_gamma", pt.log1p(-place.share) - slope)
    return a, b, value("gamma", place.log_slope + slope)


def _downstream(arrays: LossArrays) -> list[int]:
    """Columns of the downstream evaluations."""
    return [i for i in range(len(arrays.cells)) if i not in arrays.anchors]


def progress(law: Law, data: LossArrays, effect: Floats) -> Floats:
    """Draws of log R at every point, less that at the reference size.

    Parameters
    ----------
    law : Law
        Of any anchor, arrays of shape (draw,).
    data : LossArrays
        For the sizes of the points and the reference.
    effect : ndarray, shape (draw, point)
        What the runs of each size deviate in log R.

    Returns
    -------
    ndarray, shape (draw, point)
    """
    shape = {name: getattr(law, name)[:, None] for name in ("log_A", "log_B", "alpha", "beta", "gamma", "c")}
    at_points = log_reducible(data.log_params, data.log_tokens, **shape)
    at_reference = log_reducible(*data.reference, **shape)
    return np.asarray((at_points - at_reference) / shape["gamma"] + effect)


def build_downstream(spec: JointSpec, data: LossArrays) -> pm.Model:
    """Model of the downstream evaluations.

    Parameters
    ----------
    spec : JointSpec
        For the priors of E, excess and gamma, and of the residual scale.
    data : LossArrays
        Of these cells. The model's data ``progress``, shape (point,), is set before sampling.

    Returns
    -------
    pymc.Model
        With `DOWNSTREAM_VARIABLES` along ``cell``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    effects = effects_of(data.cells)
    with pm.Model(coords=coords("cell", data.labels, effects)) as model:
        known = {name: pm.Data(name, value) for name, value in _data(data, np.zeros(len(data.log_params))).items()}
        priors = {**spec.priors, **spec.downstream.priors}
        E = parameter("E_fraction", priors["E_fraction"], effects, odds=True) * known["smallest"]
        loss = known["smallest"] * (1 + parameter("excess", priors["excess"], effects))
        # As of the anchors: the data know the slope of log loss in log R, gamma (L - E)/L, not gamma itself.
        shift = pt.log1p(-E / loss)
        gamma = parameter("gamma", priors["gamma"], effects, shift=shift, report=False)
        residual_scale = parameter(
            "residual_scale", spec.likelihood.residual_scale, effects, start=WIDE, report=False
        )
        zeros = pt.zeros_like(E)
        reported = [
            pm.Deterministic(name, value + zeros, dims="cell")
            for name, value in zip(DOWNSTREAM_VARIABLES, (E, loss, gamma, residual_scale), strict=True)
        ]
        E, loss, gamma, residual_scale = reported
        law = {
            "progress": known["progress"][known["point_index"]],
            "log_scale": pt.log(loss - E),
            "E": E,
            "gamma": gamma,
            "residual_scale": residual_scale,
        }
        residuals = spec.downstream.residuals
        if residuals.is_normal:
            law["effect_scale"] = pt.zeros(known["weight"].shape)
            density = run_likelihood(known, law)
        else:
            density = independent_runs(residuals, known, law)
        pm.Potential("log_likelihood", density)
    return model


def _data(data: LossArrays, progress: Floats) -> dict[str, Any]:
    """What the model of the downstream evaluations holds as `pm.Data`, by name."""
    names = ("log_loss", "noise", "weight", "point_index", "cell_index", "smallest")
    return {name: array for name, array in data.arrays().items() if name in names} | {"progress": progress}


def downstream_data(arrays: LossArrays, drawn: Sequence[xr.Dataset]) -> dict[str, Any]:
    """The same at the mean progress of the draws of the first module."""
    return _data(arrays.only(_downstream(arrays)), _progress(drawn[0], arrays).mean(axis=0))


def _progress(posterior: xr.Dataset, arrays: LossArrays) -> Floats:
    """Draws of log R at every point, from the draws of the anchors (in their order)."""
    data, draws = arrays.only(arrays.anchors), stacked(posterior)
    scales = {name: draws[name].to_numpy() for name in NOISE_VARIABLES}
    effect = expected_effect(law_draws(draws, slice(None)), data, **scales)
    return progress(law_draws(draws, 0), data, effect)


def _downstream_draws(posterior: xr.Dataset) -> dict[str, Floats]:
    """Draws of the second module, arrays of shape (draw, cell)."""
    draws = stacked(posterior)
    return {name: draws[name].to_numpy() for name in DOWNSTREAM_VARIABLES}


def _along_all_cells(
    posterior: xr.Dataset, downstream: dict[str, Floats], arrays: LossArrays, size: tuple[int, int]
) -> xr.Dataset:
    """Draws of both modules along all cells."""
    first = stacked(posterior)
    law = laws(law_draws(first, 0), downstream, arrays.reference)
    order = np.argsort([*arrays.anchors, *_downstream(arrays)])
    along = {}
    for name, values in (vars(law) | {"residual_scale": downstream["residual_scale"]}).items():
        both = np.concatenate([first[name].to_numpy(), values], axis=1)[:, order]
        along[name] = (("chain", "draw", "cell"), both.reshape(*size, len(order)))
    of_cells = [str(name) for name, values in posterior.items() if "cell" in values.dims]
    return posterior.drop_vars([*of_cells, "cell"]).assign(along)


def moved(
    downstream: dict[str, Floats],
    data: LossArrays,
    *,
    progress: Floats,
    drawn_at: Floats,
    residuals: Residuals = Normal(),  # noqa: B008 - immutable
) -> dict[str, Floats]:
    """Downstream evaluations drawn at one R, each moved to the R of the draw that it is joined with.

    To first order the posterior mean moves by the posterior covariance of the parameters and the score, the
    derivative of the log-likelihood by R (Giordano, Broderick and Jordan, 2018, arXiv 1709.02536).

    Parameters
    ----------
    downstream : dict of ndarray, shape (draw, cell)
        `DOWNSTREAM_VARIABLES`.
    data : LossArrays
        Of these cells.
    progress : ndarray, shape (draw, point)
        From `progress`.
    drawn_at : ndarray, shape (point,)
        The progress that they were drawn at.
    residuals : Residuals
        Distribution of what runs scatter.

    Returns
    -------
    dict of ndarray, shape (draw, cell)
        E, loss_at_reference and gamma, each within its bounds; the residual scale as it was.
    """
    change = progress - drawn_at
    result = {name: values.copy() for name, values in downstream.items()}
    for j, smallest in enumerate(data.smallest):
        seen = data.observed[:, j] > 0
        E, loss, gamma, residual_scale = (downstream[name][:, [j]] for name in DOWNSTREAM_VARIABLES)
        # E may be below 0: the asymptote of a curve, not an entropy.
        free = np.concatenate([-np.log1p(-E / smallest), np.log(loss / smallest - 1), np.log(gamma)], axis=1)
        curve = E + (loss - E) * np.exp(gamma * drawn_at[seen])
        residual = data.log_loss[seen, j] - np.log(curve)
        pull = residuals.pull(residual, residual_scale**2 + data.noise[seen, j] ** 2)
        score = data.weight[seen] * pull * gamma * (1 - E / curve)
        covariance = (free - free.mean(axis=0)).T @ (score - score.mean(axis=0)) / len(free)
        below, log_excess, log_gamma = (free + change[:, seen] @ covariance.T).T
        result["E"][:, j] = -smallest * np.expm1(-below)
        result["loss_at_reference"][:, j] = smallest * (1 + np.exp(log_excess))
        result["gamma"][:, j] = np.exp(log_gamma)
    return result


def laws(anchor: Law, downstream: dict[str, Floats], reference: Sequence[float] | Floats) -> Law:
    """Laws of the downstream evaluations: the law of an anchor, translated.

    Parameters
    ----------
    anchor : Law
        Of any anchor, arrays of shape (draw,).
    downstream : dict of ndarray, shape (draw, cell)
        E, loss_at_reference and gamma.
    reference : sequence of float, shape (2,)
        Logarithms of N and D at the reference size.

    Returns
    -------
    Law
        Arrays of shape (draw, cell), of one R with `anchor`.
    """
    source = Law(**{name: value[:, None] for name, value in vars(anchor).items()})
    at_reference: Any = np.log(source.loss(*np.exp(reference)) - source.E)
    kappa = downstream["gamma"] / source.gamma
    K = np.exp(np.log(downstream["loss_at_reference"] - downstream["E"]) - kappa * at_reference)
    law = source.translate(ShiftedPowerLaw(K=K, kappa=kappa, E0=source.E, E1=downstream["E"]))
    return Law(**{name: np.broadcast_to(value, kappa.shape) for name, value in vars(law).items()})
