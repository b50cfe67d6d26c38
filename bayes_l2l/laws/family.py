"""Members of the family of scaling laws: what each fixes, the priors it needs, and what a report says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from bayes_l2l.registry import Registry

Floats = npt.NDArray[np.float64]


class LawForm:
    """A member of the family of `scaling`: the general law with some of its exponents fixed.

    A subclass is registered under its `name`, by which model files and point fits know it. What leaves the family (a
    reducible loss that is no power of R) is a structure of its own.

    Attributes
    ----------
    name : str
        As in a model file's key ``law``.
    constraint : str
        What it fixes, in symbols.
    words : str
        What a report calls it.
    free : tuple of str
        Exponents that have a prior, of ``"alpha"``, ``"beta"`` and ``"gamma"``, in the order of the model.
    """

    name: ClassVar[str]
    constraint: ClassVar[str]
    words: ClassVar[str]
    free: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        LAW_FORMS.register(cls.name, cls)

    @classmethod
    def exponents(cls, free: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Exponents alpha, beta and gamma, given those that are free (arrays or PyTensor variables)."""
        raise NotImplementedError

    @classmethod
    def directions(cls) -> Floats:
        """Directions of (log alpha/gamma, log beta/gamma, log gamma) that are left free, shape (3, free).

        Point fits move along them. An exponent is a product of powers of the free ones, so one step in the logarithm
        of each finds them.
        """

        def place(logs: Floats) -> Floats:
            free = dict(zip(cls.free, np.exp(logs), strict=True))
            alpha, beta, gamma = (np.log(np.asarray(v, dtype=float)) for v in cls.exponents(free))
            return np.array([alpha - gamma, beta - gamma, gamma])

        origin = place(np.zeros(len(cls.free)))
        return np.stack([place(step) - origin for step in np.eye(len(cls.free))], axis=1)


#: Every member by name.
LAW_FORMS: Final[Registry[type[LawForm]]] = Registry()


class Kaplan(LawForm):
    """Eq. 4 of arXiv 2411.12925, after Kaplan et al. (arXiv 2001.08361)."""

    name = "kaplan"
    constraint = "gamma = beta"
    words = "Eq. 4 of arXiv 2411.12925 (γ = β)"
    free = ("alpha", "beta")

    @classmethod
    @override
    def exponents(cls, free: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        return free["alpha"], free["beta"], free["beta"]

    @classmethod
    @override
    def directions(cls) -> Floats:
        return np.eye(3)[:, [0, 2]]


class Chinchilla(LawForm):
    """Eq. 1 of arXiv 2411.12925, after Hoffmann et al. (arXiv 2203.15556)."""

    name = "chinchilla"
    constraint = "gamma = 1"
    words = "Chinchilla's (γ = 1)"
    free = ("alpha", "beta")

    @classmethod
    @override
    def exponents(cls, free: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        return free["alpha"], free["beta"], 1.0


class OverTraining(LawForm):
    """The law of arXiv 2403.08540 for runs of many tokens a parameter."""

    name = "overtraining"
    constraint = "gamma = 1, alpha = beta"
    words = "that of arXiv 2403.08540 (γ = 1, α = β)"
    free = ("alpha",)

    @classmethod
    @override
    def exponents(cls, free: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        return free["alpha"], free["alpha"], 1.0


class Generalised(LawForm):
    """The whole family."""

    name = "generalised"
    constraint = "gamma free"
    words = "the generalised one, whose exponent γ is free"
    free = ("alpha", "beta", "gamma")

    @classmethod
    @override
    def exponents(cls, free: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        return free["alpha"], free["beta"], free["gamma"]

    @classmethod
    @override
    def directions(cls) -> Floats:
        return np.eye(3)
