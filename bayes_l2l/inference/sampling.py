"""Sample: from a sweep and a model to a posterior."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from time import perf_counter
from typing import Any, Final

from bayes_l2l.data.rates import is_rate
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import SpecError
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.inference.diagnostics import diagnose, diagnose_importance, not_identified
from bayes_l2l.notes import Note
from bayes_l2l.posterior.posterior import Posterior, observed
from bayes_l2l.posterior.settings import Method, Sampler, SamplerSettings
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.error_rate import ErrorRateSpec, at_chance
from bayes_l2l.structures.protocol import arranged, structure_of

#: Statistics of the sampler that are kept.
_STATS: Final = ("diverging", "energy", "n_steps", "step_size", "depth", "tree_depth", "lp", "logp")
_PACKAGES: Final = ("pymc", "nutpie", "arviz-stats", "numpy", "xarray")
_NO_ERRORS: Final = Note(
    "errors_left_out",
    "warning",
    "error rates are left out: a model of them needs runs with params and tokens; add both columns",
)
#: Of the seed of the error rates' draws over that of the losses'.
_ERROR_SEED: Final = 2


def sampler_settings(
    *,
    draws: int | None = None,
    tune: int | None = None,
    chains: int | None = None,
    random_seed: int | None = None,
    method: Method | None = None,
    sampler: Sampler | None = None,
    target_accept: float | None = None,
    cores: int | None = None,
    progress: bool = False,
    keep_interrupted: bool = False,
) -> SamplerSettings:
    """Settings of what is given, with the defaults of `SamplerSettings` and as many cores as there are chains for."""
    given = {
        "draws": draws, "tune": tune, "chains": chains, "seed": random_seed, "method": method,
        "sampler": sampler, "target_accept": target_accept, "cores": cores or min(os.cpu_count() or 1, chains or 4),
    }  # fmt: skip
    return SamplerSettings(
        **{k: v for k, v in given.items() if v is not None},  # type: ignore[arg-type]
        progress=progress,
        keep_interrupted=keep_interrupted,
    )


def sample(
    sweep: Sweep,
    *,
    spec: ModelSpec,
    settings: SamplerSettings,
    error_spec: ErrorRateSpec | None = None,
    compiled: CompiledModel | None = None,
) -> Posterior:
    """Draw from the posterior of a model of losses, and of error rates if the sweep has any.

    Parameters
    ----------
    sweep : Sweep
        Runs.
    spec : ModelSpec
        What is believed of losses.
    settings : SamplerSettings
        How the posterior is drawn.
    error_spec : ErrorRateSpec, optional
        What is believed of error rates; without it they are left out.
    compiled : CompiledModel, optional
        Of an earlier fit with the same model and cells, so that nothing is compiled.

    Returns
    -------
    Posterior
        With its notes.

    Raises
    ------
    DataError
        If the sweep is refused.
    SpecError
        If the model is refused.
    ApproximationError
        If method "laplace" cannot draw from the posterior.
    """
    if structure_of(spec).metric != "loss":
        raise SpecError(f"{spec.name!r} is a model of error rates: name it as the error model, beside one of losses.")
    started = perf_counter()
    has_errors = bool(is_rate(sweep.table).any())
    losses = sweep.select(metric="loss") if has_errors else sweep
    compiled = compiled or CompiledModel(spec, losses)
    posterior = _drawn(losses, compiled, settings)
    if error_spec is not None and has_errors and not sweep.has_sizes:
        posterior = replace(posterior, notes=(*posterior.notes, _NO_ERRORS))
    elif error_spec is not None and has_errors:
        posterior = _with_errors(posterior, sweep, error_spec)
    record = _record(losses, round(perf_counter() - started, 1)) | {"log_densities": dict(compiled.densities.made)}
    return replace(posterior, notes=(*losses.notes, *posterior.notes), record=record)


def _drawn(sweep: Sweep, compiled: CompiledModel, settings: SamplerSettings) -> Posterior:
    """Posterior of one model, with the notes that its draws deserve."""
    import xarray as xr

    structure = compiled.structure
    draws, stats = compiled.sample(sweep, settings)
    diagnostics, notes = xr.Dataset(), list[Note]()
    if len(stats):
        if settings.method == "laplace":
            diagnostics, notes = diagnose_importance(stats)
        else:
            diagnostics, notes = diagnose(structure.diagnosed(draws), stats, settings)
    notes += structure.objections(arranged(compiled.spec, sweep))
    if structure.has_laws:
        notes += not_identified(draws)
    kept = [v for v in stats if str(v).removesuffix("_downstream") in _STATS]
    groups = {
        "posterior": draws,
        "sample_stats": stats[kept].drop_attrs(),
        "diagnostics": diagnostics,
        "observed_data": observed(sweep.table),
    }
    return Posterior(xr.DataTree.from_dict(groups), compiled.spec, settings, tuple(notes), _record(sweep, 0.0))


def sample_errors(sweep: Sweep, *, spec: ErrorRateSpec, settings: SamplerSettings) -> Posterior:
    """Draw from the posterior of a model of error rates; the losses of the runs are taken as measured.

    Parameters
    ----------
    sweep : Sweep
        With losses, and error rates or accuracies.
    spec : ErrorRateSpec
        What is believed.
    settings : SamplerSettings
        How the posterior is drawn.

    Returns
    -------
    Posterior
        With its notes.

    Raises
    ------
    DataError
        If there are no errors, or no losses that they could be a function of.
    ApproximationError
        If method "laplace" cannot draw from the posterior.
    """
    errors = _drawn(sweep, CompiledModel(spec, sweep), settings)
    said = [replace(note, message=f"errors: {note.message}") for note in errors.notes]
    notes = (*structure_of(spec).arrange(spec, sweep).notes, *said, *at_chance(errors))
    return replace(errors, notes=notes)


def _with_errors(posterior: Posterior, sweep: Sweep, spec: ErrorRateSpec) -> Posterior:
    """The posterior with that of the error rates of the same runs, whose draws are joined with its own one to one."""
    size = posterior.draws.sizes
    # With one seed the draws of the two would not be independent.
    seed = posterior.seed + _ERROR_SEED
    settings = replace(posterior.settings, chains=size["chain"], draws=size["draw"], seed=seed)
    errors = sample_errors(sweep, spec=spec, settings=settings)
    return replace(posterior, errors=errors, notes=(*posterior.notes, *errors.notes))


def _record(sweep: Sweep, seconds: float) -> dict[str, Any]:
    """What else is known of a posterior."""
    return {
        "sweep": {name: getattr(sweep, name) for name in ("name", "provenance", "simulated", "loss_unit")},
        "seconds": seconds,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in _PACKAGES},
    }
