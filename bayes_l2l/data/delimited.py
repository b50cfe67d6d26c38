"""Text with commas, semicolons or tabs between cells as rows of cells; with semicolons go decimal commas."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

_SEPARATORS: Final = ",;\t"  # the first wins a tie
_LOOKED_AT: Final = 50  # rows
_DECIMAL_COMMA: Final = re.compile(
    r"[+-]?\d{1,3}(\.\d{3})*,\d+(e[+-]?\d+)?%?|[+-]?\d+,\d+(e[+-]?\d+)?%?", re.IGNORECASE
)
#: What could also be thousands: 1,234.
_EITHER: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_DECIMAL_POINT: Final = re.compile(r"[+-]?\d+\.\d+(e[+-]?\d+)?%?", re.IGNORECASE)


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read a text file; its separator is the one that makes a table of it.

    Parameters
    ----------
    path : Path
        UTF-8 text.

    Returns
    -------
    list of (int, list of str)
        Number of the row, the header being 1, and its cells; rows without any text are left out. Where semicolons
        separate and numbers have decimal commas, they get decimal points.

    Raises
    ------
    OSError, UnicodeDecodeError, csv.Error
        If it cannot be read as such.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        separator = separator_of(file.read(1 << 20))
        file.seek(0)
        rows = [
            (number, cells)
            for number, cells in enumerate(csv.reader(file, delimiter=separator), start=1)
            if "".join(cells).strip()
        ]
    if rows:  # the mark of the byte order comes back with seek
        rows[0] = (rows[0][0], [rows[0][1][0].lstrip("\ufeff"), *rows[0][1][1:]])
    return _with_points(rows) if separator == ";" else rows


def separator_of(text: str) -> str:
    """Find what separates cells: rows as long as the header, then the longest header, then the comma decide.

    Parameters
    ----------
    text : str
        The beginning of a file.

    Returns
    -------
    str
        A comma, a semicolon or a tab.
    """

    def fits(separator: str) -> tuple[bool, int]:
        """How well a separator does."""
        lines = (line for line in text.splitlines() if line.strip())
        try:
            rows = [
                cells for cells, _ in zip(csv.reader(lines, delimiter=separator), range(_LOOKED_AT), strict=False)
            ]
        except csv.Error:
            return False, 0
        lengths = [len(cells) for cells in rows] or [0]
        return lengths[0] > 1 and max(lengths) == min(lengths), lengths[0]

    return max(_SEPARATORS, key=fits)


def _with_points(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Cells with decimal points, if what they have are decimal commas."""
    body = [cell.strip() for _, cells in rows[1:] for cell in cells]
    commas = any(_DECIMAL_COMMA.fullmatch(cell) and not _EITHER.fullmatch(cell) for cell in body)
    if not commas or any(
        _DECIMAL_POINT.fullmatch(cell) and not re.fullmatch(r"\d{1,3}\.\d{3}", cell) for cell in body
    ):
        return rows
    return [rows[0], *((number, [_point(cell) for cell in cells]) for number, cells in rows[1:])]


def _point(cell: str) -> str:
    bare = cell.strip()
    if _DECIMAL_COMMA.fullmatch(bare):
        return bare.replace(".", "").replace(",", ".")
    return bare.replace(".", "") if re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+", bare) else cell
