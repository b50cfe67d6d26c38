"""Error rates of a sweep to a PyMC model of error as a function of loss, and its draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.build import coords, effects_of, parameter
from bayes_l2l.error_fits import GROUPS, ErrorFit
from bayes_l2l.error_rate import ENDINGS, PREDICTORS, ErrorLaw, ErrorSpec
from bayes_l2l.errors import DataError, did_you_mean
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm
    import xarray as xr

    from bayes_l2l.sampling import SamplerSettings
    from bayes_l2l.sweep import Sweep

Floats = npt.NDArray[np.float64]
Cell = tuple[str, str]

#: Error laws are parameterised at this quantile of the losses: where errors say most.
_REFERENCE: Final = 0.25
#: Chance is kept this far from 1 on the logit scale, where nothing could move a ceiling.
_MOST: Final = 0.9999
#: A task has left chance if the quarter of its runs with the lowest losses errs less than chance, and less than the
#: upper half of the runs, by so many times the scatter from one run to the next,
SIGNAL: Final = 2.0
#: and by so much error at least.
LEAST_GAIN: Final = 0.02
#: Normal standard deviations of the median absolute difference of two neighbours.
_NEIGHBOURS: Final = 1.4826 / np.sqrt(2)
#: Least scatter: some tasks have the same error in nearly every run, which a scatter of 0 would explain.
_LEAST: Final = 0.002
_TARGET_ACCEPT: Final = 0.95
_RUN: Final = ["train_set", "run_id"]
_FEWEST_TO_COMPARE: Final = 10
#: What the draws of every form hold of a cell.
_FEWEST_FIELDS: Final = ("ceiling", "level", "slope", "scatter")
#: Ending of the variables that are effects and not yet quantities of a cell.
_EFFECT: Final = "_effect"


@dataclass(frozen=True, eq=False)
class ErrorData:
    """Errors and the losses they are a function of, as arrays; each cell (task, training set) has its runs along row.

    Parameters
    ----------
    cells : list of (str, str)
        (task, train_set) of every cell.
    predictors : list of str
        The evaluation whose loss each cell's error is a function of.
    error, loss, observed : ndarray, shape (row, cell)
        Error rate, loss (nats/token) and 1 where there is a run; elsewhere the cell's chance, its reference and 0.
    per_item : ndarray, shape (row, cell)
        1 over the number of questions, 0 where it is not known.
    chance : ndarray, shape (cell,)
        Error of guessing; where it is not known the largest error of the task.
    reference, smallest : ndarray, shape (cell,)
        Loss at which the law of the cell is parameterised, and smallest loss among its runs (nats/token).
    notes : tuple of Note
        On what was left out.
    """

    cells: list[Cell]
    predictors: list[str]
    error: Floats
    loss: Floats
    observed: Floats
    per_item: Floats
    chance: Floats
    reference: Floats
    smallest: Floats
    notes: tuple[Note, ...] = ()

    @property
    def learned(self) -> npt.NDArray[np.bool_]:
        """Whether each cell has left chance, shape (cell,)."""
        of_cells = zip(self.error.T, self.loss.T, self.observed.T > 0, self.chance, strict=True)
        return np.array([has_left(e[seen], x[seen], chance=c) for e, x, seen, c in of_cells], dtype=bool)

    def only(self, kept: npt.NDArray[np.bool_]) -> ErrorData:
        """These cells alone."""
        along = ("error", "loss", "observed", "per_item", "chance", "reference", "smallest")
        parts: dict[str, Any] = {name: getattr(self, name)[..., kept] for name in along}
        for name in ("cells", "predictors"):
            parts[name] = [value for value, keep in zip(getattr(self, name), kept, strict=True) if keep]
        return replace(self, **parts)

    @classmethod
    def of(cls, sweep: Sweep, *, spec: ErrorSpec) -> ErrorData:
        """Arrange the errors of a sweep.

        Parameters
        ----------
        sweep : Sweep
            With rows of both metrics.
        spec : ErrorSpec
            For the predictor.

        Returns
        -------
        ErrorData

        Raises
        ------
        DataError
            If there are no errors, or no losses that they could be a function of.
        """
        errors = sweep.table[sweep.table["metric"] == "error"]
        losses = sweep.table[sweep.table["metric"] == "loss"]
        if errors.empty:
            raise DataError(f"{sweep.name} has no error rates (rows of metric 'error').")
        rows = errors.assign(predictor=predictors(errors, losses, spec=spec, name=sweep.name))
        known = losses.rename(columns={"eval_set": "predictor", "loss": "_x"})[[*_RUN, "predictor", "_x"]]
        rows = rows.merge(known, on=[*_RUN, "predictor"], how="left")
        notes = _without_loss(rows)
        rows = rows[rows["_x"].notna()]
        if rows.empty:
            wanted = ", ".join(sorted(rows["predictor"].unique())) or spec.predictor
            raise DataError(f"{sweep.name} has no run with both an error rate and the loss on {wanted}.")
        cells = sorted(set(zip(rows["eval_set"], rows["train_set"], strict=True)))
        column = np.array([cells.index(c) for c in zip(rows["eval_set"], rows["train_set"], strict=True)])
        row = rows.groupby(["eval_set", "train_set"]).cumcount().to_numpy()
        of_cell = rows.drop_duplicates(["eval_set", "train_set"]).set_index(["eval_set", "train_set"])
        names = [str(of_cell.at[cell, "predictor"]) for cell in cells]
        quantile = rows.drop_duplicates([*_RUN, "predictor"]).groupby("predictor")["_x"].quantile(_REFERENCE)
        reference = quantile.loc[names].to_numpy()
        chance = np.asarray(_chance(rows).loc[[task for task, _ in cells]], dtype=np.float64)

        def spread(values: Any, elsewhere: Any) -> Floats:
            full = np.broadcast_to(np.asarray(elsewhere, dtype=float), (row.max() + 1, len(cells))).copy()
            full[row, column] = values
            return full

        per_item = (1 / rows["n_items"]).fillna(0.0) if "n_items" in rows else 0.0
        loss = spread(rows["_x"], reference)
        observed = spread(1.0, 0.0)
        return cls(
            cells=cells,
            predictors=names,
            error=spread(rows["loss"], chance),
            loss=loss,
            observed=observed,
            per_item=spread(per_item, 0.0),
            chance=chance,
            reference=reference,
            smallest=np.where(observed > 0, loss, np.inf).min(axis=0),
            notes=notes,
        )

    @property
    def labels(self) -> list[str]:
        """Names of the cells, "task|train"."""
        return ["|".join(cell) for cell in self.cells]

    def arrays(self, form: str) -> dict[str, Floats]:
        """What the model of a form holds as `pm.Data`, by name."""
        names = ["error", "loss", "observed", "per_item", "chance", "reference"]
        return {name: getattr(self, name) for name in (*names, *(["smallest"] if form == "power" else []))}


def has_left(error: Floats, loss: Floats, *, chance: float) -> bool:
    """Whether a task has left chance by more than runs scatter (`SIGNAL`, `LEAST_GAIN`).

    A law has nothing to hold on to otherwise, and its posterior is all corners; this is looked at before sampling.

    Parameters
    ----------
    error, loss : ndarray, shape (run,)
        Of one task and training set.
    chance : float
        Error of guessing.
    """
    along = error[np.argsort(loss, kind="stable")]
    best = along[: max(1, len(along) // 4)].mean()
    # Neighbours in loss differ by their scatter, and hardly by the law.
    scatter = _NEIGHBOURS * np.median(np.abs(np.diff(along))) if len(along) > 1 else np.inf
    gained = min(chance, float(np.median(along[len(along) // 2 :]))) - best
    return bool(gained > max(SIGNAL * scatter, LEAST_GAIN))


def predictors(errors: pd.DataFrame, losses: pd.DataFrame, *, spec: ErrorSpec, name: str) -> list[str]:
    """Evaluation whose loss every error is a function of.

    Parameters
    ----------
    errors, losses : pandas.DataFrame
        Rows of either metric of a canonical long table.
    spec : ErrorSpec
        Which loss is meant (`bayes_l2l.error_rate.PREDICTORS`).
    name : str
        What messages call the table.

    Returns
    -------
    list of str
        One a row of `errors`.

    Raises
    ------
    DataError
        If the table lacks the loss that is meant.
    """
    evaluations = set(losses["eval_set"])
    own = {t for t, e in zip(losses["train_set"], losses["eval_set"], strict=True) if t == e}
    if spec.predictor == "task":
        found = [_stem(task) for task in errors["eval_set"]]
        if lacking := sorted({task for task in errors["eval_set"] if _stem(task) not in evaluations}):
            stem = _stem(lacking[0])
            raise DataError(
                f"{name} has no loss on {stem!r}, which error rate {lacking[0]!r} is to be a function of "
                f"(predictor = 'task'): call the loss {stem!r} and the error {stem}_error."
            )
        return found
    if spec.predictor not in PREDICTORS:
        if spec.predictor not in evaluations:
            raise DataError(
                f"{name} has no loss on {spec.predictor!r}, which {spec.name!r} takes error as a function of"
                f"{did_you_mean(spec.predictor, evaluations)}"
            )
        return [spec.predictor] * len(errors)
    shared = _smoothest(errors, losses) if spec.predictor == "shared" else None
    if shared is not None:
        return [shared] * len(errors)
    if lacking := sorted(set(errors["train_set"]) - own):
        raise DataError(
            f"{name} has error rates of models trained on {lacking[0]!r}, but neither their loss on its own data (an "
            "evaluation of the same name; [own] in the mapping file) nor one evaluation that all training sets have: "
            "errors are a function of loss."
        )
    return list(errors["train_set"])


def _stem(task: str) -> str:
    for ending in ENDINGS:
        if task.endswith(ending):
            return task.removesuffix(ending)
    return task


def _smoothest(errors: pd.DataFrame, losses: pd.DataFrame) -> str | None:
    """Evaluation of all runs with errors whose loss is known best: by its standard error, else by its scatter."""
    runs = errors[_RUN].drop_duplicates()
    both = losses.merge(runs, on=_RUN)
    sets = both.groupby("eval_set")["train_set"].nunique()
    both = both[both["eval_set"].isin(sets.index[sets == runs["train_set"].nunique()])]
    if both.empty:
        return None
    counts = both.groupby("eval_set").size()
    both = both[both["eval_set"].isin(counts.index[counts == counts.max()])]
    if "loss_se" in both and both["loss_se"].notna().all():
        noise = (both["loss_se"] / both["loss"]).groupby(both["eval_set"]).median()
    else:
        noise = both.groupby("eval_set")[["train_set", "params", "tokens", "loss"]].apply(_scatter)
    return str(noise.idxmin())


def _scatter(runs: pd.DataFrame) -> float:
    """Scatter of log loss about a surface in log N and log D, the worst of the training sets."""
    found = []
    for _, part in runs.groupby("train_set"):
        n, d, y = (np.log(part[c].to_numpy()) for c in ("params", "tokens", "loss"))
        n, d = n - n.mean(), d - d.mean()
        terms = [np.ones_like(n), n, d, n * n, n * d, d * d]
        surface = np.stack(terms[: 6 if len(n) >= _FEWEST_TO_COMPARE else 3], axis=1)
        found.append(float(np.std(y - surface @ np.linalg.lstsq(surface, y, rcond=None)[0])))
    return max(found)


def _chance(rows: pd.DataFrame) -> pd.Series[float]:
    """Chance of every task; its largest error where no row says it."""
    largest = rows.groupby("eval_set")["loss"].max()
    said = rows.groupby("eval_set")["chance"].median() if "chance" in rows else largest
    return said.fillna(largest).clip(lower=1 - _MOST, upper=1.0)


def _without_loss(rows: pd.DataFrame) -> tuple[Note, ...]:
    lost = rows[rows["_x"].isna()]
    if lost.empty:
        return ()
    first = lost.iloc[0]
    message = (
        f"{len(lost)} of {len(rows)} error rates are not used: their runs have no loss on {first['predictor']!r} "
        f"(the first is run {first['run_id']!r})"
    )
    return (Note("errors_without_loss", "warning", message, {"rows": len(lost)}),)


def build_errors(spec: ErrorSpec, data: ErrorData) -> pm.Model:
    """Build the model.

    Parameters
    ----------
    spec : ErrorSpec
        What is believed.
    data : ErrorData
        What is known.

    Returns
    -------
    pymc.Model
        With the fields of `ErrorLaw` and ``scatter`` along ``cell``, and ``nu``; the likelihood is the potential
        ``log_likelihood``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    effects, ones = effects_of(data.cells), pt.ones(len(data.cells))
    with pm.Model(coords=coords(data)) as model:  # type: ignore[arg-type]
        known = {name: pm.Data(name, value) for name, value in data.arrays(spec.form).items()}

        def value(name: str, prior: Any) -> Any:
            drawn = parameter(f"{name}{_EFFECT}", prior, effects)
            dim = prior.dims[0] if prior.dims else None
            return drawn[effects[dim][1]] if dim in effects else drawn * ones

        drawn = {name: value(name, prior) for name, prior in spec.priors.items()}
        chance = pt.minimum(known["chance"], _MOST)
        ceiling = pt.sigmoid(pt.log(chance) - pt.log1p(-chance) + drawn["ceiling"])
        slope = drawn["kappa" if spec.form == "power" else "rate"]
        law = {"ceiling": ceiling, "level": drawn["level"], "slope": slope}
        if "floor" in drawn:
            law["floor"] = ceiling * drawn["floor"]
        if spec.form == "richards":
            # Runs know log(-log(err / ceiling)) and its slope at the reference, whatever the shape: the priors are on
            # these, which decides how NUTS goes.
            fallen = drawn["shape"] * pt.exp(drawn["level"])  # log(1 + s exp(u))
            law |= {
                "level": fallen + pt.log(-pt.expm1(-fallen)) - pt.log(drawn["shape"]),
                "slope": slope * fallen / -pt.expm1(-fallen),
                "shape": drawn["shape"],
            }
        if spec.form == "power":
            law |= {"E": known["smallest"] * drawn["E_fraction"], "sharpness": drawn["sharpness"]}
        curve = ErrorLaw(form=spec.form, reference=known["reference"], **law)(known["loss"])
        scatter = value("scatter", spec.scatter)
        nu = parameter(f"nu{_EFFECT}", spec.nu, effects)
        for name, along in {**law, "scatter": scatter}.items():
            pm.Deterministic(name, along, dims="cell")
        pm.Deterministic("nu", pt.as_tensor(nu))
        inside = pt.clip(curve, 0.0, 1.0)
        above = pt.maximum(known["loss"] - known["reference"], 0.0)
        off = value("discrepancy", spec.discrepancy) * known["chance"] * above
        noise = pt.sqrt(scatter**2 + _LEAST**2 + off**2 + known["per_item"] * inside * (1 - inside))
        density = pm.logp(pm.StudentT.dist(nu=nu, sigma=noise), known["error"] - curve)
        pm.Potential("log_likelihood", (known["observed"] * density).sum())
    return model


def fit_errors(sweep: Sweep, *, spec: ErrorSpec, settings: SamplerSettings) -> tuple[ErrorFit, dict[str, xr.Dataset]]:
    """Fit the error rates of a sweep.

    Parameters
    ----------
    sweep : Sweep
        With rows of both metrics; the losses of the runs are taken as measured.
    spec : ErrorSpec
        What is believed.
    settings : SamplerSettings
        How the posterior is drawn.

    Returns
    -------
    ErrorFit
        The draws, of the same chains as those of the losses.
    dict of xarray.Dataset
        Its groups in the file of a fit.

    Raises
    ------
    DataError
        If there are no errors, or no losses that they could be a function of.
    """
    import xarray as xr

    from bayes_l2l.sampling import diagnose, run_nuts

    data = ErrorData.of(sweep, spec=spec)
    # Draws are paired with those of the losses: with one seed they would not be independent.
    # Their posterior bends less than that of a law, and needs no shorter steps.
    settings = replace(settings, seed=settings.seed + 2, target_accept=min(settings.target_accept, _TARGET_ACCEPT))
    learned = data.learned
    kept = data.only(learned)
    if learned.any():
        model = build_errors(spec, kept)
        posterior, stats = run_nuts(model, kept.arrays(spec.form), settings, what=(spec.name, sweep.name))
        diagnostics, notes = diagnose(_reported(posterior, along=True), stats, settings)
        law = _reported(posterior, along=False).assign_coords(cell=kept.labels).reindex(cell=data.labels)
    else:
        law, stats, diagnostics, notes = _nothing(data, settings), xr.Dataset(), xr.Dataset(), []
    law = law.assign_coords(
        task=("cell", [task for task, _ in data.cells]),
        train_set=("cell", [train for _, train in data.cells]),
        predictor=("cell", data.predictors),
        chance=("cell", data.chance),
        reference=("cell", data.reference),
        smallest=("cell", data.smallest),
        learned=("cell", learned),
    )
    fitted = ErrorFit(law, spec, settings.seed, ())
    objections = [replace(note, message=f"errors: {note.message}") for note in notes]
    groups = dict(zip(GROUPS, (law, stats, diagnostics), strict=True))
    return replace(fitted, notes=(*data.notes, *objections, *fitted.objections())), groups


def _nothing(data: ErrorData, settings: SamplerSettings) -> xr.Dataset:
    """Draws of no task: NaN."""
    import xarray as xr

    size = (settings.chains, settings.draws)
    along = {name: (("chain", "draw", "cell"), np.full((*size, len(data.cells)), np.nan)) for name in _FEWEST_FIELDS}
    coordinates = {"chain": range(size[0]), "draw": range(size[1]), "cell": data.labels}
    return xr.Dataset({**along, "nu": (("chain", "draw"), np.full(size, np.nan))}, coords=coordinates)


def _reported(posterior: xr.Dataset, *, along: bool) -> xr.Dataset:
    """Quantities of the cells; with the hyper-parameters that are single numbers, or without."""
    kept = []
    for name, values in posterior.items():
        dims = set(values.dims) - {"chain", "draw"}
        of_cells = dims == {"cell"} and not str(name).endswith(_EFFECT)
        if of_cells or (not dims and (along or name == "nu")):
            kept.append(str(name))
    return posterior[kept].drop_vars(["eval_set", "train_set"], errors="ignore")
