"""Sweep: a validated table of training runs and their evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bayes_l2l.data.assessment import assess
from bayes_l2l.data.columns import SHOWN_LOSS_UNITS, ColumnMap, as_column_map, loss_unit_faults
from bayes_l2l.data.rates import Metric
from bayes_l2l.data.tables import RawTable
from bayes_l2l.data.validation import canonical, points
from bayes_l2l.display import as_html
from bayes_l2l.errors import DataError, did_you_mean
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

_READING_NOTES = (
    "rows_left_out", "renamed_evaluations", "missing_cells", "near_miss_column", "data_differs", "size_from_flops",
    "runs_set_aside",
)  # fmt: skip
_RUN = ["train_set", "run_id"]

Cell = str | tuple[str, str]
"""``"eval@train"``, ``(eval_set, train_set)``, or a training set's name alone for its own evaluation."""
EvalSets = Literal["train", "own", "all"] | Sequence[str] | None


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """Training runs and their evaluations, one row a run and evaluation.

    Built and validated by `read_sweep`, `load_sweep` or `Sweep.from_table`; the methods return new sweeps.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``run_id, train_set, eval_set`` (str), ``params, tokens, flops, loss`` (float64; FLOPs of the
        training, loss in nats per token), ``loss_se, n_items, chance`` where the table has them, ``metric``
        ("loss", or "error" or "accuracy": then ``loss`` holds that fraction), and those carried along. A run is known
        by its training set and run_id.
    name : str
        What the sweep is called in messages and reports.
    provenance : str
        Where the numbers come from.
    simulated : bool
        Whether they were simulated rather than measured; said wherever the sweep is shown.
    notes : tuple of Note
        Statistical objections to the table.
    loss_unit : {"nats/token", "nats/byte", "nats/character"}
        What its losses are in; said wherever they are shown.
    """

    table: pd.DataFrame
    name: str = "table"
    provenance: str = ""
    simulated: bool = False
    notes: tuple[Note, ...] = ()
    loss_unit: str = SHOWN_LOSS_UNITS[0]

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame | RawTable,
        *,
        columns: ColumnMap | Mapping[str, Any] | str | Path | None = None,
        eval_sets: EvalSets = None,
        name: str = "table",
        provenance: str = "",
        simulated: bool = False,
        loss_unit: str | None = None,
        min_runs: int = 2,
    ) -> Sweep:
        """Validate a long or wide data frame.

        Parameters
        ----------
        table : pandas.DataFrame
            One row a run and evaluation, or with a mapping that says so one row a run. It is not changed.
        columns : ColumnMap, dict or path to a TOML file, optional
            Which column means what; not needed where columns have their canonical names.
        eval_sets : {"train", "all"} or sequence of str, optional
            Evaluations to keep; by default what the mapping says, else all.
        name : str, default "table"
            What the sweep is called in messages and reports.
        provenance : str, optional
            Where the numbers come from.
        simulated : bool, default False
            Whether they were simulated rather than measured.
        loss_unit : {"nats/token", "nats/byte", "nats/character"}, optional
            What the losses are in; by default what the mapping says, else nats per token.
        min_runs : int, default 2
            Fewest runs that the table may have.

        Returns
        -------
        Sweep
            With its notes.

        Raises
        ------
        TableError
            With all faults of the table, each with its row and column.
        SpecError
            If the mapping is refused.
        DataError
            If nothing is left of the evaluations asked for, or the unit is unknown.
        """
        columns = as_column_map(columns)
        unit = columns.loss_unit if loss_unit is None else loss_unit
        if faults := loss_unit_faults(unit):
            raise DataError("; ".join(faults))
        raw = table if isinstance(table, RawTable) else RawTable.from_frame(table, name=name)
        long, notes = canonical(raw, columns, min_runs=min_runs)
        sweep = cls(long, name, provenance, simulated, notes + assess(long), unit)
        return sweep.select(eval_sets=columns.use if eval_sets is None else eval_sets)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<Sweep {self._headline()}>"

    def _repr_html_(self) -> str:
        return as_html(f"Sweep {self._headline()}", table=self.overview(), notes=self.notes)

    def overview(self) -> pd.DataFrame:
        """One row a training set: its runs, its evaluations, and from what to what its sizes and compute go."""
        import pandas as pd

        rows = []
        for train_set, part in self.table.groupby("train_set"):
            runs = part.drop_duplicates("run_id")
            sizes = ("params", "tokens", "flops") if self.has_sizes else ()
            spans = {name: _span(runs[name]) for name in sizes}
            counts = {"runs": len(runs), "evaluations": part["eval_set"].nunique()}
            rows.append({"train_set": train_set} | counts | spans)
        return pd.DataFrame(rows)

    @property
    def train_sets(self) -> list[str]:
        """Training sets, sorted."""
        return sorted(self.table["train_set"].unique())

    @property
    def eval_sets(self) -> list[str]:
        """Evaluations, sorted."""
        return sorted(self.table["eval_set"].unique())

    @property
    def cells(self) -> pd.DataFrame:
        """Columns ``train_set, eval_set, n_runs``, one row a cell, sorted."""
        return self.table.groupby(["train_set", "eval_set"]).size().rename("n_runs").reset_index()

    @cached_property
    def _cells(self) -> frozenset[tuple[str, str]]:
        return frozenset(zip(self.table["eval_set"], self.table["train_set"], strict=True))

    @property
    def has_sizes(self) -> bool:
        """Whether runs have params and tokens; without, rows of one run_id (and step) belong together."""
        return bool(self.table["params"].notna().all())

    def with_sizes(self, what: str) -> Sweep:
        """This sweep, or a refusal where its runs have no sizes, which `what` needs."""
        if not self.has_sizes:
            raise DataError(
                f"{self.name} has no params and tokens, which {what} needs: add both columns, or fit the model that "
                "needs none (model='relations', --model relations)."
            )
        return self

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return len(self.table.drop_duplicates(_RUN))

    def summary(self) -> str:
        """What the sweep holds, as a few lines of text."""
        lines = [self._headline()]
        if self.provenance:
            lines.append(self.provenance)
        if len(self):
            width = max(map(len, self.train_sets))
            for train_set, part in self.table.groupby("train_set"):
                runs = part.drop_duplicates("run_id")
                counts = f"{_count(len(runs), 'run')}, {_count(part['eval_set'].nunique(), 'evaluation')}"
                sizes = f", {_span(runs['params'])} parameters, {_span(runs['tokens'])} tokens"
                lines.append(f"  {train_set:{width}}  {counts}{sizes if self.has_sizes else self._checkpoints(part)}")
        return "\n".join(lines + [str(note) for note in self.notes])

    def _headline(self) -> str:
        counts = [
            _count(len(self), "row"),
            _count(self.n_runs, "run"),
            _count(len(self.train_sets), "training set"),
            _count(len(self.eval_sets), "evaluation"),
        ]
        if len(self) and self.has_sizes:
            counts.append(f"{_span(self.table['flops'])} FLOPs")
        return f"{self.name}{' (simulated, not measured)' if self.simulated else ''}: {', '.join(counts)}"

    def _checkpoints(self, part: pd.DataFrame) -> str:
        if "step" not in part:
            return ""
        return f", {_count(len(part.drop_duplicates(['run_id', 'step'])), 'checkpoint')}"

    def wide(self) -> pd.DataFrame:
        """One row a run: what describes it, and a column an evaluation, NaN where it was not made."""
        run = ["run_id", *([] if self.has_sizes else self._point[1:]), "train_set", "params", "tokens", "flops"]
        losses = self.table.set_index([*run, "eval_set"])["loss"].unstack()  # noqa: PD010 - nothing to aggregate
        return losses.rename_axis(columns=None).reset_index()

    def cell(self, cell: Cell) -> tuple[str, str]:
        """Find a cell of this sweep.

        Parameters
        ----------
        cell : str or (str, str)
            ``"eval@train"``, ``(eval_set, train_set)``, or a training set alone for its own evaluation.

        Returns
        -------
        tuple of str
            ``(eval_set, train_set)``.

        Raises
        ------
        DataError
            If the sweep has no such cell.
        """
        known = self._cells
        if isinstance(cell, str):
            # Names may hold an "@" themselves, so every place to cut is tried.
            cuts = [i for i, letter in enumerate(cell) if letter == "@"]
            tries, label = [*((cell[:i], cell[i + 1 :]) for i in cuts), (cell, cell)], cell
        else:
            tries, label = [cell], "@".join(cell)
        for candidate in tries:
            if candidate in known:
                return candidate
        options = sorted(f"{evaluation}@{train_set}" for evaluation, train_set in known)
        hint = did_you_mean(label if "@" in label else f"{label}@{label}", options)
        raise DataError(f"{self.name} has no cell {label!r} (evaluation@training set){hint}")

    def pairs(self, source: Cell, target: Cell) -> pd.DataFrame:
        """Losses of two cells at equal size and tokens; without sizes, of one run_id (and step).

        Parameters
        ----------
        source, target : str or (str, str)
            Cells as ``"eval@train"``, ``(eval_set, train_set)``, or a training set alone for its own
            evaluation.

        Returns
        -------
        pandas.DataFrame
            Columns ``params, tokens, x, y``, one row a size, sorted; x from `source`, y from `target`.
            Repeated runs of one size are averaged. Without sizes ``run_id`` (and ``step``) instead.

        Raises
        ------
        DataError
            If the sweep lacks one of the cells.
        """
        size, sides = self._point, []
        for cell, name in ((source, "x"), (target, "y")):
            eval_set, train_set = self.cell(cell)
            rows = self.table[(self.table["eval_set"] == eval_set) & (self.table["train_set"] == train_set)]
            sides.append(rows.groupby(size)["loss"].mean().rename(name))
        return sides[0].to_frame().join(sides[1], how="inner").reset_index()

    @property
    def _point(self) -> list[str]:
        """Columns that are alike where losses belong together."""
        if self.has_sizes:
            return ["params", "tokens"]
        return ["run_id", "step"] if "step" in self.table else ["run_id"]

    def select(
        self,
        train_sets: Sequence[str] | None = None,
        eval_sets: EvalSets = None,
        *,
        metric: Metric | None = None,
    ) -> Sweep:
        """Keep some training sets, evaluations or one metric.

        Parameters
        ----------
        train_sets : sequence of str, optional
            Training sets to keep; all if not given.
        eval_sets : {"train", "all"} or sequence of str, optional
            Evaluations to keep, "train" (or "own") being each training set's own; all if not given.
        metric : {"loss", "error", "accuracy"}, optional
            Keep losses, error rates or accuracies only.

        Returns
        -------
        Sweep
            With the notes that its rows deserve.

        Raises
        ------
        DataError
            If a name is unknown, or nothing is left.
        """
        table = self.table
        if train_sets is not None:
            table = table[table["train_set"].isin(self._known(train_sets, self.train_sets, "training set"))]
        if eval_sets in ("train", "own"):
            table = table[table["eval_set"] == table["train_set"]]
            if table.empty:
                raise DataError(
                    f"{self.name} has no evaluation that is named as its training set; "
                    "name each training set's own in the mapping file ([own]), or use all evaluations"
                )
        elif eval_sets is not None and eval_sets != "all":
            table = table[table["eval_set"].isin(self._known(eval_sets, self.eval_sets, "evaluation"))]
        if metric is not None:
            table = table[table["metric"] == metric]
        if table.empty:
            raise DataError(f"nothing is left of {self.name} with these training sets, evaluations and metric")
        return self._with(table)

    def _known(self, names: Sequence[str], options: Sequence[str], what: str) -> list[str]:
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in options:
                hint = did_you_mean(name, options)
                raise DataError(f"{self.name} has no {what} {name!r}{hint} (it has: {', '.join(options)})")
        return names

    def up_to(self, flops: float) -> Sweep:
        """Keep runs of at most this training compute (FLOPs)."""
        return self._with(self.table[self.table["flops"] <= flops])

    def above(self, flops: float) -> Sweep:
        """Keep runs of more than this training compute (FLOPs); may be empty."""
        return self._with(self.table[self.table["flops"] > flops])

    def without(self, rows: Sequence[object], note: Note) -> Sweep:
        """Leave out some rows, for a reason that goes with the sweep.

        Parameters
        ----------
        rows : sequence
            Their labels in the index of the table.
        note : Note
            With the code ``runs_set_aside``.

        Returns
        -------
        Sweep
            With the notes that its rows deserve, and that one.
        """
        return self._with(self.table.drop(index=list(rows)), (*self._reading_notes(), note))

    def with_rows(self, other: Sweep | pd.DataFrame) -> Sweep:
        """Add the rows of another sweep or long table, such as a large run that exists on one training set.

        Parameters
        ----------
        other : Sweep or pandas.DataFrame
            The rows to add.

        Returns
        -------
        Sweep
            Validated anew, under this one's name; simulated if either is.

        Raises
        ------
        TableError
            If the two together are no valid table, for example because they share a run.
        DataError
            If the losses of the other sweep are in another unit.
        """
        import pandas as pd

        added = other if isinstance(other, Sweep) else Sweep.from_table(other, name="the added table", min_runs=1)
        if isinstance(other, Sweep) and other.loss_unit != self.loss_unit:
            raise DataError(
                f"the losses of {other.name} are in {other.loss_unit} and those of {self.name} in {self.loss_unit}: "
                "no sweep has both (give Sweep.from_table the loss_unit of the runs if one of the two is wrong)"
            )
        rows = [f"index {i}" for i in range(len(self))] + [f"added index {i}" for i in range(len(added))]
        both = pd.concat([self.table, added.table], ignore_index=True)
        table, _ = canonical(RawTable(both, rows, self.name), ColumnMap(), min_runs=1)
        provenance = "; ".join(dict.fromkeys(part for part in (self.provenance, added.provenance) if part))
        joined = replace(self, provenance=provenance, simulated=self.simulated or added.simulated)
        # Twice the same note says no more than once.
        return joined._with(table, tuple(dict.fromkeys(self._reading_notes() + added._reading_notes())))

    def _reading_notes(self) -> tuple[Note, ...]:
        return tuple(note for note in self.notes if note.code in _READING_NOTES)

    def _with(self, table: pd.DataFrame, reading_notes: tuple[Note, ...] | None = None) -> Sweep:
        """Return the same sweep with other rows, and the notes that these deserve."""
        if table is self.table and reading_notes is None:
            return self
        kept = self._reading_notes() if reading_notes is None else reading_notes
        table = table.reset_index(drop=True)
        return replace(self, table=table, notes=kept + assess(table))


def read_sweep(
    path: str | Path,
    *,
    columns: ColumnMap | Mapping[str, Any] | str | Path | None = None,
    eval_sets: EvalSets = None,
    min_runs: int = 2,
) -> Sweep:
    """Read runs from a CSV or Parquet file.

    Parameters
    ----------
    path : str or Path
        The file, long or wide; its suffix says which of the two formats.
    columns : ColumnMap, dict or path to a TOML file, optional
        Which column means what; needed for wide tables and other column names.
    eval_sets : {"train", "all"} or sequence of str, optional
        Evaluations to keep; by default what the mapping says, else all.
    min_runs : int, default 2
        Fewest runs that the table may have.

    Returns
    -------
    Sweep
        Named after the file.

    Raises
    ------
    TableError
        With all faults, each with its column and its row as a spreadsheet counts: the header is row 1.
    DataError
        If there is no such file, or nothing is left of the evaluations asked for.
    SpecError
        If the mapping is refused.
    """
    raw = RawTable.read(path)
    return Sweep.from_table(raw, columns=columns, eval_sets=eval_sets, name=Path(path).name, min_runs=min_runs)


def read_points(path: str | Path) -> pd.DataFrame:
    """Read points to forecast from a CSV or Parquet file.

    Parameters
    ----------
    path : str or Path
        The file; its suffix says which of the two formats.

    Returns
    -------
    pandas.DataFrame
        ``params, tokens`` (float64), led by ``train_set, eval_set`` (str) where the file has them. No
        eval_set stands for every evaluation of the training set, no train_set for every training set.

    Raises
    ------
    TableError
        With all faults, each with its row and column.
    DataError
        If there is no such file.
    """
    return points(RawTable.read(path))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _span(values: pd.Series) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"
