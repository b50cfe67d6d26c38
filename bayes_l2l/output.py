"""Files that the commands write: refused before the work starts if they cannot be, then whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TABLE_SUFFIXES: Final = (".csv", ".parquet")
PICTURE_SUFFIXES: Final = (".png", ".pdf", ".svg")
PAGE_SUFFIXES: Final = (".html",)
#: Digits of a number in CSV: more than any loss is known to, and whole numbers of tokens stay whole.
_DIGITS: Final = "%.10g"


def check_output(path: Path, *, inputs: tuple[str | Path, ...] = (), suffixes: tuple[str, ...] = ()) -> None:
    """Refuse a path that could not be written in the end, by trying.

    Parameters
    ----------
    path : Path
        File that is to be written.
    inputs : tuple of str or Path
        Files that are read: none of them is overwritten.
    suffixes : tuple of str
        Endings that its name may have; any if there are none.

    Raises
    ------
    DataError
        If it is a folder or an input, has another ending, or its folder is absent or not writable.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise DataError(f"{path} cannot be written: its name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise DataError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    for source in inputs:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise DataError(f"{path} is what is read; write to another file")
    write_whole(path, Path.touch, keep=False)


def write_whole(path: Path, write: Callable[[Path], Any], *, keep: bool = True) -> None:
    """Write a file beside its place and move it there when it is complete.

    Parameters
    ----------
    path : Path
        Its place; what is there is replaced.
    write : callable
        Writes the file at the path that it is given.
    keep : bool, default True
        Whether to move it; otherwise it is thrown away.

    Raises
    ------
    DataError
        If the folder cannot be written to, or is full.
    """
    # The ending stays, because it tells matplotlib the format.
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        write(part)
        if keep:
            part.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet, by the ending of its name."""
    if path.suffix.lower() == ".parquet":
        write_whole(path, lambda part: table.to_parquet(part, engine="pyarrow", index=False))
    else:
        write_whole(path, lambda part: part.write_text(as_csv(table), encoding="utf-8"))


def write_picture(picture: Figure, path: Path) -> None:
    """Write a picture in the format that the ending of its name says."""
    write_whole(path, lambda part: picture.savefig(part, dpi=150))


def as_csv(table: pd.DataFrame) -> str:
    """Format a table as CSV text."""
    return str(table.to_csv(index=False, float_format=_DIGITS, lineterminator="\n"))
