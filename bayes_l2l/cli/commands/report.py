"""`report`: what a fit says, as one file."""

from __future__ import annotations

from pathlib import Path

import click

from bayes_l2l.cli.options import BACKTEST_NAMES, FILE, FIT, examples, size
from bayes_l2l.cli.output import say_simulated, say_written
from bayes_l2l.cli.verdicts import judge, status


@click.command(
    "report",
    epilog=examples(
        "report fit.nc -o report.html", "report fit.nc --backtest backtest.csv --flops 1e21 -o report.html"
    ),
)
@FIT
@click.option("-o", "--output", metavar="REPORT.html", type=FILE, required=True, help="file for the report")
@click.option(
    *BACKTEST_NAMES,
    metavar="OUT.csv",
    help="what `bayes-l2l backtest` wrote: how far forecasts can be believed",
)
@click.option("--flops", type=size, metavar="C", help="budget to forecast at, in FLOPs (20 times the largest fitted)")
def report(fit_file: str, output: Path, backtest_file: str | None, flops: float | None) -> int:
    """Write what a fit says as one HTML file.

    It needs no network: forecasts, relations, parameters, model sizes, calibration and diagnostics, with every table
    as CSV in it.
    """
    from bayes_l2l.evaluation.backtests import Backtest
    from bayes_l2l.files import PAGE_SUFFIXES, check_output
    from bayes_l2l.fits import load_fit

    check_output(output, inputs=(fit_file, backtest_file or ""), suffixes=PAGE_SUFFIXES)
    fit = load_fit(fit_file)
    fit.report(output, backtest=Backtest.read(backtest_file) if backtest_file else None, flops=flops)
    say_simulated(fit.sweep)
    judge(fit)
    say_written(output)
    return status(fit)
