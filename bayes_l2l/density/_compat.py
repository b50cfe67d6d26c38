"""The one place that knows PyMC 5 from 6, ArviZ 0.x from 1.x and one nutpie from another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

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


def toposort(outputs: list[Any]) -> list[Any]:
    """Nodes of a PyTensor graph, every one after those that it depends on: PyTensor 3 moved both functions."""
    try:
        from pytensor.graph.traversal import graph_inputs, io_toposort
    except ImportError:
        from pytensor.graph.basic import graph_inputs, io_toposort
    nodes: list[Any] = io_toposort(list(graph_inputs(outputs)), outputs)
    return nodes


def basic_indices(node: Any, index: Sequence[Any]) -> list[Any]:
    """Integers and slices of a basic indexing, whose scalars are these values: PyTensor 3 lists them otherwise."""
    scalars = iter(index)

    def filled(entry: Any) -> Any:
        if isinstance(entry, slice):
            return slice(
                *(None if part is None else int(next(scalars)) for part in (entry.start, entry.stop, entry.step))
            )
        return int(next(scalars))

    return [filled(entry) for entry in node.op.idx_list]


def nutpie_model(tape: Any, start: Callable[[int], Any]) -> Any:
    """A model that nutpie samples, of a log density that it did not compile.

    Parameters
    ----------
    tape : bayes_l2l.density.tape.Tape
        The log density. Draws are of one variable, ``point``.
    start : callable
        Gives the start of a chain by its seed.

    Returns
    -------
    nutpie.sample.CompiledModel
    """
    from dataclasses import dataclass

    from nutpie import _lib
    from nutpie.sample import CompiledModel

    n = len(tape.start)
    density, copy, header = tape.callbacks

    @dataclass(frozen=True)
    class Model(CompiledModel):  # type: ignore[misc]
        @property
        def n_dim(self) -> int:
            return n

        @property
        def shapes(self) -> dict[str, tuple[int, ...]]:
            return {"point": (n,)}

        @property
        def coords(self) -> dict[str, Any]:
            return {"unconstrained_parameter": range(n)}

        def _make_model(self, init_mean: Any) -> Any:
            sizes = {"unconstrained_parameter": n}
            return _lib.PyMcModel(
                _lib.LogpFunc(density, header.ctypes.data, tape),
                _lib.ExpandFunc(n, n, copy, header.ctypes.data, tape),
                _lib.PyVariable.new_variables(["point"], ["float64"], [(n,)], sizes, self.dims),
                n,
                sizes,
                {name: pd.Index(values) for name, values in self.coords.items()},
                start,
                None,
            )

        def _make_sampler(self, settings: Any, init_mean: Any, cores: int, *more: Any) -> Any:
            return _lib.PySampler.from_pymc(settings, cores, self._make_model(init_mean), *more)

    return Model(dims={"point": ("unconstrained_parameter",)})
