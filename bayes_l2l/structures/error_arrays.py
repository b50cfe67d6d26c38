"""ErrorArrays: error rates and the losses that they are a function of, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.rates import error_rates
from bayes_l2l.errors import DataError, did_you_mean
from bayes_l2l.laws.surface import fit_surface
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]
Cell = tuple[str, str]

#: Losses that error can be a function of; any other word is the name of one evaluation.
PREDICTORS: Final[Mapping[str, str]] = {
    "shared": "the evaluation of all training sets whose losses scatter least",
    "own": "every training set's train loss",
    "task": "the task's own cross entropy: the evaluation whose name is the task's without _error or _acc",
}
#: Endings that tell an error rate from the loss of the same task.
ENDINGS: Final = ("_error", "_err", "_accuracy", "_acc")
#: Error laws are parameterised at this quantile of the losses: where errors say most.
_REFERENCE: Final = 0.25
#: Chance is kept this far from 1 on the logit scale, where nothing could move a ceiling.
MOST: Final = 0.9999
#: A task has left chance if the quarter of its runs with the lowest losses errs less than chance, and less than the
#: upper half of the runs, by so many times the scatter from one run to the next,
SIGNAL: Final = 2.0
#: and by so much error at least.
LEAST_GAIN: Final = 0.02
#: Normal standard deviations of the median absolute difference of two neighbours.
_NEIGHBOURS: Final = 1.4826 / np.sqrt(2)
_RUN: Final = ["train_set", "run_id"]


@dataclass(frozen=True, eq=False)
class ErrorArrays:
    """Errors and the losses they are a function of, as arrays; each cell (task, training set) has its runs along row.

    Parameters
    ----------
    cells : list of (str, str)
        (task, train_set) of every cell.
    predictors : list of str
        The evaluation whose loss each cell's error is a function of.
    error, loss, observed : ndarray, shape (row, cell)
        Error rate, loss (nats/token) and 1 where there is a run; elsewhere the cell's chance, its reference and 0.
    per_item : ndarray, shape (row, cell)
        1 over the number of questions, 0 where it is not known.
    metrics : list of str
        What each cell was given as: "error" or "accuracy".
    chance : ndarray, shape (cell,)
        Error of guessing; where it is not known the largest error of the task.
    reference, smallest : ndarray, shape (cell,)
        Loss at which the law of the cell is parameterised, and smallest loss among its runs (nats/token).
    notes : tuple of Note
        On what was left out.
    """

    cells: list[Cell]
    predictors: list[str]
    error: Floats
    loss: Floats
    observed: Floats
    per_item: Floats
    metrics: list[str]
    chance: Floats
    reference: Floats
    smallest: Floats
    notes: tuple[Note, ...] = ()

    @property
    def learned(self) -> npt.NDArray[np.bool_]:
        """Whether each cell has left chance, shape (cell,)."""
        of_cells = zip(self.error.T, self.loss.T, self.observed.T > 0, self.chance, strict=True)
        return np.array([has_left(e[seen], x[seen], chance=c) for e, x, seen, c in of_cells], dtype=bool)

    def only(self, kept: npt.NDArray[np.bool_]) -> ErrorArrays:
        """These cells alone."""
        along = ("error", "loss", "observed", "per_item", "chance", "reference", "smallest")
        parts: dict[str, Any] = {name: getattr(self, name)[..., kept] for name in along}
        for name in ("cells", "predictors", "metrics"):
            parts[name] = [value for value, keep in zip(getattr(self, name), kept, strict=True) if keep]
        return replace(self, **parts)

    @classmethod
    def of(cls, sweep: Sweep, *, predictor: str, model: str) -> ErrorArrays:
        """Arrange the errors of a sweep.

        Parameters
        ----------
        sweep : Sweep
            With losses, and error rates or accuracies.
        predictor : str
            The loss that error is a function of: a key of `PREDICTORS`, or the name of an evaluation.
        model : str
            What messages call the model.

        Returns
        -------
        ErrorArrays

        Raises
        ------
        DataError
            If there are no errors, or no losses that they could be a function of.
        """
        errors = error_rates(sweep.table)
        losses = sweep.table[sweep.table["metric"] == "loss"]
        if errors.empty:
            raise DataError(f"{sweep.name} has no error rates (rows of metric 'error' or 'accuracy').")
        rows = errors.assign(predictor=predictors(errors, losses, predictor=predictor, names=(model, sweep.name)))
        known = losses.rename(columns={"eval_set": "predictor", "loss": "_x"})[[*_RUN, "predictor", "_x"]]
        rows = rows.merge(known, on=[*_RUN, "predictor"], how="left")
        notes = _without_loss(rows)
        rows = rows[rows["_x"].notna()]
        if rows.empty:
            wanted = ", ".join(sorted(rows["predictor"].unique())) or predictor
            raise DataError(f"{sweep.name} has no run with both an error rate and the loss on {wanted}.")
        cells = sorted(set(zip(rows["eval_set"], rows["train_set"], strict=True)))
        column = np.array([cells.index(c) for c in zip(rows["eval_set"], rows["train_set"], strict=True)])
        row = rows.groupby(["eval_set", "train_set"]).cumcount().to_numpy()
        of_cell = rows.drop_duplicates(["eval_set", "train_set"]).set_index(["eval_set", "train_set"])
        names = [str(of_cell.at[cell, "predictor"]) for cell in cells]
        quantile = rows.drop_duplicates([*_RUN, "predictor"]).groupby("predictor")["_x"].quantile(_REFERENCE)
        reference = quantile.loc[names].to_numpy()
        chance = np.asarray(_chance(rows).loc[[task for task, _ in cells]], dtype=np.float64)

        def spread(values: Any, elsewhere: Any) -> Floats:
            full = np.broadcast_to(np.asarray(elsewhere, dtype=float), (row.max() + 1, len(cells))).copy()
            full[row, column] = values
            return full

        per_item = (1 / rows["n_items"]).fillna(0.0) if "n_items" in rows else 0.0
        loss = spread(rows["_x"], reference)
        observed = spread(1.0, 0.0)
        return cls(
            cells=cells,
            predictors=names,
            error=spread(rows["loss"], chance),
            loss=loss,
            observed=observed,
            per_item=spread(per_item, 0.0),
            metrics=[str(of_cell.at[cell, "metric"]) for cell in cells],
            chance=chance,
            reference=reference,
            smallest=np.where(observed > 0, loss, np.inf).min(axis=0),
            notes=notes,
        )

    @property
    def labels(self) -> list[str]:
        """Names of the cells, "task|train"."""
        return ["|".join(cell) for cell in self.cells]

    @property
    def signature(self) -> tuple[object, ...]:
        """Cells, and which of them have left chance."""
        return tuple(self.labels), tuple(self.learned.tolist())

    @property
    def coordinates(self) -> dict[str, tuple[str, object]]:
        """Names along the posterior's dimension ``cell``, and what is known of each cell."""
        return {
            "cell": ("cell", self.labels),
            "eval_set": ("cell", [task for task, _ in self.cells]),
            "train_set": ("cell", [train for _, train in self.cells]),
            "predictor": ("cell", self.predictors),
            "metric": ("cell", self.metrics),
            "chance": ("cell", self.chance),
            "reference": ("cell", self.reference),
            "smallest": ("cell", self.smallest),
            "learned": ("cell", self.learned),
        }


def has_left(error: Floats, loss: Floats, *, chance: float) -> bool:
    """Whether a task has left chance by more than runs scatter (`SIGNAL`, `LEAST_GAIN`).

    A law has nothing to hold on to otherwise, and its posterior is all corners; this is looked at before sampling.

    Parameters
    ----------
    error, loss : ndarray, shape (run,)
        Of one task and training set.
    chance : float
        Error of guessing.
    """
    along = error[np.argsort(loss, kind="stable")]
    best = along[: max(1, len(along) // 4)].mean()
    # Neighbours in loss differ by their scatter, and hardly by the law.
    scatter = _NEIGHBOURS * np.median(np.abs(np.diff(along))) if len(along) > 1 else np.inf
    gained = min(chance, float(np.median(along[len(along) // 2 :]))) - best
    return bool(gained > max(SIGNAL * scatter, LEAST_GAIN))


def predictors(errors: pd.DataFrame, losses: pd.DataFrame, *, predictor: str, names: tuple[str, str]) -> list[str]:
    """Evaluation whose loss every error is a function of.

    Parameters
    ----------
    errors, losses : pandas.DataFrame
        Rows of either metric of a canonical long table.
    predictor : str
        Which loss is meant: a key of `PREDICTORS`, or the name of an evaluation.
    names : (str, str)
        What messages call the model and the table.

    Returns
    -------
    list of str
        One a row of `errors`.

    Raises
    ------
    DataError
        If the table lacks the loss that is meant.
    """
    model, name = names
    evaluations = set(losses["eval_set"])
    own = {t for t, e in zip(losses["train_set"], losses["eval_set"], strict=True) if t == e}
    if predictor == "task":
        found = [_stem(task) for task in errors["eval_set"]]
        if lacking := sorted({task for task in errors["eval_set"] if _stem(task) not in evaluations}):
            stem = _stem(lacking[0])
            raise DataError(
                f"{name} has no loss on {stem!r}, which error rate {lacking[0]!r} is to be a function of "
                f"(predictor = 'task'): call the loss {stem!r} and the error {stem}_error."
            )
        return found
    if predictor not in PREDICTORS:
        if predictor not in evaluations:
            raise DataError(
                f"{name} has no loss on {predictor!r}, which {model!r} takes error as a function of"
                f"{did_you_mean(predictor, evaluations)}"
            )
        return [predictor] * len(errors)
    shared = _smoothest(errors, losses) if predictor == "shared" else None
    if shared is not None:
        return [shared] * len(errors)
    if lacking := sorted(set(errors["train_set"]) - own):
        raise DataError(
            f"{name} has error rates of models trained on {lacking[0]!r}, but neither their loss on its own data (an "
            "evaluation of the same name; [own] in the mapping file) nor one evaluation that all training sets have: "
            "errors are a function of loss."
        )
    return list(errors["train_set"])


def _stem(task: str) -> str:
    for ending in ENDINGS:
        if task.endswith(ending):
            return task.removesuffix(ending)
    return task


def _smoothest(errors: pd.DataFrame, losses: pd.DataFrame) -> str | None:
    """Evaluation of all runs with errors whose loss is known best: by its standard error, else by its scatter."""
    runs = errors[_RUN].drop_duplicates()
    both = losses.merge(runs, on=_RUN)
    sets = both.groupby("eval_set")["train_set"].nunique()
    both = both[both["eval_set"].isin(sets.index[sets == runs["train_set"].nunique()])]
    if both.empty:
        return None
    counts = both.groupby("eval_set").size()
    both = both[both["eval_set"].isin(counts.index[counts == counts.max()])]
    if "loss_se" in both and both["loss_se"].notna().all():
        noise = (both["loss_se"] / both["loss"]).groupby(both["eval_set"]).median()
    else:
        noise = both.groupby("eval_set")[["train_set", "params", "tokens", "loss"]].apply(_scatter)
    return str(noise.idxmin())


def _scatter(runs: pd.DataFrame) -> float:
    """Scatter of log loss about a surface in log N and log D, the worst of the training sets."""
    columns = ("params", "tokens", "loss")
    surfaces = (fit_surface(*np.log(part[[*columns]].to_numpy()).T) for _, part in runs.groupby("train_set"))
    return max(float(np.std(surface.residuals)) for surface in surfaces)


def _chance(rows: pd.DataFrame) -> pd.Series[float]:
    """Chance of every task; its largest error where no row says it."""
    largest = rows.groupby("eval_set")["loss"].max()
    said = rows.groupby("eval_set")["chance"].median() if "chance" in rows else largest
    return said.fillna(largest).clip(lower=1 - MOST, upper=1.0)


def _without_loss(rows: pd.DataFrame) -> tuple[Note, ...]:
    lost = rows[rows["_x"].isna()]
    if lost.empty:
        return ()
    first = lost.iloc[0]
    message = (
        f"{len(lost)} of {len(rows)} error rates are not used: their runs have no loss on {first['predictor']!r} "
        f"(the first is run {first['run_id']!r})"
    )
    return (Note("errors_without_loss", "warning", message, {"rows": len(lost)}),)
