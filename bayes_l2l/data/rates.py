"""Error rates and accuracies: one and the same to a model, and each shown as it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import pandas as pd

#: What a row of a table may hold: a loss, or how often answers are wrong, or right.
Metric = Literal["loss", "error", "accuracy"]
#: Those that are fractions.
RATES: Final = ("error", "accuracy")
METRICS: Final = ("loss", *RATES)
#: What it is called, and which of two is better.
WORDS: Final = {"loss": "loss", "error": "error rate", "accuracy": "accuracy"}
PLURALS: Final = {"loss": "losses", "error": "error rates", "accuracy": "accuracies"}
BETTER: Final = {"loss": "lowest", "error": "lowest", "accuracy": "highest"}


def sign(metric: str) -> float:
    """1 where less is better, and -1 where more is."""
    return -1.0 if metric == "accuracy" else 1.0


def difference_unit(metric: str, loss_unit: str) -> str:
    """What a difference is measured in, for sentences, where losses are in `loss_unit`."""
    return loss_unit if metric == "loss" else f"in {WORDS[metric]}"


def is_rate(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether each row is an error rate or an accuracy."""
    return table["metric"].isin(RATES)


def error_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of error rates and accuracies, their column ``loss`` all as error rates."""
    rows = table[is_rate(table)]
    return rows.assign(loss=rows["loss"].where(rows["metric"] != "accuracy", 1 - rows["loss"]))
