"""Rows of a backtest made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayes_l2l.posterior.draws import QUANTILES


def by_hand(
    extrapolation: float | list[float], *, model: str = "law", split: str = "hindcast", held: float = 1.0
) -> pd.DataFrame:
    """Rows at these distances, of which the first part is held by the 90% interval."""
    far = np.atleast_1d(extrapolation)
    n = len(far)
    lead = {"model": model, "split": split, "cutoff": 1e18, "held_out": "", "cell_kind": "train"}
    frame = pd.DataFrame(lead, range(n))
    frame = frame.assign(run_id=[f"r{i}" for i in range(n)], train_set="a", eval_set="a", params=1e9, tokens=2e10)
    frame = frame.assign(flops=1e18 * far, extrapolation=far, median=2.0, trusted=True, notes="", simulated=False)
    levels = np.array(QUANTILES)
    frame = frame.assign(**{f"q{level:g}": 2 + 0.2 * (level - 0.5) for level in levels})
    return frame.assign(actual=np.where(np.arange(n) < round(held * n), 2.05, 2.5), crps=1.0, pit=0.5)
