"""Accuracy through loss on the runs of arXiv 2411.12925, beside the point fits of its appendix, as a command.

Eleven tasks (seven of OLMo's suite and the groups of MMLU) on six training sets. ``hindcast`` fits runs of at most
2.1e18 FLOPs and asks for those of 2.2e19 and more; ``large`` fits the sweep and asks for the six runs of 1e21 FLOPs,
which nothing here fits or chooses by. The loss is that of the task itself (Appendix A.2), one that all training sets
share, or the train loss of each set; it is taken as measured, or forecast from (N, D)::

    python benchmarks/accuracy.py hindcast --output benchmarks/results
    python benchmarks/accuracy.py large --output benchmarks/results

Beside it stand least-squares fits of Eq. 10, err = K (L - E)^kappa + M, and of its soft minimum with chance (Eq. 11),
one a task and training set, with a bootstrap of runs and residuals.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import bayes_l2l as l2l
from bayes_l2l.data.rates import error_rates
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.evaluation.scores import crps_draws
from bayes_l2l.inference.sampling import sample_errors
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.structures.error_arrays import ErrorArrays
from bayes_l2l.structures.error_rate import curve_draws, error_draws, learned, predictor_of
from bayes_l2l.structures.models import load_error_spec

Floats = npt.NDArray[np.float64]
PREDICTORS = ("task", "shared", "own")
SMALL, LARGE = 2.1e18, 2.2e19
SHARPNESS = 100.0
N_BOOT, N_RESIDUALS = 30, 4
CELL = ["eval_set", "train_set"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("hindcast", "large"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    started = perf_counter()
    settings = SamplerSettings(draws=args.draws, tune=args.tune, chains=args.chains, seed=args.seed)
    fitted, asked = split(args.part)
    rows, trends = [], []
    for predictor in PREDICTORS:
        found, trend = one_predictor(predictor, fitted, asked, settings, chain=args.part == "large")
        rows += found
        trends.append(trend)
        sys.stderr.write(f"{predictor}: {perf_counter() - started:.0f} s\n")
    found = {
        "rows": rows,
        "trends": trends,
        "seconds": round(perf_counter() - started),
        "settings": {name: getattr(args, name) for name in ("draws", "tune", "chains", "seed")},
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in ("pymc", "nutpie", "scipy")},
    }
    path = args.output / "accuracy.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    record[args.part] = found
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (args.output / "accuracy.md").write_text(as_markdown(record), encoding="utf-8")
    sys.stdout.write(as_markdown({args.part: found}))
    return 0


def split(part: str) -> tuple[Sweep, pd.DataFrame]:
    """What is fitted and what is asked for: losses and error rates."""
    sweep = l2l.load_sweep("loss-to-loss", eval_sets="all")
    if part == "large":
        return sweep, l2l.large_runs("loss-to-loss", eval_sets="all").table
    return sweep.up_to(SMALL), sweep.table[sweep.table["flops"] >= LARGE]


def one_predictor(
    predictor: str, fitted: Sweep, asked: pd.DataFrame, settings: SamplerSettings, *, chain: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Scores of every method with one kind of loss, and what the posterior says of the training sets."""
    spec = replace(load_error_spec("error_richards"), predictor=predictor)
    data = ErrorArrays.of(fitted, predictor=predictor, model=spec.name)
    errors = sample_errors(fitted, spec=spec, settings=settings)
    ahead = with_loss(error_rates(asked), asked, predictor_of(errors))
    has_left = learned(errors)
    known = ahead[[has_left[cell] for cell in zip(ahead["eval_set"], ahead["train_set"], strict=True)]]
    n_draws = settings.chains * settings.draws
    measured = np.broadcast_to(known["x"].to_numpy(), (n_draws, len(known)))
    draws = {("richards", "measured"): error_draws(errors, known, measured, kind="predictive")}
    if chain:
        losses = through_law(fitted, known, errors, settings)
        draws["richards", "forecast"] = error_draws(errors, known, losses, kind="predictive")
    sys.stderr.write(f"{predictor}: sampled\n")
    for name, law in (("Eq. 10", power), ("Eq. 11", soft_minimum)):
        draws[name, "measured"] = bootstrap(law, data, known, seed=settings.seed)
    rows = [
        {"predictor": predictor, "method": method, "loss": loss, "asked": len(ahead)} | scores(found, known)
        for (method, loss), found in draws.items()
    ]
    return rows, {"predictor": predictor, "notes": [str(note) for note in errors.notes]} | trend(errors)


def with_loss(rows: pd.DataFrame, table: pd.DataFrame, predictor: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Error rates with the loss x of the same run that they are a function of."""
    names = [predictor[cell] for cell in zip(rows["eval_set"], rows["train_set"], strict=True)]
    losses = table[table["metric"] == "loss"].rename(columns={"eval_set": "predictor", "loss": "x"})
    on = ["train_set", "run_id", "predictor"]
    return rows.assign(predictor=names).merge(losses[[*on, "x"]], on=on)


def through_law(fitted: Sweep, ahead: pd.DataFrame, errors: Posterior, settings: SamplerSettings) -> Floats:
    """Draws of the losses of runs from (N, D), by the default model of the losses that matter."""
    train = fitted.table["eval_set"] == fitted.table["train_set"]
    read = fitted.table["eval_set"].isin(set(predictor_of(errors).values()))
    losses = Sweep.from_table(fitted.table[(train | read) & (fitted.table["metric"] == "loss")], name=fitted.name)
    fit = l2l.fit(
        losses, draws=settings.draws, tune=settings.tune, chains=settings.chains, random_seed=settings.seed + 10
    )
    points = ahead[["train_set", "predictor", "params", "tokens"]].rename(columns={"predictor": "eval_set"})
    distinct = points.drop_duplicates().reset_index(drop=True)
    place = points.merge(distinct.assign(place=range(len(distinct))), how="left")["place"].to_numpy()
    return np.asarray(fit.forecast(distinct).draws[:, place])


# The point fits


def power(loss: Floats, parameters: Floats, chance: float) -> Floats:
    """Eq. 10, by log(K), log(smallest - E), log(kappa) and M."""
    del chance
    log_k, log_gap, log_kappa, m = parameters
    return np.asarray(np.exp(log_k) * (np.exp(log_gap) + loss) ** np.exp(log_kappa) + m)


def soft_minimum(loss: Floats, parameters: Floats, chance: float) -> Floats:
    """Eq. 11: Eq. 10, and chance above it."""
    inside = -SHARPNESS * power(loss, parameters, chance)
    return np.asarray(-np.logaddexp(inside, -SHARPNESS * chance) / SHARPNESS)


def fit_point(law: Callable[..., Floats], loss: Floats, error: Floats, chance: float, start: Floats | None) -> Floats:
    """Least squares, from several starts unless one is given."""
    from scipy.optimize import least_squares

    low, high = np.array([-12.0, -6.0, -2.0, 0.0]), np.array([4.0, 2.0, 2.0, 1.0])
    log_gain = np.log(error.max() - error.min() + 1e-3)
    grid = [(e, k) for e in (0.1, 0.5, 2.0, 5.0) for k in (0.5, 1.0, 2.0)]
    several = [np.array([log_gain, np.log(e), np.log(k), error.min() / 2]) for e, k in grid]
    starts = several if start is None else [start]
    fits = [
        least_squares(
            lambda p: law(loss, p, chance) - error,
            np.clip(one, low + 1e-6, high - 1e-6),
            bounds=(low, high),
            loss="soft_l1",
            f_scale=0.02,
        )
        for one in starts
    ]
    return np.asarray(min(fits, key=lambda found: found.cost).x)


def bootstrap(law: Callable[..., Floats], data: ErrorArrays, ahead: pd.DataFrame, *, seed: int) -> Floats:
    """Draws (boot x residual, row) of the errors by refits to resampled runs, with residuals added."""
    rng = np.random.default_rng(seed)
    draws = np.full((N_BOOT, N_RESIDUALS, len(ahead)), np.nan)
    place = ahead.assign(place=range(len(ahead)))
    for (task, train), rows in place.groupby(CELL):
        column = data.cells.index((str(task), str(train)))
        seen = data.observed[:, column] > 0
        # Losses from the smallest fitted one: E is below it, and a lower loss may still be asked for.
        loss, error = data.loss[seen, column] - data.smallest[column], data.error[seen, column]
        chance = float(data.chance[column])
        point = fit_point(law, loss, error, chance, None)
        residuals = error - law(loss, point, chance)
        at = rows["x"].to_numpy() - data.smallest[column]
        for boot in range(N_BOOT):
            picked = rng.integers(len(loss), size=len(loss))
            refit = fit_point(law, loss[picked], error[picked], chance, point)
            inside = np.maximum(at, -np.exp(refit[1]))  # at E and below it the error is M
            noise = rng.choice(residuals, (N_RESIDUALS, len(at)))
            draws[boot, :, rows["place"]] = (law(inside, refit, chance) + noise).T
    return draws.reshape(-1, len(ahead))


# What was found


def scores(draws: Floats, ahead: pd.DataFrame) -> dict[str, Any]:
    """Of accuracies of which something can be learned: errors and widths in points of accuracy (%)."""
    y = ahead["loss"].to_numpy()
    low, q25, median, q75, high = np.quantile(draws, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    return {
        "n": len(y),
        "bias": round(100 * float(np.mean(median - y)), 2),
        "error": round(100 * float(np.mean(np.abs(median - y))), 2),
        "crps": round(100 * float(np.mean(crps_draws(draws, y))), 3),
        "coverage50": round(100 * float(np.mean((q25 <= y) & (y <= q75))), 1),
        "coverage90": round(100 * float(np.mean((low <= y) & (y <= high))), 1),
        "width90": round(100 * float(np.mean(high - low)), 2),
        "tasks": {
            task: round(100 * float(np.mean(((low <= y) & (y <= high))[places])))
            for task, places in ahead.reset_index(drop=True).groupby("eval_set").indices.items()
        },
    }


def trend(errors: Posterior) -> dict[str, Any]:
    """How far apart the training sets lie at one loss: sd of the error over sets, and of residuals."""
    draws = errors.draws.isel(cell=errors.draws["learned"].to_numpy().astype(bool))
    apart, scale = [], []
    for _, part in draws.groupby("eval_set"):
        if part.sizes["cell"] < 2 or len(set(part["predictor"].to_numpy())) > 1:
            continue
        cells = zip(part["eval_set"].to_numpy(), part["train_set"].to_numpy(), strict=True)
        curves = [curve_draws(errors, str(task), str(train)) for task, train in cells]
        at = float(np.median(part["reference"]))
        drawn = np.stack([curve(at) for curve in curves])
        apart.append(drawn.std(axis=0, ddof=1))
        scale.append(part["residual_scale"].mean("cell").to_numpy().ravel())
    if not apart:
        return {"n_tasks": 0}
    ratio = np.mean(apart, axis=0) / np.mean(scale, axis=0)
    return {
        "n_tasks": len(apart),
        "apart": np.quantile(100 * np.mean(apart, axis=0), [0.05, 0.5, 0.95]).round(2).tolist(),
        "residual_scale": np.quantile(100 * np.mean(scale, axis=0), [0.05, 0.5, 0.95]).round(2).tolist(),
        "ratio": np.quantile(ratio, [0.05, 0.5, 0.95]).round(2).tolist(),
    }


def as_markdown(record: dict[str, Any]) -> str:
    """The tables, from what is stored."""
    lines = [
        "# Accuracy through loss (arXiv 2411.12925)",
        "",
        "Made by `benchmarks/accuracy.py`. In points of accuracy.",
    ]
    for part, found in record.items():
        what = {
            "hindcast": "runs of at most 2.1e18 FLOPs, asked for 2.2e19 and more",
            "large": "the runs of 1e21 FLOPs",
        }
        lines += ["", f"## `{part}`: {what[part]}", ""]
        lines += [
            "| loss of | loss is | method | forecast | bias | error | CRPS | 50% holds % | 90% holds % | width |",
            "|" + "---|" * 10,
        ]
        for row in found["rows"]:
            lines.append(
                f"| {row['predictor']} | {row['loss']} | {row['method']} | {row['n']} of {row['asked']} | "
                f"{row['bias']} | {row['error']} | {row['crps']} | {row['coverage50']:.0f} | "
                f"{row['coverage90']:.0f} | {row['width90']} |"
            )
        lines.append("")
        for row in found["trends"]:
            if row["n_tasks"]:
                low, middle, high = row["ratio"]
                lines.append(
                    f"- `{row['predictor']}`: at one loss the training sets lie {row['apart'][1]} points apart (sd; "
                    f"90% interval {row['apart'][0]} to {row['apart'][2]}), {middle} ({low} to {high}) times the "
                    "residual scale of runs."
                )
            lines += [f"- `{row['predictor']}`: {note}" for note in row["notes"]]
        lines += ["", f"{found['settings']}; {found['seconds']} s, {found['machine']}, {found['versions']}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
