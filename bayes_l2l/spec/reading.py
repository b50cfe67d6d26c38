"""Records checked by pydantic, and its findings as one sentence that names the key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from math import isfinite
from typing import Any, Final, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, PydanticCustomError

from bayes_l2l.errors import SpecError, did_you_mean

Model = TypeVar("Model")


class Tagged(StrEnum):
    """What an argument may be; pydantic puts these into the places of its findings, where no reader wants them."""

    NUMBER = "<number>"
    PRIOR = "<prior>"
    SUM = "<sum>"


#: Parts of pydantic's places that no file has.
_HIDDEN: Final = (*Tagged, "parameters")
#: Keys within each other down to what a message names.
_DEEPEST: Final = 40
#: Letters of a value that a message shows.
_LONGEST: Final = 200
#: Type of the errors whose message is the rest of a sentence that begins with the place.
_SAID = "said"


def read(kind: type[Model], record: Any, *, where: str) -> Model:
    """Validate a record as a kind of thing.

    Parameters
    ----------
    kind : type
        A pydantic dataclass.
    record : object
        As parsed from a file.
    where : str
        What messages call the record; empty at the top of a model file.

    Returns
    -------
    object of the kind

    Raises
    ------
    SpecError
        With the first fault, in a sentence.
    """
    try:
        return TypeAdapter(kind).validate_python(record)
    except ValidationError as error:
        raise SpecError(_sentence(error.errors(include_url=False)[0], where)) from None


def refuse(message: str) -> NoReturn:
    """Refuse a value from within a validator: the message goes on from the name of its place."""
    raise PydanticCustomError(_SAID, "{message}", {"message": message})


def _sentence(fault: Any, where: str) -> str:
    if len(fault["loc"]) > _DEEPEST:
        return f"{_place(where, fault['loc'][:2])} is nested too deep."
    *parents, last = fault["loc"] or (None,)
    if fault["type"] == "missing":
        return f"{_place(where, parents) or 'The model file'} has no {last!r}."
    place, message = _place(where, fault["loc"]), fault["msg"]
    if fault["type"] != _SAID:  # in pydantic's words
        return f"{place or 'the model file'}: {message[0].lower()}{message[1:]}, not {shown(fault['input'])}."
    if message[0] in ".:[":  # the name of a place further in
        return f"{place}{message}".lstrip(".")
    return f"{place or 'the model file'} {message}"


def _place(where: str, location: Sequence[str | int | None]) -> str:
    """Dotted name of a place in the file."""
    for part in location:
        if isinstance(part, int):
            where += f"[{part}]"
        elif part is not None and part not in _HIDDEN:
            where += f".{part}" if where else part
    return where


def only_known(kind: type, record: Any, *, table: str = "a table") -> Any:
    """Refuse what is no `table`, and keys that a dataclass has no field for."""
    if isinstance(record, ArgsKwargs | kind):
        return record
    known_keys(record, [field.name for field in fields(kind)], table=table)
    return record


def known_keys(record: Any, known: Iterable[str], *, at: str = "", table: str = "a table") -> None:
    """Refuse what is no table, and keys that are not known; `at` is what the place's name goes on with."""
    if not isinstance(record, Mapping):
        refuse(f"{at} must be {table}, not {shown(record)}.".lstrip())
    for key in record:
        if key not in known:
            listed = ", ".join(known)
            refuse(f"{at} has an unknown key {key!r} (known: {listed}){did_you_mean(key, known)}".lstrip())


def is_finite(value: float) -> bool:
    """Whether a number is finite as a float, which an integer need not be."""
    try:
        return isfinite(value)
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """A value as a message shows it: not by thousands of digits."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or a bottomless table
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def one_of(options: Callable[[], Sequence[str]], *, what: str = "") -> Callable[[Any], Any]:
    """Validator of a name among options, which are asked for when it is used; `what` it is if not."""

    def check(value: Any) -> Any:
        known = options()
        if not isinstance(value, str) or value not in known:
            listed = f", {what} ({', '.join(known)})" if what else f"; known are {', '.join(known)}"
            refuse(f"is {shown(value)}{listed}{did_you_mean(str(value), known) or '.'}")
        return value

    return check


def number(low: float, high: float, words: str) -> Callable[[Any], float]:
    """Validator of a finite number from `low` to `high` (excluded if infinite), which `words` describe."""

    def check(value: Any) -> float:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not is_finite(value) or not low <= value <= high:
            refuse(f"must be {words}, not {shown(value)}.")
        return float(value)

    return check
