"""The command `bayes-l2l`: tables to standard output, messages and progress to standard error.

It exits with 0 if all is well, 1 if an input is refused or a result is not to be trusted, 2 if it is used wrongly
and 130 after Ctrl-C. Modules are imported by the command that needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bayes_l2l import __version__
from bayes_l2l.errors import DataError, L2LError

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.fits import Fit
    from bayes_l2l.sweep import EvalSets, Sweep

PROG = "bayes-l2l"


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
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
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
    sweep = load_sweep("simulated")
    _describe(sweep)
    _say("Fitting; this takes a minute or two ...")
    fit, report = demo.run(args.output, sweep=sweep, progress=_progress(args))
    _show(report + "\n")
    _judge(fit, already=sweep)
    _say("Written: " + ", ".join(str(args.output / name) for name in demo.FILES))
    return _status(fit)


def _fit(args: argparse.Namespace) -> int:
    from bayes_l2l.datasets import load_sweep
    from bayes_l2l.fits import fit
    from bayes_l2l.output import check_output
    from bayes_l2l.spec import load_spec

    # Everything that can be refused is looked at before the long part starts.
    check_output(args.output, inputs=(args.runs, args.model, args.columns or ""))
    spec = load_spec(args.model)
    sweep = load_sweep(args.runs, columns=args.columns, eval_sets=_eval_sets(args))
    _describe(sweep)
    fitted = fit(
        sweep,
        model=spec,
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

    ways = [args.at is not None, args.params is not None or args.tokens is not None, args.flops is not None]
    if sum(ways) != 1 or (args.params is None) != (args.tokens is None):
        args.parser.error("say where: --at POINTS, or --params N --tokens D, or --flops C")
    if args.output:
        check_output(args.output, inputs=(args.fit, args.at or ""), suffixes=TABLE_SUFFIXES)
    fit = load_fit(args.fit)
    forecast = fit.forecast(
        _points(args.at, fit) if args.at else None,
        train_set=args.train_set,
        eval_set=args.eval_set,
        params=args.params,
        tokens=args.tokens,
        flops=args.flops,
        kind=args.kind,
    )
    _deliver(forecast.table(quantiles=args.quantiles or QUANTILES), args.output)
    _say_simulated(fit.sweep)
    for note in forecast.notes:
        _say(str(note))
    return _status(fit)


def _score(args: argparse.Namespace) -> int:
    from bayes_l2l.output import TABLE_SUFFIXES, check_output
    from bayes_l2l.scores import score_table, summary

    if args.output:
        check_output(args.output, inputs=(args.forecast, args.actual), suffixes=TABLE_SUFFIXES)
    forecast = _read(args.forecast)
    scored = score_table(forecast, _actual(args, forecast))
    _deliver(scored if args.each else summary(scored, by=args.by), args.output)
    return 0


def _check(args: argparse.Namespace) -> int:
    import pandas as pd

    from bayes_l2l.fits import load_fit

    fit = load_fit(args.fit)
    found = fit.diagnostics
    worst = {"rhat": "max", "ess_bulk": "min", "ess_tail": "min"}
    columns = {
        kind: [float(getattr(found[name].sel(diagnostic=kind), how)()) for name in found]
        for kind, how in worst.items()
    }
    _say_simulated(fit.sweep)
    _deliver(pd.DataFrame({"variable": [str(name) for name in found], **columns}), None)
    _judge(fit)
    return _status(fit)


def _data_list(args: argparse.Namespace) -> int:
    from bayes_l2l.datasets import known

    for dataset in known():
        _show(f"{dataset.name}\n  {dataset.title}\n  licence: {dataset.licence}\n  source: {dataset.source}\n")
    return 0


def _data_fetch(args: argparse.Namespace) -> int:
    from bayes_l2l.datasets import fetch

    _show(f"{fetch(args.name, progressbar=sys.stderr.isatty())}\n")
    return 0


def _points(at: str, fit: Fit) -> pd.DataFrame:
    """Points of a file, or the large runs of a known data set for the fitted cells."""
    from bayes_l2l.sweep import read_points

    if _is_known(at):
        return _large(at, fit.cells).table[["train_set", "eval_set", "params", "tokens", "flops"]]
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


def _is_known(name: str) -> bool:
    from bayes_l2l.datasets import known

    return name in [dataset.name for dataset in known()]


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
    found = fit.diagnostics
    rhat = max(float(value.max()) for value in found.sel(diagnostic="rhat").values())
    bulk = min(float(value.min()) for value in found.sel(diagnostic="ess_bulk").values())
    diverging = fit.tree["sample_stats"]["diverging"]
    _say(
        f"Model {fit.spec.name!r}, {len(fit.cells)} cells, {len(fit.sweep)} losses, {fit.record['seconds']:.0f} s: "
        f"R-hat at most {rhat:.3f}, bulk ESS at least {bulk:.0f}, "
        f"{int(diverging.sum())} of {diverging.size} draws diverged"
    )
    shown = set(map(str, already.notes)) if already else set()
    for note in fit.notes:
        if str(note) not in shown:
            _say(str(note))
    if not fit.trusted:
        _say("This fit is not to be trusted: see the serious notes.")


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


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number (such as 3.3e9)")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _levels(text: str) -> list[float]:
    try:
        levels = [float(level) for level in text.split(",")]
    except ValueError:
        levels = [math.nan]
    if not all(0 < level < 1 for level in levels):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers between 0 and 1 (such as 0.05,0.5,0.95)")
    return levels


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Bayesian scaling laws: a table of small training runs in, the loss of a large one out, "
        "with an interval that is held to account.",
        epilog="example:\n"
        "  bayes-l2l demo\n"
        "  bayes-l2l fit runs.csv -o fit.nc\n"
        "  bayes-l2l forecast fit.nc --params 3.3e9 --tokens 5e10\n\n"
        "RUNS, POINTS and other tables are CSV or Parquet. `bayes-l2l COMMAND --help` shows more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_fit(commands)
    _add_forecast(commands)
    _add_score(commands)
    _add_check(commands)
    _add_data(commands)
    return parser


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _command(commands: Commands, name: str, *, summary: str, text: str = "", example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{text}",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-progress", action="store_true", help="no progress bar, also in a terminal")


def _add_demo(commands: Commands) -> None:
    parser = _command(
        commands,
        "demo",
        summary="the main job on the embedded sweep: fit, forecast 20x, compare",
        text=" The sweep is simulated,\nnot measured.",
        example="  bayes-l2l demo -o demo",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("demo"), help="folder for the results (demo)"
    )
    _add_progress(parser)
    parser.set_defaults(run=_demo)


def _add_fit(commands: Commands) -> None:
    parser = _command(
        commands,
        "fit",
        summary="fit a model to a table of runs",
        text=" RUNS is a table: long (train_set, eval_set, params,\n"
        "tokens, loss; one row a run and evaluation), or wide with a mapping file; or the name of a\n"
        "known data set.",
        example="  bayes-l2l fit runs.csv -o fit.nc\n"
        "  bayes-l2l fit wide.csv --columns map.toml --eval-set own -o fit.nc\n"
        "  bayes-l2l fit loss-to-loss --model kaplan --seed 1 -o fit.nc",
    )
    parser.add_argument("runs", metavar="RUNS", help="CSV or Parquet file, or a data set of `bayes-l2l data list`")
    parser.add_argument("-o", "--output", metavar="FIT.nc", type=Path, required=True, help="file for the fit")
    parser.add_argument(
        "--model", metavar="NAME|FILE.toml", default="law", help="model, or your own model file (law)"
    )
    parser.add_argument("--columns", metavar="MAP.toml", help="mapping file: which column means what")
    parser.add_argument(
        "--eval-set",
        metavar="NAME",
        action="append",
        help="evaluation to fit, or `own`, or `all`; may be repeated (what the mapping says, else all)",
    )
    parser.add_argument("--draws", type=_count, metavar="N", help="draws a chain that are kept (1000)")
    parser.add_argument("--tune", type=_count, metavar="N", help="draws a chain for adaptation (1000)")
    parser.add_argument("--chains", type=_count, metavar="N", help="chains (4)")
    parser.add_argument("--seed", type=_seed, metavar="N", help="the same seed gives the same draws (0)")
    parser.add_argument("--sampler", choices=("nutpie", "pymc"), help="implementation of NUTS (nutpie)")
    parser.add_argument("--keep-interrupted", action="store_true", help="Ctrl-C keeps what has been drawn")
    _add_progress(parser)
    parser.set_defaults(run=_fit)


def _add_forecast(commands: Commands) -> None:
    parser = _command(
        commands,
        "forecast",
        summary="forecast the loss of new runs from a fit",
        example="  bayes-l2l forecast fit.nc --params 3.3e9 --tokens 5e10 --train-set starcoder\n"
        "  bayes-l2l forecast fit.nc --flops 1e21 --quantiles 0.05,0.5,0.95\n"
        "  bayes-l2l forecast fit.nc --at points.csv -o forecast.csv",
    )
    parser.add_argument("fit", metavar="FIT.nc", help="what `bayes-l2l fit` wrote")
    where = parser.add_argument_group("where (one of the three ways)")
    where.add_argument(
        "--at",
        metavar="POINTS",
        help="table of params, tokens, and train_set, eval_set where not every cell is meant; "
        "or a known data set: its large runs",
    )
    where.add_argument("--params", type=_positive, metavar="N", help="parameters of the run")
    where.add_argument("--tokens", type=_positive, metavar="D", help="tokens of the run")
    where.add_argument("--flops", type=_positive, metavar="C", help="budget: at its compute-optimal size")
    parser.add_argument("--train-set", metavar="NAME", action="append", help="training set; may be repeated (all)")
    parser.add_argument("--eval-set", metavar="NAME", action="append", help="evaluation; may be repeated (all)")
    parser.add_argument(
        "--kind", choices=("run", "curve"), default="run", help="a run, which scatters, or the law (run)"
    )
    parser.add_argument(
        "--quantiles", type=_levels, metavar="Q,Q,...", help="levels of the table, such as 0.05,0.5,0.95"
    )
    _add_output(parser)
    parser.set_defaults(run=_forecast, parser=parser)


def _add_score(commands: Commands) -> None:
    parser = _command(
        commands,
        "score",
        summary="score a forecast table against the runs that were then made",
        text="\nFigures are in percent of the actual loss.",
        example="  bayes-l2l score forecast.csv actual.csv\n"
        "  bayes-l2l score forecast.csv actual.csv --by eval_set -o scores.csv",
    )
    parser.add_argument("forecast", metavar="FORECAST", help="what `bayes-l2l forecast -o` wrote")
    parser.add_argument(
        "actual",
        metavar="ACTUAL",
        help="table of train_set, eval_set, params, tokens, loss; or a known data set: its large runs",
    )
    parser.add_argument("--columns", metavar="MAP.toml", help="mapping file of the actual table, if it needs one")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--by", metavar="COLUMN", action="append", help="average within a column; may be repeated")
    rows.add_argument("--each", action="store_true", help="a row a run instead of averages")
    _add_output(parser)
    parser.set_defaults(run=_score)


def _add_check(commands: Commands) -> None:
    parser = _command(
        commands,
        "check",
        summary="say whether a fit is to be trusted",
        text=" Shows the worst R-hat and effective sample size\n"
        "of each quantity, divergences and notes, and exits with 1 if it is not.",
        example="  bayes-l2l check fit.nc",
    )
    parser.add_argument("fit", metavar="FIT.nc", help="what `bayes-l2l fit` wrote")
    parser.set_defaults(run=_check)


def _add_data(commands: Commands) -> None:
    parser = _command(
        commands,
        "data",
        summary="list or fetch the known data sets",
        text="\nBAYES_L2L_DATA names a folder with a local copy.",
        example="  bayes-l2l data list\n  bayes-l2l data fetch loss-to-loss",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _command(actions, "list", summary="list them", example="  bayes-l2l data list")
    listing.set_defaults(run=_data_list)
    fetching = _command(
        actions,
        "fetch",
        summary="download one by its pinned hash, and say where it lies",
        example="  bayes-l2l data fetch loss-to-loss",
    )
    fetching.add_argument("name", metavar="NAME", help="of `bayes-l2l data list`")
    fetching.set_defaults(run=_data_fetch)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="CSV or Parquet file for the table (standard output)"
    )
