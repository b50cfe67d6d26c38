"""Outlying runs: losses that lie far off their law, found in the draws of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.build import ModelData, discrepancy
from bayes_l2l.forecast import law_draws, stacked
from bayes_l2l.laws import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    from bayes_l2l.fits import Fit

#: How many robust standard deviations off its law a loss lies to be named.
FAR: Final = 6.0
_FEWEST: Final = 10
_DRAWS: Final = 200
#: Normal standard deviations of one median absolute deviation.
_MAD: Final = 1.4826


def outlying(fit: Fit) -> tuple[Note, ...]:
    """Note on losses that lie far off the law of their cell.

    The scale is the median absolute deviation of the cell's own residuals, which an outlier does not move, with the
    known noise of the evaluation and what all runs of the size may deviate by together.

    Parameters
    ----------
    fit : Fit
        A posterior.

    Returns
    -------
    tuple of Note
        One with the code ``outlying_runs``, or none; cells of fewer than 10 runs are not judged.
    """
    if fit.spec.structure == "pairs":
        return ()
    data = ModelData.of(fit.sweep, likelihood=fit.spec.likelihood)
    posterior = stacked(fit.posterior)
    posterior = posterior.isel(sample=slice(None, None, max(posterior.sizes["sample"] // _DRAWS, 1)))
    law = law_draws(posterior, [fit.cells.index(cell) for cell in data.cells])
    relative = FLOPS_PER_PARAM_TOKEN * np.exp(data.log_params + data.log_tokens) / max(fit.max_flops.values())
    together = np.hypot(float(posterior["deviation"].median()), discrepancy(relative, fit.spec.likelihood))
    found = {}
    for j, (evaluation, train) in enumerate(data.cells):
        seen = np.flatnonzero(data.observed[:, j])
        if len(seen) < _FEWEST:
            continue
        one = type(law)(**{name: value[:, [j]] for name, value in vars(law).items()})
        loss = one.loss(np.exp(data.log_params[seen]), np.exp(data.log_tokens[seen]))
        residual = data.log_loss[seen, j] - np.log(np.median(loss, axis=0))
        shared = np.median(one.gamma * (1 - one.E / loss), axis=0) * together[seen]
        scale = _MAD * np.median(np.abs(residual - np.median(residual)))
        score = np.abs(residual) / np.sqrt(scale**2 + data.noise[seen, j] ** 2 + shared**2)
        for i in np.flatnonzero(score > FAR):
            n, d = (float(np.exp(v[seen[i]])) for v in (data.log_params, data.log_tokens))
            name = f"{evaluation}@{train} at {n:.3g} parameters and {d:.3g} tokens"
            found[name] = float(np.expm1(residual[i]))
    if not found:
        return ()
    first = sorted(found, key=lambda name: -abs(found[name]))
    named = "; ".join(f"{name} ({100 * found[name]:+.0f}%)" for name in first[:3])
    more = f"; and {len(first) - 3} more" if len(first) > 3 else ""
    message = f"{len(found)} losses lie far off their law: {named}{more}; look at these runs"
    return (Note("outlying_runs", "warning", message, {"runs": found}),)
