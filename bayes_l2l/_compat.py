"""The one place that knows PyMC 5 from 6 and ArviZ 0.x from 1.x."""

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
