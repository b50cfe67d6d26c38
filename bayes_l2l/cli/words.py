"""Notes in words for those who do not know the statistics; `check` has them in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from bayes_l2l.notes import Note

_Data = Mapping[str, Any]


def plain(note: Note) -> str:
    """A note without its code, in plain words where its own are for statisticians."""
    words = _PLAIN.get(note.code)
    return f"{note.severity}: {words(note.data) if words else note.message}"


def _rhat(data: _Data) -> str:
    return (
        f"the sampler has not quite settled (R-hat of {data['variable']} is {data['rhat']:.3f}; it should be at most "
        "1.01): fit with more --draws and --tune"
    )


def _ess(data: _Data) -> str:
    return f"the draws are worth only {data['ess_bulk']:.0f} independent ones: fit with more --draws"


def _divergences(data: _Data) -> str:
    return (
        f"the sampler could not follow the model in {data['divergences']} of {data['draws']} draws: intervals may be "
        "too narrow"
    )


def _bfmi(data: _Data) -> str:
    return "the sampler explores the extremes slowly: fit with more --tune"


def _entropy(data: _Data) -> str:
    return f"how low the loss can get is hardly known for {_some(data['cells'])}: far forecasts rest on assumptions"


def _chance(data: _Data) -> str:
    tasks = _some(list(data["tasks"]))
    return f"{tasks}: not clearly better than guessing in these runs, so there is no forecast of the error"


def _some(names: list[str]) -> str:
    shown = ", ".join(name.replace("|", "@") for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


_PLAIN: Final[Mapping[str, Callable[[_Data], str]]] = {
    "rhat": _rhat,
    "ess": _ess,
    "divergences": _divergences,
    "bfmi": _bfmi,
    "E_not_identified": _entropy,
    "at_chance": _chance,
}
