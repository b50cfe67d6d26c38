"""Wild runs: losses so far off that no scatter explains them, which are set aside before a fit, and named.

Residuals are Normal: one loss five times too high among 88 makes an interval of 2.37 to 2.43 one of 1.1 to 5.8. In
fourteen public sweeps and studies nothing is set aside: the loss that comes nearest is 10 robust standard deviations
off (a run that read 1e8 tokens again and again), and all but that one are below 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.oddities import expected_losses, why_odd
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.notes import Note
from bayes_l2l.point_fits.point_fit import fit_point

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

#: A loss is wild by this factor and so many robust standard deviations, off a plane and off the law of the others.
FACTOR: Final = 1.5
DEVIATIONS: Final = 20.0
#: Runs of a cell from which on the others say what one has to have, and the part of them that may be wild: of more,
#: something else is wrong.
FEWEST: Final = 12
MOST: Final = 0.1
_LEAST_SCALE: Final = 0.01
#: Normal standard deviations of one median absolute deviation.
_MAD: Final = 1.4826


def without_wild_runs(sweep: Sweep) -> Sweep:
    """Set aside losses that no scatter explains.

    Parameters
    ----------
    sweep : Sweep
        Runs.

    Returns
    -------
    Sweep
        The same, or without these rows and with a note ``runs_set_aside`` that names them. Cells of fewer than 12
        runs, and runs without sizes, are not judged.
    """
    if not sweep.has_sizes:
        return sweep
    losses = sweep.table[sweep.table["metric"] == "loss"]
    found = dict[object, float]()
    for _, runs in losses.groupby(["train_set", "eval_set"], sort=True):
        found |= _wild(runs)
    return sweep.without(list(found), _note(losses.loc[list(found)], list(found.values()))) if found else sweep


def _wild(runs: pd.DataFrame) -> dict[object, float]:
    """Rows of one cell that are wild, with the losses that they would be expected to have."""
    if len(runs) < FEWEST:
        return {}
    loss = runs["loss"].to_numpy()
    # The plane of all runs is quickly made, and no run bends it; the law of the others knows where it levels off.
    suspect = _is_far(np.log(loss / expected_losses(runs)), np.ones(len(runs), dtype=bool))
    if not 0 < suspect.sum() <= max(MOST * len(runs), 1):
        return {}
    others = runs[~suspect]
    law = fit_point(others["params"], others["tokens"], others["loss"], law="chinchilla")
    expected = law.predict(runs["params"], runs["tokens"])
    wild = suspect & _is_far(np.log(loss / expected), ~suspect)
    return dict(zip(runs.index[wild], expected[wild].tolist(), strict=True))


def _is_far(residual: Floats, others: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    scale = max(_MAD * float(np.median(np.abs(residual[others]))), _LEAST_SCALE)
    return np.asarray(np.abs(residual) > max(np.log(FACTOR), DEVIATIONS * scale))


def _note(wild: pd.DataFrame, expected: list[float]) -> Note:
    """Say which losses were set aside."""
    said, data = [], {}
    for (_, row), usual in zip(wild.iterrows(), expected, strict=True):
        name = f"run {row['run_id']!r} on {row['eval_set']}@{row['train_set']}"
        data[name] = {"loss": float(row["loss"]), "expected": float(f"{usual:.3g}")}
        said.append(f"{name} has {row['loss']:.3g}, where {usual:.3g} is to be expected{why_odd(row['loss'], usual)}")
    more = f"; and {len(said) - 3} more" if len(said) > 3 else ""
    one = len(said) == 1
    message = (
        f"{'a loss was' if one else f'{len(said)} losses were'} set aside and not fitted, since no scatter explains "
        f"{'it' if one else 'them'}: {'; '.join(said[:3])}{more}; correct the table, or fit with outliers 'keep' "
        f"(--outliers keep) if {'it is' if one else 'they are'} right"
    )
    return Note("runs_set_aside", "warning", message, {"losses": data})
