"""Comparison: models side by side, by how well each foretells losses that it has not seen.

Beyond the runs, by forecasts of the same larger ones from the same smaller ones; amid them, by leaving one out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.display import as_html
from bayes_l2l.errors import DataError, L2LError
from bayes_l2l.evaluation.backtests import Backtest, backtest
from bayes_l2l.evaluation.jobs import BASELINE
from bayes_l2l.evaluation.leave_one_out import LeaveOneOut, leave_one_out, standard_error
from bayes_l2l.notes import Note
from bayes_l2l.structures.models import load_spec

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.posterior.posterior import Posterior
    from bayes_l2l.spec.model import ModelSpec

#: A model is better if it is so in at least this part of the resamples.
DECIDED: Final = 0.95
_RESAMPLES: Final = 4000
#: Fewer groups of runs than this cannot tell a difference from chance.
_FEWEST: Final = 6
#: Runs of one training set and about one budget are off together, in all splits.
_TOGETHER: Final = ["train_set", "budget"]
_FORECAST: Final = ["split", "cutoff", "held_out", "train_set", "eval_set", "run_id"]
#: Differences of elpd that tell models apart: so many standard errors, and so many nats.
_ERRORS, _NATS = 2.0, 4.0
#: Part of the losses that may have importance weights which are not to be relied on.
_FEW_BAD: Final = 0.1
_SHOWN: Final = ("n", "rel_error", "bias", "crps", "coverage50", "coverage90", "width90", "interval_score90")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Scores of models on the losses that all of them forecast; made by `compare`.

    Parameters
    ----------
    backtest : Backtest
        Of all models, those losses alone.
    notes : tuple of Note
        Of the backtest, on losses that not all models forecast, and on models without a leave-one-out score.
    loo : mapping of str to LeaveOneOut
        By model, of its fit to all runs.
    """

    backtest: Backtest
    notes: tuple[Note, ...] = ()
    loo: Mapping[str, LeaveOneOut] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.models)}, {len(self._crps)} losses>"

    def _repr_html_(self) -> str:
        return as_html(repr(self)[1:-1], said=[str(self)], table=self.table(), notes=self.notes)

    @property
    def models(self) -> list[str]:
        """Models, the one with the lowest mean CRPS first."""
        return [str(name) for name in self._crps.mean().sort_values().index]

    @property
    def best(self) -> str:
        """The model with the lowest mean CRPS."""
        return self.models[0]

    @cached_property
    def _crps(self) -> pd.DataFrame:
        """CRPS in percent of the loss, a row a forecast, a column a model."""
        frame = self.backtest.frame
        budget = np.round(np.log10(frame["flops"]), 1)
        return frame.assign(budget=budget).set_index([*_FORECAST, "budget", "model"])["crps"].unstack("model")  # noqa: PD010 - nothing to aggregate

    @cached_property
    def _resampled(self) -> pd.DataFrame:
        """Mean CRPS of every model in resamples of the groups of runs, with replacement."""
        import pandas as pd

        groups = self._crps.groupby(level=_TOGETHER)
        total, count = groups.sum().to_numpy(), groups.size().to_numpy()
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(count), size=(_RESAMPLES, len(count)))
        return pd.DataFrame(total[drawn].sum(axis=1) / count[drawn].sum(axis=1)[:, None], columns=self._crps.columns)

    @property
    def n_groups(self) -> int:
        """Groups of runs, of one training set and about one budget each, whose losses are off together."""
        return int(self._crps.groupby(level=_TOGETHER).ngroups)

    def table(self) -> pd.DataFrame:
        """Scores of every model, the best first.

        Returns
        -------
        pandas.DataFrame
            model; n; rel_error, bias, crps, coverage50, coverage90, width90, interval_score90 (percent, see
            `Backtest.scores`); difference: how much higher the CRPS is than that of the first row, with its 90%
            interval q0.05 to q0.95; p_better: in which part of the resamples it is lower. Where models were fitted to
            all runs, too: elpd_loo and elpd_se (nats), elpd_difference from that of the first row (below 0 is
            worse) with difference_se, and bad_k: losses whose Pareto k is too large.
        """
        scores = self.backtest.scores(by="model").set_index("model").loc[self.models]
        gap = self._resampled[self.models].sub(self._resampled[self.best], axis=0)
        ends = gap.quantile([0.05, 0.95])
        table = scores[[name for name in _SHOWN if name in scores]].assign(
            **{
                "difference": scores["crps"] - scores["crps"].iloc[0],
                "q0.05": ends.loc[0.05],
                "q0.95": ends.loc[0.95],
            },
            p_better=(gap < 0).mean(),
        )
        return table.join(self._left_out()).rename_axis("model").reset_index()

    def _left_out(self) -> pd.DataFrame:
        """Leave-one-out scores, a row a model that has one."""
        import pandas as pd

        rows = {}
        first = self.loo.get(self.best)
        for name, one in self.loo.items():
            gap = (one.elpd_i - first.elpd_i) if first and first.is_of_the_losses_of(one) else np.array([np.nan])
            rows[name] = {
                "elpd_loo": one.elpd,
                "elpd_se": one.se,
                "elpd_difference": gap.sum(),
                "difference_se": standard_error(gap),
                "bad_k": one.n_bad,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __str__(self) -> str:
        return ". ".join(said for said in (self._beyond(), self._amid()) if said)

    def _amid(self) -> str:
        """Verdict of leaving one out, between the two models that forecast best of those that have it."""
        ranked = [name for name in self.models if name in self.loo]
        if len(ranked) < 2 or not self.loo[ranked[0]].is_of_the_losses_of(self.loo[ranked[1]]):
            return ""
        first, second = (self.loo[name] for name in ranked[:2])
        gap = first.elpd_i - second.elpd_i
        difference, error = float(gap.sum()), standard_error(gap)
        better, worse = ranked[:2] if difference > 0 else ranked[1::-1]
        agrees = (
            "agrees" if better == self.best else "disagrees" if set(self.models[:2]) == {better, worse} else "says"
        )
        verdict = f"Leave-one-out {agrees}: amid the runs {better} foretells losses better than {worse}"
        if max(one.n_bad / len(one.elpd_i) for one in (first, second)) > _FEW_BAD:
            verdict = f"Leave-one-out is not to be relied on between {ranked[0]} and {ranked[1]}"
        elif abs(difference) < max(_NATS, _ERRORS * error):
            verdict = f"Leave-one-out does not decide between {ranked[0]} and {ranked[1]}"
        return (
            f"{verdict}: elpd_loo {first.elpd:.1f} ± {first.se:.1f} against {second.elpd:.1f} ± {second.se:.1f} "
            f"(difference {difference:.1f} ± {error:.1f}; {first.n_bad} and {second.n_bad} of {len(gap)} losses have "
            f"Pareto k above {first.good_k:.2f})"
        )

    def _beyond(self) -> str:
        """Verdict of the backtest, between the two models that forecast best."""
        table = self.table()
        first, second = table.iloc[0], table.iloc[1]
        sure = 1 - second["p_better"]
        splits = self.backtest.frame.drop_duplicates(["split", "cutoff", "held_out"])
        verdict = f"{first['model']} forecasts better than {second['model']}"
        if self.n_groups < _FEWEST:
            verdict = f"{first['model']} did better than {second['model']}, but on too few groups of runs to decide"
        elif sure < DECIDED:
            verdict = f"not decided between {first['model']} and {second['model']}"
        return (
            f"{verdict}: CRPS {first['crps']:.3g}% of the loss against {second['crps']:.3g}% (difference "
            f"{second['difference']:.2g}, 90% interval {second['q0.05']:.2g} to {second['q0.95']:.2g}) over "
            f"{first['n']:.0f} losses ({_count(len(splits), 'split')}, {_count(self.n_groups, 'group')} of one "
            f"training set and budget); 90% intervals held {first['coverage90']:.0f}% and {second['coverage90']:.0f}%"
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def compare(
    sweep: Sweep | str | Path | pd.DataFrame | Backtest,
    *,
    models: Sequence[str | Path | ModelSpec] = ("joint", BASELINE),
    kinds: Sequence[str] = ("hindcast",),
    loo: bool = True,
    fits: Sequence[Posterior] = (),
    **options: Any,
) -> Comparison:
    """Compare models by how well they forecast the larger runs of a sweep from its smaller ones.

    And by leave-one-out, which judges them amid the runs: each is fitted to all runs for it.

    Parameters
    ----------
    sweep : Sweep, str, Path, pandas.DataFrame or Backtest
        Runs, or what `load_sweep` takes; or a backtest of the models that was made before.
    models : sequence of str, Path or ModelSpec
        Two or more: what `fit` takes, or "baseline".
    kinds : sequence of {"hindcast", "translation"}
        Splits to make.
    loo : bool, default True
        Whether to leave losses out, too. The baseline has no posterior to do it with.
    fits : sequence of Posterior
        Fits of the models to all runs that were made before; with a backtest, leave-one-out is of these alone.
    **options
        Of `backtest`.

    Returns
    -------
    Comparison
        With its table, and a verdict as text.

    Raises
    ------
    DataError
        If there are fewer than two models, or no loss that all of them forecast.
    TableError, SpecError
        As `backtest`.
    """
    made = isinstance(sweep, Backtest)
    if not made and (isinstance(models, str | Path) or len(models) < 2):
        raise DataError("Name two models or more to compare, such as joint and baseline.")
    found: Backtest = sweep if isinstance(sweep, Backtest) else backtest(sweep, models=models, kinds=kinds, **options)
    if len(found.models) < 2:
        raise DataError(f"The backtest is of {found.models[0]} alone: there is nothing to compare it with.")
    counts = found.frame.groupby(_FORECAST)["model"].transform("nunique")
    kept = found.frame[counts == len(found.models)].reset_index(drop=True)
    if kept.empty:
        raise DataError(f"No loss was forecast by all of {', '.join(found.models)}: there is nothing to compare.")
    notes = found.notes
    if left := len(found.frame) - len(kept):
        message = f"{left} of {len(found.frame)} forecasts are not compared: not all models made them"
        notes = (*notes, Note("not_compared", "info", message, {"forecasts": left}))
    fitted: dict[str, Callable[[], Posterior]] = {one.spec.name: partial(replace, one) for one in fits}
    if not isinstance(sweep, Backtest):
        fitted = _to_be_fitted(sweep, models, options) | fitted
    scores, said = _left_out(fitted if loo else {}, options.get("progress") or (lambda line: None))
    return Comparison(Backtest(kept, found.notes), (*notes, *said), scores)


def _to_be_fitted(
    sweep: Sweep | str | Path | pd.DataFrame, models: Sequence[str | Path | ModelSpec], options: Mapping[str, Any]
) -> dict[str, Callable[[], Posterior]]:
    """By name of a model, what fits it to all runs that the backtest is of."""
    from bayes_l2l.data.datasets import load_sweep
    from bayes_l2l.inference.sampling import sample, sampler_settings

    runs = (sweep if isinstance(sweep, Sweep) else load_sweep(sweep)).select(
        eval_sets=options.get("eval_sets"), metric="loss"
    )
    given: dict[str, Any] = {name: options.get(name) for name in ("draws", "tune", "chains", "random_seed")}
    settings = sampler_settings(**given)
    specs = [load_spec(model) for model in models if model != BASELINE]
    return {spec.name: partial(sample, runs, spec=spec, settings=settings) for spec in specs}


def _left_out(
    fitted: Mapping[str, Callable[[], Posterior]], progress: Callable[[str], object]
) -> tuple[dict[str, LeaveOneOut], list[Note]]:
    """Leave-one-out scores of models, and what is said of those without, or not to be relied on."""
    found, notes = {}, []
    for name, make in fitted.items():
        try:
            one = make()
            score = leave_one_out(one)
        except L2LError as refusal:
            message = f"{name} has no leave-one-out score: {refusal}"
            notes.append(Note("no_loo", "info", message, {"model": name}))
            continue
        found[name] = score
        progress(f"[leave-one-out] {name}: {score}")
        if not one.trusted:
            serious = ", ".join(note.code for note in one.notes if note.severity == "serious")
            message = f"the fit of {name} to all runs is not to be trusted ({serious}), nor its elpd_loo"
            notes.append(Note("loo_not_trusted", "warning", message, {"model": name}))
        if score.n_bad > _FEW_BAD * len(score.elpd_i):
            message = (
                f"{score.n_bad} of {len(score.elpd_i)} losses of {name} have Pareto k above {score.good_k:.2f}: each "
                "alone moves the fit too much to be left out without fitting again, and elpd_loo may be far off"
            )
            notes.append(Note("loo_not_trusted", "warning", message, {"model": name, "bad_k": score.n_bad}))
    return found, notes
