"""`sweep`: a sweep of one's own, trained on one's own corpora."""

from __future__ import annotations

from pathlib import Path

import click

from bayes_l2l.cli.options import (
    FILE,
    PROGRESS,
    count,
    examples,
    many_sizes,
    positive,
    positive_or_zero,
    repeated,
    seed,
)
from bayes_l2l.cli.output import say_sweep, say_written


@click.command(
    "sweep",
    epilog=examples(
        "sweep english/ code/ maths.txt -o runs.csv",
        "sweep old/ new/ --mixture old,new --large-factor 0 -o runs.csv",
    ),
)
@click.argument(
    "folders", metavar="FOLDER...", nargs=-1, required=True, help="corpus: a folder, whose name it gets, or a file"
)
@click.option(
    "-o",
    "--output",
    metavar="RUNS.csv",
    type=FILE,
    required=True,
    help="file for the table; large runs go into RUNS-large.csv beside it",
)
@click.option(
    "--budgets",
    metavar="C,C,...",
    type=many_sizes,
    help="FLOPs of the isoFLOP curves (1e10,3.2e10,1e11,3.2e11)",
)
@click.option("--sizes", metavar="N", type=count, default=6, help="models a budget (6)")
@click.option(
    "--tokens-per-param",
    metavar="R",
    type=positive,
    default=8.0,
    help="tokens a parameter amid each curve and of the large runs (8)",
)
@click.option(
    "--large-factor",
    "--star-factor",
    "large_factor",
    metavar="F",
    type=positive_or_zero,
    default=20.0,
    help="compute of the large run of each corpus over the largest budget; 0 for none (20)",
)
@repeated(
    "--mixture",
    "mixtures",
    metavar="NAME,NAME",
    help="corpora to mix in equal parts, a further training set; repeatable",
)
@click.option("--seed", metavar="N", type=seed, default=0, help="of initial weights and data order (0)")
@click.option("--seeds", metavar="N", type=count, default=1, help="models a cell of the grid, of as many seeds (1)")
@PROGRESS
def sweep(
    folders: tuple[str, ...],
    output: Path,
    budgets: list[float] | None,
    sizes: int,
    tokens_per_param: float,
    large_factor: float,
    mixtures: list[str] | None,
    seed: int,
    seeds: int,
    progress: bool,
) -> int:
    """Measure a sweep on your own corpora with tiny transformers.

    They read subwords learned on the corpora, and are small enough for a laptop. Needs PyTorch and tokenizers:
    pip install 'bayes-l2l[sweep]'. Each corpus is a folder of text files, or one file. Part of it is held out, the
    rest is read once, and every run is evaluated on all corpora. Stopped in whatever way, the same command goes on.
    """
    from bayes_l2l import microsweep
    from bayes_l2l.data.sweep import read_sweep
    from bayes_l2l.files import check_output

    outputs = [output, microsweep.large_path(output)] if large_factor else [output]
    for path in outputs:
        check_output(path, inputs=folders, suffixes=(".csv",))
    microsweep.sweep(
        list(folders),
        output,
        budgets=budgets or microsweep.BUDGETS,
        sizes=sizes,
        tokens_per_param=tokens_per_param,
        large_factors=[large_factor] if large_factor else [],
        mixtures=[mixture.split(",") for mixture in mixtures or []],
        seed=seed,
        seeds=seeds,
        progress=progress,
    )
    say_sweep(read_sweep(output, min_runs=1))
    say_written(*outputs)
    return 0
