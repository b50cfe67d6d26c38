"""Mixtures: what part of a training set each domain is, in columns ``weight:DOMAIN`` of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: Beginning of the names of columns that hold weights.
PREFIX: Final = "weight:"
#: How far from 1 the weights of a mixture may sum to: they are rounded where they are published.
ROUNDING: Final = 0.02


def weight_columns(names: Iterable[object]) -> list[str]:
    """Names of the columns that hold weights, in their order."""
    return [str(name) for name in names if str(name).startswith(PREFIX)]


def domains_of(table: pd.DataFrame) -> list[str]:
    """Domains that a table has weights of, in the order of its columns."""
    return [name.removeprefix(PREFIX) for name in weight_columns(table)]


def weight_faults(table: pd.DataFrame, rows: pd.Series) -> list[str]:
    """What is wrong with the weights of a table's mixtures, a sentence each.

    Parameters
    ----------
    table : pandas.DataFrame
        With columns of weights, and perhaps ``train_set``.
    rows : pandas.Series
        What a person calls its rows.

    Returns
    -------
    list of str
    """
    import pandas as pd

    names = weight_columns(table)
    if not names:
        return []
    values = table[names].apply(pd.to_numeric, errors="coerce")
    given = table[names].notna().any(axis=1)
    faults = []
    for name in names:
        wrong = given & ~(values[name] >= 0)
        faults += [
            f"{row}, column {name!r}: {cell!r} is no weight; give every domain's part of the training set, 0 or more"
            for row, cell in zip(rows[wrong][:1], table[name][wrong][:1], strict=True)
        ]
    if faults:
        return faults
    total = values.sum(axis="columns")
    off = given & ((total - 1).abs() > ROUNDING)
    faults += [
        f"{row}: the weights of its mixture sum to {value:g}; they are parts of 1{', not percent' * (value > 50)}"
        for row, value in zip(rows[off][:1], total[off][:1], strict=True)
    ]
    if "train_set" not in table:
        return faults
    of_set = values.groupby(table["train_set"])
    several = (of_set.transform("max") - of_set.transform("min")).max(axis="columns") > 0
    return faults + [
        f"{row}: training set {name!r} has other weights than in an earlier row; give every mixture a name of its own"
        for row, name in zip(rows[several][1:2], table["train_set"][several][1:2], strict=True)
    ]


def weights_of_sets(table: pd.DataFrame) -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """Mixtures of a fitted table.

    Parameters
    ----------
    table : pandas.DataFrame
        Of a sweep.

    Returns
    -------
    train_sets, domains : list of str
        Sorted names, and names in the order of the columns.
    weights : ndarray, shape (train set, domain)
        Each sums to 1.

    Raises
    ------
    DataError
        If the table has no weights, or lacks those of a training set.
    """
    names = weight_columns(table)
    if not names:
        raise DataError(
            "the table says of no training set what it is mixed of: add a column weight:DOMAIN for every domain (in "
            "a mapping file: [weights]), or fit another model"
        )
    of_set = table.groupby("train_set", sort=True)[names].first()
    if (lacking := of_set.isna().any(axis=1)).any():
        raise DataError(f"the training set {of_set.index[lacking][0]!r} lacks weights, which every mixture needs")
    values = of_set.to_numpy(dtype=float)
    return of_set.index.tolist(), domains_of(table), normalised(values)


def normalised(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights over their sum, along the last axis."""
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
