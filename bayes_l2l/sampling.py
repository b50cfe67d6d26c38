"""Posterior draws by NUTS (nutpie, or `pm.sample`): compile once, refit with new data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from bayes_l2l import readings
from bayes_l2l._compat import group, low_rank_adaptation
from bayes_l2l.build import INNER, LAW_VARIABLES, NOISE_VARIABLES, RELATION_VARIABLES, ModelData, build
from bayes_l2l.errors import DataError, SpecError
from bayes_l2l.forecast import law_draws, stacked
from bayes_l2l.notes import Note, Severity
from bayes_l2l.pairs import PairData, build_pairs

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

    from bayes_l2l.spec import ModelSpec
    from bayes_l2l.sweep import Sweep

Sampler = Literal["nutpie", "pymc"]

#: Bars that a posterior must pass to be reported (Vehtari et al., 2021, doi:10.1214/20-BA1221).
MAX_RHAT: Final = 1.01
MIN_ESS: Final = 400
MIN_BFMI: Final = 0.3
_BAD_RHAT: Final = 1.05
_BAD_ESS: Final = 100
#: Part of the draws that may diverge before the fit is not to be trusted.
_FEW_DIVERGENCES: Final = 0.001


@dataclass(frozen=True)
class SamplerSettings:
    """How the posterior is drawn.

    Parameters
    ----------
    draws, tune, chains : int
        Draws a chain that are kept, draws a chain for adaptation, and chains.
    seed : int
        The same seed gives the same draws on the same versions.
    sampler : {"nutpie", "pymc"}
        Which implementation of NUTS.
    target_accept : float
        Mean acceptance that the step size is adapted to; high because the posterior's curvature varies.
    cores : int
        Chains that run at a time.
    progress : bool
        Whether to show a progress bar (terminal or notebook).
    keep_interrupted : bool
        Whether Ctrl-C ends the sampling and keeps what was drawn, instead of stopping the program.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    seed: int = 0
    sampler: Sampler = "nutpie"
    target_accept: float = 0.97
    cores: int = 2
    progress: bool = False
    keep_interrupted: bool = False

    def __post_init__(self) -> None:
        for name in ("draws", "tune", "chains", "cores"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 < self.target_accept < 1:
            raise DataError(f"target_accept must lie between 0 and 1, not {self.target_accept}.")
        if self.sampler not in ("nutpie", "pymc"):
            raise DataError(f"sampler is {self.sampler!r}; known are nutpie and pymc.")


class CompiledModel:
    """A model compiled for a spec and a list of cells; refits to other runs of these cells need no compilation.

    A joint model has two modules: the losses that decide the progress R, and the evaluations that read it
    (see `bayes_l2l.readings`).

    Parameters
    ----------
    spec : ModelSpec
        What is believed.
    sweep : Sweep
        The first runs; later ones must have the same cells, and the same pairs of them in structure "pairs".
    """

    def __init__(self, spec: ModelSpec, sweep: Sweep) -> None:
        self.spec = spec
        self._sweep = sweep
        self._first = _arranged(spec, sweep)
        self.cells = self._first.cells
        self.reading_model: pm.Model | None = None
        self._nutpie: dict[pm.Model, Any] = {}
        self._deciding, self._reading = list(range(len(self.cells))), []
        self.model: pm.Model
        if isinstance(self._first, PairData):
            self.model = build_pairs(spec, self._first)
            return
        if spec.structure == "joint":
            self._deciding = readings.deciding(self._first)
            self._reading = [i for i in range(len(self.cells)) if i not in self._deciding]
        self.model = build(spec, self._first.only(self._deciding))
        if self._reading:
            self.reading_model = readings.build_readings(spec, self._first.only(self._reading))

    def sample(self, sweep: Sweep, settings: SamplerSettings) -> tuple[xr.Dataset, xr.Dataset]:
        """Draw from the posterior given a sweep.

        Parameters
        ----------
        sweep : Sweep
            Runs of the cells that the model was compiled for.
        settings : SamplerSettings
            How.

        Returns
        -------
        posterior, sample_stats : xarray.Dataset
            Dims chain, draw, and cell ("eval|train", with coordinates ``eval_set``, ``train_set`` and ``decides``:
            whether the cell decides R). Statistics of the readings, where there are any, end in ``_readings``. In
            structure "pairs" instead of cell pair ("eval@train -> eval@train", with coordinates ``source`` and
            ``target``, and ``eval_set`` and ``train_set`` of the target).

        Raises
        ------
        DataError
            If the sweep has other cells.
        SpecError
            If no chain can start: a prior lets a quantity leave its bounds.
        """
        data = self._first if sweep is self._sweep else _arranged(self.spec, sweep)
        if data.labels != self._first.labels:
            what = "pairs" if isinstance(data, PairData) else "cells"
            raise DataError(
                f"The model was compiled for {len(self._first.labels)} {what} and {sweep.name} has other ones; "
                "compile it for this sweep."
            )
        return self.draw(data, settings, name=sweep.name)

    def draw(
        self, data: ModelData | PairData, settings: SamplerSettings, *, name: str
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Draw from the posterior given the arrays of a sweep, which messages call `name`; as `sample`."""
        if isinstance(data, PairData):
            posterior, stats = self._module(self.model, data.arrays(), settings, name)
            return self._labelled(posterior), stats
        decided = data.only(self._deciding)
        posterior, stats = self._module(self.model, decided.arrays(), settings, name)
        if self.reading_model is not None:
            read = data.only(self._reading)
            progress = _progress(posterior, decided)
            mean = progress.mean(axis=0)
            sizes = posterior.sizes["chain"], posterior.sizes["draw"]
            # Draws of the modules are paired: with one seed they would not be independent.
            kept = replace(settings, chains=sizes[0], draws=sizes[1], seed=settings.seed + 1)
            reading, more = self._module(self.reading_model, readings.arrays(read, mean), kept, name)
            # Either module may have been interrupted.
            same = {dim: slice(reading.sizes[dim]) for dim in ("chain", "draw")}
            posterior, stats = posterior.isel(same), stats.isel(same)
            progress = progress.reshape(*sizes, -1)[same["chain"], same["draw"]].reshape(-1, len(mean))
            nu = self.spec.readings_nu
            draws = readings.moved(_reading_draws(reading), read, progress=progress, drawn_at=mean, nu=nu)
            posterior = self._joined(posterior, draws, read.reference)
            more = more.assign_coords(chain=stats["chain"], draw=stats["draw"])
            stats = stats.merge(more.rename({str(name): f"{name}_readings" for name in more.data_vars}))
        return self._labelled(posterior), stats

    def _module(
        self, model: pm.Model, arrays: dict[str, Any], settings: SamplerSettings, name: str
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Draws of one module."""
        return run_nuts(model, arrays, settings, what=(self.spec.name, name), compiled=self._nutpie)

    def _joined(self, decided: xr.Dataset, reading: dict[str, Any], reference: Any) -> xr.Dataset:
        """Draws of both modules along all cells."""
        import numpy as np

        size = (decided.sizes["chain"], decided.sizes["draw"])
        first = stacked(decided)
        law = readings.laws(law_draws(first, 0), reading, reference)
        order = np.argsort([*self._deciding, *self._reading])
        along = {}
        for name, values in (vars(law) | {"scatter": reading["scatter"]}).items():
            both = np.concatenate([first[name].to_numpy(), values], axis=1)[:, order]
            along[name] = (("chain", "draw", "cell"), both.reshape(*size, len(order)))
        of_cells = [str(name) for name, values in decided.items() if "cell" in values.dims]
        return decided.drop_vars([*of_cells, "cell"]).assign(along)

    def prior(self, draws: int, seed: int) -> xr.Dataset:
        """Draw from the prior, by the graphs that the posterior is drawn from.

        Parameters
        ----------
        draws : int
            How many.
        seed : int
            Of the draws.

        Returns
        -------
        xarray.Dataset
            Shaped as a posterior of one chain.
        """
        names = [*LAW_VARIABLES, *RELATION_VARIABLES, *NOISE_VARIABLES]
        names = [name for name in names if name in self.model.named_vars]
        prior = _prior(self.model, names, draws, seed)
        if self.reading_model is not None and isinstance(self._first, ModelData):
            # With the same seed, variables of one place in both modules would be drawn alike.
            drawn = _prior(self.reading_model, readings.READING_VARIABLES, draws, seed + 1)
            prior = self._joined(prior, _reading_draws(drawn), self._first.reference)
        return self._labelled(prior)

    def _labelled(self, posterior: xr.Dataset) -> xr.Dataset:
        """Give the cells, or the pairs of cells, their names; cells besides whether they decide R."""
        posterior = posterior.assign_coords(self._first.coordinates)
        if isinstance(self._first, PairData):
            return posterior
        return posterior.assign_coords(decides=("cell", [i in self._deciding for i in range(len(self.cells))]))


def _reading_draws(posterior: xr.Dataset) -> dict[str, Any]:
    """Draws of the readings, arrays of shape (draw, cell)."""
    long = stacked(posterior)
    return {name: long[name].to_numpy() for name in readings.READING_VARIABLES}


def _progress(posterior: xr.Dataset, data: ModelData) -> Any:
    """Draws of log R at every point, from the deciding cells (in their order)."""
    long = stacked(posterior)
    scatter, deviation = long["scatter"].to_numpy(), long["deviation"].to_numpy()
    deviations = readings.deviations(law_draws(long, slice(None)), data, scatter=scatter, deviation=deviation)
    return readings.progress(law_draws(long, 0), data, deviations)


def _prior(model: pm.Model, names: Sequence[str], draws: int, seed: int) -> xr.Dataset:
    import pymc as pm

    with _quiet():
        trace = pm.sample_prior_predictive(draws, model=model, var_names=[*names], random_seed=seed)
    return tidy(group(trace, "prior"))


def _arranged(spec: ModelSpec, sweep: Sweep) -> ModelData | PairData:
    """A sweep as the model conditions on it."""
    if spec.structure == "pairs":
        return PairData.of(sweep, spec=spec)
    return ModelData.of(sweep, likelihood=spec.likelihood)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what is true of this model and no trouble.

    The likelihood is a potential, which the prior rightly leaves out; no BLAS is needed, since the model has no
    matrix product; Numba has no truncated normal to draw from the prior with, and does without; and sampling that is
    interrupted early has few draws.
    """
    log = logging.getLogger("pymc.sampling.forward")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The effect of Potentials")
            warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS")
            warnings.filterwarnings("ignore", "Numba will use object mode")
            warnings.filterwarnings("ignore", "More chains .* than draws|Found chain dimension to be longer")
            yield
    finally:
        log.setLevel(level)


def run_nuts(
    model: pm.Model,
    arrays: dict[str, Any],
    settings: SamplerSettings,
    *,
    what: tuple[str, str],
    compiled: dict[pm.Model, Any] | None = None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Draw from the posterior of a PyMC model given its data.

    Parameters
    ----------
    model : pymc.Model
        With its data in `pm.Data`, and a variable ``scatter``.
    arrays : dict
        The data, by name.
    settings : SamplerSettings
        How.
    what : (str, str)
        Names of the model and of the sweep, for messages.
    compiled : dict, optional
        What nutpie has compiled so far; the model is added to it.

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
            trace = _by_nutpie(model, arrays, settings, {} if compiled is None else compiled)
        else:
            trace = _by_pymc(model, arrays, settings)
    except (RuntimeError, ValueError) as error:
        # Both samplers say in words of their own that no chain could start.
        raise SpecError(
            f"The model {what[0]!r} could not be sampled on {what[1]} ({str(error).splitlines()[0]}); "
            "do its priors keep every quantity inside its bounds?"
        ) from error
    posterior, stats = _complete(group(trace, "posterior"), group(trace, "sample_stats"))
    n_draws = posterior.sizes.get("draw", 0)
    if n_draws < settings.draws and not (settings.keep_interrupted and n_draws):
        raise KeyboardInterrupt
    return tidy(posterior), stats


def _by_nutpie(
    model: pm.Model, arrays: dict[str, Any], settings: SamplerSettings, compiled: dict[pm.Model, Any]
) -> Any:
    import nutpie

    if model not in compiled:
        with _quiet():
            compiled[model] = nutpie.compile_pymc_model(model)
    # The low-rank mass matrix follows the ridge on which E and the exponents trade off.
    sampler = nutpie.sample(
        compiled[model].with_data(**arrays),
        draws=settings.draws,
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
        return sampler.wait()
    except KeyboardInterrupt:
        if not settings.keep_interrupted:
            sampler.cancel()
            raise
        with _quiet():
            return sampler.abort()


def _by_pymc(model: pm.Model, arrays: dict[str, Any], settings: SamplerSettings) -> Any:
    import pymc as pm

    with _quiet(), model:
        pm.set_data(arrays)
        return pm.sample(
            draws=settings.draws,
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
    one = posterior["scatter"].notnull()
    drawn = one.all([dim for dim in one.dims if dim not in ("chain", "draw")]).sum("draw").to_numpy()
    chains = drawn >= drawn.max() / 2
    kept = {"chain": chains.nonzero()[0], "draw": slice(int(drawn[chains].min()))}
    return posterior.isel(kept), stats.isel(kept)


def tidy(trace: xr.Dataset) -> xr.Dataset:
    """Drop what serves the sampler alone: offsets, slopes, unconstrained values."""
    return trace.drop_vars([str(v) for v in trace.data_vars if str(v).endswith(INNER)]).drop_attrs()


def diagnose(posterior: xr.Dataset, stats: xr.Dataset, settings: SamplerSettings) -> tuple[xr.Dataset, list[Note]]:
    """Convergence of every reported quantity, and notes where a bar is missed.

    Parameters
    ----------
    posterior, stats : xarray.Dataset
        As `CompiledModel.sample` returns them.
    settings : SamplerSettings
        What was asked for.

    Returns
    -------
    diagnostics : xarray.Dataset
        R-hat, bulk and tail effective sample size along ``diagnostic``.
    notes : list of Note
        Codes ``rhat``, ``ess``, ``divergences``, ``bfmi``, ``interrupted``.
    """
    import arviz_stats
    import numpy as np
    import xarray as xr

    notes = []
    n_chains, n_draws = posterior.sizes["chain"], posterior.sizes["draw"]
    if n_draws < settings.draws:
        message = f"sampling was interrupted: {n_draws} of {settings.draws} draws a chain were kept"
        notes.append(Note("interrupted", "warning", message, {"draws": n_draws}))
    # What is constant by the model (gamma of Chinchilla's form, c = 0) has no diagnostics.
    varying = [name for name, values in posterior.items() if float(values.max()) > float(values.min())]
    kinds = ("rhat", "ess_bulk", "ess_tail")
    names = ["eval_set", "train_set", "decides", "source", "target"]
    drawn = posterior[varying].drop_vars(names, errors="ignore")
    # A chain that never moved has no variance: its R-hat is not a number, and is noted as one that is too large.
    with np.errstate(invalid="ignore", divide="ignore"):
        tables = [
            arviz_stats.rhat(drawn),
            arviz_stats.ess(drawn, method="bulk"),
            arviz_stats.ess(drawn, method="tail"),
        ]
    diagnostics = xr.concat(tables, dim=xr.DataArray(list(kinds), dims="diagnostic", name="diagnostic"))

    def worst(kind: str, sign: int) -> tuple[str, float]:
        found = {
            str(n): sign * float((sign * v).max(skipna=False)) for n, v in diagnostics.sel(diagnostic=kind).items()
        }
        name = max(found, key=lambda n: (np.isnan(found[n]), sign * found[n]))
        return name, found[name]

    name, value = worst("rhat", 1)
    if not value < MAX_RHAT:
        message = f"the chains disagree: R-hat of {name} is {value:.3f}, above {MAX_RHAT}; draw more, or tune longer"
        notes.append(Note("rhat", _worse(not value < _BAD_RHAT), message, {"variable": name, "rhat": value}))
    name, value = worst("ess_bulk", -1)
    if not value >= MIN_ESS:
        message = f"few independent draws: bulk ESS of {name} is {value:.0f}, below {MIN_ESS}; draw more"
        notes.append(Note("ess", _worse(not value >= _BAD_ESS), message, {"variable": name, "ess_bulk": value}))
    modules = [end for end in ("", "_readings") if f"diverging{end}" in stats]
    if diverging := sum(int(stats[f"diverging{end}"].sum()) for end in modules):
        total = n_chains * n_draws * len(modules)
        message = f"{diverging} of {total} draws diverged: the posterior has corners that were not explored"
        worse = _worse(diverging > _FEW_DIVERGENCES * total)
        notes.append(Note("divergences", worse, message, {"divergences": diverging, "draws": total}))
    energy = min(_bfmi(stats[f"energy{end}"]) for end in modules)
    if energy < MIN_BFMI:
        message = f"the energy mixes slowly (E-BFMI {energy:.2f}, below {MIN_BFMI}): heavy tails; tune longer"
        notes.append(Note("bfmi", "warning", message, {"bfmi": energy}))
    return diagnostics, notes


def _bfmi(energy: xr.DataArray) -> float:
    import arviz_base
    import arviz_stats

    energies = arviz_base.from_dict({"sample_stats": {"energy": energy.to_numpy()}})
    return float(arviz_stats.bfmi(energies)["energy"].min())


def _worse(serious: bool) -> Severity:
    return "serious" if serious else "warning"
