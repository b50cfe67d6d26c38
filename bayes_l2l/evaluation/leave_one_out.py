"""Leave-one-out: how well a fit would foretell each of its own losses, had that one been left out.

Nothing is fitted again: draws are weighted by how much the loss that is left out had moved them (Pareto-smoothed
importance sampling; Vehtari, Gelman and Gabry, 2017, arXiv 1507.04544). It judges a model amid its runs, where a
backtest judges it beyond them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.posterior.draws import thinned
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    import xarray as xr

    from bayes_l2l.posterior.posterior import Posterior

Floats = npt.NDArray[np.float64]

#: Draws that are used at most, unless others are asked for.
MOST: Final = 1000
#: Numbers of the log likelihood that are held at most; fewer draws are used of very many losses, but not fewer than
#: importance weights need.
_LARGEST: Final = 40_000_000
_FEWEST: Final = 200
#: Losses whose importance weights are smoothed at a time.
_AT_ONCE: Final = 2000


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Leave-one-out log density of every fitted loss; made by `leave_one_out`.

    Parameters
    ----------
    elpd_i : ndarray, shape (loss,)
        Expected log density of the logarithm of each loss, had it been left out.
    pareto_k : ndarray, shape (loss,)
        Shape of the tail of its importance weights: above `good_k` they are not to be relied on.
    p_loo : float
        Effective number of parameters.
    good_k : float
        Largest shape that is good, of so many draws.
    names : dict of str to ndarray
        What each loss is: eval_set, train_set and the like.
    n_draws : int
        Draws that were weighted.
    """

    elpd_i: Floats
    pareto_k: Floats
    p_loo: float
    good_k: float
    names: dict[str, Any]
    n_draws: int

    @property
    def elpd(self) -> float:
        """Sum over all losses (nats)."""
        return float(self.elpd_i.sum())

    @property
    def se(self) -> float:
        """Its standard error, as if losses were independent."""
        return standard_error(self.elpd_i)

    @property
    def n_bad(self) -> int:
        """Losses whose importance weights are not to be relied on."""
        return int((self.pareto_k > self.good_k).sum())

    def is_of_the_losses_of(self, other: LeaveOneOut) -> bool:
        """Whether another one is of the same losses, in the same order, so that the two can be compared."""
        same = self.names.keys() == other.names.keys() and len(self.elpd_i) == len(other.elpd_i)
        return same and all(np.array_equal(values, other.names[name]) for name, values in self.names.items())

    def __str__(self) -> str:
        bad = f"{self.n_bad} of {len(self.elpd_i)} losses have Pareto k above {self.good_k:.2f}"
        return f"elpd_loo {self.elpd:.1f} ± {self.se:.1f}, p_loo {self.p_loo:.1f}; {bad}"


def standard_error(pointwise: Floats) -> float:
    """Standard error of a sum of independent terms."""
    return float(np.sqrt(len(pointwise) * np.var(pointwise)))


def to_datatree(fit: Posterior, *, most: int = MOST) -> xr.DataTree:
    """The groups of a fit with one more, ``log_likelihood``, as ArviZ asks for.

    Parameters
    ----------
    fit : Posterior
        A posterior of losses.
    most : int
        Draws that are kept at most, evenly, of all groups with draws.

    Returns
    -------
    xarray.DataTree
        ``log_likelihood`` has one variable, ``loss``, dims chain, draw and observation, and in the coordinates what
        each observation is.

    Raises
    ------
    ForecastError
        If the structure of the model has no such thing.
    """
    import xarray as xr

    few = _few(fit, most)
    found = structure_of(few.spec).pointwise(few)
    size = (few.draws.sizes["chain"], few.draws.sizes["draw"])
    coordinates: dict[str, Any] = {name: few.draws[name] for name in ("chain", "draw")}
    coordinates |= {name: ("observation", np.asarray(values)) for name, values in found.names.items()}
    coordinates["weight"] = ("observation", found.weight)
    density = found.density.reshape(*size, -1)
    likelihood = xr.Dataset({"loss": (("chain", "draw", "observation"), density)}, coords=coordinates)
    groups = {name: group.to_dataset() for name, group in few.tree.children.items()}
    stats = few.sample_stats
    groups["sample_stats"] = stats.sel(draw=few.draws["draw"]) if "draw" in stats.coords else stats
    groups["posterior"] = plain(few.draws)
    return xr.DataTree.from_dict(groups | {"log_likelihood": likelihood})


def plain(draws: xr.Dataset) -> xr.Dataset:
    """Draws without coordinates that are no dimension's own, which tables of ArviZ cannot take."""
    return draws.drop_vars([name for name in draws.coords if name not in draws.indexes])


def leave_one_out(fit: Posterior, *, most: int = MOST) -> LeaveOneOut:
    """Leave every fitted loss out in turn, by importance sampling.

    A loss that counted less in the likelihood (``weight_exponent``) moved the draws less, and is left out by as much;
    it is scored as any other.

    Parameters
    ----------
    fit : Posterior
        A posterior of losses.
    most : int
        Draws that are used at most.

    Returns
    -------
    LeaveOneOut
        A number a loss, and their sum.

    Raises
    ------
    ForecastError
        If the structure of the model has no log likelihood of single losses.
    """
    few = _few(fit, most)
    found = structure_of(few.spec).pointwise(few)
    n_draws, n = found.density.shape
    efficiency = _efficiency(few)
    elpd, k, lpd = np.empty((3, n))
    for start in range(0, n, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        density = found.density[:, part].T
        log_weight, k[part] = _smoothed(-found.weight[part, None] * density, efficiency)
        elpd[part] = np.logaddexp.reduce(log_weight + density, axis=1)
        lpd[part] = np.logaddexp.reduce(density, axis=1) - np.log(n_draws)
    good = min(1 - 1 / np.log10(n_draws), 0.7)
    names = {name: np.asarray(values) for name, values in found.names.items()}
    return LeaveOneOut(elpd, k, float((lpd - elpd).sum()), good, names, n_draws)


def _few(fit: Posterior, most: int) -> Posterior:
    """The posterior with as many draws as are asked for, and as memory holds."""
    held = max(_FEWEST, _LARGEST // max(len(fit.sweep), 1))
    return thinned(fit, min(most, held))


def _efficiency(fit: Posterior) -> float:
    """How many independent draws one is worth, over all quantities that were drawn."""
    import arviz_stats

    if fit.draws.sizes["chain"] == 1:
        return 1.0
    found = arviz_stats.ess(structure_of(fit.spec).diagnosed(fit.draws), method="mean")
    worth = np.concatenate([np.ravel(values) for values in found.values()])
    n_draws = fit.draws.sizes["chain"] * fit.draws.sizes["draw"]
    return float(np.nanmean(worth) / n_draws)


def _smoothed(log_ratio: Floats, efficiency: float) -> tuple[Floats, Floats]:
    """Normalised log importance weights, Pareto-smoothed (loss, draw), and the shape of their tails (loss,)."""
    from arviz_stats.base import array_stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the shapes say it, and are counted
        log_weight, shape = array_stats.psislw(-log_ratio, r_eff=efficiency, axis=-1)
    return np.asarray(log_weight), np.asarray(shape)
