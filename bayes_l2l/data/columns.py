"""Which column of a table means what: the canonical names, and mapping files for tables with other ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal

from bayes_l2l.data.toml import read_toml
from bayes_l2l.errors import SpecError, did_you_mean

RUN_COLUMNS = ("run_id", "step", "train_set", "params", "tokens", "flops")
"""What describes a run: all that a wide table needs beside its evaluations."""
CORE_COLUMNS = ("run_id", "train_set", "eval_set", "params", "tokens", "flops", "loss")
"""The columns that every `Sweep` has, in this order."""
OPTIONAL_COLUMNS = ("loss_se", "metric", "n_items", "chance")
LONG_COLUMNS = (*CORE_COLUMNS, *OPTIONAL_COLUMNS, "step")
SIZES = ("params", "tokens", "flops")
SIZE_COLUMNS = ("params", "tokens")
"""Without them, rows of one ``run_id`` and ``step`` are losses that belong together."""
MADE_COLUMNS = ("run_id", "flops")
"""Core columns that are made from the others where a table lacks them."""
EVERY = "*"
"""Stands for every training set in ``own``."""
ONLY_SET = "train"
"""What the training set is called where a table names none."""
SIZE_UNITS = {
    "thousands": 1e3, "millions": 1e6, "billions": 1e9, "trillions": 1e12, "petaflop-days": 8.64e19,
}  # fmt: skip
LOSS_UNITS = ("bits", "perplexity")
RATE_UNITS = ("percent",)
SHOWN_LOSS_UNITS = ("nats/token", "nats/byte", "nats/character")
"""What losses may be called once they are read; the first unless something else is said."""
_VALUES = ("losses", "errors", "accuracies")
_KINDS: dict[str, tuple[Any, str]] = {
    "columns": (str | list | tuple, "a string, or a list of columns and numbers to multiply"),
    **dict.fromkeys(_VALUES, (str, "a string")),
    "own": (str, "a string"),
    "weights": (str, "a string"),
    "where": (str | int | float | bool | list | tuple, "a value, or a list of values"),
    "constants": (str | int | float, "a string or a number"),
    "units": (str, "a string"),
    "chance": (int | float, "a number"),
    "n_items": (int | float, "a number"),
}


@dataclass(frozen=True)
class ColumnMap:
    """How to read a table: which columns it is in, and which evaluation is each training set's own.

    A map with ``losses``, ``errors`` or ``accuracies`` reads a wide table (one row a run), one without reads a long
    table (one row a run and evaluation). It is written as a TOML file with the fields as keys and tables.

    Parameters
    ----------
    columns : mapping of str to str or sequence, optional
        Canonical name to the table's column. Columns that have their canonical name need no entry. Several columns,
        or columns and numbers, are multiplied: ``["_step", "batch_size", 2048]`` for tokens. Those of run_id are
        joined: ``["name", "_step"]`` tells the checkpoints of a run apart.
    losses, errors, accuracies : mapping of str to str, optional
        Wide tables: evaluation to the column with its loss (nats per token), error rate or accuracy (fractions). An
        evaluation stands in one of them.
    chance, n_items : mapping of str to number, optional
        Wide tables: error rate of guessing (0.75 with four answers) and number of questions of an evaluation in
        ``errors`` or ``accuracies``.
    own : mapping of str to str, optional
        Training set to the evaluation on its own validation data. That evaluation is named by the training
        set everywhere, so that rows with ``eval_set == train_set`` are train losses. An evaluation of ``"*"`` is on
        the own data of whichever training set the run has.
    weights : mapping of str to str, optional
        Domain to the column with its part of the training set, where that is not called ``weight:DOMAIN``.
    where : mapping of str to value or sequence of values, optional
        Column of the table to what it must say: other rows are left out, and counted in a note.
    constants : mapping of str to str or number, optional
        Canonical name to its value in every row, where the table has no column for it.
    units : mapping of str to str, optional
        Canonical name, or evaluation, to what its numbers are in: ``thousands`` to ``trillions`` (sizes and FLOPs),
        ``petaflop-days``, ``bits`` per token or ``perplexity`` (losses), ``percent`` (errors and accuracies). What
        says it itself ("110M", "41.2%") is read as it stands.
    use : {"all", "own"}
        Evaluations that are kept where the caller does not say.
    loss_unit : {"nats/token", "nats/byte", "nats/character"}
        What losses are in once they are read, as every picture and report then says: no number is changed.
    keep : sequence of str, optional
        Further columns to carry along; all of them if not given.
    source : str
        What the map is called in messages, usually its file name.

    Raises
    ------
    SpecError
        If anything in the map is unknown or contradicts itself; all of it is listed.
    """

    columns: Mapping[str, str | Sequence[str | float]] = field(default_factory=dict)
    losses: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    accuracies: Mapping[str, str] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    n_items: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, str | float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    use: Literal["all", "own"] = "all"
    loss_unit: str = SHOWN_LOSS_UNITS[0]
    keep: tuple[str, ...] | None = None
    source: str = "the column mapping"

    def __post_init__(self) -> None:
        faults = _type_faults(self) or _content_faults(self)
        if faults:
            raise SpecError(f"{self.source} is refused: " + "; ".join(faults))

    @property
    def wide(self) -> bool:
        """Whether the map reads a table with one row a run."""
        return bool(self.losses or self.errors or self.accuracies)

    @property
    def evaluations(self) -> dict[str, tuple[str, str]]:
        """Wide tables: evaluation to its column and metric."""
        tables = {"loss": self.losses, "error": self.errors, "accuracy": self.accuracies}
        return {name: (column, metric) for metric, table in tables.items() for name, column in table.items()}

    @property
    def eval_names(self) -> dict[str, str]:
        """Evaluation in the table to its name in the sweep, for those that are some training set's own."""
        return {evaluation: train_set for train_set, evaluation in self.own.items() if train_set != EVERY}

    @property
    def known(self) -> tuple[str, ...]:
        """Names that a table read with the map may have columns for, evaluations aside."""
        return RUN_COLUMNS if self.wide else LONG_COLUMNS

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], *, source: str = "the column mapping") -> ColumnMap:
        """Build a map from the keys and tables of a mapping file; unknown ones are refused by name."""
        known = [f.name for f in fields(cls) if f.name != "source"]
        unknown = [f"unknown key {key!r}{did_you_mean(key, known)}" for key in record if key not in known]
        if unknown:
            raise SpecError(f"{source} is refused: {'; '.join(unknown)} (known: {', '.join(known)})")
        values = dict(record)
        if isinstance(values.get("keep"), list):
            values["keep"] = tuple(values["keep"])
        return cls(**values, source=source)

    @classmethod
    def from_toml(cls, path: str | Path) -> ColumnMap:
        """Read a mapping file.

        Parameters
        ----------
        path : str or Path
            A TOML file with the fields of this class.

        Returns
        -------
        ColumnMap
            With the file's name as its source.

        Raises
        ------
        SpecError
            If the file is absent, is not TOML, or its content is refused.
        """
        path = Path(path)
        record = read_toml(path, what=f"the mapping file {path}")
        return cls.from_dict(record, source=path.name)


def as_column_map(columns: ColumnMap | Mapping[str, Any] | str | Path | None) -> ColumnMap:
    """Return a column map, whichever way it was given.

    Parameters
    ----------
    columns : ColumnMap, mapping, str, Path or None
        A map, the content of a mapping file, its path, or nothing: then columns have their canonical names.

    Returns
    -------
    ColumnMap
        Checked.

    Raises
    ------
    SpecError
        If the mapping is refused.
    """
    if columns is None:
        return ColumnMap()
    if isinstance(columns, ColumnMap):
        return columns
    if isinstance(columns, Mapping):
        return ColumnMap.from_dict(columns)
    return ColumnMap.from_toml(columns)


def _type_faults(columns: ColumnMap) -> list[str]:
    """Return what is not of the right type; the content is looked at only if there is nothing of the kind."""
    faults = []
    for name, (kind, words) in _KINDS.items():
        table = getattr(columns, name)
        if not isinstance(table, Mapping):
            faults.append(f"{name} is {table!r}; it must be a table of name = 'column'")
            continue
        faults += [
            f"{name}.{key} is {value!r}; it must be {words}"
            for key, value in table.items()
            if not isinstance(value, kind) or (isinstance(value, bool) and name != "where")
        ]
        faults += [f"{name}.{key} is no finite number" for key, value in table.items() if _endless(value)]
    if columns.use not in ("all", "own"):
        faults.append(f"use is {columns.use!r}; it must be 'all' or 'own'")
    faults += loss_unit_faults(columns.loss_unit)
    keep: Any = columns.keep  # what a file holds may be anything
    if keep is not None and not (isinstance(keep, tuple) and all(isinstance(name, str) for name in keep)):
        faults.append(f"keep is {keep!r}; it must be a list of column names")
    return faults


def loss_unit_faults(unit: Any) -> list[str]:
    """What is wrong with the unit that losses are said to be in: nothing, or one sentence."""
    if unit in SHOWN_LOSS_UNITS:
        return []
    hint = did_you_mean(unit, SHOWN_LOSS_UNITS) if isinstance(unit, str) else ""
    return [f"loss_unit is {unit!r}{hint} (known: {', '.join(SHOWN_LOSS_UNITS)})"]


def _endless(value: Any) -> bool:
    """Whether a value is a number that is not finite, or an integer beyond float64."""
    try:
        return isinstance(value, int | float) and not isfinite(value)
    except OverflowError:
        return True


def _content_faults(columns: ColumnMap) -> list[str]:
    known = columns.known
    faults = [
        f"unknown name {name!r} in [{table}]{did_you_mean(name, known)} (known: {', '.join(known)})"
        for table in ("columns", "constants")
        for name in getattr(columns, table)
        if name not in known
    ]
    faults += [
        f"{name!r} is in both [columns] and [constants]; keep one"
        for name in columns.columns
        if name in columns.constants
    ]
    faults += _product_faults(columns) + _unit_faults(columns)
    used: dict[str, str] = {}
    for table in ("columns", *_VALUES):
        for name, column in getattr(columns, table).items():
            if not isinstance(column, str):
                continue
            if column in used:
                faults.append(f"column {column!r} stands for both {used[column]} and {table}.{name}")
            used[column] = f"{table}.{name}"
    faults += [
        f"evaluation {name!r} stands in both [{one}] and [{other}]; give the two different names"
        for one, other in combinations(_VALUES, 2)
        for name in getattr(columns, one)
        if name in getattr(columns, other)
    ]
    rates = {*columns.errors, *columns.accuracies}
    for table, top in (("chance", 1.0), ("n_items", inf)):
        for name, value in getattr(columns, table).items():
            if name not in rates:
                faults.append(
                    f"{table}.{name} is of no evaluation in [errors] or [accuracies]{did_you_mean(name, rates)}"
                )
            if not 0 < value <= top:
                faults.append(
                    f"{table}.{name} is {value:g}; it must be above 0{' and at most 1' if top == 1 else ''}"
                )
    for train_set, evaluation in columns.own.items():
        if columns.wide and evaluation not in columns.losses:
            faults.append(
                f"own.{train_set} is {evaluation!r}, which is not in [losses]"
                f"{did_you_mean(evaluation, columns.losses)}"
            )
        if train_set == EVERY:
            continue
        if train_set != evaluation and train_set in columns.evaluations and train_set not in columns.eval_names:
            faults.append(f"own.{train_set} is {evaluation!r}, but another evaluation is called {train_set!r}")
        if columns.eval_names[evaluation] != train_set:
            faults.append(
                f"evaluation {evaluation!r} is the own one of both {train_set!r} and "
                f"{columns.eval_names[evaluation]!r}; it can be named by one of them only"
            )
    return faults


def _product_faults(columns: ColumnMap) -> list[str]:
    faults = []
    for name, factors in columns.columns.items():
        if not isinstance(factors, str):
            if name not in (*SIZES, "run_id"):
                faults.append(f"columns.{name} is a list; only {', '.join(SIZES)} and run_id can be made of several")
            elif not factors or any(
                isinstance(one, bool) or not isinstance(one, str | int | float) for one in factors
            ):
                faults.append(f"columns.{name} is {factors!r}; it must list columns (or numbers, of a product)")
    return faults


def _unit_faults(columns: ColumnMap) -> list[str]:
    """Units of nothing that the map reads, and of the wrong kind."""
    faults = []
    for name, unit in columns.units.items():
        if name in SIZES:
            units = tuple(SIZE_UNITS)
        elif name in columns.losses:
            units = LOSS_UNITS
        elif name in columns.errors or name in columns.accuracies:
            units = RATE_UNITS
        elif name == "loss" and not columns.wide:
            units = (*LOSS_UNITS, *RATE_UNITS)
        else:
            options = [*SIZES, *(columns.evaluations if columns.wide else ["loss"])]
            faults.append(f"units.{name} is of nothing that has units{did_you_mean(name, options)}")
            continue
        if unit not in units:
            faults.append(f"units.{name} is {unit!r}{did_you_mean(unit, units)} (known: {', '.join(units)})")
    return faults
