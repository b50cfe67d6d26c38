"""Compute-optimal sizes: how many parameters a budget is best spent on, and what that leaves for tokens.

Everything here is a pure function of the posterior draws: nothing samples and nothing imports PyMC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.sizes import budgets_of
from bayes_l2l.display import as_html
from bayes_l2l.errors import DataError, ForecastError, did_you_mean
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN, Law
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import law_draws, stacked, summary
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.prediction.doubts import too_far
from bayes_l2l.structures.error_rate import predictor_of
from bayes_l2l.structures.protocol import Cell, structure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

#: Levels of the intervals of sizes and exponents.
LEVELS: Final = (0.05, 0.95)
#: What stands for all names in a table where all have the same sizes.
ALL: Final = "all"


def tokens_of(flops: Any, params: Any) -> Any:
    """Tokens that a budget leaves for a model size, D = C / (6 N)."""
    return flops / (FLOPS_PER_PARAM_TOKEN * params)


def laws_of(posterior: Posterior, cells: Sequence[Cell]) -> Law:
    """Draws of the laws of some cells, arrays of shape (draw, cell); an error rate has that of its predictor."""
    predictor = predictor_of(posterior.errors) if posterior.errors else {}
    of_loss = [(predictor[cell], cell[1]) if cell in predictor else cell for cell in cells]
    return law_draws(stacked(posterior.draws), [posterior.cells.index(cell) for cell in of_loss])


def optimal_params(posterior: Posterior, cells: Sequence[Cell], flops: Floats) -> Floats:
    """Draws of the compute-optimal model size of some cells, shape (budget, draw, cell).

    Parameters
    ----------
    posterior : Posterior
        Of a model with laws.
    cells : sequence of (str, str)
        (eval_set, train_set) of each.
    flops : ndarray, shape (budget,)
        Budgets C (FLOPs).

    Raises
    ------
    ForecastError
        If the model has no laws, or a budget is not positive and finite.
    """
    return _best(posterior, cells, flops, what="compute-optimal size: say params and tokens")[0]


def _best(posterior: Posterior, cells: Sequence[Cell], flops: Floats, *, what: str) -> tuple[Floats, Floats]:
    """Draws of the compute-optimal model size and of its exponent in C, each of shape (budget, draw, cell)."""
    _check_laws(posterior, what)
    if (wrong := flops[~(np.isfinite(flops) & (flops > 0))]).size:
        raise ForecastError(f"flops must be positive and finite, not {wrong[0]:g}.")
    law = laws_of(posterior, cells)
    sizes, exponents = zip(*(law.best(budget) for budget in flops), strict=True)
    return np.stack(sizes), np.stack(exponents)


def _check_laws(posterior: Posterior, what: str) -> None:
    """Refuse a model of relations."""
    if not structure_of(posterior.spec).has_laws:
        raise ForecastError(f"Model {posterior.spec.name!r} has no laws, so no {what}.")


def optimal_points(posterior: Posterior, flops: float, *, cells: Sequence[Cell]) -> pd.DataFrame:
    """Compute-optimal sizes of a budget, one row a cell: the posterior median of N*(C), and D = C / (6 N).

    Parameters
    ----------
    posterior : Posterior
        Of a model with laws.
    flops : float
        Budget C (FLOPs).
    cells : sequence of (str, str)
        (eval_set, train_set) of the cells.

    Returns
    -------
    pandas.DataFrame
        train_set, eval_set, params, tokens, flops.
    """
    import pandas as pd

    (params,) = np.median(optimal_params(posterior, cells, np.array([flops], dtype=float)), axis=1)
    evals, trains = zip(*cells, strict=True)
    sizes = {"params": params, "tokens": tokens_of(flops, params), "flops": float(flops)}
    return pd.DataFrame({"train_set": trains, "eval_set": evals, **sizes})


def optimal_path(posterior: Posterior, cell: Cell, flops: Floats) -> pd.DataFrame:
    """The same of one cell, one row a budget.

    Parameters
    ----------
    posterior : Posterior
        Of a model with laws.
    cell : (str, str)
        (eval_set, train_set).
    flops : ndarray, shape (budget,)
        Budgets C (FLOPs).

    Returns
    -------
    pandas.DataFrame
        train_set, eval_set, params, tokens, flops.
    """
    import pandas as pd

    params = np.median(optimal_params(posterior, [cell], flops)[..., 0], axis=1)
    at = pd.DataFrame({"params": params, "tokens": tokens_of(flops, params), "flops": flops})
    return at.assign(eval_set=cell[0], train_set=cell[1])


def optimal_sizes(
    posterior: Posterior, train_sets: Sequence[str], shares: Mapping[str, float], flops: Floats
) -> pd.DataFrame:
    """Compute-optimal size of every training set (outer) and budget (inner), for several evaluations at once.

    The posterior median of N*(C); of several evaluations, whose laws may differ in it, the weighted geometric mean.

    Parameters
    ----------
    posterior : Posterior
        Of a model with laws.
    train_sets : sequence of str
        Training sets.
    shares : mapping of str to float
        Weight of every evaluation.
    flops : ndarray, shape (budget,)
        Budgets C (FLOPs).

    Returns
    -------
    pandas.DataFrame
        train_set, params, tokens, flops.
    """
    import pandas as pd

    parts = []
    for train in train_sets:
        medians = np.median(optimal_params(posterior, [(name, train) for name in shares], flops), axis=1)
        params = np.exp(np.log(medians) @ list(shares.values()))
        parts.append(pd.DataFrame({"train_set": train, "params": params, "flops": flops}))
    sizes = pd.concat(parts, ignore_index=True)
    return sizes.assign(tokens=tokens_of(sizes["flops"], sizes["params"]))


@dataclass(frozen=True, eq=False, repr=False)
class Optimum:
    """Draws of compute-optimal sizes for budgets; made by `Fit.optimum`.

    Parameters
    ----------
    cells : list of (str, str)
        (eval_set, train_set) of each.
    flops : ndarray, shape (budget,)
        Budgets C (FLOPs), ascending.
    params : ndarray, shape (budget, draw, cell)
        N*(C), the model size with the lowest loss of all that the budget can pay for.
    exponents : ndarray, shape (budget, draw, cell)
        d log N* / d log C at each budget; that of D* is 1 less this.
    fit : Posterior
        Where the draws come from.
    notes : tuple of Note
        Objections to the fit and to these sizes.
    """

    cells: list[Cell]
    flops: Floats
    params: Floats
    exponents: Floats
    fit: Posterior
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        return f"<Optimum of {len(self.flops)} budgets, {len(self.cells)} cells, {self.params.shape[1]} draws>"

    def _repr_html_(self) -> str:
        table = self.table()
        kept = [
            name for name in map(str, table) if not name.startswith(("tokens_q", "tokens_exponent"))
        ]  # the others tell them
        return as_html(repr(self)[1:-1], said=str(self).splitlines(), table=table[kept], notes=self.notes)

    @property
    def tokens(self) -> Floats:
        """D*(C) = C / (6 N*), shape (budget, draw, cell)."""
        return np.asarray(tokens_of(self.flops[:, None, None], self.params))

    @property
    def tokens_per_param(self) -> Floats:
        """D*/N*, shape (budget, draw, cell)."""
        return np.asarray(self.tokens / self.params)

    @property
    def shared(self) -> bool:
        """Whether all cells have the same sizes in every draw, as a model that they share R in assumes."""
        return len(self.cells) > 1 and np.allclose(self.params, self.params[..., :1], rtol=1e-6)

    def table(self, *, quantiles: Sequence[float] = LEVELS) -> pd.DataFrame:
        """Sizes with their intervals.

        Parameters
        ----------
        quantiles : sequence of float
            Levels in (0, 1).

        Returns
        -------
        pandas.DataFrame
            One row a cell and budget: train_set, eval_set, flops, the medians params, tokens, tokens_per_param,
            params_exponent and tokens_exponent (of N* and D* in C), a column such as ``params_q0.05`` for each of
            them and each level, and extrapolation (budget over the largest fitted compute). Where all cells have the
            same sizes they are said once, of ``all``.

        Raises
        ------
        ForecastError
            If a level is not between 0 and 1.
        """
        import pandas as pd

        parts = [
            self._rows(place, cell, quantiles) for place, cell in enumerate(self.cells[: 1 if self.shared else None])
        ]
        table = pd.concat(parts, ignore_index=True)
        return table.assign(train_set=ALL, eval_set=ALL) if self.shared else table

    def _rows(self, place: int, cell: Cell, quantiles: Sequence[float]) -> pd.DataFrame:
        """Rows of a cell."""
        import pandas as pd

        draws = {"params": self.params, "tokens": self.tokens, "tokens_per_param": self.tokens_per_param}
        draws |= {"params_exponent": self.exponents, "tokens_exponent": 1 - self.exponents}
        found = {name: summary(values[..., place].T, quantiles) for name, values in draws.items()}
        medians = {name: levels["median"] for name, levels in found.items()}
        ends = {f"{n}_{q}": v for n, levels in found.items() for q, v in levels.items() if q.startswith("q")}
        known = self.fit.max_flops
        largest = max(known.values()) if self.shared else known[cell[1]]
        names = pd.DataFrame({"train_set": cell[1], "eval_set": cell[0], "flops": self.flops})
        return names.assign(**medians, **ends, extrapolation=self.flops / largest)

    def plot(self, **options: Any) -> Figure:
        """Draw loss against model size, a curve a budget, with its minimum (see `bayes_l2l.plotting.optimum`)."""
        from bayes_l2l.plotting import optimum

        figure: Figure = optimum.isoflops(self, **options)
        return figure

    def __str__(self) -> str:
        table = self.table()
        last = table[table["flops"] == self.flops[-1]]
        return "\n".join(_sentence(row) for row in last.to_dict("records"))


def _sentence(row: Mapping[Any, Any]) -> str:
    """What a row says of how sizes grow."""
    of = "" if row["train_set"] == ALL or row["eval_set"] == row["train_set"] else f"{row['eval_set']} of "
    named = {ALL: "all training sets"}.get(row["train_set"], row["train_set"])

    def exponent(name: str) -> str:
        low, high = (row[f"{name}_exponent_q{level:g}"] for level in LEVELS)
        return f"C^{row[f'{name}_exponent']:.2f} (90% interval {low:.2f} to {high:.2f})"

    return (
        f"at {row['flops']:.3g} FLOPs, {of}{named}: N* grows as {exponent('params')}, D* as {exponent('tokens')}; "
        f"{row['tokens_per_param']:.3g} tokens per parameter ({row['tokens_per_param_q0.05']:.3g} to "
        f"{row['tokens_per_param_q0.95']:.3g})"
    )


def optimum(
    posterior: Posterior,
    flops: float | Sequence[float] | Floats | None = None,
    *,
    train_set: str | Sequence[str] | None = None,
    eval_set: str | Sequence[str] | None = None,
) -> Optimum:
    """Find the compute-optimal sizes of budgets; see `Fit.optimum`, which documents it."""
    cells = _cells(posterior, train_set, eval_set)
    _check_laws(posterior, "compute-optimal size")
    if flops is None:
        budgets = budgets_of(posterior.sweep.table["flops"].to_numpy())
    else:
        budgets = np.unique(np.asarray(flops, dtype=float).ravel())
    if not budgets.size:
        raise ForecastError("Say at least one budget (flops).")
    params, exponents = _best(posterior, cells, budgets, what="compute-optimal size")
    found = Optimum(cells, budgets, params, exponents, posterior)
    far = too_far(found.flops / max(posterior.max_flops[train] for _, train in cells), what="budgets")
    return replace(found, notes=(*posterior.notes, *_same(found), *far, *_unseen(found)))


def _cells(
    posterior: Posterior, train_set: str | Sequence[str] | None, eval_set: str | Sequence[str] | None
) -> list[Cell]:
    """Cells of these names; where no evaluation is named, of every training set its train loss, or else the first."""
    every = [*posterior.cells, *posterior.error_cells]
    kept = every
    for place, what, names in ((1, "training set", train_set), (0, "evaluation", eval_set)):
        if names is None:
            continue
        wanted, known = (
            [names] if isinstance(names, str) else list(names),
            list(dict.fromkeys(c[place] for c in every)),
        )
        if unknown := [name for name in wanted if name not in known]:
            raise DataError(
                f"The {what} {unknown[0]!r} was not fitted{did_you_mean(unknown[0], known)}; fitted are "
                f"{', '.join(sorted(known))}."
            )
        kept = [cell for cell in kept if cell[place] in wanted]
    if not kept:
        raise DataError(f"No cell was fitted for {eval_set} of {train_set}.")
    if eval_set is not None:
        return kept
    sets = dict.fromkeys(train for _, train in kept)
    return [(t, t) if (t, t) in kept else next(cell for cell in kept if cell[1] == t) for t in sets]


def _same(found: Optimum) -> tuple[Note, ...]:
    """Note that it is the model that gives all cells the same sizes, not the runs."""
    if not found.shared:
        return ()
    message = (
        f"model {found.fit.spec.name!r} assumes that all training sets and evaluations have the same compute-optimal "
        "sizes, so these are said once; --model law (model='law') fits every one by itself"
    )
    return (Note("shared_optimum", "info", message, {"cells": len(found.cells)}),)


def _unseen(found: Optimum) -> tuple[Note, ...]:
    """Note where the runs do not lie on both sides of the optimum, in tokens per parameter: no minimum was seen."""
    runs = found.fit.sweep.table
    if not found.shared:
        runs = runs[runs["train_set"].isin({train for _, train in found.cells})]
    ratio = (runs["tokens"] / runs["params"]).to_numpy()
    middle = np.median(found.tokens_per_param, axis=1)
    beyond = (middle < ratio.min()) | (middle > ratio.max())
    if not beyond.any():
        return ()
    outside, middle = found.flops[beyond.any(axis=1)], middle[beyond]
    message = (
        f"at {', '.join(f'{c:.3g}' for c in outside[:3])}{' and more' if outside.size > 3 else ''} FLOPs the optimum "
        f"has {middle.min():.3g} to {middle.max():.3g} tokens per parameter, but the runs have {ratio.min():.3g} to "
        f"{ratio.max():.3g}: no minimum was seen there, and its size rests on the form of the law"
    )
    return (Note("optimum_not_seen", "warning", message, {"flops": outside.tolist()}),)
