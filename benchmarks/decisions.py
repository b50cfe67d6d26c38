"""Scored decisions on the runs of arXiv 2411.12925: which of two training sets has the lower loss, from small runs.

::

    python benchmarks/decisions.py [hindcasts] [large] --fits FOLDER [--draws --tune --chains --seed --cores]

The joint model is fitted to all 17 evaluations of the runs up to a cut-off in compute, and says P(A beats B) for
every two training sets at the (N, D) of larger runs that both have. "hindcasts" asks for the runs of 2.2e19 and
4.8e19 FLOPs, "large" for those of 1e21 from runs of at most 1e19. Fits are kept in FOLDER and not made again. Beside
it stands the single-scale ranking: the order of the losses at the largest fitted budget, at the one size at which all
sets have a run and the lowest mean loss ("best size"), or averaged over all sizes of that budget that both have ("all
sizes"). Two training sets on one evaluation are one "distinct" pair; hindcasts ask for it at every size, with answers
that are alike.

Results go to benchmarks/results/decisions.json and decisions.md, a section at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.data.sizes import size_label
from benchmarks.pages import store
from benchmarks.paper_data import SETS, TASKS, Runs

#: Fitted up to here, in FLOPs, and asked for the larger runs of the sweep.
HINDCASTS: Final = (2.1e18, 1e19)
#: Runs that hindcasts ask for, and the cut-off that the large runs of 1e21 are asked for from.
LARGE: Final = 2e19
SMALL: Final = 1e19
EDGES: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EVALS: Final = (*SETS, *TASKS)
RESULTS: Final = Path(__file__).parent / "results"


def fitted(cutoff: float, runs: Runs, args: argparse.Namespace) -> l2l.Fit:
    """The joint model's fit to the runs up to a cut-off, from its file if it is there."""
    path = Path(args.fits) / f"fit_{cutoff:.3g}.nc"
    if not path.exists():
        sweep = l2l.Sweep.from_table(upto(runs.sweep, cutoff), name=f"up to {cutoff:.3g} FLOPs")
        settings = {"draws": args.draws, "tune": args.tune, "chains": args.chains, "random_seed": args.seed}
        settings["cores"] = args.cores
        l2l.fit(sweep, **settings).save(path)
    return l2l.load_fit(path)


def upto(table: pd.DataFrame, cutoff: float) -> pd.DataFrame:
    """Runs up to a budget, which is rounded in the sweep."""
    return table[table["eval_set"].isin(EVALS) & (table["flops"] <= 1.05 * cutoff)]


def decisions(fit: l2l.Fit, asked: pd.DataFrame) -> pd.DataFrame:
    """Every two training sets with a run of one size: P(a beats b), and whether it does, a row an evaluation."""
    at = asked[asked["eval_set"].isin(EVALS)].reset_index(drop=True)
    forecast = fit.forecast(at[["train_set", "eval_set", "params", "tokens", "flops"]])
    size = [size_label(n, d) for n, d in zip(at["params"], at["tokens"], strict=True)]
    rows = []
    for (evaluation, _), group in at.assign(size=size).groupby(["eval_set", "size"]):
        for i, j in combinations(group.drop_duplicates("train_set").index, 2):
            draws, (a, b) = forecast.draws, at["train_set"][[i, j]]
            rows.append(
                {
                    "eval_set": evaluation,
                    "a": a,
                    "b": b,
                    "params": at["params"][i],
                    "flops": at["flops"][i],
                    "p": float((draws[:, i] < draws[:, j]).mean()),
                    "a_wins": bool(at["loss"][i] < at["loss"][j]),
                }
            )
    return pd.DataFrame(rows)


def single_scale(small: pd.DataFrame) -> pd.DataFrame:
    """Loss of a less that of b at the largest budget of the small runs: at the best size, and over all sizes."""
    top = small[small["flops"] > small["flops"].max() / 1.05]
    rows = []
    for evaluation, group in top.groupby("eval_set"):
        losses = group.pivot_table(index=["params", "tokens"], columns="train_set", values="loss")
        best = losses.dropna().mean(axis=1).idxmin()
        for a, b in combinations(sorted(losses), 2):
            gap = losses[a] - losses[b]
            rows.append({"eval_set": evaluation, "a": a, "b": b, "best size": gap[best], "all sizes": gap.mean()})
    return pd.DataFrame(rows)


def scored(fit: l2l.Fit, small: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Decisions of the model beside those of the single scale, and which of them are right."""
    found = decisions(fit, asked.sort_values("train_set"))
    found = found.merge(single_scale(small), on=["eval_set", "a", "b"], validate="many_to_one")
    wins = found["a_wins"]
    found["confidence"] = np.maximum(found["p"], 1 - found["p"])
    found["joint right"] = (found["p"] > 0.5) == wins
    found["brier"] = (found["p"] - wins) ** 2
    for name in ("best size", "all sizes"):
        found[f"{name} right"] = (found[name] < 0) == wins
    return found.assign(kind=np.where(found["eval_set"].isin(TASKS), "tasks", "validation sets"))


def shares(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Right calls in percent, by kind of evaluation."""
    groups: Mapping[Any, pd.DataFrame] = {"all": found, **dict(iter(found.groupby("kind")))}
    return [
        {
            "evaluations": kind,
            "pairs": len(rows),
            **{f"{who} right": 100 * rows[f"{who} right"].mean() for who in ("joint", "best size", "all sizes")},
            "Brier": rows["brier"].mean(),
            "decided (P >= .9)": 100 * (rows["confidence"] >= 0.9).mean(),
        }
        for kind, rows in groups.items()
    ]


def reliability(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Promised and kept, in percent, by how sure the model was of the set that it calls the better one."""
    bins = np.clip(np.digitize(found["confidence"], EDGES) - 1, 0, len(EDGES) - 2)
    rows = []
    for k, (low, high) in enumerate(pairwise(EDGES)):
        group = found[bins == k]
        if len(group):
            kept = 100 * group["joint right"].mean()
            distinct = len(group[["eval_set", "a", "b"]].drop_duplicates())
            row = {"P": f"{low:g} to {high:g}", "pairs": len(group), "distinct": distinct}
            row |= {"promised": 100 * group["confidence"].mean()}
            rows.append(row | {"right": kept, "best size right": 100 * group["best size right"].mean()})
    return rows


def section(name: str, runs: Runs, args: argparse.Namespace) -> dict[str, Any]:
    """Tables of one section, by name, with how it was made."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for cutoff in HINDCASTS if name == "hindcasts" else (SMALL,):
        fit, small = fitted(cutoff, runs, args), upto(runs.sweep, cutoff)
        asked = runs.sweep[runs.sweep["flops"] > LARGE] if name == "hindcasts" else runs.large
        found = scored(fit, small, asked)
        title = f"{name}, fitted up to {cutoff:.3g} FLOPs"
        tables[f"{title}: right calls (%)"] = shares(found)
        tables[f"{title}: reliability (%)"] = reliability(found)
    settings = {"chains": fit.settings.chains, "draws": fit.settings.draws, "model": fit.spec.name}
    return {"tables": tables, "settings": settings, "date": datetime.now(UTC).date().isoformat()}


def as_markdown(stored: Mapping[str, Any]) -> str:
    """All sections as Markdown."""
    lines = ["# Scored decisions", "", (__doc__ or "").split("::")[0].strip(), "", "`python benchmarks/decisions.py`"]
    for part in stored.values():
        for title, rows in part["tables"].items():
            frame = pd.DataFrame(rows)
            cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in frame.to_numpy(object)]
            head = [list(frame), ["---"] * len(frame.columns), *cells]
            lines += ["", f"## {title}", "", *("| " + " | ".join(map(str, row)) + " |" for row in head)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the sections that are named, or both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sections", nargs="*", choices=["hindcasts", "large", []], default=[])
    parser.add_argument("--fits", required=True, help="folder for fits")
    parser.add_argument("--draws", type=int, default=800)
    parser.add_argument("--tune", type=int, default=800)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=1)
    args = parser.parse_args()
    runs, path = Runs.load(), RESULTS / "decisions.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in args.sections or ["hindcasts", "large"]:
        stored[name] = section(name, runs, args)
        store(path, stored, name, as_markdown)


if __name__ == "__main__":
    main()
