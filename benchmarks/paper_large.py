"""Large runs from large runs, and hindcasts of several models (tables as in paper_tables.py)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from bayes_l2l.baselines import bootstrap, fit_point
from bayes_l2l.regressions import bootstrap_relation
from benchmarks import paper_data as paper
from benchmarks.paper_data import SETS, TASKS, Runs, cell, others, paired
from benchmarks.paper_fits import BOOTS, SCORES, Table, Work, averages, forecast, relation_forecast, scored

#: A hindcast is fitted to runs of a set up to here, and predicts those from there (FLOPs).
_HINDCAST: Final = (2.1e18, 2e19)


def pairs(runs: Runs, work: Work) -> list[Table]:
    """Train-to-train on the large runs: one is observed, the other five are predicted."""
    own = runs.own
    entropies = bootstrap(own.sweep, n_boot=BOOTS, seed=work.seed).cells
    rows, scores = [], {"joint": [], "bootstrap, E1 fitted": [], "bootstrap, E's bootstrapped": []}
    for source in work.some(SETS):
        known = cell(own.stars, source, source)
        targets = others(own.stars, source)
        fit = work.fit(pd.concat([own.sweep, known]), what=f"large run of {source}")
        scores["joint"].append(scored(forecast(fit, targets), targets))
        rows.append([source, *averages(scores["joint"][-1])])
        for target in targets["train_set"]:
            star = cell(own.stars, target, target)
            both = paired(cell(own.sweep, source, source), cell(own.sweep, target, target))
            laws = entropies[source, source], entropies[target, target]
            least = min(both["x"].min(), known["loss"].min()), both["y"].min()
            E0, E1 = (np.minimum(law.resampled.E, 0.999 * m) for law, m in zip(laws, least, strict=True))
            ways = {"bootstrap, E1 fitted": {"E0": float(laws[0].point.E)}}
            ways["bootstrap, E's bootstrapped"] = {"E0": E0, "E1": E1}
            for name, given in ways.items():
                boots = bootstrap_relation(both["x"], both["y"], **given, n_boot=BOOTS, seed=work.seed)
                scores[name].append(scored(relation_forecast(boots, star, known["loss"]), star))
    return [
        {
            "title": "Train-to-train on the large runs: ordered pairs",
            "text": "The sweep and one large run are known; the large runs of the other sets are predicted, at 20 "
            "times the compute. Percent of the loss.",
            "columns": ["method", *SCORES.values()],
            "rows": [[name, *averages(found)] for name, found in scores.items()],
        },
        {
            "title": "The same by source, joint model",
            "text": "",
            "columns": ["source", *SCORES.values()],
            "rows": rows,
        },
    ]


def evaluations(runs: Runs, work: Work) -> list[Table]:
    """Train-to-test on the large runs: their own losses are observed, the other evaluations are predicted."""
    tasks = list(work.some(TASKS))
    names = [*SETS, *tasks]
    sweep, stars = (t[t["eval_set"].isin(names)] for t in (runs.sweep, runs.stars))
    if work.quick:
        sweep, stars = (t[t["train_set"].isin(SETS[:2])] for t in (sweep, stars))
    known = paper.own(stars)
    actual = stars.drop(known.index)
    fit = work.fit(pd.concat([sweep, known]), what="sweep, all evaluations, large runs' own losses")
    joint = scored(forecast(fit, actual), actual)
    E = {t: _entropy(cell(sweep, t, t)) for t in known["train_set"]}
    habit = []
    for (evaluation, train), star in actual.groupby(["eval_set", "train_set"]):
        both = paired(cell(sweep, train, train), cell(sweep, evaluation, train))
        boots = bootstrap_relation(both["x"], both["y"], E0=E[train], n_boot=BOOTS, seed=work.seed)
        habit.append(scored(relation_forecast(boots, star, cell(known, train, train)["loss"]), star))
    rows = []
    for what, kept in (("validation sets", list(SETS)), ("tasks", tasks)):
        for name, found in (("joint", joint), ("bootstrap", pd.concat(habit))):
            rows.append([what, name, *averages(found[found["eval_set"].isin(kept)])])
    per = [[e, *averages(joint[joint["eval_set"] == e])] for e in names if e in set(joint["eval_set"])]
    return [
        {
            "title": "Train-to-test on the large runs",
            "text": "The sweep and every large run's own loss are known. The bootstrap relates the two losses of "
            "each training set on its own. Percent of the loss.",
            "columns": ["evaluations", "method", *SCORES.values()],
            "rows": rows,
        },
        {
            "title": "The same by evaluation, joint model",
            "text": "",
            "columns": ["evaluation", *SCORES.values()],
            "rows": per,
        },
    ]


def ablations(runs: Runs, work: Work) -> list[Table]:
    """Train-to-train hindcasts inside the sweep by several models."""
    own = runs.own.sweep
    low, high = _HINDCAST
    folds = []
    for source in work.some(SETS):
        rest = others(own, source)
        full = cell(own, source, source)
        known = full[["params", "tokens"]].drop_duplicates()
        actual = rest[rest["flops"] > high].merge(known, on=["params", "tokens"])
        folds.append((source, pd.concat([full, rest[rest["flops"] <= low]]), actual))
    rows = []
    for model in work.models:
        found = []
        for source, table, actual in folds:
            fit = work.fit(table, what=f"larger runs of {source} alone", model=model)
            found.append(scored(forecast(fit, actual), actual))
        seconds = sum(c["seconds"] for c in work.checks if c["model"] == model)
        rows.append([model, *averages(found), seconds])
    rows.append(["bootstrap, E1 fitted", *averages(_hindcast_habit(folds, seed=work.seed)), None])
    return [
        {
            "title": "Ablations: train-to-train hindcasts",
            "text": f"Fitted to all runs of one source and to runs up to {low:.2g} FLOPs of the others, whose runs "
            f"of more than {high:.2g} FLOPs are predicted, at sizes that the source has. Percent of the loss.",
            "columns": ["model", *SCORES.values(), "seconds"],
            "rows": rows,
        }
    ]


def _hindcast_habit(folds: Any, *, seed: int) -> list[pd.DataFrame]:
    found = []
    for source, table, actual in folds:
        full = cell(table, source, source)
        E0 = _entropy(full)
        for target, runs in actual.groupby("train_set"):
            both, ahead = paired(full, cell(table, target, target)), paired(full, runs)
            boots = bootstrap_relation(both["x"], both["y"], E0=E0, n_boot=BOOTS, seed=seed)
            found.append(scored(relation_forecast(boots, ahead, ahead["x"]), runs))
    return found


def _entropy(runs: pd.DataFrame) -> float:
    """E of Eq. 4, fitted to the runs of one cell."""
    return float(fit_point(runs["params"], runs["tokens"], runs["loss"]).E)
