"""What commands say of a fit: how its sampling went, and whether it is to be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayes_l2l.cli.output import answer, say, say_all

if TYPE_CHECKING:
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep
    from bayes_l2l.fits import Fit


def status(fit: Fit) -> int:
    """Exit status of a command that answers from a fit."""
    return 0 if fit.trusted else 1


def judge(fit: Fit, *, already: Sweep | None = None, in_full: bool = False) -> None:
    """Say how the sampling went, and the fit's notes less those that were shown already with its runs."""
    from bayes_l2l.inference.diagnostics import summed_up

    said, found = summed_up(diagnostics(fit), fit.sample_stats)
    found.pop("ess_tail", None)
    answer(fit={"model": fit.spec.name, "losses": len(fit.sweep), "seconds": fit.record["seconds"],
                "method": fit.settings.method, **found, "trusted": fit.trusted})  # fmt: skip
    say(f"Model {fit.spec.name!r}, {_extent(fit)}, {len(fit.sweep)} losses, {fit.record['seconds']:.0f} s: {said}")
    shown = set(map(str, already.notes)) if already else set()
    say_all((note for note in fit.notes if str(note) not in shown), in_full=in_full)
    if not fit.trusted:
        say("This fit is not to be trusted: see the serious notes.", always=True)


def diagnostics(fit: Fit) -> xr.Dataset:
    """Diagnostics of the losses' quantities, and of the errors' by names of their own."""
    found = fit.diagnostics
    if fit.errors is None:
        return found
    of_errors = fit.errors.diagnostics
    labels = [name for name, values in of_errors.coords.items() if values.dims != (name,)]
    of_errors = of_errors.drop_vars(labels)
    of_errors = of_errors.rename({dim: f"error_{dim}" for dim in of_errors.dims if dim != "diagnostic"})
    return found.merge(of_errors.rename({name: f"error_{name}" for name in of_errors.data_vars}))


def _extent(fit: Fit) -> str:
    """How many laws, or relations, were fitted."""
    from bayes_l2l.structures.protocol import structure_of

    structure = structure_of(fit.spec)
    errors = f" and {len(fit.error_cells)} of error rates or accuracies" if fit.error_cells else ""
    n = fit.posterior.sizes[structure.along]
    return f"{n} {structure.units if n > 1 else structure.along}{errors}"
