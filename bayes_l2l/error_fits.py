"""ErrorFit: draws of the laws from loss to error, and error rates forecast from draws of the loss.

A pure function of the draws, as all that follows sampling: nothing imports PyMC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.error_rate import ErrorLaw, ErrorSpec
from bayes_l2l.forecast import noise, stacked
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Floats = npt.NDArray[np.float64]

#: Groups of a fit's file that belong to the errors: draws, statistics of the sampler, and diagnostics.
GROUPS: Final = ("error_posterior", "error_sample_stats", "error_diagnostics")
_LAW: Final = ("ceiling", "level", "slope", "floor", "E", "sharpness", "shape")


@dataclass(frozen=True, eq=False, repr=False)
class ErrorFit:
    """Fitted laws from loss to error; `Fit.errors` of a fit to a table with error rates.

    Parameters
    ----------
    posterior : xarray.Dataset
        The fields of `ErrorLaw` and ``scatter``, dims chain, draw and cell ("task|train", with coordinates ``task``,
        ``train_set``, ``predictor`` (the evaluation whose loss is the law's), ``chance``, ``reference`` and
        ``smallest`` (losses: where the law is parameterised, and the smallest of the fitted runs), and ``learned``
        (whether the task has left chance; if not, the cell was not sampled and its draws are NaN)), and ``nu``.
    spec : ErrorSpec
        What was believed.
    seed : int
        Of the draws.
    notes : tuple of Note
        Statistical objections.
    """

    posterior: xr.Dataset
    spec: ErrorSpec
    seed: int
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        return f"<ErrorFit of model {self.spec.name!r} to {len(self.cells)} cells>"

    @property
    def cells(self) -> list[tuple[str, str]]:
        """(task, train_set) of every cell, in the order of the posterior."""
        return list(zip(self._names("task"), self._names("train_set"), strict=True))

    @property
    def learned(self) -> dict[tuple[str, str], bool]:
        """Whether each cell has left chance in the data; if not, nothing is forecast."""
        return dict(zip(self.cells, self.posterior["learned"].to_numpy().astype(bool).tolist(), strict=True))

    @property
    def predictor(self) -> dict[tuple[str, str], str]:
        """Evaluation whose loss the error of each cell is a function of."""
        return dict(zip(self.cells, self._names("predictor"), strict=True))

    def law(self, task: str, train_set: str) -> ErrorLaw:
        """Law of a cell, arrays of shape (draw,)."""
        column = [self.cells.index((task, train_set))]
        law = _law(stacked(self.posterior), column, form=self.spec.form)
        return ErrorLaw(self.spec.form, *(np.squeeze(v) for name, v in vars(law).items() if name != "form"))

    def draw(self, at: pd.DataFrame, loss: Floats, *, kind: str) -> Floats:
        """Draws of the error where the loss is what the draws of another posterior say.

        Parameters
        ----------
        at : pandas.DataFrame
            Columns eval_set (the task) and train_set, one row a point.
        loss : ndarray, shape (draw, point)
            Loss on each cell's `predictor` (nats/token). Draws are joined in their order with those of the laws.
        kind : {"run", "curve"}
            The error of a run, or the law.

        Returns
        -------
        ndarray, shape (draw, point)
            Error rates in [0, 1]; NaN where the task has not left chance in the data.
        """
        column = [self.cells.index(cell) for cell in zip(at["eval_set"], at["train_set"], strict=True)]
        n_draws = self.posterior.sizes["chain"] * self.posterior.sizes["draw"]
        rng = np.random.default_rng([self.seed, 3])
        joined = np.arange(len(loss)) if len(loss) == n_draws else rng.integers(n_draws, size=len(loss))
        long = stacked(self.posterior)
        law = _law(long, column, form=self.spec.form, draws=joined)
        # Beyond the fitted runs each task, on all training sets, goes on faster or more slowly than its law says.
        tasks = list(dict.fromkeys(task for task, _ in self.cells))
        pace = np.exp(self.spec.drift * rng.standard_normal((len(loss), len(tasks))))
        pace = pace[:, [tasks.index(task) for task in at["eval_set"]]]
        smallest = self.posterior["smallest"].to_numpy()[column]
        error = law(np.where(loss < smallest, smallest - pace * (smallest - loss), loss))
        if kind == "run":
            scatter = long["scatter"].to_numpy()[joined][:, column]
            nu = long["nu"].to_numpy()[joined][:, None]
            error = error + scatter * noise(rng, error.shape, nu=nu)
        known = self.posterior["learned"].to_numpy()[column].astype(bool)
        return np.where(known, np.clip(error, 0.0, 1.0), np.nan)

    def objections(self, cells: list[tuple[str, str]] | None = None) -> tuple[Note, ...]:
        """Note on the tasks that have not left chance, of these cells or of all."""
        learned = self.learned
        stuck: dict[str, list[str]] = {}
        for task, train in dict.fromkeys(self.cells if cells is None else cells):
            if not learned[task, train]:
                stuck.setdefault(task, []).append(train)
        if not stuck:
            return ()
        first = ", ".join(list(stuck)[:3]) + (f" and {len(stuck) - 3} more" if len(stuck) > 3 else "")
        message = (
            f"{first} have not left chance by more than runs scatter: nothing can be learned about their error "
            "beyond these runs, and their forecasts are left empty"
        )
        return (Note("at_chance", "warning", message, {"tasks": stuck}),)

    def _names(self, coordinate: str) -> list[str]:
        return [str(name) for name in self.posterior[coordinate].to_numpy()]


def _law(posterior: xr.Dataset, column: Any, *, form: str, draws: Any = slice(None)) -> ErrorLaw:
    """Laws of some cells, arrays of shape (draw, cell), from stacked draws."""
    drawn = {name: posterior[name].to_numpy()[draws][:, column] for name in _LAW if name in posterior}
    return ErrorLaw(form=form, reference=posterior["reference"].to_numpy()[column], **drawn)
