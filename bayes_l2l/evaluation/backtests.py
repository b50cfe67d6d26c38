"""Backtest: forecasts of runs that exist, fitted to smaller ones, so that intervals can be held to account."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.data.sweep import EvalSets, Sweep
from bayes_l2l.errors import DataError, ForecastError, L2LError, SpecError, did_you_mean
from bayes_l2l.evaluation.jobs import BASELINE, POINT, Job, run
from bayes_l2l.evaluation.scores import score_rows, summary
from bayes_l2l.evaluation.splits import KINDS, Split, SplitKind, all_splits
from bayes_l2l.files import TABLE_SUFFIXES, check_output, write_table
from bayes_l2l.notes import Note, Severity
from bayes_l2l.posterior.settings import Method
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.models import load_spec

if TYPE_CHECKING:
    import pandas as pd

#: Backtests within this factor of a distance tell about it.
ABOUT: Final = 1.5

_SPLIT: Final = ["model", "split", "cutoff", "held_out"]
_TEXT: Final = ("model", "split", "held_out", "cell_kind", "run_id", "train_set", "eval_set", "notes")
_NUMBERS: Final = ("cutoff", "params", "tokens", "flops", "extrapolation", "actual", "median")
_SCORES: Final = ("mean", "sd", "crps", "pit", "seconds")
_MEANT: Final = {"pit": "a probability"}
_LEVEL: Final = re.compile(r"q0?\.\d+")
_NEEDED: Final = (*_SPLIT, *POINT, "cell_kind", "extrapolation", "actual", "median", "trusted", "notes", "simulated")


@dataclass(frozen=True)
class Tested:
    """How often backtests at about some distance were right.

    Parameters
    ----------
    extrapolation : float
        The distance asked for: how many times the largest fitted compute.
    level : float
        Nominal coverage of the intervals.
    coverage : float
        Part of the losses that these intervals held; NaN if the distance was not tested.
    n, n_splits : int
        Losses, and the splits that they are of; those of one split are off together.
    largest : float
        Largest distance tested.
    """

    extrapolation: float
    level: float
    coverage: float
    n: int
    n_splits: int
    largest: float

    def __str__(self) -> str:
        if not self.n:
            far = f"{self.extrapolation:.3g} times the fitted compute"
            return f"no backtest has tested {far} (the furthest: {self.largest:.3g})"
        splits = f"{self.n_splits} split{'s' if self.n_splits > 1 else ''}"
        return (
            f"at about {self.extrapolation:.3g} times the fitted compute, {100 * self.level:g}% intervals held "
            f"{100 * self.coverage:.0f}% of {self.n} losses in {splits}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Backtest:
    """Forecasts of splits beside what happened; made by `backtest` or `Backtest.read`.

    Parameters
    ----------
    frame : pandas.DataFrame
        The long table, see `table`.
    notes : tuple of Note
        Splits that are not to be trusted or could not be made, and what was left out.
    """

    frame: pd.DataFrame
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<Backtest of {', '.join(self.models)}: {len(self)} losses in {_n_splits(self.frame)} splits>"

    @property
    def trusted(self) -> bool:
        """Whether no split is of a fit that is not to be trusted."""
        return bool(self.frame["trusted"].all())

    @property
    def models(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self.frame["model"].unique())

    @classmethod
    def read(cls, path: str | Path) -> Backtest:
        """Read what `bayes-l2l backtest` wrote.

        Parameters
        ----------
        path : str or Path
            CSV or Parquet file.

        Returns
        -------
        Backtest
            With the notes that its table tells.

        Raises
        ------
        DataError
            If there is no such file, or it is not a backtest's table.
        TableError
            If the file is damaged, or has two columns of one name.
        """
        from bayes_l2l.data.tables import RawTable, typed

        raw = RawTable.read(path)
        frame = raw.each_once()
        if "split" not in frame:
            frame = frame.rename(columns={"fold": "split"})  # as it was called when backtests were rollouts
        if missing := [c for c in _NEEDED if c not in frame]:
            raise DataError(
                f"{path} is not the table of a backtest: it has no column {missing[0]!r}; "
                f"`bayes-l2l backtest RUNS -o {path}` makes one."
            )
        if not len(frame):
            raise DataError(f"{path} is the table of a backtest without any forecast.")
        if raw.text:
            frame = frame.assign(**{str(c): frame[c].astype("str") if c in _TEXT else typed(frame[c]) for c in frame})
            frame = frame.assign(**{c: _truth(frame[c], raw.rows, str(path)) for c in ("trusted", "simulated")})
        _check(frame, raw.rows, str(path))
        return cls(frame, _untrusted(frame))

    def table(self) -> pd.DataFrame:
        """Every forecast of every split beside what happened.

        Returns
        -------
        pandas.DataFrame
            model; split, "hindcast" or "translation"; cutoff (FLOPs); held_out (training set of a translation, or
            empty); cell_kind, "train" (the training set's own validation loss), "validation" (another training
            set's) or "downstream" (any other evaluation); run_id, train_set, eval_set, params, tokens, flops,
            extrapolation; actual, mean, sd, median and quantiles ``q0.05``... (nats/token); crps (percent of the
            actual loss) and pit, of all draws; trusted and notes (codes), of the fit; whether the runs are
            simulated; seconds that it took.
        """
        return self.frame.copy()

    def scores(self, *, by: str | Sequence[str] = ("model", "split")) -> pd.DataFrame:
        """Scores averaged within groups (see `bayes_l2l.evaluation.scores.summary`).

        Parameters
        ----------
        by : str or sequence of str
            Columns of the table, or ``"distance"``: the extrapolation in classes.

        Returns
        -------
        pandas.DataFrame
            n; rel_error, bias, crps, and coverage, width and interval score at 50, 80, 90 and 95%, in percent.

        Raises
        ------
        ForecastError
            If there is no such column.
        """
        groups = [by] if isinstance(by, str) else list(by)
        return summary(self._scored, by=groups)

    def tested(
        self,
        extrapolation: float,
        *,
        level: float = 0.9,
        model: str | None = None,
        split: SplitKind = "hindcast",
    ) -> Tested:
        """Say how often intervals at about a distance held what happened.

        Parameters
        ----------
        extrapolation : float
            How many times the largest fitted compute; backtests within a factor `ABOUT` of it count.
        level : float
            Central interval, one of 0.5, 0.8, 0.9 and 0.95.
        model : str, optional
            Which; may be left out if there is one.
        split : {"hindcast", "translation"}
            Hindcasts had no run as large on any set, translations had it on others.

        Returns
        -------
        Tested
            Without losses (n = 0) past the largest distance tested.

        Raises
        ------
        ForecastError
            If the model or the level is not in the table.
        """
        if model is None and len(self.models) > 1:
            raise ForecastError(f"Several models were backtested: say which of {', '.join(self.models)} is meant.")
        rows = self._rows(model or self.models[0], split)
        inside = f"in{100 * level:.0f}"
        if inside not in self._scored:
            raise ForecastError(f"The backtest has no {100 * level:g}% intervals.")
        largest = float(rows["extrapolation"].max()) if len(rows) else 0.0
        near = rows[rows["extrapolation"].between(extrapolation / ABOUT, extrapolation * ABOUT)]
        if not 0 < extrapolation <= largest:
            near = near[:0]
        held = float(near[inside].mean()) if len(near) else float("nan")
        return Tested(extrapolation, level, held, len(near), _n_splits(near), largest)

    def notes_on(self, points: pd.DataFrame, *, model: str, largest_fitted: float) -> tuple[Note, ...]:
        """Say how far forecast points can be believed.

        Parameters
        ----------
        points : pandas.DataFrame
            Points of a `Forecast`.
        model : str
            That made it.
        largest_fitted : float
            Largest compute (FLOPs) that was fitted on any set: up to it, translations are what was tested.

        Returns
        -------
        tuple of Note
            Codes ``tested`` (a warning if 90% intervals held less than 80%), and ``not_tested``.
        """
        among = points["flops"] <= largest_fitted
        notes = []
        for kind, of_kind in zip(KINDS, (points[~among], points[among]), strict=True):
            beyond = of_kind.loc[of_kind["extrapolation"] > 1, "extrapolation"]
            if beyond.empty:
                continue
            found = [self.tested(far, model=model, split=kind) for far in sorted({_two_digits(x) for x in beyond})]
            if reached := [one for one in found if one.n]:
                severity: Severity = "warning" if reached[-1].coverage < 0.8 else "info"
                data = {"split": kind, "at": [asdict(one) for one in reached]}
                notes.append(Note("tested", severity, f"{kind}s of {model!r} {reached[-1]}", data))
            if past := [one for one in found if not one.n]:
                message = f"{kind}s of {model!r}: {past[-1]}; do not trust the intervals there"
                notes.append(Note("not_tested", "warning", message, {"split": kind} | asdict(past[-1])))
        return tuple(notes)

    @cached_property
    def _scored(self) -> pd.DataFrame:
        return score_rows(self.frame)

    def _rows(self, model: str, split: str) -> pd.DataFrame:
        if model not in self.models:
            raise ForecastError(
                f"The model {model!r} was not backtested{did_you_mean(model, self.models)} "
                f"(there are: {', '.join(self.models)})."
            )
        return self._scored[(self._scored["model"] == model) & (self._scored["split"] == split)]


def backtest(
    sweep: Sweep | str | Path | pd.DataFrame,
    *,
    models: Sequence[str | Path | ModelSpec] = ("joint", BASELINE),
    cutoffs: Sequence[float] | None = None,
    kinds: Sequence[str] = KINDS,
    eval_sets: EvalSets = None,
    draws: int | None = None,
    tune: int | None = None,
    chains: int | None = None,
    random_seed: int | None = None,
    method: Method | None = None,
    resamples: int = 200,
    jobs: int = 1,
    dask: str | None = None,
    path: str | Path | None = None,
    progress: Callable[[str], object] | None = None,
) -> Backtest:
    """Fit to the smaller runs of a sweep, forecast its larger ones, and set both side by side.

    Hindcasts are fitted to all runs up to a cut-off and predict every loss above it. Translations leave one
    training set out but for 8 small runs below the cut-off, and predict its runs above it from all runs of the
    other sets.

    Parameters
    ----------
    sweep : Sweep, str, Path or pandas.DataFrame
        Runs, or what `load_sweep` takes.
    models : sequence of str, Path or ModelSpec
        What `fit` takes, or "baseline": a point fit of each cell with its bootstrap.
    cutoffs : sequence of float, optional
        Compute in FLOPs; by default budgets of the sweep, each about half the next (`splits.default_cutoffs`).
    kinds : sequence of {"hindcast", "translation"}
        Splits to make.
    eval_sets : {"train", "all"} or sequence of str, optional
        Evaluations to fit and predict; by default all of the sweep.
    draws, tune, chains, random_seed : int, optional
        As in `fit`; the seed is also the baseline's.
    method : {"nuts", "laplace"}, optional
        As in `fit`; splits that "laplace" cannot draw from are left out, with a note.
    resamples : int, default 200
        Of the baseline's bootstrap.
    jobs : int, default 1
        Processes of this machine, one core each; a script that asks for more starts its work below
        ``if __name__ == "__main__":``.
    dask : str, optional
        Address of a Dask scheduler whose workers (one thread each, with this package) are used instead.
    path : str or Path, optional
        CSV or Parquet file for the table. Finished splits are kept beside it, in a folder of the same name and
        ``.splits``; started again after an end of any kind, a backtest goes on from them.
    progress : callable, optional
        Called with a line of text after each split.

    Returns
    -------
    Backtest
        With its table, scores and notes.

    Raises
    ------
    TableError, DataError
        If the sweep, a cut-off or a setting is refused, or no split could be fitted.
    SpecError
        If a model is refused.
    """
    import pandas as pd

    from bayes_l2l.data.datasets import load_sweep

    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep)
    sweep = sweep.with_sizes("a backtest").select(eval_sets=eval_sets, metric="loss")
    made = all_splits(sweep.table, cutoffs=cutoffs, kinds=kinds)
    settings = _settings(draws=draws, tune=tune, chains=chains, seed=random_seed, method=method)
    cores = None if jobs == 1 and dask is None else 1
    parts_of = {split: split.parts(sweep.table) for split in made}
    queue = []
    for spec in _specs(models):
        options = settings if spec else {"n_boot": resamples, "seed": settings["seed"]}
        for split, (fitted, ahead) in parts_of.items():
            queue.append(Job(spec, split, sweep._with(fitted), ahead, options, cores))
    store = _store(path)
    parts, refusals = _run(queue, store=store, jobs=jobs, dask=dask, progress=progress or (lambda line: None))
    if not parts:
        raise refusals[0][1]
    frame = pd.concat([parts[job.key] for job in queue if job.key in parts], ignore_index=True)
    failed = [Note("split_failed", "warning", f"{job.name}, {job.split}: {error}") for job, error in refusals]
    left_out = _left_out(sweep, {split: len(ahead) for split, (_, ahead) in parts_of.items()})
    found = Backtest(frame, (*left_out, *failed, *_untrusted(frame)))
    if path is not None:
        write_table(found.frame, Path(path))
    return found


def _run(
    queue: Sequence[Job],
    *,
    store: Path | None,
    jobs: int,
    dask: str | None,
    progress: Callable[[str], object],
) -> tuple[dict[str, pd.DataFrame], list[tuple[Job, L2LError]]]:
    """Tables of the splits by key, from the store or made now, and the splits that could not be made."""
    from bayes_l2l.evaluation.workers import completed

    parts = {job.key: part for job in queue if (part := job.finished(store)) is not None}
    todo = [job for job in queue if job.key not in parts]
    if parts:
        progress(f"{len(parts)} of {len(queue)} splits were finished before")
    refusals = []
    for place, outcome in completed(run, todo, jobs=jobs, dask=dask):
        job = todo[place]
        if isinstance(outcome, L2LError):
            refusals.append((job, outcome))
            said = f"refused: {outcome}"
        else:
            parts[job.key] = outcome
            job.keep(outcome, store)
            said = f"{len(outcome)} losses, {outcome['seconds'].iloc[0]:.0f} s"
            said += "" if outcome["trusted"].all() else ", not to be trusted"
        progress(f"[{len(parts) + len(refusals)}/{len(queue)}] {job.name}, {job.split}: {said}")
    return parts, refusals


def _specs(models: Sequence[str | Path | ModelSpec]) -> list[ModelSpec | None]:
    """Models as specs, None for the baseline; each name once."""
    models = [models] if isinstance(models, str | Path | ModelSpec) else list(models)
    if not models:
        raise SpecError(f"There is no model to backtest; name one, such as 'joint' or {BASELINE!r}.")
    specs = [None if model == BASELINE else load_spec(model) for model in models]
    names = [spec.name if spec else BASELINE for spec in specs]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise SpecError(f"Two models are called {repeated[0]!r}; give each a `name` of its own.")
    return specs


def _settings(**given: Any) -> dict[str, Any]:
    """Settings of the sampler that the draws depend on, with the defaults written out."""
    from bayes_l2l.posterior.settings import SamplerSettings

    settings = asdict(SamplerSettings(**{k: v for k, v in given.items() if v is not None}))
    return {k: settings[k] for k in ("draws", "tune", "chains", "seed", "method", "sampler", "target_accept")}


def _store(path: str | Path | None) -> Path | None:
    """Folder of the finished splits, beside the table."""
    if path is None:
        return None
    path = Path(path)
    check_output(path, suffixes=TABLE_SUFFIXES)
    return path.with_name(path.name + ".splits")


def _n_splits(frame: pd.DataFrame) -> int:
    return len(frame.drop_duplicates(_SPLIT))


def _two_digits(number: float) -> float:
    return float(f"{number:.2g}")


def _truth(cells: pd.Series, rows: Sequence[str], path: str) -> pd.Series:
    """Return words as truth values; a spreadsheet writes them in capitals."""
    words = cells.str.lower()
    for row, word, cell in zip(rows, words, cells, strict=True):
        if word not in ("true", "false"):
            raise DataError(
                f"{path}: column {cells.name!r} must hold True or False in every row; {row} has {cell!r}."
            )
    return words == "true"


def _check(frame: pd.DataFrame, rows: Sequence[str], path: str) -> None:
    """Refuse a table of a backtest with values that none has: it was changed by hand."""
    import numpy as np
    import pandas as pd

    quantiles = sorted((c for c in frame if _LEVEL.fullmatch(str(c))), key=lambda c: float(str(c)[1:]))
    for column in (*_NUMBERS, *(c for c in (*quantiles, *_SCORES) if c in frame)):
        numbers = pd.to_numeric(frame[column], errors="coerce").where(lambda x: np.isfinite(x))
        no_number = numbers.isna() & (frame[column].notna() | (column in _NUMBERS))
        outside = (numbers < 0) | ((numbers == 0) & (column in _NUMBERS)) | ((numbers > 1) & (column == "pit"))
        for wrong, what in ((no_number, "a number"), (outside, _MEANT.get(str(column), "a positive number"))):
            for row, cell in zip(compress(rows, wrong), frame[column][wrong], strict=True):
                raise DataError(f"{path}: column {column!r} must hold {what} in every row; {row} has {str(cell)!r}.")
    falls = (frame[quantiles].diff(axis=1) < 0).any(axis=1)
    for row in compress(rows, falls):
        raise DataError(f"{path}: the quantiles of {row} do not rise from {quantiles[0]} to {quantiles[-1]}.")
    for row, kind in zip(rows, frame["split"], strict=True):
        if kind not in KINDS:
            raise DataError(f"{path}: column 'split' must be {' or '.join(KINDS)}; {row} has {kind!r}.")


def _untrusted(frame: pd.DataFrame) -> tuple[Note, ...]:
    """Note on splits that are not to be trusted."""
    of_split = frame.drop_duplicates(_SPLIT)
    bad = of_split[~of_split["trusted"]]
    if bad.empty:
        return ()
    first = bad.iloc[0]
    message = (
        f"{len(bad)} of {len(of_split)} splits are of fits that are not to be trusted, the first {first['model']} "
        f"beyond {first['cutoff']:.3g} FLOPs ({first['notes']}); draw more, or read the scores by 'trusted'"
    )
    return (Note("untrusted_splits", "serious", message, {"splits": len(bad)}),)


def _left_out(sweep: Sweep, predicted: Mapping[Split, int]) -> tuple[Note, ...]:
    """Note on losses above a cut-off that no split can predict."""
    lacking = {str(split): left for split, n in predicted.items() if (left := split.n_ahead(sweep.table) - n)}
    if not lacking:
        return ()
    first, count = next(iter(lacking.items()))
    message = f"cells with too few smaller runs to be fitted were left out: {count} losses of the {first}"
    message += f", and of {len(lacking) - 1} more splits" if len(lacking) > 1 else ""
    return (Note("cells_left_out", "warning", message, {"losses": lacking}),)


# Other words for the same, which programs rely on.
Rollout, rollout = Backtest, backtest
