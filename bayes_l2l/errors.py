"""What a user can get wrong, as exceptions whose text is one clear sentence about what, where and what to do.

The command line prints ``str(error)`` and exits with 1; nothing else is ever shown for a user's mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 20


class L2LError(Exception):
    """Base of every error that an input of the user can cause."""


class TableError(L2LError):
    """A table that cannot be used, with everything that is wrong with it.

    Parameters
    ----------
    faults : iterable of str
        Every fault found, each with its row and column. At least one.
    table : str
        What the table is called in the heading, usually its file name.

    Attributes
    ----------
    faults : tuple of str
        All faults; ``str(error)`` lists the first 20 of them.
    """

    def __init__(self, faults: Iterable[str], *, table: str = "the table") -> None:
        self.faults = tuple(faults)
        self.table = table
        count = len(self.faults)
        lines = [f"{table} is refused: {count} fault{'' if count == 1 else 's'} found."]
        lines += [f"  {fault}" for fault in self.faults[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"  and {count - _SHOWN} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        # The default rebuilds an exception from its text, which is not what __init__ takes.
        return _table_error, (self.faults, self.table)


def _table_error(faults: tuple[str, ...], table: str) -> TableError:
    return TableError(faults, table=table)


class SpecError(L2LError):
    """A model file, prior or column mapping with an unknown key, a wrong value or a missing part."""


class DataError(L2LError):
    """A data set, file, training set, evaluation or cell that is not there, or not what it should be."""


class FitFileError(L2LError):
    """A saved fit that cannot be read: damaged, of another kind, or of an unknown format version."""


class ApproximationError(L2LError):
    """A posterior that method "laplace" cannot draw from: NUTS can."""


class ForecastError(L2LError):
    """A forecast or comparison of forecasts that was asked for wrongly."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Suggest what a name was meant to be, for the end of an error message.

    Parameters
    ----------
    name : str
        The name that is unknown.
    options : iterable of str
        The names that are known.

    Returns
    -------
    str
        Such as ``"; did you mean 'params'?"``, or empty if no option is close to the name in whatever case.
    """
    lowered = {str(option).lower(): str(option) for option in options}
    close = get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.7)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""
