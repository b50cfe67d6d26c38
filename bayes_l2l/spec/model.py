"""ModelSpec: one probabilistic model as its file says; every structure has its own, with the keys that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, model_validator
from pydantic.dataclasses import dataclass

from bayes_l2l.spec.likelihood import Likelihood, OfCell, OfPair, plain
from bayes_l2l.spec.prior import MAY_BE_NEGATIVE, Prior, Quantity
from bayes_l2l.spec.reading import known_keys, only_known, refuse


def possible(priors: Mapping[str, Prior]) -> Mapping[str, Prior]:
    """Refuse values that have no meaning in a law, whether fixed or such as a prior allows.

    The fraction of E may be below 0 where a prior says so by its transform, "below_one": of an asymptote.
    """
    for name, prior in priors.items():
        value, is_fraction = prior.value, name in ("E_fraction", "share")
        if value is not None and (not (value > 0 or (name == "c" and value == 0)) or (is_fraction and value >= 1)):
            refuse(f".{name} must be {'between 0 and 1' if is_fraction else 'positive'}, not {value:g}.")
        low, high = prior.range
        asymptote = name == "E_fraction" and prior.transform == "below_one"
        if is_fraction and (high > 1 or (low < 0 and not asymptote)):
            refuse(
                f".{name} is a fraction and may leave the interval from 0 to 1: give it transform = 'sigmoid', or a "
                "distribution that stays there, such as Beta."
            )
        if not is_fraction and low < 0:
            refuse(f".{name} {MAY_BE_NEGATIVE}")
    return priors


#: Priors of quantities that may vary along any dimension, along cells, or along pairs of cells.
Priors: TypeAlias = Annotated[Mapping[str, Quantity], AfterValidator(possible)]
CellPriors: TypeAlias = Annotated[Mapping[str, OfCell], AfterValidator(possible)]
PairPriors: TypeAlias = Annotated[Mapping[str, OfPair], AfterValidator(possible)]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What every model file says; made by `bayes_l2l.load_spec`.

    Parameters
    ----------
    name, title, equation, source : str
        What it is called, what it is, its equation in text and where that comes from.
    structure : str
        What hangs together how: the module of `bayes_l2l.structures` that owns the model.
    priors : mapping of str to Prior
        Of the quantities of the model.
    likelihood : Likelihood
        How runs scatter about what the model expects.
    """

    name: str
    title: str = ""
    equation: str = ""
    source: str = ""
    structure: str
    priors: Priors
    likelihood: Likelihood

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, record: Any) -> Any:
        if not isinstance(record, Mapping):
            return only_known(cls, record)
        only_known(cls, record)
        if "priors" in record and (names := cls.prior_names(record)) is not None:
            needed, optional, why = names
            known_keys(record["priors"], [*needed, *optional], at=f".priors ({why})")
            if missing := [name for name in needed if name not in record["priors"]]:
                refuse(f".priors has no {missing[0]!r}, which {why} needs.")
        return record

    @classmethod
    def prior_names(cls, record: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str] | None:
        """Quantities that need a prior, those that may have one, and what in the record decides so.

        None where what decides is itself wrong, which is then said of it.
        """
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in the file; `bayes_l2l.load_spec` reads them back."""
        record: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Mapping):
                value = {name: plain(one) for name, one in value.items()}
            if value is not None:
                record[field.name] = plain(value)
        return record

    def quantities(self) -> dict[str, Mapping[str, Prior]]:
        """Everything that has a prior, by the part of the model that it belongs to."""
        return {"law": self.priors, "likelihood": self.likelihood.quantities()}
