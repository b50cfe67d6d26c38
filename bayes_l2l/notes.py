"""Statistical objections as data: what a careful colleague would say about a table or a fit.

A wrong input is an exception (:mod:`bayes_l2l.errors`). A note is for input and results that can be used but
should be read with care; notes are stored with the fit and shown wherever its numbers are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

Severity = Literal["info", "warning", "serious"]
SEVERITIES: tuple[str, ...] = get_args(Severity)
"""From the mildest to the worst."""


@dataclass(frozen=True)
class Note:
    """One objection.

    Parameters
    ----------
    code : str
        Short, stable name, for programs (``"too_few_runs"``).
    severity : {"info", "warning", "serious"}
        ``"serious"`` means that the result is not to be trusted: ``bayes-l2l check`` exits with 1.
    message : str
        A sentence for people: what, where, and what to do about it.
    data : mapping, optional
        The numbers behind the message, of JSON types.

    Raises
    ------
    ValueError
        If the severity is none of the three.
    """

    code: str
    severity: Severity
    message: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity is {self.severity!r}; it must be one of {', '.join(SEVERITIES)}")
        object.__setattr__(self, "data", MappingProxyType(dict(self.data)))

    def __str__(self) -> str:
        return f"{self.severity}: {self.message} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        # A MappingProxyType cannot be pickled, and notes travel with the jobs of a backtest.
        return Note, (self.code, self.severity, self.message, dict(self.data))

    def to_dict(self) -> dict[str, Any]:
        """Plain dict of JSON types, as stored with a fit."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Note:
        """Rebuild a note from :meth:`to_dict`."""
        return cls(
            code=record["code"],
            severity=record["severity"],
            message=record["message"],
            data=record.get("data", {}),
        )


def some(names: Collection[str], *, first: int = 3) -> str:
    """The first few of some names, sorted, and how many more there are, for a message."""
    named = sorted(names)[:first]
    more = f" and {len(names) - len(named)} more" if len(names) > len(named) else ""
    return ", ".join(named) + more
