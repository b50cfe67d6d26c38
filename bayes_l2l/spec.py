"""Model files: what a model believes, read from TOML and checked by name.

A model file (`models/*.toml`) names a member of the law family, every prior and the likelihood. A prior is a
table in the schema of pymc-extras' ``Prior``: ``dist``, ``kwargs`` (numbers, or priors of their own: a
hierarchy), ``dims``, ``centered`` and ``transform``; a bare number fixes the quantity.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final, TypeVar

from bayes_l2l.errors import SpecError, did_you_mean
from bayes_l2l.laws import MEMBERS

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
#: What a prior's value may be passed through; the transform keeps a quantity inside its bounds.
TRANSFORMS: Final = ("exp", "sigmoid", "below_one")
#: Dimensions along which a prior may vary: cells, or one of the two names of a cell (crossed effects); ordered pairs
#: of cells, or one of the names of the target, or the training set of the source.
DIMS: Final = ("cell", "pair", "train_set", "eval_set", "source_set")
#: How the laws of several cells hang together.
STRUCTURES: Final = {
    "separate": "every cell has a law of its own; the laws resemble each other by their priors",
    "joint": "every cell is a shifted power law of one progress R, which depends on (N, D) alone",
    "pairs": "one cell is a shifted power law of another; the relations resemble each other by their priors",
}
#: Which ordered pairs of cells a model of structure "pairs" relates (i evaluation; j, l training sets).
RELATIONS: Final = {
    "train_to_train": "target j|j from source l|l",
    "train_to_test": "target i|j from source j|j",
    "test_to_test": "target i|j from source i|l",
}

#: Models of errors (`bayes_l2l.error_rate`) are told from models of losses by the beginning of their name.
ERROR_PREFIX: Final = "error_"

Spec = TypeVar("Spec")

_POSITIVE: Final = ("sigma", "nu", "lam", "alpha", "beta")
_PRIOR_KEYS: Final = ("dist", "kwargs", "dims", "centered", "transform")
_TOP_KEYS: Final = ("name", "title", "equation", "source", "law", "structure", "priors", "likelihood")
_READING_KEYS: Final = ("E_fraction", "excess", "gamma", "nu")
_PAIR_KEYS: Final = ("relation", "bootstrap", "law_error")
_LIKELIHOOD_KEYS: Final = ("dist", "fade", "scatter", "deviation", "discrepancy", "drift")
_PAIR_LIKELIHOOD_KEYS: Final = ("dist", "fade", "scatter", "nu")
_DISCREPANCY_KEYS: Final = ("at_largest", "rate", "cap")
_LAW_PRIORS: Final = ("E_fraction", "excess", "share", "alpha", "beta", "gamma")
_JOINT_PRIORS: Final = ("E_fraction", "excess", "share", "alpha_over_gamma", "beta_over_gamma", "gamma")
_PAIR_PRIORS: Final = ("E_fraction", "scale", "kappa")
_FIXED_BY: Final = {"kaplan": ("gamma",), "chinchilla": ("gamma",), "overtraining": ("gamma", "beta")}


@dataclass(frozen=True)
class Prior:
    """One prior distribution.

    Parameters
    ----------
    dist : str
        A key of `DISTRIBUTIONS`, or "Fixed" for a number.
    kwargs : mapping
        Its arguments: numbers, priors (the hyper-priors of a hierarchy), or a list of priors whose sum is meant
        (crossed effects of training sets and evaluations). For "Fixed": ``value``.
    dims : tuple of str
        Dimensions along which it varies.
    centered : bool
        Whether the sampler sees the values themselves (True) or their standardised offsets (False).
    transform : {None, "exp", "sigmoid", "below_one"}
        Function that the drawn value x is passed through; "below_one" is 1 - exp(-x).
    """

    dist: str
    kwargs: Mapping[str, float | Prior | tuple[Prior, ...]] = field(default_factory=dict)
    dims: tuple[str, ...] = ()
    centered: bool = True
    transform: str | None = None

    @classmethod
    def from_dict(cls, record: Any, *, where: str) -> Prior:
        """Read a prior, saying where in the file it stands if it is refused."""
        if isinstance(record, int | float) and not isinstance(record, bool):
            if not isfinite(record):
                raise SpecError(f"{where} must be a finite number, not {record!r}.")
            return cls("Fixed", {"value": float(record)})
        if not isinstance(record, Mapping):
            raise SpecError(f"{where} must be a number or a table with `dist` and `kwargs`, not {record!r}.")
        _only(record, _PRIOR_KEYS, where)
        dist = str(record.get("dist", ""))
        if dist not in DISTRIBUTIONS:
            raise SpecError(
                f"{where}.dist is {dist!r}, no known distribution ({', '.join(DISTRIBUTIONS)})"
                f"{did_you_mean(dist, DISTRIBUTIONS)}"
            )
        kwargs = record.get("kwargs", {})
        if not isinstance(kwargs, Mapping):
            raise SpecError(f"{where}.kwargs must be a table of {dist}'s arguments, not {kwargs!r}.")
        _only(kwargs, DISTRIBUTIONS[dist], f"{where}.kwargs")
        if missing := [name for name in DISTRIBUTIONS[dist] if name not in kwargs]:
            raise SpecError(f"{where}.kwargs has no {missing[0]!r}, which {dist} needs.")
        arguments = {name: _argument(value, f"{where}.kwargs.{name}") for name, value in kwargs.items()}
        for name, value in arguments.items():
            if name in _POSITIVE and isinstance(value, float) and value <= 0:
                raise SpecError(f"{where}.kwargs.{name} must be positive, not {value:g}.")
        dims = record.get("dims", ())
        dims = tuple(dims) if isinstance(dims, list | tuple) else (dims,)
        if unknown := [d for d in dims if d not in DIMS]:
            raise SpecError(f"{where}.dims names {unknown[0]!r}; a prior may vary along {', '.join(DIMS)}.")
        centered, transform = record.get("centered", True), record.get("transform")
        if not isinstance(centered, bool):
            raise SpecError(f"{where}.centered must be true or false, not {centered!r}.")
        if not centered and dist != "Normal":
            raise SpecError(f"{where}.centered = false is for Normal, not for {dist}.")
        if transform is not None and transform not in TRANSFORMS:
            raise SpecError(f"{where}.transform is {transform!r}; known are {', '.join(TRANSFORMS)}.")
        return cls(dist, arguments, dims, centered, transform)

    def to_dict(self) -> float | dict[str, Any]:
        """Plain types, as in the file."""
        if self.dist == "Fixed":
            return float(self.kwargs["value"])  # type: ignore[arg-type]
        arguments = {name: _plain(value) for name, value in self.kwargs.items()}
        record: dict[str, Any] = {"dist": self.dist, "kwargs": arguments}
        if self.dims:
            record["dims"] = list(self.dims)
        if not self.centered:
            record["centered"] = False
        if self.transform:
            record["transform"] = self.transform
        return record


@dataclass(frozen=True)
class Likelihood:
    """How a loss scatters about its law, or about its relation to another loss, on the log scale.

    Parameters
    ----------
    dist : {"Normal", "StudentT"}
        Distribution of every part; "StudentT" is for structure "pairs".
    scatter : Prior
        Standard deviation (scale of "StudentT") of the log loss of each cell on its own; in structure "pairs", of
        either loss of a pair.
    deviation : Prior
        Standard deviation of the deviation of log R that all runs of equal (N, D) share; 0 for none. Always 0
        in structure "pairs": what two losses share moves them along their relation.
    fade : float
        A run's log-likelihood counts (C / largest C)^fade: the law is asked to hold where it will be used.
        0 gives every run the same weight. In structure "pairs" the largest C is that of the pair.
    discrepancy : mapping
        How far small runs may lie from the law, together: the shared deviation has the additional standard
        deviation ``at_largest (C / largest C)^-rate``, at most ``cap``. Small runs tell little about large
        ones, and this is how much. Empty for none.
    drift : float
        How far the loss of an evaluation may drift off its law beyond the runs, on all training sets together:
        standard deviation of log loss, over the cell's scatter, for every factor e of compute beyond the largest
        that the evaluation was fitted on. 0 for none.
    nu : Prior, optional
        Degrees of freedom of "StudentT".
    """

    dist: str
    scatter: Prior
    deviation: Prior
    fade: float = 0.0
    discrepancy: Mapping[str, float] = field(default_factory=dict)
    drift: float = 0.0
    nu: Prior | None = None

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], *, structure: str = "separate") -> Likelihood:
        """Read the likelihood's table."""
        pairs = structure == "pairs"
        _only(record, _PAIR_LIKELIHOOD_KEYS if pairs else _LIKELIHOOD_KEYS, "likelihood")
        for key in ("dist", "scatter") if pairs else ("dist", "scatter", "deviation"):
            if key not in record:
                raise SpecError(f"likelihood has no {key!r}.")
        known = ("Normal", "StudentT") if pairs else ("Normal",)
        if record["dist"] not in known:
            raise SpecError(f"likelihood.dist is {record['dist']!r}; known is {' or '.join(known)}.")
        if (record["dist"] == "StudentT") != ("nu" in record):
            raise SpecError("likelihood.nu, the degrees of freedom, belongs to dist = 'StudentT', and that needs it.")
        numbers = {key: record.get(key, 0.0) for key in ("fade", "drift")}
        for key, value in numbers.items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 10:
                raise SpecError(f"likelihood.{key} must be a number from 0 to 10, not {value!r}.")
        return cls(
            dist=record["dist"],
            scatter=_quantity(record["scatter"], "likelihood.scatter", dims=_along(structure)),
            deviation=_quantity(record.get("deviation", 0.0), "likelihood.deviation", dims=()),
            fade=float(numbers["fade"]),
            discrepancy=_discrepancy(record.get("discrepancy", {})),
            drift=float(numbers["drift"]),
            nu=_quantity(record["nu"], "likelihood.nu", dims=()) if "nu" in record else None,
        )

    def to_dict(self, *, structure: str = "separate") -> dict[str, Any]:
        """Plain types, as in the file."""
        return {
            "dist": self.dist,
            "fade": self.fade,
            "scatter": self.scatter.to_dict(),
            **({} if structure == "pairs" else {"deviation": self.deviation.to_dict()}),
            **({"discrepancy": dict(self.discrepancy)} if self.discrepancy else {}),
            **({"drift": self.drift} if self.drift else {}),
            **({"nu": self.nu.to_dict()} if self.nu else {}),
        }


@dataclass(frozen=True)
class ModelSpec:
    """One probabilistic model, as its file says.

    Parameters
    ----------
    name, title, equation, source : str
        What it is called, what it is, its equation in text and where that comes from.
    law : {"kaplan", "chinchilla", "overtraining", "generalised"}
        Member of the family of `bayes_l2l.laws`. In structure "pairs": of the laws that are fitted cell by cell
        before, for what they say about E.
    structure : {"separate", "joint", "pairs"}
        How the laws of several cells hang together (`STRUCTURES`).
    priors : mapping of str to Prior
        ``E_fraction`` (E over the cell's smallest loss), ``excess`` (loss of the law at the reference size over
        that smallest loss, less 1), ``share`` (part of R that is the model-size term at the reference),
        ``alpha``, ``beta``, ``gamma`` where the member leaves them free, and optionally ``c``. A joint model has
        ``alpha_over_gamma`` and ``beta_over_gamma`` instead of ``alpha`` and ``beta``. Pairs have ``E_fraction``
        (of cells with too few runs for a law), ``scale`` (reducible loss of the target over that of the source,
        amid the runs) and ``kappa``.
    likelihood : Likelihood
        How runs scatter about the law, or about the relation.
    readings : mapping of str to Prior
        Of a joint model: ``E_fraction``, ``excess`` and ``gamma`` of the evaluations that read the progress R, where
        they are not those of ``priors``; and ``nu``, a number: they scatter by Student's t with so many degrees of
        freedom, so that outlying runs do not bend them (normally without).
    relation : str
        Which pairs of cells are related (`RELATIONS`); empty unless the structure is "pairs".
    bootstrap : int
        Refits of each cell's law to resampled runs, whose spread is what is believed about E before the relations
        are seen; 0 fixes every E at its point fit.
    law_error : float
        What the law's form may be wrong by besides: standard deviation of the logit of E over the smallest loss.
    """

    name: str
    title: str
    equation: str
    source: str
    law: str
    structure: str
    priors: Mapping[str, Prior]
    likelihood: Likelihood
    readings: Mapping[str, Prior] = field(default_factory=dict)
    relation: str = ""
    bootstrap: int = 0
    law_error: float = 0.0

    @property
    def readings_nu(self) -> float:
        """Degrees of freedom of what readings scatter; infinite if it is normal."""
        return float(self.readings["nu"].kwargs["value"]) if "nu" in self.readings else inf  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ModelSpec:
        """Read and check a model.

        Parameters
        ----------
        record : mapping
            As parsed from a model file.

        Returns
        -------
        ModelSpec
            Checked.

        Raises
        ------
        SpecError
            Naming the key that is wrong, missing or unknown, and what may stand there.
        """
        is_pairs = record.get("structure") == "pairs"
        more = {"pairs": _PAIR_KEYS, "joint": ("readings",)}.get(str(record.get("structure")), ())
        _only(record, (*_TOP_KEYS, *more), "the model file")
        for key in ("name", "law", "priors", "likelihood", *(_PAIR_KEYS if is_pairs else ())):
            if key not in record:
                raise SpecError(f"The model file has no {key!r}.")
        law = record["law"]
        if not isinstance(law, str) or law not in MEMBERS:
            raise SpecError(
                f"law is {law!r}, no known member ({', '.join(MEMBERS)}){did_you_mean(str(law), MEMBERS)}"
            )
        structure = record.get("structure", "separate")
        if not isinstance(structure, str) or structure not in STRUCTURES:
            raise SpecError(f"structure is {structure!r}; known are {', '.join(STRUCTURES)}.")
        if structure == "joint" and law != "generalised":
            raise SpecError(f"structure = 'joint' needs law = 'generalised', not {law!r}.")
        needed = [name for name in _LAW_PRIORS if name not in _FIXED_BY.get(law, ())]
        if structure == "joint":
            needed = list(_JOINT_PRIORS)
        why = "structure = 'pairs'" if is_pairs else f"law = {law!r}"
        known = list(_PAIR_PRIORS) if is_pairs else [*needed, "c"]
        _only(record["priors"], known, f"priors ({why})")
        if missing := [name for name in (known if is_pairs else needed) if name not in record["priors"]]:
            raise SpecError(f"priors has no {missing[0]!r}, which {why} needs.")
        priors = {n: _quantity(p, f"priors.{n}", dims=_along(structure)) for n, p in record["priors"].items()}
        readings = record.get("readings", {})
        _only(readings, _READING_KEYS, "readings")
        readings = {n: _quantity(p, f"readings.{n}") for n, p in readings.items()}
        for section, of in (("priors", priors), ("readings", readings)):
            for name, prior in of.items():
                _in_range(name, prior, where=f"{section}.{name}")
        if is_pairs:
            _check_pairs(record, priors["E_fraction"])
        text = {key: str(record.get(key, "")) for key in ("name", "title", "equation", "source")}
        return cls(
            **text,
            law=law,
            structure=structure,
            priors=priors,
            likelihood=Likelihood.from_dict(record["likelihood"], structure=structure),
            readings=readings,
            relation=record.get("relation", ""),
            bootstrap=record.get("bootstrap", 0),
            law_error=float(record.get("law_error", 0.0)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in the file; `from_dict` reads them back."""
        return {
            "name": self.name,
            "title": self.title,
            "equation": self.equation,
            "source": self.source,
            "law": self.law,
            "structure": self.structure,
            **({name: getattr(self, name) for name in _PAIR_KEYS} if self.structure == "pairs" else {}),
            "priors": {name: prior.to_dict() for name, prior in self.priors.items()},
            "likelihood": self.likelihood.to_dict(structure=self.structure),
            **({"readings": {n: prior.to_dict() for n, prior in self.readings.items()}} if self.readings else {}),
        }


def load_spec(model: str | Path | ModelSpec) -> ModelSpec:
    """Read a model by name, or from a file of your own.

    Parameters
    ----------
    model : str, Path or ModelSpec
        A name of `model_names`, a path that ends in ``.toml``, or a spec (returned as it is).

    Returns
    -------
    ModelSpec
        Checked.

    Raises
    ------
    SpecError
        If there is no such model, or its file is refused.
    """
    if isinstance(model, ModelSpec):
        return model
    path = Path(model)
    if path.suffix != ".toml":
        path = _folder() / f"{model}.toml"
        if not path.is_file():
            names = model_names()
            raise SpecError(
                f"There is no model {str(model)!r}; known are {', '.join(names)}, or a file that ends in .toml"
                f"{did_you_mean(str(model), names)}"
            )
    return read_model(path, ModelSpec.from_dict)


def read_model(path: Path, read: Callable[[Mapping[str, Any]], Spec]) -> Spec:
    """Read a model file by what checks its record; what is refused is said with the file's name."""
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: is not valid TOML ({error}).") from None
    try:
        return read(record)
    except SpecError as error:
        raise SpecError(f"{path.name}: {error}") from None


def model_names() -> list[str]:
    """Names of the models of losses that come with the package.

    Returns
    -------
    list of str
        Sorted.
    """
    return sorted(path.stem for path in _folder().glob("*.toml") if not path.stem.startswith(ERROR_PREFIX))


def _folder() -> Path:
    """In the wheel the model files lie beside this module; in a checkout, at its top."""
    here = Path(__file__).resolve().parent
    inside = here / "models"
    return inside if inside.is_dir() else here.parent / "models"


def _along(structure: str) -> tuple[str, ...]:
    """What the quantities of a model are quantities of."""
    return ("pair",) if structure == "pairs" else ("cell",)


def _check_pairs(record: Mapping[str, Any], fraction: Prior) -> None:
    """Refuse what only a model of pairs can have wrong."""
    relation, bootstrap = record["relation"], record["bootstrap"]
    if not isinstance(relation, str) or relation not in RELATIONS:
        raise SpecError(
            f"relation is {relation!r}; known are {', '.join(RELATIONS)}{did_you_mean(str(relation), RELATIONS)}"
        )
    if not isinstance(bootstrap, int) or isinstance(bootstrap, bool) or not (bootstrap == 0 or bootstrap >= 10):
        raise SpecError(f"bootstrap must be 0 (E fixed at its point fit) or a number from 10, not {bootstrap!r}.")
    error = record["law_error"]
    if not isinstance(error, int | float) or isinstance(error, bool) or not 0 <= error < 10:
        raise SpecError(f"law_error must be a number of at least 0, not {error!r}.")
    numbers = all(isinstance(value, float) for value in fraction.kwargs.values())
    if fraction.dist != "Normal" or fraction.transform != "sigmoid" or not numbers:
        raise SpecError("priors.E_fraction must be Normal with numbers for mu and sigma and transform = 'sigmoid'.")


def _quantity(record: Any, where: str, *, dims: tuple[str, ...] = ("cell",)) -> Prior:
    """Prior of a quantity of the model, which varies along `dims` or is one number."""
    prior = Prior.from_dict(record, where=where)
    if prior.dims not in ((), dims):
        may = f"may be {', '.join(dims)} or nothing" if dims else "must be left out: it is one number"
        raise SpecError(f"{where}.dims {may}; it is {', '.join(prior.dims)}.")
    terms = [term for value in prior.kwargs.values() if isinstance(value, tuple) for term in value]
    if dims != ("pair",) and any(term.dims == ("source_set",) for term in terms):
        raise SpecError(f"{where} has an effect along source_set, which only structure = 'pairs' has.")
    return prior


def _argument(value: Any, where: str) -> float | Prior | tuple[Prior, ...]:
    if isinstance(value, list):
        terms = tuple(Prior.from_dict(term, where=f"{where}[{i}]") for i, term in enumerate(value))
        along = [term.dims for term in terms]
        if not terms or len(set(along)) < len(along) or {("cell",), ("pair",)} & set(along):
            raise SpecError(
                f"{where} must be a list of priors with different dims: none, train_set, eval_set, each at most once."
            )
        return terms
    prior = Prior.from_dict(value, where=where)
    if prior.dist == "Fixed":
        return float(value)
    if prior.dims:
        raise SpecError(f"{where}: a hyper-prior has no dims; effects along dims are written as a list of priors.")
    return prior


def _in_range(name: str, prior: Prior, *, where: str) -> None:
    """Refuse a fixed value that has no meaning in the law; a prior keeps its bounds by its transform."""
    if name == "nu" and (prior.dist != "Fixed" or float(prior.kwargs["value"]) <= 2):  # type: ignore[arg-type]
        raise SpecError(f"{where} must be a number above 2: the degrees of freedom of what readings scatter.")
    if prior.dist != "Fixed":
        return
    value, is_fraction = float(prior.kwargs["value"]), name in ("E_fraction", "share")  # type: ignore[arg-type]
    if not (value > 0 or (name == "c" and value == 0)) or (is_fraction and value >= 1):
        raise SpecError(f"{where} must be {'between 0 and 1' if is_fraction else 'positive'}, not {value:g}.")


def _plain(value: float | Prior | tuple[Prior, ...]) -> Any:
    if isinstance(value, tuple):
        return [term.to_dict() for term in value]
    return value.to_dict() if isinstance(value, Prior) else value


def _discrepancy(record: Any) -> dict[str, float]:
    _only(record, _DISCREPANCY_KEYS, "likelihood.discrepancy")
    if record and (missing := [key for key in _DISCREPANCY_KEYS if key not in record]):
        raise SpecError(f"likelihood.discrepancy has no {missing[0]!r}.")
    for key, value in record.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 100:
            raise SpecError(f"likelihood.discrepancy.{key} must be a number of at least 0, not {value!r}.")
    return {key: float(value) for key, value in record.items()}


def _only(record: Mapping[str, Any], known: Any, where: str) -> None:
    if not isinstance(record, Mapping):
        raise SpecError(f"{where} must be a table, not {record!r}.")
    for key in record:
        if key not in known:
            raise SpecError(
                f"{where} has an unknown key {key!r} (known: {', '.join(known)}){did_you_mean(key, known)}"
            )
