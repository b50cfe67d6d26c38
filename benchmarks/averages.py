"""Averages over evaluations of larger runs of arXiv 2411.12925, forecast from smaller ones: hindcasts, scored.

::

    python benchmarks/averages.py --fits FOLDER [--draws --tune --chains --seed --cores]

The joint model is fitted to all 17 evaluations of the runs up to a cut-off in compute and forecasts the mean of six
validation sets, and of eleven tasks, of each run of 2.2e19 and 4.8e19 FLOPs. Nothing beyond the sweep is fitted or
scored. "apart" draws what a run scatters on each evaluation independently; "together" as the residuals of the fitted
runs correlate, which is what forecasts do. Runs of one split are off together: coverage is that of few independent
forecasts. Fits are kept in FOLDER and not made again. Results go to benchmarks/results/averages.{json,md}.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.evaluation.scores import score_table, summary
from bayes_l2l.structures.joint import Joint
from bayes_l2l.structures.protocol import Structure
from benchmarks.decisions import LARGE, RESULTS, fitted
from benchmarks.pages import store
from benchmarks.paper_data import SETS, TASKS, Runs

PERCENTILES: Final = tuple(np.arange(1, 100) / 100)
CUTOFFS: Final = (2.2e18, 4.8e18)
GROUPS: Final[Mapping[str, Sequence[str]]] = {"six validation sets": SETS, "eleven tasks": TASKS}


def scored(fit: l2l.Fit, asked: pd.DataFrame, evaluations: Sequence[str]) -> dict[str, Any]:
    """Scores of the mean of evaluations, in percent of the actual mean."""
    table = asked[asked["eval_set"].isin(evaluations)]
    key = ["train_set", "params", "tokens"]
    table = table[table.groupby(key)["loss"].transform("size") == len(evaluations)]
    found = fit.forecast(table[[*key, "eval_set"]].reset_index(drop=True), average=True)
    actual = table.groupby(key, sort=False)["loss"].mean().reset_index()
    actual["eval_set"] = found.points["eval_set"].iloc[0]
    scores = summary(score_table(found.table(quantiles=PERCENTILES), actual))
    return dict(scores[["n", "rel_error", "bias", "crps", "coverage50", "coverage90", "width90"]].iloc[0])


def as_markdown(stored: Mapping[str, Any]) -> str:
    """Results as a Markdown page."""
    title, _, command, *text = (__doc__ or "").strip().split("\n\n")
    lines = ["# Averages over evaluations", "", title, "", f"`{command.strip()}`", "", *text, ""]
    lines += ["Percent of the actual mean.", ""]
    for part in stored.values():
        frame = pd.DataFrame(part["rows"])
        head = [list(frame), ["---"] * len(frame.columns)]
        cells = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row] for row in frame.to_numpy(object)]
        lines += ["| " + " | ".join(row) + " |" for row in (*head, *cells)] + ["", f"{part['settings']}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit what is not there, score and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fits", required=True, help="folder for fits")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--tune", type=int, default=600)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    runs, rows = Runs.load(), []
    asked = runs.sweep[runs.sweep["flops"] > LARGE]
    for cutoff in CUTOFFS:
        fit = fitted(cutoff, runs, args)
        for group, evaluations in GROUPS.items():
            apart = mock.patch.object(Joint, "evaluation_correlation", Structure.evaluation_correlation)
            for drawn, how in (("apart", apart), ("together", nullcontext())):
                with how:
                    found = scored(fit, asked, evaluations)
                rows.append({"fitted up to": f"{cutoff:.3g}", "mean of": group, "drawn": drawn, **found})
    settings = f"{args.chains} x ({args.tune} + {args.draws}) draws, pymc {version('pymc')}, numpy {version('numpy')}"
    store(RESULTS / "averages.json", {"hindcasts": {"rows": rows, "settings": settings}}, "hindcasts", as_markdown)


if __name__ == "__main__":
    main()
