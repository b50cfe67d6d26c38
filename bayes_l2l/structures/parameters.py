"""A prior of a model file as random variables of a PyMC model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from bayes_l2l.spec.prior import FIXED, Prior
from bayes_l2l.structures.coordinates import between, log_odds

#: Names along a dimension, and the place of every cell's own among them.
Effects = Mapping[str, tuple[list[str], list[int]]]

#: Endings of the variables that serve the sampler alone.
INNER: Final = ("_offset", "_slope", "_drawn", "__")
#: Bounded distributions, whose chains start where PyMC starts them.
_BOUNDED: Final = ("Beta", "TruncatedNormal", "Uniform")
#: Transforms to E over a loss whose argument is the logarithm of the odds E/(L - E), or of L/(L - E), and what of
#: these is small: half the median of the shipped priors.
_BY_ODDS: Final = {"sigmoid": 0.25, "below_one": 1.0}


def effects_of(cells: Sequence[tuple[str, ...]], dims: Sequence[str] = ("eval_set", "train_set")) -> Effects:
    """Names along the parts of the cells' names, and the place of every cell's own among them."""
    effects = {}
    for dim, own in zip(dims, zip(*cells, strict=True), strict=True):
        names = sorted(set(own))
        effects[dim] = (names, [names.index(name) for name in own])
    return effects


def number_of_cells(effects: Effects) -> int:
    """How many cells, or pairs of them, the effects are spread over."""
    return len(next(iter(effects.values()))[1])


def coords(along: str, labels: list[str], effects: Effects) -> dict[str, list[str]]:
    """Names along the dimensions of a model."""
    return {along: labels} | {dim: names for dim, (names, _) in effects.items()}


def parameter(
    name: str,
    prior: Prior,
    effects: Effects,
    *,
    shift: Any = None,
    start: float | None = None,
    odds: bool = False,
    report: bool = True,
) -> Any:
    """Value of a prior, as random variables: non-centred, centred about a shift the data know better, or plain.

    The random variables end in one of `INNER`. A sum of priors spreads each effect over the cells that it belongs to;
    effects that the cells cannot tell apart are one variable (see `_arguments`).

    Parameters
    ----------
    name : str
        Of the quantity.
    prior : Prior
        What is believed.
    effects : mapping
        From `effects_of`.
    shift : tensor, optional
        Added to the logarithm of the quantity gives what the data know: the sampler sees that.
    start : float, optional
        Value that chains start from.
    odds : bool
        Whether the quantity's odds are on a ridge that is straight: the sampler sees them.
    report : bool
        Whether the value is a variable of the posterior, under its name.
    """
    import pymc as pm
    import pytensor.tensor as pt

    if prior.dist == FIXED:
        return pt.constant(prior.value)
    arguments = _arguments(name, prior, effects)
    dims = prior.dims or None
    if not prior.centered:
        offset = pm.Normal(f"{name}_offset", 0.0, 1.0, dims=dims)
        value = arguments["mu"] + arguments["sigma"] * offset
    elif shift is not None and prior.dist == "Normal" and prior.transform == "exp":
        value = pm.Normal(f"{name}_slope", arguments["mu"] + shift, arguments["sigma"], dims=dims) - shift
    else:
        first = _start(prior, start, number_of_cells(effects))
        at = _coordinates(prior, odds)
        value = getattr(pm, prior.dist)(f"{name}_drawn", **arguments, dims=dims, initval=first, **at)
    if prior.transform:
        transforms = {"exp": pt.exp, "sigmoid": pt.sigmoid, "below_one": lambda x: -pt.expm1(-x)}
        value = transforms[prior.transform](value)
    if report:
        pm.Deterministic(name, value, dims=dims)
    return value


def _coordinates(prior: Prior, odds: bool) -> dict[str, Any]:
    """What PyMC is told of the coordinates that a prior is sampled in, where its own choice is not the best."""
    if odds and prior.dist == "Normal" and prior.transform in _BY_ODDS:
        return {"default_transform": log_odds(_BY_ODDS[prior.transform])}
    arguments = [prior.kwargs.get(name) for name in ("lower", "upper", "sigma")]
    numbers = [value for value in arguments if isinstance(value, int | float)]
    if prior.dist == "TruncatedNormal" and len(numbers) == 3:
        return {"default_transform": between(*numbers)}
    return {}


def _arguments(name: str, prior: Prior, effects: Effects) -> dict[str, Any]:
    """Arguments of a prior as variables.

    Normal effects that the cells cannot tell apart are one variable, with the same joint prior: one that every cell
    has a name of its own for is part of what the cell has of its own, one with a single name is part of the mean,
    and of a single cell everything is its own. Else the sampler would walk along sums that no run tells apart.
    """
    mu = prior.kwargs.get("mu")
    if not isinstance(mu, tuple):
        return {key: _argument(name, key, value, effects) for key, value in prior.kwargs.items()}
    others = {key: _argument(name, key, prior.kwargs[key], effects) for key in prior.kwargs.keys() - {"mu", "sigma"}}
    import pymc as pm

    n_cells = number_of_cells(effects)
    own, mean, means = dict[str, Prior](), dict[str, Prior](), list[Any]()
    for term in mu:
        dim = term.dims[0] if term.dims else None
        names, places = effects[dim] if dim else ([""], None)
        called = f"{name}_{dim or 'mu'}"
        normal = term.dist == "Normal" and term.centered and not term.transform
        if normal and len(names) == n_cells and prior.dist == "Normal":
            own[called] = term
        elif normal and len(names) == 1:
            mean[called] = term
        else:
            drawn = parameter(called, term, effects)
            means.append(drawn[places] if dim else drawn)
    if mean:
        drawn = pm.Normal(f"{name}_mu_drawn", *_sum(mean, effects))
        means.append(pm.Deterministic(f"{name}_mu", drawn))
    cell = replace(prior, kwargs={"mu": 0.0, "sigma": prior.kwargs["sigma"]})
    at, scale = _sum({name: cell, **own}, effects)
    return {"mu": sum(means, at), "sigma": scale, **others}


def _sum(terms: Mapping[str, Prior], effects: Effects) -> tuple[Any, Any]:
    """Mean and scale of a sum of independent normal effects, by their names."""
    import pytensor.tensor as pt

    at = [_argument(name, "mu", term.kwargs["mu"], effects) for name, term in terms.items()]
    scales = [_argument(name, "sigma", term.kwargs["sigma"], effects) for name, term in terms.items()]
    if len(scales) == 1:
        return at[0], scales[0]
    return sum(at[1:], at[0]), pt.sqrt(sum(pt.as_tensor(scale) ** 2 for scale in scales))


def _argument(name: str, key: str, value: float | Prior | tuple[Prior, ...], effects: Effects) -> Any:
    return parameter(f"{name}_{key}", value, effects) if isinstance(value, Prior) else value


def _start(prior: Prior, value: float | None, n_cells: int) -> Any:
    """Initial value of the random variable of a prior."""
    if value is None or prior.dist in _BOUNDED:
        return None
    return np.full(n_cells if prior.dims else (), np.log(value) if prior.transform == "exp" else value)
