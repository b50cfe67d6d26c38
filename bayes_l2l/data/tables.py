"""A table as it is found, in a file or a data frame, and its cells as names and numbers.

Nothing here stops at the first fault of a cell: each one adds a sentence with its row and column to a list.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.delimited import read_rows
from bayes_l2l.data.numerals import read_number
from bayes_l2l.errors import DataError, TableError
from bayes_l2l.files import unguarded

if TYPE_CHECKING:
    import pandas as pd

_TEXT_SUFFIXES = (".csv", ".tsv")
_WHOLE_COLUMN = 4  # fewer wrong cells are said one by one
_BLANKS = frozenset({"", "nan", "na", "n/a", "null", "none"})  # text that stands for no number
# Control characters, and halves of characters that have no encoding.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


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
        """Read a CSV (also .tsv) or Parquet file, told by its suffix; separators are found out.

        Raises
        ------
        DataError
            If there is no such file, or it is neither CSV nor Parquet.
        TableError
            If it is damaged, empty, or has rows that are longer or shorter than its header.
        """
        path = Path(path)
        if path.suffix.lower() not in (*_TEXT_SUFFIXES, ".parquet"):
            raise DataError(f"{path} is neither .csv nor .parquet; save the table as one of the two")
        if not path.is_file():
            raise DataError(f"there is no file {path}")
        return _read_csv(path) if path.suffix.lower() in _TEXT_SUFFIXES else _read_parquet(path)

    @property
    def repeated(self) -> list[str]:
        """What is wrong where several columns have one name, a sentence each."""
        names = self.frame.columns[self.frame.columns.duplicated()].unique()
        return [f"more than one column is called {name!r}; keep one" for name in names]

    def each_once(self) -> pd.DataFrame:
        """The cells, of which every column is there once.

        Raises
        ------
        TableError
            If several columns have one name.
        """
        if self.repeated:
            raise TableError(self.repeated, table=self.name)
        return self.frame


def _read_csv(path: Path) -> RawTable:
    import pandas as pd

    try:
        # Lists would be gone through by the collector of cycles.
        with_marks = b"'" in path.read_bytes()
        lines = [
            (f"row {number}", tuple(map(unguarded, cells) if with_marks else cells))
            for number, cells in read_rows(path)
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
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # What pandas noted in the file is not needed, and may be empty or wrong.
        table = parquet.read_table(path).replace_schema_metadata(None)
        table.validate(full=True)  # text that is no UTF-8 is read as if it were
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(["it is damaged or is not a Parquet file"], table=path.name) from error
    kinds = dict(zip(table.column_names, table.schema.types, strict=True))
    if coded := [name for name, kind in kinds.items() if pa.types.is_binary(kind) or pa.types.is_large_binary(kind)]:
        raise TableError([f"column {name!r} holds bytes; give text" for name in coded], table=path.name)
    frame = table.to_pandas()
    frame = frame.drop(columns=[name for name in frame if str(name).startswith("__index_level_")])
    return RawTable(frame, [f"row {number}" for number in range(2, len(frame) + 2)], path.name)


def typed(cells: pd.Series) -> pd.Series:
    """Return text as numbers if all of it is."""
    import pandas as pd

    numbers = pd.to_numeric(cells.where(cells != ""), errors="coerce")
    return cells.astype(str) if (numbers.isna() & (cells != "")).any() else numbers


def as_sizes(cells: pd.Series) -> pd.Series:
    """Return text such as 7b or 19,500,000 as plain digits; other text stays."""

    def plain(cell: str) -> str:
        """A cell."""
        try:
            return repr(read_number(cell))
        except ValueError:
            return cell

    return cells.map(plain)


def ids(cells: pd.Series, rows: pd.Series, column: str, faults: list[str]) -> pd.Series:
    """Return names as text without surrounding space; blank ones become missing, and a fault.

    So do names that no file of a fit can hold, or that a terminal would act on: with control characters.
    """
    text = cells.astype(str).str.strip()
    blank = cells.isna() | (text == "")
    faults += of_column(column, [(row, "blank") for row in rows[blank]], len(cells))
    # Not `unique`: to older pandas text ends at a null character.
    unwritable = {name for name in set(text[~blank].to_list()) if _UNWRITABLE.search(name)}
    odd = text.isin(unwritable) & ~blank
    faults += [
        f"{row}, column {column!r}: {name!r} has a control character; a name is plain text"
        for row, name in zip(rows[odd], text[odd], strict=True)
    ]
    return text.mask(blank | odd)


def of_column(column: str, wrong: Sequence[tuple[str, str]], n_cells: int) -> list[str]:
    """Say what is wrong with a column's cells: of each, or in one sentence if it is most of them.

    Parameters
    ----------
    column : str
        What a person calls the column.
    wrong : sequence of (str, str)
        Row, and what is wrong there.
    n_cells : int
        How many cells the column has.

    Returns
    -------
    list of str
        Sentences; the one of a whole column has the first row of each of its first three kinds of fault.
    """
    if len(wrong) < _WHOLE_COLUMN or 2 * len(wrong) <= n_cells:
        return [f"{row}, column {column!r}: {what}" for row, what in wrong]
    first = {re.sub(r"\d[\d.,e+-]*|'.*'", "", what): (row, what) for row, what in reversed(wrong)}
    said = "; ".join(f"{what} ({row})" for row, what in list(reversed(first.values()))[:3])
    which = "all" if len(wrong) == n_cells else f"{len(wrong)} of"
    return [f"column {column!r}: {which} {n_cells} cells are refused: {said}"]


def is_blank(cells: pd.Series) -> pd.Series:
    """Return where cells hold no value: missing, or text that stands for that."""
    return cells.isna() | cells.astype(str).str.strip().str.lower().isin(_BLANKS)


def _number(cell: Any) -> float:
    """Return the cell as a float: NaN where it is blank, and a ValueError where it is not a number."""
    if isinstance(cell, bool | np.bool_):  # a float to Python
        raise ValueError
    if isinstance(cell, str) and cell.strip().lower() in _BLANKS:
        return math.nan
    try:
        return read_number(cell) if isinstance(cell, str) else float(cell)
    except TypeError:
        if cell is None or type(cell).__name__ == "NAType":
            return math.nan
        raise ValueError from None
    except OverflowError:  # an integer beyond float64
        return math.inf


def _plain(cells: pd.Series, *, blank_ok: bool) -> npt.NDArray[np.float64] | None:
    """Return cells as numbers if all are, by a way that takes no time for each; None if any must be looked at."""
    import pyarrow as pa

    if cells.dtype.kind in "fiu":
        values = cells.to_numpy(dtype=float)
        return None if not blank_ok and np.isnan(values).any() else values
    blank = (cells.isna() | (cells == "")).to_numpy(dtype=bool)
    if blank.any() and not blank_ok:
        return None
    values = np.full(len(cells), math.nan)
    try:
        # Stricter than Python, which reads 1_000 as a number, too.
        text = pa.array(cells[~blank].to_numpy(dtype=object), type=pa.string())
        values[~blank] = text.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError, ValueError):
        return None
    return None if np.isnan(values[~blank]).any() else values


def _within(values: npt.NDArray[np.float64], *, zero_ok: bool, top: float) -> bool:
    above = values >= 0 if zero_ok else values > 0
    return bool((above & np.isfinite(values) & (values <= top)).all())


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

    plain = _plain(cells, blank_ok=blank_ok)
    if plain is not None and _within(plain[~np.isnan(plain)], zero_ok=zero_ok, top=top):
        return pd.Series(plain, index=cells.index)
    values = np.full(len(cells), math.nan)
    wrongs: list[tuple[str, str]] = []
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
            wrongs.append((row, wrong))
    faults += of_column(column, wrongs, len(cells))
    return pd.Series(values, index=cells.index)
