"""A fit made by hand: a posterior about known laws, so that what follows sampling is tested without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayes_l2l.data.simulation import PUBLISHED_LAWS, simulated_sweep
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.fits import Fit
from bayes_l2l.inference.diagnostics import diagnose
from bayes_l2l.laws.scaling import Law
from bayes_l2l.notes import Note
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.models import load_spec

#: E, K and gamma of the cells of `joint_fit`, in the order of its posterior.
JOINT_CELLS = {
    ("fineweb-edu-100b", "fineweb-edu-100b"): (1.7, 1.1, 0.75),
    ("task", "fineweb-edu-100b"): (1.9, 0.9, 0.85),
    ("smollm-corpus", "smollm-corpus"): (1.3, 1.2, 0.75),
    ("task", "smollm-corpus"): (1.9, 1.0, 0.8),
    ("starcoder", "starcoder"): (0.7, 0.6, 0.9),
    ("task", "starcoder"): (2.1, 1.3, 0.6),
}
#: Their progress R: alpha/gamma, beta/gamma, A and B.
PROGRESS = (0.5, 0.45, 3e8, 5e9)
TEXT = ("run_id", "train_set", "eval_set", "metric")


def synthetic_fit(
    *,
    train_sets: Sequence[str] | None = None,
    chains: int = 4,
    draws: int = 250,
    jitter: float = 0.003,
    seed: int = 0,
    notes: Sequence[Note] = (),
) -> Fit:
    """A `Fit` whose posterior is normal about the laws that the simulated sweep was drawn from.

    Every parameter of the published laws is spread by `jitter`, relative to its size (log A and log B: by
    `jitter` itself). `notes` are added to those that the diagnostics deserve.
    """
    rng = np.random.default_rng(seed)
    sweep = simulated_sweep()
    if train_sets is not None:
        sweep = sweep.select(train_sets=train_sets)
    names = sweep.train_sets  # each evaluated on its own validation data alone
    laws = [PUBLISHED_LAWS[name] for name in names]

    def spread(centre: Sequence[float] | float, *, dims: Sequence[str]) -> tuple[list[str], np.ndarray]:
        size = (chains, draws, *np.shape(centre))
        return ["chain", "draw", *dims], np.asarray(centre) * (1 + jitter * rng.standard_normal(size))

    variables = {name: spread([law[name] for law in laws], dims=["cell"]) for name in ("E", "alpha", "beta")}
    for name in ("A", "B"):
        dims, values = spread([law[name] for law in laws], dims=["cell"])
        variables[f"log_{name}"] = dims, np.log(values)
    variables["gamma"] = variables["beta"]  # the published laws are Eq. 4
    variables["c"] = ["chain", "draw", "cell"], np.zeros((chains, draws, len(laws)))
    variables["residual_scale"] = spread([0.0015] * len(laws), dims=["cell"])
    variables["size_effect_scale"] = spread(0.04, dims=[])
    return _fit(sweep, variables, load_spec("law"), seed=seed, notes=notes)


def joint_fit(*, chains: int = 2, draws: int = 100, jitter: float = 0.01, seed: int = 0) -> Fit:
    """A `Fit` of the joint model to three training sets, their own losses and a task's; starcoder has few runs.

    Truth and draws alike are laws E + K R^gamma with one R for all; `jitter` spreads E, K, gamma and R.
    """
    rng = np.random.default_rng(seed)
    size = (chains, draws)

    def spread(centre: Sequence[float] | float, dims: Sequence[str] = ("cell",)) -> np.ndarray:
        values = np.broadcast_to(np.asarray(centre), (*size, len(JOINT_CELLS) if dims else 1))
        return values * (1 + jitter * rng.standard_normal(values.shape))

    def laws(
        E: np.ndarray, K: np.ndarray, gamma: np.ndarray, a: Any, b: Any, A: Any, B: Any
    ) -> dict[str, np.ndarray]:
        """Laws E + K R^gamma; K is a factor K^(1/gamma) of R."""
        log_R = np.log(K) / gamma
        law = {"E": E, "log_A": np.log(A) + log_R / a, "log_B": np.log(B) + log_R / b}
        return law | {"alpha": a * gamma, "beta": b * gamma, "gamma": gamma, "c": np.full(E.shape, 0.03)}

    E, K, gamma = np.array(list(JOINT_CELLS.values())).T
    truth = Law(**laws(E, K, gamma, *PROGRESS))
    table = simulated_sweep().select(train_sets=["fineweb-edu-100b", "smollm-corpus", "starcoder"]).table
    parts = []
    for i, (eval_set, train_set) in enumerate(JOINT_CELLS):
        runs = table[table["train_set"] == train_set].iloc[:: 6 if train_set == "starcoder" else 1]
        loss = truth.loss(runs["params"].to_numpy()[:, None], runs["tokens"].to_numpy()[:, None])[:, i]
        parts.append(runs.assign(eval_set=eval_set, loss=loss * np.exp(0.002 * rng.standard_normal(len(runs)))))
    sweep = Sweep.from_table(pd.concat(parts, ignore_index=True), name="joint", simulated=True)
    shared = (spread(value, ()) for value in PROGRESS)
    drawn = laws(spread(E), spread(K), spread(gamma), *shared) | {"residual_scale": spread(0.002)}
    variables = {name: (["chain", "draw", "cell"], values) for name, values in drawn.items()}
    variables["size_effect_scale"] = ["chain", "draw"], np.full(size, 0.004)
    anchor = [evaluation == train for evaluation, train in JOINT_CELLS]
    return _fit(sweep, variables, load_spec("joint"), seed=seed, anchor=anchor)


def pairs_fit(*, chains: int = 2, draws: int = 100) -> Fit:
    """A `Fit` of relations between the own losses of `joint_fit`, as its draws have them: no cell has a law."""
    joint = joint_fit(chains=chains, draws=draws)
    own = [cell for cell in joint.cells if cell[0] == cell[1]]
    pairs = [(source, target) for source in own for target in own if source != target]
    found = [joint.translate(*pair) for pair in pairs]
    size = (chains, draws, len(pairs))
    drawn = {
        name: np.stack([getattr(one.relation, name) for one in found], axis=-1).reshape(size)
        for name in ("K", "kappa", "E0", "E1")
    }
    drawn["residual_scale"] = np.full(size, 0.002) * (1 + 0.01 * np.random.default_rng(1).standard_normal(size))
    source, target = (["@".join(cell) for cell in side] for side in zip(*pairs, strict=True))
    names = {"pair": [f"{a} -> {b}" for a, b in zip(source, target, strict=True)], "source": ("pair", source)}
    names |= {"target": ("pair", target), "eval_set": ("pair", [t[0] for _, t in pairs])}
    names |= {"train_set": ("pair", [t[1] for _, t in pairs])}
    variables = {name: (("chain", "draw", "pair"), values) for name, values in drawn.items()}
    posterior = xr.Dataset(variables, coords={"chain": range(chains), "draw": range(draws), **names})
    stats = joint.tree["sample_stats"].to_dataset()
    diagnostics, objections = diagnose(posterior, stats, joint.settings)
    groups = {
        "posterior": posterior,
        "sample_stats": stats,
        "diagnostics": diagnostics,
        "observed_data": joint.tree["observed_data"].to_dataset(),
    }
    tree = xr.DataTree.from_dict(groups)
    return Fit(tree, load_spec("train_to_train"), joint.settings, tuple(objections), joint.record)


def with_draws(fit: Fit, **changed: xr.DataArray) -> Fit:
    """The fit with other draws of some variables."""
    groups = {name: group.to_dataset() for name, group in fit.tree.children.items()}
    return replace(fit, tree=xr.DataTree.from_dict(groups | {"posterior": fit.draws.assign(changed)}))


def _fit(
    sweep: Sweep,
    variables: dict[str, tuple[list[str], np.ndarray]],
    spec: ModelSpec,
    *,
    seed: int,
    notes: Sequence[Note] = (),
    anchor: Sequence[bool] = (),
) -> Fit:
    """The `Fit` with these draws, dims chain, draw and cell, of cells in the order of the posterior."""
    chains, draws = variables["E"][1].shape[:2]
    coords = {"chain": range(chains), "draw": range(draws)}
    names = sorted(set(zip(sweep.table["eval_set"], sweep.table["train_set"], strict=True)), key=lambda c: c[::-1])
    evals, trains = (list(side) for side in zip(*names, strict=True))
    cells = {"cell": ["|".join(n) for n in names], "eval_set": ("cell", evals), "train_set": ("cell", trains)}
    if anchor:
        cells["anchor"] = ("cell", list(anchor))
    posterior = xr.Dataset(variables, coords=coords | cells)
    rng = np.random.default_rng(seed)
    stats = xr.Dataset(
        {
            "diverging": (("chain", "draw"), np.zeros((chains, draws), dtype=bool)),
            "energy": (("chain", "draw"), rng.normal(100.0, 5.0, (chains, draws))),
        },
        coords=coords,
    )
    settings = SamplerSettings(draws=draws, chains=chains, seed=seed)
    diagnostics, objections = diagnose(posterior, stats, settings)
    columns = {c: sweep.table[c] for c in (*TEXT, "params", "tokens", "flops", "loss")}
    observed = {c: ("row", v.to_numpy(dtype=object if c in TEXT else float)) for c, v in columns.items()}
    groups = {
        "posterior": posterior,
        "sample_stats": stats,
        "diagnostics": diagnostics,
        "observed_data": xr.Dataset(observed),
    }
    record = {
        "sweep": {name: getattr(sweep, name) for name in ("name", "provenance", "simulated", "loss_unit")},
        "seconds": 0.0,
        "created": "2025-01-01T00:00:00+00:00",
        "versions": {},
    }
    tree = xr.DataTree.from_dict(groups)
    return Fit(tree, spec, settings, (*sweep.notes, *objections, *notes), record)
