"""Densities: the log densities of a model's modules, each made once and kept, in this process and on disk.

A log density is lowered to a tape, which takes a second, most of it PyMC's; a tape that was kept needs no PyMC. One
that cannot be lowered is compiled by nutpie in every process.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from bayes_l2l.density.laplace import laplace
from bayes_l2l.density.lowering import Lowering, NotLoweredError
from bayes_l2l.density.quiet import quiet
from bayes_l2l.density.tape import Tape
from bayes_l2l.density.whitening import Whitening
from bayes_l2l.errors import DataError
from bayes_l2l.files import code_digest, write_whole
from bayes_l2l.laws.error_curves import ERROR_CURVES
from bayes_l2l.laws.family import LAW_FORMS
from bayes_l2l.laws.residuals import RESIDUALS
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.protocol import STRUCTURES, Module

#: Names the folder of what is kept between processes; if it is empty, nothing is.
FOLDER_VARIABLE: Final = "BAYES_L2L_CACHE"
#: How many tapes are kept.
_KEPT: Final = 200
_PACKAGE: Final = Path(__file__).parents[1]
#: Rooms that no log density depends on.
_ABOVE: Final = ("prediction", "decisions", "evaluation", "plotting", "report", "cli", "microsweep")
_LIBRARIES: Final = ("pymc", "pytensor", "numpy")
_ARRAYS: Final = ("start", "known", "indices", "static", "density", "report", "layout")


class Densities:
    """Log densities of the modules of a model, for the shapes of data that were asked for.

    Parameters
    ----------
    spec : ModelSpec
        What is believed.
    signature : hashable
        What the modules depend on besides.

    Attributes
    ----------
    made : dict of str to int
        How many were lowered, compiled, and taken from the disk.
    """

    def __init__(self, spec: ModelSpec, signature: Any) -> None:
        self._spec, self._signature = spec, signature
        self._lowerings: dict[int, Lowering] = {}
        self._tapes: dict[tuple[int, str], Tape] = {}
        self._compiled: dict[int, Any] = {}
        self.made = {"lowered": 0, "compiled": 0, "from disk": 0}

    def of(self, place: int, module: Module[Any], arrays: Mapping[str, Any]) -> Any:
        """Log density of a module given its data.

        Parameters
        ----------
        place : int
            Of the module among those of the model.
        module : Module
            Built if need be.
        arrays : mapping of str to ndarray
            Its data.

        Returns
        -------
        Tape or nutpie.compile_pymc.CompiledPyMCModel
            Filled with the data; the tape in coordinates in which it is about standard normal.
        """
        if place not in self._compiled:
            try:
                tape = self.tape(place, module, arrays)
                return replace(tape, whitening=laplace(tape, directions=module.directions))
            except NotLoweredError:
                import nutpie

                with quiet():
                    self._compiled[place] = nutpie.compile_pymc_model(module.model)
                self.made["compiled"] += 1
        compiled = self._compiled[place]
        # nutpie refuses data that a model does not use.
        return compiled.with_data(**{name: array for name, array in arrays.items() if name in compiled.shared_data})

    def tape(self, place: int, module: Module[Any], arrays: Mapping[str, Any]) -> Tape:
        """Log density of a module given its data, in the parameters as they are; otherwise as `of`.

        Raises
        ------
        NotLoweredError
            If no instruction serves it.
        """
        return self._tape(place, module, arrays).with_data(arrays)

    def _tape(self, place: int, module: Module[Any], arrays: Mapping[str, Any]) -> Tape:
        shapes = json.dumps({name: np.shape(array) for name, array in arrays.items()})
        if (place, shapes) not in self._tapes:
            file = self._file(place, shapes)
            tape = None if file is None else _read(file)
            source = "from disk" if tape else "lowered"
            if tape is None:
                with quiet():
                    if place not in self._lowerings:
                        self._lowerings[place] = Lowering(module.model)
                    tape = self._lowerings[place].tape(arrays)
                if file is not None:
                    _keep(tape, file)
            self._tapes[place, shapes] = tape
            self.made[source] += 1
        return self._tapes[place, shapes]

    def _file(self, place: int, shapes: str) -> Path | None:
        """Where the tape is kept between processes, under a hash of all that it is made of."""
        folder, mine = _folder(), _own_code()
        if folder is None or mine is None:
            return None
        code = code_digest(_PACKAGE, without=_ABOVE, libraries=_LIBRARIES)
        record = [code, mine, self._spec.to_dict(), repr(self._signature), place, shapes]
        return folder / f"{hashlib.sha256(json.dumps(record).encode()).hexdigest()[:32]}.npz"


def _folder() -> Path | None:
    """Folder of kept tapes."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named is not None:
        return Path(named) / "tapes" if named else None
    from pooch import os_cache

    return Path(os_cache("bayes_l2l")) / "tapes"


def _own_code() -> str | None:
    """Hash of the code of a user's own laws, curves, likelihoods and structures; None if it cannot be read."""
    items = [*LAW_FORMS.values(), *ERROR_CURVES.values(), *RESIDUALS.values(), *map(type, STRUCTURES.values())]
    own = [item for item in items if item.__module__.partition(".")[0] != __name__.partition(".")[0]]
    try:
        return "".join(_source_digest(item) for item in own)
    except (OSError, TypeError):
        return None


@cache
def _source_digest(item: type) -> str:
    return hashlib.sha256(Path(inspect.getfile(item)).read_bytes()).hexdigest()


def _read(file: Path) -> Tape | None:
    """A tape that was kept; None if there is none, or if it cannot be read."""
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in _ARRAYS}
            record = json.loads(str(kept["record"]))
            places = {name: kept[f"reported {name}"] for name in record["reported"]}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None

    def named(table: dict[str, Any]) -> dict[str, Any]:
        return {name: (place, tuple(shape)) for name, (place, shape) in table.items()}

    return Tape(
        **arrays,
        names=record["names"],
        shapes=[tuple(shape) for shape in record["shapes"]],
        data=named(record["data"]),
        places=named(record["places"]),
        reported={name: (places[name], tuple(shape)) for name, shape in record["reported"].items()},
        whitening=Whitening.none(np.zeros(len(arrays["start"]))),
        dims={name: tuple(dims) for name, dims in record["dims"].items()},
        coords=record["coords"],
    )


def _keep(tape: Tape, file: Path) -> None:
    """Keep a tape, whole, in place of the oldest; nothing is lost if that cannot be done."""
    record = {name: getattr(tape, name) for name in ("names", "shapes", "data", "places", "dims", "coords")}
    record["reported"] = {name: shape for name, (_, shape) in tape.reported.items()}
    arrays = {name: getattr(tape, name) for name in _ARRAYS}
    arrays |= {f"reported {name}": place for name, (place, _) in tape.reported.items()}
    with suppress(OSError, DataError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, lambda part: np.savez_compressed(part, record=json.dumps(record), **arrays))
        by_age = sorted(file.parent.glob("*.npz"), key=lambda one: one.stat().st_mtime)
        for old in by_age[:-_KEPT]:
            old.unlink(missing_ok=True)
