"""The one place that knows PyMC 5 from 6, ArviZ 0.x from 1.x and one nutpie from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


def group(trace: Any, name: str) -> xr.Dataset:
    """One group of what a sampler returned, as a Dataset.

    PyMC 5 and its nutpie return ArviZ's InferenceData, whose groups are Datasets; PyMC 6 and its nutpie return a
    DataTree, whose groups are trees.
    """
    part = trace[name]
    dataset: xr.Dataset = part.to_dataset() if hasattr(part, "to_dataset") else part
    return dataset


def low_rank_adaptation() -> dict[str, Any]:
    """Argument by which nutpie is asked for its low-rank mass matrix: 0.16.10 renamed it."""
    import inspect

    import nutpie

    if "adaptation" in inspect.signature(nutpie.sample).parameters:
        return {"adaptation": "low_rank"}
    return {"low_rank_modified_mass_matrix": True}
