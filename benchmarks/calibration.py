"""Which model earns its intervals? Backtests of the candidates inside two public sweeps, as a command.

Each candidate is fitted to the runs up to a cut-off and predicts every loss above it; nothing beyond the sweeps (the
large runs of arXiv 2411.12925, the held-out ones of arXiv 2403.08540) is fitted or scored. It goes on where it was
stopped::

    python benchmarks/calibration.py train          # train losses, all candidates
    python benchmarks/calibration.py all            # 17 evaluations, shipped model and baseline
    python benchmarks/calibration.py gadre          # 8 evaluations, shipped model and baseline
    python benchmarks/calibration.py train --models joint "joint, E about .62"

Data are read from ``$BAYES_L2L_DATA`` or downloaded. Tables of all forecasts stay in ``--work``; scores go to
``benchmarks/results/calibration.{json,md}`` with two pictures a part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.evaluation.backtests import Backtest
from bayes_l2l.evaluation.jobs import BASELINE
from bayes_l2l.plotting import calibration
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.models import load_spec
from benchmarks.paper_data import SETS, TASKS

SCORES = ("n", "rel_error", "bias", "crps", "coverage50", "coverage90", "width90")


@dataclass(frozen=True)
class Part:
    """What is predicted in a sweep, from which cut-offs (FLOPs) and by which candidates.

    ``far`` are cut-off and least compute of the runs of the acceptance figures: 10 to 23 times further out.
    """

    title: str
    cutoffs: tuple[float, ...]
    models: tuple[str, ...]
    far: tuple[float, float]


_SHIPPED = ("joint", BASELINE)
PARTS = {
    "train": Part(
        "arXiv 2411.12925, train losses",
        (1.0e18, 2.2e18, 4.8e18, 1.05e19, 2.3e19),
        (
            *_SHIPPED,
            "law",
            "chinchilla",
            "kaplan",
            "joint, no discrepancy",
            "joint, E about .62",
            "joint, E about .38",
        ),
        (2.2e18, 2e19),
    ),
    "all": Part(
        "arXiv 2411.12925, six validation sets and eleven tasks",
        (2.2e18,),
        (*_SHIPPED, "joint, no extrapolation discrepancy", "joint, half the extrapolation discrepancy"),
        (2.2e18, 2e19),
    ),
    "gadre": Part(
        "arXiv 2403.08540, eight evaluations, without its held-out runs",
        (1.05e18, 3.1e18, 1.05e19),
        (*_SHIPPED, "joint, E about .62"),
        (3.1e18, 3e19),
    ),
}


def candidate(name: str) -> str | ModelSpec:
    """A shipped model, or the joint one with a part of it changed."""
    if not name.startswith("joint, "):
        return name
    record = load_spec("joint").to_dict() | {"name": name}
    of_E, likelihood = record["priors"]["E_fraction"]["kwargs"]["mu"][0]["kwargs"], record["likelihood"]
    # The mean of the logit of E over the smallest loss.
    changes: dict[str, Any] = {
        "joint, no discrepancy": lambda: likelihood.pop("discrepancy"),
        "joint, no extrapolation discrepancy": lambda: likelihood.update(extrapolation_discrepancy=0.0),
        "joint, half the extrapolation discrepancy": lambda: likelihood.update(extrapolation_discrepancy=0.5),
        "joint, E about .62": lambda: of_E.update(mu=0.5),
        "joint, E about .38": lambda: of_E.update(mu=-0.5),
    }
    changes[name]()
    return load_spec(record)


def sweep_of(part: str) -> Sweep:
    """Runs that may be fitted, and the evaluations of a part."""
    if part == "gadre":
        table = l2l.load_sweep("gadre").table
        return Sweep.from_table(table[table["is_extrapolation"] == 0].reset_index(drop=True), name="gadre")
    return l2l.load_sweep("loss-to-loss", eval_sets="train" if part == "train" else [*SETS, *TASKS])


def scored(found: Backtest, part: Part) -> list[dict[str, Any]]:
    """Mean scores of every model: of each cut-off and kind of cell, and of the runs far out that the bars are of."""
    table = found.table()
    cutoff, least = part.far
    views = {f"{c:.3g}": table[table["cutoff"] == c] for c in sorted(table["cutoff"].unique())}
    views[f"{cutoff:.3g}, runs above {least:.3g}"] = table[(table["cutoff"] == cutoff) & (table["flops"] > least)]
    # A train loss is one of the validation sets' of the bars.
    kinds = {"train": ["train"], "validation": ["train", "validation"], "other": ["downstream"]}
    rows = []
    for view, losses in views.items():
        for kind, cells in kinds.items():
            if losses["cell_kind"].isin(cells[-1:]).any():
                of_kind = Backtest(losses[losses["cell_kind"].isin(cells)]).scores(by="model")
                rows += [{"fitted up to": view, "cells": kind, **row} for row in of_kind.to_dict("records")]
    return rows


def as_markdown(results: dict[str, Any]) -> str:
    """Results as a Markdown page."""
    lines = [
        "# Backtests of the candidates",
        "",
        "Made by `benchmarks/calibration.py`, whose docstring says what is fitted. Percent of the actual loss. "
        "Losses of one split are off together: coverage of a row is that of one or a few independent forecasts.",
    ]
    for part, found in results.items():
        lines += ["", f"## `{part}`: {found['title']}", ""]
        columns = ["fitted up to", "cells", "model", *SCORES]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for row in found["scores"]:
            cells = [f"{v:.2f}" if isinstance(v := row[c], float) and c != "n" else str(v) for c in columns]
            lines.append("| " + " | ".join(cells) + " |")
        lines += [
            "",
            f"{found['draws']}; {found['seconds']:.0f} s on {found['machine']}; {found['versions']}. "
            f"{found['notes']}",
        ]
        lines += [
            "",
            f"![Reliability](calibration_{part}.png)",
            "",
            f"![By distance](calibration_{part}_distance.png)",
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Backtests of candidate models inside two public sweeps.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--models", nargs="*", help="candidates; those of the part")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--tune", type=int, default=600)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("calibration"), help="folder of the finished splits")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(argv)
    part = PARTS[options.part]
    options.work.mkdir(parents=True, exist_ok=True)
    found = l2l.backtest(
        sweep_of(options.part),
        models=[candidate(name) for name in options.models or part.models],
        cutoffs=part.cutoffs,
        kinds=["hindcast"],
        draws=options.draws,
        tune=options.tune,
        chains=options.chains,
        random_seed=options.seed,
        path=options.work / f"{options.part}.csv",
        progress=lambda line: sys.stderr.write(line + "\n"),
    )
    path = options.output / "calibration.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    table = found.table()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("pymc", "nutpie", "numpy"))
    results[options.part] = {
        "title": part.title,
        "draws": f"{options.chains} x ({options.tune} + {options.draws}) draws",
        "seconds": float(table.drop_duplicates(["model", "cutoff"])["seconds"].sum()),
        "machine": f"{os.cpu_count()} cores of {platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, {libraries}",
        "notes": " ".join(f"{note}." for note in found.notes),
        "scores": scored(found, part),
    }
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")
    shipped = Backtest(table[table["model"].isin([*_SHIPPED])])
    calibration.reliability(shipped).savefig(options.output / f"calibration_{options.part}.png", dpi=110)
    far = calibration.coverage_by_extrapolation(shipped)
    far.savefig(options.output / f"calibration_{options.part}_distance.png", dpi=110)
    sys.stdout.write(pd.DataFrame(results[options.part]["scores"]).to_string() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
