"""Draws as arrays: chains joined, thinned, and summarised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.laws.scaling import Law
from bayes_l2l.posterior.posterior import Posterior

if TYPE_CHECKING:
    import xarray as xr

Floats = npt.NDArray[np.float64]
Some = TypeVar("Some", bound=Posterior)

#: What a posterior holds of every law, in this order.
LAW_VARIABLES: Final = ("E", "log_A", "log_B", "alpha", "beta", "gamma", "c")
#: What it holds of every relation between two cells.
RELATION_VARIABLES: Final = ("K", "kappa", "E0", "E1")
#: Default quantiles of a table: both ends of every interval that is scored, and the median.
QUANTILES: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
#: Draws of points that are worked on at a time: a dozen arrays of 8 MB.
_AT_ONCE: Final = 1_000_000


def stacked(posterior: xr.Dataset) -> xr.Dataset:
    """Posterior with chains and draws as one dimension ``sample``, which comes first."""
    long = posterior.stack(sample=("chain", "draw"), create_index=False)
    return long.transpose("sample", ...)


def law_draws(posterior: xr.Dataset, cell: Sequence[int] | slice | int) -> Law:
    """Law of a cell (arrays of shape (sample,)) or of several (sample, cell) from stacked draws."""
    if "log_A" not in posterior:
        raise DataError("This model relates losses to each other and has no laws: fit the joint model for them.")
    return Law(**{name: posterior[name].to_numpy()[:, cell] for name in LAW_VARIABLES})


def thinned(posterior: Some, most: int) -> Some:
    """The posterior with every so many-th draw, so that about as many are left as asked for."""
    import xarray as xr

    draws = posterior.draws
    step = draws.sizes["chain"] * draws.sizes["draw"] // most
    if step < 2:
        return posterior
    groups = {name: group.to_dataset() for name, group in posterior.tree.children.items()}
    return replace(
        posterior, tree=xr.DataTree.from_dict(groups | {"posterior": draws.isel(draw=slice(None, None, step))})
    )


def parts(n: int, *, of: int) -> Iterator[slice]:
    """Slices of `n` things, each of so many numbers, that are as long as memory is to hold at a time."""
    step = max(1, _AT_ONCE // max(of, 1))
    return (slice(start, start + step) for start in range(0, n, step))


def quantiles_of(draws: Floats, levels: float | Sequence[float] | Floats) -> Floats:
    """Quantiles of every column, without a copy of all draws.

    Parameters
    ----------
    draws : ndarray, shape (draw, column)
        What is summarised.
    levels : array-like, shape (level,) or ()
        In (0, 1).

    Returns
    -------
    ndarray, shape (level, column) or (column,)
    """
    found = [np.quantile(draws[:, part], levels, axis=0) for part in parts(draws.shape[1], of=len(draws))]
    return np.concatenate(found, axis=-1) if found else np.empty((*np.shape(levels), 0))


def summary(draws: Floats, quantiles: Sequence[float]) -> dict[str, Floats]:
    """Columns of a table that summarise draws.

    Parameters
    ----------
    draws : ndarray, shape (draw, row)
        What is summarised.
    quantiles : sequence of float
        Levels in (0, 1).

    Returns
    -------
    dict
        mean, sd, median and ``q0.05`` a level, ascending; each of shape (row,).

    Raises
    ------
    ForecastError
        If a level is not between 0 and 1.
    """
    levels = sorted(set(quantiles))
    if wrong := [q for q in levels if not 0 < q < 1]:
        raise ForecastError(f"A quantile must lie between 0 and 1, not {wrong[0]:g}.")
    values, median = quantiles_of(draws, levels), quantiles_of(draws, 0.5)
    # A part at a time: a standard deviation makes a copy of what it is of.
    sd = [draws[:, part].std(axis=0) for part in parts(draws.shape[1], of=len(draws))]
    columns = {"mean": draws.mean(axis=0), "sd": np.concatenate([*sd, np.empty(0)]), "median": median}
    return columns | {f"q{level:g}": value for level, value in zip(levels, values, strict=True)}
