"""Choice: which training set is best for a budget, how sure that is, and where the answer changes.

The best has the lowest loss or error rate, or the highest accuracy.

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

from bayes_l2l.data.rates import BETTER, WORDS, Metric, difference_unit, sign
from bayes_l2l.data.sizes import one_way
from bayes_l2l.display import SHOWN, as_html
from bayes_l2l.errors import DataError, ForecastError, did_you_mean
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import QUANTILES, summary, thinned
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.prediction.averages import Weights, in_words, shares_of, weighted
from bayes_l2l.prediction.forecasts import forecast, kind_of
from bayes_l2l.prediction.optimum import optimal_sizes
from bayes_l2l.structures.error_rate import at_chance, learned, metrics_of
from bayes_l2l.structures.protocol import Kind, structure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bayes_l2l.decisions.plans import Plan

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

    Where the evaluations are error rates or accuracies, these fractions stand for the losses.

    Parameters
    ----------
    points : pandas.DataFrame
        One row a training set: train_set, params, tokens, flops, extrapolation.
    draws : ndarray, shape (draw, train_set)
        Weighted mean of the losses on the evaluations (nats/token). Draws of one row belong together.
    shares : mapping of str to float
        Weight of every evaluation; they sum to 1.
    kind : {"predictive", "mean"}
        Whether runs that scatter about their laws are compared, or the laws.
    scatter : ndarray, shape (train_set,)
        What one run of each scatters on its own (standard deviation, nats/token).
    budgets : ndarray, shape (budget,)
        Compute (FLOPs) along which the laws are compared.
    curves : ndarray, shape (some draw, budget, train_set)
        Weighted loss of the laws along it (nats/token), of about `DRAWS` draws.
    fit : Posterior
        Where the draws come from.
    notes : tuple of Note
        Objections to the fit and to these sizes.
    metric : {"loss", "error", "accuracy"}
        What the evaluations are; more is better of accuracies alone.
    each : ndarray, shape (draw, evaluation, train_set)
        The same draws of every evaluation, in the order of the shares.
    """

    points: pd.DataFrame
    draws: Floats
    shares: Mapping[str, float]
    kind: Kind
    scatter: Floats
    budgets: Floats
    curves: Floats
    fit: Posterior = field(repr=False)
    notes: tuple[Note, ...] = ()
    metric: Metric = "loss"
    each: Floats = field(repr=False, kw_only=True)

    def __repr__(self) -> str:
        return f"<Choice among {len(self.points)} training sets on {', '.join(self.shares)}, {len(self.draws)} draws>"

    def _repr_html_(self) -> str:
        # Not the next run, which takes seconds: a cell is shown at once.
        said = self.recommendation(next_run=False)
        return as_html(repr(self)[1:-1], said=said, table=self.table(quantiles=SHOWN), notes=self.notes)

    @property
    def train_sets(self) -> list[str]:
        """Training sets, in the order of the draws."""
        return [str(name) for name in self.points["train_set"]]

    @cached_property
    def costs(self) -> Floats:
        """The draws with the sign by which less is better."""
        return sign(self.metric) * self.draws

    @cached_property
    def p_best(self) -> pd.Series[float]:
        """Probability that each training set is the best of all; they sum to 1."""
        return self._by_set(best(self.costs))

    @cached_property
    def regret(self) -> pd.Series[float]:
        """Expected regret of each: how much worse it is than the best, on average (nats/token, or a fraction)."""
        return self._by_set((self.costs - self.costs.min(axis=1, keepdims=True)).mean(axis=0))

    @cached_property
    def p_better(self) -> pd.DataFrame:
        """Probability that the training set of the row is better than that of the column."""
        import pandas as pd

        a, b = self.costs[:, :, None], self.costs[:, None, :]
        return pd.DataFrame((a < b).mean(axis=0) + (a == b).mean(axis=0) / 2, self.train_sets, self.train_sets)

    @cached_property
    def lost_flops(self) -> pd.Series[float]:
        """Regret in compute: the part of its FLOPs whose loss would cost the best set as much as each regret.

        Along the mean of the best set's laws. No more than what leaves it the smallest of `budgets`.
        """
        return self._by_set(np.array([self._compute(worse) for worse in self.regret]))

    @property
    def if_wrong(self) -> float:
        """How much worse `best` is than the best where it is not the best (nats/token, or a fraction)."""
        wrong = 1 - float(self.p_best[self.best])
        return float(self.regret[self.best]) / wrong if wrong > 0 else 0.0

    @property
    def best(self) -> str:
        """Training set with the best expectation, which has the lowest expected regret, too."""
        return self.train_sets[int(np.argmin(self.costs.mean(axis=0)))]

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
            p_best, regret, lost_flops (see there), p_better_than_best (that it beats the one in the first row),
            extrapolation; losses and regret in nats/token. Of error rates and accuracies, metric after train_set.

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
            "lost_flops": self.lost_flops.to_numpy(),
            "p_better_than_best": self.p_better[self.best].to_numpy(),
        }
        sizes = self.points[["train_set", "params", "tokens", "flops"]].assign(kind=self.kind)
        if self.metric != "loss":
            sizes.insert(1, "metric", self.metric)
        table = pd.concat([sizes, levels, pd.DataFrame(chances), self.points[["extrapolation"]]], axis=1)
        return table.sort_values("mean", ascending=sign(self.metric) > 0, ignore_index=True)

    def pairs(self) -> pd.DataFrame:
        """Compare every training set with every other.

        Returns
        -------
        pandas.DataFrame
            One row a pair, the one that is expected to be better first: train_set, rival, p_better, and what it is
            better by (nats/token, or a fraction): mean, q0.05, median, q0.95.
        """
        import pandas as pd

        order, names, rows = np.argsort(self.costs.mean(axis=0)), self.train_sets, []
        for place, a in enumerate(order):
            for b in order[place + 1 :]:
                gap = summary((self.costs[:, b] - self.costs[:, a])[:, None], [0.05, 0.95])
                row = {"train_set": names[a], "rival": names[b], "p_better": self.p_better.iloc[a, b]}
                rows.append(row | {k: float(gap[k][0]) for k in ("mean", "q0.05", "median", "q0.95")})
        return pd.DataFrame(rows)

    def by_evaluation(self) -> pd.DataFrame:
        """Choose by every evaluation alone.

        Returns
        -------
        pandas.DataFrame
            One row an evaluation: eval_set, weight, train_set (the best there), p_best, and of the best of all
            evaluations together p_best_of_all and regret there (nats/token, or a fraction).
        """
        import pandas as pd

        rows = []
        for k, (name, weight) in enumerate(self.shares.items()):
            costs = sign(self.metric) * self.each[:, k]
            chances, regret = best(costs), (costs - costs.min(axis=1, keepdims=True)).mean(axis=0)
            here, of_all = int(np.argmin(regret)), self.train_sets.index(self.best)
            row = {"eval_set": name, "weight": weight, "train_set": self.train_sets[here], "p_best": chances[here]}
            rows.append(row | {"p_best_of_all": chances[of_all], "regret": regret[of_all]})
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
                lead = sign(self.metric) * (self.curves[:, :, j] - self.curves[:, :, i])
                at = overtaken(self.budgets, lead) if i != j else np.empty(0)
                if at.size:
                    levels = dict(zip(("q0.05", "median", "q0.95"), np.quantile(at, [0.05, 0.5, 0.95]), strict=True))
                    rows.append({"below": below, "above": above, "probability": at.size / len(self.curves)} | levels)
        names = ["below", "above", "probability", "q0.05", "median", "q0.95"]
        return pd.DataFrame(rows, columns=names).sort_values("probability", ascending=False, ignore_index=True)

    @cached_property
    def p_best_along(self) -> pd.DataFrame:
        """Probability that each training set's law is the best (columns), at every budget (rows, FLOPs)."""
        import pandas as pd

        along = np.stack([best(sign(self.metric) * self.curves[:, i]) for i in range(len(self.budgets))])
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
        from bayes_l2l.decisions.plans import plan

        return plan(self.fit, goal=self, budget=budget or PART_TO_DECIDE * self.points["flops"].max(), **options)

    @cached_property
    def next_run(self) -> pd.Series[Any]:
        """The one run that is expected to lower the regret most, a row of `Plan.candidates`."""
        return self.plan(runs=1).candidates.sort_values("reduction", ascending=False).iloc[0]

    def plot(self, **options: Any) -> Figure:
        """Draw how far sets are apart, and the best along compute (see `bayes_l2l.plotting.decisions.choice`)."""
        from bayes_l2l.plotting import decisions

        figure: Figure = decisions.choice(self, **options)
        return figure

    def recommendation(self, *, next_run: bool = True) -> list[str]:
        """Say which training set to take, how sure that is, what a wrong choice costs and what would change it.

        Parameters
        ----------
        next_run : bool
            Whether an open choice names the run that would tell most, which takes seconds.

        Returns
        -------
        list of str
            Sentences: the answer and its probability; the regret, in loss and in compute; evaluations that alone
            would be answered otherwise; the compute from which on another set is better; the next run.
        """
        said = [self._verdict(), self._cost(), *self._otherwise(), *self._overtaking()]
        return [*said, self._next()] if next_run and not self.decided else said

    def __str__(self) -> str:
        return "\n".join(self.recommendation())

    def _compute(self, worse: float) -> float:
        """Part of its FLOPs without which the mean law of the best set is worse by so much."""
        place = self.train_sets.index(self.best)
        log_c, asked = np.log(self.budgets), float(np.log(self.points["flops"].iloc[place]))
        mean = sign(self.metric) * self.curves[:, :, place].mean(axis=0)
        now = float(np.interp(asked, log_c, mean))
        # From the budget asked about downwards, where less compute is never better.
        below = log_c < asked
        path = np.maximum.accumulate([now, *mean[below][::-1]])
        at = np.interp(now + worse, path, [asked, *log_c[below][::-1]])
        return float(-np.expm1(at - asked))

    def _verdict(self) -> str:
        table = self.table(quantiles=[0.5])
        first, second = table.iloc[0], table.iloc[1]
        size = f"{first['params']:.3g} parameters and {first['tokens']:.3g} tokens"
        state = "decided" if self.decided else "not decided"
        return (
            f"{state}: {first['train_set']} for the {BETTER[self.metric]} {WORDS[self.metric]} on "
            f"{in_words(self.shares)} at {first['flops']:.3g} FLOPs ({size}): "
            f"the best of {len(table)} with probability {first['p_best']:.2f}; "
            f"{second['train_set']} is better with probability {second['p_better_than_best']:.2f}"
        )

    def _cost(self) -> str:
        """What it costs if the answer is wrong."""
        unit = difference_unit(self.metric, self.fit.sweep.loss_unit)
        regret, wrong = float(self.regret[self.best]), self.if_wrong
        if not regret > 0:
            return f"expected regret 0 {unit}: no other training set is better in any draw"
        text = f"expected regret {regret:.2g} {unit}, {self._as_compute(regret)}; if it is wrong, {wrong:.2g}"
        text += f", {self._as_compute(wrong)}"
        if not self.decided and not self.matters:
            text += ". It hardly matters: runs of one training set scatter more than the expected regret"
        return text

    def _as_compute(self, worse: float) -> str:
        """A regret in words of compute."""
        lost = self._compute(worse)
        most = 1 - self.budgets[0] / self.points["flops"].max()
        return f"as if {'more than ' if lost >= most else ''}{100 * lost:.2g}% of the FLOPs were lost"

    def _otherwise(self) -> list[str]:
        """Evaluations that alone would be answered otherwise."""
        table = self.by_evaluation()
        return [
            f"by {row.eval_set} alone {row.train_set}, with probability {row.p_best:.2f}"
            for row in table.itertuples()
            if row.train_set != self.best
        ]

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
    fit: Posterior,
    *,
    eval_set: str | Sequence[str],
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    weights: Weights | None = None,
    train_set: Sequence[str] | None = None,
    kind: str = "predictive",
) -> Choice:
    """Compare training sets by their weighted loss on evaluations; see `Fit.choose`, which documents it."""
    if not one_way(flops, params, tokens):
        raise ForecastError("Say for what size to choose: flops, or both params and tokens.")
    shares = shares_of([eval_set] if isinstance(eval_set, str) else list(eval_set), weights)
    sets, notes = _candidates(fit, list(shares), train_set)
    metric = _metric(fit, list(shares), sets)
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
    curves = sum(w * forecast(few, _spread(path, {name: 1.0}), kind="mean").draws for name, w in shares.items())
    own = np.array([_mean_scales(fit, [(name, t) for t in sets]) for name in shares])
    if metric == "loss":  # whose scatter is a part of it
        own = own * runs.draws.mean(axis=0).reshape(len(shares), len(sets))
    parts = np.array(list(shares.values()))[:, None] * own
    return Choice(
        points=runs.points.iloc[: len(sets)].drop(columns="eval_set"),
        draws=draws,
        shares=shares,
        kind=kind_of(kind),
        scatter=np.sqrt(np.einsum("es,ef,fs->s", parts, _correlation(fit, list(shares), metric), parts)),
        budgets=budgets,
        curves=np.asarray(curves).reshape(-1, len(sets), len(budgets)).transpose(0, 2, 1),
        fit=fit,
        notes=(*runs.notes, *notes),
        metric=metric,
        each=runs.draws.reshape(-1, len(shares), len(sets)),
    )


def _mean_scales(fit: Posterior, cells: Sequence[tuple[str, str]]) -> list[float]:
    """What runs of each cell scatter on their own (log loss, or the rate itself), on average over the draws."""
    if fit.errors is not None and cells[0] in fit.errors.cells:
        scale = fit.errors.draws["residual_scale"].mean(["chain", "draw"]).to_numpy()
        return [float(scale[fit.errors.cells.index(cell)]) for cell in cells]
    noise = structure_of(fit.spec).noise(fit, [fit.cells.index(cell) for cell in cells])
    return [float(one.scale.mean()) for one in noise]


def _correlation(fit: Posterior, evaluations: Sequence[str], metric: Metric) -> Floats:
    """How far what a run scatters on these evaluations has in common; error rates of a run are independent."""
    if metric != "loss":
        return np.eye(len(evaluations))
    factor = structure_of(fit.spec).evaluation_correlation(fit).of(evaluations)
    return np.asarray(factor @ factor.T)


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


def _fixed(train_sets: Sequence[str], params: Floats, tokens: Floats) -> pd.DataFrame:
    """The same sizes (inner) for every training set (outer)."""
    import pandas as pd

    sizes = pd.DataFrame({"params": params, "tokens": tokens, "flops": FLOPS_PER_PARAM_TOKEN * params * tokens})
    return pd.concat([sizes.assign(train_set=name) for name in train_sets], ignore_index=True)


def _spread(sizes: pd.DataFrame, shares: Mapping[str, float]) -> pd.DataFrame:
    """Points of every evaluation (outer) at these sizes (inner)."""
    import pandas as pd

    return pd.concat([sizes.assign(eval_set=name) for name in shares], ignore_index=True)


def _metric(fit: Posterior, evals: Sequence[str], train_sets: Sequence[str]) -> Metric:
    """What the evaluations are, which must be one: losses and accuracies cannot be averaged."""
    given = metrics_of(fit)
    found = {name: given[name, train_sets[0]] for name in evals}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} ({WORDS[metric]})" for name, metric in found.items())
        raise ForecastError(f"Choose by losses, by error rates or by accuracies, not by several of them: {said}.")
    return found[evals[0]]


def _candidates(
    fit: Posterior, evals: Sequence[str], named: Sequence[str] | None
) -> tuple[list[str], tuple[Note, ...]]:
    """Training sets that are compared: each must have been fitted on every evaluation, and have left chance."""
    fitted = [*fit.cells, *fit.error_cells]
    every = list(dict.fromkeys(train for _, train in fitted))
    known = list(dict.fromkeys(name for name, _ in fitted))
    if unknown := [name for name in evals if name not in known]:
        raise DataError(f"The evaluation {unknown[0]!r} was not fitted{did_you_mean(unknown[0], known)}.")
    if unknown := [name for name in named or () if name not in every]:
        raise DataError(f"The training set {unknown[0]!r} was not fitted{did_you_mean(unknown[0], every)}.")
    sets = [name for name in every if named is None or name in named]
    for name in sets:
        if lacking := [e for e in evals if (e, name) not in fitted]:
            raise DataError(
                f"{name} was not fitted on {lacking[0]}, so it cannot be compared there: choose by an evaluation "
                "that all training sets have, or name those to compare (train_set)."
            )
    has_left = learned(fit.errors) if fit.errors else {}
    stuck = [(e, name) for name in sets for e in evals if not has_left.get((e, name), True)]
    left = [name for name in sets if name not in {train for _, train in stuck}]
    if stuck and (named is not None or len(left) < 2):
        raise DataError(
            f"{stuck[0][0]} of models trained on {', '.join(dict.fromkeys(t for _, t in stuck))} has not left chance "
            "in these runs, so nothing is known of it for larger ones: choose by another evaluation, such as the "
            "task's loss, or among other training sets (train_set)."
        )
    if len(left) < 2:
        raise ForecastError(f"There is nothing to choose from: only {', '.join(left) or 'no training set'}.")
    return left, at_chance(fit.errors, stuck) if fit.errors and stuck else ()
