"""The headline predictions of arXiv 2403.08540 with intervals, beside theirs and what happened, as a command.

Six runs were held out by its authors, and are fitted by nothing here: for each, the C4 validation loss from (N, D)
and the mean error of 17 tasks through that loss. ``few`` fits what they fitted (5 runs a set for the loss, one
more for the error), ``whole`` all runs that are not held out, by the default model, and forecasts all 8 losses and
46 tasks besides::

    python benchmarks/overtraining.py few --output benchmarks/results
    python benchmarks/overtraining.py whole --output benchmarks/results

``bootstrap`` forecasts both by the recipe of that paper and resampled runs, for the tables of the other two
(`overtraining_bootstrap`)::

    python benchmarks/overtraining.py bootstrap

``slope`` asks among the fitted runs whether the slope is the same for every M (`overtraining_slope`)::

    python benchmarks/overtraining.py slope --chains 2 --tune 600

Forms, priors and thresholds were chosen on hindcasts among the other runs (models/README.md).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.data.datasets import large_runs
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.evaluation.baseline import bootstrap
from bayes_l2l.evaluation.scores import crps_draws
from bayes_l2l.inference.sampling import sample_errors
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.prediction.forecasts import Forecast
from bayes_l2l.structures.error_rate import error_draws
from bayes_l2l.structures.models import load_error_spec
from benchmarks import overtraining_bootstrap, overtraining_slope

LOSS, ERROR = "c4_val", "avg_17"
#: Of the bootstrap: the paper's, and the package's own of the same law.
RECIPES = ("least squares", "robust")
POINT = ["train_set", "eval_set", "params", "tokens"]
#: Relative errors (%) of the recipe of arXiv 2403.08540 by (train_set, millions of parameters): loss, 17-task error.
#: Those of rpj are published; the others are the same recipe on their other two sets.
THEIRS = {
    ("rpj", 1440): (0.71, 3.64),
    ("rpj", 6889): (0.73, 0.05),
    ("c4_original", 6889): (4.30, 0.14),
    ("c4_original", 1440): (1.50, 9.58),
    ("rw_original", 6889): (1.62, 2.94),
    ("rw_original", 1440): (0.005, 5.62),
}

#: Parts that are no table of forecasts: what they ask, what makes them, and their tables.
ALONE = {
    "slope": ("is the slope the same for every M?", overtraining_slope.slope, overtraining_slope.as_markdown),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("few", "whole", "bootstrap", *ALONE))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    started = perf_counter()
    settings = {"draws": args.draws, "tune": args.tune, "chains": args.chains, "random_seed": args.seed}
    found = ALONE[args.part][1](settings) if args.part in ALONE else _forecasts(args.part, settings)
    found = {
        "seconds": round(perf_counter() - started),
        "settings": settings,
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in ("pymc", "nutpie")},
    } | found
    path = args.output / "overtraining.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    record[args.part] = found
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (args.output / "overtraining.md").write_text(as_markdown(record), encoding="utf-8")
    sys.stdout.write(as_markdown({args.part: found}))
    return 0


def _forecasts(part: str, settings: dict[str, Any]) -> dict[str, Any]:
    if part == "bootstrap":
        seed = settings["random_seed"]
        found: dict[str, Any] = {"settings": {"resamples": overtraining_bootstrap.RESAMPLES, "random_seed": seed}}
        rows = bootstrapped(seed)
    else:
        rows, fits = {"few": few, "whole": whole}[part](settings)
        found = {"fits": fits}
    return {"rows": json.loads(rows.to_json(orient="records", double_precision=6))} | found


def few(settings: dict[str, Any]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Their own runs: the law of over-training on five a set, their form of the error on these and one more."""
    sweep, ahead = l2l.load_sweep("gadre"), large_runs("gadre", eval_sets=[LOSS, ERROR]).table
    table = sweep.table
    five = _rows(sweep, (table["used_in_paper_loss_fit"] == 1) & (table["eval_set"] == LOSS))
    loss = l2l.fit(five, model="overtraining", **settings)
    # The sixth run, of 1.4B parameters at 20 tokens each, is one of the error's: its loss is the x there.
    six = _rows(sweep, (table["used_in_paper_error_fit"] == 1) & table["eval_set"].isin([LOSS, ERROR]))
    error = _errors_alone(six, settings)
    forecast = loss.forecast(ahead[ahead["eval_set"] == LOSS][["train_set", "eval_set", "params", "tokens"]])
    losses = _beside(forecast.draws, ahead[ahead["eval_set"] == LOSS], "loss")
    of_error = ahead[ahead["eval_set"] == ERROR]
    through = loss.forecast(of_error.assign(eval_set=LOSS)[["train_set", "eval_set", "params", "tokens"]])
    errors = _beside(error_draws(error, of_error, through.draws, kind="predictive"), of_error, "error")
    return pd.concat([losses, errors], ignore_index=True), [_of_fit(loss), {"notes": [str(n) for n in error.notes]}]


def whole(settings: dict[str, Any]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """All runs that are not held out, by the default models."""
    ahead = large_runs("gadre", eval_sets="all").table
    fit = l2l.fit(l2l.load_sweep("gadre"), **settings)
    forecast: Forecast = fit.forecast(ahead[["train_set", "eval_set", "params", "tokens"]])
    metric = np.where(ahead["metric"] == "loss", "loss", "error")
    return _beside(forecast.draws, ahead, metric), [_of_fit(fit)]


def bootstrapped(seed: int) -> pd.DataFrame:
    """Both parts by the recipe of the paper and a bootstrap of its runs; single tasks are left out."""
    table, parts = l2l.load_sweep("gadre").table, []
    for part in ("few", "whole"):
        losses = errors = table
        if part == "few":
            losses, errors = (table[table[f"used_in_paper_{what}_fit"] == 1] for what in ("loss", "error"))
        ahead = large_runs("gadre", eval_sets="all").table
        kept = ahead["eval_set"].isin([LOSS, ERROR])
        if part == "whole":
            kept |= (ahead["metric"] == "loss") | (ahead["eval_set"] == "avg_46")
        ahead = ahead[kept]
        draws, failed = overtraining_bootstrap.forecasts(losses, errors, ahead, seed=seed)
        parts.append(_beside(draws, ahead, ahead["metric"]).assign(part=part, recipe=RECIPES[0], failed=failed))
    losses = ahead[ahead["metric"] == "loss"]
    robust = bootstrap(table, law="overtraining", seed=seed).draw(losses[POINT])
    parts.append(_beside(robust.draws, losses, "loss").assign(part="whole", recipe=RECIPES[1]))
    return pd.concat(parts, ignore_index=True)


def _errors_alone(sweep: Sweep, settings: dict[str, Any]) -> Posterior:
    given = {"seed" if name == "random_seed" else name: value for name, value in settings.items()}
    return sample_errors(sweep, spec=load_error_spec("error_exponential"), settings=SamplerSettings(**given))


def _rows(sweep: Sweep, kept: pd.Series) -> Sweep:
    return Sweep.from_table(sweep.table[kept], name=sweep.name)


def _beside(draws: np.ndarray, ahead: pd.DataFrame, metric: Any) -> pd.DataFrame:
    """Median, 90% interval and CRPS of every forecast beside what happened; blank where nothing was forecast."""
    y = ahead["loss"].to_numpy()
    low, median, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
    frame = ahead[POINT].assign(metric=metric, actual=y, median=median)
    frame = frame.assign(low=low, high=high, error_pct=100 * np.abs(median - y) / y, width_pct=100 * (high - low) / y)
    held = np.where(np.isnan(median), np.nan, (low <= y) & (y <= high))
    return frame.assign(held=held, crps_pct=100 * crps_draws(draws, y) / y)


def _of_fit(fit: l2l.Fit) -> dict[str, Any]:
    return {"model": fit.spec.name, "notes": [str(note) for note in fit.notes if note.severity != "info"]}


def as_markdown(record: dict[str, Any]) -> str:
    """The tables, from what is stored."""
    lines = ["# Over-training and downstream error (arXiv 2403.08540)", "", "Made by `benchmarks/overtraining.py`."]
    for part, found in record.items():
        if part in ALONE:
            lines += ["", f"## `{part}`: {ALONE[part][0]}", "", *ALONE[part][2](found), "", _made(found)]
            lines += [f"- {note}" for note in found["notes"]]
            continue
        if part == "bootstrap":  # in the tables of the parts that it is set beside
            continue
        rows = pd.DataFrame(found["rows"])
        baseline = _baseline(record, part)
        if baseline is not None:
            rows = rows.merge(baseline, on=POINT, how="left", validate="one_to_one", suffixes=("", "_baseline"))
        what = {"few": "their own fit runs", "whole": "all runs that are not held out"}[part]
        lines += ["", f"## `{part}`: {what}", ""]
        columns = ["run", "evaluation", "actual", "median", "90% interval", "error %", "theirs %", "CRPS %", "held"]
        columns += [
            f"bootstrap: {name}" for name in ("90% interval", "error %", "CRPS %", "held") if baseline is not None
        ]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        head = rows[rows["eval_set"].isin([LOSS, ERROR])]
        for row in head.sort_values(["eval_set", "train_set", "params"]).itertuples():
            theirs = THEIRS[row.train_set, round(row.params / 1e6)][row.eval_set == ERROR]
            run = f"{row.train_set} {row.params / 1e9:.1f}B/{row.tokens / 1e9:.0f}B"
            cells = [run, row.eval_set, f"{row.actual:.3f}", f"{row.median:.3f}", f"{row.low:.3f} to {row.high:.3f}"]
            cells += [f"{row.error_pct:.2f}", f"{theirs:g}", f"{row.crps_pct:.2f}", "yes" if row.held else "no"]
            if baseline is not None:
                cells += [f"{row.low_baseline:.3f} to {row.high_baseline:.3f}", f"{row.error_pct_baseline:.2f}"]
                cells += [f"{row.crps_pct_baseline:.2f}", "yes" if row.held_baseline else "no"]
            lines.append("| " + " | ".join(cells) + " |")
        means = {"error_pct": ("error %", 2), "crps_pct": ("CRPS %", 2), "held": ("90% holds %", 0)}
        means |= {"width_pct": ("width %", 1)}
        columns = ["rows", "n", "forecast", *(name for name, _ in means.values())]
        if baseline is not None:
            columns += [f"bootstrap: {name}" for name, _ in means.values()]
        lines += ["", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        single = (rows["metric"] == "error") & ~rows["eval_set"].str.startswith("avg")
        groups = {
            LOSS: rows["eval_set"] == LOSS,
            ERROR: rows["eval_set"] == ERROR,
            "avg_46": rows["eval_set"] == "avg_46",
        }
        groups |= {"all losses": rows["metric"] == "loss", "single tasks": single}
        for name, of in groups.items():
            part_rows = rows[of]
            if len(part_rows):
                cells = [name, str(len(part_rows)), str(part_rows["median"].notna().sum())]
                for suffix in ("", "_baseline") if baseline is not None else ("",):
                    for column, (_, digits) in means.items():
                        mean = part_rows[column + suffix].astype(float).mean() * (100 if column == "held" else 1)
                        cells.append("" if np.isnan(mean) else f"{mean:.{digits}f}")
                lines.append("| " + " | ".join(cells) + " |")
        if baseline is not None:
            lines += ["", _failures(baseline)]
        if part == "whole" and baseline is not None:
            lines += ["", _robust(record)]
        lines += ["", _made(found)]
        for fit in found["fits"]:
            lines += [f"- {note}" for note in fit["notes"]]
    return "\n".join(lines) + "\n"


def _baseline(record: dict[str, Any], part: str) -> pd.DataFrame | None:
    """Forecasts of the bootstrap for a part, if they were made."""
    if "bootstrap" not in record:
        return None
    rows = pd.DataFrame(record["bootstrap"]["rows"])
    return rows[(rows["part"] == part) & (rows["recipe"] == RECIPES[0])]


def _failures(baseline: pd.DataFrame) -> str:
    """What share of the resamples determined no law."""
    shares = []
    for law, metric in (("Eq. 4", "loss"), ("Eq. 5", "error")):
        failed = 100 * baseline.loc[baseline["metric"] == metric, "failed"]
        shares.append(
            f"{law} " + " to ".join(dict.fromkeys(f"{of:.0f}" for of in (failed.min(), failed.max()))) + "%"
        )
    return (
        "Bootstrap: the recipe of the paper (least squares of losses and of errors), refitted to resampled runs, "
        f"and a residual. Resamples that determined no law, and were left out: {', '.join(shares)}."
    )


def _robust(record: dict[str, Any]) -> str:
    """How the package's own point fit of the same law does, with its bootstrap."""
    rows = pd.DataFrame(record["bootstrap"]["rows"])
    robust = rows[rows["recipe"] == RECIPES[1]]
    said = []
    for name, of in {"all losses": robust, LOSS: robust[robust["eval_set"] == LOSS]}.items():
        means = of[["error_pct", "crps_pct", "held", "width_pct"]].astype(float).mean()
        said.append(
            f"{name}: error {means['error_pct']:.2f}%, CRPS {means['crps_pct']:.2f}%, 90% holds "
            f"{100 * means['held']:.0f}%, width {means['width_pct']:.1f}%"
        )
    return f"Eq. 4 by the least Huber loss of log residuals instead (`bayes_l2l.bootstrap`). {'; '.join(said)}."


def _made(found: dict[str, Any]) -> str:
    return f"{found['settings']}; {found['seconds']} s, {found['machine']}, {found['versions']}."


if __name__ == "__main__":
    sys.exit(main())
