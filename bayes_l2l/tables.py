"""A table as it is found, in a file or a data frame, and its cells as names and numbers.

Nothing here stops at the first fault of a cell: each one adds a sentence with its row and column to a list.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_l2l.errors import DataError, TableError

if TYPE_CHECKING:
    import pandas as pd

_BLANKS = frozenset({"", "nan", "na", "n/a", "null", "none"})  # text that stands for no number


@dataclass(frozen=True)
class RawTable:
    """A table as it was found, with what a person calls each of its rows.

    Parameters
    ----------
    frame : pandas.DataFrame
        Cells as read; those of a CSV file are all text.
    rows : sequence of str
        ``"row 2"`` is the first row below the header of a file; rows of a data frame go by their index.
    name : str
        What messages call the table.
    text : bool
        Whether the cells are text that has yet to be typed.
    """

    frame: pd.DataFrame
    rows: Sequence[str]
    name: str
    text: bool = False

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, name: str = "the table") -> RawTable:
        """Take a data frame; it is not changed."""
        named = frame.set_axis([str(column) for column in frame.columns], axis=1)
        return cls(named, [f"index {label}" for label in frame.index], name)

    @classmethod
    def read(cls, path: str | Path) -> RawTable:
        """Read a CSV or Parquet file, told by its suffix.

        Raises
        ------
        DataError
            If there is no such file, or it is neither CSV nor Parquet.
        TableError
            If it is damaged, empty, or has rows that are longer or shorter than its header.
        """
        path = Path(path)
        if path.suffix.lower() not in (".csv", ".parquet"):
            raise DataError(f"{path} is neither .csv nor .parquet; save the table as one of the two")
        if not path.is_file():
            raise DataError(f"there is no file {path}")
        return _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)


def _read_csv(path: Path) -> RawTable:
    import pandas as pd

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [
                (f"row {number}", cells)
                for number, cells in enumerate(csv.reader(file), start=1)
                if any(cell.strip() for cell in cells)
            ]
    except UnicodeDecodeError as error:
        raise TableError([f"it is not UTF-8 text (byte {error.start})"], table=path.name) from error
    except (csv.Error, OSError) as error:
        raise TableError([f"it cannot be read as CSV: {error}"], table=path.name) from error
    if not lines:
        raise TableError(["the file is empty"], table=path.name)
    (_, header), *body = lines
    ragged = [
        f"{row} has {len(cells)} cells, but the header has {len(header)}"
        for row, cells in body
        if len(cells) != len(header)
    ]
    if ragged:
        raise TableError(ragged, table=path.name)
    frame = pd.DataFrame([cells for _, cells in body], columns=[name.strip() for name in header], dtype=object)
    return RawTable(frame, [row for row, _ in body], path.name, text=True)


def _read_parquet(path: Path) -> RawTable:
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(["it is damaged or is not a Parquet file"], table=path.name) from error
    return RawTable(frame, [f"row {number}" for number in range(2, len(frame) + 2)], path.name)


def typed(cells: pd.Series) -> pd.Series:
    """Return text as numbers if all of it is."""
    import pandas as pd

    numbers = pd.to_numeric(cells.where(cells != ""), errors="coerce")
    return cells.astype(str) if (numbers.isna() & (cells != "")).any() else numbers


def ids(cells: pd.Series, rows: pd.Series, column: str, faults: list[str]) -> pd.Series:
    """Return names as text without surrounding space; blank ones become missing, and a fault."""
    text = cells.astype(str).str.strip()
    blank = cells.isna() | (text == "")
    faults += [f"{row}, column {column!r}: blank" for row in rows[blank]]
    return text.mask(blank)


def is_blank(cells: pd.Series) -> pd.Series:
    """Return where cells hold no value: missing, or text that stands for that."""
    return cells.isna() | cells.astype(str).str.strip().str.lower().isin(_BLANKS)


def _number(cell: Any) -> float:
    """Return the cell as a float: NaN where it is blank, and a ValueError where it is not a number."""
    if isinstance(cell, str) and cell.strip().lower() in _BLANKS:
        return math.nan
    try:
        return float(cell)
    except TypeError:
        if cell is None or type(cell).__name__ == "NAType":
            return math.nan
        raise ValueError from None
    except OverflowError:  # an integer beyond float64
        return math.inf


def numbers(
    cells: pd.Series,
    rows: pd.Series,
    column: str,
    faults: list[str],
    *,
    blank_ok: bool = False,
    zero_ok: bool = False,
    top: float = math.inf,
) -> pd.Series:
    """Return cells as finite float64.

    Parameters
    ----------
    cells, rows : pandas.Series
        The cells, and what a person calls their rows.
    column : str
        What a person calls the column.
    faults : list of str
        Gets a sentence for each cell that is refused; the cell becomes NaN.
    blank_ok : bool, default False
        Whether cells may be blank.
    zero_ok : bool, default False
        Whether zero is accepted; negative numbers never are.
    top : float, optional
        Largest number accepted.

    Returns
    -------
    pandas.Series
        On the same index.
    """
    import pandas as pd

    values = np.full(len(cells), math.nan)
    for i, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        wrong = None
        try:
            value = _number(cell)
        except ValueError:
            wrong = f"{str(cell)!r} is not a number"
        else:
            if math.isnan(value):
                wrong = None if blank_ok else "blank or NaN"
            elif math.isinf(value):
                wrong = f"{value:g} is not finite"
            elif value < 0 or (value == 0 and not zero_ok):
                wrong = f"{value:g} must be {'at least' if zero_ok else 'above'} 0"
            elif value > top:
                wrong = f"{value:g} must be a fraction, at most {top:g}; not percent"
            else:
                values[i] = value
        if wrong:
            faults.append(f"{row}, column {column!r}: {wrong}")
    return pd.Series(values, index=cells.index)
