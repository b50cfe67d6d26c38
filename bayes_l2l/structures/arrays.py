"""LossArrays: the losses of a sweep as the arrays that a model of laws conditions on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.sizes import size_labels
from bayes_l2l.errors import DataError
from bayes_l2l.laws.scaling import D0
from bayes_l2l.laws.surface import FEWEST_FOR_QUADRATIC, fit_surface

if TYPE_CHECKING:
    from bayes_l2l.data.sweep import Sweep
    from bayes_l2l.spec.likelihood import Discrepancy

Floats = npt.NDArray[np.float64]

#: The prior of c is of D0 tokens, or of so many times as many as the shortest run has seen. No study that it was
#: learned from has shorter runs than this part of D0.
_SHORTEST: Final = 20.0
#: How many times as steep as the average a cell of small runs may fall.
_STEEPER: Final = 3.0


@dataclass(frozen=True, eq=False)
class LossArrays:
    """A sweep as the arrays that a model conditions on: sizes along points, losses along points and cells.

    Parameters
    ----------
    cells : list of (str, str)
        (eval_set, train_set) of every cell.
    log_params, log_tokens : ndarray, shape (point,)
        Logarithms of N and D of every distinct size.
    log_loss, observed, noise : ndarray, shape (point, cell)
        Log loss (0 where there is none), 1 where there is one, and the known standard error of log loss.
    weight : ndarray, shape (point,)
        What a run's log-likelihood counts, (C / largest C)^weight_exponent.
    discrepancy : ndarray, shape (point,)
        Standard deviation of log R by which the law may be off at each size, from the spec.
    shift : ndarray, shape (point,)
        Mean of log R by which it is off there.
    smallest : ndarray, shape (cell,)
        Smallest loss of each cell (nats/token), or less where its runs are all smaller than the reference size: E
        and the loss at the reference are measured by it.
    reference : ndarray, shape (2,)
        Logarithms of the N and D at which the laws are parameterised: the runs' weighted middle.
    anchors : tuple of int
        Columns of the cells that decide the shape of R, in a model where not all do.
    """

    cells: list[tuple[str, str]]
    log_params: Floats
    log_tokens: Floats
    log_loss: Floats
    observed: Floats
    noise: Floats
    weight: Floats
    discrepancy: Floats
    shift: Floats
    smallest: Floats
    reference: Floats
    anchors: tuple[int, ...] = ()

    @classmethod
    def of(cls, sweep: Sweep, *, weight_exponent: float = 0.0, discrepancy: Discrepancy | None = None) -> LossArrays:
        """Arrange the losses of a sweep.

        Parameters
        ----------
        sweep : Sweep
            Its rows of metric "loss" are used.
        weight_exponent : float
            Of the likelihood's weights.
        discrepancy : Discrepancy, optional
            Of small runs.

        Returns
        -------
        LossArrays

        Raises
        ------
        DataError
            If the sweep holds no loss.
        """
        table = sweep.table[sweep.table["metric"] == "loss"]
        if not len(table):
            raise DataError(f"{sweep.name} has no losses to fit (all its rows are error rates or accuracies).")
        size = size_labels(table)
        cell = list(zip(table["eval_set"], table["train_set"], strict=True))
        # A repeated run of one size and cell becomes a point of its own.
        repeat = table.assign(_size=size).groupby(["_size", "eval_set", "train_set"]).cumcount()
        points = {key: i for i, key in enumerate(dict.fromkeys(zip(size, repeat, strict=True)))}
        cells = sorted(set(cell), key=lambda c: (c[1], c[0]))
        row = np.array([points[key] for key in zip(size, repeat, strict=True)])
        column = np.array([cells.index(c) for c in cell])
        first = np.unique(row, return_index=True)[1]
        loss = np.full((len(points), len(cells)), np.nan)
        loss[row, column] = table["loss"]
        noise = np.zeros_like(loss)
        if "loss_se" in table:
            noise[row, column] = (table["loss_se"] / table["loss"]).fillna(0.0)
        flops = table["flops"].to_numpy()[first]
        weight = (flops / flops.max()) ** weight_exponent
        log_params, log_tokens = np.log(table[["params", "tokens"]].to_numpy()[first].T)
        reference = np.average([log_params, log_tokens], axis=1, weights=weight)
        sizes = np.stack([log_params, log_tokens], axis=1) - reference
        return cls(
            cells=cells,
            log_params=log_params,
            log_tokens=log_tokens,
            log_loss=np.log(np.where(np.isnan(loss), 1.0, loss)),
            observed=(~np.isnan(loss)).astype(float),
            noise=noise,
            weight=weight,
            discrepancy=discrepancy_scale(flops / flops.max(), discrepancy),
            shift=discrepancy_shift(flops / flops.max(), discrepancy),
            smallest=np.minimum(np.nanmin(loss, axis=0), _at_reference(np.log(loss), sizes, weight)),
            reference=reference,
        )

    @property
    def labels(self) -> list[str]:
        """Names of the cells, "eval|train"."""
        return ["|".join(cell) for cell in self.cells]

    @property
    def signature(self) -> tuple[object, ...]:
        """Cells, and which of them are anchors."""
        return tuple(self.labels), self.anchors

    def only(self, columns: Sequence[int]) -> LossArrays:
        """The same points with these cells alone."""
        along = {name: getattr(self, name)[:, columns] for name in ("log_loss", "observed", "noise")}
        cells = [self.cells[i] for i in columns]
        return replace(self, cells=cells, smallest=self.smallest[list(columns)], **along)

    @property
    def short(self) -> Floats:
        """Tokens that the prior of c is of, over D0: 1, or less where runs see far fewer.

        What runs are worse by when they are short is due to their warm-up, which sweeps of tiny models have of their
        own length: it is measured by their shortest run.
        """
        return np.asarray(np.minimum(1.0, _SHORTEST * np.exp(self.log_tokens.min() - np.log(D0))))

    @property
    def coordinates(self) -> dict[str, tuple[str, list[str]]]:
        """Names along the posterior's dimension ``cell``, and both parts of them."""
        evals, trains = (list(names) for names in zip(*self.cells, strict=True))
        return {"cell": ("cell", self.labels), "eval_set": ("cell", evals), "train_set": ("cell", trains)}

    def arrays(self) -> dict[str, Any]:
        """What the model holds as `pm.Data`, by name: losses one by one, cell by cell, with the places of both."""
        cell, point = np.nonzero(self.observed.T)
        names = ("log_params", "log_tokens", "weight", "discrepancy", "shift", "smallest", "reference", "short")
        runs = {name: getattr(self, name)[point, cell] for name in ("log_loss", "noise")}
        return {name: getattr(self, name) for name in names} | runs | {"point_index": point, "cell_index": cell}


def _at_reference(log_loss: Floats, sizes: Floats, weight: Floats) -> Floats:
    """Loss that every cell may be down to at the reference size: its mean, gone on steeply from its middle.

    The slopes in log N and log D are common to all cells, so that a cell of few runs has them, too; one whose runs
    are all small may fall more steeply.

    Parameters
    ----------
    log_loss : ndarray, shape (point, cell)
        NaN where there is none.
    sizes : ndarray, shape (point, 2)
        Logarithms of N and D, less those of the reference.
    weight : ndarray, shape (point,)
        As for the reference, which is the middle of a cell with all runs.
    """
    seen = ~np.isnan(log_loss)
    part = weight[:, None] * seen / (weight[:, None] * seen).sum(axis=0)
    level, middle = (part * np.where(seen, log_loss, 0.0)).sum(axis=0), part.T @ sizes
    x, y = (sizes[:, None, :] - middle)[seen], (log_loss - level)[seen]
    root = np.sqrt(np.broadcast_to(weight[:, None], seen.shape)[seen])
    slopes = np.linalg.lstsq(root[:, None] * x, root * y, rcond=None)[0]
    return np.asarray(np.exp(level - _STEEPER * middle @ slopes))


def discrepancy_scale(relative_flops: Floats, discrepancy: Discrepancy | None) -> Floats:
    """Standard deviation of log R by which the law may be off, at compute relative to the largest fitted.

    ``at_largest (C / largest C)^-rate`` for large runs, levelling off at ``cap`` for small ones.
    """
    if discrepancy is None:
        return np.zeros_like(relative_flops)
    free = discrepancy.at_largest * relative_flops**-discrepancy.rate
    return np.asarray(1 / np.hypot(1 / free, 1 / discrepancy.cap))


def discrepancy_shift(relative_flops: Floats, discrepancy: Discrepancy | None) -> Floats:
    """Mean of log R by which the law is off there, its standard deviation times the model's ``mean``."""
    mean = 0.0 if discrepancy is None else discrepancy.mean
    return mean * discrepancy_scale(relative_flops, discrepancy)


def anchors(data: LossArrays) -> tuple[int, ...]:
    """Columns of the cells that decide R: of every training set its train loss.

    A training set whose train loss was not measured is represented by its smoothest evaluation: the one with the
    smallest scatter about a quadratic surface of log loss in log N and log D.

    Parameters
    ----------
    data : LossArrays
        All cells.

    Returns
    -------
    tuple of int
        One column a training set, ascending.
    """
    columns: dict[str, list[int]] = {}
    for i, (_, train_set) in enumerate(data.cells):
        columns.setdefault(train_set, []).append(i)
    own = {train: [i for i in cells if data.cells[i][0] == train] for train, cells in columns.items()}
    return tuple(
        sorted((own[t] or [min(cells, key=lambda i: _roughness(data, i))])[0] for t, cells in columns.items())
    )


def _roughness(data: LossArrays, column: int) -> tuple[bool, float]:
    """Scatter of a cell about a quadratic surface; cells with too few runs come last, fewest last."""
    seen = data.observed[:, column] > 0
    if seen.sum() < FEWEST_FOR_QUADRATIC:
        return True, -float(seen.sum())
    surface = fit_surface(data.log_params[seen], data.log_tokens[seen], data.log_loss[seen, column])
    return False, surface.residual_scale**2
