"""The command `bayes-l2l`: tables to standard output, messages and progress to standard error.

It exits with 0 if all is well, 1 if an input is refused or a result is not to be trusted, 2 if it is used wrongly
and 130 after Ctrl-C. Modules are imported by the command that needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bayes_l2l.arguments import PROG, parser
from bayes_l2l.errors import DataError, L2LError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayes_l2l.choice import Choice
    from bayes_l2l.fits import Fit
    from bayes_l2l.plan import Plan
    from bayes_l2l.sweep import EvalSets, Sweep
    from bayes_l2l.translate import Translation


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the command's name; those of the process by default.

    Returns
    -------
    int
        The exit status.
    """
    args = parser().parse_args(argv)
    try:
        status = _COMMANDS[args.command](args)
        sys.stdout.flush()
    except L2LError as error:
        _say(f"{PROG}: error: {error}")
        return 1
    except KeyboardInterrupt:
        _say(f"{PROG}: interrupted")
        return 130
    except BrokenPipeError:  # whoever read the table has seen enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        _say(f"{PROG}: error: {error.filename or 'a file'}: {error.strerror or error}")
        return 1
    return status


def _demo(args: argparse.Namespace) -> int:
    from bayes_l2l import demo
    from bayes_l2l.datasets import load_sweep

    demo.prepare(args.output)
    sweep = load_sweep("simulated" if args.simulated else "microsweep", eval_sets="own")
    _describe(sweep)
    _say("Fitting; this takes a minute or two ...")
    fit, report = demo.run(args.output, sweep=sweep, progress=_progress(args))
    _show(report + "\n")
    _judge(fit, already=sweep)
    _say("Written: " + ", ".join(str(args.output / name) for name in demo.FILES))
    return _status(fit)


def _fit(args: argparse.Namespace) -> int:
    from bayes_l2l.datasets import load_sweep
    from bayes_l2l.error_rate import load_error_spec
    from bayes_l2l.fits import fit
    from bayes_l2l.output import check_output
    from bayes_l2l.spec import load_spec

    # Everything that can be refused is looked at before the long part starts.
    check_output(args.output, inputs=(args.runs, args.model, args.error_model, args.columns or ""))
    spec = load_spec(args.model)
    error_spec = None if args.error_model == "none" else load_error_spec(args.error_model)
    sweep = load_sweep(args.runs, columns=args.columns, eval_sets=_eval_sets(args))
    _describe(sweep)
    fitted = fit(
        sweep,
        model=spec,
        error_model=error_spec,
        draws=args.draws,
        tune=args.tune,
        chains=args.chains,
        random_seed=args.seed,
        sampler=args.sampler,
        progress=_progress(args),
        keep_interrupted=args.keep_interrupted,
    )
    fitted.save(args.output)
    _judge(fitted, already=sweep)
    _say(f"Written: {args.output}")
    return _status(fitted)


def _forecast(args: argparse.Namespace) -> int:
    from bayes_l2l.fits import load_fit
    from bayes_l2l.forecast import QUANTILES
    from bayes_l2l.output import TABLE_SUFFIXES, check_output
    from bayes_l2l.rollouts import Rollout

    ways = [args.at is not None, args.params is not None or args.tokens is not None, args.flops is not None]
    if sum(ways) != 1 or (args.params is None) != (args.tokens is None):
        args.parser.error("say where: --at POINTS, or --params N --tokens D, or --flops C")
    if args.output:
        check_output(args.output, inputs=(args.fit, args.at or "", args.rollout or ""), suffixes=TABLE_SUFFIXES)
    fit = load_fit(args.fit)
    rollout = Rollout.read(args.rollout) if args.rollout else None
    forecast = fit.forecast(
        _points(args.at, fit) if args.at else None,
        train_set=args.train_set,
        eval_set=args.eval_set,
        params=args.params,
        tokens=args.tokens,
        flops=args.flops,
        kind=args.kind,
        rollout=rollout,
        source=args.source,
    )
    _deliver(forecast.table(quantiles=args.quantiles or QUANTILES), args.output)
    _say_simulated(fit.sweep)
    for note in forecast.notes:
        _say(str(note))
    return _status(fit)


def _translate(args: argparse.Namespace) -> int:
    from bayes_l2l.fits import load_fit
    from bayes_l2l.forecast import QUANTILES

    _check_outputs(args)
    fit = load_fit(args.fit)
    translation = fit.translate(args.source, args.target)
    _deliver_with_picture(translation.table(quantiles=args.quantiles or QUANTILES), translation, args)
    _say_simulated(fit.sweep)
    for note in translation.notes:
        _say(str(note))
    return _status(fit)


def _choose(args: argparse.Namespace) -> int:
    from bayes_l2l.fits import load_fit
    from bayes_l2l.forecast import QUANTILES

    _check_size(args)
    _check_outputs(args)
    fit = load_fit(args.fit)
    choice = fit.choose(
        eval_set=args.eval_set,
        flops=args.flops,
        params=args.params,
        tokens=args.tokens,
        weights=args.weights,
        train_set=args.train_set,
        kind=args.kind,
    )
    if args.pairs:
        table = choice.pairs()
    elif args.crossings:
        table = choice.crossings()
    else:
        table = choice.table(quantiles=args.quantiles or QUANTILES)
    _deliver_with_picture(table, choice, args)
    _say_simulated(fit.sweep)
    _say(str(choice))
    for note in choice.notes:
        _say(str(note))
    return _status(fit)


def _plan(args: argparse.Namespace) -> int:
    from bayes_l2l.fits import load_fit

    if (args.goal is None) == (args.eval_set is None):
        args.parser.error("say the goal: --goal EVAL@TRAIN, or --eval-set NAME for a choice of the training set")
    _check_size(args)
    _check_outputs(args, args.candidates or "")
    fit = load_fit(args.fit)
    size = {"flops": args.flops, "params": args.params, "tokens": args.tokens}
    goal = args.goal or fit.choose(eval_set=args.eval_set, weights=args.weights, **size)
    plan = fit.plan(
        goal=goal,
        budget=args.budget,
        runs=args.runs,
        train_set=args.train_set,
        candidates=_read(args.candidates) if args.candidates else None,
        **(size if args.goal else {}),
    )
    _deliver_with_picture(plan.candidates if args.each else plan.batch, plan, args)
    _say_simulated(fit.sweep)
    _say(str(plan))
    for note in plan.notes:
        _say(str(note))
    return _status(fit)


def _rollout(args: argparse.Namespace) -> int:
    from bayes_l2l.datasets import load_sweep
    from bayes_l2l.output import TABLE_SUFFIXES, as_csv, check_output
    from bayes_l2l.rollouts import rollout

    models = args.model or ["joint", "baseline"]
    check_output(args.output, inputs=(args.runs, *models, args.columns or ""), suffixes=TABLE_SUFFIXES)
    sweep = load_sweep(args.runs, columns=args.columns, eval_sets=_eval_sets(args))
    _describe(sweep)
    found = rollout(
        sweep,
        models=models,
        cutoffs=args.cutoff,
        kinds=args.fold or ("hindcast", "translation"),
        draws=args.draws,
        tune=args.tune,
        chains=args.chains,
        random_seed=args.seed,
        resamples=args.resamples,
        jobs=args.jobs,
        dask=args.dask,
        path=args.output,
        progress=_say,
    )
    _say(f"Written: {args.output}")
    _show(as_csv(found.scores(by=["model", "fold", "cell_kind", "distance"])))
    for note in found.notes:
        _say(str(note))
    return 0 if found.trusted else 1


def _score(args: argparse.Namespace) -> int:
    from bayes_l2l.output import TABLE_SUFFIXES, check_output
    from bayes_l2l.scores import score_table, summary

    if args.output:
        check_output(args.output, inputs=(args.forecast, args.actual), suffixes=TABLE_SUFFIXES)
    forecast = _read(args.forecast)
    actual = _actual(args, forecast)
    forecast, actual = _without_blank(forecast, actual)
    scored = score_table(forecast, actual)
    _deliver(scored if args.each else summary(scored, by=args.by), args.output)
    return 0


def _check(args: argparse.Namespace) -> int:
    import pandas as pd

    from bayes_l2l.fits import load_fit
    from bayes_l2l.outliers import outlying

    fit = load_fit(args.fit)
    found = _diagnostics(fit)
    worst = {"rhat": "max", "ess_bulk": "min", "ess_tail": "min"}
    columns = {
        kind: [float(getattr(found[name].sel(diagnostic=kind), how)()) for name in found]
        for kind, how in worst.items()
    }
    _say_simulated(fit.sweep)
    _deliver(pd.DataFrame({"variable": [str(name) for name in found], **columns}), None)
    for note in outlying(fit):
        _say(str(note))
    _judge(fit)
    return _status(fit)


def _diagnostics(fit: Fit) -> xr.Dataset:
    """Diagnostics of the losses' quantities, and of the errors' by names of their own."""
    from bayes_l2l.error_fits import GROUPS

    found = fit.diagnostics
    if fit.errors is None:
        return found
    of_errors = fit.tree[GROUPS[2]].to_dataset().rename({"cell": "error_cell"})
    return found.merge(of_errors.rename({name: f"error_{name}" for name in of_errors.data_vars}))


def _report(args: argparse.Namespace) -> int:
    from bayes_l2l.fits import load_fit
    from bayes_l2l.output import PAGE_SUFFIXES, check_output
    from bayes_l2l.rollouts import Rollout

    check_output(args.output, inputs=(args.fit, args.rollout or ""), suffixes=PAGE_SUFFIXES)
    fit = load_fit(args.fit)
    rollout = Rollout.read(args.rollout) if args.rollout else None
    fit.report(args.output, rollout=rollout, flops=args.flops)
    _say_simulated(fit.sweep)
    _judge(fit)
    _say(f"Written: {args.output}")
    return _status(fit)


def _sweep(args: argparse.Namespace) -> int:
    from bayes_l2l.microsweep import BUDGETS, large_path, sweep
    from bayes_l2l.output import check_output
    from bayes_l2l.sweep import read_sweep

    outputs = [args.output, large_path(args.output)] if args.star_factor else [args.output]
    for path in outputs:
        check_output(path, inputs=tuple(args.folders), suffixes=(".csv",))
    sweep(
        args.folders,
        args.output,
        budgets=args.budgets or BUDGETS,
        sizes=args.sizes,
        tokens_per_param=args.tokens_per_param,
        star_factor=args.star_factor,
        seed=args.seed,
        progress=_progress(args),
    )
    _describe(read_sweep(args.output, min_runs=1))
    _say("Written: " + ", ".join(map(str, outputs)))
    return 0


def _data_list(args: argparse.Namespace) -> int:
    from bayes_l2l.datasets import known

    for dataset in known():
        _show(f"{dataset.name}\n  {dataset.title}\n  licence: {dataset.licence}\n  source: {dataset.source}\n")
    return 0


def _data_fetch(args: argparse.Namespace) -> int:
    from bayes_l2l.datasets import fetch

    _show(f"{fetch(args.name, progressbar=sys.stderr.isatty())}\n")
    return 0


def _check_size(args: argparse.Namespace) -> None:
    """Refuse anything but one of the two ways to say a size."""
    from bayes_l2l.forecast import one_way

    if not one_way(args.flops, args.params, args.tokens):
        args.parser.error("say for what size: --flops C, or --params N --tokens D")


def _check_outputs(args: argparse.Namespace, *inputs: str) -> None:
    """Refuse files for a table and a picture that could not be written in the end."""
    from bayes_l2l.output import PICTURE_SUFFIXES, TABLE_SUFFIXES, check_output

    for path, suffixes in ((args.output, TABLE_SUFFIXES), (args.plot, PICTURE_SUFFIXES)):
        if path:
            check_output(path, inputs=(args.fit, *inputs), suffixes=suffixes)


def _deliver_with_picture(table: pd.DataFrame, result: Choice | Plan | Translation, args: argparse.Namespace) -> None:
    """Write or show a table, and the picture that was asked for."""
    from bayes_l2l.output import write_picture

    if args.plot:
        write_picture(result.plot(), args.plot)
        _say(f"Written: {args.plot}")
    _deliver(table, args.output)


def _points(at: str, fit: Fit) -> pd.DataFrame:
    """Points of a file, or the large runs of a known data set for the fitted cells."""
    from bayes_l2l.sweep import read_points

    if _is_known(at):
        large = _large(at, [*fit.cells, *fit.error_cells]).table
        return large[["train_set", "eval_set", "params", "tokens", "flops"]]
    return read_points(at)


def _actual(args: argparse.Namespace, forecast: pd.DataFrame) -> pd.DataFrame:
    """Losses of a file, wide if it comes with a mapping, or of the large runs of a known data set."""
    from bayes_l2l.sweep import read_sweep

    if _is_known(args.actual) and {"eval_set", "train_set"} <= set(forecast):
        large = _large(args.actual, list(zip(forecast["eval_set"], forecast["train_set"], strict=True)))
        _say_simulated(large)
        return large.table
    if args.columns:
        return read_sweep(args.actual, columns=args.columns, min_runs=1).table
    return _read(args.actual)


def _without_blank(forecast: pd.DataFrame, actual: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out, of both tables, error rates that were not forecast since their tasks are at chance."""
    from bayes_l2l.scores import point_keys

    if "metric" not in forecast or not (blank := (forecast["metric"] == "error") & forecast["median"].isna()).any():
        return forecast, actual
    tasks = sorted(forecast["eval_set"][blank].unique())
    _say(f"Not scored: {blank.sum()} error rates of {len(tasks)} tasks at chance, which have no forecast.")
    return forecast[~blank], actual[~point_keys(actual).isin(point_keys(forecast[blank]))]


def _is_known(name: str) -> bool:
    from bayes_l2l.datasets import is_known

    return is_known(name)


def _large(name: str, cells: Sequence[tuple[str, str]]) -> Sweep:
    """Large runs of a known data set, those of the cells that are meant."""
    import pandas as pd

    from bayes_l2l.datasets import large_runs

    sweep = large_runs(name, eval_sets="all")
    wanted = pd.DataFrame(list(dict.fromkeys(cells)), columns=["eval_set", "train_set"])
    table = sweep.table.merge(wanted, on=["eval_set", "train_set"])
    if table.empty:
        raise DataError(f"none of the large runs of {name} is of a training set and evaluation that is meant here")
    return replace(sweep, table=table)


def _read(path: str) -> pd.DataFrame:
    """Any table, its numbers as numbers; what it must hold is for its user to say."""
    from bayes_l2l.tables import RawTable, typed

    raw = RawTable.read(path)
    names = ("train_set", "eval_set", "run_id", "kind")
    numbers = {str(c): typed(raw.frame[c]) for c in raw.frame if raw.text and c not in names}
    return raw.frame.assign(**numbers)


def _eval_sets(args: argparse.Namespace) -> EvalSets:
    names: list[str] | None = args.eval_set
    if names is None or len(names) > 1:
        return names
    return "own" if names == ["own"] else "all" if names == ["all"] else names


def _describe(sweep: Sweep) -> None:
    """Say what was read, with the notes of the table."""
    _say(sweep.summary())


def _judge(fit: Fit, *, already: Sweep | None = None) -> None:
    """Say how the sampling went, and the fit's notes less those that were shown already."""
    found = _diagnostics(fit)
    rhat = max(float(value.max()) for value in found.sel(diagnostic="rhat").values())
    bulk = min(float(value.min()) for value in found.sel(diagnostic="ess_bulk").values())
    diverging = fit.tree["sample_stats"]["diverging"]
    _say(
        f"Model {fit.spec.name!r}, {_size(fit)}, {len(fit.sweep)} losses, {fit.record['seconds']:.0f} s: "
        f"R-hat at most {rhat:.3f}, bulk ESS at least {bulk:.0f}, "
        f"{int(diverging.sum())} of {diverging.size} draws diverged"
    )
    shown = set(map(str, already.notes)) if already else set()
    for note in fit.notes:
        if str(note) not in shown:
            _say(str(note))
    if not fit.trusted:
        _say("This fit is not to be trusted: see the serious notes.")


def _size(fit: Fit) -> str:
    """How many laws, or relations, were fitted."""
    pairs = fit.posterior.sizes.get("pair")
    errors = f" and {len(fit.error_cells)} of error rates" if fit.error_cells else ""
    return (f"{pairs} pairs of cells" if pairs else f"{len(fit.cells)} cells") + errors


def _status(fit: Fit) -> int:
    return 0 if fit.trusted else 1


def _say_simulated(sweep: Sweep) -> None:
    if sweep.simulated:
        _say(f"Simulated runs, not measured: {sweep.provenance or sweep.name}.")


def _deliver(table: pd.DataFrame, output: Path | None) -> None:
    """Write a table to its file, or show it."""
    from bayes_l2l.output import as_csv, write_table

    if output is None:
        _show(as_csv(table))
    else:
        write_table(table, output)
        _say(f"Written: {output}")


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _progress(args: argparse.Namespace) -> bool:
    return not args.no_progress and sys.stderr.isatty()


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "demo": _demo,
    "fit": _fit,
    "forecast": _forecast,
    "translate": _translate,
    "choose": _choose,
    "plan": _plan,
    "rollout": _rollout,
    "score": _score,
    "check": _check,
    "report": _report,
    "sweep": _sweep,
    "data list": _data_list,
    "data fetch": _data_fetch,
}
