"""A model small enough to be compiled and sampled in a test, and sweeps that it describes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.laws.scaling import Law, from_reference
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.models import load_spec

SETS = ("code", "web")
ALPHA, BETA, DEVIATION, SCATTER = 0.4, 0.35, 0.003, 0.002

SPEC = load_spec(
    {
        "name": "tiny",
        "law": "chinchilla",
        "priors": {
            "E_fraction": {
                "dist": "Normal",
                "dims": "cell",
                "transform": "sigmoid",
                "kwargs": {"mu": 0.5, "sigma": 1.0},
            },
            "excess": {"dist": "Normal", "dims": "cell", "transform": "exp", "kwargs": {"mu": -1.5, "sigma": 1.0}},
            "share": 0.5,
            "alpha": ALPHA,
            "beta": BETA,
        },
        "likelihood": {
            "dist": "Normal",
            "residual_scale": {"dist": "LogNormal", "kwargs": {"mu": -6.2, "sigma": 0.7}},
            "size_effect_scale": DEVIATION,
        },
    }
)
"""E and the law's height of each cell and one scatter are free; the rest is fixed."""


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Sizes of four budgets, and of each five models."""
    flops = np.repeat(np.geomspace(1e18, 3e19, 4), 5)
    params = np.sqrt(flops / 6 / np.tile(np.geomspace(4, 150, 5), 4))
    return params, flops / 6 / params


def truth(train_set: str, *, E: float = 1.5) -> Law:
    """The law that a sweep is simulated from."""
    E, height = {"web": (E + 0.3, 0.9), "code": (E - 0.7, 0.5)}[train_set]
    params, tokens = grid()
    log_A, log_B = from_reference(
        log_reducible_ref=np.log(height),
        share=0.5,
        alpha=ALPHA,
        beta=BETA,
        gamma=1.0,
        log_N_ref=np.log(params).mean(),
        log_D_ref=np.log(tokens).mean(),
    )
    return Law(E=E, log_A=log_A, log_B=log_B, alpha=ALPHA, beta=BETA)


def tiny_sweep(*, seed: int = 0, E: float = 1.5) -> Sweep:
    """Twenty runs on each of two training sets, from `truth` with noise of the size that the model has."""
    rng = np.random.default_rng(seed)
    params, tokens = grid()
    delta = DEVIATION * rng.standard_normal(len(params))
    parts = []
    for name in SETS:
        law = truth(name, E=E)
        loss = law.loss(params, tokens)
        noise = (1 - law.E / loss) * delta + SCATTER * rng.standard_normal(len(params))
        part = {"params": params, "tokens": tokens, "loss": loss * np.exp(noise)}
        parts.append(pd.DataFrame(part).assign(train_set=name, eval_set=name))
    return Sweep.from_table(pd.concat(parts, ignore_index=True), name="tiny", simulated=True)


def _joint() -> ModelSpec:
    record = SPEC.to_dict()
    priors = {name: record["priors"][name] for name in ("E_fraction", "excess", "share")}
    priors |= {"alpha_over_gamma": ALPHA, "beta_over_gamma": BETA}
    priors["gamma"] = record["priors"]["excess"] | {"kwargs": {"mu": 0.0, "sigma": 0.3}}
    return load_spec(record | {"name": "tiny-joint", "law": "generalised", "structure": "joint", "priors": priors})


JOINT = _joint()
"""The same with one progress R, whose shape is known: of each cell E, the height, gamma and the scatter are free."""

TASK_GAMMA = 0.8


def task(train_set: str) -> Law:
    """The law of a task that reads the progress of `truth`."""
    return truth(train_set).translate(ShiftedPowerLaw(K=1.1, kappa=TASK_GAMMA, E0=truth(train_set).E, E1=2.0))


def tiny_joint_sweep(*, seed: int = 0) -> Sweep:
    """`tiny_sweep` with a task evaluated on every run; it shares the deviation of the runs of each size."""
    rng = np.random.default_rng(seed + 1)
    own = tiny_sweep(seed=seed).table[["train_set", "eval_set", "params", "tokens", "loss"]]
    parts = [own]
    for name in SETS:
        runs = own[own["train_set"] == name]
        relation = ShiftedPowerLaw(K=1.1, kappa=TASK_GAMMA, E0=truth(name).E, E1=2.0)
        noise = SCATTER * rng.standard_normal(len(runs))
        parts.append(runs.assign(eval_set="task", loss=relation(runs["loss"]) * np.exp(noise)))
    return Sweep.from_table(pd.concat(parts, ignore_index=True), name="tiny", simulated=True)
