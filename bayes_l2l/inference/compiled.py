"""CompiledModel: the PyMC models of a spec, compiled once and refitted to other runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bayes_l2l.errors import ApproximationError, DataError
from bayes_l2l.inference.diagnostics import settings_to_pass
from bayes_l2l.inference.importance import run_importance
from bayes_l2l.inference.nuts import run_nuts, run_prior
from bayes_l2l.inference.stages import stage
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.protocol import arranged, structure_of

if TYPE_CHECKING:
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep


def signature(spec: ModelSpec, sweep: Sweep) -> Hashable:
    """What the compiled model of a spec depends on in a sweep: with the same one, nothing need be compiled again."""
    found: Hashable = arranged(spec, sweep).signature
    return found


class CompiledModel:
    """A model compiled for a spec and the cells of a sweep; refits to other runs of these need no compilation.

    Parameters
    ----------
    spec : ModelSpec
        What is believed.
    sweep : Sweep
        The first runs; later ones must have the same `signature`.

    Attributes
    ----------
    modules : tuple of Module
        PyMC models, in the order in which they are sampled.
    densities : Densities
        Their log densities, and how many were made.
    """

    def __init__(self, spec: ModelSpec, sweep: Sweep) -> None:
        self.spec = spec
        self.structure = structure_of(spec)
        self._sweep = sweep
        self._first = arranged(spec, sweep)
        self.modules = self.structure.modules(spec, self._first)
        # Here, because it imports Numba, which a fit that is only read does not need.
        from bayes_l2l.density.store import Densities

        self.densities = Densities(spec, self._first.signature)

    @property
    def signature(self) -> Hashable:
        """What the compiled models depend on besides the spec."""
        found: Hashable = self._first.signature
        return found

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
            Dims chain, draw, and that of the structure (cell or pair), with coordinates. Names of statistics of
            modules after the first have an ending.

        Raises
        ------
        DataError
            If the sweep has other cells, or other anchors.
        SpecError
            If no chain can start: a prior lets a quantity leave its bounds.
        ApproximationError
            If method "laplace" cannot draw from the posterior.
        """
        arrays = self._first if sweep is self._sweep else arranged(self.spec, sweep)
        if arrays.signature != self.signature:
            if arrays.labels == self._first.labels:
                raise DataError(
                    f"{sweep.name} has other anchor losses than the runs that the model was compiled for; compile it "
                    "for this sweep."
                )
            raise DataError(
                f"The model was compiled for {len(self._first.labels)} {self.structure.units} and {sweep.name} has "
                "other ones; compile it for this sweep."
            )
        return self.draw(arrays, settings, name=sweep.name)

    def draw(self, arrays: Any, settings: SamplerSettings, *, name: str) -> tuple[xr.Dataset, xr.Dataset]:
        """Draw from the posterior given arranged runs, which messages call `name`; as `sample`."""
        import xarray as xr

        drawn: list[xr.Dataset] = []
        statistics: list[xr.Dataset] = []
        given: list[dict[str, Any]] = []
        kept = settings
        for place, module in enumerate(self.modules):
            # Draws of modules are paired: with one seed they would not be independent.
            accept = min(settings.target_accept, module.target_accept)
            kept = replace(kept, seed=settings.seed + place, target_accept=accept)
            given.append(module.data(arrays, drawn))
            what = (self.spec.name, name)
            number = self._number(place)
            density = partial(self._density, place, module, given[-1], f"compiling{number}", kept)
            at = f"sampling{number}"
            if kept.method == "laplace":
                posterior, stats = run_importance(density, kept, what=what, stage=at)
            else:
                draw = partial(run_nuts, module, density, given[-1], what=what, stage=at)
                posterior, stats = self._passing(draw, kept) if module.again else draw(kept)
            kept = replace(kept, chains=posterior.sizes["chain"], draws=posterior.sizes["draw"])
            drawn.append(posterior)
            statistics.append(stats.rename({str(v): f"{v}{module.suffix}" for v in stats.data_vars}))
        # Any module may have been interrupted; the last one has the fewest draws.
        size = {"chain": kept.chains, "draw": kept.draws}
        same = {dim: slice(n) for dim, n in size.items()}
        drawn = [posterior.isel(same) for posterior in drawn]
        statistics = [stats.isel(same).assign_coords(drawn[0][[*size]].coords) for stats in statistics]
        found = self.structure.join(self.spec, arrays, drawn, given, size=(size["chain"], size["draw"]))
        return found, xr.merge(statistics) if statistics else xr.Dataset()

    @staticmethod
    def _passing(draw: Callable[..., tuple[xr.Dataset, xr.Dataset]], settings: SamplerSettings) -> Any:
        """Draws of a module by NUTS, and their statistics: once more where that is needed to pass the bars."""
        posterior, stats = draw(settings)
        stricter = settings_to_pass(posterior, stats, settings)
        if stricter is not settings:
            again = draw(stricter)
            # What was drawn at first is whole where the second time was interrupted.
            if again[0].sizes == posterior.sizes:
                posterior, stats = again[0], again[1].assign(thin=stricter.thin)
        return posterior, stats

    def _density(self, place: int, module: Any, arrays: dict[str, Any], said: str, settings: SamplerSettings) -> Any:
        """Log density of a module, as the method needs it; whoever listens is told."""
        stage(said)
        if settings.method == "nuts":
            return self.densities.of(place, module, arrays)
        from bayes_l2l.density.lowering import NotLoweredError

        try:
            return self.densities.tape(place, module, arrays)
        except NotLoweredError as error:
            raise ApproximationError(
                f"Method 'laplace' cannot evaluate model {self.spec.name!r} ({error}); sample it with method='nuts' "
                "(--method nuts)."
            ) from error

    def _number(self, place: int) -> str:
        """Which of the modules it is, for whoever listens."""
        of = "" if self.structure.metric == "loss" else " error rates"
        return of if len(self.modules) == 1 else f"{of} {place + 1} of {len(self.modules)}"

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
        # With the same seed, variables of one place in two modules would be drawn alike.
        drawn = [
            run_prior(module.model, module.reported, draws, seed + place) for place, module in enumerate(self.modules)
        ]
        return self.structure.join(self.spec, self._first, drawn, None, size=(1, draws))
