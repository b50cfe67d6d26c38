"""The file of a posterior: one NetCDF file with everything that is needed to read it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError, FitFileError, L2LError
from bayes_l2l.files import write_bytes
from bayes_l2l.inference.netcdf import MAGIC, from_bytes, to_bytes, unsealed
from bayes_l2l.inference.soundness import GROUPS, check, check_stored
from bayes_l2l.notes import Note
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.structures.models import load_spec

if TYPE_CHECKING:
    import xarray as xr

Kind = TypeVar("Kind", bound=Posterior)

#: Version of the file format, and those that are read: version 2 had no checksum.
FORMAT: Final = 3
_READ: Final = (2, 3)
#: Attribute that has it.
_MARK: Final = "bayes_l2l_format"
#: Group of the posterior of error rates.
_ERRORS: Final = "errors"
_GROUPS: Final = (*GROUPS, _ERRORS, *(f"{_ERRORS}/{name}" for name in GROUPS))
#: Numbers that a fit keeps of every draw and cell, and of every draw; bytes of every row of its table.
_PER_CELL, _PER_DRAW, _PER_ROW = 12, 30, 200


def save(posterior: Posterior, path: str | Path) -> Path:
    """Write a posterior, whole or not at all.

    Parameters
    ----------
    posterior : Posterior
        What is written.
    path : str or Path
        Where; an existing file is replaced only when the new one is complete.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    FitFileError
        If the folder does not exist, cannot be written to or is full, or the posterior holds what no file can.
    """
    path = Path(path)
    tree = posterior.tree.copy()
    stored = _to_dict(posterior)
    if posterior.errors is not None:
        tree[_ERRORS] = posterior.errors.tree
        stored[_ERRORS] = _to_dict(posterior.errors)
    try:
        tree.attrs = {_MARK: FORMAT, "bayes_l2l": json.dumps(stored)}
        content = to_bytes(tree)
    except (TypeError, ValueError) as error:
        raise FitFileError(f"{path} cannot be written: something in the fit cannot be stored ({error}).") from error
    try:
        write_bytes(content, path)
    except DataError as error:
        raise FitFileError(str(error)) from error
    return path


def expected_size(sweep: Sweep, settings: SamplerSettings) -> int:
    """Bytes that the file of a fit will about have.

    Parameters
    ----------
    sweep : Sweep
        What will be fitted.
    settings : SamplerSettings
        How.

    Returns
    -------
    int
        Rather too few.
    """
    numbers = settings.chains * settings.draws * (_PER_CELL * len(sweep.cells) + _PER_DRAW)
    return 8 * numbers + _PER_ROW * len(sweep)


def load(path: str | Path, kind: type[Kind]) -> Kind:
    """Read a saved posterior; PyMC is not imported.

    Parameters
    ----------
    path : str or Path
        File that `save` wrote.
    kind : type
        `Posterior`, or a class that is made of the same.

    Returns
    -------
    Posterior
        Of that kind.

    Raises
    ------
    FitFileError
        If the file is absent, damaged, of another kind or of an unknown format version.
    """
    import xarray as xr

    path = Path(path)
    tree, sealed = _tree(path)
    attributes = tree.attrs
    if _MARK not in attributes:
        raise FitFileError(f"{path}: is a NetCDF file, but not a fit of bayes_l2l.")
    if (found := attributes[_MARK]) not in _READ:
        raise FitFileError(
            f"{path}: has format version {found} and this version of bayes_l2l reads {_READ[0]} and {_READ[1]}; "
            "fit again, or use the version that wrote it."
        )
    if found == FORMAT and not sealed:
        raise FitFileError(
            f"{path}: is damaged (its checksum is absent: it was cut off, or changed by another program)."
        )
    try:
        stored = json.loads(attributes["bayes_l2l"])
        check_stored(stored)
        errors = None
        if _ERRORS in stored:
            check_stored(stored[_ERRORS])
            groups = {name: group.to_dataset() for name, group in tree[_ERRORS].children.items()}
            errors = Posterior(xr.DataTree.from_dict(groups), *_from_dict(stored[_ERRORS]))
            tree = tree.drop_nodes(_ERRORS)
        posterior = kind(tree, *_from_dict(stored), errors)
        check(posterior)
    except DataError as error:
        raise FitFileError(f"{path}: is damaged ({error}).") from None
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, L2LError) as error:
        raise FitFileError(f"{path}: is damaged ({type(error).__name__}: {error}).") from None
    return posterior


def _tree(path: Path) -> tuple[xr.DataTree, bool]:
    """Arrays and attributes of a file, and whether it has a checksum."""
    try:
        if not path.is_file():
            raise FitFileError(f"{path}: there is no such file; `bayes-l2l fit RUNS -o {path}` makes one.")
        with path.open("rb") as file:
            content = MAGIC if file.read(len(MAGIC)) != MAGIC else MAGIC + file.read()
    except OSError as error:
        raise FitFileError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except MemoryError:
        raise FitFileError(f"{path}: is larger than the memory of this machine.") from None
    try:
        inside, sealed = unsealed(content)
        return from_bytes(inside, _GROUPS, mark=_MARK), sealed
    except DataError as error:
        raise FitFileError(f"{path}: is damaged ({error}).") from None
    except Exception as error:  # h5netcdf and h5py raise many kinds on a damaged file
        raise FitFileError(f"{path}: is damaged or not a NetCDF file ({type(error).__name__}).") from None


def _to_dict(posterior: Posterior) -> dict[str, Any]:
    """What stands in the file beside the arrays."""
    return {
        "spec": posterior.spec.to_dict(),
        "settings": asdict(posterior.settings),
        "notes": [note.to_dict() for note in posterior.notes],
        "record": posterior.record,
    }


def _from_dict(stored: dict[str, Any]) -> tuple[Any, SamplerSettings, tuple[Note, ...], dict[str, Any]]:
    notes = tuple(Note.from_dict(note) for note in stored["notes"])
    return load_spec(stored["spec"]), SamplerSettings(**stored["settings"]), notes, stored["record"]
