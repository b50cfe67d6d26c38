"""How notebooks show an object: a headline, what it says, a short table, and its notes, as HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

#: Rows that a notebook is shown; the table itself has all.
MOST_ROWS: Final = 20
#: Levels of the intervals that are shown.
SHOWN: Final = (0.05, 0.5, 0.95)


def as_html(
    headline: str, *, said: Iterable[str] = (), table: pd.DataFrame | None = None, notes: Iterable[object] = ()
) -> str:
    """Write an object as HTML.

    Parameters
    ----------
    headline : str
        What it is.
    said : iterable of str
        Sentences, a paragraph each.
    table : pandas.DataFrame, optional
        Shown to four digits, its first rows alone if there are many.
    notes : iterable of object
        Objections.
    """
    parts = [f"<p><b>{escape(headline)}</b></p>", *(f"<p>{escape(text)}</p>" for text in said)]
    if table is not None:
        parts.append(_table(table))
    if listed := "".join(f"<li>{escape(str(note))}</li>" for note in notes):
        parts.append(f"<ul>{listed}</ul>")
    return f"<div>{''.join(parts)}</div>"


def _table(table: pd.DataFrame) -> str:
    """The first rows of a table; columns that say the median twice, once."""
    table = table.drop(columns="q0.5", errors="ignore") if "median" in table else table
    shown = table.head(MOST_ROWS).to_html(index=False, border=0, na_rep="–", float_format=lambda x: f"{x:.4g}")
    left = len(table) - MOST_ROWS
    return shown + (f"<p>and {left} more rows: see the table</p>" if left > 0 else "")
