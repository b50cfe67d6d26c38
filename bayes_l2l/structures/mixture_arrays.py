"""MixtureArrays: losses of mixtures, as the arrays that a mixing law conditions on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.mixtures import weights_of_sets
from bayes_l2l.data.sizes import size_labels
from bayes_l2l.errors import DataError

if TYPE_CHECKING:
    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]

#: Unit of the coordinate along which what weights do changes: a hundredfold compute.
UNIT: Final = np.log(100.0)


@dataclass(frozen=True)
class Block:
    """Runs of one size, of mixtures that were run at the same sizes.

    Attributes
    ----------
    size : int
        Place of the size.
    mixtures, runs : slice
        Of the mixtures, and of their runs, in the same order.
    """

    size: int
    mixtures: slice
    runs: slice


@dataclass(frozen=True, eq=False)
class MixtureArrays:
    """Losses of runs, a run being one mixture at one size; repeats are averaged.

    Parameters
    ----------
    evaluations, mixtures, domains, sizes : list of str
        Names. Mixtures that were run at the same sizes stand together; sizes ascend in compute.
    weights : ndarray, shape (mixture, domain)
        Each sums to 1.
    log_params, log_tokens : ndarray, shape (size,)
        Natural logarithms.
    groups : list of list of Block
        Blocks of the mixtures that were run at the same sizes: mixtures and runs stand in their order.
    loss, observed : ndarray, shape (evaluation, run)
        Geometric means of losses (1 where there is none), and 1 where there is one.
    noise : ndarray, shape (evaluation, run)
        Known standard error of a loss.
    """

    evaluations: list[str]
    mixtures: list[str]
    domains: list[str]
    sizes: list[str]
    weights: Floats
    log_params: Floats
    log_tokens: Floats
    groups: list[list[Block]]
    loss: Floats
    observed: Floats
    noise: Floats

    @classmethod
    def of(cls, sweep: Sweep) -> MixtureArrays:
        """Arrange the losses of a sweep whose table has columns of weights.

        Raises
        ------
        DataError
            If it has none, lacks those of a training set, or has fewer than two mixtures or domains.
        """
        table = sweep.table[sweep.table["metric"] == "loss"]
        mixtures, domains, weights = weights_of_sets(table)
        if min(weights.shape) < 2:
            raise DataError(
                f"{sweep.name} has {len(mixtures)} mixtures of {len(domains)} domains; the model needs two of both."
            )
        table = table.assign(size=size_labels(table), log=np.log(table["loss"]))
        table["noise"] = table["loss_se"].fillna(0.0) if "loss_se" in table else 0.0
        sizes = table.groupby("size")[["params", "tokens"]].first()
        sizes = sizes.iloc[np.argsort((sizes["params"] * sizes["tokens"]).to_numpy(), kind="stable")]
        cells = table.groupby(["eval_set", "size", "train_set"])[["log", "noise"]].mean()
        log, noise = (cells[name].unstack(["size", "train_set"]) for name in ("log", "noise"))
        measured: list[Any] = log.columns.tolist()
        order, groups = _grouped(measured, sizes.index.tolist())
        runs = [(sizes.index[block.size], name) for names, blocks in groups for block in blocks for name in names]
        place = {name: i for i, name in enumerate(mixtures)}
        log, noise = log[runs], noise[runs]
        return cls(
            evaluations=[str(name) for name in log.index],
            mixtures=order,
            domains=domains,
            sizes=sizes.index.tolist(),
            weights=weights[[place[name] for name in order]],
            log_params=np.log(sizes["params"].to_numpy()),
            log_tokens=np.log(sizes["tokens"].to_numpy()),
            groups=[blocks for _, blocks in groups],
            loss=np.exp(log.fillna(0.0).to_numpy()),
            observed=log.notna().to_numpy(dtype=float),
            noise=noise.fillna(0.0).to_numpy(),
        )

    def only(self, evaluation: int) -> MixtureArrays:
        """The same of one evaluation."""
        one = slice(evaluation, evaluation + 1)
        of_one = {name: getattr(self, name)[one] for name in ("evaluations", "loss", "observed", "noise")}
        return replace(self, **of_one)

    @property
    def blocks(self) -> list[Block]:
        """Blocks of all groups."""
        return [block for group in self.groups for block in group]

    @cached_property
    def mixture(self) -> Ints:
        """Place of the mixture of every run."""
        return np.concatenate([np.arange(len(self.mixtures))[block.mixtures] for block in self.blocks])

    @cached_property
    def size(self) -> Ints:
        """Place of the size of every run."""
        return np.concatenate([np.full(block.runs.stop - block.runs.start, block.size) for block in self.blocks])

    @cached_property
    def reference(self) -> Floats:
        """Weights of the mixture in the middle of all, shape (domain,)."""
        return np.asarray(self.weights.mean(axis=0))

    @cached_property
    def reference_size(self) -> tuple[float, float]:
        """Logarithms of parameters and tokens amid the runs."""
        return float(self.log_params[self.size].mean()), float(self.log_tokens[self.size].mean())

    def folds(self, log_params: Any, log_tokens: Any) -> Any:
        """How many hundredfolds of compute sizes are above the reference."""
        return (log_params + log_tokens - sum(self.reference_size)) / UNIT

    @cached_property
    def smallest(self) -> Floats:
        """Smallest loss of every evaluation and size (of the evaluation, where a size has none)."""
        seen = np.where(self.observed > 0, self.loss, np.inf)
        least = np.stack([seen[:, self.size == s].min(axis=1) for s in range(len(self.sizes))], axis=1)
        return np.where(np.isfinite(least), least, least.min(axis=1, keepdims=True))

    @cached_property
    def cells(self) -> list[tuple[str, str]]:
        """(eval_set, train_set) of everything that was measured, by training set."""
        seen = np.zeros((len(self.mixtures), len(self.evaluations)), dtype=bool)
        np.logical_or.at(seen, self.mixture, self.observed.T > 0)
        return [(self.evaluations[e], self.mixtures[m]) for m, e in zip(*np.nonzero(seen), strict=True)]

    @cached_property
    def runs_of(self) -> dict[str, list[int]]:
        """Places of the runs of every mixture."""
        found: dict[str, list[int]] = {name: [] for name in self.mixtures}
        for run, m in enumerate(self.mixture):
            found[self.mixtures[m]].append(run)
        return found

    @property
    def labels(self) -> list[str]:
        """Names of the cells, "eval|train"."""
        return ["|".join(cell) for cell in self.cells]

    @property
    def signature(self) -> tuple[object, ...]:
        """Names, and which sizes how many mixtures were run at."""
        counts = tuple((b.size, b.mixtures.start, b.mixtures.stop) for b in self.blocks)
        return tuple(self.labels), tuple(self.domains), tuple(self.sizes), counts

    @property
    def coordinates(self) -> dict[str, tuple[str, list[str]]]:
        """Names of the cells, along which nothing is drawn, and both parts of them."""
        evals, trains = (list(names) for names in zip(*self.cells, strict=True))
        return {"cell": ("cell", self.labels), "eval_set": ("cell", evals), "train_set": ("cell", trains)}

    def arrays(self) -> dict[str, Any]:
        """What the model holds as `pm.Data`, by name."""
        some = self.weights > 0
        counts = np.zeros((len(self.mixtures), len(self.evaluations)))
        np.add.at(counts, self.mixture, self.observed.T)
        return {
            "log_weights": np.log(np.where(some, self.weights, 1.0)).T,
            "some": some.T.astype(float),
            "centred": (self.weights - self.reference).T,
            "log_reference_weights": np.log(np.maximum(self.reference, np.finfo(float).tiny)),
            # Where there is none, any number above the floor.
            "loss": np.where(self.observed > 0, self.loss, 2 * self.smallest[:, self.size]),
            "observed": self.observed,
            "noise": self.noise,
            "counts": counts.T,
            "smallest": self.smallest,
            "least": self.smallest.min(axis=1),
            "folds": self.folds(self.log_params, self.log_tokens),
            "log_params": self.log_params,
            "log_tokens": self.log_tokens,
        }


def _grouped(runs: list[tuple[str, str]], sizes: list[str]) -> tuple[list[str], list[tuple[list[str], list[Block]]]]:
    """Mixtures in the order of the sizes that they were run at, and by these their names and blocks of runs."""
    of_mixture: dict[str, set[int]] = {}
    for size, name in runs:
        of_mixture.setdefault(name, set()).add(sizes.index(size))
    alike: dict[tuple[int, ...], list[str]] = {}
    for name in sorted(of_mixture):
        alike.setdefault(tuple(sorted(of_mixture[name])), []).append(name)
    found, mixture, run = [], 0, 0
    for pattern in sorted(alike):
        names = alike[pattern]
        own = slice(mixture, mixture + len(names))
        starts = [run + i * len(names) for i in range(len(pattern))]
        found.append((names, [Block(s, own, slice(r, r + len(names))) for s, r in zip(pattern, starts, strict=True)]))
        mixture, run = own.stop, run + len(pattern) * len(names)
    return [name for names, _ in found for name in names], found
