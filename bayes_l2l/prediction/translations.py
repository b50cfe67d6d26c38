"""Translation: the relation between the losses of any two cells, and one cell's law read as the other's.

Everything here is a pure function of the posterior draws: nothing samples and nothing imports PyMC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayes_l2l.display import SHOWN, as_html
from bayes_l2l.errors import ForecastError
from bayes_l2l.laws.scaling import Law
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import QUANTILES, summary
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.prediction.forecasts import kind_of
from bayes_l2l.structures.protocol import Noise, structure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bayes_l2l.data.sweep import Cell, Sweep

Floats = npt.NDArray[np.float64]
Name = tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Translation:
    """Draws of L1 = K (L0 - E0)^kappa + E1 (Eq. 9 of arXiv 2411.12925), from one cell's loss to another's.

    Losses are of runs of equal (N, D). Draws of all parts belong together: the E's and K and kappa are uncertain
    at once. Made by `Fit.translate`.

    Parameters
    ----------
    source, target : (str, str)
        The cells, (eval_set, train_set).
    relation : ShiftedPowerLaw
        K, kappa, E0 and E1, arrays of shape (draw,).
    source_law : Law or None
        The source's own law, arrays of shape (draw,); None of a model of pairs, which has relations alone.
    noise : (Noise, Noise)
        What runs of the source and of the target scatter, each about its curve and on its own.
    sweep : Sweep
        The fitted runs.
    seed : int
        Of the scatter that `forecast` draws.
    notes : tuple of Note
        Objections to the fit.
    """

    source: Name
    target: Name
    relation: ShiftedPowerLaw
    source_law: Law | None
    noise: tuple[Noise, Noise]
    sweep: Sweep
    seed: int = 0
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        return f"<Translation of {_label(self.source)} to {_label(self.target)}, {self.K.size} draws>"

    def _repr_html_(self) -> str:
        said = f"L1 = K (L0 - E0)^kappa + E1, for runs of equal size ({self.sweep.loss_unit})"
        return as_html(repr(self)[1:-1], said=[said], table=self.table(quantiles=SHOWN), notes=self.notes)

    @property
    def K(self) -> Floats:
        """Scale of the relation (nats^(1 - kappa)), shape (draw,)."""
        return np.asarray(self.relation.K)

    @property
    def kappa(self) -> Floats:
        """Exponent of the relation, shape (draw,)."""
        return np.asarray(self.relation.kappa)

    @cached_property
    def law(self) -> Law:
        """The source's law translated: the target's loss at (N, D), arrays of shape (draw,)."""
        if self.source_law is None:
            raise ForecastError("A model of pairs has no scaling law to translate: fit the joint model.")
        return self.source_law.translate(self.relation)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Fitted runs of equal size: columns params, tokens, x (source's loss), y (target's loss)."""
        return self.sweep.pairs(self.source, self.target)

    def curve(self, loss: float | Sequence[float] | Floats) -> Floats:
        """Target's loss at losses of the source, both without scatter.

        Parameters
        ----------
        loss : float or sequence of float, shape (n,)
            Losses of the source (nats/token).

        Returns
        -------
        ndarray, shape (draw, n)
            Nats/token; NaN in draws whose E0 is not reached.

        Raises
        ------
        ForecastError
            If a loss is not positive and finite.
        """
        return self._at(_positive(loss))

    def forecast(self, loss: float | Sequence[float] | Floats, *, kind: str = "predictive") -> Floats:
        """Target's loss of runs whose source's loss was observed, and of which nothing else is used.

        The effect that runs of equal size share moves both losses along the curve, so it needs no model here:
        what is left is the own scatter of each. `Fit.forecast` differs: there the observed run is among the
        fitted rows, so that it also informs the laws, and the forecast knows its N and D.

        Parameters
        ----------
        loss : float or sequence of float, shape (n,)
            Observed losses of the source (nats/token).
        kind : {"predictive", "mean"}
            A run, with the scatter of the observed loss and its own, or the curve through the observed loss.

        Returns
        -------
        ndarray, shape (draw, n)
            Nats/token; NaN in draws whose E0 is not reached.

        Raises
        ------
        ForecastError
            If a loss is not positive and finite, or the kind is refused.
        """
        kept, observed = kind_of(kind), _positive(loss)
        if kept == "mean":
            return self._at(observed)
        rng = np.random.default_rng(self.seed)
        normal = rng.standard_normal((self.K.size, observed.size, 2))
        of_source, of_target = (noise.draw(rng, normal[..., i]) for i, noise in enumerate(self.noise))
        return np.asarray(self._at(observed * np.exp(-of_source)) * np.exp(of_target))

    def table(self, *, quantiles: Sequence[float] = QUANTILES) -> pd.DataFrame:
        """Summary of the relation and of the translated law.

        Parameters
        ----------
        quantiles : sequence of float
            Levels in (0, 1); ascending in the table.

        Returns
        -------
        pandas.DataFrame
            One row a variable: K, kappa, E0, E1, then the target's law E, log_A, log_B, alpha, beta, gamma, and c
            where the model has it. Columns source, target ("eval@train"), variable, mean, sd, median and a
            column ``q0.05`` a level.

        Raises
        ------
        ForecastError
            If a level is not between 0 and 1.
        """
        import pandas as pd

        draws = dict(vars(self.relation))
        if self.source_law is not None:
            draws |= vars(self.law)
        if "c" in draws and not np.any(draws["c"]):
            del draws["c"]
        names = pd.DataFrame({"source": _label(self.source), "target": _label(self.target), "variable": list(draws)})
        return names.assign(**summary(np.stack(list(draws.values()), axis=1), quantiles))

    def inverse(self) -> Translation:
        """The translation read backwards, draw by draw."""
        return replace(
            self,
            source=self.target,
            target=self.source,
            relation=self.relation.inverse(),
            source_law=None if self.source_law is None else self.law,
            noise=self.noise[::-1],
        )

    def then(self, following: Translation) -> Translation:
        """Translate on, from this one's target to another's, draw by draw.

        Parameters
        ----------
        following : Translation
            Of the same fit, from this one's target.

        Returns
        -------
        Translation
            From this one's source to the other's target.

        Raises
        ------
        ForecastError
            If the other one starts elsewhere, or its draws are not those of this one.
        """
        if following.source != self.target:
            raise ForecastError(
                f"A translation to {_label(self.target)} cannot be followed by one from {_label(following.source)}: "
                "the second must start where the first ends."
            )
        if not np.array_equal(self.relation.E1, following.relation.E0):
            raise ForecastError(
                f"The two translations have different draws of E of {_label(self.target)}: make both from one fit."
            )
        return replace(
            self,
            target=following.target,
            relation=self.relation.then(following.relation),
            noise=(self.noise[0], following.noise[1]),
        )

    def plot(self, **options: Any) -> Figure:
        """Draw the relation and the translated law (see `bayes_l2l.plotting.relations.translation`)."""
        from bayes_l2l.plotting import relations

        figure: Figure = relations.translation(self, **options)
        return figure

    def _at(self, loss: Floats) -> Floats:
        """The relation at losses that broadcast to (draw, n)."""
        law = ShiftedPowerLaw(**{name: value[:, None] for name, value in vars(self.relation).items()})
        with np.errstate(invalid="ignore"):  # a power of what is negative: below E0
            return np.where(loss >= law.E0, law(loss), np.nan)


def translate(posterior: Posterior, source: Cell, target: Cell) -> Translation:
    """Translate the loss of one cell to that of another.

    Parameters
    ----------
    posterior : Posterior
        Of a model that relates its cells.
    source, target : str or (str, str)
        ``"eval@train"``, ``(eval_set, train_set)``, or a training set alone for its train loss.

    Returns
    -------
    Translation

    Raises
    ------
    DataError
        If a cell was not fitted.
    ForecastError
        If the model does not relate the two.
    """
    ends = posterior.sweep.cell(source), posterior.sweep.cell(target)
    found = structure_of(posterior.spec).related(posterior, *ends)
    return Translation(
        *ends,
        relation=found.relation,
        source_law=found.source_law,
        noise=found.noise,
        sweep=posterior.sweep,
        seed=posterior.seed,
        notes=posterior.notes,
    )


def _positive(loss: Any) -> Floats:
    """Losses along one dimension, refused if they are none."""
    values = np.atleast_1d(np.asarray(loss, dtype=float))
    if values.ndim > 1 or not (np.isfinite(values) & (values > 0)).all():
        raise ForecastError("The source's losses must be a number or a list of numbers, positive and finite.")
    return values


def _label(cell: Name) -> str:
    return "@".join(cell)
