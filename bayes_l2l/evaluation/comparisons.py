"""Comparison: models side by side, by how well each forecast the same larger runs from the same smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.display import as_html
from bayes_l2l.errors import DataError
from bayes_l2l.evaluation.backtests import Backtest, backtest
from bayes_l2l.evaluation.jobs import BASELINE
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Sweep
    from bayes_l2l.spec.model import ModelSpec

#: A model is better if it is so in at least this part of the resamples.
DECIDED: Final = 0.95
_RESAMPLES: Final = 4000
#: Fewer groups of runs than this cannot tell a difference from chance.
_FEWEST: Final = 6
#: Runs of one training set and about one budget are off together, in all splits.
_TOGETHER: Final = ["train_set", "budget"]
_FORECAST: Final = ["split", "cutoff", "held_out", "train_set", "eval_set", "run_id"]
_SHOWN: Final = ("n", "rel_error", "bias", "crps", "coverage50", "coverage90", "width90", "interval_score90")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Scores of models on the losses that all of them forecast; made by `compare`.

    Parameters
    ----------
    backtest : Backtest
        Of all models, those losses alone.
    notes : tuple of Note
        Of the backtest, and on losses that not all models forecast.
    """

    backtest: Backtest
    notes: tuple[Note, ...] = ()

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
            interval q0.05 to q0.95; p_better: in which part of the resamples it is lower.
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
        return table.rename_axis("model").reset_index()

    def __str__(self) -> str:
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
    **options: Any,
) -> Comparison:
    """Compare models by how well they forecast the larger runs of a sweep from its smaller ones.

    Parameters
    ----------
    sweep : Sweep, str, Path, pandas.DataFrame or Backtest
        Runs, or what `load_sweep` takes; or a backtest of the models that was made before.
    models : sequence of str, Path or ModelSpec
        Two or more: what `fit` takes, or "baseline".
    kinds : sequence of {"hindcast", "translation"}
        Splits to make.
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
    return Comparison(Backtest(kept, found.notes), notes)
