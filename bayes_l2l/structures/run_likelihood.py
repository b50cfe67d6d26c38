"""Likelihood of runs about laws of one progress, the effects that runs of a size share integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.structures.size_effect import log_density

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayes_l2l.laws.residuals import Residuals

#: In the order in which whoever evaluates the operation gets them.
_OPERANDS: Final = (
    "progress", "log_scale", "E", "gamma", "residual_scale", "effect_scale",
    "log_loss", "noise", "weight", "point_index", "cell_index",
)  # fmt: skip


def run_likelihood(known: Mapping[str, Any], law: Mapping[str, Any]) -> Any:
    """Log-likelihood of runs with normal residuals: an operation of its own in the graph of a model.

    A graph says what is computed; who evaluates it may have a faster way for the operation as a whole, as
    `bayes_l2l.density.machine` has.

    Parameters
    ----------
    known : mapping
        Data of the model: ``log_loss`` and ``noise`` (standard error of log loss), shape (run,); ``weight`` of the
        likelihood, shape (point,); ``point_index`` and ``cell_index``, the place of every run among
        the sizes and the cells; runs lie cell by cell.
    law : mapping
        Variables of the model: ``progress``, log R over that at the reference, shape (run,); ``log_scale``, log of
        the reducible loss there, ``E``, ``gamma`` and ``residual_scale``, shape (cell,); ``effect_scale``, standard
        deviation of the effect on log R that the runs of a size share, shape (point,).

    Returns
    -------
    tensor
        A scalar, differentiable.
    """
    import pytensor.tensor as pt
    from pytensor.compile.builders import OpFromGraph

    class RunLikelihood(OpFromGraph):  # type: ignore[misc]
        """Log-likelihood of runs; its graph is its definition."""

    given = {name: pt.as_tensor(value) for name, value in {**known, **law}.items() if name in _OPERANDS}
    inside = {name: given[name].type() for name in _OPERANDS}
    operation = RunLikelihood([*inside.values()], [_defined(**inside)], inline=True, name="RunLikelihood")
    return operation(*(given[name] for name in _OPERANDS))


def independent_runs(residuals: Residuals, known: Mapping[str, Any], law: Mapping[str, Any]) -> Any:
    """Log-likelihood of runs that share no effect, with residuals of any distribution.

    Parameters
    ----------
    residuals : Residuals
        Distribution of residuals.
    known, law : mapping
        As of `run_likelihood`, without ``effect_scale``.

    Returns
    -------
    tensor
        A scalar, differentiable.
    """
    import pytensor.tensor as pt

    cell = known["cell_index"]
    loss = law["E"][cell] + pt.exp(law["log_scale"][cell] + law["gamma"][cell] * law["progress"])
    scale = pt.sqrt(law["residual_scale"][cell] ** 2 + known["noise"] ** 2)
    density = residuals.log_density(known["log_loss"] - pt.log(loss), scale)
    return (known["weight"][known["point_index"]] * density).sum()


def _defined(
    *, progress: Any, log_scale: Any, E: Any, gamma: Any, residual_scale: Any, effect_scale: Any,
    log_loss: Any, noise: Any, weight: Any, point_index: Any, cell_index: Any,
) -> Any:  # fmt: skip
    import pytensor.tensor as pt

    cell, point = cell_index, point_index
    reducible = pt.exp(log_scale[cell] + gamma[cell] * progress)
    loss = E[cell] + reducible
    density = log_density(
        log_loss - pt.log(loss),
        variance=residual_scale[cell] ** 2 + noise**2,
        shared=effect_scale[point] * gamma[cell] * reducible / loss,
        total=lambda values: pt.zeros(weight.shape)[point].inc(values),
    )
    return (weight * density).sum()
