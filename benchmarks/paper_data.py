"""Runs of arXiv 2411.12925 as its tables use them, and the figures that it prints."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

import bayes_l2l as l2l
from bayes_l2l.data.datasets import DataFile, Dataset
from bayes_l2l.laws.scaling import Law

EDU = "fineweb-edu-100b"
#: In the order of the paper's tables.
SETS = (
    "fineweb-100b",
    EDU,
    "proof-pile-2",
    "slimpajama-chunk1",
    "smollm-corpus",
    "starcoder",
)
#: The paper's downstream tasks; the loss is that of the right answer.
TASKS = (
    "hellaswag",
    "arc_easy",
    "arc_challenge",
    "mmlu_humanities",
    "mmlu_other",
    "mmlu_social_sciences",
    "mmlu_stem",
    "openbook_qa",
    "piqa",
    "sciq",
    "winogrande",
)
TABLE2_TASKS = ("hellaswag", "arc_easy", "mmlu_humanities", "mmlu_stem")

#: Table 1: R2 on all runs of a set, by column.
TABLE1 = {
    "skyline": (0.992, 0.992, 0.988, 0.992, 0.992, 0.987),
    "theirs": (0.990, 0.990, 0.988, 0.991, 0.991, 0.986),
    "independent": (0.961, 0.953, 0.928, 0.975, 0.947, 0.450),
}
METHODS = ("train-to-test", "test-to-test", "FLOPs-to-loss", "scaling law", "identity")
#: Table 2: relative error (%) of the large run's loss on the tasks of `TABLE2_TASKS`.
TABLE2 = {
    "train-to-test": (1.6, 10.2, 2.8, 6.4),
    "test-to-test": (1.2, 17.6, 23.1, 6.4),
    "FLOPs-to-loss": (1.7, 14.3, 4.4, 5.9),
    "scaling law": (2.1, 16.8, 4.7, 7.6),
    "identity": (9.2, 24.8, 11.0, 11.5),
}
#: Tables 7 to 9, from FineWeb-Edu: kappa, K, E0, E1 by target.
TABLE7 = {
    "fineweb-100b": (1.00, 1.01, 1.97, 2.17),
    "proof-pile-2": (1.07, 0.60, 1.97, 1.32),
    "slimpajama-chunk1": (0.97, 1.05, 1.97, 1.97),
    "smollm-corpus": (1.01, 1.07, 1.97, 1.53),
    "starcoder": (1.10, 0.63, 1.97, 0.85),
}
TABLE8 = {
    "fineweb-100b": (1.05, 0.98, 2.12, 2.08),
    "proof-pile-2": (0.74, 1.60, 2.12, 2.39),
    "slimpajama-chunk1": (0.95, 1.11, 2.12, 2.08),
    "smollm-corpus": (0.99, 1.01, 2.12, 2.10),
    "starcoder": (0.74, 1.64, 2.12, 2.48),
}
TABLE9 = {
    "hellaswag": (1.08, 0.93, 1.97, 2.12),
    "arc_easy": (0.36, 4.68, 1.97, 0.07),
    "mmlu_humanities": (0.96, 1.14, 1.97, 2.79),
    "mmlu_stem": (0.53, 2.35, 1.97, 1.41),
}

_REPOSITORY = "https://raw.githubusercontent.com/KempnerInstitute/loss-to-loss-notebooks"
_AUTHORS_FITS = DataFile(
    "loss_to_loss/opt_params_data.csv",
    "76387309dbff8f4c1b03a12bdc6372ef094e8b580cbfe7a5040ec8ce436457fb",
    f"{_REPOSITORY}/457ce81a019019bc3981937c20a70c52f5fad436/data/opt_params_data.csv",
)


@dataclass(frozen=True, eq=False)
class Runs:
    """The sweep and the held-out large runs, every evaluation, as long tables."""

    sweep: pd.DataFrame
    large: pd.DataFrame

    @classmethod
    def load(cls) -> Runs:
        """Read them where `load_sweep` finds them."""
        name = "loss-to-loss"
        both = (l2l.load_sweep(name, eval_sets="all"), l2l.large_runs(name, eval_sets="all"))
        return cls(*(sweep.select(metric="loss").table for sweep in both))

    @cached_property
    def train_losses(self) -> Runs:
        """The train losses alone."""
        return replace(self, sweep=train_losses(self.sweep), large=train_losses(self.large))

    def large_loss(self, evaluation: str, train: str) -> float:
        """Loss of one large run."""
        return float(cell(self.large, evaluation, train)["loss"].iloc[0])


def train_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of train losses."""
    return table[table["eval_set"] == table["train_set"]]


def cell(table: pd.DataFrame, evaluation: str, train: str) -> pd.DataFrame:
    """Rows of one cell."""
    return table[(table["eval_set"] == evaluation) & (table["train_set"] == train)]


def others(table: pd.DataFrame, train: str) -> pd.DataFrame:
    """Rows of all training sets but one."""
    return table[table["train_set"] != train]


def eight(table: pd.DataFrame) -> pd.DataFrame:
    """The "8 runs" of a new set: near 20 tokens a parameter, and none of 20 layers (6 to 8 runs a set)."""
    return table[(table["data_ratio"] > 16) & (table["data_ratio"] < 23) & (table["n_layers"] != 20)]


def paired(source: pd.DataFrame, target: pd.DataFrame) -> pd.DataFrame:
    """The target's runs that the source has too, with its loss as y and the source's, averaged over repeats, as x."""
    size = ["params", "tokens"]
    x = source.groupby(size)["loss"].mean().rename("x").reset_index()
    return target.rename(columns={"loss": "y"}).merge(x, on=size)


def renamed(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """The same runs with other names of sets, as training sets and as evaluations.

    Cells of one name are one compiled model, whatever they stand for.
    """
    return table.assign(train_set=table["train_set"].replace(names), eval_set=table["eval_set"].replace(names))


def authors_laws() -> dict[tuple[str, str], Law]:
    """The authors' own fits of Eq. 4, by (eval_set, train_set)."""
    source = Dataset("authors-fits", "point fits of arXiv 2411.12925", "none stated", _REPOSITORY, (_AUTHORS_FITS,))
    table = pd.read_csv(l2l.fetch(source) / _AUTHORS_FITS.path)
    mapping = tomllib.loads((files("bayes_l2l.data") / "mappings" / "loss-to-loss.toml").read_text(encoding="utf-8"))
    columns = {column: name for name, column in mapping["losses"].items()}
    trains = {evaluation: train for train, evaluation in mapping["own"].items()}
    laws = {}
    for row in table[table["kaplan"]].itertuples():
        if row.loss_name in columns:
            name = columns[row.loss_name]
            law = Law(row.E, np.log(row.A), np.log(row.B), row.alpha, row.beta, gamma=row.beta)
            laws[trains.get(name, name), row.data] = law
    return laws


def r_squared(actual: Any, predicted: Any) -> float:
    """Part of the variance of losses that predictions explain."""
    y, f = np.asarray(actual, dtype=float), np.asarray(predicted, dtype=float)
    return float(1 - np.sum((y - f) ** 2) / np.sum((y - y.mean()) ** 2))
