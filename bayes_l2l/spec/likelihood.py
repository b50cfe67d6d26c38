"""Likelihood: one schema for what runs scatter, with the further keys of laws, relations and error rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from bayes_l2l.laws.residuals import RESIDUALS, Residuals
from bayes_l2l.spec.prior import MAY_BE_NEGATIVE, Prior, Quantity, varies_along
from bayes_l2l.spec.reading import known_keys, number, one_of, only_known, refuse

Floats = npt.NDArray[np.float64]

#: A number from 0 to 10, such as an exponent.
Small: TypeAlias = Annotated[float, BeforeValidator(number(0, 10, "a number from 0 to 10"))]
#: A quantity that is one number, or that may vary along cells, or along pairs of cells.
One: TypeAlias = Annotated[Quantity, AfterValidator(lambda prior: varies_along(prior, ()))]
OfCell: TypeAlias = Annotated[Quantity, AfterValidator(lambda prior: varies_along(prior, ("cell",)))]
OfPair: TypeAlias = Annotated[Quantity, AfterValidator(lambda prior: varies_along(prior, ("pair",)))]

_AT_LEAST_0: Final = BeforeValidator(number(0, 100, "a number of at least 0"))


@dataclass(frozen=True, kw_only=True)
class ResidualSpec:
    """Distribution of residuals.

    Parameters
    ----------
    dist : str
        A key of `bayes_l2l.laws.residuals.RESIDUALS`.
    parameters : mapping of str to Prior
        Its parameters, such as ``nu``; in a file they are keys of the likelihood itself.
    """

    dist: Annotated[str, BeforeValidator(one_of(lambda: list(RESIDUALS)))]
    parameters: Mapping[str, One] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _parameters_apart(cls, record: Any) -> Any:
        if not isinstance(record, Mapping) or "parameters" in record:
            return only_known(cls, record)
        if (dist := record.get("dist")) not in (set(RESIDUALS) if isinstance(dist, str) else ()):
            return record
        names = RESIDUALS[str(dist)].parameters()
        keys = [field.name for field in fields(cls) if field.name != "parameters"]
        _belongs(record, {*keys, *names})
        known_keys(record, [*keys, *names])
        if missing := [name for name in names if name not in record]:
            refuse(f"has no {missing[0]!r}, which dist = {dist!r} needs.")
        own = {key: value for key, value in record.items() if key not in names}
        return {**own, "parameters": {name: record[name] for name in names}}

    @model_validator(mode="after")
    def _parameters_possible(self) -> Self:
        for name, least in RESIDUALS[self.dist].above.items():
            value = self.parameters[name].value
            if value is not None and value <= least:
                refuse(f".{name} must be above {least:g}, not {value:g}.")
            not_negative(f".{name}", self.parameters[name])
        return self

    @property
    def residuals(self) -> type[Residuals]:
        """The distribution of the residuals."""
        return RESIDUALS[self.dist]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in the file."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "parameters"}
        return {name: plain(value) for name, value in {**own, **self.parameters}.items() if value is not None}

    def quantities(self) -> dict[str, Prior]:
        """Everything that has a prior, by its key in the file."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in {**own, **self.parameters}.items() if isinstance(value, Prior)}

    def numbers(self) -> dict[str, str]:
        """Everything that is a number or a table of them, in words, by its key in the file."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            n: f"{v}"
            for n, v in own.items()
            if isinstance(v, float | Discrepancy | ResidualCorrelation | DifferenceSpec) and v != 0.0
        }


@dataclass(frozen=True, kw_only=True)
class Likelihood(ResidualSpec):
    """How what is measured scatters about what a model expects.

    Parameters
    ----------
    dist, parameters : see `ResidualSpec`
        As in `ResidualSpec`.
    residual_scale : Prior
        Scale of each residual on its own; of losses, on the log scale.
    """

    residual_scale: Quantity

    @model_validator(mode="after")
    def _scales_possible(self) -> Self:
        for field in fields(self):
            if isinstance(scale := getattr(self, field.name), Prior):
                not_negative(f".{field.name}", scale)
        return self


def _above_zero(scale: Prior) -> Prior:
    """Refuse a scale of 0, which no loss can be at."""
    if scale.value == 0:
        refuse("must be above 0.")
    return scale


def not_negative(name: str, scale: Prior) -> None:
    """Refuse a scale that is negative or may be."""
    if scale.value is not None and scale.value < 0:
        refuse(f"{name} must not be negative, and is {scale.value:g}.")
    if scale.range[0] < 0:
        refuse(f"{name} {MAY_BE_NEGATIVE}")


def plain(value: Any) -> Any:
    """A value of a spec in plain types."""
    return value.to_dict() if hasattr(value, "to_dict") else value


def _belongs(record: Mapping[str, Any], known: set[str]) -> None:
    """Refuse a parameter of another distribution by saying whose it is."""
    for name, distribution in RESIDUALS.items():
        for parameter in distribution.parameters():
            if parameter in record and parameter not in known:
                refuse(f".{parameter} belongs to dist = {name!r}.")


@dataclass(frozen=True)
class _Numbers:
    """A table of the model file whose values are numbers."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, record: Any) -> Any:
        return only_known(cls, record)

    def to_dict(self) -> dict[str, float]:
        """Plain types, as in the file."""
        return dict(vars(self))

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value:g}" for name, value in vars(self).items())


@dataclass(frozen=True)
class Discrepancy(_Numbers):
    """How far small runs may lie from the law, together.

    Log R deviates by a normal effect of standard deviation ``at_largest (C / largest C)^-rate``, at most ``cap``.

    Parameters
    ----------
    at_largest, rate, cap : float
        At the largest fitted compute; exponent; limit for small runs.
    mean : float
        Of the effect, in standard deviations. Below 0 small runs reach less loss than the law of larger ones says.
    """

    at_largest: Annotated[float, _AT_LEAST_0]
    rate: Annotated[float, _AT_LEAST_0]
    cap: Annotated[float, _AT_LEAST_0]
    mean: Annotated[float, BeforeValidator(number(-10, 10, "a number from -10 to 10"))] = 0.0


@dataclass(frozen=True)
class ResidualCorrelation(_Numbers):
    """What residuals of one cell have in common at near sizes, for plans of runs; a fit takes them as independent.

    Parameters
    ----------
    part : float
        Part of their variance that runs of equal size would have in common, from 0 to 1.
    length : float
        How near in (log N, log D): the scale of the squared exponential.
    """

    part: Annotated[float, BeforeValidator(number(0, 1, "a number from 0 to 1"))]
    length: Annotated[float, BeforeValidator(number(1e-3, 100, "a number from 0.001 to 100"))]

    def of(self, squared_distance: Floats) -> Floats:
        """Correlation matrix of residuals at squared distances in (log N, log D), shape (run, run)."""
        apart = np.eye(len(squared_distance))
        return (1 - self.part) * apart + self.part * np.exp(-squared_distance / (2 * self.length**2))


@dataclass(frozen=True)
class DifferenceSpec(_Numbers):
    """How the losses of training sets on one evaluation differ among the largest runs and beyond.

    Parameters
    ----------
    change : float
        Standard deviation of what a difference of log loss changes by for every factor e of compute.
    weight_exponent : float
        A run counts (C / largest C)^weight_exponent for the differences.
    counts : float
        What a run of the largest compute counts, from 0 to 1: runs of near sizes deviate together.
    """

    change: Annotated[float, BeforeValidator(number(1e-6, 10, "a number from 0.000001 to 10"))]
    weight_exponent: Small
    counts: Annotated[float, BeforeValidator(number(1e-3, 1, "a number from 0.001 to 1"))] = 1.0


@dataclass(frozen=True, kw_only=True)
class LawLikelihood(Likelihood):
    """Of losses about their scaling laws.

    Parameters
    ----------
    dist, parameters, residual_scale : see `Likelihood`
        As in `Likelihood`; the scale is of log loss, of each cell on its own.
    size_effect_scale : Prior
        Standard deviation of the effect on log R that all runs of equal (N, D) share; 0 for none.
    weight_exponent : float
        A run's log-likelihood has the weight (C / largest C)^weight_exponent: the law is asked to hold where it will
        be used. 0 gives every run the same weight.
    discrepancy : Discrepancy, optional
        How far small runs may lie from the law, together. Small runs tell little about large ones, and this is how
        much.
    extrapolation_discrepancy : float
        How far the loss of an evaluation may depart from its law beyond the runs, on all training sets together:
        standard deviation of log loss, over the cell's residual scale, for every factor e of compute beyond the
        largest that the evaluation was fitted on. 0 for none.
    residual_correlation : ResidualCorrelation, optional
        What residuals of near sizes have in common, for plans of runs; independent by default.
    differences : DifferenceSpec, optional
        How training sets differ on one evaluation; as their laws say by default.
    """

    residual_scale: Annotated[OfCell, AfterValidator(_above_zero)]
    size_effect_scale: One
    weight_exponent: Small = 0.0
    discrepancy: Discrepancy | None = None
    extrapolation_discrepancy: Small = 0.0
    residual_correlation: ResidualCorrelation | None = None
    differences: DifferenceSpec | None = None

    @model_validator(mode="after")
    def _integrable(self) -> Self:
        shares = self.size_effect_scale.value != 0 or self.discrepancy is not None
        if shares and not self.residuals.is_normal:
            refuse(
                f".dist = {self.dist!r} needs size_effect_scale = 0 and no discrepancy: an effect that runs share is "
                "integrated out of Normal residuals alone."
            )
        return self


@dataclass(frozen=True, kw_only=True)
class RelationLikelihood(Likelihood):
    """Of losses about their relation to other losses.

    Parameters
    ----------
    dist, parameters, residual_scale : see `Likelihood`
        As in `Likelihood`; the scale is of either log loss of a pair.
    weight_exponent : float
        As in `LawLikelihood`; the largest C is that of the pair.
    """

    residual_scale: Annotated[OfPair, AfterValidator(_above_zero)]
    weight_exponent: Small = 0.0
