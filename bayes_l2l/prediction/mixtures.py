"""Mixtures as points to forecast: those that were never trained are described by their weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.data.mixtures import PREFIX, domains_of, normalised, weight_columns, weight_faults
from bayes_l2l.errors import DataError, ForecastError, did_you_mean
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.posterior.posterior import Posterior

#: Weights are those of a fitted mixture, by whose name they go, to as many digits as are published.
_SAME: Final = 2e-3


def named_mixtures(posterior: Posterior, points: pd.DataFrame) -> pd.DataFrame:
    """Points of mixtures, each with a name.

    Parameters
    ----------
    posterior : Posterior
        Of a structure that is one of mixtures.
    points : pandas.DataFrame
        As for `bayes_l2l.prediction.forecasts.forecast`. Columns of weights describe mixtures; domains without a
        column, or a number, have none.

    Returns
    -------
    pandas.DataFrame
        With train_set (``mixture 1`` is that of the first row, where the table names none) and all weights. It is
        the same where the points have no weights.

    Raises
    ------
    ForecastError
        If weights are not those of domains that were fitted, or do not sum to 1.
    DataError
        If the weights of a training set are not those that were fitted under its name.
    """
    import pandas as pd

    given, known = weight_columns(points), domains_of(posterior.sweep.table)
    if not given:
        return points
    if unknown := [name for name in domains_of(points) if name not in known]:
        raise ForecastError(
            f"The domain {unknown[0]!r} was not fitted{did_you_mean(unknown[0], known)}; fitted are "
            f"{', '.join(known)}."
        )
    points = points.reset_index(drop=True)
    values = points[given].astype(float).fillna(0.0)
    if faults := weight_faults(values, pd.Series([f"point {i + 1}" for i in range(len(points))])):
        raise ForecastError(f"The mixtures to forecast are refused: {faults[0]}.")
    values = values.reindex(columns=[PREFIX + name for name in known], fill_value=0.0)
    values[:] = normalised(values.to_numpy())
    names = points["train_set"] if "train_set" in points else [f"mixture {i + 1}" for i in range(len(points))]
    named = points.drop(columns=given).assign(train_set=names, **{str(c): values[c] for c in values})
    _check(posterior, named)
    return named


def _check(posterior: Posterior, named: pd.DataFrame) -> None:
    """Refuse a fitted name with other weights, and one name of two mixtures."""
    columns = weight_columns(named)
    fitted = posterior.sweep.table.groupby("train_set")[columns].first()
    known = fitted.reindex(named["train_set"]).to_numpy(dtype=float)
    off = np.abs(named[columns].to_numpy() - normalised(known)).max(axis=1) > _SAME
    if off.any():
        name = named["train_set"][off].iloc[0]
        raise DataError(
            f"The training set {name!r} was fitted with other weights: give a mixture that was never trained a name "
            "of its own, or none."
        )
    of_name = named.groupby("train_set")[columns]
    if (several := (of_name.max() - of_name.min()).max(axis=1) > 0).any():
        raise DataError(f"The points have several mixtures called {several[several].index[0]!r}: name each its own.")


def new_cells(
    posterior: Posterior, points: pd.DataFrame, eval_set: str | Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """Cells of the mixtures among the points that were not fitted, on every evaluation or those that are named."""
    if not weight_columns(points) or "train_set" not in points:
        return []
    wanted = [eval_set] if isinstance(eval_set, str) else eval_set
    names = [name for name in dict.fromkeys(e for e, _ in posterior.cells) if wanted is None or name in wanted]
    fitted = set(posterior.cells)
    return [(e, t) for t in dict.fromkeys(points["train_set"]) for e in names if (e, t) not in fitted]


def untrained(posterior: Posterior, at: pd.DataFrame) -> tuple[Note, ...]:
    """Notes on mixtures that were never trained, and on those with more of a domain than any that was.

    Parameters
    ----------
    posterior : Posterior
        What is forecast from.
    at : pandas.DataFrame
        Points, with columns of weights where mixtures are new.

    Returns
    -------
    tuple of Note
        Codes ``never_trained`` and ``beyond_mixtures``.
    """
    columns = weight_columns(at)
    if not columns:
        return ()
    mixtures = at.drop_duplicates("train_set")
    new = mixtures[~mixtures["train_set"].isin(set(posterior.sweep.table["train_set"]))]
    if new.empty:
        return ()
    several = len(new) > 1
    said = f"{len(new)} mixtures were" if several else f"{new['train_set'].iloc[0]!r} was"
    message = (
        f"{said} never trained: {'their losses are' if several else 'its loss is'} forecast from weights alone, and "
        "intervals hold what mixtures depart by from the law"
    )
    notes = [Note("never_trained", "info", message, {"mixtures": len(new)})]
    most = posterior.sweep.table[columns].max()
    beyond = (new[columns] > most + _SAME).any()
    if beyond.any():
        first = str(beyond.index[beyond][0])
        what = first.removeprefix(PREFIX)
        message = (
            f"mixtures are asked for with up to {new[first].max():.3g} of {what}, and the most that was fitted is "
            f"{most[first]:.3g}: do not trust the intervals there"
        )
        notes.append(Note("beyond_mixtures", "warning", message, {"domains": beyond.index[beyond].tolist()}))
    return tuple(notes)
