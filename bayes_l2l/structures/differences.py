"""How training sets differ on one evaluation beyond their runs: as they were seen to among the largest ones.

At equal sizes what two training sets show of an evaluation is their difference: what a size deviates by, and what is
unknown of the evaluation's curve, cancels. Laws that are fitted cell by cell say badly how differences go on: from
small runs they let curves cross without evidence. A population of differences says more: on one evaluation the
difference of log loss hardly changes with compute. So the mean of the logarithms of the laws is believed, and the
differences from it are regressed on log compute, with that population as the prior of their slopes. Runs count by
their compute, for differences among the smallest runs are another matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.spec.likelihood import DifferenceSpec
from bayes_l2l.structures.arrays import LossArrays

Floats = npt.NDArray[np.float64]

#: Standard deviation that levels of differences have before anything is seen: the runs know them.
_LEVEL: Final = 1.0
#: Weights below this are none.
_LEAST: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences of log loss between the cells of one evaluation, a normal posterior.

    Parameters
    ----------
    columns : list of int
        Cells that are compared.
    middle : float
        Logarithm of the compute (FLOPs) at which differences have their level.
    largest : float
        That of the largest compute that one of the cells was fitted on.
    mean : ndarray, shape (2 cell,)
        Levels, and changes for every factor e of compute, both less their means over the cells.
    factor : ndarray, shape (2 cell, 2 cell)
        A root F of their covariance F F'.
    weight_exponent : float
        Of the weight of runs.
    """

    columns: list[int]
    middle: float
    largest: float
    mean: Floats
    factor: Floats
    weight_exponent: float

    def weight(self, log_flops: Floats) -> Floats:
        """How far differences are believed rather than laws at each compute: as much as runs of it count."""
        return np.exp(self.weight_exponent * np.minimum(log_flops - self.largest, 0.0))

    def drawn(self, normal: Floats, log_flops: Floats, cell: npt.NDArray[np.int_]) -> Floats:
        """Draws of differences at points.

        Parameters
        ----------
        normal : ndarray, shape (draw, 2 cell)
            Standard normal.
        log_flops : ndarray, shape (point,)
            Logarithm of compute (FLOPs).
        cell : ndarray of int, shape (point,)
            Place among `columns`.

        Returns
        -------
        ndarray, shape (draw, point)
        """
        both = self.mean + normal @ self.factor.T
        level, change = both[:, : len(self.columns)], both[:, len(self.columns) :]
        return np.asarray(level[:, cell] + change[:, cell] * (log_flops - self.middle))


def differences(
    data: LossArrays,
    groups: Sequence[Sequence[int]],
    *,
    log_law: Floats,
    residual_scale: Floats,
    given: DifferenceSpec,
) -> list[Differences]:
    """Differences of log loss within groups of cells.

    Parameters
    ----------
    data : LossArrays
        What was run.
    groups : sequence of sequence of int
        Cells (columns) of one evaluation each, that are compared with each other.
    log_law : ndarray, shape (point, cell)
        Logarithm of every cell's law at the sizes of the runs.
    residual_scale : ndarray, shape (cell,)
        What runs of each cell scatter about it.
    given : DifferenceSpec
        What is believed of differences.

    Returns
    -------
    list of Differences
        One a group in which two cells or more have runs that count together as much as one of the largest compute
        of the group.
    """
    log_flops = np.log(FLOPS_PER_PARAM_TOKEN) + data.log_params + data.log_tokens
    found = []
    for group in groups:
        seen = data.observed[:, group] > 0
        largest = log_flops[seen.any(axis=1)].max()
        weight = np.exp(given.weight_exponent * (log_flops - largest))
        columns = [column for column, own in zip(group, seen.T, strict=True) if weight[own].sum() >= 1 - 1e-6]
        if len(columns) > 1:
            mean, factor, middle = _regressed(data, columns, log_flops, weight, log_law, residual_scale, given)
            found.append(Differences(columns, middle, largest, mean, factor, given.weight_exponent))
    return found


def _regressed(
    data: LossArrays,
    columns: list[int],
    log_flops: Floats,
    weight: Floats,
    log_law: Floats,
    residual_scale: Floats,
    given: DifferenceSpec,
) -> tuple[Floats, Floats, float]:
    """Mean and root of the covariance of levels and changes, and the logarithm of compute of the levels."""
    n, seen = len(columns), data.observed[:, columns] > 0
    loss, law = data.log_loss[:, columns], log_law[:, columns]
    # What all runs of a size deviate by from their laws is no difference.
    together = np.where(seen, loss - law, 0.0).sum(axis=1) / (seen.sum(axis=1) + 1)
    point, cell = np.nonzero(seen)
    above = loss[point, cell] - (law.mean(axis=1) + together)[point]
    middle = float(np.average(log_flops[point], weights=weight[point]))
    design = np.zeros((len(point), 2 * n))
    design[np.arange(len(point)), cell] = 1.0
    design[np.arange(len(point)), n + cell] = log_flops[point] - middle
    counts = given.counts * weight[point] / residual_scale[np.asarray(columns)[cell]] ** 2
    precision = (design * counts[:, None]).T @ design
    precision += np.diag(np.repeat([_LEVEL**-2, given.change**-2], n))
    covariance = np.linalg.inv(precision)
    mean = covariance @ (design.T @ (counts * above))
    # Their means over the cells are those of the laws.
    centred = np.kron(np.eye(2), np.eye(n) - 1 / n)
    return centred @ mean, centred @ np.linalg.cholesky(covariance), middle


def departure(
    found: Differences,
    *,
    log_law: Callable[[int, npt.NDArray[np.int_]], Floats],
    column: npt.NDArray[np.int_],
    log_flops: Floats,
    normal: Floats,
) -> tuple[npt.NDArray[np.int_], Floats]:
    """How far the cells of a group depart from their own laws at points.

    Parameters
    ----------
    found : Differences
        Of the group.
    log_law : callable
        Draws of the logarithm of a cell's law at points, shape (draw, point).
    column : ndarray of int, shape (point,)
        Cell of every point.
    log_flops : ndarray, shape (point,)
        Logarithm of compute (FLOPs).
    normal : ndarray, shape (draw, 2 cell)
        Standard normal.

    Returns
    -------
    places : ndarray of int, shape (place,)
        Points of these cells near the largest compute and beyond.
    departures : ndarray, shape (draw, place)
        Of log loss.
    """
    weight = found.weight(log_flops)
    places = np.flatnonzero(np.isin(column, found.columns) & (weight > _LEAST))
    if not len(places):
        return places, np.empty((len(normal), 0))
    cell = np.searchsorted(found.columns, column[places])
    common = sum(log_law(one, places) for one in found.columns) / len(found.columns)
    own = np.empty_like(common)
    for k, one in enumerate(found.columns):
        own[:, cell == k] = log_law(one, places[cell == k])
    return places, weight[places] * (common + found.drawn(normal, log_flops[places], cell) - own)


def groups_of(cells: Sequence[tuple[str, str]], apart: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Columns of the cells of every evaluation, those that are set `apart` on their own."""
    found: dict[tuple[str, bool], list[int]] = {}
    for column, ((evaluation, _), alone) in enumerate(zip(cells, apart, strict=True)):
        found.setdefault((evaluation, bool(alone)), []).append(column)
    return [group for group in found.values() if len(group) > 1]
