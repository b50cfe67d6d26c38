"""Choice: which training set has the lowest loss for a budget, how sure that is, and where the answer changes.

Training sets are compared draw by draw, so that what is uncertain about all of them cancels. Everything here is a
pure function of the posterior draws: nothing samples and nothing imports PyMC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError, ForecastError, did_you_mean
from bayes_l2l.forecast import QUANTILES, Kind, forecast, law_draws, one_way, stacked, summary, thinned
from bayes_l2l.laws import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bayes_l2l.fits import Fit
    from bayes_l2l.plan import Plan

Floats = npt.NDArray[np.float64]

#: A choice is decided when its best training set is the best with at least this probability.
DECIDED: Final = 0.9
#: Part of the budget asked about that runs may cost which are to decide it, unless another is named.
PART_TO_DECIDE: Final = 0.1
#: A run that takes less than this part off the regret does not tell much.
MUCH: Final = 0.05
#: The answer is followed from the smallest fitted compute to this many times the budget.
BEYOND: Final = 10.0
#: Crossings less probable than this are not told.
WORTH_TELLING: Final = 0.1
#: Draws that curves along compute, and plans, are made from at most; about so many.
DRAWS: Final = 2000
_BUDGETS: Final = 30


@dataclass(frozen=True, eq=False, repr=False)
class Choice:
    """Draws of the weighted loss of every training set at one budget, and along compute; made by `Fit.choose`.

    Parameters
    ----------
    points : pandas.DataFrame
        One row a training set: train_set, params, tokens, flops, extrapolation.
    draws : ndarray, shape (draw, train_set)
        Weighted mean of the losses on the evaluations (nats/token). Draws of one row belong together.
    shares : mapping of str to float
        Weight of every evaluation; they sum to 1.
    kind : {"run", "curve"}
        Whether runs that scatter about their laws are compared, or the laws.
    scatter : ndarray, shape (train_set,)
        What one run of each scatters on its own (standard deviation, nats/token).
    budgets : ndarray, shape (budget,)
        Compute (FLOPs) along which the laws are compared.
    curves : ndarray, shape (some draw, budget, train_set)
        Weighted loss of the laws along it (nats/token), of about `DRAWS` draws.
    fit : Fit
        Where the draws come from.
    notes : tuple of Note
        Objections to the fit and to these sizes.
    """

    points: pd.DataFrame
    draws: Floats
    shares: Mapping[str, float]
    kind: Kind
    scatter: Floats
    budgets: Floats
    curves: Floats
    fit: Fit = field(repr=False)
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        return f"<Choice among {len(self.points)} training sets on {', '.join(self.shares)}, {len(self.draws)} draws>"

    @property
    def train_sets(self) -> list[str]:
        """Training sets, in the order of the draws."""
        return [str(name) for name in self.points["train_set"]]

    @cached_property
    def p_best(self) -> pd.Series[float]:
        """Probability that each training set has the lowest loss of all; they sum to 1."""
        return self._by_set(best(self.draws))

    @cached_property
    def regret(self) -> pd.Series[float]:
        """Expected regret of each: how much higher its loss is than the lowest, on average (nats/token)."""
        return self._by_set((self.draws - self.draws.min(axis=1, keepdims=True)).mean(axis=0))

    @cached_property
    def p_better(self) -> pd.DataFrame:
        """Probability that the training set of the row has a lower loss than that of the column."""
        import pandas as pd

        a, b = self.draws[:, :, None], self.draws[:, None, :]
        return pd.DataFrame((a < b).mean(axis=0) + (a == b).mean(axis=0) / 2, self.train_sets, self.train_sets)

    @property
    def best(self) -> str:
        """Training set with the lowest expected loss, which has the lowest expected regret, too."""
        return self.train_sets[int(np.argmin(self.draws.mean(axis=0)))]

    @property
    def decided(self) -> bool:
        """Whether `best` is the best with probability `DECIDED` or more."""
        return bool(self.p_best[self.best] >= DECIDED)

    @property
    def matters(self) -> bool:
        """Whether the expected regret of `best` is more than what a run of it scatters."""
        return bool(self.regret[self.best] > self.scatter[self.train_sets.index(self.best)])

    def table(self, *, quantiles: Sequence[float] = QUANTILES) -> pd.DataFrame:
        """Summarise every training set, the best first.

        Parameters
        ----------
        quantiles : sequence of float
            Levels in (0, 1) of the weighted loss.

        Returns
        -------
        pandas.DataFrame
            train_set, params, tokens, flops, kind, mean, sd, a column ``q0.05`` a level (``median`` besides),
            p_best, regret, p_better_than_best (that it beats the one in the first row), extrapolation; losses and
            regret in nats/token.

        Raises
        ------
        ForecastError
            If a level is not between 0 and 1.
        """
        import pandas as pd

        levels = pd.DataFrame(summary(self.draws, quantiles), index=self.points.index)
        chances = {
            "p_best": self.p_best.to_numpy(),
            "regret": self.regret.to_numpy(),
            "p_better_than_best": self.p_better[self.best].to_numpy(),
        }
        sizes = self.points[["train_set", "params", "tokens", "flops"]].assign(kind=self.kind)
        table = pd.concat([sizes, levels, pd.DataFrame(chances), self.points[["extrapolation"]]], axis=1)
        return table.sort_values("mean", ignore_index=True)

    def pairs(self) -> pd.DataFrame:
        """Compare every training set with every other.

        Returns
        -------
        pandas.DataFrame
            One row a pair, the one with the lower expected loss first: train_set, rival, p_better, and what it is
            lower by in nats/token: mean, q0.05, median, q0.95.
        """
        import pandas as pd

        order, names, rows = np.argsort(self.draws.mean(axis=0)), self.train_sets, []
        for place, a in enumerate(order):
            for b in order[place + 1 :]:
                gap = summary((self.draws[:, b] - self.draws[:, a])[:, None], [0.05, 0.95])
                row = {"train_set": names[a], "rival": names[b], "p_better": self.p_better.iloc[a, b]}
                rows.append(row | {k: float(gap[k][0]) for k in ("mean", "q0.05", "median", "q0.95")})
        return pd.DataFrame(rows)

    def crossings(self) -> pd.DataFrame:
        """Say where in compute one training set's law overtakes another's.

        Returns
        -------
        pandas.DataFrame
            One row an ordered pair, the most probable first: below, above (better at the lower and at the upper end
            of `budgets`), probability, and the compute in FLOPs from which on ``above`` is better where it is so:
            q0.05, median, q0.95. Pairs that cross in no draw are left out.
        """
        import pandas as pd

        rows = []
        for i, below in enumerate(self.train_sets):
            for j, above in enumerate(self.train_sets):
                at = overtaken(self.budgets, self.curves[:, :, j] - self.curves[:, :, i]) if i != j else np.empty(0)
                if at.size:
                    levels = dict(zip(("q0.05", "median", "q0.95"), np.quantile(at, [0.05, 0.5, 0.95]), strict=True))
                    rows.append({"below": below, "above": above, "probability": at.size / len(self.curves)} | levels)
        names = ["below", "above", "probability", "q0.05", "median", "q0.95"]
        return pd.DataFrame(rows, columns=names).sort_values("probability", ascending=False, ignore_index=True)

    @cached_property
    def p_best_along(self) -> pd.DataFrame:
        """Probability that each training set's law is the best (columns), at every budget (rows, FLOPs)."""
        import pandas as pd

        along = np.stack([best(self.curves[:, i]) for i in range(len(self.budgets))])
        return pd.DataFrame(along, pd.Index(self.budgets, name="flops"), self.train_sets)

    def plan(self, *, budget: float | None = None, **options: Any) -> Plan:
        """Plan runs that decide it.

        Parameters
        ----------
        budget : float, optional
            What they may cost together (FLOPs); a tenth of the largest run compared here by default.
        **options
            Of `Fit.plan`.

        Returns
        -------
        Plan
            Whose goal is this choice.
        """
        from bayes_l2l.plan import plan

        return plan(self.fit, goal=self, budget=budget or PART_TO_DECIDE * self.points["flops"].max(), **options)

    @cached_property
    def next_run(self) -> pd.Series[Any]:
        """The one run that is expected to lower the regret most, a row of `Plan.candidates`."""
        return self.plan(runs=1).candidates.sort_values("reduction", ascending=False).iloc[0]

    def plot(self, **options: Any) -> Figure:
        """Draw how far training sets are apart, and the best along compute (see `bayes_l2l.advice.choice`)."""
        from bayes_l2l import advice

        figure: Figure = advice.choice(self, **options)
        return figure

    def __str__(self) -> str:
        return "\n".join([self._verdict(), *self._overtaking(), *([] if self.decided else [self._next()])])

    def _verdict(self) -> str:
        table = self.table(quantiles=[0.5])
        first, second = table.iloc[0], table.iloc[1]
        where = " and ".join(name if w == 1 else f"{name} (weight {w:.3g})" for name, w in self.shares.items())
        size = f"{first['params']:.3g} parameters and {first['tokens']:.3g} tokens"
        state = "decided" if self.decided else "not decided"
        text = (
            f"{state}: {first['train_set']} for the lowest loss on {where} at {first['flops']:.3g} FLOPs ({size}): "
            f"best with probability {first['p_best']:.2f}, expected regret {first['regret']:.2g} nats/token; "
            f"{second['train_set']} is better with probability {second['p_better_than_best']:.2f}"
        )
        if not self.decided and not self.matters:
            text += ". It hardly matters: runs of one training set scatter more than this regret"
        return text

    def _overtaking(self) -> list[str]:
        """Crossings of the best with others that are worth telling."""
        found = self.crossings()
        if found.empty:
            return []
        mine = (found["below"] == self.best) | (found["above"] == self.best)
        found = found[mine & (found["probability"] >= WORTH_TELLING)]
        return [
            f"below {row.median:.2g} FLOPs {row.below}, above it {row.above}: probability {row.probability:.2f} "
            f"(90% interval of the crossing {low:.2g} to {high:.2g})"
            for row, low, high in zip(found.itertuples(), found["q0.05"], found["q0.95"], strict=True)
        ]

    def _next(self) -> str:
        run, budget = self.next_run, PART_TO_DECIDE * self.points["flops"].max()
        what = f"{run['train_set']}, {run['params']:.3g} parameters and {run['tokens']:.3g} tokens"
        if run["reduction"] < MUCH:
            return f"no single run of at most {budget:.2g} FLOPs would tell much, {what} the most of all"
        return (
            f"of the runs of at most {budget:.2g} FLOPs this would tell most: {what} ({run['flops']:.2g} FLOPs); it "
            f"leaves an expected regret of {run['after']:.2g}, or of "
            f"{(1 - run['reduction']) * self.regret[self.best]:.2g} if it confirms today's means"
        )

    def _by_set(self, values: Floats) -> pd.Series[float]:
        import pandas as pd

        return pd.Series(values, index=self.train_sets)


def choose(
    fit: Fit,
    *,
    eval_set: str | Sequence[str],
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    weights: Mapping[str, float] | Sequence[float] | None = None,
    train_set: Sequence[str] | None = None,
    kind: Kind = "run",
) -> Choice:
    """Compare training sets by their weighted loss on evaluations; see `Fit.choose`, which documents it."""
    if not one_way(flops, params, tokens):
        raise ForecastError("Say for what size to choose: flops, or both params and tokens.")
    shares = _shares([eval_set] if isinstance(eval_set, str) else list(eval_set), weights)
    sets = _candidates(fit, list(shares), train_set)
    if flops is not None:
        size = optimal_sizes(fit, sets, shares, np.array([flops]))
    else:
        size = _fixed(sets, np.array([params]), np.array([tokens]))
    runs = forecast(fit, _spread(size, shares), kind=kind)
    draws = weighted(runs.draws, shares)
    low = float(fit.sweep.table.loc[fit.sweep.table["train_set"].isin(sets), "flops"].min())
    asked = float(size["flops"].max())
    budgets = np.geomspace(low, BEYOND * max(asked, *fit.max_flops.values()), _BUDGETS)
    if flops is not None:
        path = optimal_sizes(fit, sets, shares, budgets)
    else:
        # Along equal tokens a parameter.
        n = np.sqrt(budgets * size["params"].iloc[0] / (FLOPS_PER_PARAM_TOKEN * size["tokens"].iloc[0]))
        path = _fixed(sets, n, budgets / (FLOPS_PER_PARAM_TOKEN * n))
    # One evaluation at a time: curves are the same in every forecast of a fit, and there are many of them.
    few = thinned(fit, DRAWS)
    curves = sum(w * forecast(few, _spread(path, {name: 1.0}), kind="curve").draws for name, w in shares.items())
    posterior = stacked(fit.posterior)["scatter"].to_numpy().mean(axis=0)
    own = np.array([[posterior[fit.cells.index((name, t))] for t in sets] for name in shares])
    loss = runs.draws.mean(axis=0).reshape(len(shares), len(sets))
    parts = np.array(list(shares.values()))[:, None]
    return Choice(
        points=runs.points.iloc[: len(sets)].drop(columns="eval_set"),
        draws=draws,
        shares=shares,
        kind=kind,
        scatter=np.sqrt(((parts * own * loss) ** 2).sum(axis=0)),
        budgets=budgets,
        curves=np.asarray(curves).reshape(-1, len(sets), len(budgets)).transpose(0, 2, 1),
        fit=fit,
        notes=runs.notes,
    )


def best(draws: Floats) -> Floats:
    """Probability of being the lowest, of draws (draw, option); who ties shares it. Shape (option,)."""
    lowest = draws == draws.min(axis=1, keepdims=True)
    return np.asarray((lowest / lowest.sum(axis=1, keepdims=True)).mean(axis=0))


def overtaken(budgets: Floats, lead: Floats) -> Floats:
    """Compute from which on a lead is negative, in draws in which it is positive at first and negative at last.

    Parameters
    ----------
    budgets : ndarray, shape (budget,)
        Compute (FLOPs), ascending.
    lead : ndarray, shape (draw, budget)
        Loss of the later winner less that of the earlier one, along it.

    Returns
    -------
    ndarray, shape (crossing draw,)
        Interpolated between budgets, linearly in log compute.
    """
    lead = lead[(lead[:, 0] > 0) & (lead[:, -1] < 0)]
    last = lead.shape[1] - 1 - np.argmax(lead[:, ::-1] >= 0, axis=1)
    each, log_c = np.arange(len(lead)), np.log(budgets)
    before, after = lead[each, last], lead[each, last + 1]
    return np.asarray(np.exp(log_c[last] + (log_c[last + 1] - log_c[last]) * before / (before - after)))


def weighted(draws: Floats, shares: Mapping[str, float]) -> Floats:
    """Weighted mean over evaluations of draws (draw, evaluation then point), shape (draw, point)."""
    parts = draws.reshape(len(draws), len(shares), -1)
    return np.asarray(np.einsum("e,dep->dp", list(shares.values()), parts))


def optimal_sizes(fit: Fit, train_sets: Sequence[str], shares: Mapping[str, float], flops: Floats) -> pd.DataFrame:
    """Compute-optimal size of every training set (outer) and budget (inner).

    The posterior median of N*(C); of several evaluations, whose laws may differ in it, the weighted geometric mean.

    Parameters
    ----------
    fit : Fit
        A posterior with laws.
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

    if not (np.isfinite(flops) & (flops > 0)).all():
        raise ForecastError(f"flops must be positive and finite, not {flops[0]:g}.")
    posterior, parts = stacked(fit.posterior), []
    for train in train_sets:
        law = law_draws(posterior, [fit.cells.index((name, train)) for name in shares])
        log_n = [np.log(np.median(law.optimal(c)[0], axis=0)) @ list(shares.values()) for c in flops]
        parts.append(pd.DataFrame({"train_set": train, "params": np.exp(log_n), "flops": flops}))
    sizes = pd.concat(parts, ignore_index=True)
    return sizes.assign(tokens=sizes["flops"] / (FLOPS_PER_PARAM_TOKEN * sizes["params"]))


def _fixed(train_sets: Sequence[str], params: Floats, tokens: Floats) -> pd.DataFrame:
    """The same sizes (inner) for every training set (outer)."""
    import pandas as pd

    sizes = pd.DataFrame({"params": params, "tokens": tokens, "flops": FLOPS_PER_PARAM_TOKEN * params * tokens})
    return pd.concat([sizes.assign(train_set=name) for name in train_sets], ignore_index=True)


def _spread(sizes: pd.DataFrame, shares: Mapping[str, float]) -> pd.DataFrame:
    """Points of every evaluation (outer) at these sizes (inner)."""
    import pandas as pd

    return pd.concat([sizes.assign(eval_set=name) for name in shares], ignore_index=True)


def _shares(names: Sequence[str], weights: Mapping[str, float] | Sequence[float] | None) -> dict[str, float]:
    """Weight of every evaluation; they sum to 1."""
    if not names or len(set(names)) < len(names):
        raise ForecastError("Name at least one evaluation to choose by, each once.")
    if isinstance(weights, Mapping):
        if set(weights) != set(names):
            raise ForecastError(f"weights must name the evaluations {', '.join(names)}, not {', '.join(weights)}.")
        given = [float(weights[name]) for name in names]
    else:
        given = [1.0] * len(names) if weights is None else [float(w) for w in weights]
    if len(given) != len(names) or not all(np.isfinite(w) and w > 0 for w in given):
        raise ForecastError(f"weights must be {len(names)} positive numbers, one an evaluation, not {given}.")
    return {name: w / sum(given) for name, w in zip(names, given, strict=True)}


def _candidates(fit: Fit, evals: Sequence[str], named: Sequence[str] | None) -> list[str]:
    """Training sets that are compared: each must have been fitted on every evaluation."""
    every = list(dict.fromkeys(train for _, train in fit.cells))
    known = list(dict.fromkeys(name for name, _ in fit.cells))
    if unknown := [name for name in evals if name not in known]:
        raise DataError(f"The evaluation {unknown[0]!r} was not fitted{did_you_mean(unknown[0], known)}.")
    if unknown := [name for name in named or () if name not in every]:
        raise DataError(f"The training set {unknown[0]!r} was not fitted{did_you_mean(unknown[0], every)}.")
    sets = [name for name in every if named is None or name in named]
    for name in sets:
        if lacking := [e for e in evals if (e, name) not in fit.cells]:
            raise DataError(
                f"{name} was not fitted on {lacking[0]}, so it cannot be compared there: choose by an evaluation "
                "that all training sets have, or name those to compare (train_set)."
            )
    if len(sets) < 2:
        raise ForecastError(f"There is nothing to choose from: only {', '.join(sets) or 'no training set'}.")
    return sets
