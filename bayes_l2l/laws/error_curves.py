"""Downstream error as a function of loss: each closed form with the priors it needs.

An error rate stays at a ceiling, near chance, until the loss is low enough, and falls from there. With u the progress
beyond the loss x0 amid the runs::

    exponential   err = eps - k exp(-g L) = ceiling (1 - exp(u)),     u = level + slope (x0 - L)
    richards      err = ceiling (1 + s exp(u))^(-1/s)
    power         err = softmin(K (L - E)^kappa + M, ceiling),        K (L - E)^kappa = (ceiling - M) exp(-u),
                                                                      u = level + kappa log((x0 - E) / (L - E))

The first is Eq. 5 of arXiv 2403.08540; the last Eq. 10 and 11 of arXiv 2411.12925. The second, Richards' growth
curve, is the first as long as the error is near its ceiling, and its shape s says how the fall goes on: as Gompertz'
curve (s near 0), as a logistic curve (1), or levelling off early (above); it never passes 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Self

from typing_extensions import override

from bayes_l2l.laws.arrays import logaddexp, namespace
from bayes_l2l.registry import Registry

#: Least distance of a loss from E, as a part of that of the reference: below, the error is at its floor.
_NEAREST: Final = 1e-6


@dataclass(frozen=True)
class ErrorCurve:
    """Error rate of a task as a function of a loss (scalars, or arrays that broadcast: NumPy or PyTensor).

    A subclass is a frozen dataclass, whose fields beyond these are parameters of its own; it is registered under its
    `name`, by which model files know it.

    Attributes
    ----------
    reference : float or array
        The loss x0 that the curve is parameterised at (nats/token).
    ceiling : float or array
        Error where nothing is learned, in (0, 1].
    level : float or array
        Progress u at the reference; larger is better.
    slope : float or array
        Of the progress, a nat of loss below the reference; of "power" in its logarithm.
    """

    name: ClassVar[str]
    #: Quantities that a model file has priors for, all along cells (task, training set).
    priors: ClassVar[tuple[str, ...]]
    #: Whether `from_priors` asks for the smallest loss: a model has no data that it does not use.
    uses_smallest: ClassVar[bool] = False

    reference: Any
    ceiling: Any
    level: Any
    slope: Any

    def __init_subclass__(cls) -> None:
        ERROR_CURVES.register(cls.name, cls)

    def __call__(self, loss: Any) -> Any:
        """Error rate at a loss (nats/token), at most the ceiling."""
        raise NotImplementedError

    @classmethod
    def from_priors(cls, drawn: Mapping[str, Any], *, reference: Any, ceiling: Any, smallest: Any = None) -> Self:
        """Curve of the quantities of `priors` as they are drawn.

        Parameters
        ----------
        drawn : mapping of str to tensor
            The other quantities of `priors`; ``"ceiling"`` has become the argument.
        reference, ceiling : tensor, shape (cell,)
            The reference loss and the ceiling.
        smallest : tensor, shape (cell,), optional
            Smallest loss among the runs, if the curve uses it.
        """
        raise NotImplementedError

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names of what a posterior holds of a curve: its fields but for the reference."""
        return tuple(field.name for field in fields(cls) if field.name != "reference")


#: Every error curve by name.
ERROR_CURVES: Final[Registry[type[ErrorCurve]]] = Registry()


@dataclass(frozen=True)
class Exponential(ErrorCurve):
    """Eq. 5 of arXiv 2403.08540; it has no lower bound."""

    name = "exponential"
    priors = ("ceiling", "level", "rate")

    @override
    def __call__(self, loss: Any) -> Any:
        u = self.level + self.slope * (self.reference - loss)
        return self.ceiling * (1 - namespace(u).exp(u))

    @classmethod
    @override
    def from_priors(cls, drawn: Mapping[str, Any], *, reference: Any, ceiling: Any, smallest: Any = None) -> Self:
        return cls(reference, ceiling, drawn["level"], drawn["rate"])


@dataclass(frozen=True)
class Richards(ErrorCurve):
    """Richards' growth curve (1959), read downwards.

    Attributes
    ----------
    shape : float or array
        s, above 0; the larger, the sooner it levels off.
    """

    name = "richards"
    priors = ("ceiling", "level", "rate", "shape")

    shape: Any = 1.0

    @override
    def __call__(self, loss: Any) -> Any:
        lib = namespace(loss, self.level, self.slope, self.ceiling)
        u = self.level + self.slope * (self.reference - loss)
        return self.ceiling * lib.exp(-logaddexp(0.0, u + lib.log(self.shape)) / self.shape)

    @classmethod
    @override
    def from_priors(cls, drawn: Mapping[str, Any], *, reference: Any, ceiling: Any, smallest: Any = None) -> Self:
        # Runs know log(-log(err / ceiling)) and its slope at the reference, whatever the shape: the priors are on
        # these, which decides how NUTS goes.
        shape = drawn["shape"]
        lib = namespace(shape)
        fallen = shape * lib.exp(drawn["level"])  # log(1 + s exp(u))
        level = fallen + lib.log(-lib.expm1(-fallen)) - lib.log(shape)
        return cls(reference, ceiling, level, drawn["rate"] * fallen / -lib.expm1(-fallen), shape)


@dataclass(frozen=True)
class Power(ErrorCurve):
    """Eq. 10 and 11 of arXiv 2411.12925, with a soft minimum at the ceiling.

    Attributes
    ----------
    floor : float or array
        The error that is left in the end (M).
    E : float or array
        Irreducible entropy of the loss (nats/token), where the error is M.
    sharpness : float or array
        How sharply it leaves the ceiling: the soft minimum is -log(exp(-s a) + exp(-s ceiling)) / s.
    """

    name = "power"
    priors = ("ceiling", "level", "kappa", "floor", "E_fraction", "sharpness")
    uses_smallest = True

    floor: Any = 0.0
    E: Any = 0.0
    sharpness: Any = 1.0

    @override
    def __call__(self, loss: Any) -> Any:
        lib = namespace(loss, self.level, self.slope, self.ceiling)
        left = lib.maximum((loss - self.E) / (self.reference - self.E), _NEAREST)
        error = self.floor + (self.ceiling - self.floor) * lib.exp(-self.level + self.slope * lib.log(left))
        return -logaddexp(-self.sharpness * error, -self.sharpness * self.ceiling) / self.sharpness

    @classmethod
    @override
    def from_priors(cls, drawn: Mapping[str, Any], *, reference: Any, ceiling: Any, smallest: Any = None) -> Self:
        return cls(
            reference,
            ceiling,
            drawn["level"],
            drawn["kappa"],
            floor=ceiling * drawn["floor"],
            E=smallest * drawn["E_fraction"],
            sharpness=drawn["sharpness"],
        )
