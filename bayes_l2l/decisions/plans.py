"""Plan: the next runs worth making, by how much less uncertain they are expected to leave a goal.

Nothing is fitted again. Losses that candidate runs may have and the goal are forecast together, and what a run would
tell of the goal is read off their covariance, as in an ensemble Kalman filter (Evensen, 2003,
doi:10.1007/s10236-003-0036-9): for normal draws that is exact. What several runs tell is not the sum of what each
tells: a batch is built run by run, each given those before it.

Beyond the runs an evaluation departs from its law. A run that lies there is off by that, too, and tells nothing of
what its evaluation departs by further on: so the promise of a plan has it apart from what is learned of the law.

Models take what runs scatter by themselves for independent, and so do the numbers that a plan reports. But runs of
one training set and near sizes deviate together: extreme sizes, which tell most by the model, tell little of the
others. So batches are picked by how far off the goal would be if that is so and the model is fitted as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.rates import Metric, difference_unit, sign
from bayes_l2l.data.sizes import impossible, one_way, size_labels
from bayes_l2l.data.tables import RawTable
from bayes_l2l.data.validation import candidates as validated
from bayes_l2l.decisions.choices import DRAWS, Choice
from bayes_l2l.display import as_html
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import thinned
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.prediction.averages import weighted
from bayes_l2l.prediction.forecasts import without_noise
from bayes_l2l.prediction.optimum import optimal_sizes, tokens_of
from bayes_l2l.structures.error_rate import learned, metrics_of
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bayes_l2l.data.sweep import Cell, Sweep
    from bayes_l2l.spec.likelihood import ResidualCorrelation

Floats = npt.NDArray[np.float64]
Measure = Literal["sd", "regret"]
Sizes = float | Sequence[float] | npt.NDArray[np.float64]

#: Runs of a batch, unless another number is asked for.
RUNS: Final = 8
#: Costs of candidates as parts of the budget, and their sizes as multiples of the compute-optimal one.
PARTS: Final = tuple(4.0**-k for k in range(6))
SIZES: Final = (0.5, 1.0, 2.0)
_NORMALS: Final = 1024


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Candidate runs and the batch that is expected to tell most; made by `Fit.plan`.

    Parameters
    ----------
    candidates : pandas.DataFrame
        One row a candidate run, by reduction per FLOP: train_set, params, tokens, flops, after (the measure, were
        this run alone made), reduction (what part of the variance goes; of a choice, of the regret that is expected
        where the run confirms today's means), reduction_per_flop, extrapolation.
    batch : pandas.DataFrame
        The batch in the order in which its runs tell most: train_set, params, tokens, flops, total_flops, after (the
        measure with this run and all before it).
    before : float
        The measure now (nats/token, or a fraction).
    measure : {"sd", "regret"}
        Standard deviation of the forecast of the goal's run (of several, their mean), or expected regret of the
        choice.
    goal : str
        What is to become known.
    budget : float
        What the batch may cost (FLOPs).
    sweep : Sweep
        The fitted runs.
    notes : tuple of Note
        Objections to the fit.
    metric : {"loss", "error", "accuracy"}
        What the goal is; of the last two the measure is a fraction.
    """

    candidates: pd.DataFrame
    batch: pd.DataFrame
    before: float
    measure: Measure
    goal: str
    budget: float
    sweep: Sweep = field(repr=False)
    notes: tuple[Note, ...] = ()
    metric: Metric = "loss"

    def __repr__(self) -> str:
        return f"<Plan of {len(self.batch)} runs for {self.goal}, {len(self.candidates)} candidates>"

    def _repr_html_(self) -> str:
        return as_html(repr(self)[1:-1], said=str(self).splitlines()[:1], table=self.batch, notes=self.notes)

    def enough(self, value: float) -> int | None:
        """Runs of the batch until the measure is down to a value.

        Parameters
        ----------
        value : float
            Standard deviation or expected regret that is good enough (nats/token).

        Returns
        -------
        int or None
            How many, in the order of the batch; None if the whole batch is not enough.
        """
        reached = [self.before, *self.batch["after"]]
        return next((n for n, after in enumerate(reached) if after <= value), None)

    def plot(self, **options: Any) -> Figure:
        """Draw uncertainty against runs and compute (see `bayes_l2l.plotting.decisions.plan`)."""
        from bayes_l2l.plotting import decisions

        figure: Figure = decisions.plan(self, **options)
        return figure

    def __str__(self) -> str:
        what = {"sd": "standard deviation of the forecast", "regret": "expected regret"}[self.measure]
        unit = difference_unit(self.metric, self.sweep.loss_unit)
        lines = [f"{what} of {self.goal}: now {self.before:.3g} {unit}"]
        lines += [
            f"{n}. {run.train_set}, {run.params:.3g} parameters, {run.tokens:.3g} tokens: {run.after:.3g} after "
            f"{run.total_flops:.2g} FLOPs"
            for n, run in enumerate(self.batch.itertuples(), 1)
        ]
        return "\n".join(lines)


def plan(
    fit: Posterior,
    *,
    goal: Cell | Choice,
    budget: float,
    flops: Sizes | None = None,
    params: Sizes | None = None,
    tokens: Sizes | None = None,
    runs: int = RUNS,
    train_set: str | list[str] | None = None,
    candidates: pd.DataFrame | None = None,
) -> Plan:
    """Rank candidate runs by what they would tell of a goal; see `Fit.plan`, which documents it."""
    if not (np.isfinite(budget) and budget > 0):
        raise ForecastError(f"budget must be positive and finite (FLOPs), not {budget:g}.")
    if runs < 1:
        raise ForecastError(f"runs must be at least 1, not {runs}.")
    if not structure_of(fit.spec).has_laws:
        raise DataError(
            f"Model {fit.spec.name!r} relates losses to each other and has no laws: fit the joint model to plan."
        )
    fit = thinned(fit, DRAWS)
    points, shares, name, metric = _goal(fit, goal, flops=flops, params=params, tokens=tokens)
    if candidates is None:
        offered = _offered(fit, budget, _named(fit, train_set), list(shares))
    else:
        offered = _given(fit, candidates, budget)
    measure: Measure = "regret" if isinstance(goal, Choice) else "sd"
    ensemble, at = _ensemble(fit, points, shares, offered, measure, metric)
    offered = offered.assign(extrapolation=at)
    costs = offered["flops"].to_numpy()
    order, path = ensemble.batch(costs, budget=budget, runs=runs)
    before = float(goal.regret.min()) if isinstance(goal, Choice) else float(ensemble.before)
    left, expected = ensemble.singles()
    table = offered.assign(after=before * left, reduction=1 - expected, reduction_per_flop=(1 - expected) / costs)
    batch = offered.iloc[order][["train_set", "params", "tokens", "flops"]].reset_index(drop=True)
    batch = batch.assign(total_flops=batch["flops"].cumsum(), after=before * path)
    columns = ["train_set", "params", "tokens", "flops", "after", "reduction", "reduction_per_flop", "extrapolation"]
    return Plan(
        candidates=table[columns].sort_values("reduction_per_flop", ascending=False, ignore_index=True),
        batch=batch,
        before=before,
        measure=measure,
        goal=name,
        budget=float(budget),
        sweep=fit.sweep,
        notes=fit.notes,
        metric=metric,
    )


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Joint draws of goals and of what every candidate run would show.

    Parameters
    ----------
    goals : ndarray, shape (draw, goal)
        Losses that are to be known, or one an option of a choice (nats/token).
    shown : ndarray, shape (draw, observation)
        Log losses.
    groups : list of ndarray of int
        Observations of every candidate.
    measure : {"sd", "regret"}
        Whether all goals are to be known, or which of them is the lowest.
    alone, near : ndarray, shape (goal and observation, goal and observation), or 0
        Covariance of what runs scatter and evaluations depart by, which the draws have not: as the model has it, and
        where near runs deviate together.
    """

    goals: Floats
    shown: Floats
    groups: list[npt.NDArray[np.int_]] = field(repr=False)
    measure: Measure = "sd"
    alone: Floats | float = 0.0
    near: Floats | float = 0.0

    @cached_property
    def drawn(self) -> Floats:
        """Covariance of goals and observations, in this order, as drawn."""
        return np.atleast_2d(np.cov(np.concatenate([self.goals, self.shown], axis=1), rowvar=False))

    @cached_property
    def covariance(self) -> Floats:
        """The same with what runs scatter, as the model has it."""
        return np.asarray(self.drawn + self.alone)

    @property
    def before(self) -> float:
        """Mean standard deviation of the goals."""
        return float(np.sqrt(np.diag(self.covariance)[: self.goals.shape[1]]).mean())

    def halves(self) -> tuple[Ensemble, Ensemble]:
        """First and second half of the draws."""
        middle = len(self.goals) // 2
        cut = slice(None, middle), slice(middle, None)
        first, second = (replace(self, goals=self.goals[half], shown=self.shown[half]) for half in cut)
        return first, second

    def singles(self) -> tuple[Floats, Floats]:
        """What part of the measure and of the expected loss each candidate's run alone leaves, shape (candidate,)."""
        one, other = self.halves()
        both = [[a.left([k], by=b) for k in range(len(self.groups))] for a, b in ((one, other), (other, one))]
        measure, expected = np.minimum(np.mean(both, axis=0), 1.0).T
        return measure, expected

    def batch(self, costs: Floats, *, budget: float, runs: int) -> tuple[list[int], Floats]:
        """Candidates of a batch, picked one by one, each given those before it, and what part of the measure is left.

        By what the next run takes off the expected loss, by that per FLOP, and by what is between the two; the batch
        that leaves least is taken, since each alone can be far off (Leskovec et al., 2007,
        doi:10.1145/1281192.1281239). It ends where further runs tell nothing.
        """
        # What is picked because it looks best looks better than it is: batches are picked by one half of the draws
        # (other chains), and judged by the other.
        one, other = self.halves()
        least, found = 1.0, list[int]()
        for power in (0.0, 0.5, 1.0):
            order = one._greedy(costs, costs**power, budget, runs)
            off = [other.off(order[: n + 1], by=one) for n in range(len(order))]
            if off and min(off) < least:
                least, found = min(off), order[: int(np.argmin(off)) + 1]
        path = [other.left(found[: n + 1], by=one)[0] for n in range(len(found))]
        return found, np.minimum.accumulate(np.minimum(path, 1.0))

    def left(self, chosen: list[int], *, by: Ensemble) -> tuple[float, float]:
        """What part of the measure and of the expected loss is left with these candidates' runs, as the model has it.

        Read as another half of the draws says that they are to be read: what the runs tell there by chance alone
        counts against them here.
        """
        block, prior = self._given(chosen, self.covariance, by=by), self._goals(self.covariance)
        return _part(self._measure(block, prior), self._measure(prior, prior)), _part(
            self.expected_loss(block), self.expected_loss(prior)
        )

    def off(self, chosen: list[int], *, by: Ensemble) -> float:
        """What part of the expected loss is left if near runs deviate together, and are read as if they did not."""
        truth = self.drawn + self.near
        return _part(self.expected_loss(self._given(chosen, truth, by=by)), self.expected_loss(self._goals(truth)))

    def expected_loss(self, block: Floats) -> float:
        """Expected loss of a decision: squared mean standard deviation of goals; of options, expected regret.

        The regret is that where runs confirm today's means.

        Unlike the measure of a choice it falls with every run that tells something, also where no single one can
        change the choice.
        """
        if self.measure == "sd":
            return float(np.sqrt(np.maximum(np.diag(block), 0.0)).mean() ** 2)
        mean = self.goals.mean(axis=0)
        return float(mean.min() - (mean + _normals(len(block)) @ _root(block)).min(axis=1).mean())

    def _measure(self, block: Floats, prior: Floats) -> float:
        """Standard deviation of the goals; of options, the expected regret of the one that is then chosen.

        What will be believed of the options' losses is, before the runs, normal about today's means, with the
        covariance that the runs take away (preposterior analysis: Raiffa and Schlaifer, 1961).
        """
        if self.measure == "sd":
            return float(np.sqrt(self.expected_loss(block)))
        mean, normals = self.goals.mean(axis=0), _normals(len(block))
        chosen, lowest = ((mean + normals @ _root(part)).min(axis=1).mean() for part in (prior - block, prior))
        return float(chosen - lowest)

    def _greedy(self, costs: Floats, price: Floats, budget: float, runs: int) -> list[int]:
        """Candidates in the order of what they take off the expected loss for their price."""
        now, order, spent = 1.0, list[int](), 0.0
        while len(order) < runs:
            # A sum of rounded costs may exceed the budget that it makes up.
            fits = spent + costs <= budget * (1 + 1e-9)
            fits[order] = False
            if not fits.any():
                break
            left = np.array([self.off([*order, k], by=self) if fits[k] else np.inf for k in range(len(costs))])
            gain = (now - left) / price
            if gain.max() <= 0:
                break
            order.append(int(np.argmax(gain)))
            spent, now = spent + costs[order[-1]], float(left[order[-1]])
        return order

    def _goals(self, covariance: Floats) -> Floats:
        n = self.goals.shape[1]
        return covariance[:n, :n]

    def _given(self, chosen: list[int], truth: Floats, *, by: Ensemble) -> Floats:
        """Covariance of how far the goals are off, if candidates' runs are read by the covariance of an ensemble."""
        n, y = self.goals.shape[1], np.concatenate([self._places(k) for k in chosen])
        taught = by.covariance
        gain = np.linalg.solve(taught[np.ix_(y, y)], taught[y, :n])
        cross = truth[:n, y] @ gain
        return np.asarray(truth[:n, :n] - cross - cross.T + gain.T @ truth[np.ix_(y, y)] @ gain)

    def _places(self, k: int) -> npt.NDArray[np.int_]:
        return np.asarray(self.goals.shape[1] + self.groups[k])


def _part(left: float, whole: float) -> float:
    """What part is left; all of it where there is nothing to take off."""
    return left / whole if whole > 0 else 1.0


def _normals(n: int) -> Floats:
    """Standard normal points in n dimensions, the same ones always and in opposite pairs."""
    half = np.random.default_rng(0).standard_normal((_NORMALS // 2, n))
    return np.concatenate([half, -half])


def _root(covariance: Floats) -> Floats:
    """Symmetric square root, which changes little when the covariance does."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T)


def _goal(
    fit: Posterior, goal: Cell | Choice, *, flops: Sizes | None, params: Sizes | None, tokens: Sizes | None
) -> tuple[pd.DataFrame, dict[str, float], str, Metric]:
    """Points of the goal, evaluation then training set, the weights of the evaluations, its name, and what it is."""
    import pandas as pd

    if isinstance(goal, Choice):
        if (flops, params, tokens) != (None, None, None):
            raise ForecastError("The choice has its sizes already: leave out flops, params and tokens.")
        at = pd.concat([goal.points.assign(eval_set=name) for name in goal.shares], ignore_index=True)
        return at, dict(goal.shares), f"the choice on {', '.join(goal.shares)}", goal.metric
    if not one_way(flops, params, tokens):
        raise ForecastError("Say at what size the goal is: flops, or both params and tokens.")
    evaluation, train = (fit.errors or fit).sweep.cell(goal)  # where there are rates, the runs of both are with them
    if fit.errors is not None and not learned(fit.errors).get((evaluation, train), True):
        raise DataError(
            f"{evaluation} of models trained on {train} has not left chance in these runs, so nothing is known of it "
            "for larger ones: name another goal, such as the task's loss."
        )
    if flops is not None:
        at = optimal_sizes(fit, [train], {evaluation: 1.0}, np.ravel(flops))
    else:
        n, d = np.broadcast_arrays(np.ravel(np.asarray(params)), np.ravel(np.asarray(tokens)))
        at = pd.DataFrame({"train_set": train, "params": n, "tokens": d})
    sizes = (_span(at["params"]), _span(at["tokens"]), f"{len(at)} sizes of " if len(at) > 1 else "")
    name = f"{evaluation}@{train} at {sizes[2]}{sizes[0]} parameters and {sizes[1]} tokens"
    return at.assign(eval_set=evaluation), {evaluation: 1.0}, name, metrics_of(fit)[evaluation, train]


def _span(values: pd.Series[float]) -> str:
    low, high = (f"{v:.3g}" for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _named(fit: Posterior, train_set: str | list[str] | None) -> list[str]:
    """Training sets that may be run."""
    every = list(dict.fromkeys(train for _, train in fit.cells))
    named = every if train_set is None else [train_set] if isinstance(train_set, str) else list(train_set)
    if unknown := [name for name in named if name not in every]:
        raise DataError(f"The training set {unknown[0]!r} was not fitted; fitted are {', '.join(every)}.")
    return named


def _offered(fit: Posterior, budget: float, train_sets: list[str], evals: list[str]) -> pd.DataFrame:
    """Candidates: about the compute-optimal size at parts of the budget, and sizes that other sets have run.

    A run of a size that others have run tells how the sets compare, whatever the law is off by at that size.
    """
    import pandas as pd

    table = fit.sweep.table
    if wrong := impossible("flops", budget):
        raise ForecastError(f"No run can be made for the budget: {wrong}.")
    levels = np.array([part * budget for part in PARTS])
    levels = levels[levels >= min(table["flops"].min(), budget)]
    parts = []
    for train in train_sets:
        fitted = [*fit.cells, *fit.error_cells]
        read = [name for name in evals if (name, train) in fitted] or [e for e, t in fit.cells if t == train][:1]
        best = optimal_sizes(fit, [train], {name: 1 / len(read) for name in read}, levels)
        near = pd.concat([best.assign(params=best["params"] * times) for times in SIZES])
        parts.append(near.assign(tokens=tokens_of(near["flops"], near["params"])))
        run = table[table["flops"] <= budget].drop_duplicates(["params", "tokens"])
        own = table[table["train_set"] == train]
        done = set(size_labels(own))
        new = np.array([label not in done for label in size_labels(run)], dtype=bool)
        parts.append(run[new][["params", "tokens", "flops"]].assign(train_set=train))
    every = pd.concat(parts, ignore_index=True)[["train_set", "params", "tokens", "flops"]]
    can_be = [not any(impossible(name, row[name]) for name in ("params", "tokens")) for _, row in every.iterrows()]
    if not any(can_be):
        raise ForecastError(f"The budget of {budget:.3g} FLOPs is too small for any run; give one that buys some.")
    return every[can_be].reset_index(drop=True)


def _given(fit: Posterior, candidates: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Candidates of the user's own."""
    table = validated(RawTable.from_frame(candidates, name="the table of candidates"))
    _named(fit, list(dict.fromkeys(table["train_set"])))
    table = table.loc[table["flops"] <= budget * (1 + 1e-9), ["train_set", "params", "tokens", "flops"]]
    if not len(table):
        raise ForecastError(f"No candidate costs at most the budget of {budget:.3g} FLOPs.")
    return table.reset_index(drop=True)


def _ensemble(
    fit: Posterior,
    points: pd.DataFrame,
    shares: dict[str, float],
    offered: pd.DataFrame,
    measure: Measure,
    metric: Metric,
) -> tuple[Ensemble, Floats]:
    """Joint draws, from one forecast of all runs, and how far out every candidate lies.

    A run shows its anchor losses, and the weighted loss, error rate or accuracy that the goal is made of.
    """
    import pandas as pd

    rows, weight = [points], []
    shown = {train: _shown(fit, train, shares) for train in offered["train_set"].unique()}
    for k, run in offered.iterrows():
        for observation in shown[run["train_set"]]:
            rows.append(pd.DataFrame({**run, "eval_set": list(observation), "candidate": k}))
            weight.append(np.array(list(observation.values())))
    together = pd.concat(rows, ignore_index=True)
    at, draws, scatter, departed = without_noise(
        fit, together[["train_set", "eval_set", "params", "tokens", "flops"]]
    )
    n, start = len(points), np.cumsum([0, *map(len, weight)])[:-1]
    goals = sign(metric) * weighted(draws[:, :n], shares)
    parts = draws[:, n:] * np.concatenate(weight)
    losses = np.add.reduceat(parts, start, axis=1)
    candidate = together["candidate"].to_numpy()[n:][start]
    groups = [np.flatnonzero(candidate == k) for k in offered.index]
    out = at["extrapolation"].to_numpy()[n:][start][[places[0] for places in groups]]
    # Of every row: what it is part of, and what one unit of its log loss does there.
    of_shown = np.repeat(np.arange(len(weight)), [len(w) for w in weight])
    place = np.concatenate([np.tile(np.arange(goals.shape[1]), len(shares)), goals.shape[1] + of_shown])
    to_goal = draws[:, :n].mean(axis=0) * np.repeat(list(shares.values()), goals.shape[1])
    share_of = parts / np.where(losses == 0, 1.0, losses)[:, of_shown]  # an error rate may be 0
    effect = np.concatenate([to_goal, share_of.mean(axis=0)]) * scatter
    alone, near = _noise_covariance(at, place, effect, _correlation(fit))
    off = _departure_covariance(fit, at["eval_set"].tolist(), place, effect, departed)
    rate = np.array([name in {e for e, _ in fit.error_cells} for name in together["eval_set"].to_numpy()[n:][start]])
    # Losses scatter in proportion; error rates and accuracies do not.
    shown_draws = np.where(rate, losses, np.log(np.where(rate, 1.0, losses)))
    return Ensemble(goals, shown_draws, groups, measure, alone + off, near + off), out


def _correlation(fit: Posterior) -> ResidualCorrelation | None:
    """What the model says of residuals of near sizes."""
    found: ResidualCorrelation | None = getattr(fit.spec.likelihood, "residual_correlation", None)
    return found


def _noise_covariance(
    at: pd.DataFrame, place: npt.NDArray[np.int_], effect: Floats, correlation: ResidualCorrelation | None
) -> tuple[Floats, Floats]:
    """Covariance of what runs scatter by themselves: independent, and with what near runs of a cell have in common.

    `place` and `effect`, shape (row,), say what each row is part of and what one standard deviation of it does there.
    """
    size = np.log(at[["params", "tokens"]].to_numpy())
    alone, near = np.zeros((2, place.max() + 1, place.max() + 1))
    for rows in at.groupby(["eval_set", "train_set"]).indices.values():
        apart = ((size[rows, None] - size[rows]) ** 2).sum(axis=-1)
        both, here = np.outer(effect[rows], effect[rows]), np.ix_(place[rows], place[rows])
        alone[here] += both * np.eye(len(rows))
        near[here] += both * (np.eye(len(rows)) if correlation is None else correlation.of(apart))
    return alone, near


def _departure_covariance(
    fit: Posterior, evaluations: Sequence[str], place: npt.NDArray[np.int_], effect: Floats, departed: Floats
) -> Floats:
    """Covariance of what evaluations depart from their laws by on the way from the runs to each row.

    What they depart by further on is another matter: a run tells nothing of it, and a fit with the run takes its own
    departure for a part of the law. So increments are independent, and of all training sets together.
    """
    rows = np.flatnonzero(departed)
    size = place.max() + 1
    if not len(rows):
        return np.zeros((size, size))
    names = sorted(set(evaluations))
    factor = structure_of(fit.spec).evaluation_correlation(fit).of(names)
    of_row = [names.index(evaluations[int(row)]) for row in rows]
    way = np.minimum.outer(departed[rows], departed[rows]) ** 2
    both = (factor @ factor.T)[np.ix_(of_row, of_row)] * way * np.outer(effect[rows], effect[rows])
    to_place = np.zeros((len(rows), size))
    to_place[np.arange(len(rows)), place[rows]] = 1.0
    return np.asarray(to_place.T @ both @ to_place)


def _shown(fit: Posterior, train: str, shares: dict[str, float]) -> list[dict[str, float]]:
    """What a run of a training set shows: each a weighted mean of evaluations. Without either, all of its losses."""
    own = [name for name, t in fit.cells if t == train]
    known = [name for (name, t), left in (learned(fit.errors) if fit.errors else {}).items() if t == train and left]
    shown = [{name: 1.0} for name in structure_of(fit.spec).anchors(fit, train)]
    if set(shares) <= {*own, *known} and shares not in shown:
        shown.append(shares)
    return shown or [{name: 1.0} for name in own]
