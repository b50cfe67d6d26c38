"""Training: models of one size side by side, on windows that are each read once, then evaluated on every corpus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.microsweep.corpora import BLOCK, TokenizedCorpus
from bayes_l2l.microsweep.runs import Run
from bayes_l2l.microsweep.transformer import CONTEXT, build_transformers, load_torch

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Of Adam, at the width below; docs/microsweep.md has the scan.
RATES: Final[Mapping[str, float]] = {"embedding": 0.12, "hidden": 0.008}
_RATE_WIDTH: Final = 64
WARM_UP: Final = 0.2  # of the steps
_EVALUATED: Final = 32  # sequences at once


def train(
    runs: Sequence[Run],
    corpora: Sequence[TokenizedCorpus],
    *,
    rates: Mapping[str, float] = RATES,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Train models of one size side by side and evaluate each on every corpus.

    Parameters
    ----------
    runs : sequence of Run
        What to train; alike in width, batch and steps.
    corpora : sequence of TokenizedCorpus
        Evaluations, the training sets' corpora among them.
    rates : mapping of str to float
        Learning rates of Adam at their peak: of the embedding, and of hidden layers of width 64.
    progress : callable, optional
        Called with the number of steps made since it was called last.

    Returns
    -------
    pandas.DataFrame
        Rows of the long table, one a run and evaluation; loss in nats per byte.

    Raises
    ------
    DataError
        If PyTorch is not installed.
    """
    import pandas as pd

    torch = load_torch()
    started = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    first = runs[0]
    models = build_transformers(first.width, [run.seed for run in runs]).to(device)
    hidden = rates["hidden"] * _RATE_WIDTH / first.width
    optimizer = torch.optim.AdamW(
        [
            {"params": [models.embedding], "lr": rates["embedding"]},
            {"params": list(models.blocks.parameters()), "lr": hidden},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.0,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, first.steps))
    tokens = {corpus.name: corpus.train for corpus in corpora}
    batches = zip(*(_batches([tokens[name] for name in run.corpora], run) for run in runs), strict=True)
    for step, batch in enumerate(batches):
        losses = models.losses(torch.from_numpy(np.stack(batch)).to(device))
        losses.mean((1, 2)).sum().backward()
        _clip(list(models.parameters()))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if progress and (step % 100 == 99 or step == first.steps - 1):
            progress(step % 100 + 1)
    seconds = (time.perf_counter() - started) / len(runs)
    evaluated = [_evaluate(models, corpus, len(runs), device) for corpus in corpora]
    return pd.concat(
        [_rows(run, corpora, [windows[i] for windows in evaluated], seconds) for i, run in enumerate(runs)],
        ignore_index=True,
    )


def _rows(
    run: Run, corpora: Sequence[TokenizedCorpus], nats: Sequence[NDArray[np.float64]], seconds: float
) -> pd.DataFrame:
    """Rows of one run, from the nats of each window of each corpus."""
    import pandas as pd

    losses = [windows.sum() / corpus.held_bytes.sum() for windows, corpus in zip(nats, corpora, strict=True)]
    # Of a ratio of sums over windows. All runs read the same ones: not the noise of one run, which loss_se would be.
    errors = [
        (windows - loss * corpus.held_bytes).std(ddof=1) * math.sqrt(len(windows)) / corpus.held_bytes.sum()
        for windows, corpus, loss in zip(nats, corpora, losses, strict=True)
    ]
    return pd.DataFrame(
        {
            "train_set": run.train_set,
            "eval_set": [corpus.name for corpus in corpora],
            "params": run.params,
            "tokens": run.tokens,
            "flops": run.flops,
            "loss": losses,
            "held_out_se": errors,
            "run_id": run.run_id,
            "budget": run.budget,
            "width": run.width,
            "batch": run.batch,
            "seed": run.seed,
            "is_extrapolation": int(run.is_large),
            "seconds": round(seconds, 1),
        }
    )


def _schedule(step: int, steps: int) -> float:
    """Rate over its peak: linear warm-up, then a cosine to nought at the run's own end."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _clip(parameters: Sequence[Any]) -> None:
    """Shorten each model's gradient to length 1."""
    squares: Any = sum(parameter.grad.flatten(1).square().sum(1) for parameter in parameters)
    factors = (1 / (squares.sqrt() + 1e-6)).clamp(max=1)[:, None, None]
    for parameter in parameters:
        parameter.grad.mul_(factors)


def _batches(parts: Sequence[NDArray[np.uint16]], run: Run) -> Iterator[NDArray[np.int64]]:
    """Batches of windows, in an order that all runs of a seed share; no token is predicted twice.

    Of a mixture, windows come from its parts in turn.
    """
    orders = [_order((len(part) - 1) // CONTEXT, run.seed) for part in parts]
    inside = np.arange(CONTEXT + 1)
    for start in range(0, run.steps * run.batch, run.batch):
        turns = [divmod(i, len(parts)) for i in range(start, start + run.batch)]
        windows = [parts[part][orders[part][place] * CONTEXT + inside] for place, part in turns]
        yield np.stack(windows).astype(np.int64)


def _order(windows: int, seed: int) -> NDArray[np.int64]:
    """Places of windows, shuffled within blocks: those that come first do not depend on how many there are."""
    starts = range(0, windows, BLOCK)
    shuffled = [
        np.random.default_rng([seed, start]).permutation(min(BLOCK, windows - start)) + start for start in starts
    ]
    return np.concatenate(shuffled)


def _evaluate(models: Any, corpus: TokenizedCorpus, number: int, device: str) -> NDArray[np.float64]:
    """Nats of each window, of each model: (models, windows)."""
    torch = load_torch()
    with torch.no_grad():
        parts = []
        for start in range(0, len(corpus.held), _EVALUATED):
            windows = torch.from_numpy(corpus.held[start : start + _EVALUATED].astype(np.int64)).to(device)
            parts.append(models.losses(windows.expand(number, -1, -1)).double().sum(-1).cpu())
    return np.asarray(torch.cat(parts, 1))
