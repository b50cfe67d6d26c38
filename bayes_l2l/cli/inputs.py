"""Tables that commands read besides runs and fits: points, candidates, forecasts, and what then happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from bayes_l2l.cli.options import positive
from bayes_l2l.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Cell, EvalSets, Sweep
    from bayes_l2l.fits import Fit


def which_evaluations(names: list[str] | None) -> EvalSets:
    """Read ``--eval-set``: names, or one word for the train losses or for all."""
    match names:
        case ["own" | "train"]:
            return "train"
        case ["all"]:
            return "all"
        case _:
            return names


def read_table(path: str) -> pd.DataFrame:
    """Any table, its numbers as numbers; what it must hold is for its user to say."""
    from bayes_l2l.data.columns import SIZES
    from bayes_l2l.data.tables import RawTable, as_sizes, typed

    raw = RawTable.read(path)
    frame = raw.each_once()
    names = ("train_set", "eval_set", "run_id", "kind")
    numbers = {
        str(c): typed(as_sizes(frame[c]) if c in SIZES else frame[c]) for c in frame if raw.text and c not in names
    }
    return frame.assign(**numbers)


def read_candidates(path: str) -> pd.DataFrame:
    """Runs that could be made, of a file."""
    from bayes_l2l.data.tables import RawTable
    from bayes_l2l.data.validation import candidates

    return candidates(RawTable.read(path))


def read_points(at: str, fit: Fit) -> pd.DataFrame:
    """Points of a file, or the large runs of a known data set for the fitted cells."""
    from bayes_l2l.data import sweep
    from bayes_l2l.data.datasets import is_known

    if is_known(at):
        large = large_runs_of(at, [*fit.cells, *fit.error_cells]).table
        return large[["train_set", "eval_set", "params", "tokens", "flops"]]
    return sweep.read_points(at)


def read_given(words: Sequence[str]) -> Mapping[Cell, float] | pd.DataFrame:
    """Losses that a run is seen to have: ``EVAL@TRAIN=LOSS`` each, or one table of them."""
    if len(words) == 1 and words[0].endswith((".csv", ".parquet")):
        return read_table(words[0])
    found: dict[Cell, float] = {}
    for word in words:
        cell, _, loss = word.rpartition("=")
        if not cell:
            raise click.BadParameter(f"{word!r} is not EVAL@TRAIN=LOSS (such as c4@web=2.31)", param_hint="--given")
        if cell in found:
            raise click.BadParameter(f"{cell!r} is given twice", param_hint="--given")
        found[cell] = positive(loss)
    return found


def read_bounds(words: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Bounds of weights: ``DOMAIN=LOW:HIGH`` each."""
    found: dict[str, tuple[float, float]] = {}
    for word in words:
        domain, _, span = word.rpartition("=")
        low, _, high = span.partition(":")
        try:
            found[domain] = float(low), float(high)
        except ValueError:
            raise click.BadParameter(
                f"{word!r} is not DOMAIN=LOW:HIGH (such as github=0:0.1)", param_hint="--bound"
            ) from None
    return found


def large_runs_of(name: str, cells: Sequence[tuple[str, str]]) -> Sweep:
    """Large runs of a known data set, those of the cells that are meant."""
    import pandas as pd

    from bayes_l2l.data.datasets import large_runs

    sweep = large_runs(name, eval_sets="all")
    wanted = pd.DataFrame(list(dict.fromkeys(cells)), columns=["eval_set", "train_set"])
    table = sweep.table.merge(wanted, on=["eval_set", "train_set"])
    if table.empty:
        raise DataError(f"none of the large runs of {name} is of a training set and evaluation that is meant here")
    return replace(sweep, table=table)
