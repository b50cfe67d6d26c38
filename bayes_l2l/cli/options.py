"""What commands are told: types of values, options that several commands share, and what excludes what."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from bayes_l2l.data.numerals import read_number

PROG: Final = "bayes-l2l"
FILE: Final = Path

#: What `--kind` accepts.
_KINDS: Final = ("predictive", "mean", "run", "curve")
_LARGEST_SEED: Final = 2**32 - 1

_Command = Callable[..., Any]
_Decorator = Callable[[_Command], _Command]


# values


def positive(text: str) -> float:
    """Read a factor or a weight."""
    return _above_zero(text, float, "is not a positive number (such as 0.5)")


def size(text: str) -> float:
    """Read a size or a number of FLOPs, as people write them."""
    return _above_zero(text, read_number, "is not a positive number (such as 3.3e9, 7b or 110M)")


def many_sizes(text: str) -> list[float]:
    """Read sizes with commas between them."""
    return [size(part) for part in text.split(",")]


def positive_or_zero(text: str) -> float:
    """Read a factor that 0 switches off."""
    return 0.0 if text == "0" else positive(text)


def positives(text: str) -> list[float]:
    """Read positive numbers with commas between them."""
    return [positive(part) for part in text.split(",")]


def count(text: str) -> int:
    """Read a number of things."""
    return _whole(text, 1, math.inf, "of at least 1")


def seed(text: str) -> int:
    """Read a seed of random numbers."""
    return _whole(text, 0, _LARGEST_SEED, f"from 0 to {_LARGEST_SEED}")


def levels(text: str) -> list[float]:
    """Read quantile levels with commas between them."""
    try:
        found = [float(level) for level in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(0 < level < 1 for level in found):
        raise click.BadParameter(f"{text!r} is not a list of numbers between 0 and 1 (such as 0.05,0.5,0.95)")
    return found


def _above_zero(text: str, read: Callable[[str], float], wrong: str) -> float:
    try:
        value = read(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{text!r} {wrong}")
    return value


def _whole(text: str, lowest: int, highest: float, which: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = lowest - 1
    if not lowest <= value <= highest:
        raise click.BadParameter(f"{text!r} is not a whole number {which}")
    return value


# declarations


def examples(*commands: str) -> str:
    """Lines for the end of a command's help, kept as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {PROG} {command}" for command in commands)])


def together(*options: _Decorator) -> _Decorator:
    """Declare several options, shown in this order."""

    def declare(command: _Command) -> _Command:
        """Declare them for a command."""
        for option in reversed(options):
            command = option(command)
        return command

    return declare


def repeated(*names: str, **settings: Any) -> _Decorator:
    """Option that may be given several times: a list, or None if it is not given."""
    return click.option(*names, multiple=True, callback=lambda _ctx, _param, values: list(values) or None, **settings)


def at_most_one(**given: object) -> None:
    """Refuse options that exclude each other, by name."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} exclude each other")


def size_is_said(*, flops: float | None, params: float | None, tokens: float | None) -> None:
    """Refuse anything but one of the two ways to say a size."""
    from bayes_l2l.data.sizes import one_way

    if not one_way(flops, params, tokens):
        raise click.UsageError("say for what size: --flops C, or --params N --tokens D")


# what several commands share


def _files_and(
    names: Callable[[], list[str]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What a shell is told could be typed: names that are known, and files, which it knows itself."""

    def complete(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        """Those that go on like this."""
        known = [CompletionItem(name) for name in names() if name.startswith(begun)]
        return [*known, CompletionItem(begun, type="file")]

    return complete


def _data_sets() -> list[str]:
    from bayes_l2l.data.datasets import known

    return [dataset.name for dataset in known()]


def _models() -> list[str]:
    from bayes_l2l.structures.models import error_model_names, model_names

    return [*model_names(), *error_model_names()]


complete_data_sets: Final = _files_and(_data_sets)
complete_models: Final = _files_and(_models)

RUNS: Final = click.argument(
    "runs",
    metavar="RUNS",
    help="CSV or Parquet file, or a data set of `bayes-l2l data list`",
    shell_complete=complete_data_sets,
)
FIT: Final = click.argument(
    "fit_file", metavar="FIT.nc", help="what `bayes-l2l fit` wrote", shell_complete=_files_and(list)
)

OUTPUT: Final = click.option(
    "-o", "--output", metavar="FILE", type=FILE, help="CSV or Parquet file for the table (standard output)"
)
PLOT: Final = click.option("--plot", metavar="FILE", type=FILE, help="PNG, PDF or SVG file for a picture")
PROGRESS: Final = click.option(
    "--no-progress",
    "progress",
    is_flag=True,
    callback=lambda _ctx, _param, off: not off and sys.stderr.isatty(),
    help="no progress bar, also in a terminal",
)

READING: Final = together(
    click.option("--columns", metavar="MAP.toml", help="mapping file: which column means what"),
    repeated(
        "--eval-set",
        "eval_sets",
        metavar="NAME",
        help="evaluation to fit, or `train` (each training set's own), or `all`; may be repeated "
        "(what the mapping says, else all)",
    ),
)
#: Passed on to the library as they are; what is None is for it to say.
SAMPLING: Final = together(
    click.option(
        "--method",
        type=click.Choice(["nuts", "laplace"]),
        help="Markov chains, or at once an approximation that is refused where it is bad (nuts)",
    ),
    click.option("--draws", type=count, metavar="N", help="draws a chain that are kept (1000)"),
    click.option("--tune", type=count, metavar="N", help="draws a chain for adaptation (500)"),
    click.option("--chains", type=count, metavar="N", help="chains (4)"),
    click.option("--seed", "random_seed", type=seed, metavar="N", help="the same seed gives the same draws (0)"),
)
SIZE: Final = together(
    click.option("--flops", type=size, metavar="C", help="budget: at the compute-optimal size"),
    click.option("--params", type=size, metavar="N", help="parameters of the run, instead"),
    click.option("--tokens", type=size, metavar="D", help="tokens of the run"),
)
KIND: Final = click.option(
    "--kind",
    type=click.Choice(_KINDS),
    metavar="predictive|mean",
    default="predictive",
    help="losses of single runs, which scatter, or their mean, the law (predictive); `run` and `curve` are accepted",
)
QUANTILES: Final = click.option(
    "--quantiles", type=levels, metavar="Q,Q,...", help="levels of the table, such as 0.05,0.5,0.95"
)
BACKTEST_NAMES: Final = ("--backtest", "--rollout", "backtest_file")
WEIGHTS: Final = click.option("--weights", type=positives, metavar="W,W,...", help="of the evaluations (equal)")
