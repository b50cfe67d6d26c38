"""TOML files, read into plain tables: mapping files and model files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bayes_l2l.errors import SpecError

#: Tables and lists within each other; no file of ours has more than ten.
DEEPEST: Final = 40
_LARGEST: Final = 2**63  # integers of TOML 1.0 have 64 bits


def read_toml(path: Path, *, what: str) -> dict[str, Any]:
    """Read a file.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What messages call it, with its name.

    Returns
    -------
    dict
        As parsed; integers fit into 64 bits.

    Raises
    ------
    SpecError
        If it cannot be read or is not TOML.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{what} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise SpecError(f"{what} is refused: its tables or lists are nested too deep") from None
    except ValueError as error:  # of the parser, of UTF-8, or of an integer of thousands of digits
        parsed = isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError)
        reason = str(error) if parsed else "it has a number of thousands of digits"
        raise SpecError(f"{what} is not TOML: {reason}") from None
    _check(record, what)
    return record


def _check(record: dict[str, Any], what: str) -> None:
    """Refuse what no file of ours holds, and what follows could not bear; without recursion."""
    todo: list[tuple[str, Any, int]] = [("", record, 0)]
    while todo:
        place, value, depth = todo.pop()
        if depth > DEEPEST:
            raise SpecError(f"{what} is refused: its tables or lists are nested too deep")
        if isinstance(value, Mapping):
            todo += [(f"{place}.{key}".lstrip("."), one, depth + 1) for key, one in value.items()]
        elif isinstance(value, list):
            todo += [(f"{place}[{i}]", one, depth + 1) for i, one in enumerate(value)]
        elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise SpecError(f"{what} is not TOML: {place} is an integer of more than 64 bits")
