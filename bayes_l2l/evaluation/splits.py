"""Split: which runs are fitted and which are then predicted, by training compute. Pure functions of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from bayes_l2l.errors import DataError, did_you_mean
from bayes_l2l.laws.scaling import LAW_PARAMETERS

if TYPE_CHECKING:
    import pandas as pd

SplitKind = Literal["hindcast", "translation"]
KINDS: Final[tuple[SplitKind, ...]] = get_args(SplitKind)

#: Runs of a new training set that are fitted with all runs of the other sets (arXiv 2411.12925, Table 2).
NEW_SET_RUNS: Final = 8
#: Tokens a parameter about which these lie.
TOKENS_A_PARAM: Final = 20.0
#: Furthest that a default cut-off lies below the largest run; forecasts are asked for at about 20 times.
FURTHEST: Final = 50.0
_APART: Final = 1.9  # least ratio of default cut-offs: budgets twice as large may scatter a little
_GAP: Final = 1.05  # least ratio of the compute of two budgets
_SPAN: Final = 4.0  # least ratio of the largest to the smallest compute that is fitted
#: The same two ratios for narrow sweeps, where these leave no cut-off: those of one factor of ten.
_NARROW: Final = (1.5, 2.0)
_RUN: Final = ["train_set", "run_id"]
_CELL: Final = ["train_set", "eval_set"]


@dataclass(frozen=True, order=True)
class Split:
    """One part to fit and one to predict.

    Parameters
    ----------
    kind : {"hindcast", "translation"}
        A hindcast is fitted to all runs up to the cut-off. A translation is fitted to `NEW_SET_RUNS` runs up to
        the cut-off of the held-out training set and to all runs, of any compute, of the others.
    cutoff : float
        Compute (FLOPs): no run above it is fitted of what is predicted.
    held_out : str
        Training set that is predicted; empty for a hindcast, which predicts all of them.
    """

    kind: SplitKind
    cutoff: float
    held_out: str = ""

    def __str__(self) -> str:
        return f"{self.kind}{' to ' if self.held_out else ''}{self.held_out} beyond {self.cutoff:.3g} FLOPs"

    def parts(self, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows to fit and rows to predict.

        Cells with fewer runs to fit than a law has parameters are left out of both.

        Parameters
        ----------
        table : pandas.DataFrame
            Long table of a `Sweep`.

        Returns
        -------
        fitted, ahead : pandas.DataFrame
            Rows of the table, of the same cells; in a translation, ``ahead`` has those of the held-out set alone.
        """
        below = table["flops"] <= self.cutoff
        if self.kind == "hindcast":
            to_fit, to_predict = below, ~below
        else:
            new = table["train_set"] == self.held_out
            to_fit, to_predict = ~new | _is_among(table, _small(table[new & below])), new & ~below
        fitted = table[to_fit]
        runs = fitted.groupby(_CELL).size()
        cells = runs[runs >= LAW_PARAMETERS].index
        ahead = table[to_predict & table.set_index(_CELL).index.isin(cells)]
        return fitted[fitted.set_index(_CELL).index.isin(cells)], ahead

    def n_ahead(self, table: pd.DataFrame) -> int:
        """Rows above the cut-off that are asked for, whether or not their cells can be fitted."""
        of_set = table["train_set"] == self.held_out if self.held_out else True
        return int(((table["flops"] > self.cutoff) & of_set).sum())


def all_splits(
    table: pd.DataFrame, *, cutoffs: Sequence[float] | None = None, kinds: Sequence[str] = KINDS
) -> tuple[Split, ...]:
    """All splits of a table: a hindcast a cut-off, and a translation a cut-off and training set.

    Parameters
    ----------
    table : pandas.DataFrame
        Long table of a `Sweep`.
    cutoffs : sequence of float, optional
        Compute in FLOPs; `default_cutoffs` if not given.
    kinds : sequence of {"hindcast", "translation"}
        Which to make.

    Returns
    -------
    tuple of Split
        Those that predict something, by kind, cut-off and held-out set.

    Raises
    ------
    DataError
        If a kind is unknown, a cut-off is no compute that leaves runs to fit and to predict, or there is no split.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise DataError(f"There are no splits of kind {kind!r}; known are {', '.join(KINDS)}"
                            f"{did_you_mean(kind, KINDS)}")  # fmt: skip
    low, high = float(table["flops"].min()), float(table["flops"].max())
    for cutoff in cutoffs or ():
        if not low <= cutoff < high:
            raise DataError(
                f"The cut-off {cutoff:.4g} FLOPs leaves nothing to fit or nothing to predict: "
                f"the runs have {low:.3g} to {high:.3g}; give one that is at least the first and below the second."
            )
    chosen = sorted(set(cutoffs)) if cutoffs else default_cutoffs(table)
    every_flops = sorted(table["flops"].unique())
    if not chosen and any(len(Split("hindcast", c).parts(table)[1]) for c in every_flops[:-1]):
        raise DataError(
            f"No cut-off suggests itself: below none of the budgets of these runs ({low:.3g} to {high:.3g} FLOPs) "
            f"do they span a factor of {_NARROW[1]:g} in compute, with {LAW_PARAMETERS} runs to fit in half of the "
            "cells above it; name one (--cutoff)."
        )
    sets = sorted(table["train_set"].unique())
    every = [Split("hindcast", c) for c in chosen if "hindcast" in kinds]
    if "translation" in kinds and len(sets) > 1:
        every += [Split("translation", c, held_out) for c in chosen for held_out in sets]
    made = tuple(split for split in every if len(split.parts(table)[1]))
    if not made:
        raise DataError(
            f"No split can be made: up to {'a cut-off' if cutoffs else 'any compute'}, no cell has "
            f"{LAW_PARAMETERS} runs to fit and runs above it to predict"
            f"{'' if len(sets) > 1 or 'hindcast' in kinds else ', or only one training set is there to translate'}."
        )
    return made


def default_cutoffs(table: pd.DataFrame) -> list[float]:
    """Budgets of a sweep after which to cut, about twice apart and at most `FURTHEST` times below its largest run.

    A budget is the compute of runs after which there is a gap; where the sweep has none, any run's compute may
    be one. Up to a cut-off, the runs span a factor of four in compute, and at least half of the losses above it
    belong to cells that have as many runs below as a law has parameters. In a sweep so narrow that it has no such
    budget, cut-offs are a factor of 1.5 apart, and the runs up to them span a factor of two.

    Parameters
    ----------
    table : pandas.DataFrame
        Long table of a `Sweep`.

    Returns
    -------
    list of float
        FLOPs, ascending; the last below the largest run. Empty if no compute will do.
    """
    return _budgets(table, apart=_APART, span=_SPAN) or _budgets(table, apart=_NARROW[0], span=_NARROW[1])


def _budgets(table: pd.DataFrame, *, apart: float, span: float) -> list[float]:
    """Cut-offs that are so far apart and leave runs of such a span."""
    flops = np.unique(table["flops"].to_numpy(dtype=float))
    tops = flops[np.append(flops[1:] > _GAP * flops[:-1], True)]
    candidates = tops if len(tops) > 2 else flops
    found: list[float] = []
    last = largest = flops[-1]
    for cutoff in candidates[::-1]:
        if cutoff * apart > last:
            continue
        last = cutoff
        ahead = Split("hindcast", cutoff)
        enough = 2 * len(ahead.parts(table)[1]) >= ahead.n_ahead(table)
        if cutoff * FURTHEST >= largest and cutoff >= span * flops[0] and enough:
            found.append(float(cutoff))
    return found[::-1]


def _small(below: pd.DataFrame) -> pd.DataFrame:
    """Runs of a new set that are fitted: those nearest to `TOKENS_A_PARAM`."""
    runs = below.drop_duplicates(_RUN)
    off = np.abs(np.log(runs["tokens"] / runs["params"] / TOKENS_A_PARAM)).round(9)
    nearest = runs.assign(_off=off).sort_values(["_off", "flops", "run_id"])
    return nearest.head(NEW_SET_RUNS)[_RUN]


def _is_among(table: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    import pandas as pd

    wanted = pd.MultiIndex.from_frame(runs)
    return pd.Series(pd.MultiIndex.from_frame(table[_RUN]).isin(wanted), index=table.index)
