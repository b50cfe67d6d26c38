"""Relations without laws: losses that belong together, where neither N nor D is known.

Every cell is a shifted power law of one of them, its anchor: L = E + K (L_a - E_a)^kappa, at the end of a run. So all
relations are derived from few, compose and invert. A run deviates from them as a whole, its checkpoints lie along a
slope of their own, and each scatters besides; the anchor's loss deviates and scatters, too (errors in both).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, model_validator
from pydantic.dataclasses import dataclass as validated
from typing_extensions import override

from bayes_l2l.errors import ForecastError
from bayes_l2l.laws.residuals import Normal, StudentT
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import stacked
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.spec.likelihood import Likelihood
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.spec.prior import Prior
from bayes_l2l.spec.reading import number, refuse
from bayes_l2l.structures.error_rate import OfName
from bayes_l2l.structures.laws import residual_draws
from bayes_l2l.structures.parameters import Effects, coords, effects_of, parameter
from bayes_l2l.structures.pointwise import Pointwise
from bayes_l2l.structures.protocol import Cell, Kind, Module, Noise, Related, Structure
from bayes_l2l.structures.relation_arrays import RelationArrays

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]

_PRIORS: Final = ("E_fraction", "level", "slope", "bend", "slope_within")
#: Scales of what runs and checkpoints deviate, in log loss (the slope's is of log loss per log loss).
NOISE_VARIABLES: Final = ("residual_scale", "run_effect_scale", "run_slope_scale")
_OF_CELL: Final = ("E", "K", "kappa", "slope_within", *NOISE_VARIABLES)
_WIDE: Final = 0.02
#: Largest part of its smallest loss that an anchor's entropy may be: were it all, the run with that loss would lie
#: on every relation exactly, and runs beyond could go no lower.
_MOST: Final = 0.95
#: Least part of the anchor's loss that a draw leaves above its entropy.
_LEAST: Final = 1e-6
#: Variance of the log loss of a checkpoint that is never gone below, so that densities are finite where it is 0.
_FLOOR: Final = 1e-12


@validated(frozen=True, kw_only=True)
class RunLikelihood(Likelihood):
    """Of losses about their relation to the anchor's.

    Parameters
    ----------
    dist, parameters : see `Likelihood`
        Of what a run deviates by as a whole: Normal, or StudentT (outlying runs).
    residual_scale : Prior
        Of the log loss of a checkpoint on its own.
    run_effect_scale : Prior
        Of the log losses of a run, all its checkpoints together.
    run_slope_scale : Prior
        Of the slope of a run's log loss in the anchor's, along its checkpoints.
    weight_exponent : float
        A run's log-likelihood has the weight (lowest loss of the anchor / its loss at the run's end)^weight_exponent:
        the relation is asked to hold where it will be used. 0 gives every run the same weight.
    extrapolation_discrepancy : float
        How far a cell may depart from its relation below the lowest fitted loss of the anchor: standard deviation of
        log loss, over that of a run, for every nat of log loss beyond.
    """

    residual_scale: OfName
    run_effect_scale: OfName
    run_slope_scale: OfName
    weight_exponent: Annotated[float, BeforeValidator(number(0, 100, "a number from 0 to 100"))] = 0.0
    extrapolation_discrepancy: Annotated[float, BeforeValidator(number(0, 100, "a number from 0 to 100"))] = 0.0

    @model_validator(mode="after")
    def _integrable(self) -> Self:
        if self.residuals not in (Normal, StudentT):
            refuse(f".dist = {self.dist!r} cannot be that of runs: Normal and StudentT can.")
        return self


@validated(frozen=True, kw_only=True)
class RelationsSpec(ModelSpec):
    """A model of the relations between losses that belong together.

    Parameters
    ----------
    name, title, equation, source, structure : see `ModelSpec`
        As in `ModelSpec`.
    priors : mapping of str to Prior
        ``E_fraction`` (E of an anchor over its smallest loss), ``level`` (log loss over the geometric mean, amid the
        runs), ``slope`` (of log loss in the anchor's, there), ``bend`` (log of E over what is reducible there, over
        what leaves the relation straight in the logarithms of both losses), and ``slope_within``: what
        the slope along the checkpoints of a run differs by from that of the ends of runs. A prior varies along cell,
        eval_set, train_set, or not at all.
    likelihood : RunLikelihood
        How runs and checkpoints scatter about the relation.
    checkpoints : int
        Most checkpoints of a run that are used, evenly to its last: they are not independent. More are where runs are
        too few.
    """

    priors: Mapping[str, OfName]
    likelihood: RunLikelihood
    checkpoints: Annotated[float, BeforeValidator(number(1, 1000, "a number from 1 to 1000"))] = 12

    @override
    @classmethod
    def prior_names(cls, record: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
        return _PRIORS, (), "structure = 'relations_only'"


def _arrays(spec: RelationsSpec, sweep: Sweep) -> RelationArrays:
    exponent = spec.likelihood.weight_exponent
    return RelationArrays.of(sweep, checkpoints=int(spec.checkpoints), weight_exponent=exponent)


def build_relations(spec: RelationsSpec, data: RelationArrays) -> pm.Model:
    """Build the model.

    Parameters
    ----------
    spec : RelationsSpec
        What is believed.
    data : RelationArrays
        What is known.

    Returns
    -------
    pymc.Model
        With ``E``, ``K``, ``kappa``, ``slope_within`` and `NOISE_VARIABLES` along ``cell``; K and kappa are those of
        the relation to the anchor. The likelihood is the potential ``log_likelihood``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    effects = effects_of(data.cells)
    with pm.Model(coords=coords("cell", data.labels, effects)) as model:
        known = {name: pm.Data(name, value) for name, value in data.arrays().items()}
        is_anchor = known["is_anchor"]

        def value(name: str, prior: Prior, **options: Any) -> Any:
            return _of_cells(name, prior, effects, len(data.cells), **options)

        E0 = (_MOST * known["smallest"] * value("E_fraction", spec.priors["E_fraction"]))[known["anchor_index"]]
        level, bend, turned = (
            (1 - is_anchor) * value(name, spec.priors[name]) for name in ("level", "bend", "slope_within")
        )
        # What runs know is where a cell is amid them, its slope there, and how that changes: not at all, in the
        # logarithms of both losses, where E over what is reducible is that of the anchor over the slope.
        x, y = known["anchor_reference"], known["reference"] * pt.exp(level)
        slope = is_anchor + (1 - is_anchor) * value("slope", spec.priors["slope"])
        of_anchor = E0 / (x - E0)
        ratio = of_anchor / slope * pt.exp(bend)
        E, height = y * ratio / (1 + ratio), y / (1 + ratio)
        kappa = slope * (1 + ratio) / (1 + of_anchor)
        found = {"E": E, "K": height * (x - E0) ** -kappa, "kappa": kappa, "slope_within": turned}
        # What a checkpoint scatters by itself is told from what its run deviates by where runs have several.
        several = data.log_loss.shape[1] > 1
        for name in NOISE_VARIABLES:
            alone = name == "residual_scale" and not several
            prior = Prior.fixed(0.0) if alone else getattr(spec.likelihood, name)
            found[name] = value(name, prior, start=_WIDE)
        nu = None
        for name, prior in spec.likelihood.parameters.items():
            nu = parameter(name, prior, effects, report=False)
            pm.Deterministic(name, pt.as_tensor(nu))
        for name, drawn in found.items():
            pm.Deterministic(name, drawn, dims="cell")
        densities = _densities_of_runs(known, found | {"height": height}, data.log_loss.shape, nu)
        pm.Potential("log_likelihood", (known["weight"] * densities).sum())
    return model


def _of_cells(name: str, prior: Prior, effects: Effects, n_cells: int, *, start: float | None = None) -> Any:
    """Value of every cell of a prior that varies along cells, one of their names, or not at all."""
    import pytensor.tensor as pt

    dim = prior.dims[0] if prior.dims else ""
    if dim == "cell":
        return parameter(name, prior, effects, start=start, report=False)
    drawn = parameter(f"{name}_of_{dim or 'all'}", prior, effects)
    return drawn[effects[dim][1]] if dim else drawn * pt.ones(n_cells)


def _densities_of_runs(known: Mapping[str, Any], of_cell: Mapping[str, Any], shape: Sequence[int], nu: Any) -> Any:
    """Log density of every run: of its middle, of its slopes, and of its checkpoints about both.

    The anchor's true log loss is unknown, and every one as probable as another: integrated out to first order, its
    error moves all losses of a checkpoint, or run, by their slopes in it, together (a rank-one covariance). Middles
    are multivariate t where runs are outlying: then all losses of a run are.

    Arrays along checkpoints have two axes, checkpoints and slots run by run: what evaluates the graph knows no more.
    """
    import pytensor.tensor as pt

    index, run_cell = known["slot_index"], known["run_index"]

    def of_slot(name: str) -> Any:
        return of_cell[name][index]

    def over_slots(values: Any) -> Any:
        return values.reshape((shape[0], shape[2])).sum(axis=1)

    E, E0 = of_slot("E"), of_cell["E"][known["slot_anchor"]]
    x, observed = known["anchor_loss"], known["observed"]
    level = pt.log(of_slot("height")) - of_slot("kappa") * pt.log(known["slot_reference"] - E0)
    reducible = pt.exp(level + of_slot("kappa") * pt.log(x - E0))
    loss = E + reducible
    residual = observed * (known["log_loss"] - pt.log(loss) - of_slot("slope_within") * known["progress"])

    count, measured = known["count"], known["measured"]
    middle, turn = residual.sum(axis=0) / count, (residual * known["centred"]).sum(axis=0) / known["spread"]
    steep = of_slot("kappa") * (observed * reducible / loss * x / (x - E0)).sum(axis=0) / count
    rest = residual - observed * middle - turn * known["centred"]

    # Checkpoints about the line of their run.
    own = of_slot("residual_scale") ** 2 + known["noise"] + _FLOOR
    anchor = of_cell["residual_scale"][run_cell] ** 2 + known["anchor_noise"]
    weighted = measured * steep / own
    gain = 1 + anchor * over_slots(steep * weighted)
    along = (rest * weighted).reshape((shape[1] * shape[0], shape[2])).sum(axis=1).reshape((shape[1], shape[0]))
    quadratic = over_slots((rest**2).sum(axis=0) / own) - (along**2).sum(axis=0) * anchor / gain
    log_det = over_slots(known["free"] * pt.log(own)) + known["anchor_free"] * pt.log(gain)
    density = -0.5 * (quadratic + log_det)

    # Lines about the slope that all runs share.
    of_anchor = of_cell["residual_scale"][known["slot_anchor"]] ** 2
    spread = of_slot("run_slope_scale") ** 2 + (own + steep**2 * of_anchor) / known["spread"]
    density = density - 0.5 * over_slots(known["sloped"] * (turn**2 / spread + pt.log(spread)))

    # Middles of runs about the relation.
    variance = of_slot("run_effect_scale") ** 2 + own / count
    of_run = of_cell["run_effect_scale"][run_cell] ** 2 + anchor / known["anchor_count"]
    weighted = measured / variance
    gain = 1 + of_run * over_slots(steep**2 * weighted)
    quadratic = over_slots(middle**2 * weighted) - of_run * over_slots(steep * middle * weighted) ** 2 / gain
    log_det = over_slots(measured * pt.log(variance)) + pt.log(gain)
    if nu is None:
        return density - 0.5 * (quadratic + log_det)
    n = known["measurements"]
    constant = pt.gammaln((nu + n) / 2) - pt.gammaln(nu / 2) - n / 2 * pt.log(nu)
    outlying = (nu + n) / 2 * pt.log1p(quadratic / nu)
    return density + constant - 0.5 * log_det - outlying


class RelationsOnly(Structure[RelationsSpec, RelationArrays]):
    """Cells are shifted power laws of their anchors."""

    name = "relations_only"
    words = (
        "losses of one run are shifted power laws of each other; the relations resemble each other by their priors"
    )
    spec = RelationsSpec
    has_laws = False
    needs_sizes = False
    variables = _OF_CELL

    @override
    def arrange(self, spec: RelationsSpec, sweep: Sweep) -> RelationArrays:
        return _arrays(spec, sweep)

    @override
    def modules(self, spec: RelationsSpec, arrays: RelationArrays) -> tuple[Module[RelationArrays], ...]:
        build = partial(build_relations, spec, arrays)
        reported = (*_OF_CELL, *spec.likelihood.parameters)
        return (Module(build, lambda runs, _: runs.arrays(), reported=reported, target_accept=0.9),)

    @override
    def diagnosed(self, posterior: xr.Dataset) -> xr.Dataset:
        # What an anchor is to itself is known.
        labels = [
            f"{e}@{t}" for e, t in zip(posterior["eval_set"].values, posterior["train_set"].values, strict=True)
        ]
        return posterior.isel(cell=posterior["anchor"].to_numpy() != np.array(labels))

    @override
    def objections(self, arrays: RelationArrays) -> tuple[Note, ...]:
        return arrays.notes

    @override
    def pointwise(self, posterior: Posterior) -> Pointwise:
        # What is left out is a run with all its checkpoints, which are not independent; its anchor's losses stay.
        import pytensor
        import pytensor.tensor as pt

        spec: RelationsSpec = posterior.spec  # type: ignore[assignment]
        data, draws = self.arrange(spec, posterior.sweep), stacked(posterior.draws)
        known = data.arrays()
        of_cell: dict[str, Any] = {name: pt.dvector(name) for name in _OF_CELL}
        reducible = known["anchor_reference"] - of_cell["E"][known["anchor_index"]]
        height = of_cell["K"] * reducible ** of_cell["kappa"]
        further = {name: pt.dscalar(name) for name in spec.likelihood.parameters}
        constants = {name: pt.as_tensor(value) for name, value in known.items()}
        nu = further.get("nu")
        densities = _densities_of_runs(constants, of_cell | {"height": height}, data.log_loss.shape, nu)
        compute = pytensor.function([*of_cell.values(), *further.values()], densities, mode="FAST_COMPILE")
        drawn = [draws[name].to_numpy() for name in (*of_cell, *further)]
        density = np.array([compute(*of_draw) for of_draw in zip(*drawn, strict=True)])
        evals, trains = zip(*(data.cells[cell] for cell in data.of_run), strict=True)
        return Pointwise(density, data.weight, {"eval_set": evals, "train_set": trains})

    @override
    def losses(
        self, posterior: Posterior, at: pd.DataFrame, *, kind: Kind, source: str | None = None, noisy: bool = True
    ) -> Floats:
        raise ForecastError(
            f"Model {posterior.spec.name!r} knows nothing of sizes: forecast from a loss that the run has "
            "(given={'EVAL@TRAIN': loss}, --given EVAL@TRAIN=LOSS), or fit a table with params and tokens."
        )

    @override
    def given(
        self, posterior: Posterior, seen: Mapping[Cell, float], targets: Sequence[Cell], *, kind: Kind, run: int = 0
    ) -> Floats:
        return _Run(posterior, run).losses(seen, targets, kind=kind)

    @override
    def read_off(self, posterior: Posterior, source: Cell) -> list[Cell]:
        return [target for _, target in self.relations(posterior, source)]

    @override
    def noise(self, posterior: Posterior, cells: Sequence[int]) -> list[Noise]:
        scale = _Run(posterior).scale
        residuals = residual_draws(posterior.spec.likelihood, stacked(posterior.draws))
        return [Noise(scale[:, cell], residuals) for cell in cells]

    @override
    def related(self, posterior: Posterior, source: Cell, target: Cell) -> Related:
        run = _Run(posterior)
        k, i = (posterior.cells.index(cell) for cell in (source, target))
        if run.anchor[k] != run.anchor[i]:
            raise ForecastError(_APART.format("@".join(source), "@".join(target)))
        noise = self.noise(posterior, (k, i))
        return Related(run.relation(k).inverse().then(run.relation(i)), None, (noise[0], noise[1]))

    @override
    def relations(self, posterior: Posterior, source: Cell) -> list[tuple[Cell, Cell]]:
        cells, anchor = posterior.cells, posterior.draws["anchor"].to_numpy()
        own = anchor[cells.index(source)]
        return [(source, cell) for cell, one in zip(cells, anchor, strict=True) if one == own and cell != source]

    @override
    def describe(self, spec: RelationsSpec) -> list[str]:
        said = ["Neither model sizes nor tokens are known: a loss is forecast from other losses of the same run."]
        if spec.likelihood.extrapolation_discrepancy:
            said.append("Below the fitted losses a relation may depart from its form: this widens the intervals.")
        return said


_APART: Final = (
    "{} and {} were measured on no run together, and on no chain of runs, so neither can be read off the other: "
    "evaluations of one run_id (and step) belong together."
)


class _Run:
    """Draws of what a further run's losses are, at its end, as functions of its anchor's true loss."""

    def __init__(self, posterior: Posterior, number: int = 0) -> None:
        self.posterior = posterior
        self.draws = stacked(posterior.draws)
        names = posterior.draws["anchor"].to_numpy().tolist()
        self.anchor = np.array([["@".join(c) for c in posterior.cells].index(name) for name in names])
        self.data = _arrays(posterior.spec, posterior.sweep)  # type: ignore[arg-type]
        self.rng = np.random.default_rng([posterior.seed, 4, number])
        self.size = self.draws.sizes["sample"]
        self.spec: RelationsSpec = posterior.spec  # type: ignore[assignment]

    def relation(self, cell: int) -> ShiftedPowerLaw:
        """Relation of the anchor's loss to the cell's, arrays of shape (draw,)."""
        K, kappa, E = (self.draws[name].to_numpy()[:, cell] for name in ("K", "kappa", "E"))
        return ShiftedPowerLaw(K=K, kappa=kappa, E0=self.draws["E"].to_numpy()[:, self.anchor[cell]], E1=E)

    @property
    def scale(self) -> Floats:
        """Standard deviation of a run's log losses at its end but for outlying runs, shape (draw, cell)."""
        own, whole, turn = (self.draws[name].to_numpy() for name in NOISE_VARIABLES)
        return np.asarray(np.sqrt(whole**2 + own**2 + (turn * self.data.end_distance) ** 2))

    def losses(self, seen: Mapping[Cell, float], targets: Sequence[Cell], *, kind: Kind) -> Floats:
        """Losses of the targets given those that were seen, shape (draw, target)."""
        cells = self.posterior.cells
        known = {cells.index(cell): loss for cell, loss in seen.items()}
        wanted = [cells.index(cell) for cell in targets]
        group = self.anchor[next(iter(known))]
        for i in (*known, *wanted):
            if self.anchor[i] != group:
                raise ForecastError(_APART.format("@".join(next(iter(seen))), "@".join(cells[i])))
        scale = self._scale_of_run()
        departure = self._departures()
        log_true, precision = np.zeros((2, self.size))
        for i, loss in known.items():
            log_anchor, slope = self._read(i, loss)
            log_anchor = log_anchor - departure[:, i] * self._beyond(log_anchor, i) / slope
            log_true += log_anchor * (slope / scale[:, i]) ** 2
            precision += (slope / scale[:, i]) ** 2
        log_true /= precision
        normal = self.rng.standard_normal((self.size, len(cells) + 1))
        if kind == "predictive":
            log_true = log_true + normal[:, -1] / np.sqrt(precision)
        found = np.empty((self.size, len(wanted)))
        for column, i in enumerate(wanted):
            log_loss = self._told(i, log_true)
            log_loss = log_loss + departure[:, i] * self._beyond(log_true, i)
            found[:, column] = np.exp(log_loss + (scale * normal[:, :-1])[:, i] * (kind == "predictive"))
            if i in known and kind == "predictive":
                found[:, column] = known[i]
        return np.where(np.isfinite(log_true)[:, None], found, np.nan)

    def _scale_of_run(self) -> Floats:
        """Standard deviations of the log losses of one run, wide in all where it is an outlying one."""
        residuals = residual_draws(self.spec.likelihood, self.draws)
        own, whole, turn = (self.draws[name].to_numpy() for name in NOISE_VARIABLES)
        wide = (
            self.rng.chisquare(residuals.nu) / residuals.nu if isinstance(residuals, StudentT) else np.ones(self.size)
        )
        return np.asarray(np.sqrt(whole**2 / wide[:, None] + own**2 + (turn * self.data.end_distance) ** 2))

    def _departures(self) -> Floats:
        """What cells depart by from their relations for a nat of log loss beyond the runs, alike in all forecasts."""
        rng = np.random.default_rng([self.posterior.seed, 1])
        normal = rng.standard_normal((self.size, len(self.posterior.cells)))
        return np.asarray(self.spec.likelihood.extrapolation_discrepancy * self.scale * normal)

    def _beyond(self, log_anchor: Floats, cell: int) -> Floats:
        """How far the anchor's log loss lies below the fitted ones."""
        return np.asarray(np.maximum(np.log(self.data.lowest[cell]) - log_anchor, 0.0))

    def _read(self, cell: int, loss: float) -> tuple[Floats, Floats]:
        """Log loss of the anchor where a cell's is known, and the slope of the latter in it; NaN below its E."""
        relation = self.relation(cell)
        with np.errstate(invalid="ignore"):
            true = np.where(loss > relation.E1, relation.inverse()(loss), np.nan)
        slope = relation.kappa * (1 - relation.E1 / loss) / (1 - relation.E0 / true)
        return np.log(true), slope

    def _told(self, cell: int, log_anchor: Floats) -> Floats:
        """Log loss of a cell where the anchor's is known."""
        relation, true = self.relation(cell), np.exp(log_anchor)
        above = np.maximum(true - relation.E0, _LEAST * true)
        return np.asarray(np.log(relation.E1 + relation.K * above**relation.kappa))
