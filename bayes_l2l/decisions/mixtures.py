"""Best mixture: which weights of domains have the lowest expected loss at a size, on one evaluation or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.mixtures import PREFIX
from bayes_l2l.display import as_html
from bayes_l2l.errors import ForecastError, did_you_mean
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import summary
from bayes_l2l.prediction.averages import Weights, in_words, shares_of, weighted
from bayes_l2l.prediction.forecasts import Forecast, forecast, named_cells
from bayes_l2l.structures.mixture_draws import mixture_draws
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.posterior.posterior import Posterior

Floats = npt.NDArray[np.float64]
Bounds = Mapping[str, tuple[float, float]]

#: Draws whose mean loss is made small, and draws that have a best mixture of their own.
_DRAWS: Final = 400
_EACH: Final = 100
#: Least weight that is tried: a domain that is not there at all has no derivative.
_LEAST: Final = 1e-6
#: Trained mixtures that are looked at closely, with what each departs by from the law.
_RIVALS: Final = 20
#: Weights that are worth telling.
_SHOWN: Final = 0.005


@dataclass(frozen=True, eq=False, repr=False)
class BestMixture:
    """Weights of domains with the lowest expected loss.

    Parameters
    ----------
    domains : list of str
        Their names.
    weights : ndarray, shape (domain,)
        With the lowest posterior mean of the loss; they sum to 1.
    each : ndarray, shape (draw, domain)
        The best weights in single draws: how surely they are known.
    low, high : ndarray, shape (domain,)
        Bounds that were kept to.
    shares : mapping of str to float
        Weights of the evaluations; they sum to 1.
    forecast : Forecast
        Of a run of that mixture, which was never trained, a point an evaluation.
    rival : str
        Trained mixture with the lowest expected loss.
    gain : ndarray, shape (draw,)
        What the best mixture is better by than that one, both without what a run scatters (nats/token).
    notes : tuple of Note
        Objections.
    """

    domains: list[str]
    weights: Floats
    each: Floats
    low: Floats
    high: Floats
    shares: Mapping[str, float]
    forecast: Forecast
    rival: str
    gain: Floats
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        return f"<BestMixture of {len(self.domains)} domains for {', '.join(self.shares)}>"

    def _repr_html_(self) -> str:
        return as_html(repr(self)[1:-1], said=[str(self)], table=self.table(), notes=self.notes)

    @property
    def p_better(self) -> float:
        """Probability that it is better than the best mixture that was trained."""
        return float((self.gain > 0).mean())

    @property
    def losses(self) -> Floats:
        """Draws of the weighted loss of a run, shape (draw,)."""
        return weighted(self.forecast.draws, self.shares)[:, 0]

    def table(self) -> pd.DataFrame:
        """Weights.

        Returns
        -------
        pandas.DataFrame
            One row a domain, the largest weight first: domain, weight, and the best weight in single draws (q0.05,
            median, q0.95), low and high (bounds).
        """
        import pandas as pd

        levels = summary(self.each, [0.05, 0.95])
        columns = {"domain": self.domains, "weight": self.weights}
        columns |= {name: levels[name] for name in ("q0.05", "median", "q0.95")}
        columns |= {"low": self.low, "high": self.high}
        return pd.DataFrame(columns).sort_values("weight", ascending=False, ignore_index=True)

    def __str__(self) -> str:
        size = self.forecast.points.iloc[0]
        parts = [
            f"{row['domain']} {row['weight']:.2g} ({row['q0.05']:.2g} to {row['q0.95']:.2g})"
            for _, row in self.table().iterrows()
            if row["weight"] > _SHOWN
        ]
        low, median, high = np.quantile(self.losses, [0.05, 0.5, 0.95])
        unit = self.forecast.sweep.loss_unit if self.forecast.sweep else "nats/token"
        return (
            f"lowest expected loss on {in_words(self.shares)} at {size['params']:.3g} parameters and "
            f"{size['tokens']:.3g} tokens: "
            f"{', '.join(parts)}\n"
            f"a run of it is forecast to reach {median:.3f} {unit} (90% {low:.3f} to {high:.3f}); it was never "
            f"trained, and is better than the best mixture that was ({self.rival}) with probability "
            f"{self.p_better:.2f}, by {self.gain.mean():.2g} {unit}"
        )


def best_mixture(
    fit: Posterior,
    *,
    eval_set: str | Sequence[str],
    params: float,
    tokens: float,
    weights: Weights | None = None,
    bounds: Bounds | None = None,
) -> BestMixture:
    """Find the weights with the lowest expected loss; see `Fit.choose_mixture`, which documents it.

    The law is convex in the weights, so that there is one best mixture in every draw, and one of their mean.
    """
    from dataclasses import replace

    if not structure_of(fit.spec).of_mixtures:
        raise ForecastError(
            f"Model {fit.spec.name!r} knows no weights of domains: fit the model of mixtures (model='mixture', "
            "--model mixture) to a table with columns weight:DOMAIN."
        )
    shares = shares_of([eval_set] if isinstance(eval_set, str) else list(eval_set), weights)
    named_cells(fit, None, list(shares))
    draws = mixture_draws(fit)
    domains = draws.data.domains
    low, high = _bounds(domains, draws.data.weights.max(axis=0), bounds or {})
    law = _Law.of(fit, shares, (params, tokens))
    best = _lowest(law.some(_DRAWS), draws.data.reference, low, high)
    each = law.some(_EACH)
    own = np.stack([_lowest(each.only(i), best, low, high) for i in range(len(each.power))])
    rivals = _rivals(fit, law, shares)
    mixtures = {"mixture": best, **{name: draws.data.weights[draws.data.mixtures.index(name)] for name in rivals}}
    size = {"params": params, "tokens": tokens}
    points = _points(mixtures, domains, shares).assign(**size)
    reached = weighted(forecast(fit, points, kind="mean").draws, shares)
    rival = 1 + int(np.argmin(reached[:, 1:].mean(axis=0)))
    run = forecast(fit, _points({"mixture": best}, domains, shares).assign(**size))
    return BestMixture(
        domains=domains,
        weights=best,
        each=own,
        low=low,
        high=high,
        shares=shares,
        forecast=replace(run, sweep=fit.sweep),
        rival=rivals[rival - 1],
        gain=reached[:, rival] - reached[:, 0],
        notes=run.notes,
    )


def _bounds(domains: Sequence[str], most: Floats, asked: Bounds) -> tuple[Floats, Floats]:
    """Least and largest weight of every domain: those that are asked for, or none and as much as was fitted."""
    if unknown := [name for name in asked if name not in domains]:
        raise ForecastError(f"The domain {unknown[0]!r} was not fitted{did_you_mean(unknown[0], domains)}.")
    low, high = np.zeros(len(domains)), most.copy()
    for name, (least, largest) in asked.items():
        if not 0 <= least <= largest <= 1:
            raise ForecastError(
                f"The bounds of {name} must be parts of 1, the lower one first, not {least} to {largest}."
            )
        low[domains.index(name)], high[domains.index(name)] = least, largest
    if low.sum() > 1 or high.sum() < 1:
        raise ForecastError(
            f"No mixture is inside the bounds: the least weights sum to {low.sum():.3g}, the largest to "
            f"{high.sum():.3g}."
        )
    return low, high


def _points(mixtures: Mapping[str, Floats], domains: Sequence[str], shares: Mapping[str, float]) -> pd.DataFrame:
    """Points of mixtures (inner) on every evaluation (outer)."""
    import pandas as pd

    columns = [PREFIX + name for name in domains]
    one = pd.DataFrame(np.stack(list(mixtures.values())), columns=columns).assign(train_set=list(mixtures))
    return pd.concat([one.assign(eval_set=name) for name in shares], ignore_index=True)


def _rivals(fit: Posterior, law: _Law, shares: Mapping[str, float]) -> list[str]:
    """Trained mixtures that the law expects most of, which were measured on every evaluation."""
    data = mixture_draws(fit).data
    cells = set(fit.cells)
    measured = [i for i, name in enumerate(data.mixtures) if all((e, name) in cells for e in shares)]
    few = law.some(_EACH)
    expected = [few.value(data.weights[i])[0] for i in measured]
    return [data.mixtures[measured[i]] for i in np.argsort(expected)[:_RIVALS]]


@dataclass(frozen=True, eq=False)
class _Law:
    """Mixing laws of several evaluations: arrays of shape (draw, evaluation) and (draw, evaluation, domain)."""

    floor: Floats
    above: Floats
    worth: Floats
    tilt: Floats
    strength: Floats
    power: Floats
    reference: Floats
    shares: Floats

    @classmethod
    def of(cls, fit: Posterior, shares: Mapping[str, float], size: tuple[float, float]) -> _Law:
        """Of a posterior at a size."""
        levels = [mixture_draws(fit).level(name, size, predictive=False) for name in shares]
        laws = [level.law for level in levels]
        at_reference = [np.log(law.amount(law.reference[None])[:, 0]) for law in laws]
        above = [
            level.above * np.exp(law.strength * at) for level, law, at in zip(levels, laws, at_reference, strict=True)
        ]
        return cls(
            floor=np.stack([level.floor for level in levels], axis=1),
            above=np.stack(above, axis=1),
            worth=np.stack([law.worth for law in laws], axis=1),
            tilt=np.stack([law.tilt for law in laws], axis=1),
            strength=np.stack([law.strength for law in laws], axis=1),
            power=np.stack([law.power for law in laws], axis=1),
            reference=laws[0].reference,
            shares=np.array(list(shares.values())),
        )

    def some(self, n: int) -> _Law:
        """The same of so many draws, evenly."""
        return self._of(np.unique(np.linspace(0, len(self.power) - 1, n).astype(int)))

    def only(self, draw: int) -> _Law:
        """The same of one draw."""
        return self._of(np.array([draw]))

    def _of(self, draws: npt.NDArray[np.int_]) -> _Law:
        of_draws = {n: v[draws] for n, v in vars(self).items() if n not in ("reference", "shares")}
        return _Law(**of_draws, reference=self.reference, shares=self.shares)

    def value(self, weights: Floats) -> tuple[float, Floats]:
        """Mean over draws of the weighted loss of a mixture, and its derivative by the weights."""
        w = np.maximum(weights, _LEAST)
        raised = w ** self.power[:, :, None]
        amount = 1 + (self.worth * raised).sum(axis=2)
        part = self.above * np.exp(self.tilt @ (w - self.reference) - self.strength * np.log(amount))
        part = part * self.shares / len(part)
        slope = self.worth * self.power[:, :, None] * raised / w
        gradient = np.einsum("ne,nej->j", part, self.tilt) - np.einsum(
            "ne,nej->j", part * self.strength / amount, slope
        )
        return float((self.floor @ self.shares).mean() + part.sum()), gradient


def _lowest(law: _Law, start: Floats, low: Floats, high: Floats) -> Floats:
    """Weights inside bounds with the lowest value."""
    from scipy.optimize import minimize

    found = minimize(
        law.value,
        _inside(start, low, high),
        jac=True,
        method="SLSQP",
        bounds=list(zip(np.minimum(np.maximum(low, _LEAST), high), high, strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"maxiter": 200, "ftol": 1e-8},
    )
    return _inside(found.x, low, high)


def _inside(weights: Floats, low: Floats, high: Floats) -> Floats:
    """Weights inside bounds that sum to 1, near to some."""
    found = np.clip(weights, low, high)
    gap = 1 - found.sum()
    room = high - found if gap > 0 else found - low
    return np.asarray(found + gap * room / max(room.sum(), np.finfo(float).tiny))
