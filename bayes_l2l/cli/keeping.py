"""What took long to draw is kept: somewhere else if need be, and whatever signal comes while it is written."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_l2l.errors import FitFileError

if TYPE_CHECKING:
    from bayes_l2l.fits import Fit


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, and does so as after Ctrl-C."""


def keep(fit: Fit, path: Path) -> None:
    """Save a fit; if its place cannot be written to any more, in another one.

    Parameters
    ----------
    fit : Fit
        What is saved.
    path : Path
        Where.

    Raises
    ------
    FitFileError
        If it had to be saved in another place, which is named, or could not be saved at all.
    """
    with held_back():
        try:
            fit.save(path)
        except FitFileError as error:
            raise FitFileError(f"{error}; {_kept_elsewhere(fit, path)}") from error


def _kept_elsewhere(fit: Fit, path: Path) -> str:
    """Where a fit was saved instead, in words; asked for on a terminal if no usual place will do."""
    folders = [Path(folder) for folder in (".", os.path.expanduser("~"), tempfile.gettempdir())]  # noqa: PTH111
    places = [folder / f"{path.stem}-{secrets.token_hex(3)}{path.suffix}" for folder in folders]
    while places:
        for place in places:
            try:
                return f"the fit is kept in {fit.save(place)}: move it to where it belongs"
            except FitFileError as error:
                failed = error
        places = _asked_for(failed) if sys.stdin.isatty() else []
    return f"nor could it be kept in {', '.join(map(str, folders))} ({failed}): its draws are lost"


def _asked_for(failed: FitFileError) -> list[Path]:
    """Place that is typed; none if nothing is."""
    sys.stderr.write(f"{failed}.\nAnother file for the fit, whose draws are lost otherwise: ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip()
    return [Path(answer)] if answer else []


@contextmanager
def held_back() -> Iterator[None]:
    """Let what is short and must not be lost be finished before Ctrl-C or SIGTERM is heeded, the first time."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, frame: Any) -> None:
        _restore(before)
        heard.append(number)

    for number in before:
        signal.signal(number, hear)
    try:
        yield
    finally:
        _restore(before)
        if heard:
            signal.raise_signal(heard[0])


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: what is half written is removed, workers are ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        _restore({signal.SIGTERM: before})


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
