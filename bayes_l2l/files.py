"""Files that the commands write: refused before the work starts if they cannot be, then whole or not at all.

And the digest of the package's own code, which names what is kept between processes.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import os
import platform
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TABLE_SUFFIXES: Final = (".csv", ".parquet")
PICTURE_SUFFIXES: Final = (".png", ".pdf", ".svg")
PAGE_SUFFIXES: Final = (".html",)
#: What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection).
FORMULA_STARTS: Final = ("=", "+", "-", "@")
#: Digits of a number in CSV: more than any loss is known to, and whole numbers of tokens stay whole.
_DIGITS: Final = "%.10g"
#: Stands for this machine in the names of files that are being written.
_HOST: Final = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
#: Seconds after which a file that another machine began to write will not be finished.
_ABANDONED_AFTER: Final = 24 * 3600


def check_output(
    path: Path, *, inputs: tuple[str | Path, ...] = (), suffixes: tuple[str, ...] = (), size: int = 0
) -> None:
    """Refuse a path that could not be written in the end, by trying.

    Parameters
    ----------
    path : Path
        File that is to be written.
    inputs : tuple of str or Path
        Files that are read: none of them is overwritten.
    suffixes : tuple of str
        Endings that its name may have; any if there are none.
    size : int
        Bytes that there must be space for.

    Raises
    ------
    DataError
        If it is a folder or an input, has another ending, its folder is absent or not writable, or lacks the space.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise DataError(f"{path} cannot be written: its name must end in {' or '.join(suffixes)}")
    with _in_words(path):
        there = _status(path)
        if there and stat.S_ISDIR(there.st_mode):
            raise DataError(f"{path} is a folder; name a file in it")
        if there and not stat.S_ISREG(there.st_mode):
            raise DataError(f"{path} cannot be written: it is no ordinary file; name another")
        folder = _status(path.parent)
        if not folder or not stat.S_ISDIR(folder.st_mode):
            raise DataError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
        if there and _kept_by_others(there, folder):
            raise DataError(f"{path} cannot be written: it belongs to someone else; name another")
        for source in inputs:
            if there and os.path.exists(source) and path.samefile(source):  # noqa: PTH110 - any text is no file
                raise DataError(f"{path} is what is read; write to another file")
    write_whole(path, lambda part: _fill(part, size), keep=False)


def write_whole(path: Path, write: Callable[[Path], Any], *, keep: bool = True) -> None:
    """Write a file beside its place and move it there when it is complete.

    What others began to write there and did not finish, since they were killed, is removed.

    Parameters
    ----------
    path : Path
        Its place; what is there is replaced, and a link is followed.
    write : callable
        Writes the file at the path that it is given.
    keep : bool, default True
        Whether to move it; otherwise it is thrown away.

    Raises
    ------
    DataError
        If the folder cannot be written to, or is full.
    """
    with _in_words(path):
        place = Path(os.path.realpath(path))
        _remove_abandoned(place)
        part = place.with_name(f"{_beginning(place)}{_HOST}-{os.getpid()}-{secrets.token_hex(4)}{_ending(place)}")
        try:
            write(part)
            if keep:
                # Some file systems say only now that they are full.
                with part.open("rb+") as written:
                    os.fsync(written.fileno())
                part.replace(place)
        finally:
            with suppress(OSError):
                part.unlink()


def write_bytes(content: bytes | memoryview, path: Path) -> None:
    """Write what is known to its last byte: no library is left to fail in the middle."""
    write_whole(path, lambda part: part.write_bytes(content))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from going on with a file that this one adds to, until it ends in whatever way.

    Parameters
    ----------
    path : Path
        The file; it need not exist.

    Raises
    ------
    DataError
        If another process is at it.
    """
    lock = path.with_name(f".{path.name[:200]}.lock")
    with _in_words(path):
        file = lock.open("a")
    with file:
        # Where there are no such locks (Windows) nothing keeps others away.
        with suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"{path} is being written by another process; wait for it, or write to another file"
                ) from None
            except OSError:  # a file system without locks
                pass
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Say what stops a file from being written."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        if "\0" not in str(path) and not isinstance(error, UnicodeEncodeError):
            raise
        raise DataError(f"{str(path)!r} cannot be written: no file can have this name") from error


def _status(path: Path) -> os.stat_result | None:
    """Status of a file, or of what it is a link to; None if there is none."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kept_by_others(file: os.stat_result, folder: os.stat_result) -> bool:
    """Whether a file lies in a folder, such as /tmp, where only its owner may replace it."""
    return (
        hasattr(os, "geteuid")
        and bool(folder.st_mode & stat.S_ISVTX)
        and os.geteuid() not in (0, file.st_uid, folder.st_uid)
    )


def _fill(part: Path, size: int) -> None:
    """Make a file, and have the file system set aside so many bytes for it."""
    with part.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                # Other errors only mean that this file system cannot say.
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    said = f"{error.strerror}, and the file needs about {size / 1e6:.0f} MB"
                    raise OSError(error.errno, said) from error


def _beginning(place: Path) -> str:
    # A name may be as long as the file system allows.
    return f".{place.stem[:40]}."


def _ending(place: Path) -> str:
    # The ending of the file's own name stays, because it tells libraries the format.
    return f".part{place.suffix}"


def _remove_abandoned(place: Path) -> None:
    """Remove what processes left that were killed while they wrote this file."""
    pattern = f"{glob.escape(_beginning(place))}*{glob.escape(_ending(place))}"
    for part in list(place.parent.glob(pattern)):
        with suppress(OSError):
            if _abandoned(part, place):
                part.unlink()


def _abandoned(part: Path, place: Path) -> bool:
    host, _, rest = part.name[len(_beginning(place)) : -len(_ending(place))].partition("-")
    process = rest.partition("-")[0]
    if os.name == "posix" and host == _HOST and process.isdecimal():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
    return time.time() - part.stat().st_mtime > _ABANDONED_AFTER


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet, by the ending of its name."""
    if path.suffix.lower() == ".parquet":
        content = io.BytesIO()
        table.to_parquet(content, engine="pyarrow", index=False)
        write_bytes(content.getbuffer(), path)
    else:
        write_bytes(as_csv(table).encode(), path)


def write_picture(picture: Figure, path: Path) -> None:
    """Write a picture in the format that the ending of its name says."""
    content = io.BytesIO()
    picture.savefig(content, dpi=150, format=path.suffix[1:].lower())
    write_bytes(content.getbuffer(), path)


def as_csv(table: pd.DataFrame) -> str:
    """Format a table as CSV text; names that a spreadsheet would run as formulas are guarded."""
    guarded = table.rename(columns=guard)
    for name, cells in guarded.items():
        if cells.dtype.kind not in "biufM":
            guarded[name] = cells.map(guard)
    return str(guarded.to_csv(index=False, float_format=_DIGITS, lineterminator="\n"))


def guard(cell: Any) -> Any:
    """A cell of CSV that no spreadsheet takes for a formula: text that looks like one begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip("'").startswith(FORMULA_STARTS) else cell


def unguarded(cell: str) -> str:
    """A cell as it was before `guard`."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS) else cell


@cache
def code_digest(package: Path, *, without: tuple[str, ...] = (), libraries: tuple[str, ...] = ()) -> str:
    """Hash of the code that makes results, and of the versions of the libraries that it calls.

    Parameters
    ----------
    package : Path
        Folder of the package.
    without : tuple of str
        Rooms that no result depends on.
    libraries : tuple of str
        Names of distributions.

    Returns
    -------
    str
        Changed by any file of Python but those of the rooms that are left out.
    """
    parts = [f"{name} {version(name)}" for name in libraries]
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package)
        if place.parts[0] not in without:
            parts.append(f"{place.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
