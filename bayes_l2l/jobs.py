"""Job: one fold of a rollout to fit and to forecast, by whichever process, and its file when it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l import __version__
from bayes_l2l.folds import Fold
from bayes_l2l.notes import Note
from bayes_l2l.output import write_table
from bayes_l2l.scores import crps_draws, pit

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from bayes_l2l.forecast import Forecast
    from bayes_l2l.sampling import CompiledModel
    from bayes_l2l.spec import ModelSpec
    from bayes_l2l.sweep import Sweep

#: Version of a stored fold; those of another version are made again.
FORMAT: Final = 1
#: Name of the field's habit (`bayes_l2l.bootstrap`) among the models.
BASELINE: Final = "baseline"
#: What is known of a predicted run before it is made.
POINT: Final = ("run_id", "train_set", "eval_set", "params", "tokens", "flops")


@dataclass(frozen=True, eq=False)
class Job:
    """What a process needs to know to make one fold.

    Parameters
    ----------
    model : ModelSpec or None
        None for the baseline.
    fold : Fold
        Which.
    fitted : Sweep
        Runs to fit.
    ahead : pandas.DataFrame
        Rows to predict, with their losses.
    settings : dict
        Of `fit`, or of `bootstrap`.
    cores : int or None
        Chains that run at a time.
    """

    model: ModelSpec | None
    fold: Fold
    fitted: Sweep
    ahead: pd.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)
    cores: int | None = None

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name if self.model else BASELINE

    @cached_property
    def key(self) -> str:
        """Hash of all that the result depends on."""
        record = {
            "format": FORMAT,
            "version": __version__,
            "model": self.model.to_dict() if self.model else BASELINE,
            "fold": asdict(self.fold),
            "settings": self.settings,
        }
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
        for table in (self.fitted.table, self.ahead):
            known = [c for c in (*POINT, "loss", "loss_se") if c in table]
            digest.update(table[known].to_csv(index=False).encode())
        return digest.hexdigest()[:24]

    def finished(self, store: Path | None) -> pd.DataFrame | None:
        """Read the fold from the folder of finished ones; what cannot be read is made again."""
        import pandas as pd

        if store is None or not (file := store / f"{self.key}.parquet").is_file():
            return None
        try:
            return pd.read_parquet(file, engine="pyarrow")
        except (OSError, ValueError):  # pyarrow's errors are among them
            return None

    def keep(self, made: pd.DataFrame, store: Path | None) -> None:
        """Write the fold, whole, into the folder of finished ones."""
        if store is not None:
            store.mkdir(exist_ok=True)
            write_table(made, store / f"{self.key}.parquet")


def run(job: Job) -> pd.DataFrame:
    """Fit and forecast one fold.

    Parameters
    ----------
    job : Job
        What to do.

    Returns
    -------
    pandas.DataFrame
        Its rows of `Rollout.table`.
    """
    started = perf_counter()
    ahead = job.ahead.reset_index(drop=True)
    points = ahead[["train_set", "eval_set", "params", "tokens", "flops"]]
    if job.model is None:
        from bayes_l2l.baselines import bootstrap

        # Cells are fitted each on its own, and only those of these sets are asked for.
        sets = sorted(ahead["train_set"].unique())
        forecast = bootstrap(job.fitted.select(train_sets=sets), **job.settings).draw(points)
        notes: tuple[Note, ...] = ()
    else:
        from bayes_l2l.fits import fit

        given = {"random_seed" if name == "seed" else name: value for name, value in job.settings.items()}
        compiled = _compiled(job.model, job.fitted)
        fitted = fit(job.fitted, model=job.model, compiled=compiled, cores=job.cores, **given)
        forecast, notes = fitted.forecast(points), fitted.notes
    return _beside(job, forecast, ahead, notes, perf_counter() - started)


def _beside(job: Job, forecast: Forecast, ahead: pd.DataFrame, notes: Iterable[Note], seconds: float) -> pd.DataFrame:
    """Forecast and outcome side by side."""
    actual, trained_on = ahead["loss"].to_numpy(), set(job.fitted.table["train_set"])
    cells = zip(ahead["eval_set"], ahead["train_set"], strict=True)
    kinds = ["own" if e == t else "validation" if e in trained_on else "test" for e, t in cells]
    lead: dict[str, Any] = {"model": job.name, "fold": job.fold.kind, "cutoff": job.fold.cutoff}
    lead |= {"held_out": job.fold.held_out, "cell_kind": kinds}
    expected = forecast.table().drop(columns=["kind", *POINT[1:]])
    frame = ahead[[*POINT]].assign(extrapolation=expected.pop("extrapolation"), actual=actual).join(expected)
    for place, (name, value) in enumerate(lead.items()):
        frame.insert(place, name, value)
    return frame.assign(
        crps=100 * crps_draws(forecast.draws, actual) / actual,
        pit=pit(forecast.draws, actual),
        trusted=all(note.severity != "serious" for note in notes),
        notes=" ".join(dict.fromkeys(note.code for note in notes if note.severity != "info")),
        simulated=job.fitted.simulated,
        seconds=round(seconds, 2),
    )


#: The model that this process compiled last: folds come in an order in which most have the same cells.
_LAST: dict[tuple[str, tuple[tuple[str, str], ...]], CompiledModel] = {}


def _compiled(spec: ModelSpec, sweep: Sweep) -> CompiledModel:
    from bayes_l2l.sampling import CompiledModel

    cells = sweep.cells[["eval_set", "train_set"]].itertuples(index=False, name=None)
    key = json.dumps(spec.to_dict(), sort_keys=True), tuple(cells)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = CompiledModel(spec, sweep)
    return _LAST[key]
