"""Lowering: the log density of a PyMC model, as PyTensor has it, to the instructions of a tape.

The PyMC model stays what defines a density; this only says the same in other words. What depends on no data is
computed here, what depends on data alone is computed once for given data, and shapes are those of the data: a tape
serves all data of the same shapes. A model with an operation that no instruction serves is refused with
`NotLoweredError`, and is compiled by nutpie instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.density import machine
from bayes_l2l.density._compat import basic_indices, toposort
from bayes_l2l.density.tape import Ints, Tape
from bayes_l2l.density.whitening import Whitening
from bayes_l2l.structures.parameters import INNER

if TYPE_CHECKING:
    import pymc as pm

#: Rewrites that nutpie and PyMC, too, apply to a log density before it is compiled.
_REWRITES: Final = ("canonicalize", "stabilize", "local_remove_check_parameter")
#: Operations of PyTensor that are instructions under another name.
_NAMES: Final = {"ScalarMaximum": "Maximum", "ScalarMinimum": "Minimum", "Cast": "Identity"}


class NotLoweredError(Exception):
    """An operation of a model that no instruction serves."""


@dataclass(eq=False)
class Room:
    """Numbers that lie together. Where, is said when all are known.

    Attributes
    ----------
    size : int
        How many.
    active : bool
        Whether they depend on the parameters.
    numbers : ndarray, optional
        What they are, if that is known without data: floats, or integers, which are places.
    integer : bool
        Whether they are places.
    """

    size: int
    active: bool = False
    numbers: npt.NDArray[Any] | None = None
    integer: bool = False
    place: int = -1


@dataclass(frozen=True)
class View:
    """An array as it lies in a room: its first number, and its shape and strides, as of a NumPy array, in numbers."""

    room: Room
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def active(self) -> bool:
        """Whether it depends on the parameters."""
        return self.room.active

    @property
    def place(self) -> int:
        """Place of its first number."""
        return self.room.place + self.offset

    @property
    def places(self) -> Ints:
        """Place of every number, in the shape of the array."""
        found = np.full(self.shape, self.place)
        for axis, (n, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            found += np.reshape(np.arange(n) * stride, [-1 if a == axis else 1 for a in range(len(self.shape))])
        return found

    @property
    def is_contiguous(self) -> bool:
        """Whether its numbers lie in their order, one after the other."""
        return self.strides == _strides(self.shape) or prod(self.shape) <= 1

    def broadcast(self, shape: tuple[int, ...]) -> View:
        """The same along a larger shape."""
        missing = len(shape) - len(self.shape)
        own = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        steps = tuple(0 if n == 1 else step for n, step in zip(own, strides, strict=True))
        return View(self.room, self.offset, shape, steps)


@dataclass(frozen=True)
class Line:
    """An instruction before its numbers have places."""

    code: str
    out: View
    out_steps: tuple[int, int]
    grid: tuple[int, int]
    operands: tuple[tuple[View, tuple[int, int]], ...]
    extra: Room | None = None
    scratch: int = 0

    @property
    def views(self) -> list[View]:
        """Its operands."""
        return [view for view, _ in self.operands]


#: What a variable of the graph is: known here, or where its numbers will lie.
Value = View | npt.NDArray[Any]


class Lowering:
    """A model's log density, ready to be lowered for data of any shapes.

    Parameters
    ----------
    model : pymc.Model
        With its data in `pm.Data`.
    """

    def __init__(self, model: pm.Model) -> None:
        import pytensor

        self._parameters = [model.rvs_to_values[variable] for variable in model.free_RVs]
        self._data = list(model.data_vars)
        self._start = model.initial_point(random_seed=0)
        own = [variable for variable in model.free_RVs if not variable.name.endswith(INNER)]
        reported = [*model.deterministics, *own]
        self._reported = [variable.name for variable in reported]
        self._dims = {name: model.named_vars_to_dims.get(name, ()) for name in self._reported}
        self._coords = {str(dim): [str(name) for name in names] for dim, names in model.coords.items()}
        normal, others = _normal_priors(model)
        terms = model.logp(vars=[*others, *model.potentials], sum=False)
        moments = [moment for _, *of_one in normal for moment in of_one]
        graphs = [*terms, *model.replace_rvs_by_values([*reported, *moments])]
        self._graphs = pytensor.graph.rewrite_graph(graphs, include=_REWRITES)
        self._normal = [value for value, *_ in normal]
        self._n_terms = len(terms)

    def tape(self, arrays: Mapping[str, Any]) -> Tape:
        """Tape for data of the shapes of these.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Data by name.

        Returns
        -------
        Tape
            To be filled with data.

        Raises
        ------
        NotLoweredError
            If the model has an operation that no instruction serves.
        """
        shapes = [np.shape(self._start[variable.name]) for variable in self._parameters]
        data = {variable: np.asarray(arrays[variable.name]) for variable in self._data}
        lowering = _Lowering(self._parameters, shapes, data)
        values = lowering.visit(self._graphs)
        terms, rest = values[: self._n_terms], values[self._n_terms :]
        for term in terms:
            lowering.add_term(term)
        moments = iter(rest[len(self._reported) :])
        for variable, mean, scale in zip(self._normal, moments, moments, strict=True):
            lowering.add_normal(lowering.values[variable], mean, scale)
        tape = lowering.tape(
            dict(zip(self._reported, rest[: len(self._reported)], strict=True)),
            names=[variable.name for variable in self._parameters],
            start=np.concatenate([np.ravel(self._start[variable.name]) for variable in self._parameters]),
        )
        return replace(tape, dims=self._dims, coords=self._coords)


def _normal_priors(model: pm.Model) -> tuple[list[tuple[Any, Any, Any]], list[Any]]:
    """Parameters that are normal as the sampler sees them, each with its mean and scale; and all others.

    A log-normal quantity is sampled as its logarithm, which is normal.
    """
    import pymc as pm
    from pymc.distributions.transforms import log

    normal, others = [], []
    for variable in model.free_RVs:
        transform, family = model.rvs_to_transforms.get(variable), type(variable.owner.op)
        plain = family is pm.Normal.rv_type and transform is None
        if plain or (family is pm.LogNormal.rv_type and transform is log):
            mean, scale = variable.owner.op.dist_params(variable.owner)
            normal.append((model.rvs_to_values[variable], mean, scale))
        else:
            others.append(variable)
    return normal, others


class _Lowering:
    """Graphs on their way to a tape."""

    def __init__(
        self, parameters: Sequence[Any], shapes: Sequence[tuple[int, ...]], data: dict[Any, npt.NDArray[Any]]
    ) -> None:
        self.values: dict[Any, Value] = {}
        self.shapes = list(shapes)
        self.rooms: list[Room] = []
        self.lines: list[Line] = []
        self.constants: dict[tuple[Any, ...], View] = {}
        self.slots: dict[str, View] = {}
        self.scratch = 0
        for variable, shape in zip(parameters, shapes, strict=True):
            self.values[variable] = self.array(shape, active=True)
        for variable, array in data.items():
            view = self.array(array.shape, integer=array.dtype.kind != "f")
            self.values[variable] = self.slots[variable.name] = view
        self.density = self.array((), active=True)

    def array(self, shape: tuple[int, ...], **of_room: Any) -> View:
        """A new array."""
        room = Room(prod(shape), **of_room)
        self.rooms.append(room)
        return View(room, 0, tuple(shape), _strides(shape))

    def constant(self, array: Any, dtype: Any = float) -> View:
        """Numbers that are known here."""
        array = np.array(array, dtype=dtype, order="C")
        key = (array.dtype.kind, np.shape(array), array.tobytes())
        if key not in self.constants:
            integer = array.dtype.kind != "f"
            self.constants[key] = self.array(np.shape(array), numbers=array.ravel(), integer=integer)
        return self.constants[key]

    def number(self, value: Value) -> View:
        """Where a value lies."""
        if not isinstance(value, View):
            return self.constant(value)
        if value.room.integer:
            raise NotLoweredError("integers of the data as numbers")
        return value

    def visit(self, outputs: Sequence[Any]) -> list[Value]:
        """Lower what variables are computed by."""
        for node in toposort(list(outputs)):
            values = [self.value(variable) for variable in node.inputs]
            if all(not isinstance(value, View) for value in values):
                storage: list[Any] = [[None] for _ in node.outputs]
                node.op.perform(node, values, storage)
                self.values.update(zip(node.outputs, (np.asarray(kept[0]) for kept in storage), strict=True))
                continue
            name = type(node.op).__name__
            handle: Callable[..., Value] | None = getattr(self, f"_{name}", None)
            if handle is None:
                raise NotLoweredError(name)
            self.values[node.outputs[0]] = handle(node, *values)
        return [self.value(variable) for variable in outputs]

    def value(self, variable: Any) -> Value:
        if variable not in self.values:
            if not hasattr(variable, "data"):
                raise NotLoweredError(f"variable {variable}")
            self.values[variable] = np.asarray(variable.data)
        return self.values[variable]

    # Instructions

    def emit(self, name: str, operands: Sequence[View], shape: tuple[int, ...]) -> View:
        """An elementwise instruction."""
        out = self.array(shape, active=any(view.active for view in operands))
        views = [view.broadcast(shape) for view in operands]
        grid, steps = _grid(shape, [view.strides for view in views])
        self.lines.append(Line(name, out, (0, 0), grid, tuple(zip(views, steps, strict=True))))
        return out

    def elementwise(self, name: str, values: Sequence[Value]) -> View:
        views = [self.number(value) for value in values]
        return self.emit(name, views, np.broadcast_shapes(*(view.shape for view in views)))

    def emit_one(self, name: str, value: Value) -> View:
        view = self.number(value)
        return self.emit(name, [view], view.shape)

    def sum(self, view: View, out: View, out_steps: tuple[int, ...]) -> None:
        grid, (of_out, of_view) = _grid(view.shape, [out_steps, view.strides])
        self.lines.append(Line("Sum", out, of_out, grid, ((view, of_view),)))

    def add_term(self, value: Value) -> None:
        """Add a term to the log density."""
        view = self.number(value)
        self.sum(view, self.density, (0,) * len(view.shape))

    def add_normal(self, *values: Value) -> None:
        """Add the log density of normal numbers of a mean and a standard deviation."""
        views = [self.number(value) for value in values]
        views = [view.broadcast(views[0].shape) for view in views]
        grid, steps = _grid(views[0].shape, [view.strides for view in views])
        self.lines.append(Line("Normal", self.density, (0, 0), grid, tuple(zip(views, steps, strict=True))))

    def _Elemwise(self, node: Any, *values: Value) -> Value:
        name = type(node.op.scalar_op).__name__
        name = _NAMES.get(name, name)
        if name == "Second":
            return self.number(values[1]).broadcast(np.broadcast_shapes(*(np.shape(v) for v in map(_shaped, values))))
        if name == "Identity":
            return values[0]
        if name == "Clip":
            return self.elementwise("Minimum", [self.elementwise("Maximum", values[:2]), values[2]])
        if name == "Reciprocal":
            return self.elementwise("TrueDiv", [np.array(1.0), values[0]])
        if name == "Pow" and not isinstance(values[1], View) and np.size(values[1]) == 1:
            exponent = float(np.ravel(values[1])[0])
            shape = np.broadcast_shapes(np.shape(_shaped(values[0])), np.shape(values[1]))
            base = self.number(values[0]).broadcast(shape)
            if exponent == 2:
                return self.emit("Sqr", [base], shape)
            if exponent == -1:
                return self.elementwise("TrueDiv", [np.array(1.0), base])
            if exponent == 0.5:
                return self.emit("Sqrt", [base], shape)
        if name == "Pow" and isinstance(values[1], View):
            return self.emit_one("Exp", self.elementwise("Mul", [values[1], self.emit_one("Log", values[0])]))
        if name not in machine.CODES:
            raise NotLoweredError(name)
        if name in ("Add", "Mul") and len(values) != 2:
            # What is known comes first, so that it is computed once.
            ordered = sorted(
                values, key=lambda value: isinstance(value, View) + (isinstance(value, View) and value.active)
            )
            found = ordered[0]
            for value in ordered[1:]:
                found = self.elementwise(name, [found, value])
            return found
        return self.elementwise(name, values)

    def _Sum(self, node: Any, value: Value) -> Value:
        view = self.number(value)
        axes = range(len(view.shape)) if node.op.axis is None else [a % len(view.shape) for a in node.op.axis]
        shape = tuple(n for axis, n in enumerate(view.shape) if axis not in axes)
        out = self.array(shape, active=view.active)
        steps = iter(out.strides)
        self.sum(view, out, tuple(0 if axis in axes else next(steps) for axis in range(len(view.shape))))
        return out

    def _Dot(self, node: Any, *values: Value) -> Value:
        left, right = (self.number(value) for value in values)
        if len(left.shape) != 2 or len(right.shape) != 2:
            raise NotLoweredError("Dot of other than matrices")
        if right.strides[1] != 1:
            right = self.emit("Identity", [right], right.shape)
        out = self.array((left.shape[0], right.shape[1]), active=left.active or right.active)
        operands = ((left, (left.strides[0], left.strides[1])), (right, (right.strides[0], 1)))
        self.lines.append(Line("Dot", out, (left.shape[1], 0), (out.shape[0], out.shape[1]), operands))
        return out

    def _AdvancedSubtensor(self, node: Any, value: Value, *index: Value) -> Value:
        view = self.number(value)
        if len(index) != 1 or len(view.shape) != 1 or not hasattr(index[0], "shape") or len(index[0].shape) != 1:
            raise NotLoweredError("AdvancedSubtensor of other than a vector")
        at = index[0] if isinstance(index[0], View) else self.constant(index[0], dtype=np.int64)
        out = self.array(at.shape, active=view.active)
        operands = ((view, (0, view.strides[0])), (at, (0, 0)))
        self.lines.append(Line("Gather", out, (0, 0), (1, at.shape[0]), operands))
        return out

    _AdvancedSubtensor1 = _AdvancedSubtensor

    def _RunLikelihood(self, node: Any, *values: Value) -> Value:
        n_parameters, n_data = len(machine.RUN_PARAMETERS), len(machine.RUN_DATA)
        parameters = [self.number(value) for value in values[:n_parameters]]
        for k in (0, -1):  # of every run, and of every point: read one after the other
            if not parameters[k].is_contiguous:
                parameters[k] = self.emit("Identity", [parameters[k]], parameters[k].shape)
        data = [self.number(value) for value in values[n_parameters : n_parameters + n_data]]
        places = [value for value in values[n_parameters + n_data :] if isinstance(value, View)]
        if any(view.active or not view.is_contiguous for view in data) or len(places) < len(machine.RUN_PLACES):
            raise NotLoweredError("a likelihood of runs whose data are not data")
        n_runs, n_points = data[0].shape[0], data[2].shape[0]
        n_cells = max(view.shape[0] for view in parameters[1:5])
        n = {"progress": n_runs, "effect_scale": n_points}
        lengths = [n.get(name, n_cells) for name in machine.RUN_PARAMETERS]
        steps = [view.broadcast((m,)).strides[0] for view, m in zip(parameters, lengths, strict=True)]
        size = 3 + 3 * n_parameters + n_data + len(places)
        arguments = Room(size, numbers=np.array([n_runs, n_points, n_cells] + [0] * (size - 3)), integer=True)
        self.rooms.append(arguments)
        out = self.array((), active=True)
        operands = [(view, (0, step)) for view, step in zip(parameters, steps, strict=True)]
        operands += [(view, (0, 1)) for view in (*data, *places)]
        self.lines.append(Line("Runs", out, (0, 0), (1, 1), tuple(operands), arguments, self.scratch))
        self.scratch += machine.run_scratch(n_runs, n_points)
        return out

    # The same numbers, seen otherwise

    def _DimShuffle(self, node: Any, value: Value) -> Value:
        view = self.number(value)
        order = node.op.new_order
        shape = tuple(1 if axis == "x" else view.shape[axis] for axis in order)
        strides = tuple(0 if axis == "x" else view.strides[axis] for axis in order)
        return View(view.room, view.offset, shape, strides)

    _ExpandDims = _DimShuffle

    def _SpecifyShape(self, node: Any, value: Value, *shape: Value) -> Value:
        return value

    def _Alloc(self, node: Any, value: Value, *shape: Value) -> Value:
        return self.number(value).broadcast(tuple(int(np.asarray(n)) for n in shape))

    def _Reshape(self, node: Any, value: Value, shape: Value) -> Value:
        view = self.number(value)
        new = np.empty(view.shape, dtype=bool).reshape(tuple(np.asarray(shape).ravel())).shape
        if not view.is_contiguous:
            view = self.emit("Identity", [view], view.shape)
        return View(view.room, view.offset, new, _strides(new))

    def _Subtensor(self, node: Any, value: Value, *index: Value) -> Value:
        view = value if isinstance(value, View) else self.constant(value)
        place, shape, strides = view.offset, [], []
        chosen = basic_indices(node, index)
        for axis, n in enumerate(view.shape):
            step = view.strides[axis]
            one = chosen[axis] if axis < len(chosen) else slice(None)
            if isinstance(one, slice):
                first, last, by = one.indices(n)
                place += first * step
                shape.append(len(range(first, last, by)))
                strides.append(by * step)
            else:
                place += (int(one) % n) * step
        return View(view.room, place, tuple(shape), tuple(strides))

    def _Shape(self, node: Any, value: Value) -> Value:
        return np.array(np.shape(_shaped(value)))

    def _Shape_i(self, node: Any, value: Value) -> Value:
        return np.array(np.shape(_shaped(value))[node.op.i])

    # The tape

    def tape(self, reported: dict[str, Value], *, names: list[str], start: Any) -> Tape:
        """What was lowered."""
        views = {name: self.number(value) for name, value in reported.items()}
        # Whatever is reported, a constant too, is read off among the results.
        views = {n: view if view.active else self.emit_result(view) for n, view in views.items()}
        density, report = self.needed([self.density]), self.needed(list(views.values()))
        static = [line for line in self.lines if not line.out.active]
        layout = self.place([*density, *report])
        slots = {name: (view.place, view.shape, view.room.integer) for name, view in self.slots.items()}
        known, indices = (
            np.zeros(1 + sum(room.size for room in self.rooms if room.integer == integer and not room.active), dtype)
            for integer, dtype in ((False, float), (True, np.int64))
        )
        for room in self.rooms:
            if room.numbers is not None:
                (indices if room.integer else known)[room.place : room.place + room.size] = room.numbers
        return Tape(
            names=names,
            shapes=self.shapes,
            start=np.asarray(start, dtype=float),
            whitening=Whitening.none(np.zeros(len(start))),
            data={name: (place, shape) for name, (place, shape, integer) in slots.items() if not integer},
            places={name: (place, shape) for name, (place, shape, integer) in slots.items() if integer},
            known=known,
            static=self.program(static, indices, 0),
            density=self.program(density, indices, layout[1]),
            report=self.program(report, indices, layout[1]),
            indices=indices,
            reported={name: (view.places.ravel(), view.shape) for name, view in views.items()},
            layout=np.array([*layout, self.density.place]),
        )

    def emit_result(self, view: View) -> View:
        out = self.array(view.shape, active=True)
        grid, (steps,) = _grid(view.shape, [view.strides])
        self.lines.append(Line("Identity", out, (0, 0), grid, ((view, steps),)))
        return out

    def needed(self, views: list[View]) -> list[Line]:
        """Instructions that some results need, in their order."""
        wanted = {id(view.room) for view in views}
        kept = []
        for line in reversed(self.lines):
            if line.out.active and id(line.out.room) in wanted:
                kept.append(line)
                wanted.update(id(view.room) for view in line.views)
        return kept[::-1]

    def place(self, lines: list[Line]) -> tuple[int, int, int]:
        """Give every room its place.

        Numbers lie as constants that instructions read, parameters and results, and what instructions keep for
        themselves; data that only the likelihood of runs reads come after the constants, where nothing copies them.
        """
        read = {id(view.room) for line in lines for view in self.read(line)}
        rooms = [room for room in self.rooms if not room.integer]
        constants = [room for room in rooms if not room.active and id(room) in read]
        others = [room for room in rooms if not room.active and id(room) not in read]
        active = [room for room in rooms if room.active]
        for group in ([*constants, *others], [*constants, *active], [r for r in self.rooms if r.integer]):
            place = 0
            for room in group:
                room.place = place
                place += room.size
        first = sum(room.size for room in constants)
        results = first + sum(room.size for room in active)
        return first, results, results + self.scratch

    @staticmethod
    def read(line: Line) -> list[View]:
        """Operands that an instruction reads among constants and results."""
        if line.code == "Runs":
            return line.views[: len(machine.RUN_PARAMETERS)]
        return line.views[:1] if line.code == "Gather" else line.views

    def program(self, lines: list[Line], indices: Ints, scratch: int) -> Ints:
        """Instructions as numbers; operands of the likelihood of runs go to `indices`."""
        found = np.zeros((len(lines), machine.WIDTH), dtype=np.int64)
        for row, line in zip(found, lines, strict=True):
            row[:6] = machine.CODES[line.code], line.out.place, *line.out_steps, *line.grid
            if line.extra is not None:
                arguments: list[int] = []
                for k, (view, steps) in enumerate(line.operands):
                    more = [steps[1], int(view.active)] if k < len(machine.RUN_PARAMETERS) else []
                    arguments += [view.place, *more]
                first = line.extra.place
                indices[first + 3 : first + 3 + len(arguments)] = arguments
                row[6], row[10] = first, scratch + line.scratch
                continue
            for k, (view, steps) in enumerate(line.operands):
                row[6 + 4 * k : 10 + 4 * k] = view.place, *steps, int(view.active)
        return found.ravel()


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of an array whose last axis is contiguous."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _grid(shape: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Rows and columns that an instruction runs along, and every operand's steps along both."""
    axes = [axis for axis, n in enumerate(shape) if n != 1]
    # Axes that all operands go through evenly are one.
    merged: list[tuple[int, list[int]]] = []
    for axis in axes:
        steps = [own[axis] for own in strides]
        if merged and all(before == step * shape[axis] for before, step in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * shape[axis], steps)
        else:
            merged.append((shape[axis], steps))
    if len(merged) > 2:
        raise NotLoweredError(f"arrays of {len(merged)} axes")
    if 0 in shape:
        return (0, 0), [(0, 0)] * len(strides)
    merged = [(1, [0] * len(strides))] * (2 - len(merged)) + merged
    (rows, along_rows), (cols, along_cols) = merged
    return (rows, cols), list(zip(along_rows, along_cols, strict=True))


def _shaped(value: Value) -> Any:
    """An array of the shape of a value, without its numbers."""
    return np.broadcast_to(0, value.shape) if isinstance(value, View) else value
