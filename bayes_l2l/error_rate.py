"""Downstream error as a function of loss: closed forms, and what a model file believes about them.

An error rate stays at a ceiling, near chance, until the loss is low enough, and falls from there. Three forms, with u
the progress beyond the loss x0 amid the runs::

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bayes_l2l.errors import SpecError, did_you_mean
from bayes_l2l.laws import _lib, _logaddexp
from bayes_l2l.spec import ERROR_PREFIX, Prior, _folder, _only, read_model

#: What every form is made of: quantities that a model file has priors for, all along cells (task, training set).
FORMS: Final[Mapping[str, tuple[str, ...]]] = {
    "exponential": ("ceiling", "level", "rate"),
    "richards": ("ceiling", "level", "rate", "shape"),
    "power": ("ceiling", "level", "kappa", "floor", "E_fraction", "sharpness"),
}
#: Losses that error can be a function of; any other word is the name of one evaluation.
PREDICTORS: Final[Mapping[str, str]] = {
    "shared": "the evaluation of all training sets whose losses scatter least",
    "own": "every training set's own loss",
    "task": "the task's own cross entropy: the evaluation whose name is the task's without _error or _acc",
}
#: Endings that tell an error rate from the loss of the same task.
ENDINGS: Final = ("_error", "_err", "_accuracy", "_acc")
_DIMS: Final = ((), ("cell",), ("eval_set",), ("train_set",))
_KEYS: Final = ("name", "title", "equation", "source", "form", "predictor", "priors", "likelihood")
_LIKELIHOOD_KEYS: Final = ("scatter", "nu", "discrepancy", "drift")
#: Least distance of a loss from E, as a part of that of the reference: below, the error is at its floor.
_NEAREST: Final = 1e-6


@dataclass(frozen=True)
class ErrorLaw:
    """Error rate of a task as a function of a loss (scalars, or arrays that broadcast: NumPy or PyTensor).

    Attributes
    ----------
    form : str
        A key of `FORMS`.
    reference : float or array
        The loss x0 that the law is parameterised at (nats/token).
    ceiling : float or array
        Error where nothing is learned, in (0, 1].
    level : float or array
        Progress u at the reference; larger is better.
    slope : float or array
        ``rate`` (per nat) or, in the form "power", ``kappa``.
    floor : float or array
        Of "power": the error that is left in the end (M).
    E : float or array
        Of "power": irreducible entropy of the loss (nats/token), where the error is M.
    sharpness : float or array
        Of "power": how sharply it leaves the ceiling (soft minimum -log(exp(-s a) + exp(-s ceiling)) / s).
    shape : float or array
        Of "richards": s, above 0; the larger, the sooner it levels off.
    """

    form: str
    reference: Any
    ceiling: Any
    level: Any
    slope: Any
    floor: Any = 0.0
    E: Any = 0.0
    sharpness: Any = 1.0
    shape: Any = 1.0

    def __call__(self, loss: Any) -> Any:
        """Error rate at a loss (nats/token), at most the ceiling; "exponential" has no lower bound."""
        lib = _lib(loss, self.level, self.slope, self.ceiling)
        if self.form == "power":
            left = lib.maximum((loss - self.E) / (self.reference - self.E), _NEAREST)
            error = self.floor + (self.ceiling - self.floor) * lib.exp(-self.level + self.slope * lib.log(left))
            return -_logaddexp(-self.sharpness * error, -self.sharpness * self.ceiling) / self.sharpness
        u = self.level + self.slope * (self.reference - loss)
        if self.form == "exponential":
            return self.ceiling * (1 - lib.exp(u))
        return self.ceiling * lib.exp(-_logaddexp(0.0, u + lib.log(self.shape)) / self.shape)


@dataclass(frozen=True)
class ErrorSpec:
    """One model of error rates, as its file says.

    Parameters
    ----------
    name, title, equation, source : str
        What it is called, what it is, its equation in text and where that comes from.
    form : {"exponential", "richards", "power"}
        The closed form (`FORMS`).
    predictor : str
        The loss that error is a function of: a key of `PREDICTORS`, or the name of an evaluation.
    priors : mapping of str to Prior
        Of the form's quantities: ``ceiling`` (what it differs from chance by, on the logit scale), ``level``,
        ``rate`` or ``kappa``, of "richards" ``shape``, and of "power" ``floor`` (over the ceiling), ``E_fraction``
        (of the smallest loss) and ``sharpness``. ``level`` and ``rate`` of "richards" are log(-log(err / ceiling))
        and its slope (per nat) at the reference loss. A prior varies along cell, eval_set (task), train_set, or not
        at all.
    scatter : Prior
        Scale of the error of a run about its law, besides the binomial noise of ``n_items`` questions.
    nu : Prior
        Degrees of freedom of its Student t distribution.
    discrepancy : Prior
        Runs need not lie on the law where their loss is above the reference: additional scale of their error, over
        chance, per nat of loss above it.
    drift : float
        Beyond the fitted runs, progress in loss counts exp(drift z) as much, z standard normal, for each task: no
        closed form is that of every task.
    """

    name: str
    title: str
    equation: str
    source: str
    form: str
    predictor: str
    priors: Mapping[str, Prior]
    scatter: Prior
    nu: Prior
    discrepancy: Prior
    drift: float

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ErrorSpec:
        """Read and check a model.

        Parameters
        ----------
        record : mapping
            As parsed from a model file.

        Returns
        -------
        ErrorSpec
            Checked.

        Raises
        ------
        SpecError
            Naming the key that is wrong, missing or unknown, and what may stand there.
        """
        _only(record, _KEYS, "the model file")
        for key in ("name", "form", "priors", "likelihood"):
            if key not in record:
                raise SpecError(f"The model file has no {key!r}.")
        form, predictor = record["form"], record.get("predictor", "shared")
        if not isinstance(form, str) or form not in FORMS:
            raise SpecError(f"form is {form!r}; known are {', '.join(FORMS)}{did_you_mean(str(form), FORMS)}")
        if not isinstance(predictor, str) or not predictor:
            raise SpecError(f"predictor must be {', '.join(PREDICTORS)} or an evaluation's name, not {predictor!r}.")
        _only(record["priors"], FORMS[form], f"priors (form = {form!r})")
        if missing := [name for name in FORMS[form] if name not in record["priors"]]:
            raise SpecError(f"priors has no {missing[0]!r}, which form = {form!r} needs.")
        likelihood = record["likelihood"]
        _only(likelihood, _LIKELIHOOD_KEYS, "likelihood")
        if missing := [name for name in ("scatter", "nu") if name not in likelihood]:
            raise SpecError(f"likelihood has no {missing[0]!r}.")
        drift = likelihood.get("drift", 0.0)
        if not isinstance(drift, int | float) or isinstance(drift, bool) or not 0 <= drift <= 10:
            raise SpecError(f"likelihood.drift must be a number from 0 to 10, not {drift!r}.")
        text = {key: str(record.get(key, "")) for key in ("name", "title", "equation", "source")}
        return cls(
            **text,
            form=form,
            predictor=predictor,
            priors={name: _quantity(prior, f"priors.{name}") for name, prior in record["priors"].items()},
            scatter=_quantity(likelihood["scatter"], "likelihood.scatter"),
            nu=_quantity(likelihood["nu"], "likelihood.nu", along=((),)),
            discrepancy=_quantity(likelihood.get("discrepancy", 0.0), "likelihood.discrepancy"),
            drift=float(drift),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in the file; `from_dict` reads them back."""
        text = {key: getattr(self, key) for key in ("name", "title", "equation", "source", "form", "predictor")}
        priors = {name: prior.to_dict() for name, prior in self.priors.items()}
        given = {name: getattr(self, name).to_dict() for name in ("scatter", "nu", "discrepancy")}
        likelihood = {**given, "drift": self.drift}
        return {**text, "priors": priors, "likelihood": likelihood}


def load_error_spec(model: str | Path | ErrorSpec) -> ErrorSpec:
    """Read a model of errors by name ("error_richards" or "richards"), or from a file of your own.

    Parameters
    ----------
    model : str, Path or ErrorSpec
        A name of `error_model_names`, with or without ``error_``; a path that ends in ``.toml``; or a spec.

    Returns
    -------
    ErrorSpec
        Checked.

    Raises
    ------
    SpecError
        If there is no such model, or its file is refused.
    """
    if isinstance(model, ErrorSpec):
        return model
    path = Path(model)
    if path.suffix != ".toml":
        path = _folder() / f"{ERROR_PREFIX}{str(model).removeprefix(ERROR_PREFIX)}.toml"
        if not path.is_file():
            names = error_model_names()
            raise SpecError(
                f"There is no model of errors {str(model)!r}; known are {', '.join(names)}, or a file that ends in "
                f".toml{did_you_mean(str(model), names)}"
            )
    return read_model(path, ErrorSpec.from_dict)


def error_model_names() -> list[str]:
    """Names of the models of errors that come with the package.

    Returns
    -------
    list of str
        Sorted.
    """
    return sorted(path.stem for path in _folder().glob(f"{ERROR_PREFIX}*.toml"))


def _quantity(record: Any, where: str, *, along: tuple[tuple[str, ...], ...] = _DIMS) -> Prior:
    prior = Prior.from_dict(record, where=where)
    if prior.dims not in along:
        may = "may be cell, eval_set or train_set" if len(along) > 1 else "must be left out: it is one number"
        raise SpecError(f"{where}.dims {may}; it is {', '.join(prior.dims)}.")
    return prior
