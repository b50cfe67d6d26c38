"""Fit: the front that users hold. It only passes on: every answer is a function of the posterior that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from bayes_l2l.data.sweep import Cell, EvalSets, Sweep
from bayes_l2l.decisions.choices import Choice, choose
from bayes_l2l.decisions.mixtures import BestMixture, best_mixture
from bayes_l2l.decisions.plans import RUNS, Plan, Sizes, plan
from bayes_l2l.display import as_html
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.evaluation.leave_one_out import MOST, LeaveOneOut, leave_one_out, to_datatree
from bayes_l2l.files import PAGE_SUFFIXES, check_output, write_whole
from bayes_l2l.inference import posterior_file
from bayes_l2l.inference.diagnostics import outcome, summary_table
from bayes_l2l.inference.sampling import sample, sampler_settings
from bayes_l2l.inference.stages import Listener, told_to
from bayes_l2l.point_fits.wild_runs import without_wild_runs
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.posterior.settings import Method, Sampler
from bayes_l2l.prediction.averages import Weights, weights_of
from bayes_l2l.prediction.forecasts import Forecast, forecast
from bayes_l2l.prediction.given import forecast_given
from bayes_l2l.prediction.optimum import Optimum, optimum
from bayes_l2l.prediction.outliers import outlying
from bayes_l2l.prediction.translations import Translation, translate
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.error_rate import ErrorRateSpec
from bayes_l2l.structures.models import load_error_spec, load_spec

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayes_l2l.evaluation.backtests import Backtest
    from bayes_l2l.inference.compiled import CompiledModel
    from bayes_l2l.plotting.gallery import Pictures

#: What is done with losses that no scatter explains.
Outliers = Literal["set-aside", "keep"]
#: Models of losses that are used where none is named, the second for runs without sizes.
DEFAULT_MODEL: Final = "joint"
MODEL_WITHOUT_SIZES: Final = "relations"
#: Model of error rates that is used where none is named.
DEFAULT_ERROR_MODEL: Final = "error_richards"


class Fit(Posterior):
    """A fitted model; made by `fit` or `load_fit`. Its fields are those of `Posterior`."""

    def _repr_html_(self) -> str:
        rates = f" and {len(self.error_cells)} of error rates or accuracies" if self.error_cells else ""
        said = f"{len(self.sweep)} losses of {len(self.cells)} cells{rates}; {outcome(self)[0]}"
        headline = f"Fit of model {self.spec.name!r} to {self.sweep.name}"
        trust = [] if self.trusted else ["This fit is not to be trusted: see the serious notes."]
        return as_html(headline, said=[said, *trust], table=(self.errors or self).sweep.overview(), notes=self.notes)

    @property
    def posterior(self) -> xr.Dataset:
        """Draws, dims chain, draw and cell ("eval|train", with coordinates ``eval_set`` and ``train_set``).

        Where cells are related one by one, pair instead of cell ("eval@train -> eval@train"). ArviZ, whose tables
        take no such further coordinates, is given `to_datatree`.
        """
        return self.draws

    def to_datatree(self, *, draws: int = MOST) -> xr.DataTree:
        """All groups of the fit for ArviZ, with the log likelihood: ``arviz_stats.loo(fit.to_datatree())``.

        Parameters
        ----------
        draws : int
            Draws that are kept at most, evenly, of all groups.

        Returns
        -------
        xarray.DataTree
            Groups ``posterior``, ``sample_stats``, ``diagnostics``, ``observed_data``, and ``log_likelihood``, which
            is computed here and is not in the file: the log density of the logarithm of each fitted loss, dims
            chain, draw and observation, given the parameters and the other losses of its size, whose residuals are
            correlated with its own (`bayes_l2l.structures.pointwise`).

        Raises
        ------
        ForecastError
            If the model has no log likelihood of single losses.

        Notes
        -----
        Where runs count by their compute (``weight_exponent``), `loo` is right, which knows the weights.
        """
        return to_datatree(self, most=draws)

    def loo(self, *, draws: int = MOST) -> LeaveOneOut:
        """How well the fit foretells each of its own losses, had that one been left out, without fitting again.

        Parameters
        ----------
        draws : int
            Draws that are used at most, evenly.

        Returns
        -------
        LeaveOneOut
            Expected log density (elpd) of every loss, its sum and standard error, and Pareto k. Losses are taken one
            by one, given the others of their size; of a model of relations without sizes, runs are.

        Raises
        ------
        ForecastError
            If the model has no log likelihood of single losses.
        """
        return leave_one_out(self, most=draws)

    def summary(self, *, variables: Sequence[str] | None = None) -> pd.DataFrame:
        """Posterior and convergence of the reported quantities.

        Parameters
        ----------
        variables : sequence of str, optional
            Names of the posterior; by default those of the laws or relations, and of the likelihood.

        Returns
        -------
        pandas.DataFrame
            One row a quantity and cell, or pair of cells: mean, sd, q0.05, median, q0.95, and of NUTS rhat,
            ess_bulk, ess_tail.

        Raises
        ------
        DataError
            If a variable is not in the posterior.
        """
        return summary_table(self, variables)

    def forecast(
        self,
        points: pd.DataFrame | None = None,
        *,
        train_set: str | Sequence[str] | None = None,
        eval_set: str | Sequence[str] | None = None,
        params: Sizes | None = None,
        tokens: Sizes | None = None,
        flops: Sizes | None = None,
        kind: str = "predictive",
        backtest: Backtest | None = None,
        rollout: Backtest | None = None,
        source: str | None = None,
        given: Mapping[Cell, float] | pd.DataFrame | None = None,
        average: bool | Weights = False,
    ) -> Forecast:
        """Forecast losses and accuracies at a size, or from losses that the run is seen to have.

        A size is said by a table of points, one (N, D), or a budget, for its compute-optimal size.

        Parameters
        ----------
        points : pandas.DataFrame, optional
            Columns params, tokens, and where not every fitted cell is meant train_set, eval_set.
        train_set, eval_set : str or sequence of str, optional
            Keep these; by default every fitted cell.
        params, tokens : float or sequence of float, optional
            N (parameters) and D (tokens); several are broadcast against each other, and every cell is forecast at
            each.
        flops : float or sequence of float, optional
            Budgets C in FLOPs, instead of sizes: each cell is forecast at the posterior median of its N*(C).
        kind : {"predictive", "mean"}
            A run, with what runs scatter (also "run"), or the law itself (also "curve"; a relation, at the source's
            run).
        backtest, rollout : Backtest, optional
            Of the same model: the notes say how often its intervals were right as far out. The second is another word
            for the first.
        source : str, optional
            Of a model of relations: the cell to forecast from ("eval@train"), or its training set; by default every
            source with a run of the size, in equal parts of the draws.
        given : mapping or pandas.DataFrame, optional
            Instead of a size: what was seen of one run, ``{"eval@train": loss}``, or a table of columns train_set,
            eval_set, loss, and run_id where it is of several runs (`bayes_l2l.prediction.given.forecast_given`).
        average : bool, mapping of str to float, or sequence of float
            Whether the mean of the evaluations of each run is forecast, with what they have in common; or their
            weights, scaled to sum to 1. A budget is then spent on one run.

        Returns
        -------
        Forecast
            With its draws.

        Raises
        ------
        ForecastError
            If not exactly one of the ways is used, a size, a loss or weights are refused, no source has a run of it,
            losses would be averaged with rates, or the backtest is of other models.
        DataError
            If a set was not fitted.
        """
        if given is not None:
            if any(said is not None for said in (points, params, tokens, flops, backtest, rollout, source)):
                raise ForecastError("Forecast from losses that were seen (given), or at a size: leave out the other.")
            found = forecast_given(self, given, train_set=train_set, eval_set=eval_set, kind=kind)
            return found if average is False else found.average(weights_of(average))
        return forecast(
            self,
            points,
            train_set=train_set,
            eval_set=eval_set,
            params=params,
            tokens=tokens,
            flops=flops,
            kind=kind,
            backtest=backtest or rollout,
            source=source,
            average=average,
        )

    def translate(self, source: Cell, target: Cell) -> Translation:
        """Translate the loss of one cell to that of another (Eq. 9 of arXiv 2411.12925).

        Parameters
        ----------
        source, target : str or (str, str)
            ``"eval@train"``, ``(eval_set, train_set)``, or a training set alone for its train loss.

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
        kind: str = "predictive",
    ) -> Choice:
        """Compare training sets by the loss, the error rate or the accuracy that they would reach.

        Parameters
        ----------
        eval_set : str or sequence of str
            Evaluations to choose by. Losses on one evaluation are on one scale for all training sets; several are
            averaged in nats per token, so that an evaluation whose losses differ more counts more. Or error rates,
            or accuracies, of which the highest is the best; not several of the three.
        flops : float, optional
            Budget C in FLOPs: every training set at its own compute-optimal size.
        params, tokens : float, optional
            N and D of all, instead of a budget.
        weights : mapping of str to float, or sequence of float, optional
            Of the evaluations; equal by default. They are scaled to sum to 1.
        train_set : sequence of str, optional
            Those to compare; by default all.
        kind : {"predictive", "mean"}
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
            If a set was not fitted, or not on every evaluation, or has not left chance there, or the model has no
            laws.
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

    def choose_mixture(
        self,
        *,
        eval_set: str | Sequence[str],
        params: float,
        tokens: float,
        weights: Mapping[str, float] | Sequence[float] | None = None,
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> BestMixture:
        """Find the mixture of domains with the lowest expected loss, of a model of mixtures.

        Parameters
        ----------
        eval_set : str or sequence of str
            Evaluations to choose by; several are averaged in nats per token.
        params, tokens : float
            N and D of the run.
        weights : mapping of str to float, or sequence of float, optional
            Of the evaluations; equal by default. They are scaled to sum to 1.
        bounds : mapping of str to (float, float), optional
            Least and largest weight of a domain; by default 0, and the largest that was fitted.

        Returns
        -------
        BestMixture
            Weights, how surely they are the best, and the forecast of a run.

        Raises
        ------
        ForecastError
            If the model is none of mixtures, no mixture is inside the bounds, or a domain or weights are refused.
        DataError
            If an evaluation was not fitted.
        """
        return best_mixture(self, eval_set=eval_set, params=params, tokens=tokens, weights=weights, bounds=bounds)

    def optimum(
        self,
        flops: float | Sequence[float] | None = None,
        *,
        train_set: str | Sequence[str] | None = None,
        eval_set: str | Sequence[str] | None = None,
    ) -> Optimum:
        """Find the compute-optimal model size and tokens of budgets, and how they grow with compute.

        Parameters
        ----------
        flops : float or sequence of float, optional
            Budgets C in FLOPs; by default those of the fitted runs (powers of ten among them, if they are no
            isoFLOP runs).
        train_set, eval_set : str or sequence of str, optional
            Keep these; by default every training set, by its train loss.

        Returns
        -------
        Optimum
            With its draws; N*, D* and their exponents in C.

        Raises
        ------
        ForecastError
            If a budget is not positive and finite, or the model has no laws.
        DataError
            If a set was not fitted.
        """
        return optimum(self, flops, train_set=train_set, eval_set=eval_set)

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
            A cell (``"eval@train"``) of losses, error rates or accuracies, whose forecast is to become more certain,
            or a choice, whose expected regret is to become less.
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
            If a set was not fitted, the goal has not left chance, or the model has no laws.
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
        """Pictures of this fit: ``fit.plot.curves()`` and the others of `bayes_l2l.plotting.gallery`."""
        from bayes_l2l.plotting.gallery import Pictures

        return Pictures(self)

    def report(
        self,
        path: str | Path,
        *,
        backtest: Backtest | None = None,
        rollout: Backtest | None = None,
        flops: float | None = None,
    ) -> Path:
        """Write what the fit says as one HTML file, which needs no network; whole or not at all.

        Parameters
        ----------
        path : str or Path
            Where, ending in ``.html``.
        backtest, rollout : Backtest, optional
            Forecasts beside what happened: how far this one can be believed. The second is another word for the
            first.
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
        from bayes_l2l.report.sections import report

        path = Path(path)
        check_output(path, suffixes=PAGE_SUFFIXES)
        page = report(self, backtest=backtest or rollout, flops=flops)
        write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))
        return path

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
        return posterior_file.save(self, path)


def default_model(sweep: Sweep) -> str:
    """Name of the model that a sweep is fitted with where none is named."""
    return DEFAULT_MODEL if sweep.has_sizes else MODEL_WITHOUT_SIZES


def fit(
    sweep: Sweep | str | Path | pd.DataFrame,
    *,
    model: str | Path | ModelSpec | None = None,
    error_model: str | Path | ErrorRateSpec | None = DEFAULT_ERROR_MODEL,
    eval_sets: EvalSets = None,
    draws: int | None = None,
    tune: int | None = None,
    chains: int | None = None,
    random_seed: int | None = None,
    method: Method | None = None,
    sampler: Sampler | None = None,
    target_accept: float | None = None,
    cores: int | None = None,
    progress: bool | Listener = False,
    keep_interrupted: bool = False,
    outliers: Outliers = "set-aside",
    compiled: CompiledModel | None = None,
) -> Fit:
    """Fit a model to a sweep.

    Parameters
    ----------
    sweep : Sweep, str, Path or pandas.DataFrame
        Runs, or what `load_sweep` takes.
    model : str, Path or ModelSpec, optional
        Name of a model, a model file of your own, or a spec; by default "joint", and "relations" for a sweep without
        params and tokens.
    error_model : str, Path, ErrorRateSpec or None, default "error_richards"
        The same, of error rates as a function of loss, if the sweep has error rates; None leaves them out.
    eval_sets : {"train", "all"} or sequence of str, optional
        Evaluations to fit; by default all of the sweep.
    draws, tune, chains : int, optional
        Draws a chain that are kept (1000), draws a chain for adaptation (1000), and chains (4).
    random_seed : int, optional
        Seed (0); the same seed gives the same draws.
    method : {"nuts", "laplace"}, optional
        Markov chains ("nuts", the default), or at once: an approximation about the posterior's modes, of which draws
        are resampled by importance. Where it is bad it is refused; where it is used, the note ``approximate`` says
        so.
    sampler : {"nutpie", "pymc"}, optional
        Implementation of NUTS; nutpie by default.
    target_accept : float, optional
        Mean acceptance that the step size is adapted to (0.97).
    cores : int, optional
        Chains that run at a time; by default as many as the machine has cores, but no more than chains.
    progress : bool or callable, default False
        Whether to show a progress bar; or what is told the name of each stage, and the part of it that is done.
    keep_interrupted : bool, default False
        Whether Ctrl-C keeps what was drawn so far.
    outliers : {"set-aside", "keep"}
        Whether losses that no scatter explains (20 robust standard deviations and more than 1.5 times off) are left
        out, with a note that names them, or fitted like the others.
    compiled : CompiledModel, optional
        Of an earlier fit with the same model and cells, so that nothing is compiled.

    Returns
    -------
    Fit
        With its notes, and with `errors` if the sweep has error rates or accuracies.

    Raises
    ------
    TableError, DataError
        If the sweep is refused, or `outliers` is another word.
    SpecError
        If the model is refused.
    ApproximationError
        If method "laplace" cannot draw from the posterior: NUTS can.
    """
    from bayes_l2l.data.datasets import load_sweep

    if outliers not in get_args(Outliers):
        raise DataError(f"outliers is {outliers!r}; it must be 'set-aside' or 'keep'.")

    spec = compiled.spec if compiled else None if model is None else load_spec(model)
    error_spec = None if error_model is None else load_error_spec(error_model)
    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep)
    spec = spec or load_spec(default_model(sweep))
    if eval_sets is not None:
        sweep = sweep.select(eval_sets=eval_sets)
    if outliers == "set-aside":
        sweep = without_wild_runs(sweep)
    settings = sampler_settings(
        draws=draws,
        tune=tune,
        chains=chains,
        random_seed=random_seed,
        method=method,
        sampler=sampler,
        target_accept=target_accept,
        cores=cores,
        progress=progress is True,
        keep_interrupted=keep_interrupted,
    )
    with told_to(progress if callable(progress) else None):
        found = Fit(**vars(sample(sweep, spec=spec, settings=settings, error_spec=error_spec, compiled=compiled)))
    return replace(found, notes=(*found.notes, *outlying(found)))


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
    return posterior_file.load(path, Fit)
