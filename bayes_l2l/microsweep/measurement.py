"""Measurement: the runs of a sweep, made one by one into a table that is taken up again where it was stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_l2l.errors import DataError
from bayes_l2l.files import alone, write_table
from bayes_l2l.microsweep.corpora import BLOCK, TokenizedCorpus, read_corpus, tokenize
from bayes_l2l.microsweep.runs import BUDGETS, LARGE_FACTORS, MIXED, TOKENS_PER_PARAM, Run, grid, tokens_needed
from bayes_l2l.microsweep.training import RATES, WARM_UP, train
from bayes_l2l.microsweep.transformer import CONTEXT, HEADS, LAYERS, VOCABULARY, load_torch

if TYPE_CHECKING:
    import pandas as pd

_SIDE_BY_SIDE = 4096  # tokens of a step, of all models that are trained at once: more would gain nothing


def sweep(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    budgets: Sequence[float] = BUDGETS,
    sizes: int = 6,
    tokens_per_param: float = TOKENS_PER_PARAM,
    large_factors: Sequence[float] = LARGE_FACTORS,
    mixtures: Sequence[Sequence[str]] = (),
    seed: int = 0,
    seeds: int = 1,
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
        Models a budget.
    tokens_per_param : float, default 8
        Tokens a parameter in the middle of the curves, and of the large runs.
    large_factors : sequence of float
        Compute of the large runs over the largest budget.
    mixtures : sequence of sequence of str
        Names of corpora; each mixture of them, in equal parts, is a further training set.
    seed : int, default 0
        Of the initial weights and of the order of the data, in every run.
    seeds : int, default 1
        Models a cell of the grid; their seeds go up from `seed`.
    progress : bool, default False
        Whether to show a progress bar, in FLOPs, on standard error.

    Returns
    -------
    pandas.DataFrame
        The grid: a row a run and evaluation, losses in nats per byte.

    Raises
    ------
    DataError
        If PyTorch or `tokenizers` is not installed, a corpus is not there or too small for its largest run, two
        have one name, a mixture names one that is not there, a file is of other corpora, or another sweep is
        writing it.
    """
    load_torch()
    corpora = [read_corpus(folder) for folder in folders]
    names = [corpus.name for corpus in corpora]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"two corpora are called {repeated[0]!r}, and a training set is known by its name; rename a folder"
        )
    for mixture in mixtures:
        if unknown := sorted(set(mixture) - set(names)):
            raise DataError(f"the mixture {MIXED.join(mixture)} names no corpus {unknown[0]!r}; name two of {names}")
    runs = grid(
        [*((name,) for name in names), *mixtures],
        budgets=budgets,
        sizes=sizes,
        tokens_per_param=tokens_per_param,
        large_factors=large_factors,
        seed=seed,
        seeds=seeds,
    )
    tokenized = tokenize(corpora, tokens_needed(runs))
    with alone(Path(output)):
        table = measure([run for run in runs if not run.is_large], tokenized, Path(output), progress=progress)
        if large_factors:
            measure([run for run in runs if run.is_large], tokenized, large_path(output), progress=progress)
    return table


def large_path(output: str | Path) -> Path:
    """Return where the large runs of a sweep go: ``runs-large.csv`` beside ``runs.csv``, so that no fit sees them."""
    path = Path(output)
    return path.with_name(f"{path.stem}-large{path.suffix}")


def measure(
    runs: Sequence[Run], corpora: Sequence[TokenizedCorpus], output: Path, *, progress: bool = False
) -> pd.DataFrame:
    """Make those runs that a table does not have yet, and write it whole after each few.

    Parameters
    ----------
    runs : sequence of Run
        In the order in which they are made; neighbours that are alike are trained side by side.
    corpora : sequence of TokenizedCorpus
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
        for group in _side_by_side(todo):
            bar.set_description(f"{group[0].params:,} parameters")
            flops = sum(run.flops for run in group) / group[0].steps
            rows = train(group, corpora, progress=partial(_advance, bar, flops))
            table = pd.concat([table, rows.assign(corpora=fingerprint)], ignore_index=True)
            write_table(table, output)
    return table


def _side_by_side(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Neighbours that are alike in size and length, as many as fit into a step."""
    group: list[Run] = []
    for run in runs:
        alike = group and (run.width, run.batch, run.steps) == (group[0].width, group[0].batch, group[0].steps)
        if group and not (alike and (len(group) + 1) * run.batch * CONTEXT <= _SIDE_BY_SIDE):
            yield group
            group = []
        group.append(run)
    if group:
        yield group


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


def _advance(bar: Any, flops: float, steps: int) -> None:
    bar.update(flops * steps)


def _fingerprint(corpora: Sequence[TokenizedCorpus]) -> str:
    """A hash of the data and of what decides the losses besides a run's own numbers."""
    recipe = (CONTEXT, VOCABULARY, LAYERS, HEADS, dict(RATES), WARM_UP)
    digest = hashlib.sha256(repr(recipe).encode())
    for corpus in sorted(corpora, key=lambda corpus: corpus.name):
        begun = corpus.train[: BLOCK * CONTEXT]  # the rest is there only as far as a run reads it
        digest.update(corpus.name.encode() + corpus.held.tobytes() + hashlib.sha256(begun.tobytes()).digest())
    return digest.hexdigest()[:12]
