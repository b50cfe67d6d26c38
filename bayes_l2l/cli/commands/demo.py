"""`demo`: the main job, on a sweep that comes with the package."""

from __future__ import annotations

from pathlib import Path

import click

from bayes_l2l.cli.options import FILE, PROGRESS, examples
from bayes_l2l.cli.output import say_progress, say_sweep, say_written, show
from bayes_l2l.cli.stages import Stages
from bayes_l2l.cli.verdicts import judge, status


@click.command("demo", epilog=examples("demo -o demo", "demo --simulated -o demo"))
@click.option("--simulated", is_flag=True, help="runs simulated from published laws instead, of larger models")
@click.option("-o", "--output", metavar="DIR", type=FILE, default=Path("demo"), help="folder for the results (demo)")
@PROGRESS
def demo(simulated: bool, output: Path, progress: bool) -> int:
    """Do the main job on the embedded sweep: fit, forecast, report.

    The sweep was measured for this package: byte-level transformers on six corpora. Forecasts reach 20 times its
    compute, and are compared with what the large runs did.
    """
    with Stages(progress) as stages:
        stages.tell("reading the sweep")
        from bayes_l2l.cli import demo as job
        from bayes_l2l.data.datasets import load_sweep

        job.prepare(output)
        sweep = load_sweep("simulated" if simulated else "microsweep", eval_sets="train")
        stages.end()
        say_sweep(sweep)
        say_progress("Fitting; this takes a minute or two ...")
        fit, report = job.run(output, sweep=sweep, progress=stages.listener)
    show(report + "\n")
    judge(fit, already=sweep)
    say_written(*(output / name for name in job.FILES))
    return status(fit)
