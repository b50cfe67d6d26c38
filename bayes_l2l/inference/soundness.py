"""Soundness: whether what a file holds is a posterior.

Every part that will be read is looked at, so that nothing fails later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.data.columns import SHOWN_LOSS_UNITS, loss_unit_faults
from bayes_l2l.data.rates import RATES
from bayes_l2l.errors import DataError
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    import xarray as xr

#: Groups of a posterior's tree.
GROUPS: Final = ("posterior", "sample_stats", "diagnostics", "observed_data")

#: Diagnostics and statistics of draws, by the method that they were made by.
_DIAGNOSTICS: Final = {"nuts": ["rhat", "ess_bulk", "ess_tail"], "laplace": ["khat", "ess"]}
_STATISTICS: Final = {"nuts": ("diverging", "energy"), "laplace": ("lp",)}
_TEXTS: Final = ("run_id", "train_set", "eval_set", "metric")
#: Numbers of a fitted table: those that every row has, and those that may be blank.
_POSITIVE: Final = ("params", "tokens", "flops")
#: What a run may have in the place of a size.
_STEP: Final = "step"
_OPTIONAL: Final = ("loss_se", "n_items", "chance")
#: Coordinates along cells or pairs, by the kinds of arrays that they may be.
_COORDINATES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("eval_set", "train_set", "source", "target", "predictor", "metric"), "text"),
    **dict.fromkeys(("anchor", "learned"), "flag"),
    **dict.fromkeys(("chance", "reference", "smallest"), "number"),
}


def check_stored(stored: Any) -> None:
    """Refuse metadata of which a part is absent or of another type.

    Parameters
    ----------
    stored : object
        What stands in a file beside the arrays.

    Raises
    ------
    DataError
        With the part.
    """
    parts: dict[str, type] = {"spec": dict, "settings": dict, "notes": list, "record": dict}
    _typed(stored, dict, "the metadata")
    for part, kind_of_part in parts.items():
        _typed(stored.get(part), kind_of_part, part)
    known = {field.name: type(field.default) for field in fields(SamplerSettings)}
    for name, value in stored["settings"].items():
        _typed(value, known.get(name, object), f"settings.{name}")
    if not 0 <= stored["settings"].get("seed", 0) < 2**63:
        raise DataError("settings.seed is out of range")
    for note in stored["notes"]:
        _typed(note, dict, "a note")
        for part in ("code", "severity", "message"):
            _typed(note.get(part), str, f"{part} of a note")
    record = stored["record"]
    parts = {"sweep": dict, "seconds": float, "created": str, "versions": dict}
    for part, kind_of_part in parts.items():
        _typed(record.get(part), kind_of_part, f"record.{part}")
    if not isfinite(record["seconds"]):
        raise DataError("record.seconds is not finite")
    parts = {"name": str, "provenance": str, "simulated": bool}
    for part, kind_of_part in parts.items():
        _typed(record["sweep"].get(part), kind_of_part, f"record.sweep.{part}")
    if faults := loss_unit_faults(record["sweep"].get("loss_unit", SHOWN_LOSS_UNITS[0])):
        raise DataError(f"record.sweep.{faults[0]}"[:200])


def check(posterior: Posterior) -> None:
    """Refuse a posterior of which an array is absent, of another type or shape, or not finite.

    Parameters
    ----------
    posterior : Posterior
        As read.

    Raises
    ------
    DataError
        With the array.
    """
    if lacking := [name for name in GROUPS if name not in posterior.tree.children]:
        raise DataError(f"there is no group {lacking[0]!r}")
    structure = structure_of(posterior.spec)
    _check_table(posterior.tree["observed_data"].to_dataset(), needs_sizes=structure.needs_sizes)
    _check_draws(posterior)
    _check_stats(posterior)
    _check_cells(posterior)
    # What is asked of every posterior is asked once.
    structure.noise(posterior, range(len(posterior.cells)))
    if (errors := posterior.errors) is None:
        return
    check(errors)
    if any(errors.draws.sizes[name] != posterior.draws.sizes[name] for name in ("chain", "draw")):
        raise DataError("losses and error rates have different numbers of draws")
    _check_predictors(posterior, errors)


def _typed(value: Any, kind: type, what: str) -> None:
    """Refuse a value of another type; a whole number is a number, and a flag is none."""
    right = isinstance(value, (int, float) if kind is float else kind)
    if not right or (isinstance(value, bool) and kind in (int, float)):
        raise DataError(f"{what} is {value!r}, which is no {kind.__name__}"[:200])


def _check_table(table: xr.Dataset, *, needs_sizes: bool) -> None:
    """Check the fitted runs, whose sizes are all blank or none is."""
    lacking = [name for name in (*_TEXTS, *_POSITIVE, "loss") if name not in table]
    if lacking or table.sizes.get("row", 0) < 1:
        raise DataError(f"the fitted runs have no {lacking[0] if lacking else 'rows'}")
    for name, values in table.items():
        if values.dims != ("row",):
            raise DataError(f"the column {name} of the fitted runs has another shape")
        _check_kind(values, "text" if name in _TEXTS else "number", f"the column {name} of the fitted runs")
    is_rate = np.isin(table["metric"].to_numpy().astype(str), RATES)
    if not (is_rate | (table["metric"].to_numpy() == "loss")).all():
        raise DataError("the fitted runs have an unknown metric")
    blank = not needs_sizes and all(np.isnan(table[name].to_numpy()).all() for name in ("params", "tokens"))
    for name in () if blank else _POSITIVE:
        _all(table[name], lambda values: np.isfinite(values) & (values > 0), "the fitted runs")
    if _STEP in table:
        _all(table[_STEP], lambda values: np.isfinite(values) & (values >= 0), "the fitted runs")
    for name in (*_OPTIONAL, *(("flops",) if blank else ())):
        if name in table:
            _all(table[name], lambda values: ~(values < 0) & ~np.isinf(values), "the fitted runs")
    _all(
        table["loss"],
        lambda values: np.isfinite(values) & np.where(is_rate, (values >= 0) & (values <= 1), values > 0),
        "the fitted runs",
    )


def _check_draws(posterior: Posterior) -> None:
    draws, structure = posterior.draws, structure_of(posterior.spec)
    along = structure.along
    if lacking := [dim for dim in ("chain", "draw", along) if draws.sizes.get(dim, 0) < 1]:
        raise DataError(f"the draws have no {lacking[0]}")
    if absent := [name for name in needed(posterior.spec) if name not in draws.data_vars]:
        raise DataError(f"there are no draws of {absent[0]}")
    ends = ("source", "target") if along == "pair" else ()
    for name in (along, "eval_set", "train_set", *ends):
        if name not in draws.coords:
            raise DataError(f"the draws have no {name}")
    for name, values in draws.coords.items():
        kind = "text" if values.dims == (name,) and name not in ("chain", "draw") else _COORDINATES.get(str(name))
        # Where losses are related without sizes, a cell's anchor is another cell, by its name.
        if name == "anchor" and not structure.needs_sizes:
            kind = "text"
        if kind:
            _check_kind(values, kind, f"the coordinate {name} of the draws")
        if str(name) in _COORDINATES and values.dims != (along,):
            raise DataError(f"the coordinate {name} of the draws has another shape")
    # Nothing is drawn of a task that nothing can be learned of.
    learned = draws.coords["learned"].to_numpy().astype(bool) if "learned" in draws.coords else None
    for name, values in draws.items():
        if learned is not None and not learned.any():
            break
        if values.dims[:2] != ("chain", "draw") or len(values.dims) > 4 or not values.size:
            raise DataError(f"the draws of {name} have another shape")
        _check_kind(values, "number", f"the draws of {name}")
        drawn = values.isel({along: learned}) if learned is not None and along in values.dims else values
        _all(drawn, np.isfinite, "the draws")


def needed(spec: Any) -> tuple[str, ...]:
    """Names of what is read from the draws of a model.

    Parameters
    ----------
    spec : ModelSpec
        What the model says.

    Returns
    -------
    tuple of str
    """
    form, likelihood = getattr(spec, "form", None), getattr(spec, "likelihood", None)
    of_form = form.parameters() if form is not None else ()
    return (*structure_of(spec).variables, *of_form, *getattr(likelihood, "parameters", ()))


def _check_stats(posterior: Posterior) -> None:
    """Check the statistics of the sampler and the diagnostics, which are not numbers where a chain never moved."""
    stats, found, method = posterior.sample_stats, posterior.diagnostics, posterior.settings.method
    for name, values in stats.items():
        if values.dims != ("chain", "draw"):
            raise DataError(f"the sampler's {name} has another shape")
        _check_kind(values, "flag" if str(name).startswith("diverging") else "number", f"the sampler's {name}")
        if str(name).startswith("energy"):
            _all(values, np.isfinite, "the sampler's statistics")
    if lacking := [name for name in _STATISTICS[method] if len(found) and name not in stats]:
        raise DataError(f"the sampler's {lacking[0]} is absent")
    kinds = found["diagnostic"].values.tolist() if "diagnostic" in found.coords else []
    if len(found) and kinds != _DIAGNOSTICS[method]:
        raise DataError("the diagnostics have other names")
    for name, values in found.items():
        of_all = method == "laplace"
        if not of_all and name not in posterior.draws.data_vars:
            raise DataError(f"the diagnostics of {name} are of nothing that was drawn")
        if values.dims != ("diagnostic", *(() if of_all else posterior.draws[name].dims[2:])):
            raise DataError(f"the diagnostics of {name} have another shape")
        _check_kind(values, "number", f"the diagnostics of {name}")


def _check_cells(posterior: Posterior) -> None:
    """Check that what can be forecast was fitted."""
    table = posterior.tree["observed_data"].to_dataset()
    seen = set(zip(*(table[name].to_numpy().tolist() for name in ("eval_set", "train_set")), strict=True))
    drawn = ["@".join(cell) for cell in posterior.cells]
    named = ("source", "target") if structure_of(posterior.spec).needs_sizes else ("anchor",)
    for name in named:
        drawn += map(str, posterior.draws.coords[name].to_numpy()) if name in posterior.draws.coords else []
    if unknown := set(drawn) - {"@".join(cell) for cell in seen}:
        raise DataError(f"there are draws of {min(unknown)!r}, which no fitted run has")
    labels = posterior.draws[structure_of(posterior.spec).along].to_numpy().tolist()
    if len(set(labels)) < len(labels):
        raise DataError("there are draws of one cell twice")


def _check_predictors(posterior: Posterior, errors: Posterior) -> None:
    """Check that the losses that error rates are functions of were fitted."""
    for name in ("predictor", "learned", "chance", "reference", "smallest"):
        if name not in errors.draws.coords:
            raise DataError(f"the error rates have no {name}")
    cells = set(posterior.cells)
    of_training = zip(errors.draws["predictor"].to_numpy(), errors.draws["train_set"].to_numpy(), strict=True)
    if unknown := [cell for cell in of_training if (str(cell[0]), str(cell[1])) not in cells]:
        raise DataError(f"error rates are functions of {'@'.join(map(str, unknown[0]))}, which was not fitted")


def _check_kind(values: xr.DataArray, kind: str, what: str) -> None:
    """Refuse an array that is not of texts, flags or numbers."""
    array = values.to_numpy()
    if kind == "text":
        right = array.dtype.kind in "UT" or (
            array.dtype == object and all(isinstance(v, str) and v for v in array.flat)
        )
    elif kind == "flag":
        right = array.dtype.kind == "b" or (array.dtype.kind in "iuf" and bool(np.isin(array, (0, 1)).all()))
    else:
        right = array.dtype.kind in "fiu"
    if not right:
        raise DataError(f"{what} is of type {array.dtype}")


def _all(values: xr.DataArray, holds: Callable[[Any], Any], where: str) -> None:
    if not np.all(holds(values.to_numpy())):
        raise DataError(f"a value of {values.name} among {where} is impossible")
