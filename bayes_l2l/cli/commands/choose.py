"""`choose` and `plan`: which training set, and which runs next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bayes_l2l.cli.inputs import read_bounds, read_candidates
from bayes_l2l.cli.options import (
    FIT,
    KIND,
    OUTPUT,
    PLOT,
    QUANTILES,
    SIZE,
    WEIGHTS,
    at_most_one,
    count,
    examples,
    repeated,
    size,
    size_is_said,
)
from bayes_l2l.cli.output import check_picture, check_table, deliver, draw, say, say_notes, say_simulated
from bayes_l2l.cli.verdicts import status


@click.command(
    "choose",
    epilog=examples(
        "choose fit.nc --eval-set hellaswag --flops 1e21",
        "choose fit.nc --eval-set piqa --params 3e9 --tokens 5e10 --pairs",
        "choose fit.nc --eval-set piqa --eval-set boolq --flops 1e21",
    ),
)
@FIT
@repeated("--eval-set", metavar="NAME", required=True, help="evaluation to choose by; may be repeated")
@WEIGHTS
@repeated("--train-set", metavar="NAME", help="training set to compare; repeated for others (all)")
@SIZE
@KIND
@click.option(
    "--over",
    type=click.Choice(["training-sets", "mixtures"]),
    default="training-sets",
    help="what is chosen: a training set, or of a model of mixtures the best weights of domains (at an N and D)",
)
@repeated(
    "--bound", metavar="DOMAIN=LOW:HIGH", help="weights that a mixture may have; repeated (up to the most fitted)"
)
@click.option("--pairs", is_flag=True, help="the table of P(A better than B) instead")
@click.option("--crossings", is_flag=True, help="the table of where sets overtake others instead")
@QUANTILES
@OUTPUT
@PLOT
def choose(
    fit_file: str,
    eval_set: list[str],
    weights: list[float] | None,
    train_set: list[str] | None,
    flops: float | None,
    params: float | None,
    tokens: float | None,
    kind: str,
    over: str,
    bound: list[str] | None,
    pairs: bool,
    crossings: bool,
    quantiles: list[float] | None,
    output: Path | None,
    plot: Path | None,
) -> int:
    """Say which training set is best for a budget, and how surely.

    The best has the lowest loss, or the highest accuracy; several evaluations are averaged. Messages say whether it
    is decided, where the answer changes with compute, and which run would tell more.
    """
    from bayes_l2l.fits import load_fit
    from bayes_l2l.posterior.draws import QUANTILES

    at_most_one(pairs=pairs, crossings=crossings)
    size_is_said(flops=flops, params=params, tokens=tokens)
    check_table(output, fit_file)
    check_picture(plot, fit_file)
    fit = load_fit(fit_file)
    if over == "mixtures":
        if params is None or tokens is None or pairs or crossings or plot or train_set:
            raise click.UsageError("--over mixtures goes with --params and --tokens, and not with training sets")
        best = fit.choose_mixture(
            eval_set=eval_set, params=params, tokens=tokens, weights=weights, bounds=read_bounds(bound or [])
        )
        deliver(best.table(), output)
        say_simulated(fit.sweep)
        say(str(best))
        say_notes(best.notes, fit, fit_file)
        return status(fit)
    choice = fit.choose(
        eval_set=eval_set,
        flops=flops,
        params=params,
        tokens=tokens,
        weights=weights,
        train_set=train_set,
        kind=kind,
    )
    if pairs:
        table = choice.pairs()
    elif crossings:
        table = choice.crossings()
    else:
        table = choice.table(quantiles=quantiles or QUANTILES)
    draw(choice, plot)
    deliver(table, output)
    say_simulated(fit.sweep)
    say(str(choice))
    say_notes(choice.notes, fit, fit_file)
    return status(fit)


@click.command(
    "plan",
    epilog=examples(
        "plan fit.nc --budget 1e20 --goal hellaswag@starcoder --flops 1e21",
        "plan fit.nc --budget 1e20 --eval-set hellaswag --flops 1e21 --each",
    ),
)
@FIT
@click.option("--budget", type=size, metavar="FLOPS", required=True, help="what the batch may cost together")
@click.option("--goal", metavar="EVAL@TRAIN", help="cell whose forecast is to become more certain")
@repeated("--eval-set", metavar="NAME", help="evaluation to choose by; may be repeated")
@WEIGHTS
@SIZE
@repeated("--train-set", metavar="NAME", help="set that can be run; repeated (all)")
@click.option("--runs", type=count, metavar="N", default=8, help="runs of the batch at most (8)")
@click.option("--candidates", metavar="FILE", help="table of train_set, params, tokens to pick from")
@click.option("--each", is_flag=True, help="every candidate instead, by reduction per FLOP")
@OUTPUT
@PLOT
def plan(
    fit_file: str,
    budget: float,
    goal: str | None,
    eval_set: list[str] | None,
    weights: list[float] | None,
    flops: float | None,
    params: float | None,
    tokens: float | None,
    train_set: list[str] | None,
    runs: int,
    candidates: str | None,
    each: bool,
    output: Path | None,
    plot: Path | None,
) -> int:
    """Say which runs to make next, to become more certain.

    The goal is the loss or accuracy of a cell (--goal) or a choice of the training set (--eval-set). Shows a batch in
    the order in which its runs tell most, with the standard deviation or expected regret that is left.
    """
    from bayes_l2l.fits import load_fit

    if (goal is None) == (eval_set is None):
        raise click.UsageError("say the goal: --goal EVAL@TRAIN, or --eval-set NAME for a choice of the training set")
    size_is_said(flops=flops, params=params, tokens=tokens)
    check_table(output, fit_file, candidates)
    check_picture(plot, fit_file, candidates)
    fit = load_fit(fit_file)
    size: dict[str, Any] = {"flops": flops, "params": params, "tokens": tokens}
    made = fit.plan(
        goal=goal or fit.choose(eval_set=eval_set or (), weights=weights, **size),
        budget=budget,
        runs=runs,
        train_set=train_set,
        candidates=read_candidates(candidates) if candidates else None,
        **(size if goal else {}),
    )
    draw(made, plot)
    deliver(made.candidates if each else made.batch, output)
    say_simulated(fit.sweep)
    say(str(made))
    say_notes(made.notes, fit, fit_file)
    return status(fit)
