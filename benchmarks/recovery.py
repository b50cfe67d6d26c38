"""Are known parameters recovered? Simulation-based calibration of the shipped models, as a command.

Parameters are drawn from the model's own prior, a sweep is simulated from them on a modest grid, and the model is
refitted to it: over many sweeps, a 50% interval must hold the truth in 50% of them and the rank of the truth
among the draws must be uniform (Talts et al., arXiv 1804.06788). Everything is refitted through one compiled
model::

    python benchmarks/recovery.py --model law --simulations 60
    python benchmarks/recovery.py --model joint --cases 0 --simulations 200

How the pieces are read, so that the figures can be judged:

- Runs scatter as the model file says: each cell on its own, and all runs of one size together, by the shared size
  effect and by the discrepancy that small runs have.
- A joint model also derives the relations between cells: K and kappa from the first cell to each of the others.
- ``--evaluations`` adds downstream evaluations (see `bayes_l2l.structures.joint`). What the train losses tell of R is
  then exact; an evaluation's own parameters are drawn given an R that the evaluation itself was not asked about, so
  their ranks need not be uniform, and show what the cut costs.
- Weights. With ``weight_exponent > 0`` a run's log-likelihood counts ``w = (C / largest C)^weight_exponent``. A
  Gaussian density raised to w has the shape of one whose standard deviation is ``w^(-1/2)`` times as large, so runs
  are simulated with that. Given the size of the noise, the two say the same of the law. The size itself is then
  estimated too large, since all runs scatter by ``w^(-1/2)`` but count only as ``sum(w)`` runs: intervals are on the
  wide side, and lean on the prior more than the data would need.
- E's prior is a fraction of the smallest loss in the data. ``template`` holds that scale fixed at the value the
  truth was drawn with: the model that is refitted is then exactly the one that simulated. ``data`` takes it from
  each simulated sweep, as a user's fit does: the prior is then slightly another one.
- Sweeps whose smallest losses lie further than 25% from the scale that they were drawn with, or that hold a loss
  above 15 nats, are drawn again: no such table would be fitted. The rule looks at the data alone, so calibration
  over the sweeps that are kept is as exact as over all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from bayes_l2l.data.simulation import PUBLISHED_LAWS
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.inference.diagnostics import diagnose
from bayes_l2l.laws.residuals import Normal, Residuals
from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN, Law, law_loss
from bayes_l2l.posterior.draws import LAW_VARIABLES, law_draws, stacked
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.spec.likelihood import LawLikelihood
from bayes_l2l.structures.arrays import LossArrays
from bayes_l2l.structures.joint import JointSpec
from bayes_l2l.structures.laws import LawSpec
from bayes_l2l.structures.models import load_spec

VARIABLES = ("E", "alpha", "beta", "gamma", "log_A", "log_B")
LEVELS = (0.5, 0.9)
BINS = 10
NEAR = 1.25  # how far a smallest loss may lie from the scale of its prior, as a factor
HIGHEST = 15.0  # nats/token
_NORMAL = Normal()


@dataclass(frozen=True)
class Case:
    """One way to simulate and to refit: how runs scatter, and where the scale of E's prior comes from."""

    name: str
    likelihood: LawLikelihood
    scale: str  # "template" or "data"


def template(
    train_sets: Sequence[str] = ("fineweb-edu-100b", "proof-pile-2", "starcoder"), *, evaluations: int = 0
) -> Sweep:
    """Sweep on the grid of the simulations: five budgets of eight sizes, the same on every training set.

    Parameters
    ----------
    train_sets : sequence of str
        Names of `simulation.PUBLISHED_LAWS`.
    evaluations : int
        How many evaluations besides the train losses; here they lie above these, by a fifth each.
    """
    flops = np.repeat(np.geomspace(1e18, 4e19, 5), 8)
    ratio = np.tile(np.geomspace(4, 150, 8), 5)  # tokens a parameter
    params = np.sqrt(flops / FLOPS_PER_PARAM_TOKEN / ratio)
    tokens = flops / FLOPS_PER_PARAM_TOKEN / params
    parts = []
    for name in train_sets:
        law = PUBLISHED_LAWS[name]
        loss = law_loss(params, tokens, gamma=law["beta"], **law)
        for i, evaluation in enumerate([name, *(f"evaluation {n}" for n in range(1, evaluations + 1))]):
            cell = {"train_set": name, "eval_set": evaluation, "loss": (1 + 0.2 * i) * loss}
            parts.append(pd.DataFrame({**cell, "params": params, "tokens": tokens}))
    return Sweep.from_table(pd.concat(parts, ignore_index=True), name="template", simulated=True)


def simulate(
    prior: Any, data: LossArrays, rng: np.random.Generator, *, downstream: Residuals = _NORMAL
) -> Iterator[tuple[dict[str, np.ndarray[Any, Any]], LossArrays, int]]:
    """Simulate sweeps on the grid of some data, one a prior draw.

    Parameters
    ----------
    prior : xarray.Dataset
        Draws of the parameters, along ``draw``.
    data : LossArrays
        Grid, weights and the scale of E's prior.
    rng : numpy.random.Generator
        Of the runs' noise.
    downstream : Residuals
        What downstream evaluations scatter.

    Yields
    ------
    truth : dict of ndarray, shape (cell,)
        Parameters.
    simulated : LossArrays
        The same grid with the simulated losses.
    tried : int
        Prior draws used so far, refused ones included.
    """
    params, tokens = np.exp(data.log_params)[:, None], np.exp(data.log_tokens)[:, None]
    spread = data.weight[:, None] ** -0.5
    for tried in range(prior.sizes["draw"]):
        one = prior.isel(draw=tried)
        truth = {name: one[name].to_numpy() for name in (*LAW_VARIABLES, "residual_scale")}
        law = Law(**{name: truth[name] for name in LAW_VARIABLES})
        loss = law.loss(params, tokens, data.shift[:, None])
        effect_scale = np.hypot(float(one["size_effect_scale"]), data.discrepancy)[:, None]
        shared = effect_scale * law.gamma * (1 - law.E / loss) * rng.standard_normal((len(loss), 1))
        residual = rng.standard_normal(loss.shape)
        if "anchor" in prior.coords:
            residual = np.where(prior["anchor"], residual, downstream.draw(rng, residual))
        own = truth["residual_scale"] * residual
        log_loss = np.log(loss) + spread * (shared + own)
        gap = np.log(np.exp(log_loss).min(axis=0) / data.smallest)
        if (np.abs(gap) < np.log(NEAR)).all() and log_loss.max() < np.log(HIGHEST):
            yield truth, replace(data, log_loss=log_loss), tried + 1


def quantities(law: Law, *, related: bool) -> dict[str, Any]:
    """What is ranked.

    Parameters
    ----------
    law : Law
        Draws or the truth, cells along the last axis.
    related : bool
        Whether all cells share one R.

    Returns
    -------
    dict of ndarray
        `VARIABLES`, shaped as they are; if related, log K and kappa from the first cell to each of the others.
    """
    found = {name: getattr(law, name) for name in VARIABLES}
    if related:
        first, others = (Law(**{n: v[..., cells] for n, v in vars(law).items()}) for cells in ([0], slice(1, None)))
        relation = first.relation_to(others)
        found |= {"log_K": np.log(relation.K), "kappa": relation.kappa}
    return found


def refit(compiled: CompiledModel, data: LossArrays, settings: SamplerSettings) -> tuple[Any, dict[str, float]]:
    """Draw from the posterior; once more and three times as long where the chains disagree."""
    for attempt in range(2):
        posterior, stats = compiled.draw(data, settings, name="a simulated sweep")
        found, _ = diagnose(compiled.structure.diagnosed(posterior), stats, settings)
        law = found[[name for name in VARIABLES if name in found]].to_array()
        checks = {
            "rhat": float(law.sel(diagnostic="rhat").max()),
            "ess": float(law.sel(diagnostic="ess_bulk").min()),
            "divergences": int(stats["diverging"].sum()),
            "attempts": attempt + 1,
        }
        if checks["rhat"] < 1.05 and checks["ess"] > 100:
            break
        settings = replace(settings, draws=3 * settings.draws, tune=3 * settings.tune)
    return posterior, checks


def recover(
    compiled: CompiledModel,
    sweep: Sweep,
    case: Case,
    *,
    simulations: int,
    settings: SamplerSettings,
) -> dict[str, Any]:
    """Run one case.

    Parameters
    ----------
    compiled : CompiledModel
        Of the template.
    sweep : Sweep
        The template.
    case : Case
        What to simulate and how to refit.
    simulations : int
        How many sweeps.
    settings : SamplerSettings
        How each posterior is drawn.

    Returns
    -------
    dict
        The case, its ranks (rank of the truth among the draws as a fraction, by variable, simulation and cell),
        the samplers' checks and how many prior draws were refused.
    """
    spec = replace(compiled.spec, likelihood=case.likelihood)
    data = compiled.structure.arrange(spec, sweep)
    rng = np.random.default_rng(settings.seed)
    # The more cells, the fewer prior draws are plausible in all of them.
    prior = compiled.prior(12 * max(50, simulations * len(data.cells)), settings.seed).isel(chain=0)
    related = isinstance(spec, JointSpec)
    downstream = spec.downstream.residuals if isinstance(spec, JointSpec) else _NORMAL
    ranks: dict[str, list[list[float]]] = {}
    checks, tried = [], 0
    started = perf_counter()
    for number, (truth, simulated, used) in enumerate(simulate(prior, data, rng, downstream=downstream)):
        if number == simulations:
            break
        tried = used
        if case.scale == "data":
            simulated = replace(simulated, smallest=np.exp(simulated.log_loss).min(axis=0))
        posterior, found = refit(compiled, simulated, replace(settings, seed=settings.seed + number))
        checks.append(found)
        drawn = quantities(law_draws(stacked(posterior), slice(None)), related=related)
        for name, value in quantities(Law(**{n: truth[n] for n in LAW_VARIABLES}), related=related).items():
            ranks.setdefault(name, []).append((drawn[name] < value).mean(axis=0).tolist())
        sys.stderr.write(f"\r{case.name}: {number + 1} of {simulations}, {perf_counter() - started:.0f} s ")
    sys.stderr.write("\n")
    if len(checks) < simulations:
        raise RuntimeError(f"{case.name}: only {len(checks)} of {len(prior['draw'])} prior draws could be used.")
    return {
        "case": {"name": case.name, "likelihood": case.likelihood.to_dict(), "scale": case.scale},
        "simulations": simulations,
        "prior_draws_tried": tried,
        "seconds": round(perf_counter() - started, 1),
        "worst_rhat": max(c["rhat"] for c in checks),
        "least_ess": min(c["ess"] for c in checks),
        "divergences": sum(c["divergences"] for c in checks),
        "drawn_twice": sum(c["attempts"] > 1 for c in checks),
        "coverage": {name: coverage(np.array(found), seed=settings.seed) for name, found in ranks.items()},
        "ranks": {name: np.round(found, 4).tolist() for name, found in ranks.items()},
    }


def coverage(ranks: np.ndarray[Any, Any], *, seed: int = 0) -> dict[str, Any]:
    """How often intervals hold the truth, with errors that know that cells of one sweep belong together.

    Parameters
    ----------
    ranks : ndarray, shape (simulation, cell)
        Fraction of the draws below the truth.
    seed : int
        Of the choice of cells for the rank statistic.

    Returns
    -------
    dict
        For each level: ``coverage``, ``se`` (clustered by simulation) and ``binomial_se`` (as if a sweep counted
        once); ``histogram`` of all ranks in ten bins; and ``rank_p``, the p-value of the chi-squared statistic of
        one cell a simulation, chosen at random, so that its ranks are independent.
    """
    from scipy.stats import chisquare

    n = len(ranks)
    levels = {}
    for level in LEVELS:
        hits = (np.abs(ranks - 0.5) <= level / 2).mean(axis=1)
        levels[f"{level:g}"] = {
            "coverage": float(hits.mean()),
            "se": float(hits.std(ddof=1) / np.sqrt(n)),
            "binomial_se": float(np.sqrt(level * (1 - level) / n)),
        }
    one = ranks[np.arange(n), np.random.default_rng(seed).integers(ranks.shape[1], size=n)]
    counts = np.histogram(one, bins=BINS, range=(0, 1))[0]
    return {
        "levels": levels,
        "histogram": np.histogram(ranks, bins=BINS, range=(0, 1))[0].tolist(),
        "rank_p": float(chisquare(counts).pvalue),
        "mean_rank": float(ranks.mean()),
    }


def as_markdown(results: Sequence[dict[str, Any]]) -> str:
    """Results as a Markdown page."""
    lines = [
        "# Recovery of known parameters",
        "",
        "Made by `benchmarks/recovery.py`, whose docstring says how sweeps are simulated. Coverage in percent, plus "
        "or minus one standard error clustered by sweep; the binomial error in a heading counts a sweep once. p is "
        "that of the rank statistic.",
    ]
    for result in results:
        n, setup = result["simulations"], result["setup"]
        errors = ", ".join(f"{100 * np.sqrt(q * (1 - q) / n):.1f} at {100 * q:.0f}%" for q in LEVELS)
        lines += [
            "",
            f"## `{result['model']}`, {result['case']['name']}: {n} sweeps (binomial error {errors})",
            "",
            "| parameter | 50% | 90% | mean rank | ranks in ten bins | p |",
            "|---|---|---|---|---|---|",
        ]
        for name, found in result["coverage"].items():
            held = [
                f"{100 * found['levels'][f'{q:g}']['coverage']:.1f} ± {100 * found['levels'][f'{q:g}']['se']:.1f}"
                for q in LEVELS
            ]
            bins = " ".join(map(str, found["histogram"]))
            lines.append(
                f"| {name} | {held[0]} | {held[1]} | {found['mean_rank']:.3f} | {bins} | {found['rank_p']:.2f} |"
            )
        versions = setup["versions"]
        lines += [
            "",
            f"{setup['grid']}; {setup['chains']} x ({setup['tune']} + {setup['draws']}) draws; "
            f"{result['seconds']:.0f} s on {setup['machine']}; Python {versions['python']}, PyMC {versions['pymc']}, "
            f"nutpie {versions['nutpie']}. {result['prior_draws_tried']} prior draws for {n} plausible sweeps; worst "
            f"R-hat {result['worst_rhat']:.3f}, least bulk ESS {result['least_ess']:.0f}, {result['divergences']} "
            f"divergences, {result['drawn_twice']} posteriors drawn a second time, three times as long.",
        ]
    return "\n".join(lines) + "\n"


def picture(result: dict[str, Any], path: Path) -> None:
    """Rank histograms of a case, with the band in which 95% of a bin's counts lie if ranks are uniform.

    Cells of one sweep belong together: the band is that of as many independent ranks as there are sweeps.
    """
    from matplotlib.figure import Figure
    from scipy.stats import binom

    n, names = result["simulations"], list(result["ranks"])
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    low, high = binom.ppf([0.025, 0.975], n, 1 / BINS) / n
    for axes, name in zip(figure.subplots(2, 4, sharex=True, sharey=True).flat, names, strict=True):
        counts = np.histogram(result["ranks"][name], bins=BINS, range=(0, 1))[0]
        axes.axhspan(low, high, color="0.88", label="95% of bins, if uniform")
        axes.bar((np.arange(BINS) + 0.5) / BINS, counts / counts.sum(), width=0.9 / BINS, color="#0072b2")
        axes.axhline(1 / BINS, color="0.4", linewidth=0.8)
        axes.set_title(f"{name}, p = {result['coverage'][name]['rank_p']:.2f}", fontsize=10)
    axes.legend(fontsize=8)
    figure.supxlabel("rank of the truth among the draws")
    figure.supylabel("share of simulations")
    figure.suptitle(f"{result['model']}, {result['case']['name']}: {n} simulated sweeps")
    figure.savefig(path, dpi=120)


def cases(likelihood: LawLikelihood) -> list[Case]:
    """What is measured of a model with this likelihood."""
    even = replace(likelihood, weight_exponent=0.0, discrepancy=None)
    found = [Case("as shipped", likelihood, "template")]
    if even != likelihood:
        found.append(Case("every run alike", even, "template"))
    return [*found, Case("as shipped, scale of E's prior from each sweep", likelihood, "data")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Simulation-based calibration of shipped models.")
    parser.add_argument("--model", default="law")
    parser.add_argument("--cases", type=int, nargs="*", help="which of the model's cases to run (0, 1, 2); all")
    parser.add_argument("--simulations", type=int, default=60, help="sweeps a case")
    parser.add_argument("--evaluations", type=int, default=0, help="downstream evaluations besides the train losses")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--tune", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(argv)
    settings = SamplerSettings(draws=options.draws, tune=options.tune, chains=2, cores=2, seed=options.seed)
    spec, sweep = load_spec(options.model), template(evaluations=options.evaluations)
    compiled = CompiledModel(spec, sweep)
    if not isinstance(spec, LawSpec):
        parser.error(f"{spec.name} has no laws to recover")
    n_cells = len(sweep.cells)
    setup = {name: getattr(settings, name) for name in ("draws", "tune", "chains", "seed", "target_accept")} | {
        "grid": f"{n_cells} cells, {len(sweep) // n_cells} sizes each",
        "machine": f"{os.cpu_count()} cores of {platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("pymc", "nutpie", "numba", "numpy")},
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "recovery.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    for i, case in enumerate(cases(spec.likelihood)):
        if options.cases and i not in options.cases:
            continue
        if options.evaluations:
            case = replace(case, name=f"{case.name}, with {options.evaluations} downstream evaluations")
        found = recover(compiled, sweep, case, simulations=options.simulations, settings=settings)
        # What was measured before of other models and cases is kept.
        results = [r for r in results if (r["model"], r["case"]["name"]) != (spec.name, case.name)]
        results.append({"model": spec.name, "setup": setup, "spec": spec.to_dict(), **found})
        path.write_text(json.dumps(results) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")
        if spec.structure == "joint":
            picture(results[-1], path.with_name(f"recovery_{spec.name}_{options.evaluations or 'train'}.png"))
    sys.stdout.write(as_markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
