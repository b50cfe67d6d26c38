"""Stages on a terminal: a line each, with the part that is done and the time, no wider than the terminal."""

from __future__ import annotations

import shutil
import sys
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final

from bayes_l2l.cli.output import current

if TYPE_CHECKING:
    from bayes_l2l.inference.stages import Listener

_BAR: Final = 20  # characters
_NAME: Final = 30


class Stages:
    """Lines on standard error, the last of which is written anew while its stage lasts.

    Parameters
    ----------
    shown : bool
        Whether there are any.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown and not current().quiet
        self._name = ""
        self._began = 0.0
        self._lock = Lock()  # samplers tell from threads of their own

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.end(well=kind is None)

    @property
    def listener(self) -> Listener | bool:
        """What `bayes_l2l.fit` is to tell; False if nothing is shown."""
        return self.tell if self._shown else False

    def tell(self, name: str, done: float | None = None) -> None:
        """Show that a stage has begun, or how far it is."""
        if not self._shown:
            return
        with self._lock:
            if name != self._name:
                if done is not None:  # a count that comes late, of a stage that is over
                    return
                self._finish()
                self._name, self._began = name, monotonic()
            self._write(self._line(done), end="")

    def end(self, *, well: bool = True) -> None:
        """End the last stage."""
        with self._lock:
            self._finish(well=well)

    def _finish(self, *, well: bool = True) -> None:
        if self._name:
            self._write(self._line(1.0 if well else None, over=True), end="\n")
        self._name = ""

    def _line(self, done: float | None, *, over: bool = False) -> str:
        took = monotonic() - self._began
        name = f"{self._name:{_NAME}}"
        if over:
            return f"{name} {took:.1f} s" if done else f"{name} stopped"
        if not done:
            return f"{name} ..."
        bar = "#" * round(_BAR * done)
        return f"{name} [{bar:.<{_BAR}}] {100 * done:3.0f}%  {_left(took, done)}"

    def _write(self, line: str, *, end: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[2K{line[:width].rstrip()}{end}")
        sys.stderr.flush()


def _left(took: float, done: float) -> str:
    """Time that is left, if it goes on like this; not from the first draws, which are slow."""
    return f"{took * (1 - done) / done:.0f} s left" if 0.05 < done < 1 and took > 1 else ""
