"""Stages: what a long computation is at, told to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

Listener = Callable[[str, float | None], object]
"""Gets the name of a stage, and the part of it that is done, from 0 to 1 (None where that is not known)."""

_EVERY: Final = 250  # milliseconds
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def told_to(listener: Listener | None) -> Iterator[None]:
    """Tell a listener of the stages of what is computed inside."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def stage(name: str) -> None:
    """Say that a stage begins."""
    if listener := _listener.get():
        listener(name, None)


def counting_draws(model: Any, name: str) -> Any:
    """Have nutpie tell the listener, if there is one, how many draws of a stage are made.

    Parameters
    ----------
    model : nutpie.sample.CompiledModel
        What is to be sampled.
    name : str
        Of the stage.

    Returns
    -------
    nutpie.sample.CompiledModel
        The same, or one whose sampler tells.
    """
    listener = _listener.get()
    if listener is None:
        return model
    from dataclasses import fields

    from nutpie import _lib

    def tell(counted: str) -> None:
        """Pass on what nutpie counted, from a thread of its own."""
        done, total = counted.split("/")
        listener(name, int(done) / max(int(total), 1))

    kind: Any = type(model)

    class Telling(kind):  # type: ignore[misc]
        """The model, with another way to show progress: nutpie has none for programs on both of our stacks."""

        def _make_sampler(self, settings: Any, init_mean: Any, cores: int, progress: Any, *more: Any) -> Any:
            template = "{{ total_finished_draws }}/{{ total_draws }}"
            counted = _lib.ProgressType.template_callback(_EVERY, template, cores, tell)
            return super()._make_sampler(settings, init_mean, cores, counted, *more)

    return Telling(**{one.name: getattr(model, one.name) for one in fields(model)})
