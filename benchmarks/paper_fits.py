"""Fits of a benchmark: compiled once for the same cells, checked, and scored against the runs that they predict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

import bayes_l2l as l2l
from bayes_l2l.evaluation import scores
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.prediction.forecasts import Forecast
from benchmarks.regressions import RelationFit

#: Models that stand here for comparison only, by name.
ABLATIONS: Final = {path.stem: path for path in sorted((Path(__file__).parent / "models").glob("*.toml"))}
#: The 99 levels over which a CRPS is twice the mean pinball loss.
LEVELS = tuple(np.round(np.arange(0.01, 1, 0.01), 2))
#: Resamples of the point fits that stand beside a posterior.
BOOTS: Final = 200
#: What is shown of scores: percent of the actual loss, coverage in percent of the runs.
SCORES = {
    "n": "n",
    "rel_error": "rel. err",
    "crps": "CRPS",
    "coverage50": "c50",
    "coverage90": "c90",
    "width90": "w90",
}

Table = dict[str, Any]


@dataclass
class Work:
    """Settings of the sampler, models that are compiled already, and what is known of the fits of a section."""

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int = 2
    seed: int = 1
    quick: bool = False
    models: Sequence[str] = ()
    checks: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _compiled: dict[Any, CompiledModel] = field(default_factory=dict, repr=False)

    def some(self, items: Sequence[str]) -> Sequence[str]:
        """All of them; when it must be quick, the first two."""
        return items[:2] if self.quick else items

    def fit(self, table: pd.DataFrame, *, what: str, model: str = "joint") -> l2l.Fit:
        """Fit a model to a long table, and note how well it sampled under the name of `what`."""
        sweep = l2l.Sweep.from_table(table, name=what)
        key = model, tuple(sweep.cells[["train_set", "eval_set"]].itertuples(index=False, name=None))
        if key not in self._compiled:
            self._compiled.clear()  # cells of a past section do not come back
            self._compiled[key] = CompiledModel(l2l.load_spec(ABLATIONS.get(model, model)), sweep)
        fit = l2l.fit(
            sweep,
            draws=self.draws,
            tune=self.tune,
            chains=self.chains,
            cores=self.cores,
            random_seed=self.seed,
            compiled=self._compiled[key],
        )
        worst = {kind: fit.diagnostics.sel(diagnostic=kind).to_array() for kind in ("rhat", "ess_bulk")}
        found = {
            "fit": what,
            "model": model,
            "rows": len(sweep),
            "cells": len(fit.cells),
            "seconds": fit.record["seconds"],
            "rhat": float(worst["rhat"].max(skipna=True)),
            "ess": float(worst["ess_bulk"].min(skipna=True)),
            "divergences": int(fit.tree["sample_stats"]["diverging"].sum()),
        }
        self.checks.append(found)
        sys.stderr.write(
            f"  {model}, {what}: {found['rows']} rows, {found['seconds']:.0f} s, R-hat {found['rhat']:.3f}, "
            f"ESS {found['ess']:.0f}, {found['divergences']} divergences\n"
        )
        return fit


def forecast(fit: l2l.Fit, runs: pd.DataFrame, *, kind: str = "predictive") -> pd.DataFrame:
    """Forecast table of the sizes and cells of some runs."""
    return fit.forecast(sizes(runs), kind=kind).table(quantiles=LEVELS)


def sizes(runs: pd.DataFrame) -> pd.DataFrame:
    """Cells and sizes of some runs, each once."""
    return runs[list(scores.KEYS)].drop_duplicates()


def relation_forecast(fit: RelationFit, runs: pd.DataFrame, loss: Any) -> pd.DataFrame:
    """Forecast table of a bootstrapped regression, for runs whose source's losses are given."""
    points = (
        runs[list(scores.KEYS)].reset_index(drop=True).assign(flops=runs["flops"].to_numpy(), extrapolation=np.nan)
    )
    table = Forecast(points, fit.draws(loss), "predictive").table(quantiles=LEVELS)
    return table.drop_duplicates(list(scores.KEYS))


def scored(table: pd.DataFrame, actual: pd.DataFrame) -> pd.DataFrame:
    """Scores of a forecast table, one row a run."""
    return scores.score_table(table, actual)


def averages(rows: pd.DataFrame | Sequence[pd.DataFrame]) -> list[float]:
    """Number and mean scores, in the order of `SCORES`."""
    table = rows if isinstance(rows, pd.DataFrame) else pd.concat(list(rows), ignore_index=True)
    n, *means = scores.summary(table)[list(SCORES)].iloc[0]
    return [int(n), *map(float, means)]
