"""Posterior: draws with everything that is needed to read them, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.data.columns import SHOWN_LOSS_UNITS
from bayes_l2l.data.mixtures import weight_columns
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.notes import Note
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.spec.model import ModelSpec

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Columns of a fitted table that are text, and all that are kept.
_TEXT_COLUMNS: Final = ("run_id", "train_set", "eval_set", "metric")
_STORED_COLUMNS: Final = (*_TEXT_COLUMNS, "params", "tokens", "flops", "loss", "loss_se", "n_items", "chance", "step")


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Draws of a model, with what was believed and what was seen.

    Parameters
    ----------
    tree : xarray.DataTree
        Groups ``posterior``, ``sample_stats``, ``diagnostics`` and ``observed_data`` (the fitted table).
    spec : ModelSpec
        What was believed.
    settings : SamplerSettings
        How the posterior was drawn.
    notes : tuple of Note
        Statistical objections to the table and to the fit.
    record : dict
        What else is known: versions, when it was made, how long it took, and the sweep's name, provenance and
        unit of losses.
    errors : Posterior, optional
        Of the error rates of the same runs, of a model with structure "error_rate", if the table had any.
    """

    tree: xr.DataTree
    spec: ModelSpec
    settings: SamplerSettings
    notes: tuple[Note, ...]
    record: dict[str, Any]
    errors: Posterior | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of model {self.spec.name!r} to {self.sweep!r}>"

    @cached_property
    def draws(self) -> xr.Dataset:
        """Draws, dims chain, draw and cell ("eval|train", with coordinates ``eval_set`` and ``train_set``).

        Where cells are related one by one, pair instead of cell ("eval@train -> eval@train", with coordinates
        ``source`` and ``target``, and ``eval_set`` and ``train_set`` of the target).
        """
        return self.tree["posterior"].to_dataset()

    @property
    def diagnostics(self) -> xr.Dataset:
        """R-hat, bulk and tail effective sample size of every quantity, along ``diagnostic``."""
        return self.tree["diagnostics"].to_dataset()

    @property
    def sample_stats(self) -> xr.Dataset:
        """Statistics of the sampler, dims chain and draw."""
        return self.tree["sample_stats"].to_dataset()

    @property
    def seed(self) -> int:
        """Of the draws, and of those that are made from them."""
        return self.settings.seed

    @cached_property
    def sweep(self) -> Sweep:
        """What was fitted."""
        table = self.tree["observed_data"].to_dataset().to_dataframe().reset_index(drop=True)
        table = table.astype(dict.fromkeys(_TEXT_COLUMNS, "str"))
        stored = self.record["sweep"]
        # Fits of before units were kept are all of losses in the first one.
        unit = stored.get("loss_unit", SHOWN_LOSS_UNITS[0])
        return Sweep(table, stored["name"], stored["provenance"], stored["simulated"], loss_unit=unit)

    @cached_property
    def cells(self) -> list[tuple[str, str]]:
        """Every (eval_set, train_set) that can be forecast, in the order of the draws."""
        pairs = zip(self.draws["eval_set"].values, self.draws["train_set"].values, strict=True)
        return list(dict.fromkeys((str(e), str(t)) for e, t in pairs))

    @property
    def error_cells(self) -> list[tuple[str, str]]:
        """Every (task, train_set) whose error rate can be forecast; none if the table had no error rates."""
        return self.errors.cells if self.errors else []

    @cached_property
    def max_flops(self) -> dict[str, float]:
        """Largest fitted compute of every training set (FLOPs)."""
        return {str(t): float(c) for t, c in self.sweep.table.groupby("train_set")["flops"].max().items()}

    @property
    def trusted(self) -> bool:
        """Whether no note is serious."""
        return all(note.severity != "serious" for note in self.notes)

    def columns(self, cells: pd.DataFrame) -> list[int]:
        """Place among the draws' cells of every row of a table with columns eval_set and train_set."""
        place = {cell: i for i, cell in enumerate(self.cells)}
        return [place[cell] for cell in zip(cells["eval_set"], cells["train_set"], strict=True)]


def observed(table: pd.DataFrame) -> xr.Dataset:
    """A fitted table as a group of a posterior's tree."""
    import xarray as xr

    # Where runs have sizes, a step is only carried along, and may be anything.
    sized = table["params"].notna().all()
    names = [c for c in _STORED_COLUMNS if c in table and not (sized and c == "step")]
    kept = table[[*names, *weight_columns(table)]]
    return xr.Dataset({c: ("row", kept[c].to_numpy(dtype=object if c in _TEXT_COLUMNS else float)) for c in kept})
