"""What a careful colleague would say about a table before anything is fitted to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bayes_l2l.data.mixtures import weight_columns
from bayes_l2l.data.oddities import far_off, not_nats, one_set_in_bits, repeated, rising
from bayes_l2l.data.rates import error_rates
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN, LAW_PARAMETERS
from bayes_l2l.notes import Note, some

if TYPE_CHECKING:
    import pandas as pd

NO_SIZES: Final = Note(
    "no_sizes",
    "info",
    "no params and tokens: rows of one run_id (and step) are losses that belong together; they are related to each "
    "other alone, and nothing is said of sizes or compute",
)
"""What there is to say of a table whose runs have no sizes."""
#: Models that are no better than guessing err more than chance by less.
_ABOVE_CHANCE: Final = 0.1


def assess(table: pd.DataFrame) -> tuple[Note, ...]:
    """Say what a careful colleague would about a canonical long table, whatever the order of its rows.

    Parameters
    ----------
    table : pandas.DataFrame
        As in a `Sweep`.

    Returns
    -------
    tuple of Note
        With the codes ``too_few_runs``, ``one_model_size``, ``one_token_count``, ``no_own_loss``,
        ``chance_upside_down``, ``flops_mismatch``, and those of `bayes_l2l.data.oddities`; of a table without sizes
        ``no_sizes`` alone.
    """
    if len(table) and table["params"].isna().all():
        return (NO_SIZES,)
    losses = table[table["metric"] == "loss"]
    notes = []
    counts = (losses["eval_set"] + "@" + losses["train_set"]).value_counts().sort_index()
    few = {str(cell): int(n) for cell, n in counts.items() if n < LAW_PARAMETERS}
    # Of mixtures, which have no law each, one run is enough.
    mixed = bool(weight_columns(table))
    if few and not mixed:
        message = (
            f"fewer runs than a law has parameters ({LAW_PARAMETERS}) in {some(few)}; "
            "their laws rest on the other cells and the priors"
        )
        notes.append(Note("too_few_runs", "warning", message, {"cells": few}))
    sizes = losses.groupby("train_set")[["params", "tokens"]].agg(["min", "max"])
    for column, code, what in (
        ("params", "one_model_size", "one model size"),
        ("tokens", "one_token_count", "one number of tokens"),
    ):
        low, high = sizes[column, "min"], sizes[column, "max"]
        only = {str(train_set): float(size) for train_set, size in low[low == high].items()}
        if only and not mixed:
            message = f"only {what} in {some(only)}; how {column} change its loss is left to the other sets"
            notes.append(Note(code, "warning", message, {"train_sets": only}))
    own = set(losses.loc[losses["eval_set"] == losses["train_set"], "train_set"])
    lacking = sorted({str(train_set) for train_set in losses["train_set"].unique()} - own)
    if own and lacking:
        message = (
            f"no evaluation is said to be on the own validation data of {some(lacking)}, but some of other training "
            "sets are; name it like the training set, or under [own] in the mapping file, if there is one"
        )
        notes.append(Note("no_own_loss", "info", message, {"train_sets": lacking}))
    notes += _upside_down(table)
    computed = FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"]
    ratio = table["flops"] / computed
    run = ["train_set", "run_id"]
    off = table[(ratio > 3) | (ratio < 1 / 3)].drop_duplicates(run).sort_values(run)
    if len(off):
        first, n_runs = off.iloc[0], len(table.drop_duplicates(run))
        message = (
            f"flops differ from 6 N D more than threefold in {len(off)} of {n_runs} runs (run "
            f"{first['run_id']!r}: {first['flops']:.3g} against {computed[off.index[0]]:.3g}); "
            "is the column the compute of the whole training?"
        )
        notes.append(Note("flops_mismatch", "warning", message, {"n_runs": len(off)}))
    # In one order, since sums of floats depend on theirs.
    sorted_losses = losses.sort_values(["train_set", "eval_set", "params", "tokens", "run_id"], ignore_index=True)
    # What the losses of sets on all evaluations have in common, mixtures have by being good or bad.
    for found in (far_off, rising, not_nats, *(() if mixed else (one_set_in_bits,)), repeated):
        notes += found(sorted_losses)
    return tuple(notes)


def _upside_down(table: pd.DataFrame) -> list[Note]:
    """Note on evaluations whose chance is said as the accuracy of guessing, not as its error rate."""
    if "chance" not in table:
        return []
    of_task = error_rates(table).groupby("eval_set")[["loss", "chance"]].median()
    wrong = of_task[of_task["loss"] > of_task["chance"] + _ABOVE_CHANCE]
    if wrong.empty:
        return []
    first = wrong.iloc[0]
    message = (
        f"chance of {some(list(wrong.index))} is below most error rates ({first['chance']:.2g}, and half of the "
        f"errors are above {first['loss']:.2g}): chance is the error rate of guessing (0.75 with four answers), also "
        "where accuracies are given"
    )
    return [Note("chance_upside_down", "warning", message, {"chance": wrong["chance"].to_dict()})]
