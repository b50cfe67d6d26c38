"""Propose a mapping file for an unknown table, with what is unsure in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.data import recognition as see
from bayes_l2l.data.columns import EVERY, LONG_COLUMNS, SIZE_UNITS, ColumnMap
from bayes_l2l.data.recognition import Column
from bayes_l2l.data.tables import RawTable
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN

if TYPE_CHECKING:
    import pandas as pd

_FINISHED: Final = frozenset({"finished", "completed", "complete", "done", "success", "succeeded"})
_YES: Final = frozenset({"1", "true", "yes", "t", "y", "1.0"})
_PERPLEXITY: Final = re.compile(r"\b(perplexity|ppl)\b")
_NEEDED: Final = {"params": "the number of parameters", "tokens": "the number of training tokens"}
#: Sizes below are in other units: no run of interest has fewer.
_FEWEST: Final = 1e5
_MANY_TOKENS: Final = 65536.0  # a batch size of more is one of tokens
_TRAIN_SET: Final = "mine"  # name of the training set of a table that names none
_WIDTH: Final = 100
_WITHIN: Final = 10.0  # factor between compute and 6 N D, of medians


@dataclass
class Proposal:
    """A mapping that a person is to look over.

    Parameters
    ----------
    table : str
        What the table is called.
    mapping : dict
        Keys and tables as in a mapping file.
    remarks : dict of (str, str) to str
        What is seen in the table, by table of the mapping and key.
    unsure : list of str
        What may be wrong or is missing, a sentence each.
    unused : list of str
        Columns that the mapping leaves out.
    missing : list of str
        What no column was found for, so that the mapping does not read the table yet.
    """

    table: str
    mapping: dict[str, Any] = field(default_factory=dict)
    remarks: dict[tuple[str, str], str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether everything that is needed was found."""
        read = self.mapping.get("losses") or "loss" in self.mapping["columns"]
        return not self.missing and bool(read)

    @property
    def is_needless(self) -> bool:
        """Whether the table has the canonical columns already."""
        tables = {name for name, table in self.mapping.items() if table}
        return tables == {"columns"} and all(name == column for name, column in self.mapping["columns"].items())

    def column_map(self) -> ColumnMap:
        """The mapping, checked."""
        return ColumnMap.from_dict(self.mapping, source="the proposed mapping")

    def toml(self) -> str:
        """The mapping file, what is unsure in comments."""
        lines = [*_comment(f"Proposed by `bayes-l2l columns {self.table}` from names and values: look it over.")]
        lines += ["#", "# Not sure:"] * bool(self.unsure)
        for sentence in self.unsure:
            lines += _comment(f"- {sentence}", indent="  ")
        lines += ["", f"keep = {_value(self.mapping.get('keep', []))}  # further columns to carry along"]
        missing = {"columns": self.missing}
        for name, table in self.mapping.items():
            if isinstance(table, Mapping) and (table or missing.get(name)):
                lines += ["", f"[{name}]"]
                lines += [self._line(name, key, value) for key, value in table.items()]
                lines += [f'# {key} = "?"  # not found: {_NEEDED[key]}' for key in missing.get(name, ())]
        if self.unused:
            lines += ["", *_comment("Not used: " + ", ".join(self.unused), indent="  ")]
        return "\n".join(lines) + "\n"

    def add(self, table: str, key: str, value: Any, remark: str = "") -> None:
        """Put an entry into the mapping."""
        self.mapping.setdefault(table, {})[key] = value
        if remark:
            self.remarks[table, key] = remark

    def _line(self, table: str, key: str, value: Any) -> str:
        remark = self.remarks.get((table, key), "")
        return f"{_key(key)} = {_value(value)}" + (f"  # {' '.join(remark.split())}" if remark else "")


def propose(raw: RawTable) -> Proposal:
    """Propose a mapping for a table.

    Parameters
    ----------
    raw : RawTable
        As it was read.

    Returns
    -------
    Proposal
        For a person to look over.
    """
    made = Proposal(raw.name, {"keep": [], **{name: {} for name in ("where", "columns", "constants", "units")}})
    frame = raw.frame.loc[:, ~raw.frame.columns.duplicated()]
    frame = _finished_only(made, frame)
    columns = [Column(str(name), frame[name]) for name in frame]
    filled = [one for one in columns if len(one.filled)]
    used = _sizes(made, filled)
    evaluated = see.eval_set(filled)
    values = [one for one in filled if one.name not in used and re.fullmatch(r"loss|value|score|nll", one.phrase)]
    sets = _names(made, filled, frame, long=bool(evaluated and values))
    if evaluated and values:
        _long(made, evaluated, values[0], filled)
    else:
        taken = {*used, *_mapped(made)}
        _wide(made, [one for one in filled if one.name not in taken], sets)
    in_order = sorted(made.mapping["columns"].items(), key=lambda entry: LONG_COLUMNS.index(entry[0]))
    made.mapping["columns"] = dict(in_order)
    named = _mapped(made)
    made.unused = [one.name for one in columns if one.name not in named]
    return made


def _finished_only(made: Proposal, frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out runs that did not finish, if the table says so."""
    for name in frame:
        if not re.search(r"\b(state|status)$", Column(str(name), frame[name]).phrase):
            continue
        cells = frame[name].astype(str).str.strip()
        words = [word for word in cells.unique() if word.lower() in _FINISHED]
        if words and len(cells.unique()) > len(words):
            others = cells[~cells.isin(words)]
            said = f"{len(others)} of {len(cells)} rows say otherwise: {', '.join(sorted(others.unique())[:3])}"
            made.add("where", str(name), words[0] if len(words) == 1 else words, said)
            return frame[cells.isin(words)]
    return frame


# sizes


def _sizes(made: Proposal, columns: Sequence[Column]) -> set[str]:
    """Find N, D and C; return the columns that say them."""
    roles = see.run_columns(columns)
    used: set[str] = set()
    for name in ("params", "tokens"):
        if name == "tokens" and not roles["tokens"]:
            used |= _product_of_tokens(made, roles)
        elif roles[name]:
            first, *others = roles[name]
            used.add(first.name)
            made.add("columns", name, first.name, first.shown)
            if others:
                also = ", ".join(repr(one.name) for one in others)
                made.unsure.append(f"{name}: {first.name!r} ({first.shown}) was taken; {also} could be meant too.")
            _unit_of_size(made, name, first)
    used |= _flops(made, roles["flops"], columns)
    made.missing = [name for name in _NEEDED if name not in made.mapping["columns"]]
    made.unsure += [
        f"{name}: no column was found for {_NEEDED[name]}; name one under [columns], or a number under [constants]."
        for name in made.missing
    ]
    if {"params", "tokens"} & set(made.missing) and any(one.name == "run_id" for one in columns):
        made.unsure.append(
            "sizes: where they are not known, leave out both params and tokens, and name run_id and step: losses of "
            "one step are then related to each other."
        )
    return used


def _product_of_tokens(made: Proposal, roles: Mapping[str, list[Column]]) -> set[str]:
    """Tokens as steps times tokens a step, or as parameters times tokens a parameter."""
    step = roles["steps"][:1]
    batch, length = roles["batch_size"][:1], roles["seq_len"][:1]
    in_tokens = roles["batch_tokens"][:1] or [one for one in batch if min(one.values) > _MANY_TOKENS]
    if step and in_tokens:
        factors = [step[0], in_tokens[0]]
    elif step and batch and length:
        factors = [step[0], batch[0], length[0]]
    elif roles["params"] and roles["tokens_per_param"]:
        factors = [roles["params"][0], roles["tokens_per_param"][0]]
    else:
        return set()
    shown = "; ".join(f"{one.name}: {one.shown}" for one in factors)
    made.add("columns", "tokens", [one.name for one in factors], shown)
    words = " times ".join(repr(one.name) for one in factors)
    caution = " `_step` counts what was logged: is it the optimiser's step?" if factors[0].name == "_step" else ""
    made.unsure.append(f"tokens: no column has them, so that they are {words}.{caution}")
    if len(roles["steps"]) > 1 and step:
        also = ", ".join(repr(one.name) for one in roles["steps"][1:])
        made.unsure.append(f"steps: {step[0].name!r} ({step[0].shown}) was taken; {also} could be meant too.")
    return {one.name for one in factors} - {made.mapping["columns"].get("params")}


def _flops(made: Proposal, candidates: Sequence[Column], columns: Sequence[Column]) -> set[str]:
    """Take what is about 6 N D for the compute: loggers call many things FLOPs."""
    computed = _computed(made, columns)
    for one in candidates:
        ratio = np.median(one.values) / computed if computed else 1.0
        if 1 / _WITHIN < ratio < _WITHIN:
            made.add("columns", "flops", one.name, one.shown)
            return {one.name}
    if candidates:
        also = ", ".join(f"{one.name!r} ({one.shown})" for one in candidates)
        made.unsure.append(
            f"flops: {also} is not near 6 N D (about {computed:.2g}) and is left out; compute is 6 N D."
        )
    return set()


def _computed(made: Proposal, columns: Sequence[Column]) -> float | None:
    """Median of 6 N D, roughly: of the medians of its factors."""
    mapping = made.mapping["columns"]
    if not _NEEDED.keys() <= mapping.keys():
        return None
    median = {one.name: float(np.median(one.values)) for one in columns if one.is_numeric}
    found = FLOPS_PER_PARAM_TOKEN
    for name in _NEEDED:
        factors = [mapping[name]] if isinstance(mapping[name], str) else mapping[name]
        found *= SIZE_UNITS.get(made.mapping["units"].get(name, ""), 1.0)
        for factor in factors:
            found *= median[factor]
    return found


def _unit_of_size(made: Proposal, name: str, column: Column) -> None:
    """Say what the numbers of a size are in, if they are not plain counts."""
    if column.says_scale or column.values.max() >= _FEWEST:
        return
    words = column.phrase.split()
    in_name = {"m": "millions", "million": "millions", "millions": "millions", "b": "billions", "bn": "billions",
               "billion": "billions", "billions": "billions", "t": "trillions", "k": "thousands"}  # fmt: skip
    unit = next((in_name[word] for word in reversed(words) if word in in_name), "")
    if not unit:
        unit = "billions" if name == "tokens" or column.values.max() < 20 else "millions"
        made.unsure.append(f"{name}: {column.name!r} ({column.shown}) cannot be plain counts; are they {unit}?")
    made.add("units", name, unit)


# names


def _names(made: Proposal, columns: Sequence[Column], frame: pd.DataFrame, *, long: bool) -> list[str]:
    """Find what names runs and training sets; return the training sets."""
    taken = _mapped(made)
    free = [one for one in columns if one.name not in taken]
    run = see.run_name(free)
    if run and long and _is_without_sizes(made, frame):
        steps = [one for one in see.run_columns(columns)["steps"] if len(set(one.values)) > 1]
        _related(made, run, steps, f"run_id: {run.name!r} was taken")
    elif run and (long or len(run.texts) == len(run.cells)):
        made.add("columns", "run_id", run.name)
    elif run:
        _repeated_names(made, run, columns, frame)
    found = see.train_set([one for one in free if one is not run])
    if found:
        made.add("columns", "train_set", found.name, found.shown)
        if len(found.filled) < len(found.cells):
            blank = len(found.cells) - len(found.filled)
            made.unsure.append(f"train_set: {found.name!r} is blank in {blank} rows, which will be refused.")
        return found.texts
    made.add("constants", "train_set", _TRAIN_SET)
    made.unsure.append(
        f"train_set: no column names training sets; all runs are taken to be on one, called {_TRAIN_SET!r}."
    )
    return [_TRAIN_SET]


def _repeated_names(made: Proposal, run: Column, columns: Sequence[Column], frame: pd.DataFrame) -> None:
    """Name checkpoints: their last ones alone, or each by its run and how far it had come."""
    said = f"run_id: names in {run.name!r} repeat ({len(run.texts)} in {len(run.cells)} rows)"
    roles = see.run_columns(columns)
    tokens = made.mapping["columns"].get("tokens", [])
    factors = [tokens] if isinstance(tokens, str) else tokens
    grows = [one for one in columns if one.name in factors] + roles["steps"]
    varying = [one for one in grows if len(set(one.values)) > 1]
    if _is_without_sizes(made, frame):
        _related(made, run, varying, said)
        return
    also = (
        f"To relate the losses of checkpoints instead, leave out params and tokens and name run_id = {run.name!r} "
        f"and step = {varying[0].name!r}."
        if varying
        else ""
    )
    if last := _says_last(columns, frame, run):
        made.add("columns", "run_id", run.name)
        made.add("where", last[0].name, last[1], "the last checkpoint of each run")
        made.unsure.append(
            f"{said}: these seem to be checkpoints, of which {last[0].name!r} names the last. The others are left "
            f"out: before the learning rate has decayed they are not comparable. {also}"
        )
        return
    made.unsure.append(
        f"{said}. If these are checkpoints, only those after the learning rate has decayed are comparable; leave the "
        f"others out by [where]. {also}"
    )
    if varying:
        made.add("columns", "run_id", [run.name, varying[0].name])


def _is_without_sizes(made: Proposal, frame: pd.DataFrame) -> bool:
    """Whether a size of the runs is not known; a column of the other's own name would be read in any case."""
    return bool(made.missing) and not any(name in frame for name in _NEEDED)


def _related(made: Proposal, run: Column, varying: Sequence[Column], said: str) -> None:
    """Map checkpoints whose sizes are not known, so that their losses are related to each other."""
    made.add("columns", "run_id", run.name)
    if not varying:
        made.unsure.append(f"{said}, and no column says which checkpoint each row is: name one as step.")
        return
    made.add("columns", "step", varying[0].name, varying[0].shown)
    made.mapping["columns"].pop("params", None)
    made.mapping["columns"].pop("tokens", None)
    for name in _NEEDED:
        made.mapping["units"].pop(name, None)
        made.remarks.pop(("columns", name), None)
    made.unsure = [one for one in made.unsure if one.partition(":")[0] not in (*_NEEDED, "sizes")]
    made.unsure.append(
        f"sizes: {' and '.join(made.missing)} of the runs are not known, so that losses of one run_id ({run.name!r}) "
        f"and step ({varying[0].name!r}) are related to each other, without laws. For laws, name both under "
        "[columns] or [constants]."
    )
    made.missing = []


def _says_last(columns: Sequence[Column], frame: pd.DataFrame, run: Column) -> tuple[Column, Any] | None:
    """The column that says of every run which checkpoint is its last, and what stands there."""
    for one in columns:
        if not re.search(r"\b(is )?(final|last|end|finished|done)$", " ".join(_words(one.name))):
            continue
        for cell in dict.fromkeys(frame[one.name]):
            if str(cell).strip().lower() in _YES:
                kept = frame[run.name][frame[one.name] == cell]
                if set(kept) == set(frame[run.name]) and kept.is_unique:
                    return one, cell if isinstance(cell, bool | int | str) else str(cell)
    return None


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())


def _mapped(made: Proposal) -> set[str]:
    """Columns that the mapping uses."""
    tables = [made.mapping.get(name, {}) for name in ("columns", "losses", "errors", "accuracies")]
    used = {
        one for table in tables for value in table.values() for one in ([value] if isinstance(value, str) else value)
    }
    return used | set(made.mapping["where"])


# evaluations


def _long(made: Proposal, evaluated: Column, loss: Column, columns: Sequence[Column]) -> None:
    made.add("columns", "eval_set", evaluated.name, evaluated.shown)
    made.add("columns", "loss", loss.name, loss.shown)
    for name in ("loss_se", "metric", "n_items", "chance"):
        if found := next((one for one in columns if one.phrase == name.replace("_", " ")), None):
            made.add("columns", name, found.name, found.shown)


def _wide(made: Proposal, columns: Sequence[Column], sets: Sequence[str]) -> None:
    """Find evaluations, what each is, and whose own they are on."""
    kinds = {one.name: see.kind_of_evaluation(one) for one in columns}
    losses = [one for one in columns if kinds[one.name] == "losses"]
    of_batches = [one for one in columns if kinds[one.name] == "train"]
    if not losses and of_batches:
        losses = of_batches[:1]
        made.unsure.append(
            f"losses: {losses[0].name!r} seems to be the loss of training batches; a held-out loss is better."
        )
    if not losses:
        losses = [one for one in columns if kinds[one.name] is None and see.may_be_loss(one)]
        if losses:
            named = ", ".join(repr(one.name) for one in losses)
            made.unsure.append(f"losses: no name says so, but {named} may be losses by their numbers.")
    losses = _without_repeats(made, losses, sets)
    rates = [one for one in columns if kinds[one.name] in ("errors", "accuracies")]
    names = _distinct([*losses, *rates], kinds)
    for one in losses:
        made.add("losses", names[one.name], one.name, one.shown)
        _unit_of_loss(made, names[one.name], one)
    for one in rates:
        kind = str(kinds[one.name])
        made.add(kind, names[one.name], one.name, one.shown)
        _unit_of_rate(made, names[one.name], one)
        if (chance := see.chance_of(names[one.name])) is not None:
            made.add("chance", names[one.name], chance)
    if not losses:
        made.unsure.append("losses: no column has a loss on held-out data; name it under [losses].")
    _own(made, {names[one.name]: one for one in losses}, sets)


def _without_repeats(made: Proposal, losses: Sequence[Column], sets: Sequence[str]) -> list[Column]:
    """Leave out perplexities of what has a loss too, and a loss on whichever set if all sets have one each."""
    plain = [one for one in losses if not _PERPLEXITY.search(one.phrase)]
    names = {see.evaluation_name(one) for one in plain}
    kept = [one for one in losses if one in plain or see.evaluation_name(one) not in names]
    named = [see.plain(name) for name in names if name]
    if named and all(any(_alike(name, see.plain(one)) for name in named) for one in sets):
        kept = [one for one in kept if see.evaluation_name(one)]
    return kept


def _alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _distinct(columns: Sequence[Column], kinds: Mapping[str, str | None]) -> dict[str, str]:
    """Name of each column's evaluation; what would be called alike says what it measures, or all of its column."""
    names: dict[str, str] = {}
    for one in columns:
        name = see.evaluation_name(one) or "validation"
        measured = {"errors": "error", "accuracies": "accuracy"}.get(str(kinds[one.name]), "loss")
        options = [name, f"{name}/{measured}", one.name]
        names[one.name] = next((option for option in options if option not in names.values()), one.name)
    return names


def _unit_of_loss(made: Proposal, name: str, one: Column) -> None:
    if _PERPLEXITY.search(one.phrase):
        made.add("units", name, "perplexity")
    elif re.search(r"\b(bpb|bpt|bits)\b", one.phrase):
        made.add("units", name, "bits")
        made.unsure.append(
            f"{name}: {one.name!r} is taken to be in bits; per byte or per token, as all losses must be."
        )


def _unit_of_rate(made: Proposal, name: str, one: Column) -> None:
    if one.values.max() > 1 and not one.says_percent:
        made.add("units", name, "percent")
        if not re.search(r"%|percent|pct", one.name.lower()):
            made.unsure.append(f"{name}: {one.name!r} ({one.shown}) is taken to be in percent.")


def _own(made: Proposal, losses: Mapping[str, Column], sets: Sequence[str]) -> None:
    """Say which losses are train losses."""
    made.mapping["own"] = {}
    by_name = {see.plain(name): name for name in losses}
    for train_set in sets:
        like = [name for bare, name in by_name.items() if bare and _alike(bare, see.plain(train_set))]
        exact = train_set if train_set in losses else by_name.get(see.plain(train_set))
        if exact or len(like) == 1:
            evaluation = exact or like[0]
            if evaluation in made.mapping["own"].values():
                continue
            made.add("own", train_set, evaluation)
            if not exact:
                made.unsure.append(f"own: {evaluation!r} is taken to be validation data of {train_set!r}.")
    if made.mapping["own"]:
        lacking = [name for name in sets if name not in made.mapping["own"]]
        if lacking:
            made.unsure.append(f"own: no evaluation seems to be on validation data of {', '.join(lacking[:5])}.")
        return
    generic = [name for name, one in losses.items() if not see.evaluation_name(one)]
    if generic or len(losses) == 1:
        evaluation = (generic or list(losses))[0]
        made.add("own", EVERY, evaluation, "on whichever training set the run has")
        made.unsure.append(
            f"own: {losses[evaluation].name!r} is taken to be on validation data of each run's own training set."
        )
    elif losses:
        made.unsure.append(
            "own: which evaluation is on validation data of each training set itself? Say it under [own], such as "
            f"{_key(sets[0])} = {_value(next(iter(losses)))}: these train losses determine the law."
        )


# text


def _comment(text: str, *, indent: str = "") -> list[str]:
    import textwrap

    return textwrap.wrap(
        " ".join(text.split()), _WIDTH, initial_indent="# ", subsequent_indent=f"# {indent}", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    """A string, number or list of these, as in TOML."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
