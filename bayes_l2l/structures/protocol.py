"""Structure: all that is particular to one kind of model, behind one protocol.

A model file's key ``structure`` names one. It says how runs are arranged, which PyMC models are sampled in which
order, what their draws mean, and how it describes itself. Nothing outside this room asks which structure a model
has: it asks the structure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import ForecastError
from bayes_l2l.laws.residuals import Normal, Residuals
from bayes_l2l.laws.scaling import Law
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.notes import Note
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.registry import Registry
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.evaluation_correlation import EvaluationCorrelation
from bayes_l2l.structures.pointwise import Pointwise

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm
    import xarray as xr

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]
Cell = tuple[str, str]
#: What is forecast: the mean of runs (a law), or a run that scatters about it.
Kind = Literal["predictive", "mean"]


class Arranged(Protocol):
    """Runs as the arrays that a model conditions on."""

    @property
    def labels(self) -> list[str]:
        """Names of what is fitted, along the draws' dimension."""

    @property
    def coordinates(self) -> Mapping[str, Any]:
        """The same, and parts of them, as coordinates of the draws."""

    @property
    def signature(self) -> Hashable:
        """What a compiled model depends on besides its spec: runs with the same one need no new compilation."""


Spec = TypeVar("Spec", bound=ModelSpec)
Arrays = TypeVar("Arrays", bound=Arranged)


@dataclass(frozen=True, eq=False)
class Module(Generic[Arrays]):
    """A PyMC model that is sampled given what was drawn before it.

    Parameters
    ----------
    build : callable
        Builds the model, with its data in `pm.Data` and a variable ``residual_scale``, when it is needed.
    data : callable
        That data by name, from the arranged runs and the draws of the modules before.
    reported : tuple of str
        Variables that are drawn from the prior, too.
    suffix : str
        Ending of the names of its sampler's statistics.
    target_accept : float
        Largest acceptance that the step size is adapted to.
    directions : int
        Of the posterior's shape at its mode, how many are handed to the sampler at most.
    again : bool
        Whether it is drawn once more, longer, where chains miss the bars; not where that would take an hour.
    """

    build: Callable[[], pm.Model]
    data: Callable[[Arrays, Sequence[xr.Dataset]], dict[str, Any]]
    reported: tuple[str, ...]
    suffix: str = ""
    target_accept: float = 1.0
    directions: int = 64
    again: bool = True

    @cached_property
    def model(self) -> pm.Model:
        """The model, built once."""
        return self.build()


@dataclass(frozen=True, eq=False)
class Noise:
    """What runs of a cell scatter on their own: scales of log loss, shape (draw,), and their distribution."""

    scale: Floats
    residuals: Residuals = Normal()  # noqa: RUF009 - immutable

    def draw(self, rng: np.random.Generator, normal: Floats) -> Floats:
        """Residuals of log loss, of as many standard normal draws, shape (draw, ...)."""
        scale = self.scale.reshape(-1, *(1,) * (normal.ndim - 1))
        return scale * self.residuals.draw(rng, normal)


def scattered(
    seed: int,
    numbers: Iterable[int],
    n_draws: int,
    draw: Callable[[np.random.Generator, Floats, int], Floats],
    *,
    together: Callable[[Floats], Floats] = lambda normal: normal,
) -> Floats:
    """Draws of what every point scatters, the same however points are parted.

    Parameters
    ----------
    seed : int
        Of the posterior.
    numbers : iterable of int
        Of the points, among all that are forecast.
    n_draws : int
        Draws of each.
    draw : callable
        Draws of one point, shape (draw,), from its stream, as many standard normal draws, and its place.
    together : callable
        Makes the normal draws of all points, shape (draw, point), correlate.

    Returns
    -------
    ndarray, shape (draw, point)
    """
    streams = [np.random.default_rng([seed, 6, number]) for number in numbers]
    normal = together(np.stack([rng.standard_normal(n_draws) for rng in streams], axis=1))
    return np.stack([draw(rng, normal[:, i], i) for i, rng in enumerate(streams)], axis=1)


@dataclass(frozen=True, eq=False)
class Related:
    """Draws of how the losses of two cells are related.

    Parameters
    ----------
    relation : ShiftedPowerLaw
        Arrays of shape (draw,).
    source_law : Law or None
        The source's own law; None of a model without laws.
    noise : (Noise, Noise)
        What runs of the source and of the target scatter.
    """

    relation: ShiftedPowerLaw
    source_law: Law | None
    noise: tuple[Noise, Noise]


class Structure(ABC, Generic[Spec, Arrays]):
    """One kind of model. A subclass is registered under its `name`; one instance serves all models of the kind."""

    #: As in a model file's key ``structure``.
    name: ClassVar[str]
    #: What hangs together how, in a report.
    words: ClassVar[str]
    #: What its model files say.
    spec: ClassVar[type[ModelSpec]]
    #: Which rows of a table it is a model of.
    metric: ClassVar[Literal["loss", "error"]] = "loss"
    #: Whether the loss of each cell is a law of (N, D).
    has_laws: ClassVar[bool] = True
    #: Whether training sets are mixtures of domains, of which others can be forecast than were fitted.
    of_mixtures: ClassVar[bool] = False
    #: Whether its runs need N and D.
    needs_sizes: ClassVar[bool] = True
    #: Dimension of the draws, and what messages call several of it.
    along: ClassVar[str] = "cell"
    units: ClassVar[str] = "cells"
    #: Quantities that a summary shows.
    variables: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls):
            STRUCTURES.register(cls.name, cls())

    @abstractmethod
    def arrange(self, spec: Spec, sweep: Sweep) -> Arrays:
        """Arrange the runs of a sweep.

        Parameters
        ----------
        spec : ModelSpec
            What is believed.
        sweep : Sweep
            What was run.

        Returns
        -------
        Arranged
            Arrays, with their labels and what a compiled model depends on.

        Raises
        ------
        DataError
            If the sweep has not what the model needs.
        """

    @abstractmethod
    def modules(self, spec: Spec, arrays: Arrays) -> tuple[Module[Arrays], ...]:
        """PyMC models in the order in which they are sampled."""

    def join(
        self,
        spec: Spec,
        arrays: Arrays,
        drawn: Sequence[xr.Dataset],
        given: Sequence[Mapping[str, Any]] | None,
        *,
        size: tuple[int, int],
    ) -> xr.Dataset:
        """Posterior of the draws of all modules, its dimension labelled.

        Parameters
        ----------
        spec : ModelSpec
            What was believed.
        arrays : Arranged
            What was seen.
        drawn : sequence of xarray.Dataset
            Draws of every module, of equal chains and draws.
        given : sequence of mapping or None
            The data that each module was given; None of draws from the prior.
        size : (int, int)
            Chains and draws.

        Returns
        -------
        xarray.Dataset
            With the coordinates of the arranged runs.
        """
        return drawn[0].assign_coords(arrays.coordinates)

    def diagnosed(self, posterior: xr.Dataset) -> xr.Dataset:
        """The part of the posterior that was sampled."""
        return posterior

    def losses(
        self, posterior: Posterior, at: pd.DataFrame, *, kind: Kind, source: str | None = None, noisy: bool = True
    ) -> Floats:
        """Draws of the loss at every point.

        Parameters
        ----------
        posterior : Posterior
            Of this structure.
        at : pandas.DataFrame
            Columns eval_set, train_set, params, tokens, flops: fitted cells. The index numbers the points, also
            where they are a part of all; what one scatters depends on its number (`scattered`), and not on others.
        kind : {"predictive", "mean"}
            A run, with what it deviates from the law, or the law.
        source : str, optional
            Cell or training set to read the losses off, where the structure relates cells one by one.
        noisy : bool
            Whether a run has the noise of its own cell, and its evaluation what it may depart from its law by.

        Returns
        -------
        ndarray, shape (draw, point)
            Nats/token.

        Raises
        ------
        ForecastError
            If the structure has no use for a source, or lacks the one that is named.
        """
        raise NotImplementedError

    def departed(self, posterior: Posterior, at: pd.DataFrame) -> Floats:
        """How far evaluations may have departed from their laws beyond the runs.

        Parameters
        ----------
        posterior : Posterior
            Of this structure.
        at : pandas.DataFrame
            As of `losses`.

        Returns
        -------
        ndarray, shape (point,)
            Standard deviation of log loss, in residual scales of the cell.
        """
        return np.zeros(len(at))

    def given(
        self, posterior: Posterior, seen: Mapping[Cell, float], targets: Sequence[Cell], *, kind: Kind, run: int = 0
    ) -> Floats:
        """Draws of losses of a further run of which other losses were seen, and neither N nor D.

        Parameters
        ----------
        posterior : Posterior
            Of this structure.
        seen : mapping of (str, str) to float
            Cell to loss (nats/token).
        targets : sequence of (str, str)
            Cells that are asked for.
        kind : {"predictive", "mean"}
            A run, with what it scatters, or the relation at the losses that were seen.
        run : int
            Number of the run: different runs scatter independently.

        Returns
        -------
        ndarray, shape (draw, target)
            Nats/token; NaN in draws that do not allow for what was seen.

        Raises
        ------
        ForecastError
            If the model does not relate the cells, or reads losses off one other alone.
        """
        if len(seen) > 1:
            raise ForecastError(
                f"Model {posterior.spec.name!r} reads a loss off one other, and {len(seen)} were given: give one, or "
                "fit the model that weighs them all (model='relations', --model relations)."
            )
        ((source, loss),) = seen.items()
        rng = np.random.default_rng([posterior.seed, 4, run])
        pairs = [self.related(posterior, source, target) for target in targets]
        shape = (np.size(pairs[0].relation.K), len(pairs) + 1)
        normal = rng.standard_normal(shape) * (kind == "predictive")
        true = loss * np.exp(-pairs[0].noise[0].draw(rng, normal[:, -1:])[:, 0])
        found = np.empty((shape[0], len(pairs)))
        for i, pair in enumerate(pairs):
            with np.errstate(invalid="ignore"):  # a power of what is negative: below E0
                told = np.where(true > pair.relation.E0, pair.relation(true), np.nan)
            found[:, i] = told * np.exp(pair.noise[1].draw(rng, normal[:, i : i + 1])[:, 0])
        return found

    def pointwise(self, posterior: Posterior) -> Pointwise:
        """Log density of every loss that was fitted, in every draw, given the parameters and what is tied to it.

        Parameters
        ----------
        posterior : Posterior
            Of this structure.

        Returns
        -------
        Pointwise
            With what each loss is, and counted.

        Raises
        ------
        ForecastError
            If the structure does not say.
        """
        raise ForecastError(f"Models of structure {self.name!r} have no log likelihood of single losses.")

    def read_off(self, posterior: Posterior, source: Cell) -> list[Cell]:
        """Cells whose losses can be read off that of a source."""

        def readable(target: Cell) -> bool:
            try:
                self.related(posterior, source, target)
            except ForecastError:
                return False
            return True

        return [cell for cell in posterior.cells if cell != source and readable(cell)]

    def evaluation_correlation(self, posterior: Posterior) -> EvaluationCorrelation:
        """How far what a run scatters on its evaluations correlates: not at all, unless a structure knows better."""
        names = sorted({name for name, _ in posterior.cells})
        return EvaluationCorrelation(names, np.eye(len(names)))

    def objections(self, arrays: Arrays) -> tuple[Note, ...]:
        """What is to be said of the arranged runs."""
        return ()

    def noise(self, posterior: Posterior, cells: Sequence[int]) -> list[Noise]:
        """What runs of some cells (places in ``posterior.cells``) scatter on their own."""
        scale = posterior.draws["residual_scale"].to_numpy().reshape(-1, len(posterior.cells))
        return [Noise(scale[:, cell]) for cell in cells]

    def related(self, posterior: Posterior, source: Cell, target: Cell) -> Related:
        """Draws of the relation of two cells.

        Parameters
        ----------
        posterior : Posterior
            Of this structure.
        source, target : (str, str)
            (eval_set, train_set) of each.

        Returns
        -------
        Related
            The relation, the source's law and what runs scatter.

        Raises
        ------
        ForecastError
            If the model does not relate them.
        """
        raise ForecastError(
            f"Model {posterior.spec.name!r} does not make {'@'.join(source)} and {'@'.join(target)} depend on one "
            "progress R, so neither translates to the other: fit the joint model (model='joint', --model joint)."
        )

    def relations(self, posterior: Posterior, source: Cell) -> list[tuple[Cell, Cell]] | None:
        """Ordered pairs of cells to show, from a source where there is a choice; None if no cell is related."""
        return None

    def anchors(self, posterior: Posterior, train_set: str) -> list[str]:
        """Evaluations of a training set that tell of all its losses: its train loss, if it was measured."""
        return [train_set] if (train_set, train_set) in posterior.cells else []

    def describe(self, spec: Spec) -> list[str]:
        """What a report says of a model, in sentences."""
        return []


#: Every structure by name.
STRUCTURES: Final[Registry[Structure[Any, Any]]] = Registry()


def structure_of(spec: ModelSpec) -> Structure[Any, Any]:
    """The structure of a model."""
    return STRUCTURES[spec.structure]


def arranged(spec: ModelSpec, sweep: Sweep) -> Any:
    """Runs of a sweep as the arrays of a model; refused where they lack the sizes that it needs."""
    structure = structure_of(spec)
    return structure.arrange(spec, sweep.with_sizes(f"model {spec.name!r}") if structure.needs_sizes else sweep)
