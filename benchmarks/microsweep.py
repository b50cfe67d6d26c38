"""What the joint model says of the embedded sweep.

::

    python benchmarks/microsweep.py fit WORK         the joint model, without the large runs: WORK/train.nc and all.nc
    python benchmarks/microsweep.py evaluate WORK    what those fits say of the large runs: results/ and docs/

How the runs were made is in docs/microsweep.md; what is to replace them, `microsweep_next.py` makes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.evaluation import scores
from bayes_l2l.files import write_picture, write_whole
from bayes_l2l.plotting import laws as plots
from bayes_l2l.plotting import relations

RESULTS: Final = Path(__file__).parent / "results"
#: Scores that are shown of every large run's train loss.
ONE_BY_ONE: Final = ("train_set", "actual", "median", "rel_error", "width90")
DOCS: Final = Path(__file__).parents[1] / "docs"


def say(text: str) -> None:
    """Tell how it goes."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fit_files(work: Path) -> dict[str, Path]:
    """What is fitted, and where the fits are kept."""
    return {"train losses": work / "train.nc", "all losses": work / "all.nc"}


def fit(work: Path) -> None:
    """Fit the joint model to the embedded sweep, its train losses and all losses, as `bayes-l2l fit` does."""
    for (name, path), eval_sets in zip(fit_files(work).items(), ("train", "all"), strict=True):
        if not path.exists():
            fitted = l2l.fit(l2l.load_sweep("microsweep", eval_sets=eval_sets), random_seed=1)
            fitted.save(path)
            say(f"{name}: {diagnosed(fitted)}")


def evaluate(work: Path) -> None:
    """Hold the fits to account on the large runs."""
    sweep, large = l2l.load_sweep("microsweep"), l2l.large_runs("microsweep")
    train, ahead = sweep.select(eval_sets="train"), large.select(eval_sets="train")
    fits = {name: l2l.load_fit(path) for name, path in fit_files(work).items() if path.exists()}
    forecasts = {name: forecast_scores(fit, large) for name, fit in fits.items()}
    pairs = train_to_train(fits["train losses"], ahead)
    found: dict[str, Any] = {
        "made": str(pd.Timestamp.now("UTC").date()),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, bayes_l2l {l2l.__version__}",
        "runs": int(sweep.n_runs),
        "large_runs": int(large.n_runs),
        "minima": minima(train.table).to_dict("records"),
        "repeats": seed_spread(train.table),
        "fits": {name: diagnosed(fit) for name, fit in fits.items()},
        "forecasts": {name: scores.summary(rows).iloc[0].to_dict() for name, rows in forecasts.items()},
        "train_losses": forecasts["train losses"][list(ONE_BY_ONE)].to_dict("records"),
        "by_kind": by_kind(forecasts["all losses"]) if "all losses" in forecasts else [],
        "train_to_train": {
            "n": len(pairs),
            "held90": int(pairs["held90"].sum()),
            "held50": int(pairs["held50"].sum()),
        },
        "pairs": pairs.to_dict("records"),
    }
    write_whole(
        RESULTS / "microsweep.json", lambda part: part.write_text(json.dumps(found, indent=1, default=float) + "\n")
    )
    write_whole(RESULTS / "microsweep.md", lambda part: part.write_text(as_markdown(found)))
    write_picture(plots.curves(fits["train losses"], large=ahead), DOCS / "microsweep_forecast.png")
    write_picture(isoflops(train.table), DOCS / "microsweep_isoflop.png")
    pictured = relations.train_to_train(fits["train losses"], source="english", large=ahead)
    write_picture(pictured, DOCS / "microsweep_train_to_train.png")
    if "all losses" in fits:
        shown = {"source": "english", "target": "python", "eval_set": "dictionary"}
        write_picture(relations.overview(fits["all losses"], **shown, large=large), DOCS / "microsweep_relations.png")


def forecast_scores(fit: l2l.Fit, large: l2l.Sweep) -> pd.DataFrame:
    """Scores of the forecasts of those large runs whose cells were fitted, a row a loss."""
    cells = pd.DataFrame(fit.cells, columns=["eval_set", "train_set"])
    actual = large.table.merge(cells, on=["eval_set", "train_set"])
    return scores.score_table(fit.forecast(actual[list(scores.KEYS)]).table(), actual)


def train_to_train(fit: l2l.Fit, large: l2l.Sweep) -> pd.DataFrame:
    """What the train loss of one set's large run, which is not fitted, says of another's: a row an ordered pair."""
    losses = large.table.set_index("train_set")["loss"]
    rows = []
    for source in losses.index:
        for target in losses.index.drop(source):
            draws = fit.translate(source, target).forecast(losses[source])[:, 0]
            low, lower, median, upper, high = np.nanquantile(draws, [0.05, 0.25, 0.5, 0.75, 0.95])
            loss = losses[target]
            row = {"source": source, "target": target, "actual": loss, "median": median, "low": low, "high": high}
            held = {"held90": bool(low <= loss <= high), "held50": bool(lower <= loss <= upper)}
            # Draws whose irreducible entropy of the source lies above its observed loss say nothing of the target.
            unreached = 100 * float(np.isnan(draws).mean())
            rows.append(row | held | {"rel_error": 100 * abs(median / loss - 1), "unreached": unreached})
    return pd.DataFrame(rows)


def minima(train: pd.DataFrame) -> pd.DataFrame:
    """Where the best size of each isoFLOP curve lies: its place among the sizes, and D/N there."""
    rows = []
    for (name, budget), curve in train.sort_values("params").groupby(["train_set", "budget"]):
        place = int(curve["loss"].argmin())
        best = curve.iloc[place]
        ends = place in (0, len(curve) - 1)
        rows.append(
            {
                "train_set": name,
                "budget": budget,
                "params": best["params"],
                "tokens_per_param": best["tokens"] / best["params"],
                "inside": not ends,
            }
        )
    return pd.DataFrame(rows)


def seed_spread(train: pd.DataFrame) -> list[dict[str, Any]]:
    """Repeats of three runs: what seed 0 gave again, and the standard deviation over seeds."""
    path = RESULTS / "microsweep_repeats.csv"
    if not path.exists():
        return []
    table = pd.read_csv(path)
    table = table[table["train_set"] == table["eval_set"]]
    rows = []
    for (name, params), runs in table.groupby(["train_set", "params"]):
        again = runs[runs["seed"] == 0].iloc[0]
        before = train.loc[train["run_id"] == again["run_id"], "loss"].item()
        sd = runs["loss"].std(ddof=1)
        rows.append(
            {
                "train_set": name,
                "params": params,
                "loss": before,
                "again": again["loss"],
                "seeds": len(runs),
                "mean": runs["loss"].mean(),
                "sd": sd,
                "sd_percent": 100 * sd / before,
            }
        )
    return rows


def diagnosed(fit: l2l.Fit) -> dict[str, Any]:
    """How a fit went."""
    worst = {kind: fit.diagnostics.sel(diagnostic=kind).to_array() for kind in ("rhat", "ess_bulk")}
    return {
        "losses": len(fit.sweep),
        "cells": len(fit.cells),
        "seconds": fit.record["seconds"],
        "rhat": float(worst["rhat"].max()),
        "ess": float(worst["ess_bulk"].min()),
        "divergences": int(fit.tree["sample_stats"]["diverging"].sum()),
        "notes": [str(note) for note in fit.notes],
    }


def by_kind(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Scores of train losses and of those on the other corpora."""
    kind = np.where(rows["eval_set"] == rows["train_set"], "train", "other")
    return scores.summary(rows.assign(kind=kind), by="kind").to_dict("records")


def isoflops(train: pd.DataFrame) -> Any:
    """Loss against N, a curve a budget and a panel a corpus."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names, budgets = sorted(train["train_set"].unique()), sorted(train["budget"].unique())
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(budgets)))
    fig = Figure(figsize=(11, 6), layout="constrained")
    for ax, name in zip(fig.subplots(2, 3).flat, names, strict=True):
        for budget, colour in zip(budgets, colours, strict=True):
            curve = train[(train["train_set"] == name) & (train["budget"] == budget)]
            curve = curve.groupby("params", as_index=False)["loss"].mean()  # over seeds
            ax.plot(curve["params"], curve["loss"], "o-", ms=3.5, lw=1, color=colour, label=f"{budget:.2g} FLOPs")
        ax.set(xscale="log", title=name)
        ax.spines[["top", "right"]].set_visible(False)
    fig.supxlabel("parameters N")
    fig.supylabel("train loss (nats/byte)")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(budgets), frameon=False)
    return fig


def as_markdown(found: dict[str, Any]) -> str:
    """The results as a page."""
    made = pd.DataFrame(found["minima"])
    inside = made.groupby("train_set")["inside"].sum()
    parts = [
        "# The measured sweep, held to account\n",
        f"`python benchmarks/microsweep.py evaluate`, {found['made']}, {found['machine']}. {found['runs']} runs are "
        f"fitted, {found['large_runs']} large ones of 20 times the largest budget are not. Percent of the loss.\n",
        "## Train-to-train, large runs not fitted\n",
        "From the train loss that one set's large run reached, that of another's "
        f"(`fit.translate(source, target).forecast(loss)`): 90% intervals hold "
        f"{found['train_to_train']['held90']} of {found['train_to_train']['n']} pairs, 50% intervals "
        f"{found['train_to_train']['held50']}. `unreached` is the percentage of draws that the intervals leave out: "
        "their irreducible entropy of the source is above the loss that it reached.\n",
        markdown(pd.DataFrame(found["pairs"])),
        "## Forecasts from N and D\n",
        markdown(
            pd.DataFrame(found["forecasts"])
            .T.rename_axis("fit")
            .reset_index()[
                ["fit", "n", "rel_error", "bias", "crps", "coverage50", "width50", "coverage90", "width90"]
            ]
        ),
        "Train losses, one by one:\n",
        markdown(pd.DataFrame(found["train_losses"])),
        "## Fits\n",
        markdown(
            pd.DataFrame(found["fits"]).T.drop(columns="notes").rename_axis("fit").reset_index(),
        ),
        *(f"- {name}: {note}\n" for name, fit in found["fits"].items() for note in fit["notes"]),
        "\n## IsoFLOP curves\n",
        "Budgets, of five, whose best size is not at an end: "
        + ", ".join(f"{name} {count}" for name, count in inside.items())
        + ". The best size of each:\n",
        markdown(made),
    ]
    if found["by_kind"]:
        shown = pd.DataFrame(found["by_kind"])[["kind", "n", "rel_error", "bias", "crps", "coverage50", "coverage90"]]
        parts += ["## The fit of all losses, by kind of cell\n", markdown(shown)]
    if found["repeats"]:
        parts += [
            "## Repeats\n",
            "`again` is seed 0 once more, `sd` over seeds (initial weights and order of the data).\n",
            markdown(pd.DataFrame(found["repeats"])),
        ]
    return "\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers to four digits."""

    def shown(value: Any) -> str:
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)

    lines = [list(table.columns), ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(shown, line)) + " |" for line in lines) + "\n"


JOBS: Final = {
    "fit": fit,
    "evaluate": evaluate,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("work", type=Path, help="folder for the fits")
    told = parser.parse_args()
    JOBS[told.job](told.work)
