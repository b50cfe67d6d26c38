"""Loss-to-loss relations one by one: the regressions of arXiv 2411.12925, made Bayesian.

Every ordered pair of cells, source and target, has a shifted power law of its own between their losses at equal
(N, D), L1 = K (L0 - E0)^kappa + E1 (Eq. 9 there). What the cells' own scaling laws say about E0 and E1 comes first,
as a prior: a law and a relation in one likelihood would count the same runs twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.build import RELATION_VARIABLES, Floats, ModelData, parameter, point_label
from bayes_l2l.errors import DataError
from bayes_l2l.spec import RELATIONS

if TYPE_CHECKING:
    import pymc as pm

    from bayes_l2l.spec import ModelSpec
    from bayes_l2l.sweep import Sweep

Cell = tuple[str, str]

#: Fewest runs of a cell whose own law is asked for E; cells with fewer have the weak prior of the model file.
MIN_RUNS: Final = 10
#: Seed of the bootstrap: what is believed about E does not change with the seed of the draws.
_SEED: Final = 0
#: Point fits may end with E at 0 or at the smallest loss; as fractions they are kept off both.
_FRACTIONS: Final = (0.02, 0.98)


@dataclass(frozen=True, eq=False)
class PairData:
    """A sweep as ordered pairs of cells, each with the runs that both have.

    Parameters
    ----------
    runs : ModelData
        Losses along sizes and cells, repeats of a size averaged.
    sources, targets : ndarray of int, shape (pair,)
        Cells of every pair, as places in ``runs.cells``.
    E_centre, E_spread : ndarray, shape (cell,)
        What is believed about E before the relations are seen: its fraction of the cell's smallest loss is
        logit-normal with this mean and standard deviation; all 0 where E is held fixed.
    """

    runs: ModelData
    sources: npt.NDArray[np.int_]
    targets: npt.NDArray[np.int_]
    E_centre: Floats
    E_spread: Floats

    @classmethod
    def of(cls, sweep: Sweep, *, spec: ModelSpec) -> PairData:
        """Arrange the losses of a sweep, and fit each cell's own law for what it says about E.

        Parameters
        ----------
        sweep : Sweep
            Its rows of metric "loss" are used; cells that are in no pair of the relation are not.
        spec : ModelSpec
            Of structure "pairs".

        Returns
        -------
        PairData

        Raises
        ------
        DataError
            If no two cells of the relation have a run of equal (N, D).
        """
        table = sweep.table[sweep.table["metric"] == "loss"]
        size = [point_label(n, d) for n, d in zip(table["params"], table["tokens"], strict=True)]
        table = table.assign(_size=size)
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
        runs = ModelData.of(replace(sweep, table=table), likelihood=spec.likelihood)
        # Relations have no reference size: E is measured by the smallest loss itself.
        smallest = np.exp(np.where(runs.observed > 0, runs.log_loss, np.inf).min(axis=0))
        runs = replace(runs, smallest=smallest)
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
        See `bayes_l2l.spec.RELATIONS`.

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


def entropy_priors(sweep: Sweep, runs: ModelData, *, spec: ModelSpec) -> tuple[Floats, Floats]:
    """What each cell's own law says about E as a fraction of the cell's smallest loss, on the logit scale.

    The law is fitted to the cell's runs and to resamples of them; the centre is the point fit's where E is held
    fixed (``bootstrap = 0``) and the refits' median elsewhere, the spread half the central 68% of the refits and,
    besides, what the law itself may be wrong by.

    Parameters
    ----------
    sweep : Sweep
        Runs of the cells.
    runs : ModelData
        The same, arranged.
    spec : ModelSpec
        Which law, how many refits, and the prior of cells with fewer than `MIN_RUNS` runs.

    Returns
    -------
    centre, spread : ndarray, shape (cell,)
    """
    from bayes_l2l.baselines import bootstrap

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
    fits = bootstrap(table, law=spec.law, n_boot=max(spec.bootstrap, 1), seed=_SEED).cells  # type: ignore[arg-type]
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


def build_pairs(spec: ModelSpec, data: PairData) -> pm.Model:
    """Build the model.

    Parameters
    ----------
    spec : ModelSpec
        What is believed, of structure "pairs".
    data : PairData
        What is known.

    Returns
    -------
    pymc.Model
        With `RELATION_VARIABLES` and ``scatter`` along ``pair``, and the hyper-parameters; the likelihood is the
        potential ``log_likelihood``, summed over runs.
    """
    import pymc as pm
    import pytensor.tensor as pt

    of_pair = [(*target, source[1]) for source, target in data.pairs]
    effects = {}
    for dim, own in zip(("eval_set", "train_set", "source_set"), zip(*of_pair, strict=True), strict=True):
        names = sorted(set(own))
        effects[dim] = (names, [names.index(name) for name in own])
    coords = {"pair": data.labels} | {dim: names for dim, (names, _) in effects.items()}
    ones = np.ones(len(of_pair))

    with pm.Model(coords=coords) as model:
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
            return parameter(name, spec.priors[name], effects, shift=shift) * ones

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
        scatter = parameter("scatter", spec.likelihood.scatter, effects) * ones
        slope = kappa * part
        variance = scatter**2 * (1 + slope**2) + known["noise1"] + slope**2 * known["noise0"]
        if spec.likelihood.nu is None:
            noise = pm.Normal.dist(0.0, pt.sqrt(variance))
        else:
            noise = pm.StudentT.dist(nu=parameter("nu", spec.likelihood.nu, effects), sigma=pt.sqrt(variance))
        pm.Potential("log_likelihood", (known["weight"] * pm.logp(noise, residual)).sum())
        log_K = pt.log(scale) + (1 - kappa) * pt.log(x_ref - E0)
        for name, found in zip(RELATION_VARIABLES, (pt.exp(log_K), kappa, E0, E1), strict=True):
            pm.Deterministic(name, found, dims="pair")
        pm.Deterministic("scatter", scatter, dims="pair")
    return model
