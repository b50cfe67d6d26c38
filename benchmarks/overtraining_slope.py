"""Whether loss falls with compute at the same slope for every number of tokens per parameter M = D/N.

Along a line of equal M, log(L - E) falls with log C at the slope -(alpha w + beta (1 - w))/2, where w is the part of
R that is due to the model's size. Lines of all M are parallel if and only if alpha = beta, as in Eq. 4 of arXiv
2403.08540. Here the members of the family are compared on the C4 validation losses that were not held out: by
PSIS-LOO, by hindcasts, and by what the posterior says of the slope itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

import bayes_l2l as l2l
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.evaluation.scores import crps_draws, score_rows, summary
from bayes_l2l.evaluation.splits import Split
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN, Law
from bayes_l2l.posterior.draws import law_draws, stacked
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.structures.arrays import LossArrays
from bayes_l2l.structures.laws import LawSpec
from bayes_l2l.structures.models import load_spec
from bayes_l2l.structures.size_effect import log_density

LOSS: Final = "c4_val"
MEMBERS: Final = ("overtraining", "chinchilla", "kaplan", "generalised")
#: Smallest compute (FLOPs) of the fitted runs: all runs, and those without the smallest.
WINDOWS: Final = (0.0, 1e18)
#: Budgets after which hindcasts are cut (FLOPs); the largest run that is not held out has 6.5e20.
CUTOFFS: Final = (3e18, 1e19, 4.1e19)
#: Where the slope is read off: the ends of the range of M that was run, the paper's two, and a compute in its midst.
MULTIPLES: Final = (5.0, 20.0, 320.0, 640.0)
FLOPS: Final = 1e19
#: Tokens per parameter above which a run is called over-trained here.
OVER: Final = 100.0
Q: Final = (0.05, 0.5, 0.95)


def member(name: str) -> LawSpec:
    """A member of the family with the priors and the noise of overtraining.toml.

    beta, where it is free, has the prior of alpha, on its own; gamma that of law.toml. Nothing else differs, so that
    what is compared are mean functions.
    """
    record = l2l.load_spec("overtraining").to_dict()
    priors = dict(record["priors"])
    if name != "overtraining":
        priors["beta"] = priors["alpha"]
    if name == "generalised":
        priors["gamma"] = l2l.load_spec("law").to_dict()["priors"]["gamma"]
    spec = load_spec(record | {"name": name, "law": name, "priors": priors})
    assert isinstance(spec, LawSpec)
    return spec


def slope(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every member, compiled once, on both windows and on every split of the hindcasts."""
    sweep = l2l.load_sweep("gadre", eval_sets=[LOSS])
    return tables([of_member(name, sweep, settings) for name in MEMBERS])


def of_member(name: str, sweep: Sweep, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured of one member: LOO and slopes by window, rows of hindcasts, and notes on its fits."""
    compiled = CompiledModel(member(name), sweep)
    found: dict[str, Any] = {"model": name, "loo": {}, "slopes": [], "notes": []}

    def fitted(runs: pd.DataFrame, what: str) -> l2l.Fit:
        kept = Sweep.from_table(runs, name=sweep.name)
        fit = l2l.fit(kept, model=compiled.spec, compiled=compiled, **settings)
        found["notes"] += [f"{name}, {what}: {note}" for note in fit.notes if note.severity != "info"]
        return fit

    sampler = SamplerSettings(**{"seed" if k == "random_seed" else k: v for k, v in settings.items()})
    for least in WINDOWS:
        fit = fitted(sweep.table[sweep.table["flops"] >= least], f"C of at least {least:g}")
        found["loo"][least] = leave_one_out(fit, compiled, sampler)
        found["slopes"] += [{"model": name, "least_flops": least, **row} for row in slopes_of(fit)]
    splits = {cutoff: Split("hindcast", cutoff).parts(sweep.table) for cutoff in CUTOFFS}
    rows = [hindcast(fitted(runs, f"C up to {cutoff:g}"), ahead, cutoff) for cutoff, (runs, ahead) in splits.items()]
    found["hindcasts"] = pd.concat(rows).assign(model=name)
    return found


def tables(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tables of the part, from what was measured of the members."""
    compared = []
    for least in WINDOWS:
        rows = comparison({str(one["model"]): one["loo"][least] for one in members})
        compared += [{"least_flops": least, **row} for row in rows]
    scored = scores_of(pd.concat([one["hindcasts"] for one in members]))
    slopes, notes = ([row for one in members for row in one[name]] for name in ("slopes", "notes"))
    return {"compared": compared, "slopes": slopes, "hindcasts": scored, "notes": notes}


# Leaving out all runs of one size


def densities(posterior: xr.Dataset, data: LossArrays) -> xr.DataArray:
    """Log density of the losses of every size, dims chain, draw and size.

    Runs of equal (N, D) share an effect, so that they are left out together; the effect is integrated out.
    """
    long = stacked(posterior)
    law = law_draws(long, slice(None))
    law = Law(**{name: value[:, None, :] for name, value in vars(law).items()})
    loss = law.loss(*np.exp([data.log_params, data.log_tokens])[:, None, :, None], data.shift[None, :, None])
    residual_scale = long["residual_scale"].to_numpy()[:, None, :]
    effect_scale = long["size_effect_scale"].to_numpy()[:, None]
    found = log_density(
        (data.log_loss - np.log(loss)) * data.observed,
        variance=residual_scale**2 + data.noise**2,
        shared=np.hypot(effect_scale, data.discrepancy)[..., None] * law.gamma * (1 - law.E / loss),
        total=lambda values: (values * data.observed).sum(axis=-1),
    )
    sizes = {dim: posterior.sizes[dim] for dim in ("chain", "draw")}
    return xr.DataArray(found.reshape(*sizes.values(), -1), dims=(*sizes, "size"), name="loss")


def leave_one_out(fit: l2l.Fit, compiled: CompiledModel, settings: SamplerSettings) -> Any:
    """PSIS-LOO over sizes; the density of a size whose Pareto k is too large comes from a fit without it."""
    import arviz_stats

    data = compiled.structure.arrange(fit.spec, fit.sweep)
    tree = {"posterior": fit.draws, "log_likelihood": densities(fit.draws, data).to_dataset()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter of Pareto")  # they are refitted
        found = arviz_stats.loo(xr.DataTree.from_dict(tree), pointwise=True)
    elpd = found.elpd_i.copy()
    for size in np.flatnonzero(found.pareto_k.to_numpy() > found.good_k):
        posterior, _ = compiled.draw(without(data, size), settings, name=fit.sweep.name)
        left_out = densities(posterior, data).isel(size=size).to_numpy()
        elpd[size] = logsumexp(left_out) - np.log(left_out.size)
    n = elpd.size
    found.elpd_i, found.elpd, found.se = elpd, float(elpd.sum()), float(np.sqrt(n * elpd.var()))
    return found


def without(data: LossArrays, size: int) -> LossArrays:
    """The same without the losses of one size; the priors, which the smallest loss scales, stay as they are."""
    observed = data.observed.copy()
    observed[size] = 0
    return replace(data, observed=observed)


def comparison(loos: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sum of the log densities, its difference from the best with the standard error, and Pareto k, a row a model."""
    best = max(loos, key=lambda name: loos[name].elpd)
    rows = []
    for name, loo in sorted(loos.items(), key=lambda item: -item[1].elpd):
        gap = (loo.elpd_i - loos[best].elpd_i).to_numpy()
        k = loo.pareto_k.to_numpy()
        rows.append(
            {
                "model": name,
                "elpd": float(loo.elpd),
                "difference": float(gap.sum()),
                "se": float(np.sqrt(len(gap) * gap.var())),
                "p": float(loo.p),
                "sizes": len(gap),
                "largest_k": float(k.max()),
                "refitted": int((k > loo.good_k).sum()),
            }
        )
    return rows


# What the posterior says of the slope


def slope_at(law: Law, multiple: float, flops: float) -> Any:
    """Slope d log(L - E) / d log C along the line of M = `multiple` tokens per parameter, at `flops` FLOPs."""
    params = np.sqrt(flops / (FLOPS_PER_PARAM_TOKEN * multiple))
    terms = (
        law.alpha / law.gamma * (law.log_A - np.log(params)),
        law.beta / law.gamma * (law.log_B - np.log(multiple * params)),
    )
    of_size = np.exp(terms[0] - np.logaddexp(*terms))
    return -(law.alpha * of_size + law.beta * (1 - of_size)) / 2


def slopes_of(fit: l2l.Fit) -> list[dict[str, Any]]:
    """Median and 90% interval of what tells whether lines of equal M are parallel."""
    law = law_draws(stacked(fit.draws), slice(None))
    slopes = {multiple: slope_at(law, multiple, FLOPS) for multiple in MULTIPLES}
    first, last = min(MULTIPLES), max(MULTIPLES)
    change = (slopes[last] - slopes[first]) / np.log10(last / first)
    shown = {"alpha - beta": law.alpha - law.beta, "slope's change per tenfold M": change}
    shown |= {"gamma": law.gamma}
    shown |= {f"slope at M = {multiple:g}": value for multiple, value in slopes.items()}
    rows = []
    for quantity, draws in shown.items():
        each = {train: draws[:, i] for i, (_, train) in enumerate(fit.cells)} if quantity == "alpha - beta" else {}
        for of, values in ({"mean of the sets": draws.mean(axis=1)} | each).items():
            low, median, high = np.quantile(values, Q)
            above = float((values > 0).mean())
            rows.append(
                {"quantity": quantity, "of": of, "low": low, "median": median, "high": high, "above_0": above}
            )
    return rows


# Hindcasts


def hindcast(fit: l2l.Fit, ahead: pd.DataFrame, cutoff: float) -> pd.DataFrame:
    """Forecasts of the runs above a cut-off beside their losses."""
    runs = ahead.reset_index(drop=True)
    forecast = fit.forecast(runs[["train_set", "eval_set", "params", "tokens"]])
    multiple, actual = runs["tokens"] / runs["params"], runs["loss"].to_numpy()
    return forecast.table().assign(
        actual=actual,
        crps=100 * crps_draws(forecast.draws, actual) / actual,
        after=f"C above {cutoff:.0e}",
        runs=np.where(multiple > OVER, f"M above {OVER:g}", f"M up to {OVER:g}"),
    )


def scores_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Scores of every model over all splits, by cut-off, and by how over-trained the forecast runs are."""
    scored = score_rows(rows)
    averaged = [summary(scored, by="model").assign(what="all")]
    averaged += [summary(scored, by=["model", by]).rename(columns={by: "what"}) for by in ("after", "runs")]
    kept = ["what", "model", "n", "rel_error", "bias", "crps", "coverage50", "coverage90", "width90"]
    table = pd.concat(averaged)[kept].sort_values("what", kind="stable")
    return [dict(row) for row in table.to_dict(orient="records")]


def as_markdown(found: Mapping[str, Any]) -> list[str]:
    """The tables of the part, from what is stored."""
    lines = [
        "Runs that were not held out, C4 validation loss, three training sets. All members have the priors and the"
    ]
    lines += ["noise of `overtraining.toml`. LOO leaves out all runs of one (N, D) together."]
    compared = pd.DataFrame(found["compared"])
    for least, rows in compared.groupby("least_flops"):
        lines += ["", f"LOO, {_window(least)} ({rows['sizes'].iloc[0]} sizes):", ""]
        lines += ["| model | log density | less than the best (se) | effective parameters | largest k | refitted |"]
        lines += ["|" + "---|" * 6]
        for row in rows.itertuples():
            lines.append(
                f"| {row.model} | {row.elpd:.1f} | {row.difference:.1f} ({row.se:.1f}) | {row.p:.1f} | "
                f"{row.largest_k:.2f} | {row.refitted} |"
            )
    slopes = pd.DataFrame(found["slopes"])
    for least, rows in slopes.groupby("least_flops"):
        lines += [
            "",
            f"Posterior, median and 90% interval, {_window(least)}; slope of log(L - E) in log C at 1e19:",
            "",
        ]
        table = rows.assign(
            shown=[_interval(row.low, row.median, row.high) for row in rows.itertuples()],
            label=[r.quantity if r.of.startswith("mean") else f"{r.quantity}, {r.of}" for r in rows.itertuples()],
        )
        wide = table.set_index(["label", "model"])["shown"].unstack(fill_value="").loc[table["label"].unique()]  # noqa: PD010
        models = list(table["model"].unique())
        lines += ["| | " + " | ".join(models) + " |", "|" + "---|" * (1 + len(models))]
        lines += [f"| {label} | " + " | ".join(wide.loc[label, models]) + " |" for label in wide.index]
    lines += ["", "Hindcasts, fitted to the runs up to a cut-off, the others predicted:", ""]
    lines += [
        "| runs | model | n | error % | bias % | CRPS % | 50% holds % | 90% holds % | width % |",
        "|" + "---|" * 9,
    ]
    for row in found["hindcasts"]:
        lines.append(
            f"| {row['what']} | {row['model']} | {row['n']} | {row['rel_error']:.2f} | {row['bias']:.2f} | "
            f"{row['crps']:.2f} | {row['coverage50']:.0f} | {row['coverage90']:.0f} | {row['width90']:.1f} |"
        )
    return lines


def _interval(low: float, median: float, high: float) -> str:
    """Median and interval; one number where the form of the law fixes it."""
    if high - low < 1e-12:
        return f"{median:.3g}" if abs(median) > 1e-12 else "0"
    return f"{median:.3f} ({low:.3f} to {high:.3f})"


def _window(least: float) -> str:
    return f"runs of at least {least:.0e} FLOPs" if least else "all runs"
