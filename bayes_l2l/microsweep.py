"""A sweep that is really measured: byte-level transformers on corpora of one's own, small enough for a laptop.

A run trains a decoder-only transformer on windows of a corpus, each read once, and evaluates it, at its end, on what
is held out of every corpus. Budgets of FLOPs, and sizes within a budget, make the grid of isoFLOP curves.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.errors import DataError
from bayes_l2l.laws import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.output import write_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

CONTEXT: Final = 128  # bytes that a prediction can see
BATCH: Final = 4  # sequences a step
HELD_OUT: Final = 512  # sequences of an evaluation: 66 kB
_HELD_SHARE: Final = 0.02  # of a corpus at least, so that the windows are of many documents
BUDGETS: Final = (1e10, 1.8e10, 3.2e10, 5.6e10, 1e11)  # FLOPs; about an hour of one core, with six corpora
_PIECE: Final = 16_384  # bytes; a single file is cut at line ends into documents of about this size
_VOCABULARY: Final = 256
_RATES: Final = {"embedding": 0.1, "hidden": 0.014}  # of Adam, at the width below; docs/microsweep.md has the scan
_RATE_WIDTH: Final = 64
_WARM_UP: Final = 0.2  # of the steps


@dataclass(frozen=True)
class Corpus:
    """Documents, shuffled and split.

    Parameters
    ----------
    name : str
        What the training set and its evaluation are called.
    train : ndarray of uint8
        Bytes to train on.
    held : ndarray of uint8, (windows, bytes)
        Windows of documents that are not trained on; each is one byte longer than `CONTEXT`.
    """

    name: str
    train: Bytes
    held: Bytes


@dataclass(frozen=True)
class Run:
    """One model to train.

    Parameters
    ----------
    train_set : str
        Name of its corpus.
    width : int
        Of the residual stream.
    steps : int
        Of `BATCH` sequences.
    budget : float
        FLOPs that it stands for; its own differ by the rounding of steps.
    seed : int
        Of the initial weights and of the order in which the corpus is read.
    star : bool
        Whether it is a large run, kept out of the grid.
    """

    train_set: str
    width: int
    steps: int
    budget: float
    seed: int = 0
    star: bool = False

    @property
    def params(self) -> int:
        """All parameters: those of the blocks, and the embedding, which is the output layer too."""
        return count_params(self.width)

    @property
    def tokens(self) -> int:
        """Bytes trained on."""
        return self.steps * BATCH * CONTEXT

    @property
    def flops(self) -> float:
        """Of the training: 6 N D."""
        return FLOPS_PER_PARAM_TOKEN * self.params * self.tokens

    @property
    def run_id(self) -> str:
        """Name that says all of it."""
        return f"{self.train_set}-w{self.width}-s{self.steps}-seed{self.seed}"


def layers(width: int) -> int:
    """Blocks of a model of this width: two up to 128, then one for every 64."""
    return max(2, width // 64)


def count_params(width: int) -> int:
    """Parameters N of a model of this width, all of which a byte is multiplied by: 12 L w^2 + 256 w."""
    return 12 * layers(width) * width**2 + _VOCABULARY * width


def grid(
    train_sets: Sequence[str],
    *,
    budgets: Sequence[float],
    sizes: int,
    tokens_per_param: float,
    span: float = 8.0,
    star_factor: float = 20.0,
    seed: int = 0,
) -> list[Run]:
    """Lay out a sweep: isoFLOP curves, then a large run a corpus.

    Budgets come in rising order and corpora alternate, so that a sweep that is cut off is balanced.

    Parameters
    ----------
    train_sets : sequence of str
        Names of the corpora.
    budgets : sequence of float
        FLOPs of the curves.
    sizes : int
        Models a budget, fewer where widths, multiples of 4, coincide; equally spaced in log N about the middle,
        where D = `tokens_per_param` N.
    tokens_per_param : float
        Bytes a parameter in the middle of the curves, and of the large runs.
    span : float, default 8
        Ratio of the largest to the smallest N of a budget.
    star_factor : float, default 20
        Compute of the large runs over the largest budget; none if 0.
    seed : int, default 0
        Of the initial weights and of the order of the data, in every run.

    Returns
    -------
    list of Run
        In the order in which they are made.
    """
    runs = []
    offsets = np.exp(np.linspace(-0.5, 0.5, sizes) * math.log(span)) if sizes > 1 else np.ones(1)
    for budget in sorted(budgets):
        middle = math.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * tokens_per_param))
        widths = dict.fromkeys(_width(middle * offset) for offset in offsets)
        runs += [_run(name, width, budget, seed) for width in widths for name in train_sets]
    if star_factor:
        budget = star_factor * max(budgets)
        width = _width(math.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * tokens_per_param)))
        runs += [_run(name, width, budget, seed, star=True) for name in train_sets]
    return runs


def _run(name: str, width: int, budget: float, seed: int, *, star: bool = False) -> Run:
    steps = max(1, round(budget / (FLOPS_PER_PARAM_TOKEN * count_params(width) * BATCH * CONTEXT)))
    return Run(name, width, steps, budget, seed, star)


def _width(params: float) -> int:
    """The width, of multiples of 4, whose model is nearest to this size."""
    widths = range(8, 4096, 4)
    return min(widths, key=lambda width: abs(math.log(count_params(width) / params)))


def read_corpus(path: str | Path) -> Corpus:
    """Read a corpus, shuffle its documents and hold some of them out.

    Parameters
    ----------
    path : path
        A folder, of whose files (at any depth, hidden ones excepted) each is a document; or one file, which is
        cut at line ends.

    Returns
    -------
    Corpus
        Named after the folder or the file. The same content gives the same split on every machine.

    Raises
    ------
    DataError
        If it is not there, or too small to hold anything out.
    """
    path = Path(path)
    documents = _documents(path)
    # Sorted by their content's hash: an order that knows no file names and no random numbers of a library.
    order = sorted({hashlib.sha256(document).digest(): document for document in documents}.items())
    documents = [document for _, document in order]
    wanted = max(HELD_OUT * (CONTEXT + 1), int(_HELD_SHARE * sum(map(len, documents))))
    held: list[bytes] = []
    while documents and sum(map(len, held)) < wanted:
        held.append(documents.pop())
    train = np.frombuffer(b"".join(documents), np.uint8)
    if len(train) < wanted:
        size = len(train) + sum(map(len, held))
        raise DataError(f"the corpus {path} has {size:,} bytes, too few to hold {wanted:,} out for the evaluation")
    pool = np.frombuffer(b"".join(held), np.uint8)
    starts = np.linspace(0, len(pool) - CONTEXT - 1, HELD_OUT).astype(int)
    return Corpus(path.stem, train, pool[starts[:, None] + np.arange(CONTEXT + 1)])


def _documents(path: Path) -> list[bytes]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        return [file.read_bytes() for file in files]
    if not path.is_file():
        raise DataError(f"there is no corpus {path}; name a folder of text files, or one file")
    data, pieces, start = path.read_bytes(), [], 0
    while start < len(data):
        end = data.find(b"\n", start + _PIECE) + 1 or len(data)
        pieces.append(data[start:end])
        start = end
    return pieces


def sweep(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    budgets: Sequence[float] = BUDGETS,
    sizes: int = 6,
    tokens_per_param: float = 20.0,
    star_factor: float = 20.0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Measure a sweep on one's own corpora; stopped in whatever way, the same call goes on.

    Parameters
    ----------
    folders : sequence of path
        The corpora: see `read_corpus`.
    output : path
        CSV file for the long table of the grid, written whole after every run; runs that it has are not made
        again. The large runs go beside it: see `large_path`.
    budgets : sequence of float
        FLOPs of the isoFLOP curves.
    sizes : int, default 6
        Models a budget; fewer where widths, multiples of 4, coincide.
    tokens_per_param : float, default 20
        Bytes a parameter in the middle of the curves, and of the large runs.
    star_factor : float, default 20
        Compute of the large runs over the largest budget; none if 0.
    seed : int, default 0
        Of the initial weights and of the order of the data, in every run.
    progress : bool, default False
        Whether to show a progress bar, in FLOPs, on standard error.

    Returns
    -------
    pandas.DataFrame
        The grid: a row a run and evaluation, losses in nats per byte.

    Raises
    ------
    DataError
        If PyTorch is not installed, a corpus is not there or too small for its largest run, two have one name, or
        a file is of other corpora.
    """
    _torch()
    corpora = [read_corpus(folder) for folder in folders]
    names = [corpus.name for corpus in corpora]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"two corpora are called {repeated[0]!r}, and a training set is known by its name; rename a folder"
        )
    runs = grid(
        names,
        budgets=budgets,
        sizes=sizes,
        tokens_per_param=tokens_per_param,
        star_factor=star_factor,
        seed=seed,
    )
    check_sizes(corpora, runs)
    table = measure([run for run in runs if not run.star], corpora, Path(output), progress=progress)
    if star_factor:
        measure([run for run in runs if run.star], corpora, large_path(output), progress=progress)
    return table


def large_path(output: str | Path) -> Path:
    """Return where the large runs of a sweep go: ``runs-large.csv`` beside ``runs.csv``, so that no fit sees them."""
    path = Path(output)
    return path.with_name(f"{path.stem}-large{path.suffix}")


def measure(runs: Sequence[Run], corpora: Sequence[Corpus], output: Path, *, progress: bool = False) -> pd.DataFrame:
    """Make those runs that a table does not have yet, and write it whole after each.

    Parameters
    ----------
    runs : sequence of Run
        In the order in which they are made.
    corpora : sequence of Corpus
        Training sets and evaluations.
    output : Path
        CSV file for the table.
    progress : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        The table.

    Raises
    ------
    DataError
        If the table is of other corpora.
    """
    import pandas as pd
    from tqdm import tqdm

    fingerprint = _fingerprint(corpora)
    table = pd.read_csv(output) if output.exists() and output.stat().st_size else pd.DataFrame()
    if len(table) and set(table["corpora"]) != {fingerprint}:
        raise DataError(f"{output} was measured on other corpora or by another recipe; write to another file")
    done = set(table["run_id"]) if len(table) else set()
    todo = [run for run in runs if run.run_id not in done]
    with tqdm(total=sum(run.flops for run in todo), unit="FLOP", unit_scale=True, disable=not progress) as bar:
        for run in todo:
            bar.set_description(f"{run.train_set}, {run.params:,} parameters")
            rows = train(run, corpora, progress=partial(_advance, bar, run))
            table = pd.concat([table, rows.assign(corpora=fingerprint)], ignore_index=True)
            write_table(table, output)
    return table


def _advance(bar: Any, run: Run, steps: int) -> None:
    bar.update(run.flops * steps / run.steps)


def check_sizes(corpora: Sequence[Corpus], runs: Sequence[Run]) -> None:
    """Refuse corpora of which a run would have to read something twice.

    Parameters
    ----------
    corpora : sequence of Corpus
        The training sets.
    runs : sequence of Run
        What is to be trained on them.

    Raises
    ------
    DataError
        With the name of each corpus that is too small, and what it would need.
    """
    faults = []
    for corpus in corpora:
        needed = max(run.tokens for run in runs if run.train_set == corpus.name) + 1
        if len(corpus.train) < needed:
            faults.append(f"{corpus.name} has {len(corpus.train):,} bytes to train on and needs {needed:,}")
    if faults:
        raise DataError(
            f"no run reads a byte twice, and a corpus is too small for its largest: {'; '.join(faults)}; "
            "add text, or lower the budgets or the star factor"
        )


def _fingerprint(corpora: Sequence[Corpus]) -> str:
    """A hash of the data and of what decides the losses besides a run's own numbers."""
    digest = hashlib.sha256(repr((CONTEXT, BATCH, _RATES, _WARM_UP)).encode())
    for corpus in sorted(corpora, key=lambda corpus: corpus.name):
        digest.update(corpus.name.encode() + corpus.held.tobytes() + hashlib.sha256(corpus.train.tobytes()).digest())
    return digest.hexdigest()[:12]


def train(run: Run, corpora: Sequence[Corpus], *, progress: Callable[[int], None] | None = None) -> pd.DataFrame:
    """Train one model and evaluate it on every corpus.

    Parameters
    ----------
    run : Run
        What to train.
    corpora : sequence of Corpus
        Evaluations, its own training set among them.
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

    torch = _torch()
    started = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = next(corpus.train for corpus in corpora if corpus.name == run.train_set)
    torch.manual_seed(run.seed)
    model = _model(run.width).to(device)
    rates = _RATES["embedding"], _RATES["hidden"] * _RATE_WIDTH / run.width
    optimizer = torch.optim.AdamW(
        [{"params": [model.embedding], "lr": rates[0]}, {"params": list(model.blocks.parameters()), "lr": rates[1]}],
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
            "is_extrapolation": int(run.star),
            "seconds": round(time.perf_counter() - started, 1),
        }
    )


def _schedule(step: int, steps: int) -> float:
    """Rate over its peak: linear warm-up, then a cosine to nought at the run's own end."""
    warm = max(1, round(_WARM_UP * steps))
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
    torch = _torch()
    with torch.no_grad():
        parts = [
            model.losses(torch.from_numpy(held[start : start + 64].astype(np.int64)).to(device)).double().cpu()
            for start in range(0, len(held), 64)
        ]
    return np.asarray(torch.cat(parts))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise DataError("training needs PyTorch; install the extra: pip install 'bayes-l2l[sweep]'") from error
    return torch


def _model(width: int) -> Any:
    """A decoder-only transformer: pre-norm, rotary positions, squared ReLU, tied embedding.

    Blocks start as the identity and logits are divided by the width, so that, with the hidden rates falling as one
    over the width, one rate does for all sizes (muP, arXiv 2203.03466).
    """
    torch = _torch()
    nn, F = torch.nn, torch.nn.functional
    heads = next(h for h in range(max(1, width // 16), 0, -1) if width // 2 % h == 0)

    def normal(rows: int, columns: int, sd: float) -> Any:
        return nn.Parameter(torch.randn(rows, columns) * sd)

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.qkv = normal(3 * width, width, width**-0.5)
            self.out = normal(width, width, 0.0)
            self.up = normal(4 * width, width, width**-0.5)
            self.down = normal(width, 4 * width, 0.0)

        def forward(self, x: Any, cos: Any, sin: Any) -> Any:
            rows, length, _ = x.shape
            qkv = F.linear(F.rms_norm(x, (width,)), self.qkv).view(rows, length, 3, heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            q, k = (F.rms_norm(t, t.shape[-1:]) for t in (q, k))
            q, k = ((t * cos + torch.cat(t.chunk(2, -1)[::-1], -1) * sin).type_as(v) for t in (q, k))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).reshape(rows, length, width), self.out)
            hidden = F.relu(F.linear(F.rms_norm(x, (width,)), self.up)).square()
            return x + F.linear(hidden, self.down)

    class Model(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = normal(_VOCABULARY, width, 1.0)
            self.blocks = nn.ModuleList(Block() for _ in range(layers(width)))
            half = width // heads // 2
            angles = torch.arange(CONTEXT)[:, None] * 1000.0 ** (-torch.arange(half) / half)
            self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1), persistent=False)
            self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], -1), persistent=False)

        def losses(self, sequences: Any) -> Any:
            """Mean loss of each sequence, in nats per byte."""
            with torch.autocast(sequences.device.type, torch.bfloat16, enabled=sequences.is_cuda):
                x = F.embedding(sequences[:, :-1], self.embedding)
                for block in self.blocks:
                    x = block(x, self.cos, self.sin)
                logits = F.linear(F.rms_norm(x, (width,)), self.embedding * (8.0 / width))
            each = F.cross_entropy(logits.float().flatten(0, 1), sequences[:, 1:].flatten(), reduction="none")
            return each.view(len(sequences), -1).mean(1)

    return Model()
