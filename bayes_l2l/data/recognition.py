"""What a column of an unknown table is, by its name and by what stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.data.numerals import read_number
from bayes_l2l.data.tables import is_blank

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Error rate of guessing, of tasks that everybody evaluates.
CHANCE: Final = {
    "arc_challenge": 0.75, "arc_c": 0.75, "arc_easy": 0.75, "arc_e": 0.75, "boolq": 0.5, "commonsense_qa": 0.8,
    "copa": 0.5, "csqa": 0.8, "hellaswag": 0.75, "mmlu": 0.75, "openbookqa": 0.75, "obqa": 0.75, "piqa": 0.5,
    "race": 0.75, "sciq": 0.75, "winogrande": 0.5,
}  # fmt: skip
#: Parts of names that say where a logger put a column, not what it is.
_PLACES: Final = frozenset(
    ["config", "configs", "cfg", "args", "hparams", "summary", "summaries", "metrics", "metric", "final", "last"]
)
_HELD_OUT: Final = frozenset(
    ["eval", "evals", "evaluation", "val", "valid", "validation", "test", "dev", "heldout", "holdout", "downstream"]
)
_LOSS: Final = re.compile(r"\b(loss(es)?|nll|ce|xent|cross entropy|perplexity|ppl|bpb|bpt|bits per \w+)\b")
_ACCURACY: Final = re.compile(r"\b(acc|accuracy|acc norm|len norm|exact match|em|mc1|mc2|pass 1|score|pct correct)$")
_ERROR: Final = re.compile(r"\b(err|error|error rate)$")
_MEASURES: Final = frozenset(
    ["loss", "nll", "ce", "xent", "ppl", "perplexity", "bpb", "bpt", "cross", "entropy", "acc", "accuracy", "norm",
     "len", "exact", "match", "em", "score", "err", "error", "rate", "train", "training", "lm", "_", "-", "%", "pct",
     "percent"]
)  # fmt: skip
_NOISE: Final = _PLACES | _HELD_OUT | _MEASURES
_LEAST_LOSS: Final = 0.05  # nats/token: below are losses of other things
#: Words of numbers about losses and accuracies that are neither.
_NEITHER: Final = re.compile(
    r"\b(aux|z loss|zloss|balanc\w*|router|kl|mse|stderr|std|se|sem|sd|var|grad\w*|scale|spike\w*|weight\w*|ema|"
    r"reg\w*|distill\w*|time|count|n|num|lr|delta|diff|threshold|target|patience|best|min|max|fn|function|type)\b"
)
_RUN: Final[dict[str, tuple[str, str]]] = {  # pattern of the name, and of names that are something else
    "params": (
        r"\bparam(s|eters?)?( count| num\w*)?( [mbk]| millions?| billions?)?$|^(model )?n$|^model size\b|"
        r"\b(n|num|number of) (non )?(embedding |embed )?param",
        r"\bper param|norm|frozen|ratio|group|file",
    ),
    "tokens": (
        r"\b(tokens?|toks?)\b|^d$",
        r"\b(batch|per|sec|second|s|ps|throughput|rate|seq\w*|vocab\w*|pad\w*|eos|bos|special|eval|steps?|multiplier|"
        r"time|lo\d*|hi\d*|max length|new|ratio|tokenizer)\b",
    ),
    "flops": (
        r"\bflops?\b|^c$|\bcompute\b",
        r"\b(per|util\w*|mfu|hfu|sec|second|s|ps|hours?|promised|peak|gpu|optimal)\b",
    ),
    "steps": (
        r"\b(global )?(steps?|iters?|iterations?)$",
        r"\b(per|time|warmup|decay|tokens?|every|save|log|eval|accum\w*)\b",
    ),
    "batch_tokens": (
        r"\bbatch\b.*\b(tokens?|toks?)\b|\b(tokens?|toks?) per (batch|step|iter\w*)\b",
        r"\b(micro|device|eval)\b",
    ),
    "batch_size": (r"\bbatch size\b|\bbatch$|\bbs$", r"\b(micro|device|eval|val|accum\w*)\b"),
    "seq_len": (r"\b(seq(uence)?|context|ctx|block) ?(len(gth)?|size)\b|\bseqlen\b|\bn ctx\b", r"\beval\b"),
    "tokens_per_param": (
        r"\btokens? per param|\btoken(s)? multiplier\b|\bd n( ratio)?$|\btokens? params? ratio\b",
        r"$^",
    ),
}
_TRAIN_SET: Final = (
    r"\btrain(ing)? ?(sets?|data|datasets?|corpus|mix\w*)( name)?$",
    r"^(data|dataset|corpus|mixture)( name| id)?$|\bdata (mix\w*|name|recipe|source)$|\bdataset( name)?$",
)
_RUN_ID: Final = (r"^run id$", r"^(run )?name$", r"^(run|id|experiment|run name)$", r"\brun (id|name)$")
_EVAL_SET: Final = (
    r"^eval(uation)?( set| data| dataset| name)?$|^(task|benchmark)( name)?$|^(val\w*|test) (set|data\w*)$"
)


@dataclass(frozen=True)
class Column:
    """A column and what can be seen of it.

    Parameters
    ----------
    name : str
        As in the table.
    cells : pandas.Series
        Its cells, of the rows that are read.
    """

    name: str
    cells: pd.Series

    @cached_property
    def phrase(self) -> str:
        """Its name in lower-case words, without those that only say where a logger put it."""
        spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", self.name)
        words = re.findall(r"[a-z0-9]+", spaced.lower())
        return " ".join(word for word in words if word not in _PLACES) or " ".join(words)

    @cached_property
    def filled(self) -> pd.Series:
        """Cells that are not blank."""
        return self.cells[~is_blank(self.cells)]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Its numbers."""
        return np.array([value for value in map(_number, self.filled) if np.isfinite(value)])

    @property
    def is_numeric(self) -> bool:
        """Whether most of what stands in it are numbers, so that the others are faults."""
        return len(self.values) > 0 and len(self.values) >= 0.7 * len(self.filled)

    @property
    def says_percent(self) -> bool:
        """Whether its cells have the sign."""
        return any("%" in str(cell) for cell in self.filled)

    @property
    def says_scale(self) -> bool:
        """Whether its cells end in letters, such as 110M."""
        return any(str(cell).strip()[-1:].isalpha() for cell in self.filled)

    @property
    def texts(self) -> list[str]:
        """What stands in it, each once, sorted."""
        return sorted({str(cell).strip() for cell in self.filled})

    @property
    def shown(self) -> str:
        """What stands in it, for a person: the least and the largest number, or the first names."""
        if self.is_numeric:
            by_value = sorted(self.filled, key=lambda cell: _number(cell) if np.isfinite(_number(cell)) else np.inf)
            low, high = _short(by_value[0]), _short(by_value[len(self.values) - 1])
            return low if low == high else f"{low} to {high}"
        texts = self.texts
        return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def run_columns(columns: Iterable[Column]) -> dict[str, list[Column]]:
    """Columns that may describe a run's size, by what they may be; the likeliest first."""
    found: dict[str, list[Column]] = {}
    for role, (wanted, other) in _RUN.items():
        fitting = [
            one
            for one in columns
            if one.is_numeric and re.search(wanted, one.phrase) and not re.search(other, one.phrase)
        ]
        # What was counted before what was configured, and short names before long ones.
        found[role] = sorted(fitting, key=lambda one: (_set_beforehand(one, role), len(one.phrase.split())))
    return found


def _set_beforehand(one: Column, role: str) -> bool:
    """Whether the number was set before the run, or, of steps, counts something else."""
    return one.name == "_step" if role == "steps" else bool(re.search(r"\b(max|target|planned)\b", one.phrase))


def train_set(columns: Sequence[Column]) -> Column | None:
    """The column that names training sets."""
    for pattern in _TRAIN_SET:
        for one in columns:
            if re.search(pattern, one.phrase) and not one.is_numeric and len(one.filled):
                return one
    return None


def run_name(columns: Sequence[Column]) -> Column | None:
    """The column that names runs."""
    return next((one for p in _RUN_ID for one in columns if re.search(p, one.phrase) and len(one.filled)), None)


def eval_set(columns: Sequence[Column]) -> Column | None:
    """The column of a long table that names evaluations."""
    return next((one for one in columns if re.search(_EVAL_SET, one.phrase) and not one.is_numeric), None)


def kind_of_evaluation(one: Column) -> str | None:
    """Say whether a column has ``losses``, ``errors`` or ``accuracies``; ``train`` is a loss of training batches."""
    if not one.is_numeric or (one.values < 0).mean() > 0.5:
        return None
    bare = re.sub(r"\b(acc|len) norm\b", "acc", one.phrase)
    if _LOSS.search(bare) and not _NEITHER.search(bare) and np.median(one.values) > _LEAST_LOSS:
        held_out = _HELD_OUT & set(bare.split())
        return "train" if re.search(r"\b(train(ing)?|batch)\b", bare) and not held_out else "losses"
    if _NEITHER.search(bare) or one.values.max() > 100:
        return None
    if _ERROR.search(bare):
        return "errors"
    if _ACCURACY.search(bare):
        return "accuracies"
    return "accuracies" if chance_of(evaluation_name(one)) is not None else None


def may_be_loss(one: Column) -> bool:
    """Whether a column whose name does not say so may have losses: numbers of their size that are no counts."""
    if (
        not one.is_numeric
        or _NEITHER.search(one.phrase)
        or re.search(r"\b(train|batch|ppl|lr|beta\w*)\b", one.phrase)
    ):
        return False
    if any(re.search(wanted, one.phrase) for wanted, _ in _RUN.values()):
        return False
    within = (one.values > 0.5) & (one.values < 15)
    return bool(within.all() and len(set(one.values)) > 1 and (one.values != one.values.round()).mean() > 0.5)


def evaluation_name(one: Column) -> str:
    """What an evaluation is called: the column's name without where it stands and what it measures; may be empty."""
    parts = [part for part in re.split(r"[/.:|\s()]+", one.name) if part]
    kept = [bare for part in parts if (bare := _stripped(part))]
    return "/".join(kept)


def _stripped(part: str) -> str:
    """A part of a name without words that say where it stands or what it measures, at its ends."""
    words = [word for word in re.split(r"([_-])|(?<=[a-z])(?=[A-Z])", part) if word]
    while words and words[0].lower() in _NOISE:
        words = words[1:]
    while words and words[-1].lower() in _NOISE:
        words = words[:-1]
    return "".join(words)


def chance_of(name: str) -> float | None:
    """Error rate of guessing of a task that is known by name."""
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    fitting = [task for task in CHANCE if re.search(rf"(^|_){task}(_|$)", words)]
    return CHANCE[max(fitting, key=len)] if fitting else None


def plain(name: str) -> str:
    """A name in which only letters and digits count, to compare."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _short(cell: object) -> str:
    """A cell as it is written, but with four digits if it is a plain number with more."""
    try:
        value = float(str(cell))
    except ValueError:
        return str(cell).strip()
    return min(f"{value:.4g}", f"{value:.0f}", key=len) if value == round(value) else f"{value:.4g}"


def _number(cell: object) -> float:
    try:
        return read_number(cell) if isinstance(cell, str) else float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")
