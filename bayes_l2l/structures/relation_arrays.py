"""RelationArrays: losses that belong together, as the arrays that relations without laws condition on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.sizes import size_labels
from bayes_l2l.errors import DataError
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Sweep

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]
Cell = tuple[str, str]

#: Column of the row's place among the points (a run, or a checkpoint of one), and of that of its cell.
_POINT: Final = "_point"
_CELL: Final = "_cell"
_NUMBER: Final = "_number"
#: Least spread of the log losses of a run's checkpoints that a slope is read off.
_SPREAD: Final = 1e-4
#: Fewest points that are used where there are as many: of few runs, more checkpoints.
FEWEST: Final = 20


@dataclass(frozen=True, eq=False)
class RelationArrays:
    """Losses along runs, their checkpoints and slots: the cells that a run is measured on besides its anchor.

    Cells whose losses are measured on one run hang together in a group, and every cell of a group is related to one
    of them, its anchor.

    Parameters
    ----------
    cells : list of (str, str)
        (eval_set, train_set) of every cell.
    anchor : ndarray of int, shape (cell,)
        Place of every cell's anchor, which is that of an anchor itself.
    smallest, reference, anchor_reference : ndarray, shape (cell,)
        Smallest loss, and the geometric means of the cell's losses and of the anchor's on the same runs (nats/token).
    lowest : ndarray, shape (cell,)
        Smallest loss of the cell's anchor.
    log_loss, observed : ndarray, shape (run, checkpoint, slot)
        Log loss (0 where there is none), and 1 where there is one.
    log_anchor, progress : ndarray, shape (run, checkpoint)
        Log loss of the anchor, and how far above that of the run's last checkpoint it is.
    slot : ndarray of int, shape (run, slot)
        Place of the cell.
    of_run : ndarray of int, shape (run,)
        Place of the anchor.
    weight : ndarray, shape (run,)
        What its log-likelihood counts.
    noise, anchor_noise : ndarray, shape (run, slot) and (run,)
        Known variance of log loss of one checkpoint.
    notes : tuple of Note
        What was left out.
    """

    cells: list[Cell]
    anchor: Ints
    smallest: Floats
    reference: Floats
    anchor_reference: Floats
    lowest: Floats
    log_loss: Floats
    observed: Floats
    log_anchor: Floats
    progress: Floats
    slot: Ints
    of_run: Ints
    weight: Floats
    noise: Floats
    anchor_noise: Floats
    notes: tuple[Note, ...] = ()

    @classmethod
    def of(cls, sweep: Sweep, *, checkpoints: int, weight_exponent: float = 0.0) -> RelationArrays:
        """Arrange the losses of a sweep.

        Parameters
        ----------
        sweep : Sweep
            Its rows of metric "loss" are used.
        checkpoints : int
            Most checkpoints of a run that are used, unless runs are few (`FEWEST`).
        weight_exponent : float
            Of the likelihood's weights.

        Returns
        -------
        RelationArrays

        Raises
        ------
        DataError
            If no run has losses of two cells.
        """
        table = _points(sweep)
        cells = sorted(set(zip(table["eval_set"], table["train_set"], strict=True)), key=lambda c: c[::-1])
        place = {cell: i for i, cell in enumerate(cells)}
        table[_CELL] = [place[cell] for cell in zip(table["eval_set"], table["train_set"], strict=True)]
        group = _groups(table, len(cells))
        if len(set(group)) == len(cells):
            raise DataError(
                f"{sweep.name} has no run with losses of two evaluations, so nothing can be related: rows of one "
                "run_id (and step) are losses that belong together."
            )
        anchor = _anchors(table, cells, group)
        used, notes = _used(table, anchor, checkpoints)
        return _arranged(used, cells, anchor, notes, weight_exponent)

    @property
    def labels(self) -> list[str]:
        """Names of the cells, "eval|train"."""
        return ["|".join(cell) for cell in self.cells]

    @property
    def signature(self) -> tuple[object, ...]:
        """Cells, their anchors, and how many runs, checkpoints and slots there are."""
        return tuple(self.labels), tuple(self.anchor.tolist()), self.log_loss.shape

    @property
    def coordinates(self) -> dict[str, tuple[str, list[str]]]:
        """Names along the posterior's dimension ``cell``, both parts of them, and the anchor ("eval@train")."""
        evals, trains = (list(names) for names in zip(*self.cells, strict=True))
        anchors = ["@".join(self.cells[i]) for i in self.anchor]
        parts = {"cell": self.labels, "eval_set": evals, "train_set": trains, "anchor": anchors}
        return {name: ("cell", names) for name, names in parts.items()}

    @property
    def count(self) -> Floats:
        """Checkpoints of every run and slot."""
        return np.asarray(self.observed.sum(axis=1))

    @property
    def centred(self) -> Floats:
        """Progress of checkpoints over the mean of a run and slot, 0 where there is no loss."""
        mean = (self.observed * self.progress[..., None]).sum(axis=1) / np.maximum(self.count, 1)
        return np.asarray(self.observed * (self.progress[..., None] - mean[:, None, :]))

    @property
    def end_distance(self) -> float:
        """How far the end of a run lies from the middle of its checkpoints, in log loss: root mean square of runs."""
        seen = (self.observed.sum(axis=2) > 0).astype(float)
        middle = (seen * self.progress).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
        return float(np.sqrt((middle**2).mean()))

    def arrays(self) -> dict[str, Any]:
        """What the model holds as `pm.Data`, by name."""
        centred = self.centred
        spread = (centred**2).sum(axis=1)
        sloped = (self.count > 2) & (spread > _SPREAD**2)
        spread = np.where(sloped, spread, 1.0)
        seen = self.observed.max(axis=2).sum(axis=1)
        across = {
            "log_loss": self.log_loss,
            "observed": self.observed,
            "centred": centred * sloped[:, None, :],
            "progress": np.broadcast_to(self.progress[..., None], self.observed.shape),
            "anchor_loss": np.broadcast_to(np.exp(self.log_anchor)[..., None], self.observed.shape),
        }
        of_slot = {
            "noise": self.noise,
            "spread": spread,
            "sloped": sloped.astype(float),
            "count": np.maximum(self.count, 1.0),
            "measured": (self.count > 0).astype(float),
            "free": np.maximum(self.count - 1 - sloped, 0.0),
            "slot_index": self.slot,
            "slot_anchor": self.anchor[self.slot],
            "slot_reference": self.anchor_reference[self.slot],
        }
        of_run = {
            "run_index": self.of_run,
            "anchor_noise": self.anchor_noise,
            "anchor_count": np.maximum(seen, 1.0),
            "anchor_free": np.maximum(seen - 2, 0.0),
            "weight": self.weight,
            "measurements": (self.count > 0).sum(axis=1).astype(float),
        }
        of_cell = {
            "is_anchor": (self.anchor == np.arange(len(self.cells))).astype(float),
            "anchor_index": self.anchor,
            **{name: getattr(self, name) for name in ("smallest", "reference", "anchor_reference")},
        }
        n = self.log_loss.shape[1]
        found = {name: value.transpose(1, 0, 2).reshape(n, -1) for name, value in across.items()}
        return found | {name: value.ravel() for name, value in of_slot.items()} | of_run | of_cell


def _points(sweep: Sweep) -> pd.DataFrame:
    """Losses of a sweep with the run and the point that each belongs to, repeats averaged, in the order of steps."""
    table = sweep.table[sweep.table["metric"] == "loss"].copy()
    if table.empty:
        raise DataError(f"{sweep.name} has no losses to fit (all its rows are error rates).")
    if sweep.has_sizes:
        table = table.assign(run_id=size_labels(table), step=0.0)
    elif "step" not in table:
        table["step"] = 0.0
    table["noise"] = ((table["loss_se"] / table["loss"]) ** 2).fillna(0.0) if "loss_se" in table else 0.0
    of_point = ["run_id", "step", "eval_set", "train_set"]
    found = table.groupby(of_point, sort=True, as_index=False)[["loss", "noise"]].mean()
    return found.assign(**{_POINT: found.groupby(["run_id", "step"]).ngroup()})


def _groups(table: pd.DataFrame, n_cells: int) -> list[int]:
    """Number of the group of every cell: cells that are measured on one run hang together, and so on."""
    parent = list(range(n_cells))

    def root(cell: int) -> int:
        while parent[cell] != cell:
            cell = parent[cell]
        return cell

    together = {tuple(sorted(set(cells))) for cells in table.groupby(_POINT)[_CELL].agg(tuple)}
    for first, *others in together:
        for other in others:
            parent[root(other)] = root(first)
    return [root(cell) for cell in range(n_cells)]


def _anchors(table: pd.DataFrame, cells: Sequence[Cell], group: Sequence[int]) -> Ints:
    """Anchor of every cell: of its group the cell that is measured most, and of these the smoothest evaluation.

    Groups are alike in this, so that their relations to their anchors can resemble each other.
    """
    rough = _roughness(table)
    counts = table[_CELL].value_counts()
    of_group: dict[int, list[int]] = {}
    for cell, name in enumerate(group):
        of_group.setdefault(name, []).append(cell)
    found = np.empty(len(cells), dtype=int)
    for members in of_group.values():
        enough = [cell for cell in members if counts[cell] >= 0.95 * max(counts[other] for other in members)]
        found[members] = min(enough, key=lambda cell: (rough[cells[cell][0]], counts[cell], cell))
    return found


def _roughness(table: pd.DataFrame) -> dict[str, float]:
    """Scatter of every evaluation's log loss about a quadratic in the mean log loss of its point."""
    table = table.assign(log=np.log(table["loss"]))
    by_cell = table.groupby(_CELL)["log"]
    table["log"] = (table["log"] - by_cell.transform("mean")) / by_cell.transform("std").fillna(0.0).clip(lower=1e-9)
    table["mean"] = table.groupby(_POINT)["log"].transform("mean")
    found = {}
    for name, part in table.groupby("eval_set"):
        design = np.vander(part["mean"].to_numpy(), 3)
        fitted = design @ np.linalg.lstsq(design, part["log"].to_numpy(), rcond=None)[0]
        found[str(name)] = float(np.mean((part["log"] - fitted) ** 2))
    return found


def _used(table: pd.DataFrame, anchor: Ints, checkpoints: int) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Rows with the loss of their anchor beside, of few checkpoints a run, and what is said of the others."""
    table = table.assign(group=anchor[table[_CELL]])
    own = table[table[_CELL] == table["group"]].set_index([_POINT, "group"])["loss"].rename("anchor_loss")
    own_noise = table[table[_CELL] == table["group"]].set_index([_POINT, "group"])["noise"].rename("anchor_noise")
    joined = table.join(own, on=[_POINT, "group"]).join(own_noise, on=[_POINT, "group"])
    lacking = joined["anchor_loss"].isna()
    notes = []
    if lacking.any():
        names = sorted({joined["eval_set"][joined[_CELL] == joined["group"]].mode()[0]})
        message = (
            f"{lacking.sum()} of {len(joined)} losses are left out: their runs were not measured on "
            f"{', '.join(names)}, which the others are related to"
        )
        notes.append(Note("without_anchor", "info", message, {"losses": int(lacking.sum())}))
    kept = joined[~lacking]
    steps = kept[["group", "run_id", "step"]].drop_duplicates().sort_values(["group", "run_id", "step"])
    runs = steps.groupby(["group", "run_id"])["step"]
    checkpoints = max(checkpoints, -(-FEWEST // len(runs)))
    number, n = runs.cumcount(), runs.transform("size")
    # From the last one backwards, evenly.
    back = n - 1 - number
    part = np.minimum(n, checkpoints)
    taken = np.ceil((back + 1) * part / n) > np.ceil(back * part / n)
    thinned = steps[np.asarray(taken)]
    if len(thinned) < len(steps):
        message = (
            f"{len(thinned)} of {len(steps)} checkpoints are used, at most {checkpoints} a run: those between are "
            "not independent of them"
        )
        notes.append(Note("checkpoints_thinned", "info", message, {"used": len(thinned), "all": len(steps)}))
    thinned = thinned.assign(**{_NUMBER: thinned.groupby(["group", "run_id"]).cumcount()})
    return kept.merge(thinned, on=["group", "run_id", "step"]), tuple(notes)


def _arranged(
    used: pd.DataFrame, cells: list[Cell], anchor: Ints, notes: tuple[Note, ...], weight_exponent: float
) -> RelationArrays:
    """Fill the arrays."""
    run = used.groupby(["group", "run_id"]).ngroup().to_numpy()
    number = used[_NUMBER].to_numpy()
    n_runs, n_points = run.max() + 1, number.max() + 1
    own_slots = {int(a): [c for c in np.flatnonzero(anchor == a) if c != a] for a in set(anchor)}
    slot_of = {cell: i for slots in own_slots.values() for i, cell in enumerate(slots)}
    n_slots = max(map(len, own_slots.values()))
    of_run = np.zeros(n_runs, dtype=int)
    of_run[run] = used["group"]
    slot = np.zeros((n_runs, n_slots), dtype=int)
    for r, a in enumerate(of_run):
        slot[r, : len(own_slots[int(a)])] = own_slots[int(a)]
    log_anchor = np.full((n_runs, n_points), np.nan)
    log_anchor[run, number] = np.log(used["anchor_loss"])
    last = np.isfinite(log_anchor).sum(axis=1) - 1
    progress = log_anchor - log_anchor[np.arange(n_runs), last][:, None]
    anchor_noise = np.zeros((n_runs, n_points))
    anchor_noise[run, number] = used["anchor_noise"]
    other = (used[_CELL] != used["group"]).to_numpy()
    where = run[other], number[other], np.array([slot_of[c] for c in used[_CELL][other]], dtype=int)
    log_loss, observed, noise = np.zeros((3, n_runs, n_points, n_slots))
    log_loss[where], observed[where], noise[where] = np.log(used["loss"][other]), 1.0, used["noise"][other]

    end = log_anchor[np.arange(n_runs), last]
    least = np.full(len(cells), np.inf)
    np.minimum.at(least, of_run, end)
    weight = np.exp(weight_exponent * (least[of_run] - end))
    smallest = used.groupby(_CELL)["loss"].min().to_numpy()
    reference = _means(used, np.log(used["loss"].to_numpy()), weight[run])
    anchor_reference = _means(used, np.log(used["anchor_loss"].to_numpy()), weight[run])
    filler = np.log(anchor_reference[of_run])[:, None]
    return RelationArrays(
        cells=cells,
        anchor=anchor,
        smallest=smallest,
        reference=reference,
        anchor_reference=anchor_reference,
        lowest=smallest[anchor],
        log_loss=log_loss,
        observed=observed,
        log_anchor=np.where(np.isnan(log_anchor), filler, log_anchor),
        progress=np.nan_to_num(progress),
        slot=slot,
        of_run=of_run,
        weight=weight,
        noise=noise.sum(axis=1) / np.maximum(observed.sum(axis=1), 1),
        anchor_noise=anchor_noise.sum(axis=1) / (last + 1),
        notes=notes,
    )


def _means(used: pd.DataFrame, logs: Floats, weight: Floats) -> Floats:
    """Weighted geometric mean of every cell."""
    cell = used[_CELL].to_numpy()
    return np.asarray(np.exp(np.bincount(cell, weight * logs) / np.bincount(cell, weight)))
