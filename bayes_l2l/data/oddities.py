"""Oddities: losses that are finite numbers and yet may be no losses, of other runs, or of runs that went wrong.

Each function takes the losses of a canonical table, in an order of their own, and returns notes or none. Thresholds
were set on the public sweeps and on eleven published studies: what they call odd there is (a run of 2.8e9 parameters
on 1e8 tokens repeated; rows that stand twice).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.notes import Note, some

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

#: Runs of a cell from which on a plane says what a run of their sizes has; fewer are held to their median.
FEWEST_FOR_PLANE: Final = 8
#: A loss is far off the plane by this factor and this many robust standard deviations, or off the median by a factor.
FAR_FROM_PLANE: Final = 1.35
FAR_DEVIATIONS: Final = 6.0
FAR_FROM_MEDIAN: Final = 3.0
#: Rank correlation of loss with compute from which on losses rise, and the fewest runs that can tell.
RISING: Final = 0.6
FEWEST_FOR_RISING: Final = 6
#: Median (nats/token) of an evaluation that trained models hardly have: perplexities of 8 to 12 do.
HIGH: Final = 7.5
#: Between the log levels of one training set and the others on the same evaluations: bits are .37 higher. The largest
#: in public sweeps is .22.
BITS: Final = (0.27, 0.47)
#: How much that may differ between evaluations.
BITS_SPREAD: Final = 0.15
_FEWEST_COMMON: Final = 2
_FEWEST_DIGITS: Final = 4  # of all losses of a run, from which on two runs are not equal by chance
_STEPS: Final = 15
_SMALLEST: Final = 1e-3  # residual of log loss that weights level off at
_LEAST_SCALE: Final = 0.01
#: Normal standard deviations of one median absolute deviation.
_MAD: Final = 1.4826
_CELL: Final = ["train_set", "eval_set"]
_NOT_A_LOSS: Final = {
    "an accuracy": r"acc(uracy)?|exact_match|em|f1|mcc|pass@\d+",
    "an error rate": r"err(or)?(_rate)?|wer|cer",
    "a perplexity": r"ppl|perplexity",
    "bits": r"bits?|bpb|bpc|bits_per_\w+",
}
_REMEDY: Final = {
    "an accuracy": "give 1 - accuracy with metric 'error'",
    "an error rate": "give it the metric 'error'",
    "a perplexity": "give log(perplexity), or say so under [units] of a mapping file",
    "bits": "multiply by log(2), or say so under [units] of a mapping file; bits per byte also by bytes a token",
}


def far_off(losses: pd.DataFrame) -> list[Note]:
    """Note on losses that lie far off what runs of about their sizes have (``odd_losses``)."""
    found: dict[str, dict[str, float]] = {}
    said = []
    for (train_set, eval_set), runs in losses.groupby(_CELL, sort=True):
        expected = expected_losses(runs)
        for i in np.flatnonzero(_is_far(runs["loss"].to_numpy(), expected)):
            loss, run_id = float(runs["loss"].iloc[i]), runs["run_id"].iloc[i]
            name = f"run {run_id!r} on {eval_set}@{train_set}"
            found[name] = {"loss": loss, "expected": float(f"{expected[i]:.3g}")}
            said.append(
                f"{name} has {loss:.3g}, where {expected[i]:.3g} is to be expected{why_odd(loss, expected[i])}"
            )
    if not found:
        return []
    more = f"; and {len(said) - 3} more" if len(said) > 3 else ""
    message = (
        f"{'a loss lies' if len(said) == 1 else f'{len(said)} losses lie'} far off what runs of about the same size "
        f"have: {'; '.join(said[:3])}{more}; correct it, or take the run out of the table: it widens or bends every "
        "forecast"
    )
    return [Note("odd_losses", "warning", message, {"losses": found})]


def expected_losses(runs: pd.DataFrame) -> Floats:
    """Loss that runs of these sizes have: a plane of log loss by least absolute deviations, or the median of few.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of one cell: params, tokens, loss.

    Returns
    -------
    ndarray, shape (run,)
        Nats/token.
    """
    log_loss = np.log(runs["loss"].to_numpy())
    if len(runs) < FEWEST_FOR_PLANE:
        return np.full(len(runs), np.exp(np.median(log_loss)))
    sizes = np.log(runs[["params", "tokens"]].to_numpy())
    terms = np.column_stack([np.ones(len(runs)), sizes - sizes.mean(axis=0)])
    weight, height = np.ones(len(runs)), log_loss
    for _ in range(_STEPS):
        root = np.sqrt(weight)
        height = terms @ np.linalg.lstsq(terms * root[:, None], log_loss * root, rcond=None)[0]
        weight = 1 / np.maximum(np.abs(log_loss - height), _SMALLEST)
    return np.asarray(np.exp(height))


def _is_far(loss: Floats, expected: Floats) -> npt.NDArray[np.bool_]:
    off = np.abs(np.log(loss / expected))
    if len(loss) < FEWEST_FOR_PLANE:
        # Two runs do not say which of them is off.
        return np.asarray((off > np.log(FAR_FROM_MEDIAN)) & (len(loss) > 2))
    scale = max(_MAD * float(np.median(off)), _LEAST_SCALE)
    return np.asarray((off > np.log(FAR_FROM_PLANE)) & (off > FAR_DEVIATIONS * scale))


def why_odd(loss: float, expected: float) -> str:
    """What the loss may be instead, in brackets."""
    if loss > 1 and abs(np.log(np.log(loss) / expected)) < 0.1:
        return f" (a perplexity? its logarithm is {np.log(loss):.3g})"
    if abs(np.log(loss * np.log(2) / expected)) < 0.07:
        return f" (bits? that would be {loss * np.log(2):.3g} nats)"
    if loss < 1 < expected:
        return " (an accuracy or an error rate?)"
    return " (did it diverge?)" if loss > expected else ""


def rising(losses: pd.DataFrame) -> list[Note]:
    """Note on cells whose losses rise with compute (``rising_losses``)."""
    found = {}
    for (train_set, eval_set), runs in losses.groupby(_CELL, sort=True):
        if len(runs) < FEWEST_FOR_RISING or runs["flops"].nunique() < FEWEST_FOR_RISING or runs["loss"].nunique() < 2:
            continue
        correlation = float(runs["flops"].rank().corr(runs["loss"].rank()))
        if correlation > RISING:
            found[f"{eval_set}@{train_set}"] = float(f"{correlation:.2f}")
    if not found:
        return []
    fractions = losses.groupby(_CELL)["loss"].max() < 1
    rates = [name for name in found if fractions[tuple(name.rsplit("@", 1)[::-1])]] if found else []
    said = f"; {some(rates)} may be accuracies: {_REMEDY['an accuracy']}" if rates else ""
    message = (
        f"losses rise with compute in {some(found)}, and no law of this family does: its forecasts there are not "
        f"to be used{said}"
    )
    return [Note("rising_losses", "warning", message, {"correlation": found})]


def not_nats(losses: pd.DataFrame) -> list[Note]:
    """Note on evaluations that their names or values say are no losses in nats per token (``not_nats``)."""
    said = {}
    own = losses[losses["eval_set"] == losses["train_set"]].groupby("train_set")["loss"].median()
    for eval_set, runs in losses.groupby("eval_set", sort=True):
        name = str(eval_set)
        named = next((what for what, words in _NOT_A_LOSS.items() if _says(name, words)), None)
        known = own[own.index.isin(runs["train_set"].unique())]
        median, train_loss = float(runs["loss"].median()), float(known.median())
        if named:
            said[name] = f"{name!r} is named like {named}: if it is one, {_REMEDY[named]}"
        elif median > HIGH:
            said[name] = (
                f"{name!r} has a median of {median:.3g} nats per token, which trained models hardly have: if these "
                f"are perplexities, {_REMEDY['a perplexity']}"
            )
        elif runs["loss"].max() < 1 and train_loss > 1.5:
            said[name] = (
                f"all {len(runs)} losses on {name!r} are below 1, where train losses are about {train_loss:.3g}: if "
                "they are error rates or accuracies, give error rates with metric 'error'"
            )
    if not said:
        return []
    message = "; ".join(list(said.values())[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")
    return [Note("not_nats", "warning", f"may be no losses in nats per token: {message}", {"eval_sets": list(said)})]


def _says(name: str, words: str) -> bool:
    return re.search(rf"(?:^|[^a-z0-9])(?:{words})(?:[^a-z0-9]|$)", name.lower()) is not None


def one_set_in_bits(losses: pd.DataFrame) -> list[Note]:
    """Note on training sets whose losses exceed the others' on the same evaluations as bits do nats (``bits``)."""
    levels = losses.assign(level=np.log(losses["loss"])).groupby(["eval_set", "train_set"])["level"].median()
    table = levels.unstack().dropna()  # noqa: PD010 - nothing to aggregate
    if len(table) < _FEWEST_COMMON or len(table.columns) < 2:
        return []
    found = {}
    for train_set in table:
        above = table[train_set] - table.drop(columns=train_set).median(axis=1)
        middle = float(above.median())
        spread = _MAD * float((above - middle).abs().median())
        if BITS[0] < middle < BITS[1] and spread < BITS_SPREAD:
            found[str(train_set)] = float(f"{np.exp(middle):.3g}")
    if not found:
        return []
    times = ", ".join(f"{name} ({ratio:.3g} times the others')" for name, ratio in found.items())
    message = (
        f"losses of {times} are higher than the others' on {len(table)} evaluations alike, about as bits are than "
        f"nats (1.44 times): if they are bits, multiply them by log(2)"
    )
    return [Note("bits", "warning", message, {"ratio": found})]


def repeated(losses: pd.DataFrame) -> list[Note]:
    """Note on runs of one size with losses equal to the last digit: one run under two names (``repeated_runs``)."""
    value = ["params", "tokens", "eval_set", "loss"]
    same = losses[losses.duplicated(value, keep=False)]
    if same.empty:
        return []
    n_losses = losses.groupby(["train_set", "run_id"]).size()
    digits: dict[tuple[Any, Any], list[int]] = {}
    for (*_, loss), rows in same.groupby(value, sort=True):
        first, *others = sorted(zip(rows["train_set"], rows["run_id"], strict=True))
        for other in others:
            digits.setdefault((first, other), []).append(_digits(loss))
    # One evaluation of many may be equal by chance, and so may one that is given with few digits.
    found = [
        f"{_run(first)} and {_run(other)}"
        for (first, other), equal in digits.items()
        if len(equal) >= min(n_losses[first], n_losses[other]) and sum(equal) >= _FEWEST_DIGITS
    ]
    if not found:
        return []
    more = f"; and {len(found) - 2} more such pairs" if len(found) > 2 else ""
    message = (
        f"runs of one size have the same losses to the last digit: {'; '.join(found[:2])}{more}; if they are one "
        "run, keep one of its names: it counts twice"
    )
    return [Note("repeated_runs", "warning", message, {"runs": found})]


def _run(run: tuple[str, str]) -> str:
    return f"run {run[1]!r} of {run[0]}"


def _digits(loss: Any) -> int:
    """Significant digits that a loss is given with."""
    return len(f"{loss:.10g}".replace(".", "").strip("0").partition("e")[0])
