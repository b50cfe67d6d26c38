"""What a plan promises, against brute force, and what it is worth, against the eight runs of arXiv 2411.12925.

::

    python benchmarks/planning.py [refits] [eights] [eights_joint] [--work FOLDER]
                                  [--draws --tune --chains --seed --cores]

All on train losses of arXiv 2411.12925, without its large runs. Results go to benchmarks/results/planning.json and
planning.md, a section at a time.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.data.sizes import size_label
from bayes_l2l.evaluation.scores import crps_draws
from bayes_l2l.files import write_whole
from bayes_l2l.inference.compiled import CompiledModel
from benchmarks.pages import store
from benchmarks.paper_data import EDU, SETS, Runs, authors_laws, cell, eight, paired
from benchmarks.paper_fits import BOOTS
from benchmarks.regressions import bootstrap_relation

GOAL: Final = {"params": 3.31e9, "tokens": 5.04e10}
#: Target, and the places of its known runs in the order of compute.
CASES: Final = {"starcoder": (0, 1, 2), "smollm-corpus": tuple(range(0, 40, 5))}
BUDGET: Final = 5e19
#: Runs of the planned batch after which the model is fitted again, and single candidates by their place in compute.
STOPS: Final = (1, 4, 8)
SINGLES: Final = (0.1, 0.5, 1.0)
#: Cheapest budgets at which a new set is known before anything is planned.
PILOT: Final = 2
#: Means of few draws are wanted, not the tails of each posterior.
ACCEPT: Final = 0.9
#: Random eights, of seeds 0, 1, ...; of those the first are scored by the joint model, too.
RANDOM: Final = 5
RANDOM_JOINT: Final = 3
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

Which runs of a new set make its law known from that of another? For the 30 ordered pairs of sets the paper's
regression (Eq. 9 with E0 from its fit of the source's law; K, kappa and E1 fitted, with a bootstrap) is
fitted to few runs of the target, and predicts its others from the source's runs of equal size. "The paper's":
its eight, near 20 tokens a parameter at every budget (6 to 8 runs). "Planned": at most as many runs, of at
most the same total FLOPs, from the target's own grid. Of the target the two runs nearest 20 tokens a
parameter at its two smallest budgets are known; the joint model is fitted to these and the other five sets,
and its `plan` picks the others at once, without their losses, its goal the law at all sizes that other sets
have run. "Random": five draws from all sets of as many runs of at most the same total FLOPs. Scored are the
target's runs that none of them chose, the same for all. Percent of the loss, means over cases of means over
runs.""",
    "eights_joint": """The same eights, by the joint model

The same choices: the joint model is fitted to all runs of the other five sets and to the few of the target.
"joint": what `forecast` says of the target's other runs; "pairs": what `translate` makes of each other set's
run of equal size (30 ordered pairs, six fits a strategy).""",
}


class Fitter:
    """Fits of the joint model to tables of the same cells, compiled once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.settings = {"draws": args.draws, "tune": args.tune, "chains": args.chains, "random_seed": args.seed}
        self.settings |= {"cores": args.cores, "target_accept": ACCEPT}
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


def compare(target: str, known: Sequence[int], sweep: pd.DataFrame, fitted: Fitter) -> list[dict[str, Any]]:
    """Plan for a target, refit with what was planned, and set both side by side, a row a set of runs."""
    runs = sweep[sweep["train_set"] == target].sort_values(["flops", "loss"], ignore_index=True)
    base = pd.concat([sweep[sweep["train_set"] != target], runs.loc[list(known)]])
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
    sweep = runs.train_losses.sweep
    sweep = sweep[(sweep["flops"] < 1.05e19) & sweep["train_set"].isin([EDU, *CASES])]
    fitted = Fitter(args)
    rows = [row for target, known in CASES.items() for row in compare(target, known, sweep, fitted)]
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


def planned(others: pd.DataFrame, target: pd.DataFrame, n: int, cost: float, fitted: Fitter) -> pd.DataFrame:
    """Runs that a plan chooses, with the pilot's: of the target's others it knows the sizes, and no loss."""
    made = pilot(target)
    size, (name,) = ["params", "tokens"], target["train_set"].unique()
    goal = others[size].drop_duplicates()
    plan = fitted(pd.concat([others, made])).plan(
        goal=name,
        params=goal["params"].to_numpy(),
        tokens=goal["tokens"].to_numpy(),
        budget=cost - made["flops"].sum(),
        runs=n - len(made),
        candidates=target.drop(made.index)[["train_set", *size, "flops"]],
    )
    chosen = plan.batch[size].merge(target[size].reset_index(), on=size, how="left", validate="one_to_one")
    return pd.concat([made, target.loc[chosen["index"]]])


def chosen(name: str, target: str, runs: Runs, fitted: Fitter, folder: Path) -> pd.DataFrame:
    """Runs of the target that a strategy chooses; what is planned is kept in the folder."""
    mine = cell(runs.train_losses.sweep, target, target)
    paper = eight(mine)
    n, cost = len(paper), float(paper["flops"].sum())
    if name == "the paper's":
        return paper
    if name.startswith("random"):
        return at_random(mine, n, cost, seed=int(name.split()[1]))
    path = folder / f"{target}, planned.json"
    if not path.exists():
        found = planned(runs.train_losses.sweep.drop(mine.index), mine, n, cost, fitted)
        text = json.dumps(found["run_id"].tolist())
        write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
        sys.stdout.write(f"{target}: planned\n")
        sys.stdout.flush()
    return mine[mine["run_id"].isin(json.loads(path.read_text(encoding="utf-8")))]


def scored(rows: pd.DataFrame, draws: Any) -> dict[str, Any]:
    """Scores of draws (draw, run) of the loss of runs, in percent of the loss."""
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    loss = rows["loss"].to_numpy()
    return {
        "run": labels(rows),
        "CRPS": (100 * crps_draws(draws, loss) / loss).tolist(),
        "90% holds": (100.0 * ((low <= loss) & (loss <= high))).tolist(),
        "its width": (100 * (high - low) / loss).tolist(),
    }


def labels(rows: pd.DataFrame) -> list[str]:
    """Sizes of runs."""
    return [size_label(n, d) for n, d in zip(rows["params"], rows["tokens"], strict=True)]


def related(target: str, few: pd.DataFrame, runs: Runs, _: Fitter) -> dict[str, Any]:
    """How well the paper's regression from each other set, fitted to few runs, predicts the target's others."""
    sweep, laws, found = runs.train_losses.sweep, authors_laws(), {}
    for source in (s for s in SETS if s != target):
        both, known = (paired(cell(sweep, source, source), t) for t in (cell(sweep, target, target), few))
        fit = bootstrap_relation(known["x"], known["y"], E0=laws[source, source].E, n_boot=BOOTS)
        found[source] = scored(both.rename(columns={"y": "loss"}), fit.draws(both["x"]))
    return found


def refitted(target: str, few: pd.DataFrame, runs: Runs, fitted: Fitter) -> dict[str, Any]:
    """The same by the joint model: from its law, and from each other set's run of the size."""
    mine = cell(runs.train_losses.sweep, target, target)
    rest = runs.train_losses.sweep.drop(mine.index)
    fit = fitted(pd.concat([rest, few]))
    found = {"joint": scored(mine, fit.forecast(mine[["train_set", "params", "tokens"]]).draws)}
    for source in (s for s in SETS if s != target):
        both = paired(cell(rest, source, source), mine).rename(columns={"y": "loss"})
        found[source] = scored(both, fit.translate(source=source, target=target).forecast(both["x"].to_numpy()))
    return found


def eights(runs: Runs, args: argparse.Namespace) -> dict[str, Any]:
    """All strategies and targets, by the paper's regressions."""
    return compared(runs, args, related, RANDOM)


def eights_joint(runs: Runs, args: argparse.Namespace) -> dict[str, Any]:
    """The same by the joint model, with fewer random eights; what is stored in the folder is not fitted again."""
    return compared(runs, args, refitted, RANDOM_JOINT)


def compared(
    runs: Runs,
    args: argparse.Namespace,
    predict: Callable[[str, pd.DataFrame, Runs, Fitter], dict[str, Any]],
    n_random: int,
) -> dict[str, Any]:
    """Scores of all strategies, and what their worst fit was like."""
    folder = Path(args.work)
    folder.mkdir(parents=True, exist_ok=True)
    fitted, found = Fitter(args), {target: dict[str, Any]() for target in SETS}
    for name in ("planned", "the paper's", *(f"random {seed}" for seed in range(n_random))):
        for target in SETS:
            few = chosen(name, target, runs, fitted, folder)
            path = folder / f"{target}, {name}, {predict.__name__}.json"
            if not path.exists():
                about = {"chosen": labels(few), "flops": float(few["flops"].sum())}
                text = json.dumps(about | {"scores": predict(target, few, runs, fitted)} | {"worst": fitted.worst})
                write_whole(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
            found[target][name] = json.loads(path.read_text(encoding="utf-8"))
        sys.stdout.write(f"{name}: done\n")
        sys.stdout.flush()
    rows = [row for target in SETS for row in common(target, found[target])]
    worst = dict[str, float]()
    for strategy in (one for target in SETS for one in found[target].values()):
        worst = largest(worst, strategy["worst"])
    return summarised(pd.DataFrame(rows)) | {"all": rows, "worst": worst}


def common(target: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scores of every strategy, on the target's runs that none of them chose."""
    taken = {run for strategy in found.values() for run in strategy["chosen"]}
    rows = []
    for name, strategy in found.items():
        about = {"target": target, "strategy": name, "runs": len(strategy["chosen"]), "FLOPs": strategy["flops"]}
        for source, table in strategy["scores"].items():
            scores = pd.DataFrame(table)
            held_out = scores[~scores["run"].isin(taken)]
            by = "joint" if source == "joint" else "pairs"
            means = held_out.drop(columns="run").mean().to_dict()
            rows.append({"by": by, "source": source} | about | {"held out": len(held_out)} | means)
    return rows


def summarised(rows: pd.DataFrame) -> dict[str, Any]:
    """Means over pairs, and over targets of the joint forecast, a row a strategy; and by target."""
    rows = rows.assign(strategy=rows["strategy"].str.replace(r" \d$", "", regex=True))
    case = ["by", "target", "source"]
    best = rows.pivot_table(index=case, columns="strategy", values="CRPS")
    means = rows.groupby(["by", "strategy"], sort=False).mean(numeric_only=True)
    means.insert(4, "median CRPS", rows.groupby(["by", "strategy"], sort=False)["CRPS"].median())
    means.insert(0, "cases", [int(best.loc[by].shape[0]) for by, _ in means.index])
    won = best.lt(best["the paper's"], axis=0).groupby("by").sum()
    means["better than the paper's"] = [int(won.loc[key]) for key in means.index]
    by_target = rows.pivot_table(index=["by", "target"], columns="strategy", values="CRPS", sort=False)
    tables = {"rows": means, "CRPS by target": by_target}
    return {name: table.reset_index().to_dict("records") for name, table in tables.items()}


SECTIONS: Final = {"refits": refits, "eights": eights, "eights_joint": eights_joint}


def as_markdown(stored: Mapping[str, Any]) -> str:
    """All sections as Markdown."""
    lines = ["# Plans"]
    for name, part in stored.items():
        title, _, text = ABOUT[name].partition("\n\n")
        lines += ["", f"## {title}", "", text, "", *_grid(part["rows"])]
        if "CRPS by target" in part:
            lines += ["", "CRPS by target:", "", *_grid(part["CRPS by target"])]
        lines += ["", part["note"] if "note" in part else _footnote(name, part)]
    return "\n".join(lines) + "\n"


def _footnote(name: str, part: Mapping[str, Any]) -> str:
    used, worst = part["settings"], part["worst"]
    versions = ", ".join(f"{package} {number}" for package, number in part["versions"].items())
    return (
        f"`python benchmarks/planning.py {name}`, {part['date']}: fits of {used['chains']} x ({used['tune']} + "
        f"{used['draws']}) draws at a mean acceptance of {ACCEPT:g}; worst R-hat {worst['rhat']:.3f}, "
        f"{worst['divergences']} divergences; {versions}."
    )


def _grid(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in ([*rows[0]], ["---"] * len(rows[0]), *cells)]


def main() -> None:
    """Run the sections that are named, or both, and store them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--work", default="eights", help="folder for pairs that are done")
    for name, default in (("draws", 250), ("tune", 300), ("chains", 2), ("seed", 1), ("cores", 1)):
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
        store(path, stored, name, as_markdown)


if __name__ == "__main__":
    main()
