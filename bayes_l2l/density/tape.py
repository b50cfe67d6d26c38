"""Tape: the log density of a model as a list of instructions on a flat array of numbers.

A model of a hundred small parameters is hundreds of small nodes. Compiled as one function each model costs tens of
seconds; run one by one they cost more than their arithmetic. So a model is lowered (`lowering.py`) to instructions,
which one machine (`machine.py`), compiled once for all models, runs forward for the log density and in reverse for
its gradient (Griewank and Walther, 2008, Evaluating Derivatives, section 3.2).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bayes_l2l.density import machine
from bayes_l2l.density.whitening import Whitening

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@cache
def _called(address: int) -> Any:
    """What nutpie calls, to be called from here."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)(address)


@dataclass(frozen=True, eq=False)
class Tape:
    """A log density as instructions, for arrays of given shapes.

    Parameters
    ----------
    names, shapes : list
        Unconstrained parameters, in the order in which they lie in a point, and their shapes.
    start : ndarray, shape (dimension,)
        Where chains start.
    data, places : dict of str to (int, tuple)
        Of every array that the model conditions on, its place in `known` or in `indices` and its shape.
    known, indices : ndarray
        What does not depend on the parameters, and places that are gathered; filled by `with_data`.
    static, density, report : ndarray of int, shape (instruction * WIDTH,)
        What is computed of the data once, for the log density, and for the quantities that are reported.
    reported : dict of str to (ndarray of int, tuple)
        Places of the reported quantities and their shapes.
    layout : ndarray of int, shape (4,)
        See `bayes_l2l.density.machine.density_and_gradient`.
    whitening : Whitening
        Coordinates of the points.
    dims : dict of str to tuple of str
        Dimensions of the reported quantities.
    coords : dict of str to list of str
        Names along them.
    """

    names: list[str]
    shapes: list[tuple[int, ...]]
    start: Floats
    data: dict[str, tuple[int, tuple[int, ...]]]
    places: dict[str, tuple[int, tuple[int, ...]]]
    known: Floats
    indices: Ints
    static: Ints
    density: Ints
    report: Ints
    reported: dict[str, tuple[Ints, tuple[int, ...]]]
    layout: Ints
    whitening: Whitening
    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    coords: dict[str, list[str]] = field(default_factory=dict)

    def with_data(self, arrays: Mapping[str, Any]) -> Tape:
        """The same with these arrays, which must have the shapes that it was made for."""
        known, indices = self.known.copy(), self.indices.copy()
        for where, into in ((self.data, known), (self.places, indices)):
            for name, (place, shape) in where.items():
                size = math.prod(shape)
                into[place : place + size] = np.reshape(arrays[name], size)
        filled = replace(self, known=known, indices=indices)
        filled._forward(self.static, known)
        return filled

    @property
    def of_offsets(self) -> Tape:
        """The same density, of offsets in place of effects whose spread is unknown (see `laplace`)."""
        program = self.density.reshape(-1, machine.WIDTH).copy()
        hierarchical = (program[:, 0] == machine.CODES["Normal"]) & (program[:, -1] != 0)
        program[hierarchical, 0] = machine.CODES["Offset"]
        return replace(self, density=program.ravel())

    def _header(self, program: Ints, work: Floats | None = None) -> Ints:
        """What the machine is called with for a program."""
        w = self.whitening
        arrays = (program, self.known, self.indices, self.layout, w.center, w.scale, w.directions, w.factors)
        numbers = [number for array in arrays for number in (array.ctypes.data, array.size)]
        return np.array([*numbers, 0 if work is None else work.ctypes.data], dtype=np.int64)

    @cached_property
    def callbacks(self) -> tuple[int, int, Ints]:
        """Addresses of what nutpie calls, and what it hands them; this object must outlive their use."""
        return machine.density_and_gradient.address, machine.copy.address, self._header(self.density)

    def log_density(self, z: Floats) -> tuple[float, Floats]:
        """Log density at a point and its gradient, shape (dimension,); NaN where they are not finite."""
        density, _, header = self.callbacks
        z, out, value = np.array(z, dtype=float), np.empty(len(self.start)), np.empty(1)
        places = (array.ctypes.data for array in (z, out, value, header))
        if _called(density)(len(z), *places) != 0:
            return np.nan, np.full(len(z), np.nan)
        return float(value[0]), out

    def _forward(self, program: Ints, work: Floats) -> None:
        """Run a program forward among some numbers."""
        header = self._header(program, work)
        _called(machine.density_and_gradient.address)(0, None, None, None, header.ctypes.data)

    def log_densities(self, points: Floats) -> Floats:
        """Log densities at points of shape (point, dimension), without gradients; -inf where they are not finite."""
        found, places = np.empty((len(points), 1)), self.layout[3:4]
        self._run(self.density, self.whitening.parameters(points), places, found)
        return np.where(np.isfinite(found[:, 0]), found[:, 0], -np.inf)

    def _run(self, program: Ints, points: Floats, places: Ints, found: Floats) -> None:
        """Run a program at points, and put the numbers at some places of its work into the rows of an array."""
        first, n_results, n_numbers, _ = self.layout.tolist()
        work = np.empty(n_numbers)
        work[:first] = self.known[:first]
        call, header = _called(machine.density_and_gradient.address), self._header(program, work)
        for row, point in zip(found, points, strict=True):
            work[first : first + point.size] = point
            work[first + point.size : n_results] = 0.0
            call(0, None, None, None, header.ctypes.data)
            row[:] = work[places]

    def quantities(self, points: Floats) -> dict[str, Floats]:
        """Reported quantities at points of shape (..., dimension): arrays of shape (..., *own)."""
        flat = self.whitening.parameters(points.reshape(-1, points.shape[-1]))
        places = np.concatenate([place for place, _ in self.reported.values()])
        found = np.empty((len(flat), places.size))
        self._run(self.report, flat, places, found)
        parts = np.split(found, np.cumsum([place.size for place, _ in self.reported.values()])[:-1], axis=1)
        return {
            name: part.reshape((*points.shape[:-1], *shape))
            for (name, (_, shape)), part in zip(self.reported.items(), parts, strict=True)
        }
