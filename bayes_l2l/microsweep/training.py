"""Training: one model, on windows of a corpus that are each read once, then evaluated on every corpus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.microsweep.corpora import Corpus
from bayes_l2l.microsweep.runs import BATCH, Run
from bayes_l2l.microsweep.transformer import CONTEXT, build_transformer, load_torch

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

#: Of Adam, at the width below; docs/microsweep.md has the scan.
RATES: Final[Mapping[str, float]] = {"embedding": 0.1, "hidden": 0.014}
_RATE_WIDTH: Final = 64
WARM_UP: Final = 0.2  # of the steps


def train(
    run: Run,
    corpora: Sequence[Corpus],
    *,
    rates: Mapping[str, float] = RATES,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Train one model and evaluate it on every corpus.

    Parameters
    ----------
    run : Run
        What to train.
    corpora : sequence of Corpus
        Evaluations, its own training set among them.
    rates : mapping of str to float
        Learning rates of Adam at their peak: of the embedding, and of hidden layers of width 64.
    progress : callable, optional
        Called with the number of steps made since it was called last.

    Returns
    -------
    pandas.DataFrame
        Rows of the long table, one an evaluation; loss in nats per byte.

    Raises
    ------
    DataError
        If PyTorch is not installed.
    """
    import pandas as pd

    torch = load_torch()
    started = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = next(corpus.train for corpus in corpora if corpus.name == run.train_set)
    torch.manual_seed(run.seed)
    model = build_transformer(run.width).to(device)
    hidden = rates["hidden"] * _RATE_WIDTH / run.width
    optimizer = torch.optim.AdamW(
        [
            {"params": [model.embedding], "lr": rates["embedding"]},
            {"params": list(model.blocks.parameters()), "lr": hidden},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.0,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, run.steps))
    for step, batch in enumerate(_batches(data, run)):
        loss = model.losses(torch.from_numpy(batch).to(device)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if progress and (step % 100 == 99 or step == run.steps - 1):
            progress(step % 100 + 1)
    losses = [_evaluate(model, corpus.held, device) for corpus in corpora]
    return pd.DataFrame(
        {
            "train_set": run.train_set,
            "eval_set": [corpus.name for corpus in corpora],
            "params": run.params,
            "tokens": run.tokens,
            "flops": run.flops,
            "loss": [each.mean() for each in losses],
            # Of all runs alike, because they read the same windows: not the noise of one, which loss_se would be.
            "held_out_se": [each.std(ddof=1) / math.sqrt(len(each)) for each in losses],
            "run_id": run.run_id,
            "budget": run.budget,
            "width": run.width,
            "seed": run.seed,
            "is_extrapolation": int(run.is_large),
            "seconds": round(time.perf_counter() - started, 1),
        }
    )


def _schedule(step: int, steps: int) -> float:
    """Rate over its peak: linear warm-up, then a cosine to nought at the run's own end."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _batches(data: Bytes, run: Run) -> Iterator[NDArray[np.int64]]:
    """Batches of windows of the corpus, in an order that all runs of a seed share; no byte is predicted twice."""
    windows = (len(data) - 1) // CONTEXT
    order = np.random.default_rng(run.seed).permutation(windows)[: run.steps * BATCH]
    for rows in order.reshape(run.steps, BATCH):
        yield data[rows[:, None] * CONTEXT + np.arange(CONTEXT + 1)].astype(np.int64)


def _evaluate(model: Any, held: Bytes, device: str) -> NDArray[np.float64]:
    torch = load_torch()
    with torch.no_grad():
        parts = [
            model.losses(torch.from_numpy(held[start : start + 64].astype(np.int64)).to(device)).double().cpu()
            for start in range(0, len(held), 64)
        ]
    return np.asarray(torch.cat(parts))
