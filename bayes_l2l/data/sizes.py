"""Sizes (N, D): which there can be, when runs are of one, and in which of the two ways a size is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

#: Budgets of an isoFLOP grid at most.
_MOST: Final = 12
#: Decades of compute, of which the powers of ten are enough.
_WIDE: Final = 2.5
#: Least and most parameters, tokens and FLOPs that a language model has, or will soon have.
POSSIBLE: Final[Mapping[str, tuple[float, float]]] = {
    "params": (100.0, 1e15),
    "tokens": (100.0, 1e18),
    "flops": (1.0, 1e36),
}


def impossible(name: str, value: float) -> str | None:
    """Say why no model has so many parameters, tokens or FLOPs, which `name` names; None if one may."""
    least, most = POSSIBLE[name]
    if value < least:
        return f"{value:g} is too {'little' if name == 'flops' else 'few'}"
    return f"{value:g} is more than any model has" if value > most else None


def size_label(params: float, tokens: float) -> str:
    """Name of a size, by which runs of equal (N, D) are recognised (six digits)."""
    return f"{params:.6g}|{tokens:.6g}"


def size_labels(table: pd.DataFrame) -> list[str]:
    """Name of the size of every row, of its columns params and tokens."""
    return [size_label(n, d) for n, d in zip(table["params"], table["tokens"], strict=True)]


def one_way(flops: Any, params: Any, tokens: Any) -> bool:
    """Whether a size is said in one of the two ways, by compute or by both N and D, and in no other."""
    return (flops is None) != (params is None) and (params is None) == (tokens is None)


def budgets_of(flops: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Budgets of an isoFLOP grid; where runs are of none, powers of ten among them, or of its root if that is few."""
    logs = np.log10(flops)
    levels = np.unique(np.round(logs, 1))
    if len(levels) <= _MOST:
        return np.array([10 ** np.median(logs[np.round(logs, 1) == level]) for level in levels])
    step = 1.0 if np.ptp(logs) > _WIDE else 0.5
    return np.asarray(10 ** (step * np.arange(np.ceil(logs.min() / step), logs.max() / step)))
