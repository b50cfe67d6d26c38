"""Mixtures of RegMix (arXiv 2407.01492): losses at 60M parameters from all runs at 1M and 64 at 60M, scored once.

::

    python benchmarks/mixtures.py --fits FOLDER [--draws --tune --chains --seed --cores]

The model `mixture` is fitted to 768 mixtures of 17 domains at 1M parameters and 64 of the 256 at 60M (drawn by seed
0), and forecasts the 13 losses of the other 192 at 60M. Trees are LightGBM (1000 trees, learning rate 0.01, as
RegMix has them), one an evaluation, with normal intervals of the standard deviation of five-fold residuals on the
64: "on 64" is fitted to weights and losses of the 64; "on 1M, mapped" to weights and losses of the 768, and a line
from its out-of-fold predictions to the 64; "on measured 1M" is a line from the measured loss at 1M of the mixture,
and trees of what it leaves on the 64 (more than RegMix does). CRPS is in percent of the loss. Results go to
benchmarks/results/mixtures.{json,md}. The data lie in the folder that BAYES_L2L_DATA names; LightGBM is not needed
by the package.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.inference.diagnostics import by_variable
from benchmarks.pages import store

Floats = npt.NDArray[np.float64]

RESULTS: Final = Path(__file__).resolve().parent / "results"
SMALL, MIDDLE = 1e6, 6e7
N_FITTED: Final = 64
FOLDS: Final = 5


class Runs:
    """Runs of RegMix, and which of those at 60M are fitted."""

    def __init__(self) -> None:
        self.table = pd.read_csv(Path(os.environ["BAYES_L2L_DATA"]) / "mixtures" / "regmix.csv")
        self.weights = [c for c in self.table if c.startswith("weight:")]
        self.losses = {c.removeprefix("loss:"): c for c in self.table if c.startswith("loss:")}
        self.small = self.table[self.table["params"] == SMALL]
        middle = self.table[self.table["params"] == MIDDLE]
        chosen = np.sort(np.random.default_rng(0).permutation(len(middle))[:N_FITTED])
        self.fitted = middle.iloc[chosen]
        self.asked = middle.drop(index=self.fitted.index)

    def sweep(self) -> l2l.Sweep:
        """All at 1M, and those at 60M that are fitted."""
        rows = pd.concat([self.small, self.fitted], ignore_index=True)
        return l2l.Sweep.from_table(rows, columns={"losses": self.losses}, name="RegMix")

    def x(self, rows: pd.DataFrame) -> Floats:
        """Weights that sum to 1."""
        found = rows[self.weights].to_numpy()
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def small_of(self, rows: pd.DataFrame, column: str) -> Floats:
        """Loss at 1M of the same mixtures."""
        return self.small.set_index("train_set")[column][rows["train_set"]].to_numpy()


def trees(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Boosted trees."""
    from lightgbm import LGBMRegressor

    options = {"n_estimators": 1000, "learning_rate": 0.01, "min_child_samples": min(20, len(y) // 8)}
    fitted = LGBMRegressor(**options, n_jobs=1, verbose=-1).fit(x, y)
    return lambda points: np.asarray(fitted.predict(points))


def out_of_fold(x: Floats, y: Floats, fit: Callable[[Floats, Floats], Callable[[Floats], Floats]]) -> Floats:
    """Predictions of every point from the others' folds."""
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    found = np.empty(len(y))
    for k in range(FOLDS):
        found[fold == k] = fit(x[fold != k], y[fold != k])(x[fold == k])
    return found


def line(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Straight line in one number."""
    slope, level = np.polyfit(np.ravel(x), y, 1)
    return lambda points: np.asarray(level + slope * np.ravel(points))


def with_line(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """A line in the last column, and trees of what it leaves in the others."""
    of_last = line(x[:, -1], y)
    rest = trees(x[:, :-1], y - of_last(x[:, -1]))
    return lambda points: of_last(points[:, -1]) + rest(points[:, :-1])


def by_trees(runs: Runs, how: str) -> pd.DataFrame:
    """Point forecasts and standard deviations of trees."""
    rows = []
    for name, column in runs.losses.items():
        x, y, at = runs.x(runs.fitted), runs.fitted[column].to_numpy(), runs.x(runs.asked)
        fit = trees
        if how == "on 1M, mapped":
            of_small, small = runs.x(runs.small), runs.small[column].to_numpy()
            loose = pd.Series(out_of_fold(of_small, small, trees), index=runs.small["train_set"])
            x, at = (loose[part["train_set"]].to_numpy()[:, None] for part in (runs.fitted, runs.asked))
            fit = line
        elif how == "on measured 1M":
            x = np.column_stack([x, runs.small_of(runs.fitted, column)])
            at = np.column_stack([at, runs.small_of(runs.asked, column)])
            fit = with_line
        sd = float(np.std(out_of_fold(x, y, fit) - y))
        mean = fit(x, y)(at)
        actual = runs.asked[column].to_numpy()
        rows.append(scores(mean[None], actual, sd=sd) | {"eval_set": name})
    return pd.DataFrame(rows)


def scores(draws: Floats, actual: Floats, *, sd: float | None = None) -> dict[str, float]:
    """CRPS, coverage, width and rank correlation, of draws, or of a normal forecast about one."""
    from scipy.stats import norm, spearmanr

    if sd is None:
        ordered, n = np.sort(draws, axis=0), len(draws)
        spread = ((2 * np.arange(1, n + 1) - n - 1) / n**2) @ ordered
        crps = np.abs(draws - actual).mean(axis=0) - spread
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
    else:
        middle, z = draws[0], (actual - draws[0]) / sd
        crps = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
        low, high = middle + norm.ppf(0.05) * sd, middle + norm.ppf(0.95) * sd
    return {
        "crps": float(100 * (crps / actual).mean()),
        "rel_error": float(100 * np.abs(middle / actual - 1).mean()),
        "coverage90": float(100 * ((low <= actual) & (actual <= high)).mean()),
        "width90": float(100 * ((high - low) / actual).mean()),
        "rank": float(spearmanr(middle, actual)[0]),
    }


def by_model(fit: l2l.Fit, runs: Runs) -> pd.DataFrame:
    """The same of the model."""
    rows = []
    for name, column in runs.losses.items():
        points = runs.asked[["train_set", "params", "tokens", *runs.weights]].reset_index(drop=True)
        found = fit.forecast(points.assign(eval_set=name))
        rows.append(scores(found.draws, runs.asked[column].to_numpy()) | {"eval_set": name})
    return pd.DataFrame(rows)


def fitted(runs: Runs, args: argparse.Namespace) -> l2l.Fit:
    """The fit, kept in a folder."""
    path = Path(args.fits) / f"mixtures_{args.chains}_{args.draws}_{args.tune}_{args.seed}.nc"
    if not path.exists():
        options = {name: getattr(args, name) for name in ("draws", "tune", "chains", "cores")}
        l2l.fit(runs.sweep(), model="mixture", random_seed=args.seed, **options).save(path)
    return l2l.load_fit(path)


def as_markdown(stored: Mapping[str, Any]) -> str:
    """Results as a Markdown page."""
    title, _, command, *text = (__doc__ or "").strip().split("\n\n")
    lines = ["# Mixtures", "", title, "", f"`{command.strip()}`", "", *text, ""]
    for part in stored.values():
        for caption, rows in part["tables"].items():
            frame = pd.DataFrame(rows)
            head = [list(frame), ["---"] * len(frame.columns)]
            cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in frame.to_numpy(object)]
            lines += [caption, "", *("| " + " | ".join(row) + " |" for row in (*head, *cells)), ""]
        lines += [f"{part['settings']}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit what is not there, score and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fits", required=True, help="folder for fits")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    runs = Runs()
    fit = fitted(runs, args)
    found = {"model mixture": by_model(fit, runs)}
    for how in ("on 64", "on 1M, mapped", "on measured 1M"):
        found[f"trees {how}"] = by_trees(runs, how)
    means = [{"forecast": name, **table.drop(columns="eval_set").mean()} for name, table in found.items()]
    each = found["model mixture"][["eval_set", "crps", "rel_error", "coverage90", "width90", "rank"]]
    started = time.perf_counter()
    best = fit.choose_mixture(eval_set="pile_cc", params=MIDDLE, tokens=1e9)
    seconds = time.perf_counter() - started
    rhat, ess = (by_variable(fit.diagnostics, kind) for kind in ("rhat", "ess_bulk"))
    diverged = sum(int(v.sum()) for n, v in fit.sample_stats.items() if str(n).startswith("diverging"))
    settings = (
        f"{args.chains} x ({args.tune} + {args.draws}) draws in {fit.record['seconds']:.0f} s: R-hat at most "
        f"{max(rhat.values()):.3f}, bulk ESS at least {min(ess.values()):.0f}, {diverged} diverged; best mixture in "
        f"{seconds:.1f} s: {best}. pymc {version('pymc')}, numpy {version('numpy')}"
    )
    tables = {"Means over 13 losses": means, "The model, by evaluation": each.to_dict("records")}
    store(RESULTS / "mixtures.json", {"regmix": {"tables": tables, "settings": settings}}, "regmix", as_markdown)


if __name__ == "__main__":
    main()
