"""Which column of a table means what: the canonical names, and mapping files for tables with other ones."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import combinations
from math import inf
from pathlib import Path
from typing import Any, Literal

from bayes_l2l.errors import SpecError, did_you_mean

RUN_COLUMNS = ("run_id", "train_set", "params", "tokens", "flops")
"""What describes a run: all that a wide table needs beside its evaluations."""
CORE_COLUMNS = ("run_id", "train_set", "eval_set", "params", "tokens", "flops", "loss")
"""The columns that every `Sweep` has, in this order."""
OPTIONAL_COLUMNS = ("loss_se", "metric", "n_items", "chance")
LONG_COLUMNS = CORE_COLUMNS + OPTIONAL_COLUMNS
MADE_COLUMNS = ("run_id", "flops")
"""Core columns that are made from the others where a table lacks them."""
_VALUES = ("losses", "errors", "accuracies")
_OF_TEXT = ("columns", *_VALUES, "own")
_OF_NUMBERS = ("chance", "n_items")


@dataclass(frozen=True)
class ColumnMap:
    """How to read a table: which columns it is in, and which evaluation is each training set's own.

    A map with ``losses``, ``errors`` or ``accuracies`` reads a wide table (one row a run), one without reads a long
    table (one row a run and evaluation). It is written as a TOML file with the fields as keys and tables.

    Parameters
    ----------
    columns : mapping of str to str, optional
        Canonical name to the table's column. Columns that have their canonical name need no entry.
    losses, errors, accuracies : mapping of str to str, optional
        Wide tables: evaluation to the column with its loss (nats per token), error rate or accuracy (fractions; an
        accuracy is read as the error rate 1 - accuracy). An evaluation stands in one of them.
    chance, n_items : mapping of str to number, optional
        Wide tables: error rate of guessing (0.75 with four answers) and number of questions of an evaluation in
        ``errors`` or ``accuracies``.
    own : mapping of str to str, optional
        Training set to the evaluation on its own validation data. That evaluation is named by the training
        set everywhere, so that rows with ``eval_set == train_set`` are train losses.
    use : {"all", "own"}
        Evaluations that are kept where the caller does not say.
    keep : sequence of str, optional
        Further columns to carry along; all of them if not given.
    source : str
        What the map is called in messages, usually its file name.

    Raises
    ------
    SpecError
        If anything in the map is unknown or contradicts itself; all of it is listed.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    accuracies: Mapping[str, str] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    n_items: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    use: Literal["all", "own"] = "all"
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
        rates = {**self.errors, **self.accuracies}
        return {name: (column, "loss") for name, column in self.losses.items()} | {
            name: (column, "error") for name, column in rates.items()
        }

    @property
    def eval_names(self) -> dict[str, str]:
        """Evaluation in the table to its name in the sweep, for those that are some training set's own."""
        return {evaluation: train_set for train_set, evaluation in self.own.items()}

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
        try:
            record = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SpecError(f"the mapping file {path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SpecError(f"the mapping file {path} is not TOML: {error}") from error
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
    for name in (*_OF_TEXT, *_OF_NUMBERS):
        table = getattr(columns, name)
        kind = str if name in _OF_TEXT else int | float
        if not isinstance(table, Mapping):
            faults.append(f"{name} is {table!r}; it must be a table of name = 'column'")
        else:
            faults += [
                f"{name}.{key} is {value!r}; it must be a {'string' if kind is str else 'number'}"
                for key, value in table.items()
                if not isinstance(value, kind) or isinstance(value, bool)
            ]
    if columns.use not in ("all", "own"):
        faults.append(f"use is {columns.use!r}; it must be 'all' or 'own'")
    keep: Any = columns.keep  # what a file holds may be anything
    if keep is not None and not (isinstance(keep, tuple) and all(isinstance(name, str) for name in keep)):
        faults.append(f"keep is {keep!r}; it must be a list of column names")
    return faults


def _content_faults(columns: ColumnMap) -> list[str]:
    known = RUN_COLUMNS if columns.wide else LONG_COLUMNS
    faults = [
        f"unknown name {name!r} in [columns]{did_you_mean(name, known)} (known: {', '.join(known)})"
        for name in columns.columns
        if name not in known
    ]
    used: dict[str, str] = {}
    for table in ("columns", *_VALUES):
        for name, column in getattr(columns, table).items():
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
        if train_set != evaluation and train_set in columns.evaluations and train_set not in columns.eval_names:
            faults.append(f"own.{train_set} is {evaluation!r}, but another evaluation is called {train_set!r}")
        if columns.eval_names[evaluation] != train_set:
            faults.append(
                f"evaluation {evaluation!r} is the own one of both {train_set!r} and "
                f"{columns.eval_names[evaluation]!r}; it can be named by one of them only"
            )
    return faults
