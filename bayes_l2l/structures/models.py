"""Models: their files, read by name or path into the spec of their structure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bayes_l2l.data.toml import read_toml
from bayes_l2l.errors import SpecError, did_you_mean
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.spec.reading import read
from bayes_l2l.structures import error_rate, joint, mixture, pairwise, relations_only, separate  # noqa: F401 - registers them
from bayes_l2l.structures.error_rate import ErrorRateSpec
from bayes_l2l.structures.protocol import STRUCTURES

#: Models of errors are told from models of losses by the beginning of their name.
ERROR_PREFIX: Final = "error_"
#: Structure of a model file that names none.
_DEFAULT: Final = "separate"


def load_spec(model: str | Path | Mapping[str, Any] | ModelSpec) -> ModelSpec:
    """Read a model by name, or from a file of your own.

    Parameters
    ----------
    model : str, Path, mapping or ModelSpec
        A name of `model_names`, a path that ends in ``.toml``, what such a file holds as a dict, or a spec (returned
        as it is).

    Returns
    -------
    ModelSpec
        Checked, of the class that belongs to its structure.

    Raises
    ------
    SpecError
        If there is no such model, or it is refused: with the key that is wrong, missing or unknown, and what may
        stand there.
    """
    if isinstance(model, ModelSpec):
        return model
    if isinstance(model, Mapping):
        return _read(model)
    return _from_file(model, what="model", names=model_names())


def load_error_spec(model: str | Path | Mapping[str, Any] | ModelSpec) -> ErrorRateSpec:
    """Read a model of errors by name ("error_richards" or "richards"), or from a file of your own.

    Parameters
    ----------
    model : str, Path, mapping or ErrorRateSpec
        A name of `error_model_names`, with or without ``error_``; else as in `load_spec`.

    Returns
    -------
    ErrorRateSpec
        Checked.

    Raises
    ------
    SpecError
        If there is no such model, it is refused, or it is a model of losses.
    """
    if isinstance(model, str) and not model.endswith(".toml"):
        name = f"{ERROR_PREFIX}{model.removeprefix(ERROR_PREFIX)}"
        spec = _from_file(name, what="model of errors", names=error_model_names(), asked=model)
    else:
        spec = load_spec(model)
    if not isinstance(spec, ErrorRateSpec):
        raise SpecError(f"{spec.name!r} is a model of losses (structure = {spec.structure!r}), not of error rates.")
    return spec


def model_names() -> list[str]:
    """Names of the models of losses that come with the package.

    Returns
    -------
    list of str
        Sorted.
    """
    return sorted(path.stem for path in _folder().glob("*.toml") if not path.stem.startswith(ERROR_PREFIX))


def error_model_names() -> list[str]:
    """Names of the models of errors that come with the package.

    Returns
    -------
    list of str
        Sorted.
    """
    return sorted(path.stem for path in _folder().glob(f"{ERROR_PREFIX}*.toml"))


def model_text(name: str) -> str:
    """Text of a model file that comes with the package, comments included.

    Parameters
    ----------
    name : str
        Of `model_names` or `error_model_names`.

    Returns
    -------
    str
        TOML.

    Raises
    ------
    SpecError
        If there is no such model.
    """
    names = [*model_names(), *error_model_names()]
    if name not in names:
        raise SpecError(f"There is no model {name!r}; known are {', '.join(names)}{did_you_mean(name, names)}")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def _from_file(model: str | Path, *, what: str, names: list[str], asked: str | None = None) -> ModelSpec:
    """Read a model file, which is one of the package's unless it ends in .toml."""
    path = Path(model)
    if path.suffix != ".toml":
        path = _folder() / f"{model}.toml"
        if not path.is_file():
            asked = asked or str(model)
            raise SpecError(
                f"There is no {what} {asked!r}; known are {', '.join(names)}, or a file that ends in .toml"
                f"{did_you_mean(asked, names)}"
            )
    record = read_toml(path, what=f"the model file {path}")
    try:
        return _read(record)
    except SpecError as error:
        raise SpecError(f"{path.name}: {error}") from None


def _read(record: Mapping[str, Any]) -> ModelSpec:
    """Check a record by the spec of its structure."""
    structure = record.get("structure", _DEFAULT)
    if not isinstance(structure, str) or structure not in STRUCTURES:
        hint = did_you_mean(structure, STRUCTURES) if isinstance(structure, str) else ""
        raise SpecError(f"structure is {structure!r}; known are {', '.join(sorted(STRUCTURES))}{hint or '.'}")
    return read(STRUCTURES[structure].spec, {**record, "structure": structure}, where="")


def _folder() -> Path:
    """In the wheel the model files lie in the package; in a checkout, at its top."""
    here = Path(__file__).resolve().parents[1]
    inside = here / "models"
    return inside if inside.is_dir() else here.parent / "models"
