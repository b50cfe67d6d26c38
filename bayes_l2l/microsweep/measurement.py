"""Measurement: the runs of a sweep, made one by one into a table that is taken up again where it was stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_l2l.errors import DataError
from bayes_l2l.files import alone, write_table
from bayes_l2l.microsweep.corpora import Corpus, read_corpus
from bayes_l2l.microsweep.runs import BATCH, BUDGETS, Run, grid
from bayes_l2l.microsweep.training import RATES, WARM_UP, train
from bayes_l2l.microsweep.transformer import CONTEXT, load_torch

if TYPE_CHECKING:
    import pandas as pd


def sweep(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    budgets: Sequence[float] = BUDGETS,
    sizes: int = 6,
    tokens_per_param: float = 20.0,
    large_factor: float = 20.0,
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
    large_factor : float, default 20
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
        If PyTorch is not installed, a corpus is not there or too small for its largest run, two have one name, a
        file is of other corpora, or another sweep is writing it.
    """
    load_torch()
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
        large_factor=large_factor,
        seed=seed,
    )
    check_sizes(corpora, runs)
    with alone(Path(output)):
        table = measure([run for run in runs if not run.is_large], corpora, Path(output), progress=progress)
        if large_factor:
            measure([run for run in runs if run.is_large], corpora, large_path(output), progress=progress)
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
    table = _begun(output)
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


def _begun(output: Path) -> pd.DataFrame:
    """What an earlier sweep has measured; nothing if there is no file, or an empty one."""
    import pandas as pd

    try:
        if not output.exists() or not output.stat().st_size:
            return pd.DataFrame()
        table = pd.read_csv(output)
    except (OSError, ValueError) as error:  # pandas' errors are among them
        said = str(error).splitlines()[0]
        raise DataError(f"{output} cannot be read as the table of a sweep ({said}); write to another file") from error
    if missing := {"run_id", "corpora"} - set(table):
        raise DataError(f"{output} is not the table of a sweep: it has no {min(missing)!r}; write to another file")
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
            "add text, or lower the budgets or the large factor"
        )


def _fingerprint(corpora: Sequence[Corpus]) -> str:
    """A hash of the data and of what decides the losses besides a run's own numbers."""
    digest = hashlib.sha256(repr((CONTEXT, BATCH, dict(RATES), WARM_UP)).encode())
    for corpus in sorted(corpora, key=lambda corpus: corpus.name):
        digest.update(corpus.name.encode() + corpus.held.tobytes() + hashlib.sha256(corpus.train.tobytes()).digest())
    return digest.hexdigest()[:12]
