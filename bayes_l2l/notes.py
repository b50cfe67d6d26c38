"""Statistical objections as data: what a careful colleague would say about a table or a fit.

A wrong input is an exception (:mod:`bayes_l2l.errors`). A note is for input and results that can be used but
should be read with care; notes are stored with the fit and shown wherever its numbers are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from bayes_l2l.laws import FLOPS_PER_PARAM_TOKEN

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["info", "warning", "serious"]
SEVERITIES: tuple[str, ...] = get_args(Severity)
"""From the mildest to the worst."""
LAW_PARAMETERS = 6
"""Parameters of the generalised law of one cell: E, A, B, alpha, beta, gamma."""


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
        # A MappingProxyType cannot be pickled, and notes travel with the jobs of a rollout.
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


def assess(table: pd.DataFrame) -> tuple[Note, ...]:
    """Say what a careful colleague would about a canonical long table, whatever the order of its rows.

    Parameters
    ----------
    table : pandas.DataFrame
        As in a `Sweep`.

    Returns
    -------
    tuple of Note
        With the codes ``too_few_runs``, ``one_model_size``, ``one_token_count``, ``no_own_loss`` and
        ``flops_mismatch``.
    """
    losses = table[table["metric"] == "loss"]
    notes = []
    counts = (losses["eval_set"] + "@" + losses["train_set"]).value_counts().sort_index()
    few = {str(cell): int(n) for cell, n in counts.items() if n < LAW_PARAMETERS}
    if few:
        message = (
            f"fewer runs than a law has parameters ({LAW_PARAMETERS}) in {_some(few)}; "
            "their laws rest on the other cells and the priors"
        )
        notes.append(Note("too_few_runs", "warning", message, {"cells": few}))
    sizes = losses.groupby("train_set")[["params", "tokens"]].agg(["min", "max"])
    for column, code, what in (
        ("params", "one_model_size", "one model size"),
        ("tokens", "one_token_count", "one number of tokens"),
    ):
        low, high = sizes[column, "min"], sizes[column, "max"]
        only = {str(train_set): float(size) for train_set, size in low[low == high].items()}
        if only:
            message = f"only {what} in {_some(only)}; how {column} change its loss is left to the other sets"
            notes.append(Note(code, "warning", message, {"train_sets": only}))
    own = set(losses.loc[losses["eval_set"] == losses["train_set"], "train_set"])
    lacking = sorted({str(train_set) for train_set in losses["train_set"]} - own)
    if own and lacking:
        message = (
            f"no evaluation is said to be on the own validation data of {_some(lacking)}, but some of other training "
            "sets are; name it like the training set, or under [own] in the mapping file, if there is one"
        )
        notes.append(Note("no_own_loss", "info", message, {"train_sets": lacking}))
    computed = FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"]
    ratio = table["flops"] / computed
    run = ["train_set", "run_id"]
    off = table[(ratio > 3) | (ratio < 1 / 3)].drop_duplicates(run).sort_values(run)
    if len(off):
        first, n_runs = off.iloc[0], len(table.drop_duplicates(run))
        message = (
            f"flops differ from 6 N D more than threefold in {len(off)} of {n_runs} runs (run "
            f"{first['run_id']!r}: {first['flops']:.3g} against {computed[off.index[0]]:.3g}); "
            "is the column the compute of the whole training?"
        )
        notes.append(Note("flops_mismatch", "warning", message, {"n_runs": len(off)}))
    return tuple(notes)


def _some(names: Collection[str]) -> str:
    first = sorted(names)[:3]
    more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return ", ".join(first) + more
