"""Fit: a posterior with everything that is needed to read it, in one file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.build import LAW_VARIABLES, NOISE_VARIABLES, RELATION_VARIABLES
from bayes_l2l.choice import Choice, choose
from bayes_l2l.error_fits import GROUPS, ErrorFit
from bayes_l2l.error_rate import ErrorSpec, load_error_spec
from bayes_l2l.errors import DataError, FitFileError, ForecastError, L2LError
from bayes_l2l.forecast import Forecast, Kind, forecast, optimal_points
from bayes_l2l.notes import Note
from bayes_l2l.output import write_whole
from bayes_l2l.plan import RUNS, Plan, Sizes, plan
from bayes_l2l.spec import ModelSpec, load_spec
from bayes_l2l.sweep import Cell, EvalSets, Sweep
from bayes_l2l.translate import Translation, translate

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayes_l2l.pictures import Pictures
    from bayes_l2l.rollouts import Rollout
    from bayes_l2l.sampling import CompiledModel, Sampler, SamplerSettings

#: Version of the file format; files of another version are refused.
FORMAT: Final = 1

#: Model of error rates that is used where none is named.
DEFAULT_ERROR_MODEL: Final = "error_richards"

_TEXT_COLUMNS: Final = ("run_id", "train_set", "eval_set", "metric")
_STORED_COLUMNS: Final = (*_TEXT_COLUMNS, "params", "tokens", "flops", "loss", "loss_se", "n_items", "chance")
_PACKAGES: Final = ("pymc", "nutpie", "arviz-stats", "numpy", "xarray")


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """A fitted model; made by `fit` or `load_fit`.

    Parameters
    ----------
    tree : xarray.DataTree
        Groups ``posterior``, ``sample_stats``, ``diagnostics`` and ``observed_data`` (the fitted table).
    spec : ModelSpec
        What was believed.
    settings : SamplerSettings
        How the posterior was drawn.
    notes : tuple of Note
        Statistical objections to the table and to the fit.
    record : dict
        What else is known: versions, when it was made, how long it took, and the sweep's name and provenance.
    """

    tree: xr.DataTree
    spec: ModelSpec
    settings: SamplerSettings
    notes: tuple[Note, ...]
    record: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Fit of model {self.spec.name!r} to {self.sweep!r}>"

    @property
    def posterior(self) -> xr.Dataset:
        """Draws, dims chain, draw and cell ("eval|train", with coordinates ``eval_set`` and ``train_set``).

        Where cells are related one by one, pair instead of cell ("eval@train -> eval@train", with coordinates
        ``source`` and ``target``, and ``eval_set`` and ``train_set`` of the target).
        """
        return self.tree["posterior"].to_dataset()

    @property
    def diagnostics(self) -> xr.Dataset:
        """R-hat, bulk and tail effective sample size of every quantity, along ``diagnostic``."""
        return self.tree["diagnostics"].to_dataset()

    @cached_property
    def errors(self) -> ErrorFit | None:
        """Laws from loss to error, if the table had error rates; `forecast` goes through them."""
        if "errors" not in self.record:
            return None
        spec = ErrorSpec.from_dict(self.record["errors"])
        return ErrorFit(self.tree[GROUPS[0]].to_dataset(), spec, self.settings.seed)

    @cached_property
    def sweep(self) -> Sweep:
        """The losses that were fitted."""
        table = self.tree["observed_data"].to_dataset().to_dataframe().reset_index(drop=True)
        table = table.astype(dict.fromkeys(_TEXT_COLUMNS, "str"))
        stored = self.record["sweep"]
        return Sweep(table, stored["name"], stored["provenance"], stored["simulated"])

    @cached_property
    def cells(self) -> list[tuple[str, str]]:
        """Every (eval_set, train_set) whose loss can be forecast, in the order of the posterior."""
        posterior = self.posterior
        pairs = zip(posterior["eval_set"].values, posterior["train_set"].values, strict=True)
        return list(dict.fromkeys((str(e), str(t)) for e, t in pairs))

    @property
    def error_cells(self) -> list[tuple[str, str]]:
        """Every (task, train_set) whose error rate can be forecast; none if the table had no error rates."""
        return self.errors.cells if self.errors else []

    @cached_property
    def max_flops(self) -> dict[str, float]:
        """Largest fitted compute of every training set (FLOPs)."""
        return {str(t): float(c) for t, c in self.sweep.table.groupby("train_set")["flops"].max().items()}

    @property
    def trusted(self) -> bool:
        """Whether no note is serious."""
        return all(note.severity != "serious" for note in self.notes)

    def summary(self, *, variables: Sequence[str] | None = None) -> pd.DataFrame:
        """Posterior and convergence of the reported quantities.

        Parameters
        ----------
        variables : sequence of str, optional
            Names of the posterior; by default those of the laws or relations, and of the likelihood.

        Returns
        -------
        pandas.DataFrame
            One row a quantity and cell, or pair of cells: mean, sd, q0.05, median, q0.95, rhat, ess_bulk, ess_tail.

        Raises
        ------
        DataError
            If a variable is not in the posterior.
        """
        import numpy as np
        import pandas as pd

        posterior, found = self.posterior, self.diagnostics
        default = (*LAW_VARIABLES, *RELATION_VARIABLES, *NOISE_VARIABLES)
        along = "pair" if "pair" in posterior.dims else "cell"
        names = list(variables) if variables is not None else [n for n in default if n in found]
        if unknown := [n for n in names if n not in posterior]:
            raise DataError(f"The posterior has no {unknown[0]!r}; it has {', '.join(map(str, posterior))}.")
        rows = []
        for name in names:
            draws = posterior[name].stack(sample=("chain", "draw"), create_index=False)  # noqa: PD013
            low, median, high = draws.quantile([0.05, 0.5, 0.95], dim="sample")
            columns = {"mean": draws.mean("sample"), "sd": draws.std("sample")}
            columns |= {"q0.05": low, "median": median, "q0.95": high}
            if name in found:
                columns |= {str(k): found[name].sel(diagnostic=k) for k in found["diagnostic"].values}
            cells = posterior[along].values if along in posterior[name].dims else [None]
            each = {k: np.atleast_1d(v.to_numpy()) for k, v in columns.items()}
            for i, cell in enumerate(cells):
                rows.append({"variable": name, along: cell} | {k: float(v[i]) for k, v in each.items()})
        return pd.DataFrame(rows).set_index(["variable", along])

    def forecast(
        self,
        points: pd.DataFrame | None = None,
        *,
        train_set: str | Sequence[str] | None = None,
        eval_set: str | Sequence[str] | None = None,
        params: float | None = None,
        tokens: float | None = None,
        flops: float | None = None,
        kind: Kind = "run",
        rollout: Rollout | None = None,
        source: str | None = None,
    ) -> Forecast:
        """Forecast losses and error rates at a table of points, one (N, D), or a budget's compute-optimal size.

        Parameters
        ----------
        points : pandas.DataFrame, optional
            Columns params, tokens, and where not every fitted cell is meant train_set, eval_set.
        train_set, eval_set : str or sequence of str, optional
            Keep these; by default every fitted cell.
        params, tokens : float, optional
            N (parameters) and D (tokens) of one size.
        flops : float, optional
            Budget C in FLOPs, instead of a size: each cell is forecast at the posterior median of its N*(C).
        kind : {"run", "curve"}
            A run, with what runs scatter, or the law itself (a relation, at the source's run).
        rollout : Rollout, optional
            Of the same model: the notes say how often its intervals were right as far out.
        source : str, optional
            Of a model of pairs: the cell to forecast from ("eval@train"), or its training set; by default every
            source with a run of the size, in equal parts of the draws.

        Returns
        -------
        Forecast
            With its draws.

        Raises
        ------
        ForecastError
            If not exactly one of the three ways is used, a size is refused, no source has a run of it, or the
            rollout is of other models.
        DataError
            If a set was not fitted.
        """
        import pandas as pd

        ways = (points is not None, params is not None or tokens is not None, flops is not None)
        if sum(ways) != 1 or (ways[1] and (params is None or tokens is None)):
            raise ForecastError("Say where to forecast: a table of points, or both params and tokens, or flops.")
        cells = self._named(train_set, eval_set)
        if points is not None:
            at = points
            for name, index in (("eval_set", 0), ("train_set", 1)):
                if name in at and (train_set is not None or eval_set is not None):
                    at = at[at[name].isin({cell[index] for cell in cells})]
            if train_set is not None or eval_set is not None:
                fitted = pd.DataFrame(cells, columns=["eval_set", "train_set"])
                named = [c for c in fitted if c in at]
                at = at.merge(fitted, on=named) if named else at.merge(fitted, how="cross")
        elif flops is not None:
            at = optimal_points(self, flops, cells=cells)
        else:
            at = pd.DataFrame(cells, columns=["eval_set", "train_set"]).assign(params=params, tokens=tokens)
        return forecast(self, at, kind=kind, rollout=rollout, source=source)

    def translate(self, source: Cell, target: Cell) -> Translation:
        """Translate the loss of one cell to that of another (Eq. 9 of arXiv 2411.12925).

        Parameters
        ----------
        source, target : str or (str, str)
            ``"eval@train"``, ``(eval_set, train_set)``, or a training set alone for its own evaluation.

        Returns
        -------
        Translation
            With its draws.

        Raises
        ------
        DataError
            If a cell was not fitted.
        ForecastError
            If the model does not relate the two: the joint model relates all.
        """
        return translate(self, source, target)

    def choose(
        self,
        *,
        eval_set: str | Sequence[str],
        flops: float | None = None,
        params: float | None = None,
        tokens: float | None = None,
        weights: Mapping[str, float] | Sequence[float] | None = None,
        train_set: Sequence[str] | None = None,
        kind: Kind = "run",
    ) -> Choice:
        """Compare training sets by the loss that they would reach.

        Parameters
        ----------
        eval_set : str or sequence of str
            Evaluations to choose by. Losses on one evaluation are on one scale for all training sets; several are
            averaged in nats per token, so that an evaluation whose losses differ more counts more.
        flops : float, optional
            Budget C in FLOPs: every training set at its own compute-optimal size.
        params, tokens : float, optional
            N and D of all, instead of a budget.
        weights : mapping of str to float, or sequence of float, optional
            Of the evaluations; equal by default. They are scaled to sum to 1.
        train_set : sequence of str, optional
            Those to compare; by default all.
        kind : {"run", "curve"}
            Runs that scatter about their laws, as they will be measured, or the laws themselves.

        Returns
        -------
        Choice
            With its draws, probabilities and expected regret.

        Raises
        ------
        ForecastError
            If the size is not said in one of the two ways, weights are refused, or there is one training set alone.
        DataError
            If a set was not fitted, or not on every evaluation, or the model has no laws.
        """
        return choose(
            self,
            eval_set=eval_set,
            flops=flops,
            params=params,
            tokens=tokens,
            weights=weights,
            train_set=train_set,
            kind=kind,
        )

    def plan(
        self,
        *,
        goal: Cell | Choice,
        budget: float,
        flops: Sizes | None = None,
        params: Sizes | None = None,
        tokens: Sizes | None = None,
        runs: int = RUNS,
        train_set: str | list[str] | None = None,
        candidates: pd.DataFrame | None = None,
    ) -> Plan:
        """Rank the next runs by what they are expected to tell of a goal, without fitting again.

        Parameters
        ----------
        goal : str, (str, str) or Choice
            A cell (``"eval@train"``), whose forecast is to become more certain, or a choice, whose expected regret
            is to become less.
        budget : float
            What a batch of runs may cost together (FLOPs).
        flops : float or sequence of float, optional
            Of a cell: the budget C of the run that is the goal, at its compute-optimal size. Several make the law
            known over their range: what is reported is the mean of the standard deviations.
        params, tokens : float or sequence of float, optional
            Its N and D, instead.
        runs : int
            Runs of a batch at most.
        train_set : str or list of str, optional
            Training sets that can be run; by default all.
        candidates : pandas.DataFrame, optional
            Runs to pick from: columns train_set, params, tokens. By default sizes about the compute-optimal one at
            the budget and at parts of it, and the sizes that other training sets have run.

        Returns
        -------
        Plan
            Candidates by reduction per FLOP, and a batch.

        Raises
        ------
        ForecastError
            If the budget, the size of the goal or the candidates are refused.
        DataError
            If a set was not fitted, or the model has no laws.
        """
        return plan(
            self,
            goal=goal,
            budget=budget,
            flops=flops,
            params=params,
            tokens=tokens,
            runs=runs,
            train_set=train_set,
            candidates=candidates,
        )

    @property
    def plot(self) -> Pictures:
        """Pictures of this fit: ``fit.plot.curves()`` and the others of `bayes_l2l.pictures`."""
        from bayes_l2l.pictures import Pictures

        return Pictures(self)

    def report(self, path: str | Path, *, rollout: Rollout | None = None, flops: float | None = None) -> Path:
        """Write what the fit says as one HTML file, which needs no network; whole or not at all.

        Parameters
        ----------
        path : str or Path
            Where, ending in ``.html``.
        rollout : Rollout, optional
            Forecasts beside what happened: how far this one can be believed.
        flops : float, optional
            Budget (FLOPs) to forecast at; by default 20 times the largest that was fitted.

        Returns
        -------
        Path
            Where it is.

        Raises
        ------
        DataError
            If the file cannot be written.
        ForecastError
            If the budget is not positive and finite, or the model has no laws to forecast a budget by.
        """
        from bayes_l2l.output import PAGE_SUFFIXES, check_output
        from bayes_l2l.report import report

        path = Path(path)
        check_output(path, suffixes=PAGE_SUFFIXES)
        page = report(self, rollout=rollout, flops=flops)
        write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))
        return path

    def _named(
        self, train_set: str | Sequence[str] | None, eval_set: str | Sequence[str] | None
    ) -> list[tuple[str, str]]:
        """Fitted cells of the sets that are named."""
        every = cells = [*self.cells, *self.error_cells]
        for index, kind, names in ((1, "training set", train_set), (0, "evaluation", eval_set)):
            if names is None:
                continue
            wanted = [names] if isinstance(names, str) else list(names)
            fitted = sorted({cell[index] for cell in every})
            if unknown := [n for n in wanted if n not in fitted]:
                raise DataError(f"The {kind} {unknown[0]!r} was not fitted; fitted are {', '.join(fitted)}.")
            cells = [cell for cell in cells if cell[index] in wanted]
        if not cells:
            raise DataError(f"No cell was fitted for {eval_set} of {train_set}.")
        return cells

    def save(self, path: str | Path) -> Path:
        """Write one NetCDF file, whole or not at all.

        Parameters
        ----------
        path : str or Path
            Where; an existing file is replaced only when the new one is complete.

        Returns
        -------
        Path
            Where it is.

        Raises
        ------
        FitFileError
            If the folder does not exist or cannot be written to.
        """
        path = Path(path)
        tree = self.tree.copy()
        tree.attrs = {"bayes_l2l_format": FORMAT, "bayes_l2l": json.dumps(self._to_dict())}
        try:
            write_whole(path, lambda part: tree.to_netcdf(part, engine="h5netcdf"))
        except DataError as error:
            raise FitFileError(str(error)) from error
        return path

    def _to_dict(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_dict(),
            "settings": asdict(self.settings),
            "notes": [note.to_dict() for note in self.notes],
            "record": self.record,
        }


def fit(
    sweep: Sweep | str | Path | pd.DataFrame,
    *,
    model: str | Path | ModelSpec = "joint",
    error_model: str | Path | ErrorSpec | None = DEFAULT_ERROR_MODEL,
    eval_sets: EvalSets = None,
    draws: int | None = None,
    tune: int | None = None,
    chains: int | None = None,
    random_seed: int | None = None,
    sampler: Sampler | None = None,
    target_accept: float | None = None,
    cores: int | None = None,
    progress: bool = False,
    keep_interrupted: bool = False,
    compiled: CompiledModel | None = None,
) -> Fit:
    """Fit a model to a sweep.

    Parameters
    ----------
    sweep : Sweep, str, Path or pandas.DataFrame
        Runs, or what `load_sweep` takes.
    model : str, Path or ModelSpec, default "joint"
        Name of a model, a model file of your own, or a spec.
    error_model : str, Path, ErrorSpec or None, default "error_richards"
        The same, of error rates as a function of loss, if the sweep has error rates; None leaves them out.
    eval_sets : {"own", "all"} or sequence of str, optional
        Evaluations to fit; by default all of the sweep.
    draws, tune, chains : int, optional
        Draws a chain that are kept (1000), draws a chain for adaptation (1000), and chains (4).
    random_seed : int, optional
        Seed (0); the same seed gives the same draws.
    sampler : {"nutpie", "pymc"}, optional
        Implementation of NUTS; nutpie by default.
    target_accept : float, optional
        Mean acceptance that the step size is adapted to (0.97).
    cores : int, optional
        Chains that run at a time; by default as many as the machine has cores, but no more than chains.
    progress : bool, default False
        Whether to show a progress bar.
    keep_interrupted : bool, default False
        Whether Ctrl-C keeps what was drawn so far.
    compiled : CompiledModel, optional
        Of an earlier fit with the same model and cells, so that nothing is compiled.

    Returns
    -------
    Fit
        With its notes, and with `errors` if the sweep has error rates.

    Raises
    ------
    TableError, DataError
        If the sweep is refused.
    SpecError
        If the model is refused.
    """
    from time import perf_counter

    import xarray as xr

    from bayes_l2l.datasets import load_sweep
    from bayes_l2l.sampling import CompiledModel, SamplerSettings, diagnose

    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep)
    if eval_sets is not None:
        sweep = sweep.select(eval_sets=eval_sets)
    both = sweep
    if has_errors := bool((sweep.table["metric"] == "error").any()):
        sweep = sweep.select(metric="loss")
    error_spec = load_error_spec(error_model) if has_errors and error_model is not None else None
    given = {
        "draws": draws, "tune": tune, "chains": chains, "seed": random_seed, "sampler": sampler,
        "target_accept": target_accept, "cores": cores or min(os.cpu_count() or 1, chains or 4),
    }  # fmt: skip
    settings = SamplerSettings(
        **{k: v for k, v in given.items() if v is not None},  # type: ignore[arg-type]
        progress=progress,
        keep_interrupted=keep_interrupted,
    )
    started = perf_counter()
    compiled = compiled or CompiledModel(load_spec(model), sweep)
    posterior, stats = compiled.sample(sweep, settings)
    diagnostics, objections = diagnose(posterior, stats, settings)
    table = sweep.table[[c for c in _STORED_COLUMNS if c in sweep.table]]
    observed = xr.Dataset({c: ("row", table[c].to_numpy(dtype=_dtype(str(c)))) for c in table})
    groups = {
        "posterior": posterior,
        "sample_stats": stats[[v for v in stats if str(v).removesuffix("_readings") in _STATS]].drop_attrs(),
        "diagnostics": diagnostics,
        "observed_data": observed,
    }
    record: dict[str, Any] = {
        "sweep": {"name": sweep.name, "provenance": sweep.provenance, "simulated": sweep.simulated},
        "seconds": round(perf_counter() - started, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in _PACKAGES},
    }
    notes = (*sweep.notes, *objections, *_identified(posterior))
    if error_spec is not None:
        from bayes_l2l.error_build import fit_errors

        # Draws of the two posteriors are joined one to one.
        settings_kept = replace(settings, chains=posterior.sizes["chain"], draws=posterior.sizes["draw"])
        errors, of_errors = fit_errors(both, spec=error_spec, settings=settings_kept)
        groups |= of_errors
        record["errors"] = error_spec.to_dict()
        record["seconds"] = round(perf_counter() - started, 1)
        notes = (*notes, *errors.notes)
    return Fit(xr.DataTree.from_dict(groups), compiled.spec, settings, notes, record)


_STATS: Final = ("diverging", "energy", "n_steps", "step_size", "depth", "tree_depth", "lp", "logp")


def load_fit(path: str | Path) -> Fit:
    """Read a saved fit; PyMC is not imported.

    Parameters
    ----------
    path : str or Path
        File that `Fit.save` wrote.

    Returns
    -------
    Fit
        With its notes.

    Raises
    ------
    FitFileError
        If the file is absent, damaged, of another kind or of an unknown format version.
    """
    import xarray as xr

    from bayes_l2l.sampling import SamplerSettings

    path = Path(path)
    if not path.is_file():
        raise FitFileError(f"{path}: there is no such file; `bayes-l2l fit RUNS -o {path}` makes one.")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            tree = opened.load()
        attributes = tree.attrs
    except Exception as error:  # h5netcdf and h5py raise many kinds on a damaged file
        raise FitFileError(f"{path}: is damaged or not a NetCDF file ({type(error).__name__}).") from None
    if "bayes_l2l_format" not in attributes:
        raise FitFileError(f"{path}: is a NetCDF file, but not a fit of bayes_l2l.")
    if (found := attributes["bayes_l2l_format"]) != FORMAT:
        raise FitFileError(
            f"{path}: has format version {found} and this version of bayes_l2l reads {FORMAT}; "
            "fit again, or use the version that wrote it."
        )
    try:
        stored = json.loads(attributes["bayes_l2l"])
        return Fit(
            tree=tree,
            spec=ModelSpec.from_dict(stored["spec"]),
            settings=SamplerSettings(**stored["settings"]),
            notes=tuple(Note.from_dict(note) for note in stored["notes"]),
            record=stored["record"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, L2LError) as error:
        raise FitFileError(f"{path}: is damaged ({type(error).__name__}: {error}).") from None


def _dtype(column: str) -> Any:
    return object if column in _TEXT_COLUMNS else float


def _identified(posterior: xr.Dataset) -> list[Note]:
    """Note on cells whose irreducible entropy the data hardly bound."""
    if "E" not in posterior:
        return []
    low, high = (posterior["E"].quantile(q, dim=("chain", "draw")) for q in (0.05, 0.95))
    wide = posterior["cell"].values[((high - low) > 0.5 * high).values]
    if not len(wide):
        return []
    first = ", ".join(map(str, wide[:3])) + (f" and {len(wide) - 3} more" if len(wide) > 3 else "")
    message = f"the irreducible entropy is hardly known in {first}: forecasts far out rest on its prior"
    return [Note("E_not_identified", "warning", message, {"cells": [str(c) for c in wide]})]
