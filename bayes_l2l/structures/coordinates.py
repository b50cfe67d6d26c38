"""Coordinates: in what NUTS samples a random variable where PyMC's own choice leaves the posterior curved.

Losses know the curvature of a law, to which E/(L - E), the finite-training correction c and the exponents of R
add up: draws lie on a ridge that is straight in these and bent in their logarithms. Near the bounds the losses say
little, and the priors, which are of the logarithms, much. So both coordinates are softplus: linear above, logarithmic
below.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

#: Standard deviations of a prior from its bound, within which a bounded variable is sampled by its logarithm.
_NEAR: Final = 0.5


@cache
def log_odds(scale: float) -> Any:
    """Transform of an unconstrained x, the log odds of E: x = log(s softplus(y)).

    Parameters
    ----------
    scale : float
        s, below which odds are sampled by their logarithm.

    Returns
    -------
    pymc.logprob.transforms.Transform
    """
    import pytensor.tensor as pt
    from pymc.logprob.transforms import Transform

    class LogOdds(Transform):  # type: ignore[misc]
        """Of y, linear in the odds where these are large."""

        name = "odds"

        def forward(self, value: Any, *inputs: Any) -> Any:
            odds = pt.exp(value) / scale
            return odds + pt.log1mexp(-odds)

        def backward(self, value: Any, *inputs: Any) -> Any:
            return np.log(scale) + pt.log(pt.softplus(value))

        def log_jac_det(self, value: Any, *inputs: Any) -> Any:
            return -pt.softplus(-value) - pt.log(pt.softplus(value))

    return LogOdds()


def between(lower: float, upper: float, sigma: float) -> Any:
    """Transform of a bounded x, linear but for the neighbourhoods of the bounds.

    x = lower + s (softplus(y) - softplus(y - w)), with w = (upper - lower)/s.

    Parameters
    ----------
    lower, upper : float
        Bounds.
    sigma : float
        Standard deviation of the prior, of which s is a part (`_NEAR`).

    Returns
    -------
    pymc.logprob.transforms.Transform
    """
    import pytensor.tensor as pt
    from pymc.logprob.transforms import Transform

    scale = min(_NEAR * sigma, upper - lower)
    width = (upper - lower) / scale

    class Between(Transform):  # type: ignore[misc]
        """Of y."""

        name = "between"

        def forward(self, value: Any, *inputs: Any) -> Any:
            above = (value - lower) / scale
            return above + pt.log1mexp(-above) - pt.log1mexp(above - width)

        def backward(self, value: Any, *inputs: Any) -> Any:
            return lower + scale * (pt.softplus(value) - pt.softplus(value - width))

        def log_jac_det(self, value: Any, *inputs: Any) -> Any:
            constant = np.log(scale) + np.log1p(-np.exp(-width))
            return constant - pt.softplus(-value) - pt.softplus(value - width)

    return Between()
