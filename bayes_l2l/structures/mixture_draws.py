"""MixtureDraws: what the draws of a mixing law say of mixtures, trained or not, at sizes, fitted or not."""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np

from bayes_l2l.data.mixtures import PREFIX, normalised
from bayes_l2l.data.sizes import size_label, size_labels
from bayes_l2l.laws.mixing import MixingLaw, below_both
from bayes_l2l.laws.scaling import log_progress
from bayes_l2l.posterior.draws import stacked, thinned
from bayes_l2l.structures.evaluation_correlation import EvaluationCorrelation, evaluation_correlation
from bayes_l2l.structures.mixture_arrays import MixtureArrays

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.posterior.posterior import Posterior
    from bayes_l2l.structures.protocol import Floats

#: Draws that correlations are measured on, and standardised residuals that outlying ones are taken for.
_ENOUGH: Final = 100
_OUTLYING: Final = 3.0


class Level:
    """Draws of an evaluation at one size.

    Attributes
    ----------
    floor, above : ndarray, shape (draw,)
        Loss that no mixture takes away, and what the reference mixture has above it (nats/token).
    law : MixingLaw
        What mixtures change of it.
    scale : ndarray, shape (draw,)
        Standard deviation of a run on its own, in the log of the loss above the floor.
    """

    def __init__(self, draws: MixtureDraws, evaluation: int, size: tuple[float, float], *, predictive: bool) -> None:
        of, e = draws.of, evaluation
        fold = draws.data.folds(*np.log(size))
        reference, self.floor = draws.reference_loss(e, size, predictive=predictive)
        self.above = reference - self.floor
        self.law = MixingLaw(
            worth=of["worth"][:, e] * np.exp(fold * of["worth_change"][:, e]),
            tilt=of["tilt"][:, e] + fold * of["tilt_change"][:, e],
            power=of["power"][:, e],
            strength=of["strength"][:, e] * np.exp(fold * of["strength_change"][:, e]),
            reference=draws.data.reference,
        )
        self.scale = of["residual_scale"][:, e] * np.exp(fold * of["scale_change"][:, e])

    def loss(self, effect: Floats) -> Floats:
        """Losses that are above the floor by factors exp(effect), shape (draw, mixture)."""
        return np.asarray(self.floor[:, None] + self.above[:, None] * np.exp(effect))


class MixtureDraws:
    """Draws of a posterior of structure "mixture", as arrays of shape (draw, evaluation, domain) and parts of it."""

    def __init__(self, posterior: Posterior) -> None:
        self.seed, self.data = posterior.seed, MixtureArrays.of(posterior.sweep)
        found = stacked(posterior.draws)
        self.of = {str(name): values.to_numpy() for name, values in found.items()}
        self._few = thinned(posterior, _ENOUGH)
        self.n = found.sizes["sample"]

    def level(self, evaluation: str, size: tuple[float, float], *, predictive: bool = True) -> Level:
        """Draws of an evaluation at a size (N, D); of one that was not fitted, with its effect if predictive."""
        return Level(self, self.data.evaluations.index(evaluation), size, predictive=predictive)

    def reference_loss(self, e: int, size: tuple[float, float], *, predictive: bool) -> tuple[Floats, Floats]:
        """Draws of the reference mixture's loss on an evaluation at a size, and of the floor."""
        data, of = self.data, self.of
        label = size_label(*size)
        log_N, log_D = np.log(size)
        near = int(np.argmin(np.abs(data.folds(data.log_params, data.log_tokens) - data.folds(log_N, log_D))))
        s = data.sizes.index(label) if label in data.sizes else near
        fitted, least = of["reference_loss"][:, e, s], data.smallest[e, s]
        floor = of["floor"][:, e] * np.exp(below_both(np.log(least), np.log(fitted)))
        if label in data.sizes:
            return fitted, floor
        log_R = log_progress(
            log_N,
            log_D,
            reference=data.reference_size,
            share=of["share"][:, e],
            alpha=of["alpha_over_gamma"][:, e],
            beta=of["beta_over_gamma"][:, e],
        )
        found = of["E"][:, e] + of["K"][:, e] * np.exp(of["gamma"][:, e] * log_R)
        if predictive:
            effect = self._rng(8, label, data.evaluations[e]).standard_normal(self.n)
            found = found * np.exp(of["size_effect_scale"][:, e] * effect)
        return found, found * floor / fitted

    def losses(self, at: pd.DataFrame, *, predictive: bool, noisy: bool = True) -> Floats:
        """Draws of the loss at every point, shape (draw, point); see `Structure.losses`.

        Points of training sets that were not fitted have columns of weights.
        """
        found = np.empty((self.n, len(at)))
        names, evals, sizes = at["train_set"].tolist(), at["eval_set"].tolist(), size_labels(at)
        weights = self._weights(at)
        normal = self._normal(names, evals, 7)
        own = self._normal([f"{n} at {s}" for n, s in zip(names, sizes, strict=True)], evals, 9)
        params, tokens = at["params"].to_numpy(), at["tokens"].to_numpy()
        groups: dict[tuple[str, str], list[int]] = {}
        for i, key in enumerate(zip(evals, sizes, strict=True)):
            groups.setdefault(key, []).append(i)
        departures: dict[tuple[str, str], tuple[Floats, Floats]] = {}
        for (evaluation, _), places in groups.items():
            size = float(params[places[0]]), float(tokens[places[0]])
            level = self.level(evaluation, size, predictive=predictive)
            effect = level.law.log_effect(weights[places])
            for column, i in enumerate(places):
                key = names[i], evaluation
                if key not in departures:
                    departures[key] = self._departure(*key, weights[i], normal[:, i])
                departure, spread = departures[key]
                effect[:, column] += level.law.strength * departure
                if predictive and noisy:
                    effect[:, column] += level.scale * spread * own[:, i]
            found[:, places] = level.loss(effect)
        return found

    def _departure(self, mixture: str, evaluation: str, weights: Floats, normal: Floats) -> tuple[Floats, Floats]:
        """Draws of how far a mixture departs on an evaluation, given its fitted runs, and of how outlying it is."""
        prior = self.departure_scale(evaluation, weights[None])[:, 0] ** 2
        pull, weight, quadratic = np.zeros((3, self.n))
        e = self.data.evaluations.index(evaluation)
        seen = [r for r in self.data.runs_of.get(mixture, ()) if self.data.observed[e, r] > 0]
        for r in seen:
            residual, variance, strength = self._residual(r, e)
            pull += strength * residual / variance
            weight += strength**2 / variance
            quadratic += residual**2 / variance
        gain = 1 + prior * weight
        spread = np.ones(self.n)
        if "nu" in self.of:
            nu, rng = self.of["nu"][:, e], self._rng(6, mixture, evaluation)
            quadratic -= pull**2 * prior / gain
            spread = np.sqrt((nu + quadratic) / rng.chisquare(nu + len(seen)))
        return prior * pull / gain + np.sqrt(prior / gain) * spread * normal, spread

    def departure_scale(self, evaluation: str, weights: Floats) -> Floats:
        """Scale of what mixtures of weights (mixture, domain) depart by, shape (draw, mixture)."""
        e, of = self.data.evaluations.index(evaluation), self.of
        law = MixingLaw(
            of["worth"][:, e], of["tilt"][:, e], of["power"][:, e], of["strength"][:, e], self.data.reference
        )
        own = of["weight_error"][:, [e]] / law.amount(weights)
        return np.asarray(np.hypot(of["departure_scale"][:, [e]], own))

    def _residual(self, run: int, e: int) -> tuple[Floats, Floats, Floats]:
        """Draws of the residual of a fitted run, its variance, and the strength of what its mixture departs by."""
        residual, variance, strength = self._residuals(int(self.data.size[run]), e)
        place = np.count_nonzero(self.data.size[:run] == self.data.size[run])
        return residual[:, place], variance[:, place], strength

    def _residuals(self, s: int, e: int) -> tuple[Floats, Floats, Floats]:
        """The same of all runs of a size; kept, since forecasts of mixtures ask for them one by one."""
        if (s, e) not in self._kept:
            data, runs = self.data, self.data.size == s
            size = float(np.exp(data.log_params[s])), float(np.exp(data.log_tokens[s]))
            level = Level(self, e, size, predictive=True)
            above = data.loss[e, runs] - level.floor[:, None]
            effect = level.law.log_effect(data.weights[data.mixture[runs]])
            # What was not observed is not asked for.
            with np.errstate(invalid="ignore", divide="ignore"):
                residual = np.log(above / level.above[:, None]) - effect
            variance = level.scale[:, None] ** 2 + (data.noise[e, runs] / above) ** 2
            self._kept[s, e] = residual, variance, level.law.strength
        return self._kept[s, e]

    @cached_property
    def _kept(self) -> dict[tuple[int, int], tuple[Floats, Floats, Floats]]:
        return {}

    @cached_property
    def correlation(self) -> EvaluationCorrelation:
        """Correlation between evaluations of what runs deviate by from the law, mixtures and runs alike."""
        few, data = MixtureDraws(self._few), self.data
        standard = np.full(data.loss.shape, np.nan)
        for e, name in enumerate(data.evaluations):
            scale = few.departure_scale(name, data.weights)
            for s in range(len(data.sizes)):
                runs = data.size == s
                residual, variance, strength = few._residuals(s, e)
                departed = strength[:, None] * scale[:, data.mixture[runs]]
                standard[e, runs] = (residual / np.sqrt(variance + departed**2)).mean(axis=0)
        standard = np.where(data.observed > 0, np.clip(standard, -_OUTLYING, _OUTLYING), np.nan)
        return evaluation_correlation(standard.T, [(name, "mixtures") for name in data.evaluations])

    def _weights(self, at: pd.DataFrame) -> Floats:
        """Weights of every point: those that it has, or those of its fitted mixture."""
        data, columns = self.data, [PREFIX + name for name in self.data.domains]
        found = np.full((len(at), len(columns)), np.nan)
        if all(name in at for name in columns):
            found = at[columns].to_numpy(dtype=float)
        place = {name: i for i, name in enumerate(data.mixtures)}
        for i, name in enumerate(at["train_set"]):
            if np.isnan(found[i]).any():
                found[i] = data.weights[place[name]]
        return normalised(found)

    def _normal(self, owners: list[str], evaluations: list[str], stream: int) -> Floats:
        """Standard normal draws of every owner and evaluation, which correlate between the evaluations of one."""
        keys = list(dict.fromkeys(zip(owners, evaluations, strict=True)))
        each = np.stack([self._rng(stream, *key).standard_normal(self.n) for key in keys], axis=1)
        names, of = (list(part) for part in zip(*keys, strict=True))
        if len(set(of)) > 1:
            each = self.correlation.correlated(each, of, names)
        place = {key: i for i, key in enumerate(keys)}
        return each[:, [place[key] for key in zip(owners, evaluations, strict=True)]]

    def _rng(self, stream: int, *names: str) -> np.random.Generator:
        """Stream of draws that belongs to names, whatever else is asked for."""
        return np.random.default_rng([self.seed, stream, zlib.crc32("\n".join(names).encode())])


_DRAWS: WeakKeyDictionary[Any, MixtureDraws] = WeakKeyDictionary()


def mixture_draws(posterior: Posterior) -> MixtureDraws:
    """What the draws of a posterior say of mixtures; read once for a posterior."""
    if posterior not in _DRAWS:
        _DRAWS[posterior] = MixtureDraws(posterior)
    return _DRAWS[posterior]
