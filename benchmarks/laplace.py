"""Is method "laplace" as right as NUTS, and how often is it refused? The same splits by both, as a command.

Hindcasts inside the sweep of arXiv 2411.12925 (train losses, cut-offs among its own runs, six sets together and each
on its own), and the public studies, fitted to their small runs and asked for their large ones. Every split is
forecast by the joint model with both methods: CRPS and coverage of what happened, and how far the quantiles of the
forecasts are apart, in standard deviations of NUTS' forecast::

    python benchmarks/laplace.py hindcast studies

Finished splits are kept in the result and not made again; ``--again`` makes them anew.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import bayes_l2l as l2l
from bayes_l2l.errors import ApproximationError
from bayes_l2l.evaluation.scores import crps_draws
from bayes_l2l.evaluation.splits import all_splits
from benchmarks.pages import store
from benchmarks.studies import POINT, names, study

RESULT = Path("benchmarks/results/laplace.json")
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
METHODS = ("nuts", "laplace")
SEED = 1

Part = tuple[str, l2l.Sweep, pd.DataFrame]


def hindcast() -> Iterator[Part]:
    """Name, runs to fit and losses to ask for, of the six sets together and of each."""
    sweep = l2l.load_sweep("loss-to-loss", eval_sets="train")
    sets = sorted(sweep.table["train_set"].unique())
    for name, part in [("all", sweep), *((one, sweep.select(train_sets=[one])) for one in sets)]:
        for split in all_splits(part.table, kinds=("hindcast",)):
            fitted, ahead = split.parts(part.table)
            yield f"{name} below {split.cutoff:.2g}", l2l.load_sweep(fitted), ahead.reset_index(drop=True)


def studies() -> Iterator[Part]:
    """The same of every study."""
    for name in names():
        fitted, asked = study(name)
        yield name, l2l.load_sweep(fitted), asked


PARTS = {"hindcast": hindcast, "studies": studies}


def row(name: str, sweep: l2l.Sweep, asked: pd.DataFrame) -> dict[str, Any]:
    """One split by both methods."""
    found: dict[str, Any] = {"split": name, "cells": len(sweep.cells), "losses": len(sweep), "asked": len(asked)}
    actual, quantiles = asked["loss"].to_numpy(), dict[str, npt.NDArray[np.float64]]()
    spread = np.empty(0)
    for method in METHODS:
        started = process_time()
        try:
            fit = l2l.fit(sweep, method=method, random_seed=SEED, error_model=None)
        except ApproximationError as error:
            found |= {"refused": str(error).partition("(")[2].partition(")")[0], "laplace seconds": _cpu(started)}
            return found
        draws = fit.forecast(asked[POINT]).draws
        quantiles[method] = np.quantile(draws, LEVELS, axis=0)
        spread = draws.std(axis=0) if method == "nuts" else spread
        low, first, _, third, high = quantiles[method]
        found |= {
            f"{method} seconds": _cpu(started),
            f"{method} crps": round(float(100 * np.mean(crps_draws(draws, actual) / actual)), 3),
            f"{method} 50": round(float(100 * np.mean((first <= actual) & (actual <= third))), 1),
            f"{method} 90": round(float(100 * np.mean((low <= actual) & (actual <= high))), 1),
        }
        if method == "laplace":
            khat, ess = (fit.diagnostics.sel(diagnostic=kind).to_array() for kind in ("khat", "ess"))
            found |= {"khat": round(float(khat.max()), 2), "ess": round(float(ess.min()))}
    apart = np.abs(quantiles["laplace"] - quantiles["nuts"]) / spread
    return found | {
        "apart": [round(float(x), 3) for x in apart.mean(axis=1)],
        "furthest": round(float(apart.max()), 2),
    }


def _cpu(started: float) -> float:
    """Seconds of all cores of this process."""
    return round(process_time() - started, 2)


def as_markdown(stored: Mapping[str, Any]) -> str:
    """Tables of all parts."""
    lines = [
        "# Method laplace beside NUTS", "",
        "CRPS in percent of the loss; coverage in percent; k-hat and what the draws are worth; how far the 5, 25,",
        "50, 75 and 95% quantiles of forecasts are from those of NUTS, mean over losses, in standard deviations of a",
        "forecast; CPU seconds. `python benchmarks/laplace.py hindcast studies`",
    ]  # fmt: skip
    for name, part in stored.items():
        rows = pd.DataFrame(part["rows"])
        refused = rows["refused"].notna() if "refused" in rows else pd.Series(data=False, index=rows.index)
        made = rows[~refused]
        lines += ["", f"## {name}", "", f"{len(made)} of {len(rows)} splits were drawn; the others were refused."]
        if len(made):
            ratio = np.exp(np.log(made["laplace crps"] / made["nuts crps"]).mean())
            means = made[[f"{method} {level}" for method in METHODS for level in (50, 90)]].mean()
            lines.append(
                f"CRPS over NUTS', geometric mean: {ratio:.3f}. 50% and 90% intervals held {means['laplace 50']:.0f} "
                f"and {means['laplace 90']:.0f}% (NUTS: {means['nuts 50']:.0f} and {means['nuts 90']:.0f}%). CPU "
                f"seconds a fit, median: {made['laplace seconds'].median():.1f} (NUTS: "
                f"{made['nuts seconds'].median():.1f})."
            )
        lines += [
            "",
            "| split | cells | losses | asked | k-hat | worth | CRPS | NUTS | 90% held | NUTS | apart | s | NUTS |",
        ]
        lines.append("|" + "---|" * 13)
        lines += [_line(one, is_refused=bool(no)) for one, no in zip(part["rows"], refused, strict=True)]
        lines += ["", ", ".join(f"{key} {value}" for key, value in part["versions"].items())]
    return "\n".join([*lines, ""])


def _line(one: Mapping[str, Any], *, is_refused: bool) -> str:
    lead = f"| {one['split']} | {one['cells']} | {one['losses']} | {one['asked']} "
    nuts = (f"{one['nuts crps']:.2f}", f"{one['nuts 90']:.0f}", f"{one['nuts seconds']:.1f}")
    if is_refused:
        return (
            lead + f"| {one['refused']} | | | {nuts[0]} | | {nuts[1]} | | {one['laplace seconds']:.1f} | {nuts[2]} |"
        )
    apart = " ".join(f"{x:.2f}" for x in one["apart"])
    return lead + (
        f"| {one['khat']:.2f} | {one['ess']} | {one['laplace crps']:.2f} | {nuts[0]} | {one['laplace 90']:.0f} "
        f"| {nuts[1]} | {apart} | {one['laplace seconds']:.1f} | {nuts[2]} |"
    )


def main() -> None:
    """Make what is named and not made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=[*PARTS])
    parser.add_argument("--again", action="store_true", help="make splits anew")
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args()
    stored = json.loads(args.output.read_text(encoding="utf-8")) if args.output.is_file() else {}
    versions = {name: version(name) for name in ("bayes-l2l", "pymc", "nutpie", "arviz-stats", "numpy", "scipy")}
    for part in args.parts:
        rows = [] if args.again else stored.get(part, {}).get("rows", [])
        for name, sweep, asked in PARTS[part]():
            if name in {one["split"] for one in rows}:
                continue
            rows.append(row(name, sweep, asked))
            stored[part] = {"rows": rows, "versions": versions | {"python": platform.python_version()}}
            store(args.output, stored, part, as_markdown)


if __name__ == "__main__":
    main()
