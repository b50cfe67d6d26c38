"""How long does a fit take, and what of it? Ratios within one run: machines differ.

- ``gradient``: one log density with its gradient, by the tape of `bayes_l2l.density` and as nutpie compiles the
  same PyMC model, which is also what that takes in every process.
- ``sampling``: the default model and settings, whole process, with nothing kept from an earlier one ("cold") and
  with all of it ("warm"), beside `pm.sample` of the same model with the same settings.
- ``growth``: simulated sweeps from 6 cells and 500 losses on; a gradient, and the whole fit where it is named.

::

    python benchmarks/speed.py gradient sampling growth
    python benchmarks/speed.py growth --fit 600
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.density.lowering import Lowering
from bayes_l2l.density.quiet import quiet
from bayes_l2l.inference import CompiledModel
from bayes_l2l.structures.protocol import Module
from benchmarks.pages import store

RESULTS = Path(__file__).parent / "results"
SEED = 1
#: Sizes of a simulated sweep.
GRID = 84
#: Whole process, as a user would run it; the folder of kept tapes and Numba's are named by the environment.
FIT = """
import json, sys, time
import bayes_l2l as l2l
started = time.perf_counter()
sweep = l2l.load_sweep("microsweep", eval_sets="train")
fit = l2l.fit(sweep, random_seed=1, sampler=sys.argv[1])
stats = fit.tree["sample_stats"]
steps = stats["n_steps"] if "n_steps" in stats else stats["tree_size"]
law = fit.summary(variables=["E", "alpha", "beta", "gamma"])
fit.save(sys.argv[2])
print(json.dumps({
    "seconds": time.perf_counter() - started,
    "leapfrogs a draw": float(steps.mean()),
    "divergences": int(stats["diverging"].sum()),
    "ess": float(law["ess_bulk"].min()),
}))
"""


def timed(run: Callable[[], Any], *, at_least: float = 0.5) -> float:
    """Microseconds of a call, the median of five times as many as take so many seconds."""
    run()
    started = perf_counter()
    run()
    times = max(1, int(at_least / 5 / max(perf_counter() - started, 1e-7)))
    found = []
    for _ in range(5):
        started = perf_counter()
        for _ in range(times):
            run()
        found.append((perf_counter() - started) / times)
    return 1e6 * float(np.median(found))


def modules(sweep: l2l.Sweep, model: str = "joint") -> list[tuple[Module[Any], dict[str, Any]]]:
    """Modules of a model with their data."""
    compiled = CompiledModel(l2l.load_spec(model), sweep)
    return [(module, {v.name: v.get_value() for v in module.model.data_vars}) for module in compiled.modules]


def gradient() -> list[dict[str, Any]]:
    """A gradient by the tape and by nutpie's compiled function."""
    import nutpie

    rows = []
    for model in ("joint", "law", "train_to_train"):
        for module, arrays in modules(l2l.load_sweep("microsweep"), model):
            started = perf_counter()
            with quiet():
                tape = Lowering(module.model).tape(arrays).with_data(arrays)
            lowered = perf_counter() - started
            started = perf_counter()
            with quiet():
                compiled = nutpie.compile_pymc_model(module.model)
            seconds = perf_counter() - started
            shared = [compiled.shared_data[name] for name in _shared(compiled)]
            x = np.ascontiguousarray(tape.start)
            row = {
                "model": model + module.suffix,
                "parameters": len(x),
                "losses": int(np.size(arrays.get("log_loss", arrays.get("loss1")))),
                "tape (us)": timed(lambda tape=tape, x=x: tape.log_density(x)),
                "nutpie (us)": timed(lambda c=compiled, x=x, shared=shared: c.logp_func.vm.jit_fn(x, *shared)),
                "lowering (s)": lowered,
                "nutpie's compilation (s)": seconds,
            }
            rows.append(row)
    return rows


def _shared(compiled: Any) -> list[str]:
    """Keys of the shared data of nutpie's function, in its order; 0.16.10 hid their names."""
    keys = getattr(compiled, "shared_var_keys", None)
    return [keys[v] if keys else v.name for v in compiled.logp_func.get_shared()]


def sampling() -> list[dict[str, Any]]:
    """Whole processes: cold, warm, and by `pm.sample`."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, sampler in (("cold", "nutpie"), ("warm", "nutpie"), ("pm.sample", "pymc")):
            kept = {"BAYES_L2L_CACHE": f"{folder}/tapes", "NUMBA_CACHE_DIR": f"{folder}/numba"}
            command = [sys.executable, "-W", "ignore", "-c", FIT, sampler, f"{folder}/fit.nc"]
            started = perf_counter()
            done = subprocess.run(command, env=os.environ | kept, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            whole = perf_counter() - started
            rows.append(
                {"process": name, "whole (s)": whole, **found, "ESS a second": found["ess"] / found["seconds"]}
            )
    return rows


def simulated(sets: int, evaluations: int) -> l2l.Sweep:
    """Runs of one progress R: so many training sets, each with its train loss and shared evaluations."""
    rng = np.random.default_rng(SEED)
    N = np.exp(rng.uniform(np.log(2e7), np.log(1.5e9), GRID))
    D = N * np.exp(rng.uniform(np.log(2), np.log(200), GRID))
    rows = []
    for s in range(sets):
        R = (3e7 / N) ** 0.6 + (6e8 / D) ** 0.5 * np.exp(0.1 * rng.standard_normal())
        for e in range(evaluations):
            E, K, gamma = rng.uniform(1.0, 2.0), rng.uniform(0.8, 1.6), rng.uniform(0.5, 0.9)
            loss = (E + K * R**gamma) * np.exp(0.003 * rng.standard_normal(GRID))
            cell = {"train_set": f"set{s:03}", "eval_set": f"set{s:03}" if e == 0 else f"eval{e}"}
            rows.append(pd.DataFrame({**cell, "params": N, "tokens": D, "loss": loss}))
    return l2l.Sweep.from_table(pd.concat(rows, ignore_index=True), name=f"{sets} x {evaluations}")


def growth(fitted: set[int]) -> list[dict[str, Any]]:
    """A gradient, and a fit where it is asked for, as cells grow in number."""
    rows = []
    for sets, evaluations in ((6, 1), (6, 6), (25, 6), (100, 6)):
        sweep = simulated(sets, evaluations)
        row: dict[str, Any] = {"cells": sets * evaluations, "losses": len(sweep.table)}
        total = 0.0
        for module, arrays in modules(sweep):
            with quiet():
                tape = Lowering(module.model).tape(arrays).with_data(arrays)
            total += timed(lambda tape=tape: tape.log_density(tape.start))
        row["both gradients (us)"] = total
        if sets * evaluations in fitted:
            started = perf_counter()
            fit = l2l.fit(sweep, random_seed=SEED)
            worst = fit.summary(variables=["E", "gamma"])
            row |= {
                "fit (s)": perf_counter() - started,
                "ess": float(worst["ess_bulk"].min()),
                "rhat": float(worst["rhat"].max()),
                "serious notes": sum(note.severity == "serious" for note in fit.notes),
                "peak memory (GB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        rows.append(row)
    return rows


def as_markdown(stored: Mapping[str, Any]) -> str:
    """All parts as Markdown."""
    lines = ["# How long a fit takes", "", (__doc__ or "").split("::")[0].strip(), "", "`python benchmarks/speed.py`"]
    for name, part in stored.items():
        frame = pd.DataFrame(part["rows"])
        cells = [[_shown(value) for value in row] for row in frame.to_numpy(object)]
        head = [list(frame), ["---"] * len(frame.columns), *cells]
        lines += ["", f"## {name}", "", *("| " + " | ".join(map(str, row)) + " |" for row in head)]
        lines += ["", ", ".join(f"{key} {value}" for key, value in part["setup"].items())]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3g}"
    return str(value)


def main() -> None:
    """Run the parts that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=["gradient", "sampling", "growth"])
    parser.add_argument("--fit", type=int, action="append", default=[], help="growth: fit the sweep of so many cells")
    args = parser.parse_args()
    path = RESULTS / "speed.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = ("pymc", "pytensor", "nutpie", "numba", "numpy")
    setup = {"python": platform.python_version(), **{name: version(name) for name in names}, "cores": os.cpu_count()}
    run = {"gradient": gradient, "sampling": sampling, "growth": lambda: growth(set(args.fit))}
    for name in args.parts:
        stored[name] = {"rows": run[name](), "setup": setup}
        store(path, stored, name, as_markdown)


if __name__ == "__main__":
    main()
