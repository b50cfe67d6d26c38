"""What `bayes-l2l` can be told: its commands and options, with their help."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bayes_l2l import __version__

PROG: Final = "bayes-l2l"

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def parser() -> argparse.ArgumentParser:
    """Build the parser; what it returns has the command's name as ``command``."""
    top = argparse.ArgumentParser(
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
    top.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_fit(commands)
    _add_forecast(commands)
    _add_translate(commands)
    _add_choose(commands)
    _add_plan(commands)
    _add_rollout(commands)
    _add_score(commands)
    _add_check(commands)
    _add_report(commands)
    _add_sweep(commands)
    _add_data(commands)
    return top


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
        summary="the main job on the embedded sweep: fit, forecast 20x, compare, report",
        text=" The sweep was\nmeasured for this package: byte-level transformers on six corpora.",
        example="  bayes-l2l demo -o demo\n  bayes-l2l demo --simulated -o demo",
    )
    parser.add_argument(
        "--simulated", action="store_true", help="runs simulated from published laws instead, of larger models"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("demo"), help="folder for the results (demo)"
    )
    _add_progress(parser)
    parser.set_defaults(command="demo")


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
        "--model", metavar="NAME|FILE.toml", default="joint", help="model, or your own model file (joint)"
    )
    parser.add_argument(
        "--error-model",
        metavar="NAME|FILE.toml",
        default="error_richards",
        help="model of the table's error rates as a function of loss, or `none` (error_richards)",
    )
    _add_columns(parser)
    _add_draws(parser)
    parser.add_argument("--sampler", choices=("nutpie", "pymc"), help="implementation of NUTS (nutpie)")
    parser.add_argument("--keep-interrupted", action="store_true", help="Ctrl-C keeps what has been drawn")
    _add_progress(parser)
    parser.set_defaults(command="fit")


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
    _add_quantiles(parser)
    parser.add_argument(
        "--rollout",
        metavar="OUT.csv",
        help="what `bayes-l2l rollout` wrote: notes say how often intervals were right as far out",
    )
    parser.add_argument(
        "--source",
        metavar="EVAL@TRAIN",
        help="of a model of pairs: the cell, or the training set, to forecast from (all that have a run of the size)",
    )
    _add_output(parser)
    parser.set_defaults(command="forecast", parser=parser)


def _add_translate(commands: Commands) -> None:
    parser = _command(
        commands,
        "translate",
        summary="say how one loss depends on another, and translate the scaling law",
        text=" L1 = K (L0 - E0)^kappa + E1\n"
        "for runs of equal size, with the posterior of K, kappa, both E's and the translated law.\n"
        "A cell is EVAL@TRAIN, or a training set alone for the loss on its own validation data.",
        example="  bayes-l2l translate fit.nc --source fineweb-edu-100b --target starcoder\n"
        "  bayes-l2l translate fit.nc --source starcoder --target hellaswag@starcoder -o law.csv --plot law.png",
    )
    parser.add_argument("fit", metavar="FIT.nc", help="what `bayes-l2l fit` wrote")
    parser.add_argument("--source", metavar="EVAL@TRAIN", required=True, help="cell that is translated from")
    parser.add_argument("--target", metavar="EVAL@TRAIN", required=True, help="cell that is translated to")
    _add_quantiles(parser)
    _add_output(parser)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="PNG, PDF or SVG file for a picture")
    parser.set_defaults(command="translate")


def _add_choose(commands: Commands) -> None:
    parser = _command(
        commands,
        "choose",
        summary="say which training set has the lowest loss for a budget, and how sure that is",
        text=" Several\nevaluations are averaged in nats per token. Messages say whether it is decided, where\n"
        "the answer changes with compute, and which run would tell more.",
        example="  bayes-l2l choose fit.nc --eval-set hellaswag --flops 1e21\n"
        "  bayes-l2l choose fit.nc --eval-set hellaswag --eval-set piqa --weights 2,1 --flops 1e21 --plot out.png\n"
        "  bayes-l2l choose fit.nc --eval-set hellaswag --params 3.3e9 --tokens 5e10 --pairs",
    )
    parser.add_argument("fit", metavar="FIT.nc", help="what `bayes-l2l fit` wrote")
    _add_evaluations(parser, required=True)
    parser.add_argument(
        "--train-set", metavar="NAME", action="append", help="training set to compare; repeated for others (all)"
    )
    _add_size(parser)
    parser.add_argument(
        "--kind", choices=("run", "curve"), default="run", help="runs, which scatter, or the laws (run)"
    )
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument("--pairs", action="store_true", help="the table of P(A better than B) instead")
    tables.add_argument("--crossings", action="store_true", help="the table of where sets overtake others instead")
    _add_quantiles(parser)
    _add_output(parser)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="PNG, PDF or SVG file for a picture")
    parser.set_defaults(command="choose", parser=parser)


def _add_plan(commands: Commands) -> None:
    parser = _command(
        commands,
        "plan",
        summary="say which runs to make next, so that a forecast or a choice becomes more certain",
        text=" The\ngoal is the loss of a cell (--goal) or a choice of the training set (--eval-set). Shows a batch\n"
        "in the order in which its runs tell most, with the standard deviation or expected regret that is left.",
        example="  bayes-l2l plan fit.nc --budget 1e20 --goal hellaswag@starcoder --flops 1e21\n"
        "  bayes-l2l plan fit.nc --budget 1e20 --eval-set hellaswag --flops 1e21 --each",
    )
    parser.add_argument("fit", metavar="FIT.nc", help="what `bayes-l2l fit` wrote")
    parser.add_argument(
        "--budget", type=_positive, metavar="FLOPS", required=True, help="what the batch may cost together"
    )
    parser.add_argument("--goal", metavar="EVAL@TRAIN", help="cell whose forecast is to become more certain")
    _add_evaluations(parser, required=False)
    _add_size(parser)
    parser.add_argument("--train-set", metavar="NAME", action="append", help="set that can be run; repeated (all)")
    parser.add_argument("--runs", type=_count, metavar="N", default=8, help="runs of the batch at most (8)")
    parser.add_argument("--candidates", metavar="FILE", help="table of train_set, params, tokens to pick from")
    parser.add_argument("--each", action="store_true", help="every candidate instead, by reduction per FLOP")
    _add_output(parser)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="PNG, PDF or SVG file for a picture")
    parser.set_defaults(command="plan", parser=parser)


def _add_evaluations(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--eval-set",
        metavar="NAME",
        action="append",
        required=required,
        help="evaluation to choose by; may be repeated",
    )
    parser.add_argument("--weights", type=_numbers, metavar="W,W,...", help="of the evaluations (equal)")


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--flops", type=_positive, metavar="C", help="budget: at the compute-optimal size")
    parser.add_argument("--params", type=_positive, metavar="N", help="parameters of the run, instead")
    parser.add_argument("--tokens", type=_positive, metavar="D", help="tokens of the run")


def _add_rollout(commands: Commands) -> None:
    parser = _command(
        commands,
        "rollout",
        summary="forecast the larger runs of a sweep from its smaller ones",
        text=" Fits what lies below\n"
        "each cut-off in compute, writes every forecast beside what happened, and shows the scores.\n"
        "Finished folds are kept in the folder OUT.csv.folds: stopped in whatever way, the same command\ngoes on.",
        example="  bayes-l2l rollout runs.csv --model joint --model baseline -o rollout.csv\n"
        "  bayes-l2l rollout gadre --cutoff 2e19 --fold hindcast --jobs 4 -o rollout.csv\n"
        "  bayes-l2l rollout runs.csv --dask tcp://scheduler:8786 -o rollout.csv",
    )
    parser.add_argument("runs", metavar="RUNS", help="CSV or Parquet file, or a data set of `bayes-l2l data list`")
    parser.add_argument("-o", "--output", metavar="OUT.csv", type=Path, required=True, help="file for the table")
    parser.add_argument(
        "--model",
        metavar="NAME|FILE.toml",
        action="append",
        help="model, your own model file, or `baseline`; may be repeated (joint, baseline)",
    )
    parser.add_argument(
        "--cutoff",
        type=_positive,
        metavar="C",
        action="append",
        help="largest compute that is fitted, in FLOPs; may be repeated (budgets of the sweep)",
    )
    parser.add_argument(
        "--fold",
        choices=("hindcast", "translation"),
        action="append",
        help="predict all sets, or one from the others' large runs and few small ones of its own (both)",
    )
    _add_columns(parser)
    _add_draws(parser)
    parser.add_argument(
        "--resamples", type=_count, metavar="N", default=200, help="of the baseline's bootstrap (200)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=_count, metavar="N", default=1, help="processes of this machine (1)")
    where.add_argument("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster that has this package")
    parser.set_defaults(command="rollout")


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
    parser.set_defaults(command="score")


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
    parser.set_defaults(command="check")


def _add_report(commands: Commands) -> None:
    parser = _command(
        commands,
        "report",
        summary="write what a fit says as one HTML file",
        text=" It needs no network: forecasts, relations,\n"
        "parameters, model sizes, calibration and diagnostics, with every table as CSV in it.",
        example="  bayes-l2l report fit.nc -o report.html\n"
        "  bayes-l2l report fit.nc --rollout rollout.csv --flops 1e21 -o report.html",
    )
    parser.add_argument("fit", metavar="FIT.nc", help="what `bayes-l2l fit` wrote")
    parser.add_argument("-o", "--output", metavar="REPORT.html", type=Path, required=True, help="file for the report")
    parser.add_argument(
        "--rollout", metavar="OUT.csv", help="what `bayes-l2l rollout` wrote: how far forecasts can be believed"
    )
    parser.add_argument(
        "--flops", type=_positive, metavar="C", help="budget to forecast at, in FLOPs (20 times the largest fitted)"
    )
    parser.set_defaults(command="report")


def _add_sweep(commands: Commands) -> None:
    parser = _command(
        commands,
        "sweep",
        summary="measure a sweep on your own corpora: byte-level transformers, small enough for a laptop",
        text="\nNeeds PyTorch: pip install 'bayes-l2l[sweep]'. Each corpus is a folder of text files, or one file.\n"
        "Part of it is held out, the rest is read once, and every run is evaluated on all corpora. Stopped in\n"
        "whatever way, the same command goes on.",
        example="  bayes-l2l sweep english/ code/ maths.txt -o runs.csv\n"
        "  bayes-l2l sweep old/ new/ --budgets 1e10,3e10,1e11 --sizes 5 --star-factor 0 -o runs.csv",
    )
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", help="corpus: a folder, whose name it gets, or a file"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="RUNS.csv",
        type=Path,
        required=True,
        help="file for the table; large runs go into RUNS-large.csv beside it",
    )
    parser.add_argument(
        "--budgets",
        metavar="C,C,...",
        type=_numbers,
        help="FLOPs of the isoFLOP curves (1e10,1.8e10,3.2e10,5.6e10,1e11)",
    )
    parser.add_argument("--sizes", metavar="N", type=_count, default=6, help="models a budget (6)")
    parser.add_argument(
        "--tokens-per-param",
        metavar="R",
        type=_positive,
        default=20.0,
        help="bytes a parameter amid each curve and of the large runs (20)",
    )
    parser.add_argument(
        "--star-factor",
        metavar="F",
        type=_factor,
        default=20.0,
        help="compute of the large run of each corpus over the largest budget; 0 for none (20)",
    )
    parser.add_argument("--seed", metavar="N", type=_seed, default=0, help="of initial weights and data order (0)")
    _add_progress(parser)
    parser.set_defaults(command="sweep")


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
    listing.set_defaults(command="data list")
    fetching = _command(
        actions,
        "fetch",
        summary="download one by its pinned hash, and say where it lies",
        example="  bayes-l2l data fetch loss-to-loss",
    )
    fetching.add_argument("name", metavar="NAME", help="of `bayes-l2l data list`")
    fetching.set_defaults(command="data fetch")


def _add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--columns", metavar="MAP.toml", help="mapping file: which column means what")
    parser.add_argument(
        "--eval-set",
        metavar="NAME",
        action="append",
        help="evaluation to fit, or `own`, or `all`; may be repeated (what the mapping says, else all)",
    )


def _add_quantiles(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quantiles", type=_levels, metavar="Q,Q,...", help="levels of the table, such as 0.05,0.5,0.95"
    )


def _add_draws(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draws", type=_count, metavar="N", help="draws a chain that are kept (1000)")
    parser.add_argument("--tune", type=_count, metavar="N", help="draws a chain for adaptation (1000)")
    parser.add_argument("--chains", type=_count, metavar="N", help="chains (4)")
    parser.add_argument("--seed", type=_seed, metavar="N", help="the same seed gives the same draws (0)")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="CSV or Parquet file for the table (standard output)"
    )


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number (such as 3.3e9)")
    return value


def _factor(text: str) -> float:
    return 0.0 if text == "0" else _positive(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _numbers(text: str) -> list[float]:
    return [_positive(part) for part in text.split(",")]


def _levels(text: str) -> list[float]:
    try:
        levels = [float(level) for level in text.split(",")]
    except ValueError:
        levels = [math.nan]
    if not all(0 < level < 1 for level in levels):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers between 0 and 1 (such as 0.05,0.5,0.95)")
    return levels
