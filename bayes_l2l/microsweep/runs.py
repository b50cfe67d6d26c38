"""Runs: the models of a sweep, budgets of FLOPs, sizes within a budget, and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.microsweep.transformer import CONTEXT, HEADS, count_params

BUDGETS: Final = (1e10, 3.2e10, 1e11, 3.2e11)  # FLOPs
TOKENS_PER_PARAM: Final = 8.0  # in the middle of the curves, and of the large runs
LARGE_FACTORS: Final = (20.0,)  # of the largest budget
MIXED: Final = "+"  # between the names of what a training set mixes
_STEP: Final = 2 * HEADS  # of widths: rotary positions turn pairs


@dataclass(frozen=True)
class Run:
    """One model to train.

    Parameters
    ----------
    corpora : tuple of str
        What it is trained on: one corpus, or several mixed in equal parts.
    width : int
        Of the residual stream.
    batch : int
        Sequences a step.
    steps : int
        Of the optimizer.
    budget : float
        FLOPs that it stands for; its own differ by the rounding of steps.
    seed : int
        Of the initial weights and of the order in which the corpora are read.
    is_large : bool
        Whether it is a large run, kept out of the grid.
    """

    corpora: tuple[str, ...]
    width: int
    batch: int
    steps: int
    budget: float
    seed: int = 0
    is_large: bool = False

    @property
    def train_set(self) -> str:
        """Name of what it is trained on."""
        return MIXED.join(self.corpora)

    @property
    def params(self) -> int:
        """All parameters: those of the blocks, and the embedding, which is the output layer too."""
        return count_params(self.width)

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self.steps * self.batch * CONTEXT

    @property
    def flops(self) -> float:
        """Of the training: 6 N D."""
        return FLOPS_PER_PARAM_TOKEN * self.params * self.tokens

    @property
    def run_id(self) -> str:
        """Name that says all of it."""
        return f"{self.train_set}-w{self.width}-b{self.batch}-s{self.steps}-seed{self.seed}"


def grid(
    train_sets: Iterable[Sequence[str]],
    *,
    budgets: Sequence[float],
    sizes: int,
    tokens_per_param: float = TOKENS_PER_PARAM,
    span: float = 8.0,
    large_factors: Sequence[float] = LARGE_FACTORS,
    seed: int = 0,
    seeds: int = 1,
) -> list[Run]:
    """Lay out a sweep: isoFLOP curves, then large runs.

    Budgets come in rising order and training sets alternate, so that a sweep that is cut off is balanced; all of the
    first seed is there, the large runs too, before the next one begins.

    Parameters
    ----------
    train_sets : iterable of sequence of str
        Names of the corpora of each training set; of several, it is their mixture in equal parts.
    budgets : sequence of float
        FLOPs of the curves.
    sizes : int
        Models a budget, about equally spaced in log N (widths are multiples of 4) about the middle, where
        D = `tokens_per_param` N.
    tokens_per_param : float
        Tokens a parameter in the middle of the curves, and of the large runs.
    span : float, default 8
        Ratio of the largest to the smallest N of a budget.
    large_factors : sequence of float
        Compute of the large runs over the largest budget.
    seed : int, default 0
        Of the initial weights and of the order of the data, in every run.
    seeds : int, default 1
        Models a cell of the grid; their seeds go up from `seed`. Large runs have the first alone.

    Returns
    -------
    list of Run
        In the order in which they are made.
    """
    sets = [tuple(names) for names in train_sets]
    offsets = np.exp(np.linspace(-0.5, 0.5, sizes) * math.log(span)) if sizes > 1 else np.ones(1)
    small, large = [], []
    for budget in sorted(budgets):
        middle = math.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * tokens_per_param))
        widths = _apart([_width(middle * offset) for offset in offsets])
        small += [_run(names, width, budget, seed) for width in widths for names in sets]
    for factor in sorted(large_factors):
        budget = factor * max(budgets)
        width = _width(math.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * tokens_per_param)))
        large += [replace(_run(names, width, budget, seed), is_large=True) for names in sets]
    repeats = [replace(run, seed=seed + i) for i in range(1, seeds) for run in small]
    return small + large + repeats


def tokens_needed(runs: Iterable[Run]) -> dict[str, int]:
    """Tokens of each corpus that the largest run on it reads.

    Parameters
    ----------
    runs : iterable of Run
        What is to be trained.

    Returns
    -------
    dict of str to int
        By corpus; a window's last token, which is only predicted, included.
    """
    needed: dict[str, int] = {}
    for run in runs:
        windows = math.ceil(run.batch * run.steps / len(run.corpora))
        for name in run.corpora:
            needed[name] = max(needed.get(name, 0), windows * CONTEXT + 1)
    return needed


def _run(names: tuple[str, ...], width: int, budget: float, seed: int) -> Run:
    tokens = budget / (FLOPS_PER_PARAM_TOKEN * count_params(width))
    batch = batch_for(tokens)
    return Run(names, width, batch, max(1, round(tokens / (batch * CONTEXT))), budget, seed)


def batch_for(tokens: float) -> int:
    """Sequences a step, by the length of a run: longer runs want larger steps."""
    return max(2, round(8 * math.pow(tokens / 5e5, 0.4)))


def _apart(widths: Sequence[int]) -> list[int]:
    """Rising widths, those that coincide with the one before moved to the next."""
    apart: list[int] = []
    for width in widths:
        apart.append(max(width, apart[-1] + _STEP if apart else 0))
    return apart


def _width(params: float) -> int:
    """The width, of multiples of 4, whose model is nearest to this size."""
    widths = range(_STEP, 4096, _STEP)
    return min(widths, key=lambda width: abs(math.log(count_params(width) / params)))
