"""Doubts: what a careful colleague would say of the sizes and budgets that are asked about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

#: Hindcasts inside public sweeps reach about this far beyond the largest fitted compute.
TESTED_EXTRAPOLATION: Final = 25.0
#: A run of so much less compute than the smallest one, or so many fewer parameters or tokens, is not of the sweep.
_LESS: Final[Mapping[str, float]] = {"flops": TESTED_EXTRAPOLATION, "params": 5.0, "tokens": 5.0}
_WORDS: Final = {"flops": "compute", "params": "parameters", "tokens": "tokens"}


def too_far(extrapolation: Any, *, what: str = "points") -> tuple[Note, ...]:
    """Note on points or budgets that lie further out than hindcasts have tested.

    Parameters
    ----------
    extrapolation : array-like, shape (point,)
        Compute over the largest fitted compute.
    what : str
        What they are called.
    """
    times = np.asarray(extrapolation, dtype=float)
    far = times > TESTED_EXTRAPOLATION
    if not far.any():
        return ()
    most = float(times.max())
    message = (
        f"{far.sum()} of {far.size} {what} have up to {most:.0f} times the largest compute fitted; hindcasts have "
        f"tested forecasts to about {TESTED_EXTRAPOLATION:.0f} times: do not trust the intervals there"
    )
    return (Note("far_extrapolation", "warning", message, {what: int(far.sum()), "extrapolation": most}),)


def too_small(points: pd.DataFrame, runs: pd.DataFrame) -> tuple[Note, ...]:
    """Note on points that are far smaller than every fitted run: laws of larger runs say little of them.

    Parameters
    ----------
    points : pandas.DataFrame
        train_set, params, tokens, flops.
    runs : pandas.DataFrame
        The fitted table.
    """
    least = runs.groupby("train_set")[list(_LESS)].min().reindex(points["train_set"])
    times = {name: least[name].to_numpy() / points[name].to_numpy() for name in _LESS}
    small = np.any([times[name] > limit for name, limit in _LESS.items()], axis=0)
    if not small.any():
        return ()
    found = {name: float(values[small].max()) for name, values in times.items() if values[small].max() > _LESS[name]}
    message = (
        f"{small.sum()} of {small.size} points are far smaller than every fitted run ("
        + ", ".join(f"up to {value:.3g} times fewer {_WORDS[name]}" for name, value in found.items()).replace(
            "fewer compute", "less compute"
        )
        + "): the law is of larger runs, do not trust it there"
    )
    return (Note("far_below", "warning", message, {"points": int(small.sum()), **found}),)
