"""A fit made by hand: a posterior about known laws, so that what follows sampling is tested without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from bayes_l2l.fits import Fit
from bayes_l2l.notes import Note
from bayes_l2l.sampling import SamplerSettings, diagnose
from bayes_l2l.simulation import PUBLISHED_LAWS, simulated_sweep
from bayes_l2l.spec import load_spec

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
    variables["scatter"] = spread([0.0015] * len(laws), dims=["cell"])
    variables["deviation"] = spread(0.04, dims=[])
    coords = {"chain": range(chains), "draw": range(draws)}
    cells = {"cell": [f"{n}|{n}" for n in names], "eval_set": ("cell", names), "train_set": ("cell", names)}
    posterior = xr.Dataset(variables, coords=coords | cells)
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
        "sweep": {"name": sweep.name, "provenance": sweep.provenance, "simulated": sweep.simulated},
        "seconds": 0.0,
        "created": "2025-01-01T00:00:00+00:00",
        "versions": {},
    }
    tree = xr.DataTree.from_dict(groups)
    return Fit(tree, load_spec("law"), settings, (*sweep.notes, *objections, *notes), record)
