"""How what is measured scatters about what is expected: the distributions that a likelihood may name.

Each is a distribution about 0 of scale 1 with parameters of its own. It is written once as a density, for the model,
and once as draws, for forecasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from bayes_l2l.registry import Registry

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Residuals:
    """Distribution of residuals; its fields are its parameters (numbers, arrays of draws, or PyTensor variables).

    A subclass is a frozen dataclass, registered under its `name`, by which model files know it (``likelihood.dist``);
    its fields are then further keys of the likelihood.
    """

    name: ClassVar[str]
    #: Numbers above which a parameter must lie.
    above: ClassVar[Mapping[str, float]] = {}
    #: Whether an effect that residuals share can be integrated out of it.
    is_normal: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        RESIDUALS.register(cls.name, cls)

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(field.name for field in fields(cls))

    def log_density(self, residual: Any, scale: Any) -> Any:
        """Log density of residuals of a scale (PyTensor variables that broadcast)."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, normal: Floats) -> Floats:
        """Draws of scale 1, in the shape of as many standard normal draws, of which they may be made.

        The normal draws are made first, so that they are those of a model without heavy tails.
        """
        raise NotImplementedError

    def pull(self, residual: Floats, variance: Floats) -> Floats:
        """Derivative of the log density by what is expected, at residuals of a squared scale."""
        raise NotImplementedError


#: Every distribution by name.
RESIDUALS: Final[Registry[type[Residuals]]] = Registry()


@dataclass(frozen=True)
class Normal(Residuals):
    """Normal residuals."""

    name = "Normal"
    is_normal = True

    @override
    def log_density(self, residual: Any, scale: Any) -> Any:
        import pytensor.tensor as pt

        return -0.5 * (residual / scale) ** 2 - pt.log(scale) - 0.5 * np.log(2 * np.pi)

    @override
    def draw(self, rng: np.random.Generator, normal: Floats) -> Floats:
        return normal

    @override
    def pull(self, residual: Floats, variance: Floats) -> Floats:
        return residual / variance


@dataclass(frozen=True)
class StudentT(Residuals):
    """Residuals by Student's t: outlying runs do not bend a curve.

    Attributes
    ----------
    nu : float, array or tensor
        Degrees of freedom.
    """

    name = "StudentT"
    above: ClassVar = {"nu": 2.0}  # a finite variance

    nu: Any

    @override
    def log_density(self, residual: Any, scale: Any) -> Any:
        import pytensor.tensor as pt

        half = (self.nu + 1) / 2
        constant = pt.gammaln(half) - pt.gammaln(self.nu / 2) - 0.5 * pt.log(np.pi * self.nu)
        return constant - pt.log(scale) - half * pt.log1p((residual / scale) ** 2 / self.nu)

    @override
    def draw(self, rng: np.random.Generator, normal: Floats) -> Floats:
        return np.asarray(normal / np.sqrt(rng.chisquare(self.nu, normal.shape) / self.nu))

    @override
    def pull(self, residual: Floats, variance: Floats) -> Floats:
        # The more a run lies off, the less it counts.
        return np.asarray(residual / (variance + residual**2 / self.nu) * (1 + 1 / self.nu))
