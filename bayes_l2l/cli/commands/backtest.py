"""`backtest` (once `rollout`) and `compare`: forecasts of a sweep's larger runs, held to what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from bayes_l2l.cli.inputs import which_evaluations
from bayes_l2l.cli.options import FILE, READING, RUNS, SAMPLING, at_most_one, count, examples, repeated, size
from bayes_l2l.cli.output import check_table, say, say_all, say_progress, say_sweep, say_written, show_table

#: Options that both commands have.
CUTOFFS: Final = repeated(
    "--cutoff",
    "cutoffs",
    type=size,
    metavar="C",
    help="largest compute that is fitted, in FLOPs; may be repeated (budgets of the sweep)",
)
RESAMPLES: Final = click.option(
    "--resamples", type=count, metavar="N", default=200, help="of the baseline's bootstrap (200)"
)
JOBS: Final = click.option("--jobs", type=count, metavar="N", help="processes of this machine (1)")


@click.command(
    "backtest",
    epilog=examples(
        "backtest runs.csv --model joint --model baseline -o backtest.csv",
        "backtest gadre --cutoff 2e19 --split hindcast --jobs 4 -o out.csv",
        "backtest runs.csv --dask tcp://scheduler:8786 -o backtest.csv",
    ),
)
@RUNS
@click.option("-o", "--output", metavar="OUT.csv", type=FILE, required=True, help="file for the table")
@repeated(
    "--model",
    "models",
    metavar="NAME|FILE.toml",
    help="model, your own model file, or `baseline`; may be repeated (joint, baseline)",
)
@CUTOFFS
@repeated(
    "--split",
    "--fold",
    "kinds",
    type=click.Choice(["hindcast", "translation"]),
    metavar="hindcast|translation",
    help="predict all sets, or one from the others' large runs and few small ones of its own (both)",
)
@READING
@SAMPLING
@RESAMPLES
@JOBS
@click.option("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster that has this package")
def backtest(
    runs: str,
    output: Path,
    models: list[str] | None,
    cutoffs: list[float] | None,
    kinds: list[str] | None,
    columns: str | None,
    eval_sets: list[str] | None,
    jobs: int | None,
    dask: str | None,
    **fitting: Any,
) -> int:
    """Forecast the larger runs of a sweep from its smaller ones.

    Fits what lies below each cut-off in compute, writes every forecast beside what happened, and shows the scores.
    Finished splits are kept in the folder OUT.csv.splits: stopped in whatever way, the same command goes on.
    """
    from bayes_l2l.data.datasets import load_sweep
    from bayes_l2l.evaluation import backtests

    at_most_one(jobs=jobs, dask=dask)
    models = models or ["joint", "baseline"]
    check_table(output, runs, *models, columns)
    sweep = load_sweep(runs, columns=columns, eval_sets=which_evaluations(eval_sets))
    say_sweep(sweep)
    found = backtests.backtest(
        sweep,
        models=models,
        cutoffs=cutoffs,
        kinds=kinds or ("hindcast", "translation"),
        jobs=jobs or 1,
        dask=dask,
        path=output,
        progress=say_progress,
        **fitting,
    )
    say_written(output)
    show_table(found.scores(by=["model", "split", "cell_kind", "distance"]))
    say_all(found.notes)
    return 0 if found.trusted else 1


@click.command(
    "compare",
    epilog=examples(
        "compare runs.csv --models joint,kaplan",
        "compare runs.csv --models joint,mine.toml --jobs 2 -o out.csv",
    ),
)
@RUNS
@click.option(
    "--models",
    metavar="A,B,...",
    default="joint,baseline",
    help="two or more: models, your own model files, or `baseline` (joint,baseline)",
)
@CUTOFFS
@repeated(
    "--split",
    "kinds",
    type=click.Choice(["hindcast", "translation"]),
    metavar="hindcast|translation",
    help="predict all sets, or one from the others' large runs; may be repeated (hindcast)",
)
@READING
@SAMPLING
@RESAMPLES
@JOBS
@click.option(
    "-o", "--output", metavar="OUT.csv", type=FILE, help="file for the backtest's table, from which it goes on"
)
@click.option("--no-loo", "loo", flag_value=False, default=True, help="no leave-one-out, nor fits to all runs for it")
def compare(
    runs: str,
    models: str,
    loo: bool,
    cutoffs: list[float] | None,
    kinds: list[str] | None,
    columns: str | None,
    eval_sets: list[str] | None,
    jobs: int | None,
    output: Path | None,
    **fitting: Any,
) -> int:
    """Say which of several models forecasts better.

    Each is fitted to the smaller runs and forecasts the larger ones, as in `backtest`. Then it is fitted to all runs,
    and leaves out one loss after the other. Shows the scores of both on the same losses, and says whether the
    differences are more than chance.
    """
    from bayes_l2l.data.datasets import load_sweep
    from bayes_l2l.evaluation import comparisons

    named = [name.strip() for name in models.split(",") if name.strip()]
    check_table(output, runs, *named, columns)
    sweep = load_sweep(runs, columns=columns, eval_sets=which_evaluations(eval_sets))
    found = comparisons.compare(
        sweep,
        models=named,
        cutoffs=cutoffs,
        kinds=kinds or ("hindcast",),
        loo=loo,
        jobs=jobs or 1,
        path=output,
        progress=say_progress,
        **fitting,
    )
    if output:
        say_written(output)
    show_table(found.table())
    say(str(found))
    say_all(found.notes)
    return 0 if found.backtest.trusted else 1
