"""ModelSpec and Sweep to a PyMC model with labelled dimensions and its data in `pm.Data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError
from bayes_l2l.laws import D0, Law, _lib, from_reference, log_reducible

if TYPE_CHECKING:
    import pymc as pm

    from bayes_l2l.spec import Likelihood, ModelSpec, Prior
    from bayes_l2l.sweep import Sweep

Floats = npt.NDArray[np.float64]

#: What a fit reports of every cell, in this order.
LAW_VARIABLES: Final = ("E", "log_A", "log_B", "alpha", "beta", "gamma", "c")
#: What it reports of every ordered pair of cells, where these are related one by one (structure "pairs").
RELATION_VARIABLES: Final = ("K", "kappa", "E0", "E1")
#: What it reports of the likelihood.
NOISE_VARIABLES: Final = ("scatter", "deviation")
_WIDE: Final = 0.05  # of log loss
#: How many times as steep as the average a cell of small runs may fall.
_STEEPER: Final = 3.0
#: Endings of the variables that serve the sampler alone.
INNER: Final = ("_offset", "_slope", "_drawn", "__")


@dataclass(frozen=True, eq=False)
class ModelData:
    """A sweep as the arrays that a model conditions on: sizes along points, losses along points and cells.

    Parameters
    ----------
    cells : list of (str, str)
        (eval_set, train_set) of every cell.
    log_params, log_tokens : ndarray, shape (point,)
        Logarithms of N and D of every distinct size.
    log_loss, observed, noise : ndarray, shape (point, cell)
        Log loss (0 where there is none), 1 where there is one, and the known standard error of log loss.
    weight : ndarray, shape (point,)
        What a run's log-likelihood counts, (C / largest C)^fade.
    discrepancy : ndarray, shape (point,)
        Standard deviation of log R by which the law may be off at each size, from the spec.
    smallest : ndarray, shape (cell,)
        Smallest loss of each cell (nats/token), or less where its runs are all smaller than the reference size: E
        and the loss at the reference are measured by it.
    reference : ndarray, shape (2,)
        Logarithms of the N and D at which the laws are parameterised: the runs' weighted middle.
    """

    cells: list[tuple[str, str]]
    log_params: Floats
    log_tokens: Floats
    log_loss: Floats
    observed: Floats
    noise: Floats
    weight: Floats
    discrepancy: Floats
    smallest: Floats
    reference: Floats

    @classmethod
    def of(cls, sweep: Sweep, *, likelihood: Likelihood) -> ModelData:
        """Arrange the losses of a sweep.

        Parameters
        ----------
        sweep : Sweep
            Its rows of metric "loss" are used.
        likelihood : Likelihood
            For the weights and the discrepancy of small runs.

        Returns
        -------
        ModelData

        Raises
        ------
        DataError
            If the sweep holds no loss.
        """
        table = sweep.table[sweep.table["metric"] == "loss"]
        if not len(table):
            raise DataError(f"{sweep.name} has no losses to fit (all its rows are error rates).")
        size = [point_label(n, d) for n, d in zip(table["params"], table["tokens"], strict=True)]
        cell = list(zip(table["eval_set"], table["train_set"], strict=True))
        # A repeated run of one size and cell becomes a point of its own.
        repeat = table.assign(_size=size).groupby(["_size", "eval_set", "train_set"]).cumcount()
        points = {key: i for i, key in enumerate(dict.fromkeys(zip(size, repeat, strict=True)))}
        cells = sorted(set(cell), key=lambda c: (c[1], c[0]))
        row = np.array([points[key] for key in zip(size, repeat, strict=True)])
        column = np.array([cells.index(c) for c in cell])
        first = np.unique(row, return_index=True)[1]
        loss = np.full((len(points), len(cells)), np.nan)
        loss[row, column] = table["loss"]
        noise = np.zeros_like(loss)
        if "loss_se" in table:
            noise[row, column] = (table["loss_se"] / table["loss"]).fillna(0.0)
        flops = table["flops"].to_numpy()[first]
        weight = (flops / flops.max()) ** likelihood.fade
        log_params, log_tokens = np.log(table[["params", "tokens"]].to_numpy()[first].T)
        reference = np.average([log_params, log_tokens], axis=1, weights=weight)
        sizes = np.stack([log_params, log_tokens], axis=1) - reference
        return cls(
            cells=cells,
            log_params=log_params,
            log_tokens=log_tokens,
            log_loss=np.log(np.where(np.isnan(loss), 1.0, loss)),
            observed=(~np.isnan(loss)).astype(float),
            noise=noise,
            weight=weight,
            discrepancy=discrepancy(flops / flops.max(), likelihood),
            smallest=np.minimum(np.nanmin(loss, axis=0), _at_reference(np.log(loss), sizes, weight)),
            reference=reference,
        )

    @property
    def labels(self) -> list[str]:
        """Names of the cells, "eval|train"."""
        return ["|".join(cell) for cell in self.cells]

    def only(self, columns: Sequence[int]) -> ModelData:
        """The same points with these cells alone."""
        along = {name: getattr(self, name)[:, columns] for name in ("log_loss", "observed", "noise")}
        cells = [self.cells[i] for i in columns]
        return replace(self, cells=cells, smallest=self.smallest[list(columns)], **along)

    @property
    def coordinates(self) -> dict[str, tuple[str, list[str]]]:
        """Names along the posterior's dimension ``cell``, and both parts of them."""
        evals, trains = (list(names) for names in zip(*self.cells, strict=True))
        return {"cell": ("cell", self.labels), "eval_set": ("cell", evals), "train_set": ("cell", trains)}

    def arrays(self) -> dict[str, Floats]:
        """What the model holds as `pm.Data`, by name."""
        names: tuple[str, ...] = ("log_params", "log_tokens", "log_loss", "observed", "noise")
        names += ("weight", "discrepancy", "smallest", "reference")
        return {name: getattr(self, name) for name in names}


def _at_reference(log_loss: Floats, sizes: Floats, weight: Floats) -> Floats:
    """Loss that every cell may be down to at the reference size: its mean, gone on steeply from its middle.

    The slopes in log N and log D are common to all cells, so that a cell of few runs has them, too; one whose runs
    are all small may fall more steeply.

    Parameters
    ----------
    log_loss : ndarray, shape (point, cell)
        NaN where there is none.
    sizes : ndarray, shape (point, 2)
        Logarithms of N and D, less those of the reference.
    weight : ndarray, shape (point,)
        As for the reference, which is the middle of a cell with all runs.
    """
    seen = ~np.isnan(log_loss)
    part = weight[:, None] * seen / (weight[:, None] * seen).sum(axis=0)
    level, middle = (part * np.where(seen, log_loss, 0.0)).sum(axis=0), part.T @ sizes
    x, y = (sizes[:, None, :] - middle)[seen], (log_loss - level)[seen]
    root = np.sqrt(np.broadcast_to(weight[:, None], seen.shape)[seen])
    slopes = np.linalg.lstsq(root[:, None] * x, root * y, rcond=None)[0]
    return np.asarray(np.exp(level - _STEEPER * middle @ slopes))


def discrepancy(relative_flops: Floats, likelihood: Likelihood) -> Floats:
    """Standard deviation of log R by which the law may be off, at compute relative to the largest fitted.

    ``at_largest (C / largest C)^-rate`` for large runs, levelling off at ``cap`` for small ones.
    """
    if not likelihood.discrepancy:
        return np.zeros_like(relative_flops)
    free = likelihood.discrepancy["at_largest"] * relative_flops ** -likelihood.discrepancy["rate"]
    return np.asarray(1 / np.hypot(1 / free, 1 / likelihood.discrepancy["cap"]))


def point_label(params: float, tokens: float) -> str:
    """Name of a size, by which runs of equal (N, D) are recognised (six digits)."""
    return f"{params:.6g}|{tokens:.6g}"


def build(spec: ModelSpec, data: ModelData) -> pm.Model:
    """Build the model.

    Parameters
    ----------
    spec : ModelSpec
        What is believed.
    data : ModelData
        What is known.

    Returns
    -------
    pymc.Model
        With `LAW_VARIABLES` along ``cell``, `NOISE_VARIABLES`, and the hyper-parameters; the likelihood is the
        potential ``log_likelihood``, summed over runs, with the shared deviations integrated out.
    """
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model(coords=coords(data)) as model:
        known = {name: pm.Data(name, value) for name, value in data.arrays().items()}
        law = _law(spec, known, data.cells)
        for name in LAW_VARIABLES:
            pm.Deterministic(name, law[name], dims="cell")
        along = {name: value[None, :] for name, value in law.items() if name != "E"}
        reducible = pt.exp(log_reducible(known["log_params"][:, None], known["log_tokens"][:, None], **along))
        loss = law["E"] + reducible

        effects = effects_of(data.cells)
        scatter = parameter("scatter", spec.likelihood.scatter, effects) * pt.ones(len(data.cells))
        deviation = parameter("deviation", spec.likelihood.deviation, effects)
        pm.Deterministic("scatter", scatter, dims="cell")
        pm.Deterministic("deviation", pt.as_tensor(deviation))
        residual = (known["log_loss"] - pt.log(loss)) * known["observed"]
        density = log_density(
            residual,
            observed=known["observed"],
            variance=scatter**2 + known["noise"] ** 2,
            shared=pt.sqrt(deviation**2 + known["discrepancy"] ** 2)[:, None] * law["gamma"] * reducible / loss,
        )
        pm.Potential("log_likelihood", (known["weight"] * density).sum())
    return model


def log_density(residual: Any, *, observed: Any, variance: Any, shared: Any) -> Any:
    """Log density of the residuals of every point, with the deviation that its runs share integrated out.

    The residuals of one point are jointly normal with covariance ``diag(variance) + shared shared'``; the
    inverse and the determinant are those of a rank-one update (Sherman and Morrison, 1950).

    Parameters
    ----------
    residual, observed : tensor or ndarray, shape (..., point, cell)
        Residuals of log loss (0 where there is none), and 1 where there is one.
    variance : tensor or ndarray, shape (..., point, cell)
        Variance of each on its own.
    shared : tensor or ndarray, shape (..., point, cell)
        What one standard deviation of the point's own deviation moves each of them by.

    Returns
    -------
    same kind as the inputs, shape (..., point)
    """
    log = _lib(residual, variance, shared).log
    precision = observed / variance
    gain = 1 + (shared**2 * precision).sum(axis=-1)
    quadratic = (residual**2 * precision).sum(axis=-1) - (shared * residual * precision).sum(axis=-1) ** 2 / gain
    log_det = (observed * log(2 * np.pi * variance)).sum(axis=-1) + log(gain)
    return -0.5 * (quadratic + log_det)


def evidence(
    law: Law, data: ModelData, points: Sequence[int], *, params: float, tokens: float, scatter: Floats
) -> tuple[Floats, Floats]:
    """What the runs of one size say about the deviation of log R that they share, given the parameters.

    `log_density` integrates that deviation out; with a normal prior of precision ``p`` its posterior is normal with
    precision ``p + precision`` and mean ``pull / (p + precision)``.

    Parameters
    ----------
    law : Law
        Of the cells of `data`, arrays of shape (draw, cell).
    data : ModelData
        Where the losses are.
    points : sequence of int
        Points of that size; several where runs are repeated.
    params, tokens : float
        N and D of the size.
    scatter : ndarray, shape (draw, cell)
        Standard deviation of log loss of each cell on its own.

    Returns
    -------
    pull, precision : ndarray, shape (draw,)
    """
    pull, precision = np.zeros((2, len(law.E)))
    if not points:
        return pull, precision
    loss = law.loss(params, tokens)
    sensitivity = law.gamma * (1 - law.E / loss)
    for i in points:
        weight = data.observed[i] / (scatter**2 + data.noise[i] ** 2)
        pull = pull + (sensitivity * weight * (data.log_loss[i] - np.log(loss))).sum(axis=1)
        precision = precision + (sensitivity**2 * weight).sum(axis=1)
    return pull, precision


def coords(data: ModelData) -> dict[str, list[str]]:
    """Names along the dimensions of a model."""
    return {"cell": data.labels} | {name: names for name, (names, _) in effects_of(data.cells).items()}


def effects_of(cells: Sequence[tuple[str, str]]) -> dict[str, tuple[list[str], list[int]]]:
    """Names along ``eval_set`` and ``train_set``, and the place of every cell's own among them."""
    effects = {}
    for dim, own in zip(("eval_set", "train_set"), zip(*cells, strict=True), strict=True):
        names = sorted(set(own))
        effects[dim] = (names, [names.index(name) for name in own])
    return effects


def _law(spec: ModelSpec, known: dict[str, Any], cells: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """`LAW_VARIABLES` of every cell, drawn from their priors at the reference size."""
    import pytensor.tensor as pt

    ones, priors, effects = pt.ones(len(cells)), spec.priors, effects_of(cells)

    def value(name: str, shift: Any = None) -> Any:
        return parameter(name, priors[name], effects, shift=shift) * ones

    share = value("share")
    E = value("E_fraction") * known["smallest"]
    loss = known["smallest"] * (1 + value("excess"))
    # The data know the slopes of log loss in log N and log D at the reference, alpha share (L - E)/L and its
    # like; they know alpha itself only given E. Centred exponents are therefore sampled as these slopes.
    reducible = pt.log1p(-E / loss)
    if spec.structure == "joint":
        a = value("alpha_over_gamma")
        slope = pt.log(a) + pt.log(share)
        b = value("beta_over_gamma", (pt.log1p(-share) - slope)[0])
        gamma = value("gamma", reducible + slope)
        alpha, beta = a * gamma, b * gamma
    else:
        alpha = value("alpha", reducible + pt.log(share))
        beta = alpha if spec.law == "overtraining" else value("beta", reducible + pt.log1p(-share))
        gamma = {"generalised": lambda: value("gamma"), "kaplan": lambda: beta}.get(spec.law, lambda: ones)()
    c = value("c") if "c" in priors else 0 * ones
    log_N_ref, log_D_ref = known["reference"][0], known["reference"][1]
    transient = gamma * pt.log1p(c * pt.exp(np.log(D0) - log_D_ref))
    log_A, log_B = from_reference(
        log_reducible_ref=pt.log(loss - E) - transient,
        share=share,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        log_N_ref=log_N_ref,
        log_D_ref=log_D_ref,
    )
    return {"E": E, "log_A": log_A, "log_B": log_B, "alpha": alpha, "beta": beta, "gamma": gamma, "c": c}


def _start(name: str, prior: Prior, n_cells: int) -> Floats | None:
    """Where chains start: with wide noise, so that none is trapped in a corner before it has seen the law."""
    if name not in NOISE_VARIABLES or prior.dist in ("Beta", "TruncatedNormal", "Uniform"):
        return None
    return np.full(n_cells if prior.dims else (), np.log(_WIDE) if prior.transform == "exp" else _WIDE)


def parameter(
    name: str, prior: Prior, effects: Mapping[str, tuple[list[str], list[int]]], *, shift: Any = None
) -> Any:
    """Value of a prior, as random variables: non-centred, centred about a shift the data know better, or plain.

    The random variables end in one of `INNER`; the value itself is reported under its name. A list of priors is
    their sum, each effect spread over the cells that it belongs to.
    """
    import pymc as pm
    import pytensor.tensor as pt

    if prior.dist == "Fixed":
        return pt.constant(prior.kwargs["value"])

    def argument(key: str, value: float | Prior | tuple[Prior, ...]) -> Any:
        if isinstance(value, float):
            return value
        if not isinstance(value, tuple):
            return parameter(f"{name}_{key}", value, effects)
        terms = []
        for term in value:
            dim = term.dims[0] if term.dims else None
            drawn = parameter(f"{name}_{dim or key}", term, effects)
            terms.append(drawn[effects[dim][1]] if dim else drawn)
        return sum(terms[1:], terms[0])

    arguments = {key: argument(key, value) for key, value in prior.kwargs.items()}
    dims = prior.dims or None
    if not prior.centered:
        offset = pm.Normal(f"{name}_offset", 0.0, 1.0, dims=dims)
        value = arguments["mu"] + arguments["sigma"] * offset
    elif shift is not None and prior.dist == "Normal" and prior.transform == "exp":
        value = pm.Normal(f"{name}_slope", arguments["mu"] + shift, arguments["sigma"], dims=dims) - shift
    else:
        start = _start(name, prior, len(effects["eval_set"][1]))
        value = getattr(pm, prior.dist)(f"{name}_drawn", **arguments, dims=dims, initval=start)
    if prior.transform:
        transforms = {"exp": pt.exp, "sigmoid": pt.sigmoid, "below_one": lambda x: -pt.expm1(-x)}
        value = transforms[prior.transform](value)
    if name not in (*LAW_VARIABLES, *RELATION_VARIABLES, *NOISE_VARIABLES):
        pm.Deterministic(name, value, dims=dims)
    return value
