"""What a plan promises, against brute force: the standard deviation that runs leave, with and without a refit.

::

    python benchmarks/planning.py [--draws --tune --chains --seed]

Data: own losses of arXiv 2411.12925 up to 1e19 FLOPs on two sets and few runs of a third, the target. Goal: the
forecast of the target's run of 3.3e9 parameters and 5e10 tokens. Candidates are the target's other runs up to 1e19
FLOPs, so that each can be added to the table and the model fitted again: single ones, and the planned batch, run by
run. Targets are StarCoder with its three cheapest runs, and SmolLM with eight runs of the smallest budgets. Refits
know one outcome of the runs, plans average over what may come out.

Results go to benchmarks/results/planning.json and planning.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.output import write_whole
from bayes_l2l.sampling import CompiledModel
from benchmarks.paper_data import EDU, Runs

GOAL: Final = {"params": 3.31e9, "tokens": 5.04e10}
#: Target, and the places of its known runs in the order of compute.
CASES: Final = {"starcoder": (0, 1, 2), "smollm-corpus": tuple(range(0, 40, 5))}
BUDGET: Final = 5e19
#: Runs of the planned batch after which the model is fitted again, and single candidates by their place in compute.
STOPS: Final = (1, 4, 8)
SINGLES: Final = (0.1, 0.5, 1.0)
RESULTS: Final = Path(__file__).parent / "results"


class Fitter:
    """Fits of the joint model to tables of the same cells, compiled once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.settings = {"draws": args.draws, "tune": args.tune, "chains": args.chains, "random_seed": args.seed}
        self.compiled: CompiledModel | None = None

    def __call__(self, table: pd.DataFrame) -> l2l.Fit:
        """Fit a table."""
        sweep = l2l.Sweep.from_table(table.reset_index(drop=True), name="planning")
        if self.compiled is None:
            self.compiled = CompiledModel(l2l.load_spec("joint"), sweep)
        return l2l.fit(sweep, compiled=self.compiled, **self.settings)


def sd(fit: l2l.Fit, target: str) -> float:
    """Standard deviation of the forecast of the goal (nats/token)."""
    forecast = fit.forecast(train_set=target, eval_set=target, **GOAL)
    return float(forecast.draws.std())


def compare(target: str, known: Sequence[int], own: pd.DataFrame, fitted: Fitter) -> list[dict[str, Any]]:
    """Plan for a target, refit with what was planned, and set both side by side, a row a set of runs."""
    runs = own[own["train_set"] == target].sort_values(["flops", "loss"], ignore_index=True)
    base = pd.concat([own[own["train_set"] != target], runs.loc[list(known)]])
    others = runs.drop(index=list(known)).reset_index(drop=True)
    before = fitted(base)
    plan = before.plan(goal=target, budget=BUDGET, runs=max(STOPS), candidates=others, **GOAL)
    rows: list[dict[str, Any]] = []

    def add(what: str, made: pd.DataFrame, promised: float, fit: l2l.Fit) -> None:
        row = {"target": target, "runs": what, "flops": float(made["flops"].sum()), "promised": promised}
        rows.append(row | {"refitted": sd(fit, target)})
        sys.stdout.write(f"{rows[-1]}\n")
        sys.stdout.flush()

    def refit(what: str, made: pd.DataFrame, promised: float) -> None:
        size = ["params", "tokens"]
        add(what, made, promised, fitted(pd.concat([base, others.merge(made[size], on=size)])))

    add("none", others[:0], plan.before, before)
    singles = plan.candidates.sort_values("flops", ignore_index=True)
    for place in SINGLES:
        one = singles.iloc[[round(place * (len(singles) - 1))]]
        refit("one", one, float(one["after"].iloc[0]))
    for stop in dict.fromkeys(min(stop, len(plan.batch)) for stop in STOPS):
        refit(f"first {stop} of the batch", plan.batch.iloc[:stop], float(plan.batch["after"].iloc[stop - 1]))
    return rows


def main() -> None:
    """Compare all cases, and store them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, default in (("draws", 400), ("tune", 400), ("chains", 2), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    own = Runs.load().own.sweep
    own = own[(own["flops"] < 1.05e19) & own["train_set"].isin([EDU, *CASES])]
    fitted = Fitter(args)
    rows = [row for target, known in CASES.items() for row in compare(target, known, own, fitted)]
    settings = {name: getattr(args, name) for name in ("draws", "tune", "chains", "seed")}
    stored = {"rows": rows, "settings": settings, "date": datetime.now(UTC).date().isoformat()}
    lines = ["# Plans against brute force", "", (__doc__ or "").split("Data: ")[1].split("Results")[0].strip(), ""]
    lines += ["Standard deviation of the forecast of the goal, nats/token.", ""]
    lines += ["| target | runs added | their FLOPs | promised by the plan | refitted |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['target']} | {r['runs']} | {r['flops']:.2g} | {r['promised']:.4f} | {r['refitted']:.4f} |"
        for r in rows
    ]
    write_whole(RESULTS / "planning.json", lambda part: part.write_text(json.dumps(stored, indent=1) + "\n"))
    write_whole(RESULTS / "planning.md", lambda part: part.write_text("\n".join(lines) + "\n"))


if __name__ == "__main__":
    main()
