"""What a plan promises, against brute force, and what it is worth, against the eight runs of arXiv 2411.12925.

::

    python benchmarks/planning.py [refits] [eights --work FOLDER] [--draws --tune --chains --seed --cores]

All on own losses of arXiv 2411.12925, without its large runs. Results go to benchmarks/results/planning.json and
planning.md, a section at a time.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import permutations
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.build import point_label
from bayes_l2l.output import write_whole
from bayes_l2l.sampling import CompiledModel
from bayes_l2l.scores import crps_draws
from benchmarks.paper_data import EDU, SETS, Runs, cell, eight, renamed

GOAL: Final = {"params": 3.31e9, "tokens": 5.04e10}
#: Target, and the places of its known runs in the order of compute.
CASES: Final = {"starcoder": (0, 1, 2), "smollm-corpus": tuple(range(0, 40, 5))}
BUDGET: Final = 5e19
#: Runs of the planned batch after which the model is fitted again, and single candidates by their place in compute.
STOPS: Final = (1, 4, 8)
SINGLES: Final = (0.1, 0.5, 1.0)
#: Cheapest budgets at which a new set is known before anything is planned.
PILOT: Final = 2
#: Random eights, of seeds 0, 1, ...
RANDOM: Final = 3
RESULTS: Final = Path(__file__).parent / "results"
ABOUT: Final = {
    "refits": """Promised and refitted

The standard deviation that runs leave, with and without a refit. Fitted: runs up to 1e19 FLOPs of two sets
and few of a third, the target. Goal: the forecast of the target's run of 3.3e9 parameters and 5e10 tokens.
Candidates are the target's other runs up to 1e19 FLOPs, so that each can be added to the table and the model
fitted again: single ones, and the planned batch, run by run. Targets are StarCoder with its three cheapest
runs, and SmolLM with eight runs of the smallest budgets. Refits know one outcome of the runs, plans average
over what may come out. Nats/token.""",
    "eights": """The eight runs of a new set

Which runs of a new set make its law known from that of another? For every ordered pair of sets the joint
model is fitted to all runs of the source and to few of the target, and predicts the target's other runs. "The
paper's eight": near 20 tokens a parameter at every budget (6 to 8 runs). "Planned": as many runs, of at most
the same total FLOPs, all from the target's own grid. Of the target the two runs nearest 20 tokens a parameter
at its two smallest budgets are known; `plan` picks the others, its goal the law at all sizes that the source
has run: a batch, of which the first half is made, then the rest again with their losses known. "At once": the
whole first batch is made. "Random": three draws from all sets of as many runs of at most the same total
FLOPs. Scored are the target's runs that none of them chose, all the same ones. Percent of the loss, means
over the pairs of means over runs.""",
}


class Fitter:
    """Fits of the joint model to tables of the same cells, compiled once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.settings = {"draws": args.draws, "tune": args.tune, "chains": args.chains, "random_seed": args.seed}
        self.settings["cores"] = args.cores
        self.compiled: CompiledModel | None = None
        self.worst: dict[str, float] = {}

    def __call__(self, table: pd.DataFrame) -> l2l.Fit:
        """Fit a table, and remember how badly the worst fit sampled."""
        sweep = l2l.Sweep.from_table(table.reset_index(drop=True), name="planning")
        if self.compiled is None:
            self.compiled = CompiledModel(l2l.load_spec("joint"), sweep)
        fit = l2l.fit(sweep, compiled=self.compiled, **self.settings)
        found = {
            "seconds": fit.record["seconds"],
            "rhat": float(fit.diagnostics.sel(diagnostic="rhat").to_array().max(skipna=True)),
            "divergences": int(fit.tree["sample_stats"]["diverging"].sum()),
        }
        self.worst = largest(self.worst, found)
        return fit


def largest(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The larger value of each."""
    return {key: max(value, one.get(key, value)) for key, value in other.items()}


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


def refits(runs: Runs, args: argparse.Namespace) -> dict[str, Any]:
    """Compare all cases with brute force."""
    own = runs.own.sweep
    own = own[(own["flops"] < 1.05e19) & own["train_set"].isin([EDU, *CASES])]
    fitted = Fitter(args)
    rows = [row for target, known in CASES.items() for row in compare(target, known, own, fitted)]
    names = {"promised": "promised by the plan", "flops": "their FLOPs", "runs": "runs added"}
    return {
        "rows": [{names.get(key, key): value for key, value in row.items()} for row in rows],
        "worst": fitted.worst,
    }


def pilot(target: pd.DataFrame) -> pd.DataFrame:
    """Of each of the smallest budgets the run nearest 20 tokens a parameter."""
    off = np.abs(np.log(target["data_ratio"] / 20))
    cheapest = [off[rows.index].idxmin() for _, rows in target.groupby(target["flops"].round(-15))][:PILOT]
    return target.loc[cheapest]


def at_random(target: pd.DataFrame, n: int, cost: float, seed: int) -> pd.DataFrame:
    """As many runs of at most this cost together, all such sets being equally probable."""
    rng = np.random.default_rng(seed)
    while True:
        drawn = target.iloc[rng.choice(len(target), n, replace=False)]
        if drawn["flops"].sum() <= cost:
            return drawn


def planned(
    source: pd.DataFrame, target: pd.DataFrame, n: int, cost: float, fitted: Callable[[pd.DataFrame], l2l.Fit]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Runs that plans choose, the pilot's among them; of the target no loss is looked at before its run is chosen."""
    made = pilot(target)
    sizes = source[["params", "tokens"]].drop_duplicates()
    (name,) = target["train_set"].unique()

    def batch(made: pd.DataFrame) -> pd.DataFrame:
        plan = fitted(pd.concat([source, made])).plan(
            goal=name,
            params=sizes["params"].to_numpy(),
            tokens=sizes["tokens"].to_numpy(),
            budget=cost - made["flops"].sum(),
            runs=n - len(made),
            candidates=target.drop(made.index)[["train_set", "params", "tokens", "flops"]],
        )
        size = ["params", "tokens"]
        order = plan.batch[size].merge(target[size].reset_index(), on=size, how="left", validate="one_to_one")
        return target.loc[order["index"]]

    first = batch(made)
    yield "planned at once", pd.concat([made, first])
    made = pd.concat([made, first[: ceil(len(first) / 2)]])
    yield "planned", pd.concat([made, batch(made)])


def pair(source: pd.DataFrame, target: pd.DataFrame, fitted: Callable[[pd.DataFrame], l2l.Fit]) -> dict[str, Any]:
    """What every strategy chooses and how well the target's runs are then predicted, by strategy and run."""
    paper = eight(target)
    n, cost = len(paper), float(paper["flops"].sum())
    chosen = {"the paper's": paper} | dict(planned(source, target, n, cost, fitted))
    chosen |= {f"random {seed}": at_random(target, n, cost, seed) for seed in range(RANDOM)}
    found = {}
    for name, few in chosen.items():
        draws = fitted(pd.concat([source, few])).forecast(target[["train_set", "params", "tokens"]]).draws
        loss = target["loss"].to_numpy()
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        found[name] = {
            "chosen": [point_label(n, d) for n, d in zip(few["params"], few["tokens"], strict=True)],
            "flops": float(few["flops"].sum()),
            "crps": (100 * crps_draws(draws, loss) / loss).tolist(),
            "inside": ((low <= loss) & (loss <= high)).tolist(),
            "width": (100 * (high - low) / loss).tolist(),
        }
    return {"runs": [point_label(n, d) for n, d in zip(target["params"], target["tokens"], strict=True)], **found}


def eights(runs: Runs, args: argparse.Namespace) -> dict[str, Any]:
    """All pairs; those that are stored in the folder are not made again."""
    folder = Path(args.work)
    folder.mkdir(parents=True, exist_ok=True)
    fitted, rows, worst = Fitter(args), [], dict[str, float]()
    for source, target in permutations(SETS, 2):
        path = folder / f"{source}_{target}.json"
        if not path.exists():
            # Cells of one name are one compiled model.
            both = renamed(runs.own.sweep, {source: "source", target: "target"})
            fitted.worst = {}
            found = pair(cell(both, "source", "source"), cell(both, "target", "target"), fitted)
            text = json.dumps({"worst": fitted.worst} | found)
            write_whole(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
        found = json.loads(path.read_text(encoding="utf-8"))
        worst = largest(worst, found.pop("worst"))
        rows += common({"source": source, "target": target}, found)
        latest = {row["strategy"]: round(row["CRPS"], 3) for row in rows if row["target"] == target}
        sys.stdout.write(f"{source} to {target}: {latest}\n")
        sys.stdout.flush()
    table = pd.DataFrame(rows)
    table["strategy"] = table["strategy"].str.replace(r" \d$", "", regex=True)
    numbers = table.columns.drop(["source", "target", "strategy"])
    best = table.pivot_table(index=["source", "target"], columns="strategy", values="CRPS")
    summary = table.groupby("strategy", sort=False)[[*numbers]].mean()
    summary.insert(0, "pairs", len(best))
    summary["better than the paper's"] = best.lt(best["the paper's"], axis=0).sum()
    by_target = table.pivot_table(index="target", columns="strategy", values="CRPS").reset_index()
    shown = {"rows": summary.reset_index().to_dict("records"), "CRPS by target": by_target.to_dict("records")}
    return shown | {"pairs": rows, "worst": worst}


def common(names: Mapping[str, str], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Scores of every strategy on the runs that none of them chose."""
    runs = np.array(found.pop("runs"))
    held_out = ~np.isin(runs, [run for strategy in found.values() for run in strategy["chosen"]])
    return [
        {
            **names,
            "strategy": name,
            "runs": len(strategy["chosen"]),
            "FLOPs": strategy["flops"],
            "held out": int(held_out.sum()),
            "CRPS": float(np.array(strategy["crps"])[held_out].mean()),
            "90% holds": float(100 * np.array(strategy["inside"])[held_out].mean()),
            "its width": float(np.array(strategy["width"])[held_out].mean()),
        }
        for name, strategy in found.items()
    ]


SECTIONS: Final = {"refits": refits, "eights": eights}


def written(stored: Mapping[str, Any]) -> str:
    """All sections as Markdown."""
    lines = ["# Plans"]
    for name, part in stored.items():
        title, _, text = ABOUT[name].partition("\n\n")
        lines += ["", f"## {title}", "", text, "", *_grid(part["rows"])]
        if "CRPS by target" in part:
            lines += ["", "CRPS by target:", "", *_grid(part["CRPS by target"])]
        chosen, worst = part["settings"], part["worst"]
        versions = ", ".join(f"{package} {number}" for package, number in part["versions"].items())
        lines += [
            "",
            f"`python benchmarks/planning.py {name}`, {part['date']}: fits of {chosen['chains']} x "
            f"({chosen['tune']} + {chosen['draws']}) draws; worst R-hat {worst['rhat']:.3f}, "
            f"{worst['divergences']} divergences; {versions}.",
        ]
    return "\n".join(lines) + "\n"


def _grid(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in ([*rows[0]], ["---"] * len(rows[0]), *cells)]


def main() -> None:
    """Run the sections that are named, or both, and store them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--work", default="eights", help="folder for pairs that are done")
    for name, default in (("draws", 500), ("tune", 500), ("chains", 2), ("seed", 1), ("cores", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    runs, path = Runs.load(), RESULTS / "planning.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in args.sections or SECTIONS:
        stored[name] = SECTIONS[name](runs, args) | {
            "settings": {key: getattr(args, key) for key in ("draws", "tune", "chains", "seed")},
            "date": datetime.now(UTC).date().isoformat(),
            "versions": {"Python": platform.python_version(), "bayes_l2l": l2l.__version__}
            | {package: version(package) for package in ("pymc", "nutpie", "numpy")},
        }
        text, page = json.dumps(stored, indent=1) + "\n", written(stored)
        write_whole(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
        write_whole(path.with_suffix(".md"), lambda part, page=page: part.write_text(page, encoding="utf-8"))
        sys.stdout.write(written({name: stored[name]}))


if __name__ == "__main__":
    main()
