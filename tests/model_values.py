"""Values of a PyMC model at a point, without the minute that compiling it to machine code takes."""

from __future__ import annotations

from typing import Any

import numpy as np


def values(model: Any, point: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    """Deterministics and potentials of a model by name, where its free variables have the values of `point`."""
    from pytensor.compile.mode import Mode

    found = model.replace_rvs_by_values([model[name] for name in names])
    inputs = {"inputs": model.value_vars, "point_fn": True, "on_unused_input": "ignore"}
    return model.compile_fn(found, mode=Mode(linker="py", optimizer=None), **inputs)(point)


def log_density(model: Any, *points: dict[str, np.ndarray]) -> list[float]:
    """Log density of a model, priors and likelihood, at points."""
    from pytensor.compile.mode import Mode

    density = model.compile_logp(mode=Mode(linker="py", optimizer=None))
    return [float(density(point)) for point in points]


def derivative(model: Any, point: dict[str, np.ndarray]) -> np.ndarray:
    """Derivative of the log density by the free variables, one after the other, as PyTensor has it."""
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode

    # The terms are stacked: the plain linker adds no more than 30 numbers at once.
    density = pt.stack([term.sum() for term in model.logp(sum=False)]).sum()
    found = pt.grad(density, model.value_vars)
    inputs = {"inputs": model.value_vars, "point_fn": True, "on_unused_input": "ignore"}
    parts = model.compile_fn(found, mode=Mode(linker="py", optimizer=None), **inputs)(point)
    return np.concatenate([np.ravel(part) for part in parts])


def some_point(model: Any, *, seed: int = 0, scale: float = 0.3) -> dict[str, np.ndarray]:
    """A point away from the initial one, where nothing is zero by chance."""
    rng = np.random.default_rng(seed)
    start = model.initial_point(random_seed=seed)
    return {name: value + scale * rng.standard_normal(np.shape(value)) for name, value in start.items()}
