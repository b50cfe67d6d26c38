"""`fit` and `check`: a model is fitted to runs, and a fit is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bayes_l2l.cli.inputs import which_evaluations
from bayes_l2l.cli.keeping import keep
from bayes_l2l.cli.options import FILE, FIT, PROGRESS, READING, RUNS, SAMPLING, complete_models, examples
from bayes_l2l.cli.output import deliver, say, say_all, say_simulated, say_sweep, say_written
from bayes_l2l.cli.stages import Stages
from bayes_l2l.cli.verdicts import diagnostics, judge, status


@click.command(
    "fit",
    epilog=examples(
        "fit runs.csv -o fit.nc",
        "fit wide.csv --columns map.toml --eval-set train -o fit.nc",
        "fit loss-to-loss --model kaplan --seed 1 -o fit.nc",
    ),
)
@RUNS
@click.option("-o", "--output", metavar="FIT.nc", type=FILE, required=True, help="file for the fit")
@click.option(
    "--model",
    metavar="NAME|FILE.toml",
    help="model, or your own model file (joint; relations of a table without params and tokens)",
    shell_complete=complete_models,
)
@click.option(
    "--error-model",
    metavar="NAME|FILE.toml",
    default="error_richards",
    help="model of the table's error rates as a function of loss, or `none` (error_richards)",
)
@READING
@SAMPLING
@click.option("--sampler", type=click.Choice(["nutpie", "pymc"]), help="implementation of NUTS (nutpie)")
@click.option(
    "--outliers",
    type=click.Choice(["set-aside", "keep"]),
    default="set-aside",
    help="what is done with losses that no scatter explains: they are left out and named, or fitted (set-aside)",
)
@click.option("--keep-interrupted", is_flag=True, help="Ctrl-C keeps what has been drawn")
@PROGRESS
def fit(
    runs: str,
    output: Path,
    model: str | None,
    error_model: str,
    columns: str | None,
    eval_sets: list[str] | None,
    progress: bool,
    **sampling: Any,
) -> int:
    """Fit a model to a table of runs.

    RUNS is a table: long (train_set, eval_set, params, tokens, loss; one row a run and evaluation), or wide with a
    mapping file; or the name of a known data set.
    """
    with Stages(progress) as stages:
        stages.tell(f"reading {Path(runs).name}")
        from bayes_l2l import fits
        from bayes_l2l.data.datasets import load_sweep
        from bayes_l2l.files import check_output
        from bayes_l2l.inference.posterior_file import expected_size
        from bayes_l2l.posterior.settings import SamplerSettings
        from bayes_l2l.structures.models import load_error_spec, load_spec

        # Everything that can be refused is looked at before the long part starts.
        inputs = (runs, model or "", error_model, columns or "")
        check_output(output, inputs=inputs)
        spec = load_spec(model) if model else None
        error_spec = None if error_model == "none" else load_error_spec(error_model)
        sweep = load_sweep(runs, columns=columns, eval_sets=which_evaluations(eval_sets))
        given = {name: sampling[name] for name in ("draws", "chains") if sampling[name]}
        check_output(output, inputs=inputs, size=expected_size(sweep, SamplerSettings(**given)))
        stages.end()
        say_sweep(sweep)
        if spec is None:
            spec = load_spec(fits.default_model(sweep))
            if not sweep.has_sizes:
                say(f"Model: {spec.name}, since the runs have no params and tokens.")
        fitted = fits.fit(sweep, model=spec, error_model=error_spec, progress=stages.listener, **sampling)
        stages.tell(f"writing {output.name}")
        keep(fitted, output)
    judge(fitted, already=sweep)
    say_written(output)
    return status(fitted)


@click.command("check", epilog=examples("check fit.nc"))
@FIT
def check(fit_file: str) -> int:
    """Say whether a fit is to be trusted.

    Shows the worst R-hat and effective sample size of each quantity and divergences, or k-hat and what the draws are
    worth where they are of method laplace, and notes, and exits with 1 if it is not.
    """
    import pandas as pd

    from bayes_l2l.fits import load_fit
    from bayes_l2l.inference.diagnostics import by_variable
    from bayes_l2l.prediction.outliers import outlying

    fit = load_fit(fit_file)
    found = diagnostics(fit)
    kinds = found["diagnostic"].to_numpy().tolist()
    columns = {kind: list(by_variable(found, kind).values()) for kind in kinds}
    say_simulated(fit.sweep)
    deliver(pd.DataFrame({"variable": [str(name) for name in found], **columns}), None)
    if "outlying_runs" not in [note.code for note in fit.notes]:  # a fit of an earlier version does not hold it
        say_all(outlying(fit), in_full=True)
    judge(fit, in_full=True)
    return status(fit)
