"""What lets one expression serve NumPy arrays, xarray objects and PyTensor variables."""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace(*values: Any) -> Any:
    """PyTensor's namespace if any value is a PyTensor variable, else NumPy (which serves xarray too)."""
    if any(type(v).__module__.startswith("pytensor") for v in values):
        import pytensor.tensor as pt

        return pt
    return np


def logaddexp(a: Any, b: Any) -> Any:
    """Logarithm of exp(a) + exp(b) without overflow, for the three libraries alike."""
    lib = namespace(a, b)
    gap = a - b
    # log1p(exp(-|gap|)) never overflows; the mean and half the distance are max(a, b) without a branch
    return 0.5 * (a + b) + 0.5 * abs(gap) + lib.log1p(lib.exp(-abs(gap)))
