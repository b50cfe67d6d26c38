"""Pairwise relations: the regressions of arXiv 2411.12925, made Bayesian.

Every ordered pair of cells, source and target, has a shifted power law of its own between their losses at equal
(N, D), L1 = K (L0 - E0)^kappa + E1 (Eq. 9 there). What the cells' own scaling laws say about E0 and E1 comes first,
as a prior: a law and a relation in one likelihood would count the same runs twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, model_validator
from pydantic.dataclasses import dataclass as validated
from typing_extensions import override

from bayes_l2l.data.sizes import size_label, size_labels
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.laws.family import LAW_FORMS
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.point_fits.resampling import resampled_fits
from bayes_l2l.posterior.draws import RELATION_VARIABLES, parts, stacked
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.spec.likelihood import RelationLikelihood
from bayes_l2l.spec.model import ModelSpec, PairPriors
from bayes_l2l.spec.reading import number, one_of, refuse
from bayes_l2l.structures.arrays import LossArrays
from bayes_l2l.structures.laws import residual_draws, residuals_of
from bayes_l2l.structures.parameters import coords, effects_of, parameter
from bayes_l2l.structures.pointwise import Pointwise, residual_densities
from bayes_l2l.structures.protocol import Cell, Kind, Module, Noise, Related, Structure, scattered

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]

#: Which ordered pairs of cells a model relates (i evaluation; j, l training sets).
RELATIONS: Final = {
    "train_to_train": "target j|j from source l|l",
    "train_to_test": "target i|j from source j|j",
    "test_to_test": "target i|j from source i|l",
}
#: Fewest runs of a cell whose own law is asked for E; cells with fewer have the weak prior of the model file.
MIN_RUNS: Final = 10
#: Seed of the bootstrap: what is believed about E does not change with the seed of the draws.
_SEED: Final = 0
#: Point fits may end with E at 0 or at the smallest loss; as fractions they are kept off both.
_FRACTIONS: Final = (0.02, 0.98)
_PRIORS: Final = ("E_fraction", "scale", "kappa")
#: Noise of log loss that chains start with: wide, so that none is trapped in a corner.
_WIDE: Final = 0.05
#: Parts of a pair's name along which effects vary.
_DIMS: Final = ("eval_set", "train_set", "source_set")
_RUN: Final = ["eval_set", "train_set", "params", "tokens"]


def _refits(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not (value == 0 or value >= 10):
        refuse(f"must be 0 (E fixed at its point fit) or a number from 10, not {value!r}.")
    return value


@validated(frozen=True, kw_only=True)
class PairwiseSpec(ModelSpec):
    """A model of relations between ordered pairs of cells.

    Parameters
    ----------
    name, title, equation, source, structure, priors : see `ModelSpec`
        As in `ModelSpec`. Priors are ``E_fraction`` (of cells with too few runs for a law), ``scale`` (reducible loss
        of the target over that of the source, amid the runs) and ``kappa``.
    likelihood : RelationLikelihood
        How runs scatter about the relation.
    law : str
        Member of the family of the laws that are fitted cell by cell before, for what they say about E.
    relation : str
        Which pairs of cells are related (`RELATIONS`).
    bootstrap : int
        Refits of each cell's law to resampled runs, whose spread is what is believed about E before the relations
        are seen; 0 fixes every E at its point fit.
    law_error : float
        What the law's form may be wrong by besides: standard deviation of the logit of E over the smallest loss.
    """

    priors: PairPriors
    law: Annotated[str, BeforeValidator(one_of(lambda: list(LAW_FORMS), what="no known member"))]
    relation: Annotated[str, BeforeValidator(one_of(lambda: list(RELATIONS)))]
    bootstrap: Annotated[int, BeforeValidator(_refits)]
    law_error: Annotated[float, BeforeValidator(number(0, 10, "a number of at least 0"))]
    likelihood: RelationLikelihood

    @override
    @classmethod
    def prior_names(cls, record: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
        return _PRIORS, (), "structure = 'pairwise'"

    @model_validator(mode="after")
    def _weak_prior_is_plain(self) -> Self:
        fraction = self.priors["E_fraction"]
        numbers = all(isinstance(value, float) for value in fraction.kwargs.values())
        if fraction.dist != "Normal" or fraction.transform != "sigmoid" or not numbers:
            refuse(".priors.E_fraction must be Normal with numbers for mu and sigma and transform = 'sigmoid'.")
        return self


@dataclass(frozen=True, eq=False)
class PairArrays:
    """A sweep as ordered pairs of cells, each with the runs that both have.

    Parameters
    ----------
    runs : LossArrays
        Losses along sizes and cells, repeats of a size averaged.
    sources, targets : ndarray of int, shape (pair,)
        Cells of every pair, as places in ``runs.cells``.
    E_centre, E_spread : ndarray, shape (cell,)
        What is believed about E before the relations are seen: its fraction of the cell's smallest loss is
        logit-normal with this mean and standard deviation; all 0 where E is held fixed.
    """

    runs: LossArrays
    sources: npt.NDArray[np.int_]
    targets: npt.NDArray[np.int_]
    E_centre: Floats
    E_spread: Floats

    @classmethod
    def of(cls, sweep: Sweep, *, spec: PairwiseSpec) -> PairArrays:
        """Arrange the losses of a sweep, and fit each cell's own law for what it says about E.

        Parameters
        ----------
        sweep : Sweep
            Its rows of metric "loss" are used; cells that are in no pair of the relation are not.
        spec : PairwiseSpec
            Which relation, and of what laws.

        Returns
        -------
        PairArrays

        Raises
        ------
        DataError
            If no two cells of the relation have a run of equal (N, D).
        """
        table, runs, pairs = _paired(sweep, spec)
        sources, targets = (np.array([runs.cells.index(cell) for cell in side]) for side in zip(*pairs, strict=True))
        centre, spread = entropy_priors(replace(sweep, table=table), runs, spec=spec)
        return cls(runs, sources, targets, centre, spread)

    @property
    def cells(self) -> list[Cell]:
        """(eval_set, train_set) of every cell that is in a pair."""
        return self.runs.cells

    @property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        """Source and target of every pair."""
        return [(self.cells[s], self.cells[t]) for s, t in zip(self.sources, self.targets, strict=True)]

    @property
    def labels(self) -> list[str]:
        """Names of the pairs, "eval@train -> eval@train"."""
        return [f"{'@'.join(source)} -> {'@'.join(target)}" for source, target in self.pairs]

    @property
    def signature(self) -> tuple[object, ...]:
        """Pairs, and whether their E's are known."""
        return tuple(self.labels), bool(self.E_spread.any())

    @property
    def coordinates(self) -> dict[str, tuple[str, list[str]]]:
        """Names along the posterior's dimension ``pair``; ``eval_set`` and ``train_set`` are the target's."""
        return {
            "pair": ("pair", self.labels),
            "source": ("pair", ["@".join(source) for source, _ in self.pairs]),
            "target": ("pair", ["@".join(target) for _, target in self.pairs]),
            "eval_set": ("pair", [target[0] for _, target in self.pairs]),
            "train_set": ("pair", [target[1] for _, target in self.pairs]),
        }

    def arrays(self) -> dict[str, Floats]:
        """What the model holds as `pm.Data`, by name; ``*0`` is the source's and ``*1`` the target's.

        Losses and the known variances of their logarithms have the shape (point, pair). Where a run is missing
        stands the pair's reference, amid its runs: both geometric means.
        """
        runs, arrays = self.runs, {}
        both = runs.observed[:, self.sources] * runs.observed[:, self.targets]
        for i, cells in enumerate((self.sources, self.targets)):
            log_loss = runs.log_loss[:, cells]
            reference = (both * log_loss).sum(axis=0) / both.sum(axis=0)
            arrays[f"reference{i}"] = np.exp(reference)
            arrays[f"loss{i}"] = np.exp(np.where(both == 1, log_loss, reference))
            arrays[f"noise{i}"] = runs.noise[:, cells] ** 2
            arrays[f"smallest{i}"] = runs.smallest[cells]
            arrays[f"E_centre{i}"] = self.E_centre[cells]
            if self.E_spread.any():
                arrays[f"E_spread{i}"] = self.E_spread[cells]
        # Relative to the largest run of the pair: a larger one of the source alone says nothing about the relation.
        weight = both * runs.weight[:, None]
        return arrays | {"weight": weight / weight.max(axis=0)}


def _paired(sweep: Sweep, spec: PairwiseSpec) -> tuple[pd.DataFrame, LossArrays, list[tuple[Cell, Cell]]]:
    """Losses of the cells that are in a pair, repeats averaged: as a table and arranged; and the pairs."""
    table = sweep.table[sweep.table["metric"] == "loss"]
    table = table.assign(_size=size_labels(table))
    repeats = ["train_set", "eval_set", "_size"]
    table = table.assign(loss=table.groupby(repeats)["loss"].transform("mean")).drop_duplicates(repeats)
    sizes: dict[Cell, set[str]] = {}
    for evaluation, train, label in zip(table["eval_set"], table["train_set"], table["_size"], strict=True):
        sizes.setdefault((evaluation, train), set()).add(label)
    pairs = [(s, t) for s, t in ordered_pairs(list(sizes), relation=spec.relation) if sizes[s] & sizes[t]]
    if not pairs:
        raise DataError(
            f"{sweep.name} has no two cells with runs of equal size for model {spec.name!r} "
            f"({RELATIONS[spec.relation]}): it needs {_NEEDS[spec.relation]}."
        )
    used = {cell for pair in pairs for cell in pair}
    kept = [cell in used for cell in zip(table["eval_set"], table["train_set"], strict=True)]
    table = table[kept].drop(columns="_size").reset_index(drop=True)
    runs = LossArrays.of(replace(sweep, table=table), weight_exponent=spec.likelihood.weight_exponent)
    # Relations have no reference size: E is measured by the smallest loss itself.
    smallest = np.exp(np.where(runs.observed > 0, runs.log_loss, np.inf).min(axis=0))
    runs = replace(runs, smallest=smallest)
    return table, runs, pairs


_NEEDS: Final = {
    "train_to_train": "two training sets, each evaluated on its own data (an evaluation of the same name; [own] in "
    "the mapping file)",
    "train_to_test": "a training set that is evaluated on its own data (an evaluation of the same name; [own] in the "
    "mapping file) and on others (all evaluations)",
    "test_to_test": "one evaluation of two training sets",
}


def ordered_pairs(cells: list[Cell], *, relation: str) -> list[tuple[Cell, Cell]]:
    """Ordered pairs of cells (eval_set, train_set) that a relation holds between, as (source, target), sorted.

    Parameters
    ----------
    cells : list of (str, str)
        All cells.
    relation : {"train_to_train", "train_to_test", "test_to_test"}
        See `RELATIONS`.

    Returns
    -------
    list of ((str, str), (str, str))
    """

    def related(source: Cell, target: Cell) -> bool:
        (k, m), (i, j) = source, target
        if relation == "train_to_train":
            return k == m and i == j
        if relation == "train_to_test":
            return k == m == j
        return k == i

    found = [(s, t) for s in cells for t in cells if s != t and related(s, t)]
    return sorted(found, key=lambda pair: [(train, evaluation) for evaluation, train in pair])


def entropy_priors(sweep: Sweep, runs: LossArrays, *, spec: PairwiseSpec) -> tuple[Floats, Floats]:
    """What each cell's own law says about E as a fraction of the cell's smallest loss, on the logit scale.

    The law is fitted to the cell's runs and to resamples of them; the centre is the point fit's where E is held
    fixed (``bootstrap = 0``) and the refits' median elsewhere, the spread half the central 68% of the refits and,
    besides, what the law itself may be wrong by.

    Parameters
    ----------
    sweep : Sweep
        Runs of the cells.
    runs : LossArrays
        The same, arranged.
    spec : PairwiseSpec
        Which law, how many refits, and the prior of cells with fewer than `MIN_RUNS` runs.

    Returns
    -------
    centre, spread : ndarray, shape (cell,)
    """
    weak = spec.priors["E_fraction"].kwargs
    centre, spread = (np.full(len(runs.cells), weak[key], dtype=float) for key in ("mu", "sigma"))
    if not spec.bootstrap:
        spread = np.zeros_like(spread)
    counts = runs.observed.sum(axis=0)
    enough = {cell for cell, n in zip(runs.cells, counts, strict=True) if n >= MIN_RUNS}
    table = sweep.table
    table = table[[cell in enough for cell in zip(table["eval_set"], table["train_set"], strict=True)]]
    if table.empty:
        return centre, spread
    fits = resampled_fits(table, law=spec.law, n_boot=max(spec.bootstrap, 1), seed=_SEED)
    for i, cell in enumerate(runs.cells):
        if cell not in enough:
            continue
        E = fits[cell].resampled.E if spec.bootstrap else np.array([fits[cell].point.E])
        low, middle, high = np.quantile(_logit(E / runs.smallest[i]), [0.16, 0.5, 0.84])
        centre[i] = middle
        if spec.bootstrap:
            spread[i] = np.hypot((high - low) / 2, spec.law_error)
    return centre, spread


def _logit(fraction: Floats) -> Floats:
    inside = np.clip(fraction, *_FRACTIONS)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def build_pairwise(spec: PairwiseSpec, data: PairArrays) -> pm.Model:
    """Build the model.

    Parameters
    ----------
    spec : PairwiseSpec
        What is believed.
    data : PairArrays
        What is known.

    Returns
    -------
    pymc.Model
        With `RELATION_VARIABLES` and ``residual_scale`` along ``pair``, and the hyper-parameters; the likelihood is
        the potential ``log_likelihood``, summed over runs.
    """
    import pymc as pm
    import pytensor.tensor as pt

    effects = effects_of([(*target, source[1]) for source, target in data.pairs], _DIMS)
    ones = np.ones(len(data.pairs))
    with pm.Model(coords=coords("pair", data.labels, effects)) as model:
        known = {name: pm.Data(name, value) for name, value in data.arrays().items()}

        def entropy(side: int) -> Any:
            logit = known[f"E_centre{side}"]
            if f"E_spread{side}" in known:
                offset = pm.Normal(f"E{side}_offset", 0.0, 1.0, dims="pair")
                logit = logit + known[f"E_spread{side}"] * offset
            return known[f"smallest{side}"] * pt.sigmoid(logit)

        def value(name: str, shift: Any) -> Any:
            # What all pairs have in common is where the data of all of them say.
            shift = shift if spec.priors[name].dims else shift.mean()
            return parameter(name, spec.priors[name], effects, shift=shift, report=name != "kappa") * ones

        E0, E1 = entropy(0), entropy(1)
        x_ref, y_ref = known["reference0"], known["reference1"]
        # The data know the target's loss at the reference, and the slope of one log loss in the other there; they
        # know the scale and kappa themselves only given both E's.
        scale = value("scale", pt.log(x_ref - E0) - pt.log(y_ref - E1))
        height = scale * (x_ref - E0)
        part = height / (height + E1) * x_ref / (x_ref - E0)
        kappa = value("kappa", pt.log(part))
        reducible = height * ((known["loss0"] - E0) / (x_ref - E0)) ** kappa
        residual = pt.log(known["loss1"] / (E1 + reducible))

        # Errors in variables: the source's error reaches the target's log loss by the slope, to first order.
        prior = spec.likelihood.residual_scale
        residual_scale = parameter("residual_scale", prior, effects, start=_WIDE, report=False) * ones
        slope = kappa * part
        variance = residual_scale**2 * (1 + slope**2) + known["noise1"] + slope**2 * known["noise0"]
        density = residuals_of(spec.likelihood, effects).log_density(residual, pt.sqrt(variance))
        pm.Potential("log_likelihood", (known["weight"] * density).sum())
        log_K = pt.log(scale) + (1 - kappa) * pt.log(x_ref - E0)
        for name, found in zip(RELATION_VARIABLES, (pt.exp(log_K), kappa, E0, E1), strict=True):
            pm.Deterministic(name, found, dims="pair")
        pm.Deterministic("residual_scale", residual_scale, dims="pair")
    return model


class Pairwise(Structure[PairwiseSpec, PairArrays]):
    """One cell is a shifted power law of another."""

    name = "pairwise"
    words = "one cell is a shifted power law of another; the relations resemble each other by their priors"
    spec = PairwiseSpec
    has_laws = False
    along = "pair"
    units = "pairs of cells"
    variables = (*RELATION_VARIABLES, "residual_scale")

    @override
    def arrange(self, spec: PairwiseSpec, sweep: Sweep) -> PairArrays:
        return PairArrays.of(sweep, spec=spec)

    @override
    def modules(self, spec: PairwiseSpec, arrays: PairArrays) -> tuple[Module[PairArrays], ...]:
        build = partial(build_pairwise, spec, arrays)
        return (Module(build, lambda pairs, _: pairs.arrays(), reported=self.variables),)

    @override
    def pointwise(self, posterior: Posterior) -> Pointwise:
        # Of a target's loss, given the source's of a run of its size.
        spec: PairwiseSpec = posterior.spec  # type: ignore[assignment]
        _, runs, pairs = _paired(posterior.sweep, spec)
        sources, targets = (np.array([runs.cells.index(cell) for cell in side]) for side in zip(*pairs, strict=True))
        fixed = np.zeros(len(runs.cells))
        arrays = PairArrays(runs, sources, targets, fixed, fixed).arrays()
        pair, point = np.nonzero(arrays["weight"].T)
        draws = stacked(posterior.draws)
        density = np.empty((draws.sizes["sample"], len(pair)))
        for part in parts(len(density), of=density.shape[1]):
            density[part] = _densities(spec, arrays, draws.isel(sample=part), pair, point)
        evals, trains = (np.array(names)[targets[pair]] for names in zip(*runs.cells, strict=True))
        names = {"eval_set": evals, "train_set": trains, "source": np.array(["@".join(s) for s, _ in pairs])[pair]}
        names |= {"params": np.exp(runs.log_params[point]), "tokens": np.exp(runs.log_tokens[point])}
        return Pointwise(density, arrays["weight"][point, pair], names)

    @override
    def losses(
        self, posterior: Posterior, at: pd.DataFrame, *, kind: Kind, source: str | None = None, noisy: bool = True
    ) -> Floats:
        # Every draw takes one source, and the same one at all points with the same choice. A source's run and the
        # target's scatter by s each, the former by the slope of the relation (errors in variables, to first order).
        draws = stacked(posterior.draws)
        rng = np.random.default_rng(posterior.seed)
        n_draws = draws.sizes["sample"]
        place = (rng.permutation(n_draws) + 0.5) / n_draws
        losses, sources, targets = _fitted_losses(posterior), draws["source"].to_numpy(), _targets(draws, source)
        found = np.empty((n_draws, len(at)))
        residuals = residual_draws(posterior.spec.likelihood, draws)
        noise = scattered(posterior.seed, at.index, n_draws, lambda rng, z, _: residuals.draw(rng, z))
        for i, (evaluation, train, n, d) in enumerate(zip(*(at[c] for c in _RUN), strict=True)):
            target, label = f"{evaluation}@{train}", size_label(n, d)
            pairs = [p for p in np.flatnonzero(targets == target) if (sources[p], label) in losses]
            if not pairs:
                raise ForecastError(
                    f"No run of {n:.4g} parameters and {d:.4g} tokens was fitted on {source or 'a source'} of "
                    f"{target}: fit again with the source's run in the table, or fit the joint model, which needs "
                    "none."
                )
            pair = np.array(pairs)[(place * len(pairs)).astype(int)]
            x = np.array([losses[cell, label] for cell in sources[pair]])
            relation = _relation(draws, (np.arange(n_draws), pair))
            y = relation(x)
            if kind == "predictive":
                slope = relation.kappa * (1 - relation.E1 / y) / (1 - relation.E0 / x)
                scale = draws["residual_scale"].to_numpy()[np.arange(n_draws), pair] * np.hypot(1, slope)
                y = y * np.exp(scale * noise[:, i])
            found[:, i] = y
        return found

    @override
    def noise(self, posterior: Posterior, cells: Sequence[int]) -> list[Noise]:
        # What a forecast's runs scatter is in the draws of `losses`: it depends on the source's loss.
        return [Noise(np.zeros(1)) for _ in cells]

    @override
    def related(self, posterior: Posterior, source: Cell, target: Cell) -> Related:
        draws = stacked(posterior.draws)
        ends = "@".join(source), "@".join(target)
        found = (draws["source"].to_numpy() == ends[0]) & (draws["target"].to_numpy() == ends[1])
        if not found.any():
            raise ForecastError(
                f"Model {posterior.spec.name!r} has no relation from {ends[0]} to {ends[1]}: fit the joint model."
            )
        place = int(found.argmax())
        scale = draws["residual_scale"].to_numpy()[:, place]
        noise = Noise(scale, residual_draws(posterior.spec.likelihood, draws))
        return Related(_relation(draws, (slice(None), place)), None, (noise, noise))

    @override
    def describe(self, spec: PairwiseSpec) -> list[str]:
        said = [f"What is believed of E comes from each cell's own law, {LAW_FORMS[spec.law].words}."]
        if exponent := spec.likelihood.weight_exponent:
            said.append(
                f"A run counts (C / largest C of the pair)^{exponent:g}: the relation is to hold where it is used."
            )
        return said

    @override
    def relations(self, posterior: Posterior, source: Cell) -> list[tuple[Cell, Cell]] | None:
        draws, cell = posterior.draws, posterior.sweep.cell
        ends = zip(draws["source"].to_numpy(), draws["target"].to_numpy(), strict=True)
        pairs = [(cell(str(s)), cell(str(t))) for s, t in ends]
        return [pair for pair in pairs if pair[0] == pairs[0][0]]


def _densities(
    spec: PairwiseSpec,
    arrays: Mapping[str, Floats],
    draws: xr.Dataset,
    pair: npt.NDArray[np.int_],
    point: npt.NDArray[np.int_],
) -> Floats:
    """Log density of every target's loss given the source's, as in `build_pairwise`, shape (draw, loss)."""
    relation = _relation(draws, (slice(None), pair))
    x, y = (arrays[f"loss{side}"][point, pair] for side in (0, 1))
    told, at_reference = relation(x), relation(arrays["reference0"][pair])
    share = arrays["reference0"][pair] / (arrays["reference0"][pair] - relation.E0)
    slope = relation.kappa * (1 - relation.E1 / at_reference) * share
    scale = draws["residual_scale"].to_numpy()[:, pair]
    known = [arrays[f"noise{side}"][point, pair] for side in (0, 1)]
    variance = scale**2 * (1 + slope**2) + known[1] + slope**2 * known[0]
    residuals = residual_draws(spec.likelihood, draws)
    return residual_densities(residuals, np.log(y / told), np.sqrt(variance))


def _targets(draws: xr.Dataset, source: str | None) -> npt.NDArray[np.str_]:
    """Target of every pair, empty where the pair is not from the source that is named."""
    sources, targets = draws["source"].to_numpy(), draws["target"].to_numpy()
    if source is None:
        return np.asarray(targets)
    named = np.array([source in (cell, cell[cell.rfind("@") + 1 :]) for cell in sources])
    if not named.any():
        known = ", ".join(dict.fromkeys(map(str, sources)))
        raise ForecastError(f"No relation was fitted from source {source!r}; fitted sources are {known}.")
    return np.where(named, targets, "")


def _relation(draws: xr.Dataset, place: Any) -> ShiftedPowerLaw:
    """Relations at some places (draw, pair)."""
    return ShiftedPowerLaw(**{name: draws[name].to_numpy()[place] for name in RELATION_VARIABLES})


def _fitted_losses(posterior: Posterior) -> dict[tuple[str, str], float]:
    """Fitted loss of every cell ("eval@train") and size, repeats averaged."""
    table = posterior.sweep.table
    cells = table["eval_set"] + "@" + table["train_set"]
    losses: dict[tuple[str, str], list[float]] = {}
    for cell, n, d, loss in zip(cells, table["params"], table["tokens"], table["loss"], strict=True):
        losses.setdefault((cell, size_label(n, d)), []).append(loss)
    return {key: float(np.mean(repeats)) for key, repeats in losses.items()}
