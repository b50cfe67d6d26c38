"""Bayesian scaling laws and loss-to-loss prediction: runs in, forecasts with honest intervals out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bayes_l2l.baselines import bootstrap
    from bayes_l2l.choice import Choice
    from bayes_l2l.datasets import fetch, known, large_runs, load_sweep, simulated_sweep
    from bayes_l2l.errors import L2LError
    from bayes_l2l.fits import Fit, fit, load_fit
    from bayes_l2l.forecast import Forecast
    from bayes_l2l.laws import Law, ShiftedPowerLaw
    from bayes_l2l.notes import Note
    from bayes_l2l.plan import Plan
    from bayes_l2l.rollouts import Rollout, rollout
    from bayes_l2l.scores import score_table
    from bayes_l2l.spec import ModelSpec, Prior, load_spec, model_names
    from bayes_l2l.sweep import Sweep, read_points, read_sweep
    from bayes_l2l.translate import Translation

_HOME = {
    "bootstrap": "baselines",
    "Choice": "choice",
    "fetch": "datasets",
    "known": "datasets",
    "large_runs": "datasets",
    "load_sweep": "datasets",
    "simulated_sweep": "datasets",
    "L2LError": "errors",
    "Fit": "fits",
    "fit": "fits",
    "load_fit": "fits",
    "Forecast": "forecast",
    "Law": "laws",
    "ShiftedPowerLaw": "laws",
    "Note": "notes",
    "Plan": "plan",
    "Rollout": "rollouts",
    "rollout": "rollouts",
    "score_table": "scores",
    "ModelSpec": "spec",
    "Prior": "spec",
    "load_spec": "spec",
    "model_names": "spec",
    "Sweep": "sweep",
    "read_points": "sweep",
    "read_sweep": "sweep",
    "Translation": "translate",
}
__all__ = [
    "Choice",
    "Fit",
    "Forecast",
    "L2LError",
    "Law",
    "ModelSpec",
    "Note",
    "Plan",
    "Prior",
    "Rollout",
    "ShiftedPowerLaw",
    "Sweep",
    "Translation",
    "bootstrap",
    "fetch",
    "fit",
    "known",
    "large_runs",
    "load_fit",
    "load_spec",
    "load_sweep",
    "model_names",
    "read_points",
    "read_sweep",
    "rollout",
    "score_table",
    "simulated_sweep",
]


def __getattr__(name: str) -> Any:
    # Names are imported when they are first used, so that `import bayes_l2l` costs next to nothing.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
