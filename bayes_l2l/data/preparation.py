"""What a mapping asks to be done to a table before it is read: rows left out, products, constants, units, names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from bayes_l2l.data.columns import EVERY, RATE_UNITS, SIZE_UNITS, ColumnMap
from bayes_l2l.data.mixtures import PREFIX
from bayes_l2l.data.numerals import read_number
from bayes_l2l.errors import did_you_mean
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd


def prepare(
    frame: pd.DataFrame, rows: Sequence[str], columns: ColumnMap, faults: list[str]
) -> tuple[pd.DataFrame, Sequence[str], ColumnMap, tuple[Note, ...]]:
    """Do what a mapping asks for beyond names.

    Parameters
    ----------
    frame : pandas.DataFrame
        As found, with unique column names; it is not changed.
    rows : sequence of str
        What a person calls its rows.
    columns : ColumnMap
        The mapping.
    faults : list of str
        Gets a sentence for each column that is not there.

    Returns
    -------
    frame : pandas.DataFrame
        With the rows that are kept, and columns for products and constants.
    rows : sequence of str
        Those of the frame.
    columns : ColumnMap
        A mapping of names alone.
    notes : tuple of Note
        Which rows were left out.
    """
    frame, rows, notes = _only(frame, rows, columns, faults)
    names = {name: column for name, column in columns.columns.items() if isinstance(column, str)}
    made: dict[str, Any] = {}
    for name, factors in columns.columns.items():
        if not isinstance(factors, str):
            names[name] = " * ".join(map(str, factors))
            cells = _cells(frame, factors, f"which {columns.source} names in {name}", faults)
            join = _joined if name == "run_id" else _product
            made[names[name]] = [join(row) for row in cells]
    for name, value in columns.constants.items():
        if name in frame:
            faults.append(
                f"there is a column {name!r}, but {columns.source} says that it is {value!r} in every row; keep one"
            )
        names[name] = f"{name}, the constant of {columns.source}"
        made[names[name]] = [value] * len(frame)
    if made:
        frame = frame.assign(**made)
    named = {column: PREFIX + domain for domain, column in columns.weights.items()}
    faults += [
        f"there is no column {column!r}, which {columns.source} names in [weights]"
        f"{did_you_mean(column, frame.columns)}"
        for column in named
        if column not in frame
    ]
    frame = frame.rename(columns=named)
    for name, unit in columns.units.items():
        column = columns.evaluations[name][0] if name in columns.evaluations else names.get(name, name)
        if column in frame:
            frame = frame.assign(**{column: [_in_units(cell, unit) for cell in frame[column]]})
    return frame, rows, replace(columns, columns=names, where={}, constants={}, units={}), notes


def name_own(table: pd.DataFrame, columns: ColumnMap) -> tuple[Note, ...]:
    """Name evaluations on training sets' own data by these, in place; the note says which have another name now."""
    before = table["eval_set"]
    after = before.replace(columns.eval_names)
    if EVERY in columns.own and "train_set" in table:
        after = after.mask(before == columns.own[EVERY], table["train_set"])
    table["eval_set"] = after
    there = set(before.dropna())
    renamed = {
        name: "its run's training set" if train_set == EVERY else train_set
        for train_set, name in columns.own.items()
        if name in there and name != train_set
    }
    if not renamed:
        return ()
    said = ", ".join(
        f"{old!r} by {new if new == renamed.get(columns.own.get(EVERY, '')) else repr(new)}"
        for old, new in renamed.items()
    )
    message = f"train losses are named by their training sets, as [own] of {columns.source} says: {said}"
    return (Note("renamed_evaluations", "info", message, {"names": renamed}),)


def _only(
    frame: pd.DataFrame, rows: Sequence[str], columns: ColumnMap, faults: list[str]
) -> tuple[pd.DataFrame, Sequence[str], tuple[Note, ...]]:
    """Keep the rows that ``where`` asks for."""
    import numpy as np

    kept = np.ones(len(frame), dtype=bool)
    for column, wanted in columns.where.items():
        if column not in frame:
            hint = did_you_mean(column, frame.columns)
            faults.append(f"there is no column {column!r}, which {columns.source} asks for in [where]{hint}")
            continue
        values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
        kept &= [any(_same(cell, value) for value in values) for cell in frame[column]]
    left_out = int((~kept).sum())
    if not left_out:
        return frame, rows, ()
    asked = " and ".join(f"{column} = {wanted!r}" for column, wanted in columns.where.items())
    if not kept.any():
        faults.append(f"none of the {len(frame)} rows has {asked}, as {columns.source} asks in [where]")
    others = {
        column: sorted({str(cell) for cell in frame[column][~kept]})[:5]
        for column in columns.where
        if column in frame
    }
    message = f"{left_out} of {len(frame)} rows are left out: only those with {asked} are read"
    note = Note("rows_left_out", "info", message, {"rows": left_out, "values": others})
    return frame[kept].reset_index(drop=True), [row for row, keep in zip(rows, kept, strict=True) if keep], (note,)


def _same(cell: object, value: object) -> bool:
    """Whether a cell says a value: as text in any case, or as a number."""
    if str(cell).strip().casefold() == str(value).strip().casefold():
        return True
    try:
        return read_number(str(cell)) == read_number(str(value))
    except ValueError:
        return False


def _cells(frame: pd.DataFrame, parts: Sequence[str | float], said: str, faults: list[str]) -> list[tuple[Any, ...]]:
    """Cells of several columns, and numbers, row by row."""
    absent = [one for one in parts if isinstance(one, str) and one not in frame]
    faults += [f"there is no column {one!r}, {said}{did_you_mean(one, frame.columns)}" for one in absent]
    if absent:
        return [()] * len(frame)
    return list(zip(*(frame[one] if isinstance(one, str) else [one] * len(frame) for one in parts), strict=True))


def _joined(cells: Sequence[Any]) -> str:
    return " ".join(str(cell).strip() for cell in cells)


def _product(cells: Sequence[Any]) -> Any:
    return reduce(_times, cells, 1.0)


def _times(so_far: Any, cell: Any) -> Any:
    """A product; what is no number takes its place, to be refused, or to be blank, where it stands."""
    value = _value(cell)
    return (
        so_far * value
        if isinstance(so_far, float) and isinstance(value, float)
        else (cell if isinstance(so_far, float) else so_far)
    )


def _in_units(cell: Any, unit: str) -> Any:
    """A cell in what is counted here: plain numbers, nats, fractions. Cells that are no plain number stay."""
    value = _value(cell)
    if not isinstance(value, float) or (isinstance(cell, str) and not _is_plain(cell)):
        return cell
    if unit == "perplexity":
        return math.log(value) if value > 0 else cell
    if unit == "bits":
        return value * math.log(2)
    return value / 100 if unit in RATE_UNITS else value * SIZE_UNITS[unit]


def _is_plain(cell: str) -> bool:
    """Whether a number does not say its unit itself."""
    return not cell.strip()[-1:].isalpha() and "%" not in cell


def _value(cell: Any) -> Any:
    """A cell as a float, or as it is."""
    try:
        return read_number(cell) if isinstance(cell, str) else float(cell)
    except (TypeError, ValueError, OverflowError):
        return cell
