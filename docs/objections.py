"""Make the page of what is said of bad inputs, `objections.md`, by handing them in.

python docs/objections.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import L2LError
from bayes_l2l.structures.models import load_spec

PAGE: Final = Path(__file__).with_name("objections.md")

INTRODUCTION: Final = """
# What is said of bad inputs

Made by `python docs/objections.py`, which hands each of these in: the words are those that a user sees. What
cannot be right is refused, by row, and all of a table's faults at once; what can be right, and seldom is,
becomes a note, which is stored with the fit and shown wherever its numbers are. `bayes-l2l check` shows the
notes of a fit.
"""

OTHERS: Final = """
Other notes on tables: `missing_cells` (blank evaluations of a wide table, counted), `near_miss_column` (a
column that is not used and looks like a misspelt one), `no_own_loss` (a training set without its own validation
loss, where others have one), `one_token_count`, `chance_upside_down` (a chance that is an accuracy),
`rows_left_out`, `renamed_evaluations` and `size_from_flops` (what a mapping asks for, or is made from the rest),
`errors_without_loss` (error rates of runs that have no loss) and `data_differs` (a known data set that is not the
one that was published). Where there are no params and tokens, a fit says what it left out: `without_anchor`
(losses of runs that lack the evaluation which the others are related to), `checkpoints_thinned` (those that are
not independent) and `errors_left_out` (error rates).
"""

SET_ASIDE: Final = """
A fit, and each fit of a backtest, leaves out losses that are more than 1.5 times and 20 robust standard deviations
off, both from a plane through all runs of their cell and from the law of the others, and names them; of a cell of
at least 12 runs, and no more than a tenth of these. `outliers="keep"`, `--outliers keep`, fits them like the rest.
In the fourteen public sweeps and studies that this was tried on nothing is left out.
"""

AFTER: Final = """
## After sampling

These notes are made from the draws.

| code | what it objects to |
|---|---|
| `outlying_runs` | losses that lie six robust standard deviations off the law of their cell; the run is named |
| `E_not_identified` | the irreducible entropy is hardly known: forecasts far out rest on its prior |
| `rhat`, `ess`, `divergences`, `bfmi`, `interrupted` | chains that disagree, few draws, corners not explored |
| `thinned` | chains that had to be longer than asked for, of which one draw of so many is kept |
| `approximate`, `several_modes` | draws of method `laplace`, what they are worth, and modes between which it weighs |
| `below_fitted` | a forecast from losses (`given`) below every fitted one |
| `at_chance` | error rates of a task that no run has learned |
| `far_extrapolation`, `tested`, `not_tested` | forecasts further out than backtests have gone, or how these did |
| `far_below` | forecasts of runs far smaller than those of the fit |
| `never_trained`, `beyond_mixtures` | mixtures forecast from weights alone, or with more of a domain than fitted |
| `shared_optimum`, `optimum_not_seen` | compute-optimal sizes that all sets share by the model, or no run surrounds |
| `not_compared` | forecasts that not all models of a comparison made |
| `no_loo`, `loo_not_trusted` | models of a comparison that cannot leave losses out, or not without fitting again |
| `untrusted_splits`, `split_failed`, `cells_left_out` | of a backtest |

## What cannot be seen

A table whose losses are all bits, or one training set in bits that shares no evaluation with another, looks
like other data. So does a typing error that moves a loss by less than the runs scatter, a run whose data were
the evaluation's, and perplexities below 7.5. Nothing is said of them.
"""


def runs(train_set: str = "web", *, seed: int = 0, level: float = 1.0) -> pd.DataFrame:
    """Twelve runs with losses as a law has them: nothing is said of them."""
    rng = np.random.default_rng(seed)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 1e9, 4), np.geomspace(1e9, 2e10, 3)))
    loss = level * (1.7 + 400 / n**0.34 + 400 / d**0.28) * np.exp(0.003 * rng.standard_normal(len(n)))
    table = pd.DataFrame(
        {"run_id": [f"r{i}" for i in range(len(n))], "params": n, "tokens": d, "loss": loss.round(4)}
    )
    return table.assign(train_set=train_set, eval_set=train_set)


def one(column: str, value: Any) -> pd.DataFrame:
    """The runs with one cell changed, in the third row of the file."""
    table = runs().astype({column: object})
    table.loc[1, column] = value
    return table


def with_evaluation(name: str, of: Callable[[pd.Series], pd.Series]) -> pd.DataFrame:
    """The runs with another evaluation."""
    return pd.concat([runs(), runs().assign(eval_set=name, loss=lambda t: of(t["loss"]).round(4))])


def in_bits() -> pd.DataFrame:
    """Three training sets, evaluated on each other, one of them in bits."""
    names = ("code", "maths", "web")
    cells = [
        runs(train, seed=3 * i + j, level=(0.7, 1.0, 1.2)[j] * (1.0 if i == j else 1.15)).assign(eval_set=evaluation)
        for i, train in enumerate(names)
        for j, evaluation in enumerate(names)
    ]
    table = pd.concat(cells)
    return table.assign(loss=table["loss"].where(table["train_set"] != "maths", table["loss"] / np.log(2)).round(4))


def twice() -> pd.DataFrame:
    """A run under two names."""
    return pd.concat([runs(), runs()[4:5].assign(run_id="resumed")])


def two_seeds_of_a_name() -> pd.DataFrame:
    """Two runs under one name."""
    return pd.concat([runs(), runs()[4:5].assign(loss=3.0)])


TABLES: Final[dict[str, Callable[[], pd.DataFrame]]] = {
    "N = 1e300": lambda: one("params", 1e300),
    "N = 0.4, billions amid counts": lambda: one("params", 0.4),
    "all N in billions": lambda: runs().assign(params=lambda t: t["params"] / 1e9),
    "a blank loss": lambda: one("loss", ""),
    "a loss that is infinite": lambda: one("loss", float("inf")),
    "a loss of 1e-9": lambda: one("loss", 1e-9),
    "a loss that is `True`": lambda: one("loss", True),
    "a loss that is text": lambda: one("loss", "3,1"),
    "a loss of 14, diverged or a perplexity": lambda: one("loss", 14.0),
    "a loss of 7.5, diverged": lambda: one("loss", 7.5),
    "an accuracy in the place of a loss": lambda: one("loss", 0.41),
    "one loss in bits": lambda: one("loss", round(float(runs()["loss"][1] / np.log(2)), 4)),
    "perplexities of 10 to 40": lambda: with_evaluation("books", lambda loss: np.exp(loss)),
    "perplexities of 8 to 12": lambda: with_evaluation("books", lambda loss: 5 + 1.5 * loss),
    "accuracies among losses": lambda: with_evaluation("quiz", lambda loss: 1 - loss / 5),
    "an evaluation that is named as one": lambda: with_evaluation("quiz_acc", lambda loss: loss),
    "one training set in bits": in_bits,
    "losses that rise with compute": lambda: runs().assign(loss=lambda t: 6 - t["loss"]),
    "one run under two names": twice,
    "two runs under one name": two_seeds_of_a_name,
    "compute in another unit": lambda: runs().assign(flops=lambda t: 6 * t["params"] * t["tokens"] / 8.64e19),
    "compute of a part of the training": lambda: runs().assign(flops=lambda t: t["params"] * t["tokens"]),
    "neither params nor tokens": lambda: runs().drop(columns=["params", "tokens"]),
    "five runs": lambda: runs()[:5],
    "one model size": lambda: runs().assign(params=1e8),
}

#: Tables that a fit takes a loss out of.
WILD: Final = {what: TABLES[what] for what in ("a loss of 14, diverged or a perplexity", "a loss of 7.5, diverged")}

NORMAL: Final = {"dist": "Normal", "kwargs": {"mu": 0.0, "sigma": 1.0}}
MODELS: Final[dict[str, dict[str, Any]]] = {
    "a scale that may be negative": {"likelihood": {"residual_scale": NORMAL}},
    "a fraction without its transform": {"priors": {"share": NORMAL}},
    "an exponent that may be negative": {"priors": {"alpha": NORMAL}},
    "a standard deviation that may be negative": {
        "priors": {"c": {"dist": "LogNormal", "kwargs": {"mu": 0.0, "sigma": NORMAL}}}
    },
    "an empty interval": {"priors": {"share": {"dist": "Uniform", "kwargs": {"lower": 0.7, "upper": 0.3}}}},
    "a number beyond all floats": {"likelihood": {"weight_exponent": 10**30}},
    "a name that is misspelt": {"priors": {"gama": 1.0}},
}


def of_table(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What is said of a table: how, and in which words; rows are counted as in a file."""
    try:
        sweep = Sweep.from_table(table.set_axis(range(2, len(table) + 2)))
    except L2LError as error:
        first, *others = (fault.replace("index ", "row ") for fault in getattr(error, "faults", [str(error)]))
        return [("refused", first + (f" (and {len(others)} more such rows)" if others else ""))]
    return [(f"{note.severity} `{note.code}`", note.message) for note in sweep.notes]


def of_model(changes: dict[str, Any]) -> list[tuple[str, str]]:
    """What is said of the model file `law` with some entries changed."""
    record = load_spec("law").to_dict()
    try:
        load_spec(record | {part: record[part] | entries for part, entries in changes.items()})
    except L2LError as error:
        return [("refused", str(error))]
    return []


def of_fit(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What a fit says of a table before it draws."""
    from bayes_l2l.point_fits.wild_runs import without_wild_runs

    notes = without_wild_runs(Sweep.from_table(table)).notes
    return [(f"{note.severity} `{note.code}`", note.message) for note in notes]


def page() -> str:
    """The page."""
    tables = {what: of_table(make()) for what, make in TABLES.items()}
    fitted = {what: of_fit(make()) for what, make in WILD.items()}
    models = {what: of_model(changes) for what, changes in MODELS.items()}
    parts = [INTRODUCTION]
    for heading, said, further in (
        ("Tables of runs", tables, OTHERS),
        ("Before sampling", fitted, SET_ASIDE),
        ("Model files", models, ""),
    ):
        lines = [f"| {what} | {how} | {_cell(words)} |" for what, found in said.items() for how, words in found]
        parts.append(
            "\n".join([f"## {heading}\n", "| what is handed in | | what is said |", "|---|---|---|", *lines, further])
        )
    return "\n\n".join(part.strip("\n") for part in [*parts, AFTER]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
