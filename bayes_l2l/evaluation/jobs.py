"""Job: one split of a backtest to fit and to forecast, by whichever process, and its file when it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.errors import DataError
from bayes_l2l.evaluation.scores import crps_draws, pit
from bayes_l2l.evaluation.splits import Split
from bayes_l2l.files import code_digest, write_table
from bayes_l2l.notes import Note
from bayes_l2l.point_fits.wild_runs import without_wild_runs

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Sweep
    from bayes_l2l.inference.compiled import CompiledModel
    from bayes_l2l.prediction.forecasts import Forecast
    from bayes_l2l.spec.model import ModelSpec

#: Name of the baseline (`bayes_l2l.bootstrap`) among the models.
BASELINE: Final = "baseline"
#: What is known of a predicted run before it is made.
POINT: Final = ("run_id", "train_set", "eval_set", "params", "tokens", "flops")

#: Attribute of a kept table that holds its hash.
_DIGEST: Final = "digest"
_PACKAGE: Final = Path(__file__).parents[1]
#: Rooms of the package that no result depends on.
_ABOVE: Final = ("plotting", "report", "cli", "microsweep")
#: Libraries that draws, point fits and their scores come from.
_LIBRARIES: Final = ("numpy", "nutpie", "pymc", "scipy", "scoringrules")


@dataclass(frozen=True, eq=False)
class Job:
    """What a process needs to know to make one split.

    Parameters
    ----------
    model : ModelSpec or None
        None for the baseline.
    split : Split
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
    split: Split
    fitted: Sweep
    ahead: pd.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)
    cores: int | None = None

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name if self.model else BASELINE

    # Results are not kept by `joblib.Memory`: it hashes the layout of a table in memory besides its values, so that
    # equal tables differ; watches the source of the one function that it calls; and shows a traceback where a file is
    # damaged.
    @cached_property
    def key(self) -> str:
        """Hash of all that the result depends on."""
        record = {
            "code": code_digest(_PACKAGE, without=_ABOVE, libraries=_LIBRARIES),
            "model": self.model.to_dict() if self.model else BASELINE,
            "split": asdict(self.split),
            "settings": self.settings,
        }
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
        for table in (self.fitted.table, self.ahead):
            known = [c for c in (*POINT, "loss", "loss_se") if c in table]
            digest.update(table[known].to_csv(index=False).encode())
        return digest.hexdigest()[:24]

    def finished(self, store: Path | None) -> pd.DataFrame | None:
        """Read the split from the folder of finished ones; what cannot be read, or was changed, is made again."""
        import pandas as pd

        if store is None or not (file := store / f"{self.key}.parquet").is_file():
            return None
        try:
            made = pd.read_parquet(file, engine="pyarrow")
        except Exception:  # pandas and pyarrow raise many kinds on a damaged file
            return None
        if made.attrs.pop(_DIGEST, None) != self._digest(made):
            return None
        return made

    def keep(self, made: pd.DataFrame, store: Path | None) -> None:
        """Write the split, whole, into the folder of finished ones."""
        if store is not None:
            try:
                store.mkdir(exist_ok=True)
            except OSError as error:
                raise DataError(f"the folder {store} cannot be made: {error.strerror or error}") from error
            write_table(self._sealed(made.copy()), store / f"{self.key}.parquet")

    def _sealed(self, made: pd.DataFrame) -> pd.DataFrame:
        """Note in the table what it was made as, so that another one under its name is known."""
        made.attrs[_DIGEST] = self._digest(made)
        return made

    def _digest(self, made: pd.DataFrame) -> str:
        return hashlib.sha256(f"{self.key}\n{made.to_csv(index=False)}".encode()).hexdigest()


def run(job: Job) -> pd.DataFrame:
    """Fit and forecast one split.

    Parameters
    ----------
    job : Job
        What to do.

    Returns
    -------
    pandas.DataFrame
        Its rows of `Backtest.table`.
    """
    started = perf_counter()
    ahead = job.ahead.reset_index(drop=True)
    points = ahead[["train_set", "eval_set", "params", "tokens", "flops"]]
    if job.model is None:
        from bayes_l2l.evaluation.baseline import bootstrap

        # Cells are fitted each on its own, and only those of these sets are asked for.
        sets = sorted(ahead["train_set"].unique())
        forecast = bootstrap(job.fitted.select(train_sets=sets), **job.settings).draw(points)
        notes: tuple[Note, ...] = ()
    else:
        from bayes_l2l.inference.sampling import sample, sampler_settings
        from bayes_l2l.prediction.forecasts import forecast as forecast_at

        given = {"random_seed" if name == "seed" else name: value for name, value in job.settings.items()}
        settings = sampler_settings(**given, cores=job.cores)
        compiled, fitted = _compiled(job.model, job.fitted), without_wild_runs(job.fitted)
        posterior = sample(fitted, spec=job.model, settings=settings, compiled=compiled)
        forecast, notes = forecast_at(posterior, points), posterior.notes
    return _beside(job, forecast, ahead, notes, perf_counter() - started)


def _beside(job: Job, forecast: Forecast, ahead: pd.DataFrame, notes: Iterable[Note], seconds: float) -> pd.DataFrame:
    """Forecast and outcome side by side."""
    actual, trained_on = ahead["loss"].to_numpy(), set(job.fitted.table["train_set"])
    cells = zip(ahead["eval_set"], ahead["train_set"], strict=True)
    kinds = ["train" if e == t else "validation" if e in trained_on else "downstream" for e, t in cells]
    lead: dict[str, Any] = {"model": job.name, "split": job.split.kind, "cutoff": job.split.cutoff}
    lead |= {"held_out": job.split.held_out, "cell_kind": kinds}
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


#: The model that this process compiled last: splits come in an order in which most have the same cells.
_LAST: dict[tuple[str, Hashable], CompiledModel] = {}


def _compiled(spec: ModelSpec, sweep: Sweep) -> CompiledModel:
    from bayes_l2l.inference.compiled import CompiledModel, signature

    key = json.dumps(spec.to_dict(), sort_keys=True), signature(spec, sweep)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = CompiledModel(spec, sweep)
    return _LAST[key]
