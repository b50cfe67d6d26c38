"""Separate laws: every cell has a law of its own; the laws resemble each other by their priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass as validated
from typing_extensions import override

from bayes_l2l.laws.family import LAW_FORMS, LawForm
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.structures.arrays import LossArrays
from bayes_l2l.structures.laws import LawSpec, LawStructure, Place, build_laws
from bayes_l2l.structures.protocol import Module


@validated(frozen=True, kw_only=True)
class SeparateSpec(LawSpec):
    """A model of laws that are tied by their priors alone; its fields are those of `LawSpec`."""

    @override
    @classmethod
    def prior_names(cls, record: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
        law = record.get("law")
        if not isinstance(law, str) or law not in LAW_FORMS:
            return None
        return ("E_fraction", "excess", "share", *LAW_FORMS[law].free), ("c",), f"law = {law!r}"


class Separate(LawStructure[SeparateSpec]):
    """Every cell has a law of its own."""

    name = "separate"
    words = "every cell has a law of its own; the laws resemble each other by their priors"
    spec = SeparateSpec

    @override
    def modules(self, spec: SeparateSpec, arrays: LossArrays) -> tuple[Module[LossArrays], ...]:
        exponents = partial(_exponents, LAW_FORMS[spec.law])
        build = partial(build_laws, spec, arrays, exponents)
        return (Module(build, lambda runs, _: runs.arrays(), reported=self.variables),)

    @override
    def is_anchor(self, posterior: Posterior) -> npt.NDArray[np.bool_]:
        return np.ones(len(posterior.cells), dtype=bool)


def _exponents(form: type[LawForm], value: Callable[..., Any], place: Place) -> tuple[Any, Any, Any]:
    """Exponents of R, and of the loss in it, of every cell."""
    import pytensor.tensor as pt

    # The data know the slopes of log loss in log N and log D at the reference, alpha share (L - E)/L and its
    # like; they know alpha itself only given E. Centred exponents are therefore sampled as these slopes.
    known = {
        "alpha": place.log_slope + pt.log(place.share),
        "beta": place.log_slope + pt.log1p(-place.share),
        "gamma": None,
    }
    alpha, beta, gamma = form.exponents({name: value(name, known[name]) for name in form.free})
    return alpha / gamma, beta / gamma, gamma
