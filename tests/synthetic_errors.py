"""Laws from loss to error made by hand, on the training sets of `synthetic.joint_fit`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr
from synthetic import joint_fit

from bayes_l2l.fits import Fit
from bayes_l2l.laws.error_curves import Richards
from bayes_l2l.posterior.posterior import Posterior, observed
from bayes_l2l.structures.models import load_error_spec

RICHARDS = load_error_spec("richards")


def posterior(
    *, learned: bool = True, draws: int = 100, jitter: float = 0.0, metric: str | None = None
) -> xr.Dataset:
    """Laws of one task on the three training sets of `joint_fit`, as a function of the loss on ``task``.

    Without a metric as in files of before accuracies were kept as such.
    """
    rng = np.random.default_rng(5)
    sets = ["fineweb-edu-100b", "smollm-corpus", "starcoder"]
    centre = {"ceiling": 0.75, "level": -0.5, "slope": 1.5, "shape": 1.0, "residual_scale": 0.01}
    size = (2, draws, 3)
    drawn = {
        name: (("chain", "draw", "cell"), value * (1 + jitter * rng.standard_normal(size)))
        for name, value in centre.items()
    }
    drawn["nu"] = (("chain", "draw"), np.full(size[:2], 30.0))
    coords = {
        "cell": [f"quiz|{name}" for name in sets],
        "eval_set": ("cell", ["quiz"] * 3),
        "train_set": ("cell", sets),
        "predictor": ("cell", ["task"] * 3),
        "chance": ("cell", [0.75] * 3),
        "reference": ("cell", [3.0] * 3),
        "smallest": ("cell", [2.6] * 3),
        "learned": ("cell", [learned, True, True]),
    }
    if metric:
        coords["metric"] = ("cell", [metric] * 3)
    return xr.Dataset(drawn, coords={"chain": range(2), "draw": range(draws), **coords})


def chained(**options: object) -> Fit:
    """`joint_fit` with the laws of `posterior`."""
    return replace(joint_fit(), errors=errors(**options))


def errors(**options: object) -> Posterior:
    """Draws of the laws of `posterior`, beside `joint_fit`."""
    fit = joint_fit()
    groups = {name: group.to_dataset() for name, group in fit.tree.children.items()}
    groups["diagnostics"] = xr.Dataset()  # which were of the losses
    groups |= {"posterior": posterior(**options), "observed_data": observed(_runs(fit, options.get("metric")))}  # type: ignore[arg-type]
    tree = xr.DataTree.from_dict(groups)
    return Posterior(tree, RICHARDS, fit.settings, (), fit.record)


def _runs(fit: Fit, metric: object) -> pd.DataFrame:
    """The runs of a fit with the error of each, or its accuracy."""
    losses = fit.sweep.table
    task = losses[losses["eval_set"] == "task"]
    error = Richards(reference=3.0, ceiling=0.75, level=-0.5, slope=1.5)(task["loss"])
    rows = task.assign(eval_set="quiz", metric=metric or "error", loss=1 - error if metric == "accuracy" else error)
    return pd.concat([losses, rows], ignore_index=True)
