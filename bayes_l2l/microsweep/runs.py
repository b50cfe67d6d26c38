"""Runs: the models of a sweep, budgets of FLOPs and sizes within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.microsweep.transformer import CONTEXT, count_params

BATCH: Final = 4  # sequences a step
BUDGETS: Final = (1e10, 1.8e10, 3.2e10, 5.6e10, 1e11)  # FLOPs; about an hour of one core, with six corpora


@dataclass(frozen=True)
class Run:
    """One model to train.

    Parameters
    ----------
    train_set : str
        Name of its corpus.
    width : int
        Of the residual stream.
    steps : int
        Of `BATCH` sequences.
    budget : float
        FLOPs that it stands for; its own differ by the rounding of steps.
    seed : int
        Of the initial weights and of the order in which the corpus is read.
    is_large : bool
        Whether it is a large run, kept out of the grid.
    """

    train_set: str
    width: int
    steps: int
    budget: float
    seed: int = 0
    is_large: bool = False

    @property
    def params(self) -> int:
        """All parameters: those of the blocks, and the embedding, which is the output layer too."""
        return count_params(self.width)

    @property
    def tokens(self) -> int:
        """Bytes trained on."""
        return self.steps * BATCH * CONTEXT

    @property
    def flops(self) -> float:
        """Of the training: 6 N D."""
        return FLOPS_PER_PARAM_TOKEN * self.params * self.tokens

    @property
    def run_id(self) -> str:
        """Name that says all of it."""
        return f"{self.train_set}-w{self.width}-s{self.steps}-seed{self.seed}"


def grid(
    train_sets: Sequence[str],
    *,
    budgets: Sequence[float],
    sizes: int,
    tokens_per_param: float,
    span: float = 8.0,
    large_factor: float = 20.0,
    seed: int = 0,
) -> list[Run]:
    """Lay out a sweep: isoFLOP curves, then a large run a corpus.

    Budgets come in rising order and corpora alternate, so that a sweep that is cut off is balanced.

    Parameters
    ----------
    train_sets : sequence of str
        Names of the corpora.
    budgets : sequence of float
        FLOPs of the curves.
    sizes : int
        Models a budget, fewer where widths, multiples of 4, coincide; equally spaced in log N about the middle,
        where D = `tokens_per_param` N.
    tokens_per_param : float
        Bytes a parameter in the middle of the curves, and of the large runs.
    span : float, default 8
        Ratio of the largest to the smallest N of a budget.
    large_factor : float, default 20
        Compute of the large runs over the largest budget; none if 0.
    seed : int, default 0
        Of the initial weights and of the order of the data, in every run.

    Returns
    -------
    list of Run
        In the order in which they are made.
    """
    runs = []
    offsets = np.exp(np.linspace(-0.5, 0.5, sizes) * math.log(span)) if sizes > 1 else np.ones(1)
    for budget in sorted(budgets):
        middle = math.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * tokens_per_param))
        widths = dict.fromkeys(_width(middle * offset) for offset in offsets)
        runs += [_run(name, width, budget, seed) for width in widths for name in train_sets]
    if large_factor:
        budget = large_factor * max(budgets)
        width = _width(math.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * tokens_per_param)))
        runs += [_run(name, width, budget, seed, is_large=True) for name in train_sets]
    return runs


def _run(name: str, width: int, budget: float, seed: int, *, is_large: bool = False) -> Run:
    steps = max(1, round(budget / (FLOPS_PER_PARAM_TOKEN * count_params(width) * BATCH * CONTEXT)))
    return Run(name, width, steps, budget, seed, is_large)


def _width(params: float) -> int:
    """The width, of multiples of 4, whose model is nearest to this size."""
    widths = range(8, 4096, 4)
    return min(widths, key=lambda width: abs(math.log(count_params(width) / params)))
