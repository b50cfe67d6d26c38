"""Outlying runs: losses that lie far off their law, found in the draws of a fit.

Residuals are Normal, so that one run that went wrong is taken for noise that all runs have: a loss five times too
high among 88 makes an interval of 2.37 to 2.43 one of 1.1 to 5.8. It cannot hide, though, in the median absolute
deviation. What no scatter explains is set aside before a fit (`bayes_l2l.point_fits.wild_runs`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bayes_l2l.data.sizes import size_label, size_labels
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import law_draws, stacked
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.structures.laws import LawSpec
from bayes_l2l.structures.protocol import structure_of

#: How many robust standard deviations off its law a loss lies to be named.
FAR: Final = 6.0
_FEWEST: Final = 10
_DRAWS: Final = 200
_LEAST: Final = 1e-3  # nats/token: what a law of an evaluation may fall below beyond its runs
#: Normal standard deviations of one median absolute deviation.
_MAD: Final = 1.4826


def outlying(fit: Posterior) -> tuple[Note, ...]:
    """Note on losses that lie far off the law of their cell.

    The scale is the median absolute deviation of the cell's own residuals, which an outlier does not move, with the
    known noise of the evaluation and what all runs of the size may deviate by together.

    Parameters
    ----------
    fit : Posterior
        A posterior.

    Returns
    -------
    tuple of Note
        One with the code ``outlying_runs``, or none; cells of fewer than 10 runs are not judged.
    """
    structure, spec = structure_of(fit.spec), fit.spec
    if not isinstance(spec, LawSpec):
        return ()
    data = structure.arrange(fit.spec, fit.sweep)
    posterior = stacked(fit.draws)
    posterior = posterior.isel(sample=slice(None, None, max(posterior.sizes["sample"] // _DRAWS, 1)))
    law = law_draws(posterior, [fit.cells.index(cell) for cell in data.cells])
    together = np.hypot(float(posterior["size_effect_scale"].median()), data.discrepancy)
    runs = _run_ids(fit)
    found, said = dict[str, float](), dict[str, str]()
    for j, (evaluation, train) in enumerate(data.cells):
        seen = np.flatnonzero(data.observed[:, j])
        if len(seen) < _FEWEST:
            continue
        one = type(law)(**{name: value[:, [j]] for name, value in vars(law).items()})
        loss = np.maximum(
            one.loss(np.exp(data.log_params[seen]), np.exp(data.log_tokens[seen]), data.shift[seen]), _LEAST
        )
        residual = data.log_loss[seen, j] - np.log(np.median(loss, axis=0))
        shared = np.median(one.gamma * (1 - one.E / loss), axis=0) * together[seen]
        scale = _MAD * np.median(np.abs(residual - np.median(residual)))
        # A run that counts little may lie off as much the more.
        own = scale**2 / data.weight[seen]
        score = np.abs(residual) / np.sqrt(own + data.noise[seen, j] ** 2 + shared**2)
        for i in np.flatnonzero(score > FAR):
            n, d = (float(np.exp(v[seen[i]])) for v in (data.log_params, data.log_tokens))
            name = f"{evaluation}@{train} at {n:.3g} parameters and {d:.3g} tokens"
            found[name] = float(np.expm1(residual[i]))
            run_id = runs.get((evaluation, train, size_label(n, d), f"{data.log_loss[seen[i], j]:.9g}"))
            said[name] = f"run {run_id!r}, {name}" if run_id else name
    if not found:
        return ()
    first = sorted(found, key=lambda name: -abs(found[name]))
    named = "; ".join(f"{said[name]} ({100 * found[name]:+.0f}%)" for name in first[:3])
    more = f"; and {len(first) - 3} more" if len(first) > 3 else ""
    what = "a loss lies far off its law" if len(found) == 1 else f"{len(found)} losses lie far off their laws"
    message = (
        f"{what}, which can widen every interval of its cell or bend the law: {named}{more}; look at "
        f"{'this run' if len(found) == 1 else 'these runs'}, and take the rows of one that went wrong out of the "
        'table (in Python: sweep.table[sweep.table["run_id"] != "..."]) and fit again'
    )
    return (Note("outlying_runs", "warning", message, {"runs": found}),)


def _run_ids(fit: Posterior) -> dict[tuple[str, str, str, str], str]:
    """Names of the runs, by cell, size and log loss: several runs may be of one size."""
    table = fit.sweep.table
    keys = zip(
        table["eval_set"],
        table["train_set"],
        size_labels(table),
        [f"{value:.9g}" for value in np.log(table["loss"].clip(lower=_LEAST))],
        strict=True,
    )
    return dict(zip(keys, table["run_id"], strict=True))
