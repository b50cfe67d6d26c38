"""Posterior draws by NUTS (nutpie, or `pm.sample`): compile once, refit with new data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from bayes_l2l._compat import group, low_rank_adaptation
from bayes_l2l.build import INNER, LAW_VARIABLES, NOISE_VARIABLES, RELATION_VARIABLES, ModelData, build
from bayes_l2l.errors import DataError, SpecError
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
        self.model: pm.Model
        if isinstance(self._first, PairData):
            self.model = build_pairs(spec, self._first)
        else:
            self.model = build(spec, self._first)
        self._nutpie: Any = None

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
            Dims chain, draw, and cell ("eval|train", with coordinates ``eval_set`` and ``train_set``); in structure
            "pairs" instead of cell pair ("eval@train -> eval@train", with coordinates ``source`` and ``target``, and
            ``eval_set`` and ``train_set`` of the target).

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
        try:
            trace = (_by_nutpie if settings.sampler == "nutpie" else _by_pymc)(self, data, settings)
        except (RuntimeError, ValueError) as error:
            # Both samplers say in words of their own that no chain could start.
            raise SpecError(
                f"The model {self.spec.name!r} could not be sampled on {sweep.name} ({str(error).splitlines()[0]}); "
                "do its priors keep every quantity inside its bounds?"
            ) from error
        posterior, stats = _complete(group(trace, "posterior"), group(trace, "sample_stats"))
        n_draws = posterior.sizes.get("draw", 0)
        if n_draws < settings.draws and not (settings.keep_interrupted and n_draws):
            raise KeyboardInterrupt
        return labelled(tidy(posterior), data), stats

    def prior(self, draws: int, seed: int) -> xr.Dataset:
        """Draw from the prior, by the graph that the posterior is drawn from.

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
        import pymc as pm

        names = [*LAW_VARIABLES, *RELATION_VARIABLES, *NOISE_VARIABLES]
        names = [name for name in names if name in self.model.named_vars]
        with _quiet():
            trace = pm.sample_prior_predictive(draws, model=self.model, var_names=names, random_seed=seed)
        return labelled(tidy(group(trace, "prior")), self._first)


def _arranged(spec: ModelSpec, sweep: Sweep) -> ModelData | PairData:
    """A sweep as the model conditions on it."""
    if spec.structure == "pairs":
        return PairData.of(sweep, spec=spec)
    return ModelData.of(sweep, likelihood=spec.likelihood)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what is true of this model and no trouble.

    The likelihood is a potential, which the prior rightly leaves out; no BLAS is needed, since the model has no
    matrix product; and sampling that is interrupted early has few draws.
    """
    log = logging.getLogger("pymc.sampling.forward")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The effect of Potentials")
            warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS")
            warnings.filterwarnings("ignore", "More chains .* than draws|Found chain dimension to be longer")
            yield
    finally:
        log.setLevel(level)


def _by_nutpie(compiled: CompiledModel, data: ModelData | PairData, settings: SamplerSettings) -> Any:
    import nutpie

    if compiled._nutpie is None:
        with _quiet():
            compiled._nutpie = nutpie.compile_pymc_model(compiled.model)
    # The low-rank mass matrix follows the ridge on which E and the exponents trade off.
    sampler = nutpie.sample(
        compiled._nutpie.with_data(**data.arrays()),
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


def _by_pymc(compiled: CompiledModel, data: ModelData | PairData, settings: SamplerSettings) -> Any:
    import pymc as pm

    with _quiet(), compiled.model:
        pm.set_data(data.arrays())
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


def labelled(posterior: xr.Dataset, data: ModelData | PairData) -> xr.Dataset:
    """Give the cells, or the pairs of cells, their names and the parts of their names."""
    return posterior.assign_coords(data.coordinates)


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
    import arviz_base
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
    drawn = posterior[varying].drop_vars(["eval_set", "train_set", "source", "target"], errors="ignore")
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
    if diverging := int(stats["diverging"].sum()):
        total = n_chains * n_draws
        message = f"{diverging} of {total} draws diverged: the posterior has corners that were not explored"
        worse = _worse(diverging > _FEW_DIVERGENCES * total)
        notes.append(Note("divergences", worse, message, {"divergences": diverging, "draws": total}))
    energies = arviz_base.from_dict({"sample_stats": {"energy": stats["energy"].to_numpy()}})
    energy = float(arviz_stats.bfmi(energies)["energy"].min())
    if energy < MIN_BFMI:
        message = f"the energy mixes slowly (E-BFMI {energy:.2f}, below {MIN_BFMI}): heavy tails; tune longer"
        notes.append(Note("bfmi", "warning", message, {"bfmi": energy}))
    return diagnostics, notes


def _worse(serious: bool) -> Severity:
    return "serious" if serious else "warning"
