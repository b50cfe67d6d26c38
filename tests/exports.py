"""Tables as experiment trackers export them: names, units and columns that mean nothing here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import tiny

from bayes_l2l.data.numerals import write_size

BATCH = 524_288


def tracker() -> pd.DataFrame:
    """Runs of `tiny_sweep` with the columns of a W&B export; one run crashed, one has not finished."""
    rng = np.random.default_rng(5)
    rows = []
    for i, run in enumerate(tiny.tiny_sweep().table.itertuples()):
        steps = round(run.tokens / BATCH)
        accuracy = 0.25 + 0.4 / (1 + np.exp(4 * (run.loss - 2.6)))
        name = {"web": "fineweb", "code": "starcoder"}[run.train_set]
        rows.append(
            {
                "Name": f"sweep-{i:03d}", "State": "finished", "Notes": "", "User": "me", "Tags": "sweep",
                "Created": "2025-03-01T10:00:00.000Z", "Runtime": 3600 + i, "config.model.n_params":
                write_size(run.params), "config.model.n_layer": 12, "config.data": name, "config.lr": 3e-4,
                "config.batch_tokens": f"{BATCH:,}", "_step": steps, "_runtime": 3590.5 + i, "_timestamp": 1.7e9 + i,
                "train/loss": run.loss + 0.02 * rng.standard_normal(), "train/grad_norm": rng.uniform(0.2, 0.9),
                "tokens_per_second": 2e5 + i, "eval/loss": run.loss, "eval/c4/loss": 0.9 * run.loss + 0.5,
                "eval/c4/perplexity": np.exp(0.9 * run.loss + 0.5), "eval/hellaswag/acc": f"{100 * accuracy:.1f}%",
                "eval/hellaswag/acc_stderr": 0.005, "eval/piqa": 50 + 40 * accuracy, "gpu": "H100",
            }
        )  # fmt: skip
    rows[3] |= {"State": "crashed", "eval/loss": "NaN", "eval/hellaswag/acc": "", "_step": 0}
    rows[7] |= {"State": "running"}
    return pd.DataFrame(rows)
