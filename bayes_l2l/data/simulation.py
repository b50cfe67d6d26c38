"""A sweep simulated from published laws: the embedded default, and a truth that is known."""

from __future__ import annotations

from typing import Final

import numpy as np

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN, law_loss

#: Table 3 of arXiv 2411.12925: Eq. 4 (gamma = beta) for the loss on each set's own validation data.
#: A in parameters, B in tokens, E in nats/token.
PUBLISHED_LAWS: Final = {
    "fineweb-100b": {"E": 2.170, "A": 6.787e7, "B": 9.310e8, "alpha": 0.4107, "beta": 0.4531},
    "fineweb-edu-100b": {"E": 1.967, "A": 6.680e7, "B": 8.900e8, "alpha": 0.4129, "beta": 0.4556},
    "proof-pile-2": {"E": 1.319, "A": 2.140e7, "B": 3.290e8, "alpha": 0.4527, "beta": 0.4552},
    "slimpajama-chunk1": {"E": 1.967, "A": 7.467e7, "B": 1.064e9, "alpha": 0.4013, "beta": 0.4341},
    "smollm-corpus": {"E": 1.534, "A": 7.788e7, "B": 1.063e9, "alpha": 0.4181, "beta": 0.4549},
    "starcoder": {"E": 0.8452, "A": 2.227e7, "B": 3.775e8, "alpha": 0.4513, "beta": 0.4716},
}

_BUDGETS: Final = np.geomspace(2e17, 4.84e19, 8)  # FLOPs
_SIZES_A_BUDGET: Final = 11
_TOKENS_A_PARAM: Final = 20.0  # in the middle of each budget
_LARGE_RUN: Final = (3.3e9, 5.04e10)  # parameters, tokens: 20.6 times the largest budget
_SHARED_SD: Final = 0.003  # of log loss, the same deviation in all sets at one size
_OWN_SD: Final = 0.0015  # of log loss, each set on its own


def simulated_sweep(*, seed: int = 0, with_large: bool = False) -> Sweep:
    """Simulate a sweep like that of arXiv 2411.12925 from its published laws.

    Eight budgets of eleven sizes each, the same for six training sets, every run evaluated on its own
    training set's validation data. The laws are Eq. 4 with the parameters of the paper's Table 3; each size
    deviates from them by 0.3% in all sets alike and by 0.15% in each set on its own.

    Parameters
    ----------
    seed : int, default 0
        Seed of the deviations.
    with_large : bool, default False
        Whether to add, on each set, the run of 3.3e9 parameters and 5.04e10 tokens: 20.6 times the largest
        budget.

    Returns
    -------
    Sweep
        528 runs, 534 with the large ones; ``simulated`` is True.
    """
    small, large = simulate(seed)
    return small.with_rows(large) if with_large else small


def simulate(seed: int) -> tuple[Sweep, Sweep]:
    """Simulate the small and the large runs, from one stream: a seed always means the same truth."""
    import pandas as pd

    # Sizes are rungs of one ladder that all budgets share; the next budget starts two rungs higher.
    rung = (_BUDGETS[1] / _BUDGETS[0]) ** 0.25
    steps = np.arange(_SIZES_A_BUDGET) - _SIZES_A_BUDGET // 2
    middle = np.sqrt(_BUDGETS / (FLOPS_PER_PARAM_TOKEN * _TOKENS_A_PARAM))
    params = np.round(middle[:, None] * rung**steps, -4).ravel()
    tokens = np.round(np.repeat(_BUDGETS, _SIZES_A_BUDGET) / (FLOPS_PER_PARAM_TOKEN * params))
    params, tokens = np.append(params, _LARGE_RUN[0]), np.append(tokens, _LARGE_RUN[1])

    rng = np.random.default_rng(seed)
    shared = rng.normal(0, _SHARED_SD, params.size)
    parts = []
    for train_set, law in PUBLISHED_LAWS.items():
        deviation = shared + rng.normal(0, _OWN_SD, params.size)
        part = pd.DataFrame({"params": params, "tokens": tokens})
        part["loss"] = law_loss(params, tokens, gamma=law["beta"], **law) * np.exp(deviation)
        part["run_id"] = [f"{train_set}-{i:02d}" for i in range(params.size)]
        parts.append(part.assign(train_set=train_set, eval_set=train_set))
    table = pd.concat(parts, ignore_index=True)
    is_large = table["params"] == _LARGE_RUN[0]
    provenance = f"simulated from the published laws of arXiv 2411.12925, Table 3 (seed {seed}); not measured"
    small, large = (
        Sweep.from_table(part, name=name, provenance=provenance, simulated=True)
        for part, name in ((table[~is_large], "simulated"), (table[is_large], "simulated, large runs"))
    )
    return small, large
