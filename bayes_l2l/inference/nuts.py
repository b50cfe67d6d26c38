"""Posterior draws of one PyMC model by NUTS (nutpie, or `pm.sample`): compiled once, refitted with new data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayes_l2l.density._compat import group, low_rank_adaptation, nutpie_model
from bayes_l2l.density.quiet import quiet
from bayes_l2l.errors import SpecError
from bayes_l2l.inference import stages
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.structures.parameters import INNER

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

    from bayes_l2l.density.tape import Tape
    from bayes_l2l.structures.protocol import Module


Floats = npt.NDArray[np.float64]


def run_nuts(
    module: Module[Any],
    density: Callable[[], Any],
    arrays: Mapping[str, Any],
    settings: SamplerSettings,
    *,
    what: tuple[str, str],
    stage: str = "sampling",
) -> tuple[xr.Dataset, xr.Dataset]:
    """Draw from the posterior of a PyMC model given its data.

    Parameters
    ----------
    module : Module
        Whose model is built if the sampler needs it.
    density : callable
        Gives the log density, a tape or what nutpie has compiled, filled with the data.
    arrays : mapping
        The data, by name.
    settings : SamplerSettings
        How.
    what : (str, str)
        Names of the model and of the sweep, for messages.
    stage : str
        What a listener is told that is done.

    Returns
    -------
    posterior, sample_stats : xarray.Dataset
        Without what serves the sampler alone.

    Raises
    ------
    SpecError
        If no chain can start: a prior lets a quantity leave its bounds.
    """
    try:
        if settings.sampler == "nutpie":
            posterior, stats = _by_nutpie(density(), settings, stage)
        else:
            stages.stage(stage)
            trace = _by_pymc(module.model, dict(arrays), settings)
            posterior, stats = group(trace, "posterior"), group(trace, "sample_stats")
    except (RuntimeError, ValueError) as error:
        # Both samplers say in words of their own that no chain could start.
        raise SpecError(
            f"The model {what[0]!r} could not be sampled on {what[1]} ({str(error).splitlines()[0]}); "
            "do its priors keep every quantity inside its bounds?"
        ) from error
    posterior, stats = _thinned(*_complete(posterior, stats), settings.thin)
    n_draws = posterior.sizes.get("draw", 0)
    if n_draws < settings.draws and not (settings.keep_interrupted and n_draws):
        raise KeyboardInterrupt
    return tidy(posterior), stats


def _by_nutpie(density: Any, settings: SamplerSettings, stage: str) -> tuple[xr.Dataset, xr.Dataset]:
    import nutpie

    from bayes_l2l.density.tape import Tape

    sampled = nutpie_model(density, _start(density)) if isinstance(density, Tape) else density
    stages.stage(stage)
    sampled = stages.counting_draws(sampled, stage)
    # The low-rank mass matrix follows the ridge on which E and the exponents trade off.
    sampler = nutpie.sample(
        sampled,
        draws=settings.draws * settings.thin,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        seed=settings.seed,
        target_accept=settings.target_accept,
        **low_rank_adaptation(),
        progress_bar=settings.progress,
        save_warmup=False,
        blocking=False,
    )
    try:
        trace = sampler.wait()
    except KeyboardInterrupt:
        if not settings.keep_interrupted:
            sampler.cancel()
            raise
        with quiet():
            trace = sampler.abort()
    posterior, stats = group(trace, "posterior"), group(trace, "sample_stats")
    if not isinstance(density, Tape):
        return posterior, stats
    dims = {dim: posterior[dim] for dim in ("chain", "draw")}
    return reported(density, posterior["point"].to_numpy(), dims), stats


def _start(tape: Tape) -> Callable[[int], Any]:
    """Where chains start, by a seed each: draws of the normal approximation, at a lower density some of them."""

    def start(seed: int) -> Any:
        return np.random.default_rng(seed).standard_normal(len(tape.start))

    return start


def reported(tape: Tape, points: Floats, dims: Mapping[str, Any]) -> xr.Dataset:
    """Reported quantities of drawn points; NaN where a chain that was interrupted has none.

    Parameters
    ----------
    tape : Tape
        In whose coordinates the points are.
    points : ndarray, shape (chain, draw, dimension)
        What was drawn.
    dims : mapping
        Coordinates of chain and draw.

    Returns
    -------
    xarray.Dataset
        Dims chain, draw and those of the model.
    """
    import xarray as xr

    found = tape.quantities(points)
    along = {name: (("chain", "draw", *tape.dims[name]), values) for name, values in found.items()}
    coords = {dim: names for dim, names in tape.coords.items() if any(dim in dims for dims in tape.dims.values())}
    return xr.Dataset(along, coords={**dims, **coords})


def _by_pymc(model: pm.Model, arrays: dict[str, Any], settings: SamplerSettings) -> Any:
    import pymc as pm

    with quiet(), model:
        pm.set_data(arrays)
        return pm.sample(
            draws=settings.draws * settings.thin,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.cores,
            random_seed=settings.seed,
            target_accept=settings.target_accept,
            progressbar=settings.progress,
            compute_convergence_checks=False,
        )


def _complete(posterior: xr.Dataset, stats: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Draws that every chain has, of the chains that came at least half as far as the first.

    Chains that were interrupted differ in length and are padded; with fewer cores than chains, some never began.
    """
    if not posterior.sizes.get("draw", 0):
        return posterior, stats
    one = posterior["residual_scale"].notnull()
    drawn = one.all([dim for dim in one.dims if dim not in ("chain", "draw")]).sum("draw").to_numpy()
    chains = drawn >= drawn.max() / 2
    kept = {"chain": chains.nonzero()[0], "draw": slice(int(drawn[chains].min()))}
    return posterior.isel(kept), stats.isel(kept)


def _thinned(posterior: xr.Dataset, stats: xr.Dataset, thin: int) -> tuple[xr.Dataset, xr.Dataset]:
    """The last of every so many draws; it counts as diverged if one of them was."""
    if thin == 1:
        return posterior, stats
    n_draws = posterior.sizes.get("draw", 0) // thin
    kept = {"draw": slice(thin - 1, n_draws * thin, thin)}
    diverged = stats["diverging"].isel(draw=slice(n_draws * thin)).to_numpy().reshape(-1, n_draws, thin).any(axis=2)
    stats = stats.isel(kept).assign(diverging=(("chain", "draw"), diverged))
    numbered = {"draw": range(n_draws)}
    return posterior.isel(kept).assign_coords(numbered), stats.assign_coords(numbered)


def tidy(trace: xr.Dataset) -> xr.Dataset:
    """Drop what serves the sampler alone: offsets, slopes, unconstrained values."""
    return trace.drop_vars([str(v) for v in trace.data_vars if str(v).endswith(INNER)]).drop_attrs()


def run_prior(model: pm.Model, names: Sequence[str], draws: int, seed: int) -> xr.Dataset:
    """Draw variables from the prior of a PyMC model, by the graph that its posterior is drawn from."""
    import pymc as pm

    with quiet():
        trace = pm.sample_prior_predictive(draws, model=model, var_names=[*names], random_seed=seed)
    return tidy(group(trace, "prior"))
