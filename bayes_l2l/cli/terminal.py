"""Tables for the eye: aligned, rounded, and no wider than the terminal. CSV has every column and digit."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bayes_l2l.data.numerals import write_size
from bayes_l2l.posterior.draws import QUANTILES

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Columns that a narrow terminal can do without, the first to go first; then numbers from the right.
_DISPENSABLE: Final = (
    ("q0.5",),  # the median again
    ("tokens_q*",),  # those of the parameters say the same
    ("*_exponent*",),  # said in a sentence
    ("interval_score*",),
    ("run_id",),
    ("q0.25", "q0.75"),
    ("q0.1", "q0.9"),
    ("q0.025", "q0.975"),
    ("coverage50", "width50", "in50"),
    ("coverage80", "width80", "in80"),
    ("coverage95", "width95", "in95"),
    ("kind",),
    ("flops",),
    ("sd",),
    ("mean",),
)
#: Columns of one quantity are rounded alike.
_LOCATIONS: Final = re.compile(r"mean|median|actual|q0?\.\d+")
#: Columns that are written as people write sizes, and as factors.
_SIZES: Final = ("params", "tokens")
_TIMES: Final = ("extrapolation",)
_ALL_QUANTILES: Final = tuple(f"q{level:g}" for level in QUANTILES)
_DECIMALS: Final = 4
_GAP: Final = 2
_INTERVAL: Final = "90% interval"
_BLANK: Final = "–"


def print_table(table: pd.DataFrame) -> list[str]:
    """Print a table on the terminal.

    What is the same in every row stands above it, once; a table of one row is printed downwards.

    Parameters
    ----------
    table : DataFrame
        Columns of numbers and of names.

    Returns
    -------
    list of str
        Columns that were left out, since they do not fit.
    """
    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    table, texts, unsaid = short(table)
    if len(table) == 1:
        _print_record(console, texts)
        return unsaid
    same = {name: cells[0] for name, cells in texts.items() if len(table) and len(set(cells)) == 1}
    if same and len(same) < len(texts):
        console.print(Text(", ".join(f"{name} {cell}" for name, cell in same.items())), end="\n\n")
        texts = {name: cells for name, cells in texts.items() if name not in same}
    numbers = {str(name) for name in table if _is_number(table[name])}
    left_out = too_wide(texts, numbers, console.width)
    _print_columns(console, {name: cells for name, cells in texts.items() if name not in left_out}, numbers)
    return [*left_out, *unsaid]


def short(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]], list[str]]:
    """Keep what matters of a posterior: its median, and one interval instead of many quantiles.

    Parameters
    ----------
    table : DataFrame
        Columns of numbers and of names.

    Returns
    -------
    DataFrame
        With a column for the 90% interval, if it had the quantiles that a table has unless others are asked for.
    dict of str to list of str
        Its cells as they are shown.
    list of str
        Columns that it no longer has.
    """
    if not {"median", *_ALL_QUANTILES} <= set(table):
        return table, as_texts(table), []
    unsaid = [str(name) for name in table if name in ("mean", "sd") or re.fullmatch(r"q0?\.\d+", str(name))]
    of_interval = as_texts(table[["median", "q0.05", "q0.95"]])
    pairs = zip(of_interval["q0.05"], of_interval["q0.95"], strict=True)
    kept = table.drop(columns=unsaid)
    at = list(kept).index("median") + 1
    kept.insert(at, _INTERVAL, [_BLANK if low == _BLANK else f"[{low}, {high}]" for low, high in pairs])
    return kept, as_texts(kept) | {"median": of_interval["median"]}, unsaid


def as_texts(table: pd.DataFrame) -> dict[str, list[str]]:
    """Write the cells of a table, its numbers rounded.

    Parameters
    ----------
    table : DataFrame
        Columns of numbers and of names.

    Returns
    -------
    dict of str to list of str
        Cells of each column.
    """
    common = _locations(table)
    return {str(name): _as_text(str(name), column, common) for name, column in table.items()}


def _as_text(name: str, column: pd.Series, common: NDArray[np.float64]) -> list[str]:
    """Cells of a column; locations have the decimals that all of them need."""
    if not _is_number(column):
        return [_BLANK if pd.isna(cell) else str(cell) for cell in column]
    values = column.to_numpy(dtype=float)
    if name in _SIZES:
        return [_BLANK if np.isnan(value) else write_size(value) for value in values]
    if name in _TIMES:
        return [_BLANK if np.isnan(value) else f"{value:.3g}x" for value in values]
    return rounded(values, like=common if _LOCATIONS.fullmatch(name) else None)


def _locations(table: pd.DataFrame) -> NDArray[np.float64]:
    """Numbers of the columns that are rounded alike."""
    names = [name for name in table if _LOCATIONS.fullmatch(str(name)) and _is_number(table[name])]
    return table[names].to_numpy(dtype=float)


def rounded(values: NDArray[np.float64], *, like: NDArray[np.float64] | None = None) -> list[str]:
    """Write numbers with the digits that matter.

    Parameters
    ----------
    values : ndarray
        Numbers of a column; NaN is blank.
    like : ndarray, optional
        Numbers that decide how many decimals are written; `values` by default.

    Returns
    -------
    list of str
        Counts are whole, sizes like 3.31e9; other numbers have as many decimals as each other, four at most.
    """
    deciding = np.abs(values if like is None else like)
    deciding = deciding[np.isfinite(deciding) & (deciding > 0)]
    largest, smallest = (deciding.max(), deciding.min()) if deciding.size else (1.0, 1.0)
    if not 1e-2 <= largest < 1e6:
        written = [re.sub(r"e([+-])0*", _exponent, f"{value:.3g}") for value in values]
    else:
        whole = bool((deciding == np.round(deciding)).all())
        decimals = 0 if whole else int(np.clip(max(3 - _magnitude(largest), 2 - _magnitude(smallest)), 0, _DECIMALS))
        written = [f"{value:.{decimals}f}" for value in values]
    return [_BLANK if np.isnan(value) else text for value, text in zip(values, written, strict=True)]


def too_wide(texts: Mapping[str, Sequence[str]], numbers: set[str], width: int) -> list[str]:
    """Say which columns to leave out.

    Parameters
    ----------
    texts : mapping of str to sequence of str
        Cells of each column.
    numbers : set of str
        Names of the columns that may go; one of them stays.
    width : int
        Characters of a line.

    Returns
    -------
    list of str
        Names, in the order of the table. Columns of names stay, and are folded if need be.
    """
    space = {name: max(map(cell_len, (name, *cells))) + _GAP for name, cells in texts.items()}
    groups = [{name for name in texts if any(fnmatch(name, one) for one in group)} for group in _DISPENSABLE]
    groups += [{name} for name in reversed(list(texts)) if name in numbers]
    if next((name for name in texts if name in numbers), None) == "flops":  # then a row is of a budget
        groups = [group - {"flops"} for group in groups]
    for group in groups:
        if sum(space.values()) - _GAP <= width or not (numbers & space.keys()) - group:
            break
        space = {name: cells for name, cells in space.items() if name not in group}
    return [name for name in texts if name not in space]


def _print_record(console: Console, texts: Mapping[str, Sequence[str]]) -> None:
    table = _bare(show_header=False)
    for name, (cell,) in texts.items():
        table.add_row(Text(name, style="bold"), Text(cell))
    console.print(table)


def _print_columns(console: Console, texts: Mapping[str, Sequence[str]], numbers: set[str]) -> None:
    table = _bare()
    for name in texts:
        if name in numbers:
            table.add_column(Text(name), justify="right", no_wrap=True)
        else:
            table.add_column(Text(name), overflow="fold")
    for cells in zip(*texts.values(), strict=True):
        table.add_row(*map(Text, cells))
    console.print(table)


def _bare(*, show_header: bool = True) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=show_header)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _magnitude(value: float) -> int:
    return int(np.floor(np.log10(value)))


def _exponent(found: re.Match[str]) -> str:
    return "e-" if found[1] == "-" else "e"
