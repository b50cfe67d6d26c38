"""A small simulated sweep of mixtures, whose mixing law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

DOMAINS = ("web", "code", "books", "math")
EVALUATIONS = ("code_val", "web_val")
SIZES = ((1e7, 1e9), (1e8, 1e10))
#: Worth of every domain for every evaluation, and strengths.
WORTH = np.array([[3.0, 80.0, 2.0, 6.0], [60.0, 2.0, 8.0, 2.0]])
STRENGTH = np.array([0.25, 0.3])
POWER, NOISE, DEPARTURE = 0.6, 0.004, 0.03


def mixtures(seed: int = 0, n: int = 36, n_large: int = 14) -> pd.DataFrame:
    """Losses of mixtures, all at the small size and the first ones at the large size too, with those asked beside.

    Column ``fitted`` says which are meant to be fitted: large runs of the last third of those are not.
    """
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(len(DOMAINS), 0.6), n).round(3)
    weights[:, 0] += 1 - weights.sum(axis=1)
    weights = np.maximum(weights, 0.0)
    departures = rng.normal(0, DEPARTURE, (n, len(EVALUATIONS)))
    reference = np.log1p(WORTH @ weights.mean(axis=0) ** POWER)
    rows = []
    for s, (params, tokens) in enumerate(SIZES):
        for m in range(n if s == 0 else n_large):
            effect = np.log1p(WORTH @ weights[m] ** POWER) - reference + departures[m]
            above = 2.7 * 10 ** (-0.12 * s) * np.exp(-STRENGTH * effect + rng.normal(0, NOISE, len(EVALUATIONS)))
            of_mixture = {f"weight:{name}": w for name, w in zip(DOMAINS, weights[m], strict=True)}
            size = {"train_set": f"mix{m:02d}", "params": params, "tokens": tokens}
            fitted = s == 0 or m < 2 * n_large // 3
            rows += [
                {**size, "eval_set": name, "loss": 1.0 + loss, "fitted": fitted, **of_mixture}
                for name, loss in zip(EVALUATIONS, above, strict=True)
            ]
    return pd.DataFrame(rows)
