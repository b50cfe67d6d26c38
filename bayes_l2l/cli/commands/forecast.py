"""`forecast`, `optimum`, `translate` and `score`: what a fit expects, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bayes_l2l.cli.inputs import large_runs_of, read_given, read_points, read_table
from bayes_l2l.cli.options import (
    BACKTEST_NAMES,
    FIT,
    KIND,
    OUTPUT,
    PLOT,
    QUANTILES,
    WEIGHTS,
    at_most_one,
    examples,
    many_sizes,
    repeated,
    size,
)
from bayes_l2l.cli.output import check_picture, check_table, deliver, draw, say, say_notes, say_simulated
from bayes_l2l.cli.verdicts import status

if TYPE_CHECKING:
    import pandas as pd


@click.command(
    "forecast",
    epilog=examples(
        "forecast fit.nc --params 3.3e9 --tokens 5e10 --train-set starcoder",
        "forecast fit.nc --flops 1e21 --quantiles 0.05,0.5,0.95",
        "forecast fit.nc --at points.csv -o forecast.csv",
        "forecast fit.nc --given c4@web=2.31 --eval-set lambada",
        "forecast fit.nc --flops 1e21 --average --weights 2,1",
    ),
)
@FIT
@click.option(
    "--at",
    metavar="POINTS",
    help="table of params, tokens, and train_set, eval_set where not every cell is meant; "
    "or a known data set: its large runs",
)
@click.option("--params", type=size, metavar="N", help="parameters of the run")
@click.option("--tokens", type=size, metavar="D", help="tokens of the run")
@click.option("--flops", type=size, metavar="C", help="budget: at its compute-optimal size")
@repeated("--train-set", metavar="NAME", help="training set; may be repeated (all)")
@repeated("--eval-set", metavar="NAME", help="evaluation; may be repeated (all)")
@KIND
@QUANTILES
@click.option(
    *BACKTEST_NAMES,
    metavar="OUT.csv",
    help="what `bayes-l2l backtest` wrote: notes say how often intervals were right as far out",
)
@click.option(
    "--source",
    metavar="EVAL@TRAIN",
    help="of a pairwise model: the cell, or the training set, to forecast from (all that have a run of the size)",
)
@repeated(
    "--given",
    metavar="EVAL@TRAIN=LOSS",
    help="instead of a size: a loss that the run has; may be repeated. Or a table of train_set, eval_set, loss, and "
    "run_id of several runs",
)
@click.option("--average", is_flag=True, help="the mean of the evaluations of each run, with its own interval")
@WEIGHTS
@OUTPUT
def forecast(
    fit_file: str,
    at: str | None,
    params: float | None,
    tokens: float | None,
    flops: float | None,
    train_set: list[str] | None,
    eval_set: list[str] | None,
    kind: str,
    quantiles: list[float] | None,
    backtest_file: str | None,
    source: str | None,
    given: list[str] | None,
    average: bool,
    weights: list[float] | None,
    output: Path | None,
) -> int:
    """Forecast losses and accuracies of new runs from a fit.

    Say where in one of four ways: --at POINTS, or --params N --tokens D, or --flops C, or --given EVAL@TRAIN=LOSS.
    """
    from bayes_l2l.evaluation.backtests import Backtest
    from bayes_l2l.fits import load_fit
    from bayes_l2l.posterior.draws import QUANTILES as DEFAULT
    from bayes_l2l.prediction.forecasts import forecast_table

    ways = [at is not None, params is not None or tokens is not None, flops is not None, given is not None]
    if sum(ways) != 1 or (params is None) != (tokens is None):
        raise click.UsageError(
            "say where: --at POINTS, or --params N --tokens D, or --flops C, or --given EVAL@TRAIN=LOSS"
        )
    if weights and not average:
        raise click.UsageError("--weights are those of an --average")
    mean = weights or average
    if given:
        at_most_one(given=given, backtest=backtest_file, source=source)
    seen = read_given(given) if given else None
    check_table(output, fit_file, at, backtest_file, *(given or ()))
    fit = load_fit(fit_file)
    if seen is not None:
        found = fit.forecast(given=seen, train_set=train_set, eval_set=eval_set, kind=kind, average=mean)
        deliver(found.table(quantiles=quantiles or DEFAULT), output)
        say_simulated(fit.sweep)
        say_notes(found.notes, fit, fit_file)
        return status(fit)
    table, notes = forecast_table(
        fit,
        read_points(at, fit) if at else None,
        quantiles=quantiles or DEFAULT,
        train_set=train_set,
        eval_set=eval_set,
        params=params,
        tokens=tokens,
        flops=flops,
        kind=kind,
        backtest=Backtest.read(backtest_file) if backtest_file else None,
        source=source,
        average=mean,
    )
    deliver(table, output)
    say_simulated(fit.sweep)
    say_notes(notes, fit, fit_file)
    return status(fit)


@click.command(
    "optimum",
    epilog=examples(
        "optimum fit.nc --flops 1e21",
        "optimum fit.nc --flops 1e20,1e21,1e22 --plot isoflop.png",
    ),
)
@FIT
@repeated(
    "--flops",
    "budgets",
    type=many_sizes,
    metavar="C,C,...",
    help="budgets in FLOPs; may be repeated (those of the fitted runs)",
)
@repeated("--train-set", metavar="NAME", help="training set; may be repeated (all)")
@repeated("--eval-set", metavar="NAME", help="evaluation; may be repeated (train losses)")
@QUANTILES
@OUTPUT
@PLOT
def optimum(
    fit_file: str,
    budgets: list[list[float]] | None,
    train_set: list[str] | None,
    eval_set: list[str] | None,
    quantiles: list[float] | None,
    output: Path | None,
    plot: Path | None,
) -> int:
    """Say which size of model a budget is best spent on.

    Shows N*, D* and tokens per parameter with their intervals, and the exponents with which N* and D* grow in
    compute. --plot draws loss against N, a curve a budget, with the minima.
    """
    from bayes_l2l.fits import load_fit
    from bayes_l2l.prediction.optimum import LEVELS

    check_table(output, fit_file)
    check_picture(plot, fit_file)
    fit = load_fit(fit_file)
    flops = [c for some in budgets for c in some] if budgets else None
    found = fit.optimum(flops, train_set=train_set, eval_set=eval_set)
    draw(found, plot)
    deliver(found.table(quantiles=quantiles or LEVELS), output)
    say_simulated(fit.sweep)
    say(str(found))
    say_notes(found.notes, fit, fit_file)
    return status(fit)


@click.command(
    "translate",
    epilog=examples(
        "translate fit.nc --source fineweb-edu-100b --target starcoder",
        "translate fit.nc --source starcoder --target hellaswag@starcoder",
    ),
)
@FIT
@click.option("--source", metavar="EVAL@TRAIN", required=True, help="cell that is translated from")
@click.option("--target", metavar="EVAL@TRAIN", required=True, help="cell that is translated to")
@QUANTILES
@OUTPUT
@PLOT
def translate(
    fit_file: str, source: str, target: str, quantiles: list[float] | None, output: Path | None, plot: Path | None
) -> int:
    """Say how one loss depends on another, and translate the law.

    L1 = K (L0 - E0)^kappa + E1 for runs of equal size, with the posterior of K, kappa, both E's and the translated
    scaling law. A cell is EVAL@TRAIN, or a training set alone for its train loss.
    """
    from bayes_l2l.fits import load_fit
    from bayes_l2l.posterior.draws import QUANTILES as DEFAULT

    check_table(output, fit_file)
    check_picture(plot, fit_file)
    fit = load_fit(fit_file)
    translation = fit.translate(source, target)
    draw(translation, plot)
    deliver(translation.table(quantiles=quantiles or DEFAULT), output)
    say_simulated(fit.sweep)
    say_notes(translation.notes, fit, fit_file)
    return status(fit)


@click.command(
    "score",
    epilog=examples("score forecast.csv actual.csv", "score forecast.csv actual.csv --by eval_set -o scores.csv"),
)
@click.argument("forecast_file", metavar="FORECAST", help="what `bayes-l2l forecast -o` wrote")
@click.argument(
    "actual_file",
    metavar="ACTUAL",
    help="table of train_set, eval_set, params, tokens, loss; or a known data set: its large runs",
)
@click.option("--columns", metavar="MAP.toml", help="mapping file of the actual table, if it needs one")
@repeated("--by", metavar="COLUMN", help="average within a column; may be repeated")
@click.option("--each", is_flag=True, help="a row a run instead of averages")
@OUTPUT
def score(
    forecast_file: str,
    actual_file: str,
    columns: str | None,
    by: list[str] | None,
    each: bool,
    output: Path | None,
) -> int:
    """Score a forecast table against the runs that were then made.

    Figures are in percent of the actual loss.
    """
    from bayes_l2l.evaluation.scores import score_table, summary

    at_most_one(by=by, each=each)
    check_table(output, forecast_file, actual_file)
    expected = read_table(forecast_file)
    scored = score_table(*_without_blank(expected, _actual(actual_file, columns, expected)))
    deliver(scored if each else summary(scored, by=by), output)
    return 0


def _actual(path: str, columns: str | None, forecast: pd.DataFrame) -> pd.DataFrame:
    """Losses of a file, wide if it comes with a mapping, or of the large runs of a known data set."""
    from bayes_l2l.data.datasets import is_known
    from bayes_l2l.data.sweep import read_sweep

    if is_known(path) and {"eval_set", "train_set"} <= set(forecast):
        large = large_runs_of(path, list(zip(forecast["eval_set"], forecast["train_set"], strict=True)))
        say_simulated(large)
        return large.table
    if columns:
        return read_sweep(path, columns=columns, min_runs=1).table
    return read_table(path)


def _without_blank(forecast: pd.DataFrame, actual: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out, of both tables, error rates and accuracies that have no forecast: their tasks are at chance."""
    from bayes_l2l.data.rates import is_rate
    from bayes_l2l.evaluation.scores import point_keys

    if (
        not {"metric", "median"} <= set(forecast)
        or not (blank := is_rate(forecast) & forecast["median"].isna()).any()
    ):
        return forecast, actual
    tasks = sorted(forecast["eval_set"][blank].unique())
    say(f"Not scored: {blank.sum()} values of {len(tasks)} tasks at chance, which have no forecast.")
    return forecast[~blank], actual[~point_keys(actual).isin(point_keys(forecast[blank]))]
