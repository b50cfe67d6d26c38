"""From a table as it was found to the canonical long one, or a refusal with everything that is wrong with it.

Checks do not stop at the first fault: each adds a sentence with row and column to one list, and the table is
refused once, with all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from bayes_l2l.data.columns import (
    CORE_COLUMNS,
    EVERY,
    LONG_COLUMNS,
    MADE_COLUMNS,
    ONLY_SET,
    OPTIONAL_COLUMNS,
    RUN_COLUMNS,
    SIZE_COLUMNS,
    ColumnMap,
)
from bayes_l2l.data.mixtures import weight_columns, weight_faults
from bayes_l2l.data.preparation import name_own, prepare
from bayes_l2l.data.rates import METRICS, RATES
from bayes_l2l.data.sizes import POSSIBLE, impossible
from bayes_l2l.data.tables import RawTable, ids, is_blank, numbers, typed
from bayes_l2l.errors import TableError, did_you_mean
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

#: Loss (nats/token) of guessing uniformly among 262144 tokens: no set of trained models has its median above.
UNIFORM_GUESS = math.log(2**18)
#: No sweep of language models has fewer amid it: sizes that are given in millions or billions.
_FEWEST: Final = {"params": 1e3, "tokens": 1e3}
#: Loss (nats/token) that no evaluation has that tells anything: a slip, or a loss in another unit.
_LEAST_LOSS: Final = 1e-3
_ABSURD_LOSS = 20.0  # nats/token: beyond any run that diverged
_IDS = ("run_id", "train_set", "eval_set")
#: A table of one training set needs no name of it, and one of train losses no evaluation.
_NAMES: Final = ("train_set", "eval_set")
# Columns of the work in progress: the row as a person knows it, and the column that the loss was read from.
_ROW, _COLUMN = "_row", "_column"


def canonical(raw: RawTable, columns: ColumnMap, *, min_runs: int = 2) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Validate a table and bring it into the canonical long form.

    Parameters
    ----------
    raw : RawTable
        Long or wide, as `columns` says.
    columns : ColumnMap
        Which column means what.
    min_runs : int, default 2
        Fewest runs that the table may have.

    Returns
    -------
    pandas.DataFrame
        `CORE_COLUMNS`, those of `OPTIONAL_COLUMNS` that the table has (``metric`` always), and the columns
        carried along; one row a run and evaluation.
    tuple of Note
        What was noticed while reading.

    Raises
    ------
    TableError
        With all faults.
    """
    faults: list[str] = []
    frame, rows, columns, prepared = prepare(_without_repeats(raw, faults), raw.rows, columns, faults)
    frame, sized = _sized(frame, columns)
    # Where runs have sizes, a column "step" is only carried along: a checkpoint is a run of its own.
    known = [name for name in columns.known if name not in (("step",) if sized else SIZE_COLUMNS)]
    required = [name for name in known if name not in (*MADE_COLUMNS, *OPTIONAL_COLUMNS, *_NAMES, "step")]
    sizes = [name for name in SIZE_COLUMNS if columns.columns.get(name, name) in frame]
    if len(sizes) == 1 and columns.columns.get("flops", "flops") in frame:
        required = [name for name in required if name not in SIZE_COLUMNS]
    found = _locate(frame, columns, known, required, faults)
    if not columns.wide and "loss" not in found and not columns.columns:
        faults.append(
            "if it has one row a run, say in a mapping file (--columns MAP.toml; columns= in Python) which are losses"
        )
    table = _renamed(frame, found, rows)
    for name in RUN_COLUMNS:
        if name in found:
            table[name] = _run_values(table, name, found[name], faults)
    _make_names(table, columns)
    notes = _make_size(table)
    carried = _carried(frame, columns, found, faults)
    notes += prepared + _near_misses(found, carried)
    table = table.join(_kept(frame, carried, text=raw.text))
    if columns.wide:
        table, missing = _melt(table, frame, columns, faults)
        notes += missing
    else:
        _check_evaluations(table, found, faults)
    if "eval_set" in table:
        notes += name_own(table, columns)
    if not sized:
        table = table.assign(**dict.fromkeys(SIZE_COLUMNS, math.nan))
    if len(table) and set(CORE_COLUMNS) - set(MADE_COLUMNS) <= set(table.columns):
        _make_missing(table)
        _check_runs(table, faults, min_runs)
        _check_units(table, found, faults)
    faults += weight_faults(table.drop_duplicates(_ROW), table.drop_duplicates(_ROW)[_ROW])
    if faults:
        raise TableError(faults, table=raw.name)
    leading = [name for name in LONG_COLUMNS if name in table]
    rest = [name for name in table if name not in (*LONG_COLUMNS, _ROW, _COLUMN)]
    return table[leading + rest].reset_index(drop=True), notes


def points(raw: RawTable) -> pd.DataFrame:
    """Validate a table of points to forecast.

    Parameters
    ----------
    raw : RawTable
        With columns ``params, tokens`` and perhaps ``train_set, eval_set``, and weights of domains.

    Returns
    -------
    pandas.DataFrame
        Those columns.

    Raises
    ------
    TableError
        With all faults.
    """
    import pandas as pd

    table = _sizes(raw, known=("train_set", "eval_set", "params", "tokens"), required=("params", "tokens"))
    frame = raw.frame.reset_index(drop=True)
    names = weight_columns(frame)
    if not names:
        return table
    weights = frame[names].apply(typed) if raw.text else frame[names]
    if faults := weight_faults(weights, pd.Series(list(raw.rows))):
        raise TableError(faults, table=raw.name)
    return table.join(weights.astype(float))


def candidates(raw: RawTable) -> pd.DataFrame:
    """Validate a table of runs that could be made.

    Parameters
    ----------
    raw : RawTable
        With columns ``train_set, params, tokens`` and perhaps ``flops``.

    Returns
    -------
    pandas.DataFrame
        Those columns; flops are 6 N D where the table has none.

    Raises
    ------
    TableError
        With all faults.
    """
    known = ("train_set", "params", "tokens", "flops")
    table = _sizes(raw, known=known, required=known[:3])
    computed = FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"]
    return table.assign(flops=table["flops"].fillna(computed) if "flops" in table else computed)


def _sizes(raw: RawTable, *, known: tuple[str, ...], required: tuple[str, ...]) -> pd.DataFrame:
    """Validate the columns of a table whose rows are sizes, and leave out the others."""
    faults: list[str] = []
    frame = _without_repeats(raw, faults)
    found = _locate(frame, ColumnMap(), known, required, faults)
    table = _renamed(frame, found, raw.rows)
    for name, column in found.items():
        table[name] = _run_values(table, name, column, faults)
    _check_possible(table, found, faults)
    if faults:
        raise TableError(faults, table=raw.name)
    return table[list(found)]


def _without_repeats(raw: RawTable, faults: list[str]) -> pd.DataFrame:
    """Return the frame with unique column names and a fresh index."""
    faults += raw.repeated
    if not len(raw.frame):
        faults.append("there are no rows below the header")
    return raw.frame.loc[:, ~raw.frame.columns.duplicated()].reset_index(drop=True)


def _make_names(table: pd.DataFrame, columns: ColumnMap) -> None:
    """Name, in place, the training set of a table that names none, and its evaluation: the train loss."""
    if "train_set" not in table:
        named = [name for name in columns.own if name != EVERY]
        table["train_set"] = named[0] if len(named) == 1 else ONLY_SET
    if not columns.wide and "eval_set" not in table:
        table["eval_set"] = table["train_set"]


def _make_size(table: pd.DataFrame) -> tuple[Note, ...]:
    """Fill in, in place, model size or tokens of a table that gives the other and the compute."""
    if "flops" not in table or ("params" in table) == ("tokens" in table):
        return ()
    known, made = ("params", "tokens") if "params" in table else ("tokens", "params")
    table[made] = table["flops"] / (FLOPS_PER_PARAM_TOKEN * table[known])
    message = f"there is no column {made!r}: taken from the compute, C = 6 N D"
    return (Note("size_from_flops", "info", message, {"column": made}),)


def _locate(
    frame: pd.DataFrame,
    columns: ColumnMap,
    known: Iterable[str],
    required: Iterable[str],
    faults: list[str],
) -> dict[str, str]:
    """Return the column of each known name that the table has."""
    found = {}
    for name in known:
        column = str(columns.columns.get(name, name))  # products are columns of their own by now
        if column in frame:
            found[name] = column
        elif name in columns.columns:
            faults.append(_absent(column, frame, f"which {columns.source} names as {name}"))
        elif name in required or (name in _NAMES and did_you_mean(name, _of_words(frame))):
            faults.append(_absent(column, frame))
    return found


def _of_words(frame: pd.DataFrame) -> list[str]:
    """Return the columns that may hold names: those whose cells are not all numbers."""
    import pandas as pd

    return [str(name) for name in frame if pd.to_numeric(frame[name], errors="coerce").isna().any()]


def _absent(column: str, frame: pd.DataFrame, said: str = "") -> str:
    return f"there is no column {column!r}{', ' + said if said else ''}{did_you_mean(column, frame.columns)}"


def _renamed(frame: pd.DataFrame, found: Mapping[str, str], rows: Iterable[str]) -> pd.DataFrame:
    table = frame[list(found.values())].set_axis(list(found), axis=1)
    table[_ROW] = list(rows)
    return table


def _run_values(table: pd.DataFrame, name: str, column: str, faults: list[str]) -> pd.Series:
    """Check a column that every row of a table has, wide or long."""
    if name in _IDS:
        return ids(table[name], table[_ROW], column, faults)
    return numbers(table[name], table[_ROW], column, faults, blank_ok=name in MADE_COLUMNS, zero_ok=name == "step")


def _sized(frame: pd.DataFrame, columns: ColumnMap) -> tuple[pd.DataFrame, bool]:
    """The frame without columns of sizes that are all blank, and whether its runs have sizes or are meant to.

    They have none if each has a run_id, and a step or nothing that looks like a size.
    """
    blank = [name for name in SIZE_COLUMNS if name in frame and len(frame) and is_blank(frame[name]).all()]
    if len(blank) == len(SIZE_COLUMNS):
        frame = frame.drop(columns=blank)
    has_id, has_step = (columns.columns.get(name, name) in frame for name in ("run_id", "step"))
    named = any(name in columns.columns or name in frame for name in SIZE_COLUMNS)
    meant = not has_step and any(did_you_mean(name, frame.columns) for name in SIZE_COLUMNS)
    return frame, named or meant or not has_id


def _carried(frame: pd.DataFrame, columns: ColumnMap, found: Mapping[str, str], faults: list[str]) -> list[str]:
    """Return the names of the columns that have no meaning here and are kept as they are."""
    used = {*found.values(), *(column for column, _ in columns.evaluations.values())}
    others = [str(name) for name in frame if name not in used]
    if columns.keep is None:
        return others
    faults += [_absent(name, frame, f"which {columns.source} keeps") for name in columns.keep if name not in frame]
    return [name for name in others if name in columns.keep or name in weight_columns(others)]


def _kept(frame: pd.DataFrame, carried: list[str], *, text: bool) -> pd.DataFrame:
    kept = frame[carried].apply(typed) if text and carried else frame[carried]
    # A column that only shares its name with a canonical one must not pass for it.
    names = (*LONG_COLUMNS, _ROW, _COLUMN)
    return kept.rename(columns={name: f"{name}_in_table" for name in names if name != "step"})


def _near_misses(found: Mapping[str, str], carried: Iterable[str]) -> tuple[Note, ...]:
    """Note columns that are carried along but look like a misspelt optional one."""
    absent = [name for name in (*MADE_COLUMNS, *OPTIONAL_COLUMNS) if name not in found]
    hints = {name: did_you_mean(name, absent) for name in carried}
    return tuple(
        Note("near_miss_column", "info", f"column {name!r} is not used{hint}", {"column": name})
        for name, hint in hints.items()
        if hint
    )


def _check_evaluations(table: pd.DataFrame, found: Mapping[str, str], faults: list[str]) -> None:
    """Check, in place, the columns of a long table that belong to an evaluation."""
    rows = table[_ROW]
    if "eval_set" in found:
        table["eval_set"] = ids(table["eval_set"], rows, found["eval_set"], faults)
    if "metric" in found:
        table["metric"] = table["metric"].astype(str).str.strip()
        known = table["metric"].isin(METRICS)
        wrong = table[~known]
        faults += [
            f"{row}, column {found['metric']!r}: {value!r} must be 'loss', 'error' or 'accuracy'"
            for row, value in zip(wrong[_ROW], wrong["metric"], strict=True)
        ]
        table["metric"] = table["metric"].where(known)
    else:
        table["metric"] = "loss"
    if "loss" in found:
        table["loss"] = _losses(table.assign(**{_COLUMN: found["loss"]}), faults)
        table[_COLUMN] = found["loss"]
    for name, zero_ok, top in (
        ("loss_se", True, math.inf),
        ("n_items", False, math.inf),
        ("chance", True, 1.0),
    ):
        if name in found:
            cells, column = table[name], found[name]
            table[name] = numbers(cells, rows, column, faults, blank_ok=True, zero_ok=zero_ok, top=top)


def _losses(table: pd.DataFrame, faults: list[str]) -> pd.Series:
    """Losses above 0, and error rates and accuracies from 0 to 1."""
    import pandas as pd

    values = pd.Series(math.nan, index=table.index)
    for (metric, column), part in table.groupby(["metric", _COLUMN], sort=False):
        rate = metric in RATES
        top = 1.0 if rate else math.inf
        values[part.index] = numbers(part["loss"], part[_ROW], str(column), faults, zero_ok=rate, top=top)
    return values


def _melt(
    table: pd.DataFrame, frame: pd.DataFrame, columns: ColumnMap, faults: list[str]
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """One row a run to one row a run and evaluation; blank cells are evaluations that were not made."""
    import pandas as pd

    pieces = []
    for evaluation, (column, metric) in columns.evaluations.items():
        if column in frame:
            piece = table.assign(eval_set=evaluation, metric=metric, loss=frame[column].astype(object))
            pieces.append(piece.assign(**{_COLUMN: column}))
        else:
            faults.append(_absent(column, frame, f"which {columns.source} names as {evaluation!r}"))
    if not pieces or table.empty:
        return table, ()
    long = pd.concat(pieces, ignore_index=True)
    blank = is_blank(long["loss"])
    notes: tuple[Note, ...] = ()
    if blank.all():
        faults.append(f"there are no losses: all {len(long)} cells of the evaluations are blank")
    elif blank.any():
        counts = {str(name): int(n) for name, n in long["eval_set"][blank].value_counts().items()}
        counts = dict(sorted(counts.items()))
        most = max(counts, key=lambda name: counts[name])
        message = f"{blank.sum()} of {len(long)} evaluations are blank and left out, most in {most!r}"
        notes = (Note("missing_cells", "info", message, {"blank": counts}),)
    long = long[~blank].reset_index(drop=True)
    long["loss"] = _losses(long, faults)
    for name in ("chance", "n_items"):
        if known := getattr(columns, name):
            long[name] = long["eval_set"].map(known).astype(float)
    return long, notes


def _make_missing(table: pd.DataFrame) -> None:
    """Fill in, in place, the run's name from what describes it and its FLOPs from 6 N D."""
    computed = FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"]
    if "run_id" not in table:
        sizes = [f"N={n:.10g} D={d:.10g}" for n, d in zip(table["params"], table["tokens"], strict=True)]
        table["run_id"] = table["train_set"].str.cat(sizes, sep=" ")
        table.loc[computed.isna(), "run_id"] = None
    if "flops" in table:
        of_run = table.groupby(["train_set", "run_id"])["flops"].transform("first")
        table["flops"] = table["flops"].fillna(of_run).fillna(computed)
    else:
        table["flops"] = computed


def _check_runs(table: pd.DataFrame, faults: list[str], min_runs: int) -> None:
    """One (N, D, FLOPs) a run, one value a run and evaluation, one metric an evaluation, enough runs."""
    run = ["train_set", "run_id", *(["step"] if "step" in table else [])]
    cell = [*run, "eval_set"]
    for name in ("params", "tokens", "flops"):
        first = table.groupby(run)[name].transform("first")
        other = table[first.notna() & table[name].notna() & (first != table[name])].drop_duplicates(run)
        faults += [
            f"{row}: run {run_id!r} has {name} {value:g}, but {first[i]:g} in an earlier row; "
            "give every run and checkpoint its own run_id"
            for i, row, run_id, value in zip(other.index, other[_ROW], other["run_id"], other[name], strict=True)
        ]
    known = table[table[cell].notna().all(axis=1)]
    first_row = known.groupby(cell)[_ROW].transform("first")
    for (row, run_id), again in known[known.duplicated(cell)].groupby([_ROW, "run_id"], sort=False):
        evaluations = again["eval_set"].tolist()
        more = f" and {len(evaluations) - 1} more" if len(evaluations) > 1 else ""
        faults.append(
            f"{row}: a second value for run {run_id!r} on {evaluations[0]!r}{more} (the first is in "
            f"{first_row[again.index[0]]}); keep one, or give repeated runs and checkpoints their own run_id"
        )
    of_evaluation = table.dropna(subset=["metric"]).groupby("eval_set")["metric"].unique()
    faults += [
        f"evaluation {name!r} is given both as {' and as '.join(sorted(mixed, reverse=True))}; give the two "
        "different names"
        for name, mixed in of_evaluation.items()
        if len(mixed) > 1
    ]
    n_runs = len(known.drop_duplicates(run))
    if 0 < n_runs < min_runs:
        faults.append(f"there is only {n_runs} run; a law needs at least {min_runs}")


def _check_units(table: pd.DataFrame, found: Mapping[str, str], faults: list[str]) -> None:
    """Refuse sizes in billions, and percent and perplexity where nats per token are meant."""
    in_thousands = [name for name, least in _FEWEST.items() if table[name].dropna().median() < least]
    for name in in_thousands:
        low, high = table[name].min(), table[name].max()
        faults.append(
            f"column {found.get(name, name)!r}: {name} of {low:.3g} to {high:.3g} are too few; give numbers of "
            f"{name}, or say under [units] of a mapping file which thousands, millions or billions they are"
        )
    _check_possible(table, {name: column for name, column in found.items() if name not in in_thousands}, faults)
    losses = table[(table["metric"] == "loss") & table["loss"].notna()]
    median = losses.groupby(["train_set", "eval_set"])["loss"].transform("median")
    small = losses[losses["loss"] < _LEAST_LOSS]
    faults += [
        f"{row}, column {column!r}: a loss of {loss:g} nats per token is none that a model has; leave out a run that "
        "went wrong"
        for row, column, loss in zip(small[_ROW], small[_COLUMN], small["loss"], strict=True)
    ]
    wrong = losses[(losses["loss"] > _ABSURD_LOSS) | (median > UNIFORM_GUESS)]
    for evaluation, cells in wrong.groupby("eval_set"):
        worst = cells.sort_values("loss", ascending=False, kind="stable").iloc[0]
        n_losses = int((losses["eval_set"] == evaluation).sum())
        faults.append(
            f"column {worst[_COLUMN]!r}, evaluation {evaluation!r}: {len(cells)} of {n_losses} losses are "
            f"too large for nats per token (up to {worst['loss']:g} in {worst[_ROW]}; uniform guessing "
            f"costs about {UNIFORM_GUESS:.3g}); say under [units] of a mapping file that it is a "
            "perplexity or percent, or give log(perplexity), and a percentage as a fraction with metric 'error' or "
            "'accuracy'"
        )


def _check_possible(table: pd.DataFrame, found: Mapping[str, str], faults: list[str]) -> None:
    """Refuse, by row, sizes and compute that no model has."""
    rows = table.drop_duplicates(_ROW)
    faults += [
        f"{row}, column {found[name]!r}: {wrong}; give the plain number of {name}"
        for name in POSSIBLE
        if name in found
        for row, value in zip(*_outside(rows, name), strict=True)
        if (wrong := impossible(name, value))
    ]


def _outside(rows: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    """Rows and values that are beyond what is possible; in a table of a million rows few are."""
    beyond = ~rows[name].between(*POSSIBLE[name])
    return rows.loc[beyond, _ROW], rows.loc[beyond, name]
