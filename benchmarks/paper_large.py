"""Large runs from large runs, and hindcasts of several models (tables as in paper_tables.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from bayes_l2l.evaluation.baseline import bootstrap
from bayes_l2l.point_fits.resampling import CellFit
from benchmarks import paper_data as paper
from benchmarks.paper_data import SETS, TASKS, Runs, cell, others, paired
from benchmarks.paper_fits import BOOTS, SCORES, Table, Work, averages, forecast, relation_forecast, scored
from benchmarks.regressions import bootstrap_relation

#: A hindcast is fitted to runs of a set up to here, and predicts those from there (FLOPs).
_HINDCAST: Final = (2.1e18, 2e19)

Cell = tuple[str, str]


def pairs(runs: Runs, work: Work) -> list[Table]:
    """Train-to-train on the large runs: one is observed, the other five are predicted."""
    runs = runs.train_losses
    laws = bootstrap(runs.sweep, n_boot=BOOTS, seed=work.seed).cells
    rows, found = [], []
    for source in work.some(SETS):
        known = cell(runs.large, source, source)
        targets = others(runs.large, source)
        fit = work.fit(pd.concat([runs.sweep, known]), what=f"large run of {source}")
        found.append({"joint": scored(forecast(fit, targets), targets)})
        rows.append([source, *averages(found[-1]["joint"])])
        for target in targets["train_set"]:
            actual = cell(runs.large, target, target)
            cells = (source, source), (target, target)
            found.append(by_regression(runs.sweep, laws, *cells, actual, known["loss"], seed=work.seed))
    return [
        {
            "title": "Train-to-train on the large runs: ordered pairs",
            "text": "The sweep and one large run are known; the large runs of the other sets are predicted, at 20 "
            "times the compute. Percent of the loss.",
            "columns": ["method", *SCORES.values()],
            "rows": _by_method(found),
        },
        {
            "title": "The same by source, joint model",
            "text": "",
            "columns": ["source", *SCORES.values()],
            "rows": rows,
        },
    ]


def evaluations(runs: Runs, work: Work) -> list[Table]:
    """Train-to-test on the large runs: their train losses are observed, the other evaluations are predicted."""
    return _train_to_test(runs, work, title="Train-to-test on the large runs", fitted="The sweep")


def hindcast_evaluations(runs: Runs, work: Work) -> list[Table]:
    """Train-to-test inside the sweep: the train losses of its larger runs are observed, their others predicted."""
    low, high = _HINDCAST
    small, large = (runs.sweep[kept] for kept in (runs.sweep["flops"] <= low, runs.sweep["flops"] > high))
    fitted = f"Runs up to {low:.2g} FLOPs, those above {high:.2g} predicted: the former"
    return _train_to_test(Runs(small, large), work, title="Train-to-test hindcasts", fitted=fitted)


def _train_to_test(runs: Runs, work: Work, *, title: str, fitted: str) -> list[Table]:
    """Losses of large runs on other evaluations from their train losses, by the joint model and by regressions."""
    tasks = list(work.some(TASKS))
    names = [*SETS, *tasks]
    sweep, large = (t[t["eval_set"].isin(names)] for t in (runs.sweep, runs.large))
    if work.quick:
        sweep, large = (t[t["train_set"].isin(SETS[:2])] for t in (sweep, large))
    known = paper.train_losses(large)
    actual = large.drop(known.index)
    fit = work.fit(pd.concat([sweep, known]), what=f"{title}: all evaluations, large runs' train losses")
    joint = scored(forecast(fit, actual), actual)
    laws = bootstrap(sweep, n_boot=BOOTS, seed=work.seed).cells
    found = [{"joint": joint}]
    for (evaluation, train), ahead in actual.groupby(["eval_set", "train_set"]):
        cells, both = ((train, train), (evaluation, train)), paired(cell(known, train, train), ahead)
        outcome = both.rename(columns={"y": "loss"})
        found.append(by_regression(sweep, laws, *cells, outcome, both["x"], seed=work.seed))
    rows = []
    for what, kept in (("validation sets", list(SETS)), ("tasks", tasks)):
        of_kind = [{name: t[t["eval_set"].isin(kept)] for name, t in part.items()} for part in found]
        rows += [[what, *row] for row in _by_method(of_kind)]
    per = [[e, *averages(joint[joint["eval_set"] == e])] for e in names if e in set(joint["eval_set"])]
    return [
        {
            "title": title,
            "text": f"{fitted} and every large run's train loss are known. The bootstrap relates the two losses of "
            "each training set on its own. Percent of the loss.",
            "columns": ["evaluations", "method", *SCORES.values()],
            "rows": rows,
        },
        {
            "title": f"{title}, by evaluation, joint model",
            "text": "",
            "columns": ["evaluation", *SCORES.values()],
            "rows": per,
        },
    ]


def ablations(runs: Runs, work: Work) -> list[Table]:
    """Train-to-train hindcasts inside the sweep by several models."""
    sweep = runs.train_losses.sweep
    low, high = _HINDCAST
    splits = []
    for source in work.some(SETS):
        rest = others(sweep, source)
        full = cell(sweep, source, source)
        known = full[["params", "tokens"]].drop_duplicates()
        actual = rest[rest["flops"] > high].merge(known, on=["params", "tokens"])
        splits.append((source, pd.concat([full, rest[rest["flops"] <= low]]), actual))
    found, seconds = [], {}
    for model in work.models:
        for source, table, actual in splits:
            fit = work.fit(table, what=f"larger runs of {source} alone", model=model)
            found.append({model: scored(forecast(fit, actual), actual)})
        seconds[model] = sum(c["seconds"] for c in work.checks if c["model"] == model)
    for source, table, actual in splits:
        laws, full = bootstrap(table, n_boot=BOOTS, seed=work.seed).cells, cell(table, source, source)
        for target, ahead in actual.groupby("train_set"):
            cells, loss = ((source, source), (str(target), str(target))), paired(full, ahead)["x"]
            found.append(by_regression(table, laws, *cells, ahead, loss, seed=work.seed))
    rows = [[*row, seconds.get(row[0])] for row in _by_method(found)]
    return [
        {
            "title": "Ablations: train-to-train hindcasts",
            "text": f"Fitted to all runs of one source and to runs up to {low:.2g} FLOPs of the others, whose runs "
            f"of more than {high:.2g} FLOPs are predicted, at sizes that the source has. Percent of the loss.",
            "columns": ["model", *SCORES.values(), "seconds"],
            "rows": rows,
        }
    ]


def by_regression(
    table: pd.DataFrame,
    laws: Mapping[Cell, CellFit],
    source: Cell,
    target: Cell,
    actual: pd.DataFrame,
    loss: Any,
    *,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Scores of bootstrapped regressions from one cell to another, by method.

    Parameters
    ----------
    table : DataFrame
        Fitted runs.
    laws : mapping of (eval_set, train_set) to CellFit
        Laws of both cells, for their E's.
    source, target : (str, str)
        (eval_set, train_set).
    actual : DataFrame
        Runs of the target to predict.
    loss : array-like, shape (n,)
        The source's losses at their sizes.
    seed : int
        Of the resampling.

    Returns
    -------
    dict of str to DataFrame
        With E0 fixed and E1 fitted, and with both E's taken from laws that are refitted to resampled runs.
    """
    both = paired(cell(table, *source), cell(table, *target))
    # A resampled law may end above a loss that its own runs lack.
    least = 0.999 * min(both["x"].min(), np.min(loss)), 0.999 * both["y"].min()
    E0, E1 = (np.minimum(laws[c].resampled.E, most) for c, most in zip((source, target), least, strict=True))
    fixed = float(min(laws[source].point.E, least[0]))
    ways: dict[str, Any] = {
        "bootstrap, E1 fitted": {"E0": fixed},
        "bootstrap, E's bootstrapped": {"E0": E0, "E1": E1},
    }
    found = {}
    for name, given in ways.items():
        fit = bootstrap_relation(both["x"], both["y"], **given, n_boot=len(E0), seed=seed)
        found[name] = scored(relation_forecast(fit, actual, loss), actual)
    return found


def _by_method(found: Sequence[Mapping[str, pd.DataFrame]]) -> list[list[Any]]:
    """Mean scores of every method, a row each."""
    names = dict.fromkeys(name for part in found for name in part)
    return [[name, *averages([part[name] for part in found if name in part])] for name in names]
