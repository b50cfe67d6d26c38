"""Tasks for other processes, in a module that is quick to import there."""

from __future__ import annotations

import os

from bayes_l2l.errors import DataError


def end_at_once(task: int) -> int:
    """Be killed."""
    os._exit(3)


def fail(task: int) -> int:
    """Have a fault."""
    raise ZeroDivisionError(task)


def refuse(task: int) -> int:
    """Refuse an input."""
    raise DataError(f"task {task} is refused.")
