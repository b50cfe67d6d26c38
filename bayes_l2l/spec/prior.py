"""Prior: one prior distribution, in the schema of pymc-extras' ``Prior``.

A prior is a table ``dist``, ``kwargs`` (numbers, or priors of their own: a hierarchy), ``dims``, ``centered`` and
``transform``; a bare number fixes the quantity.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf
from typing import Annotated, Any, Final, TypeAlias, Union

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic.dataclasses import dataclass

from bayes_l2l.errors import did_you_mean
from bayes_l2l.spec.reading import Tagged, is_finite, known_keys, only_known, read, refuse, shown

#: Distributions that a prior may name, with their arguments.
DISTRIBUTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Normal": ("mu", "sigma"),
    "StudentT": ("nu", "mu", "sigma"),
    "LogNormal": ("mu", "sigma"),
    "HalfNormal": ("sigma",),
    "HalfStudentT": ("nu", "sigma"),
    "Exponential": ("lam",),
    "Gamma": ("alpha", "beta"),
    "InverseGamma": ("alpha", "beta"),
    "Beta": ("alpha", "beta"),
    "TruncatedNormal": ("mu", "sigma", "lower", "upper"),
    "Uniform": ("lower", "upper"),
}
#: A number in a prior's place.
FIXED: Final = "Fixed"
#: What a prior's value may be passed through; the transform keeps a quantity inside its bounds.
TRANSFORMS: Final = ("exp", "sigmoid", "below_one")
#: Dimensions along which a prior may vary: cells, or one of the two names of a cell (crossed effects); ordered pairs
#: of cells, or one of the names of the target, or the training set of the source;
#: domains that training sets are mixed of.
DIMS: Final = ("cell", "pair", "train_set", "eval_set", "source_set", "domain")

#: Values that distributions can have, but for those that say so themselves by ``lower`` and ``upper``.
_POSITIVE_VALUES: Final = ("LogNormal", "HalfNormal", "HalfStudentT", "Exponential", "Gamma", "InverseGamma")

_POSITIVE: Final = ("sigma", "nu", "lam", "alpha", "beta")


def _dist(value: Any) -> Any:
    if not isinstance(value, str) or value not in (*DISTRIBUTIONS, FIXED):
        refuse(
            f"is {value!r}, no known distribution ({', '.join(DISTRIBUTIONS)}){did_you_mean(value, DISTRIBUTIONS)}"
        )
    return value


def _dims(value: Any) -> tuple[str, ...]:
    dims = tuple(value) if isinstance(value, list | tuple) else (value,)
    if unknown := [d for d in dims if d not in DIMS]:
        refuse(f"names {unknown[0]!r}; a prior may vary along {', '.join(DIMS)}.")
    return dims


def _centered(value: Any) -> bool:
    if not isinstance(value, bool):
        refuse(f"must be true or false, not {value!r}.")
    return value


def _transform(value: Any) -> Any:
    if value is not None and value not in TRANSFORMS:
        refuse(f"is {value!r}; known are {', '.join(TRANSFORMS)}.")
    return value


def _number(value: Any) -> float:
    if not is_finite(value):
        refuse(f"must be a finite number, not {shown(value)}.")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind_of_argument(value: Any) -> Tagged:
    if _is_number(value):
        return Tagged.NUMBER
    return Tagged.SUM if isinstance(value, list | tuple) else Tagged.PRIOR


def _has_no_dims(prior: Prior) -> Prior:
    if prior.dims:
        refuse(": a hyper-prior has no dims; effects along dims are written as a list of priors.")
    return prior


def _is_sum(terms: tuple[Prior, ...]) -> tuple[Prior, ...]:
    along = [term.dims for term in terms]
    if not terms or len(set(along)) < len(along) or {("cell",), ("pair",)} & set(along):
        refuse("must be a list of priors with different dims: none, train_set, eval_set, each at most once.")
    return terms


#: A number, a hyper-prior, or a sum of effects.
Argument: TypeAlias = Annotated[
    Union[  # noqa: UP007 - its members are no classes
        Annotated[float, BeforeValidator(_number), Tag(Tagged.NUMBER)],
        Annotated["Prior", AfterValidator(_has_no_dims), Tag(Tagged.PRIOR)],
        Annotated[tuple["Prior", ...], AfterValidator(_is_sum), Tag(Tagged.SUM)],
    ],
    Discriminator(_kind_of_argument),
]


@dataclass(frozen=True)
class Prior:
    """One prior distribution.

    Parameters
    ----------
    dist : str
        A key of `DISTRIBUTIONS`, or "Fixed" for a number.
    kwargs : mapping
        Its arguments: numbers, priors (the hyper-priors of a hierarchy), or a tuple of priors whose sum is meant
        (crossed effects of training sets and evaluations). For "Fixed": ``value``.
    dims : tuple of str
        Dimensions along which it varies.
    centered : bool
        Whether the sampler sees the values themselves (True) or their standardised offsets (False).
    transform : {None, "exp", "sigmoid", "below_one"}
        Function that the drawn value x is passed through; "below_one" is 1 - exp(-x).
    """

    dist: Annotated[str, BeforeValidator(_dist)]
    kwargs: Mapping[str, Argument] = Field(default_factory=dict)
    dims: Annotated[tuple[str, ...], BeforeValidator(_dims)] = ()
    centered: Annotated[bool, BeforeValidator(_centered)] = True
    transform: Annotated[str | None, BeforeValidator(_transform)] = None

    @model_validator(mode="before")
    @classmethod
    def _is_table(cls, record: Any) -> Any:
        if not isinstance(record, Mapping):
            return only_known(cls, record, table="a number or a table with `dist` and `kwargs`")
        only_known(cls, record)
        dist, kwargs = record.get("dist", ""), record.get("kwargs", {})
        if isinstance(dist, str) and dist in DISTRIBUTIONS:
            _check_arguments(dist, kwargs)
        return {**record, "dist": dist, "kwargs": kwargs}

    @model_validator(mode="after")
    def _is_possible(self) -> Prior:
        for name, value in self.kwargs.items():
            if name in _POSITIVE and isinstance(value, float) and value <= 0:
                refuse(f".kwargs.{name} must be positive, not {value:g}.")
            if name in _POSITIVE and _range(value)[0] < 0:
                refuse(f".kwargs.{name} {MAY_BE_NEGATIVE}")
        if {"lower", "upper"} <= set(self.kwargs):
            lower, upper = _range(self.kwargs["lower"]), _range(self.kwargs["upper"])
            if not lower[1] < upper[0]:
                refuse(
                    f".kwargs.lower must be below upper: from {_words(self.kwargs['lower'])} to "
                    f"{_words(self.kwargs['upper'])} there is nothing."
                )
        if not self.centered and self.dist != "Normal":
            refuse(f".centered = false is for Normal, not for {self.dist}.")
        return self

    @classmethod
    def fixed(cls, value: float) -> Prior:
        """A quantity that is held at a number."""
        return cls(FIXED, {"value": float(value)})

    @classmethod
    def from_dict(cls, record: Any, *, where: str) -> Prior:
        """Read a prior, saying where in the file it stands if it is refused."""
        return read(Quantity, record, where=where)

    @property
    def value(self) -> float | None:
        """The number of a fixed quantity; None of a distribution."""
        return float(self.kwargs["value"]) if self.dist == FIXED else None  # type: ignore[arg-type]

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest value that it can have, after its transform."""
        if self.value is not None:
            return self.value, self.value
        if "lower" in self.kwargs:
            low, high = _range(self.kwargs["lower"])[0], _range(self.kwargs["upper"])[1]
        else:
            low = 0.0 if self.dist in _POSITIVE_VALUES or self.dist == "Beta" else -inf
            high = 1.0 if self.dist == "Beta" else inf
        return _transformed(self.transform, low), _transformed(self.transform, high)

    @property
    def terms(self) -> list[Prior]:
        """Effects that an argument is the sum of."""
        return [term for value in self.kwargs.values() if isinstance(value, tuple) for term in value]

    def to_dict(self) -> float | dict[str, Any]:
        """Plain types, as in the file."""
        if self.value is not None:
            return self.value
        record: dict[str, Any] = {"dist": self.dist, "kwargs": {n: _plain(v) for n, v in self.kwargs.items()}}
        if self.dims:
            record["dims"] = list(self.dims)
        if not self.centered:
            record["centered"] = False
        if self.transform:
            record["transform"] = self.transform
        return record

    def __str__(self) -> str:
        if self.value is not None:
            return f"{self.value:g}"
        inside = ", ".join(f"{name} = {_words(value)}" for name, value in self.kwargs.items())
        along = f" along {', '.join(self.dims)}" if self.dims else ""
        text = f"{self.dist}({inside}){along}"
        return f"{self.transform} of {text}" if self.transform else text


#: What is said of a quantity that must be positive and need not be.
MAY_BE_NEGATIVE: Final = (
    "may be negative: give it transform = 'exp', or a distribution of positive numbers (LogNormal)."
)


def _range(value: float | Prior | tuple[Prior, ...]) -> tuple[float, float]:
    """Least and largest value of an argument; of a sum of effects, the sums of theirs."""
    if isinstance(value, tuple):
        lows, highs = zip(*(term.range for term in value), strict=True)
        return sum(lows), sum(highs)
    return value.range if isinstance(value, Prior) else (value, value)


def _transformed(transform: str | None, value: float) -> float:
    """An end of a range after a transform, all of which rise."""
    if transform is None:
        return value
    if transform == "sigmoid":
        return 1 / (1 + _exp(-value))
    return _exp(value) if transform == "exp" else 1 - _exp(-value)


def _exp(value: float) -> float:
    return exp(value) if value < 700 else inf


def _quantity(value: Any) -> Any:
    return Prior.fixed(_number(value)) if _is_number(value) else value


#: A quantity of a model: a prior, or a number at which it is held.
Quantity: TypeAlias = Annotated[Prior, BeforeValidator(_quantity)]


def _check_arguments(dist: str, kwargs: Any) -> None:
    """Refuse arguments that the distribution does not have, or lacks."""
    if not isinstance(kwargs, Mapping):
        refuse(f".kwargs must be a table of {dist}'s arguments, not {kwargs!r}.")
    known_keys(kwargs, DISTRIBUTIONS[dist], at=".kwargs")
    if missing := [name for name in DISTRIBUTIONS[dist] if name not in kwargs]:
        refuse(f".kwargs has no {missing[0]!r}, which {dist} needs.")


def _plain(value: float | Prior | tuple[Prior, ...]) -> Any:
    if isinstance(value, tuple):
        return [term.to_dict() for term in value]
    return value.to_dict() if isinstance(value, Prior) else value


def _words(value: float | Prior | tuple[Prior, ...]) -> str:
    if isinstance(value, tuple):
        return " + ".join(map(str, value))
    return str(value) if isinstance(value, Prior) else f"{value:g}"


def varies_along(prior: Prior, dims: tuple[str, ...]) -> Prior:
    """Refuse a quantity that varies along anything but `dims`, or, where these are none, at all."""
    if prior.dims not in ((), dims):
        may = f"may be {', '.join(dims)} or nothing" if dims else "must be left out: it is one number"
        refuse(f".dims {may}; it is {', '.join(prior.dims)}.")
    if dims != ("pair",) and any(term.dims == ("source_set",) for term in prior.terms):
        refuse("has an effect along source_set, which only structure = 'pairwise' has.")
    return prior
