"""What a run's other losses will be, given those that were seen and neither its N nor its D.

Everything here is a pure function of the posterior draws: nothing samples and nothing imports PyMC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import ForecastError
from bayes_l2l.notes import Note
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.prediction.forecasts import Forecast, kind_of, named_cells
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Cell

Floats = npt.NDArray[np.float64]
Name = tuple[str, str]

#: Part of the draws that must allow for what was seen.
_FEWEST: Final = 0.05
_SIZES: Final = ("params", "tokens", "flops")
_COLUMNS: Final = ("train_set", "eval_set", "loss")


def forecast_given(
    posterior: Posterior,
    given: Mapping[Cell, float] | pd.DataFrame,
    *,
    train_set: str | Sequence[str] | None = None,
    eval_set: str | Sequence[str] | None = None,
    kind: str = "predictive",
) -> Forecast:
    """Forecast the losses of runs of which others were seen, at the same point of training.

    Parameters
    ----------
    posterior : Posterior
        Of a model that relates losses.
    given : mapping or pandas.DataFrame
        What was seen of one run, ``{"eval@train": loss}`` in nats/token; or a table of columns train_set, eval_set,
        loss, and run_id where it is of several runs.
    train_set, eval_set : str or sequence of str, optional
        Keep these; by default every cell that can be read off what was seen.
    kind : {"predictive", "mean"}
        A run, with what it scatters, or the relation at the losses that were seen.

    Returns
    -------
    Forecast
        Without sizes; its points have a column ``given``, and ``run_id`` if the table has. Draws that do not allow
        for what was seen are replaced by others.

    Raises
    ------
    ForecastError
        If a loss is refused, the model relates no cell that is asked for, or nearly no draw allows for what was seen.
    DataError
        If a cell or set was not fitted.
    """
    import pandas as pd

    kept, structure = kind_of(kind), structure_of(posterior.spec)
    named = named_cells(posterior, train_set, eval_set)
    rows, draws, notes = [], [], list[Note]()
    for number, (run_id, seen) in enumerate(_runs(posterior, given)):
        readable = structure.read_off(posterior, next(iter(seen)))
        targets = [cell for cell in named if cell in readable and cell not in seen]
        if not targets:
            raise ForecastError(
                f"No loss that was asked for can be read off {_words(seen)}; these can: "
                f"{', '.join('@'.join(cell) for cell in readable[:12]) or 'none'}."
            )
        draws.append(_allowed(structure.given(posterior, seen, targets, kind=kept, run=number), seen, posterior.seed))
        notes += _below(posterior, seen)
        of_run = {} if run_id is None else {"run_id": run_id}
        rows += [of_run | {"train_set": t, "eval_set": e, "given": _words(seen)} for e, t in targets]
    points = pd.DataFrame(rows).assign(**dict.fromkeys((*_SIZES, "extrapolation"), np.nan))
    said = (*posterior.notes, *_summed(notes))
    return Forecast(points, np.concatenate(draws, axis=1), kept, said, posterior.sweep)


def _runs(posterior: Posterior, given: Any) -> list[tuple[str | None, dict[Name, float]]]:
    """Name of every run, if it has one, and what was seen of it."""
    if isinstance(given, Mapping):
        runs: list[tuple[str | None, list[tuple[Cell, float]]]] = [(None, list(given.items()))]
    else:
        if missing := [name for name in _COLUMNS if name not in given]:
            raise ForecastError(f"The table of losses that were seen has no column {missing[0]!r}.")
        named = "run_id" in given
        parts = given.groupby("run_id", sort=False) if named else [("", given)]
        runs = [(str(name) if named else None, _pairs(part)) for name, part in parts]
    found: list[tuple[str | None, dict[Name, float]]] = []
    for name, pairs in runs:
        seen: dict[Name, float] = {}
        for label, loss in pairs:
            cell = posterior.sweep.cell(label)
            if not (np.isfinite(loss) and loss > 0):
                raise ForecastError(f"The loss seen on {'@'.join(cell)} must be positive and finite, not {loss!r}.")
            if cell in seen:
                raise ForecastError(
                    f"Two losses were given on {'@'.join(cell)}{f' for run {name!r}' if name else ''}: give one, and "
                    "a run_id to every run."
                )
            seen[cell] = float(loss)
        found.append((name, seen))
    if not any(seen for _, seen in found):
        raise ForecastError("No loss was given: give at least one that the run has ({'EVAL@TRAIN': loss}).")
    return found


def _pairs(part: pd.DataFrame) -> list[tuple[Cell, float]]:
    cells = zip(part["eval_set"], part["train_set"], strict=True)
    return list(zip(cells, part["loss"], strict=True))


def _allowed(draws: Floats, seen: Mapping[Name, float], seed: int) -> Floats:
    """Draws that allow for what was seen, in the place of those that do not (NaN)."""
    possible = np.isfinite(draws).all(axis=1)
    if possible.mean() < _FEWEST:
        raise ForecastError(
            f"{_words(seen)} lies below what the fit holds to be irreducible: is it a loss in nats per token, of "
            "that evaluation?"
        )
    place = np.arange(len(draws))
    place[~possible] = np.random.default_rng([seed, 5]).choice(place[possible], size=int((~possible).sum()))
    return np.asarray(draws[place])


def _below(posterior: Posterior, seen: Mapping[Name, float]) -> list[Note]:
    """Notes on losses below all that were fitted."""
    table, notes = posterior.sweep.table, []
    for cell, loss in seen.items():
        of_cell = (table["eval_set"] == cell[0]) & (table["train_set"] == cell[1])
        if loss < (least := float(table.loc[of_cell, "loss"].min())):
            message = (
                f"{_words({cell: loss})} is below every fitted loss ({least:.4g}): the relation is continued there"
            )
            notes.append(Note("below_fitted", "info", message, {"loss": loss, "least": least}))
    return notes


def _summed(notes: Sequence[Note]) -> tuple[Note, ...]:
    """The note that is furthest out, for all."""
    if len(notes) < 2:
        return tuple(notes)
    furthest = min(notes, key=lambda note: note.data["loss"] / note.data["least"])
    message = f"{len(notes)} given losses are below every fitted one, furthest: {furthest.message}"
    return (Note("below_fitted", "info", message, dict(furthest.data) | {"losses": len(notes)}),)


def _words(seen: Mapping[Name, float]) -> str:
    return ", ".join(f"{'@'.join(cell)}={loss:g}" for cell, loss in seen.items())
