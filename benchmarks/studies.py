"""What public studies say of the joint model's priors, and how well it forecasts them, as a command.

``learn`` compares means of the priors that no single study determines: E over the smallest loss, the exponent gamma,
the correction of short runs c, and the discrepancy of small runs. Every study is fitted with wide priors, as its
owners had it and cut at a quarter and a twelfth of its largest compute, and its draws are reweighted to every
candidate. Of a candidate there are the log score of what the forecast losses of a fold have in common, averaged over
folds and then over studies, and the log evidence, by which the fitted losses are likelier than by the wide priors,
averaged over folds and summed over studies; each study is then forecast with what has the best log score without it.
Nothing beyond the sweeps of arXiv 2411.12925 and arXiv 2403.08540 is looked at: they take part with cuts inside them.
``score`` fits the model as it is shipped
beside both bootstraps::

    python benchmarks/studies.py learn --work FOLDER
    python benchmarks/studies.py score

Wide fits are kept in the folder and taken up again. The studies lie in the folder ``studies`` of $BAYES_L2L_DATA, one
table each, with a column ``part``: ``fit`` of small runs, ``ask`` of large ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import bayes_l2l as l2l
from bayes_l2l.errors import DataError
from bayes_l2l.evaluation.scores import crps_draws, crps_quantiles
from bayes_l2l.posterior.draws import stacked
from benchmarks.pages import store

Floats = npt.NDArray[np.float64]
POINT = ["train_set", "eval_set", "params", "tokens", "flops"]
LEVELS = np.round(np.arange(0.01, 1, 0.01), 2)
RESULT = Path("benchmarks/results/studies.json")
MODEL = Path("models/joint.toml")

#: Parts of the largest compute that a study is cut at; runs of more than 1.5 times that are asked for.
CUTS = (4.0, 12.0)
#: A forecast of the runs that a study's owners kept for last counts twice as much as one inside them.
ASK, HINDCAST = 1.0, 0.5
#: Candidates: mean of the discrepancy; mean of the logit of E over the smallest loss; mean and sd of log gamma and c.
MEANS = (0.0, -0.75)
LOGITS = (0.0, -0.6, -0.8, -1.0, -1.2)
EXPONENTS = ((-0.4, 0.35), (-0.55, 0.4), (-0.7, 0.45), (-0.85, 0.45))
TRANSIENTS = ((0.03, 0.04), (0.06, 0.03), (0.07, 0.025), (0.08, 0.03))
#: Standard deviation of the logit of candidates.
SPREAD = 0.8
#: Means and standard deviations in wide fits: of the logit, c, and the logarithms of gamma and of the exponents of R,
#: of which the candidates have those of the model file.
WIDE = {"logit": (-0.5, 1.5), "lgamma": (-0.4, 0.7), "a": (-0.7, 0.8), "b": (-0.8, 0.8), "c": (0.03, 0.04)}
FIXED = {"a": (-0.7, 0.4), "b": (-0.8, 0.4)}
#: Standard deviations of effects of evaluations, training sets and cells in wide fits, where they are fixed.
EFFECTS = {"logit": (0.35, 0.2, 0.2), "lgamma": (0.2, 0.135, 0.135)}


@dataclass(frozen=True, order=True)
class Candidate:
    """Means that studies share."""

    discrepancy_mean: float
    logit: float
    exponent: tuple[float, float]
    transient: tuple[float, float]

    @property
    def priors(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of what wide fits have drawn."""
        return {"logit": (self.logit, SPREAD), "lgamma": self.exponent, "c": self.transient, **FIXED}


#: As the model file was at first.
BEFORE = Candidate(0.0, 0.0, (-0.4, 0.35), (0.03, 0.04))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("learn", "score"))
    parser.add_argument("names", nargs="*", help="studies; all")
    parser.add_argument("--work", type=Path, default=Path("studies"), help="where wide fits are kept")
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    found = learn(args.work) if args.part == "learn" else scored(args.names or names())
    stored = json.loads(args.output.read_text(encoding="utf-8")) if args.output.is_file() else {}
    versions = {name: version(name) for name in ("bayes-l2l", "pymc", "nutpie", "numpy")}
    stored[args.part] = found | {"versions": versions | {"python": platform.python_version()}}
    store(args.output, stored, args.part, as_markdown)
    return 0


# Studies and their folds


def _folder() -> Path:
    return Path(os.environ["BAYES_L2L_DATA"]) / "studies"


def names() -> list[str]:
    """Names of the studies."""
    return sorted(path.stem for path in _folder().glob("*.csv"))


def study(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs to fit and losses to ask for."""
    table = pd.read_csv(_folder() / f"{name}.csv")
    if "metric" in table:
        table = table[table["metric"] == "loss"]
    part = table["part"]
    asked = table[part == "ask"].reset_index(drop=True)
    return table[part == "fit"].drop(columns="part"), asked.drop(columns="part")


def folds() -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Name of the study and of the fold, runs to fit, and losses to ask for."""
    for name in names():
        fitted, asked = study(name)
        if fitted.groupby("train_set")["eval_set"].nunique().max() > 1:
            # Downstream evaluations do not act back on what is learned here.
            own = sorted(fitted["eval_set"].unique())[0]
            fitted, asked = (part[part["eval_set"] == own].reset_index(drop=True) for part in (fitted, asked))
        yield name, "ask", fitted, asked
        yield from _cuts(name, fitted)
    sweep = l2l.load_sweep("loss-to-loss").table
    budgets = np.sort(sweep["flops"].unique())
    for n_budgets in (4, 5, 6):
        small = sweep["flops"] <= 1.01 * budgets[n_budgets - 1]
        yield "loss-to-loss", f"{n_budgets} budgets", sweep[small], _asked(sweep, sweep["flops"] >= 0.99 * budgets[6])
    gadre = l2l.load_sweep("gadre").table
    gadre = gadre[(gadre["metric"] == "loss") & (gadre["eval_set"] == "c4_val")]
    for largest in (3e18, 1e19):
        small = gadre["flops"] <= largest
        yield "gadre", f"{largest:g} FLOPs", gadre[small], _asked(gadre, gadre["flops"] > 1.5 * largest)
    micro = l2l.load_sweep("microsweep").table
    own = micro[(micro["metric"] == "loss") & (micro["train_set"] == micro["eval_set"])]
    yield from _cuts("microsweep", own, (3.0,))


def _cuts(name: str, table: pd.DataFrame, cuts: Sequence[float] = CUTS) -> Iterator[Any]:
    """Folds inside a study, of at least 6 runs of 3 sizes and three tenths of the table."""
    for cut in cuts:
        largest = table["flops"].max() / cut
        fitted = table[table["flops"] <= 1.001 * largest]
        asked = _asked(table, table["flops"] > 1.5 * largest)
        asked = asked.merge(fitted[["train_set", "eval_set"]].drop_duplicates())
        if len(fitted) >= max(6, 0.3 * len(table)) and fitted["params"].nunique() >= 3 and len(asked) > 1:
            yield name, f"a {cut:g}th", fitted, asked


def _asked(table: pd.DataFrame, which: Any) -> pd.DataFrame:
    return table[which].reset_index(drop=True)


# Learning


def wide(mean: float) -> dict[str, Any]:
    """The joint model with wide priors of what is learned, at a mean of the discrepancy."""
    record = tomllib.loads(MODEL.read_text(encoding="utf-8"))
    priors = record["priors"]
    for name, quantity in (("E_fraction", "logit"), ("gamma", "lgamma")):
        *effects, of_cell = EFFECTS[quantity]
        normal = [_prior(*WIDE[quantity])]
        normal += [
            _prior(0.0, sd) | {"dims": dim} for dim, sd in zip(("eval_set", "train_set"), effects, strict=True)
        ]
        priors[name]["kwargs"] = {"mu": normal, "sigma": of_cell}
    for name, quantity in (("alpha_over_gamma", "a"), ("beta_over_gamma", "b"), ("c", "c")):
        priors[name]["kwargs"] |= _prior(*WIDE[quantity])["kwargs"]
    record["likelihood"]["discrepancy"]["mean"] = mean
    return record


def _prior(mean: float, sd: float) -> dict[str, Any]:
    return {"dist": "Normal", "kwargs": {"mu": mean, "sigma": sd}}


@dataclass(frozen=True, eq=False)
class WideFit:
    """Draws of a fold by the wide model: what is reweighted, and the log of every forecast over the actual loss."""

    drawn: dict[str, Floats]
    off: Floats
    of_mean: bool

    def log_ratio(self, candidate: Candidate) -> Floats:
        """Logarithm of a candidate's prior density over the wide one, of every draw."""
        ratio = np.zeros(len(self.off))
        for name, (mean, sd) in candidate.priors.items():
            wide_mean, wide_sd = WIDE[name]
            # Of a single cell what is drawn is the sum of the mean and all effects.
            own = 0.0 if self.of_mean else float(np.linalg.norm(EFFECTS.get(name, 0.0)))
            ratio += _normal(self.drawn[name], mean, np.hypot(sd, own))
            ratio -= _normal(self.drawn[name], wide_mean, np.hypot(wide_sd, own))
        return ratio

    def scores(self, candidate: Candidate) -> dict[str, float]:
        """Log score and PIT of what the losses have in common, mean CRPS in percent, and log of the evidence."""
        ratio = self.log_ratio(candidate)
        weight = np.exp(ratio - ratio.max())
        places = np.searchsorted(np.cumsum(weight / weight.sum()), (np.arange(500) + 0.5) / 500)
        off = self.off[np.minimum(places, len(self.off) - 1)]
        common = off.mean(axis=1)
        mean, sd = common.mean(), common.std() + 1e-4
        crps = 100 * float(np.mean(crps_draws(np.exp(off), np.ones(off.shape[1]))))
        return {
            "log": float(-0.5 * (mean / sd) ** 2 - np.log(sd)), "pit": float((common < 0).mean()), "crps": crps,
            "evidence": float(np.log(weight.mean()) + ratio.max()),
        }  # fmt: skip


def _normal(x: Floats, mean: float, sd: float) -> Floats:
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd)


def wide_fit(fitted: pd.DataFrame, asked: pd.DataFrame, mean: float, kept: Path) -> WideFit:
    """Fit a fold, or take what is kept of it."""
    if not kept.is_file():
        fit = l2l.fit(l2l.Sweep.from_table(fitted), model=wide(mean), draws=1000, random_seed=1)
        posterior = stacked(fit.posterior)
        of_mean = "E_fraction_mu" in posterior
        first = posterior.isel(cell=0)
        fraction = first["E_fraction"].to_numpy()
        drawn = {
            "logit": posterior["E_fraction_mu"].to_numpy() if of_mean else np.log(fraction / (1 - fraction)),
            "lgamma": posterior["gamma_mu"].to_numpy() if of_mean else np.log(first["gamma"].to_numpy()),
            "a": np.log(posterior["alpha_over_gamma"].to_numpy()),
            "b": np.log(posterior["beta_over_gamma"].to_numpy()),
            "c": first["c"].to_numpy(),
        }
        off = np.log(fit.forecast(asked[POINT]).draws / asked["loss"].to_numpy())
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, off=off, of_mean=of_mean, **drawn)
    stored = np.load(kept)
    return WideFit({name: stored[name] for name in WIDE}, stored["off"], bool(stored["of_mean"]))


def learn(work: Path) -> dict[str, Any]:
    """Score all candidates, and every study with what the others choose."""
    found: dict[Candidate, dict[str, dict[str, dict[str, float]]]] = {}
    for (name, fold, fitted, asked), mean in product(list(folds()), MEANS):
        one = wide_fit(fitted, asked, mean, work / f"{name}, {fold}, {mean:g}.npz")
        for rest in product(LOGITS, EXPONENTS, TRANSIENTS):
            candidate = Candidate(mean, *rest)
            found.setdefault(candidate, {}).setdefault(name, {})[fold] = one.scores(candidate)
    score = _by_study(found, "log")
    evidence = _by_study(found, "evidence").sum()
    rows = []
    for name in score.index:
        chosen = score.drop(index=name).mean().idxmax()
        rows.append({
            "study": name, **_named(chosen), "log": score.loc[name, chosen], "before": score.loc[name, BEFORE],
            "folds": found[chosen][name],
        })  # fmt: skip
    means = score.mean().sort_values(ascending=False)
    best = [{**_named(one), "log": float(means[one]), "evidence": float(evidence[one])} for one in means.index]
    return {"candidates": best, "before": _named(BEFORE), "left_out": rows}


def _by_study(found: Mapping[Candidate, Mapping[str, Mapping[str, Mapping[str, float]]]], what: str) -> pd.DataFrame:
    """Mean of a score over the folds of every study (rows), for every candidate."""

    def mean(folds_of: Mapping[str, Mapping[str, float]]) -> float:
        weight = [ASK if fold == "ask" else HINDCAST for fold in folds_of]
        return float(np.average([one[what] for one in folds_of.values()], weights=weight))

    return pd.DataFrame({one: {study: mean(of) for study, of in by.items()} for one, by in found.items()})


def _named(candidate: Candidate) -> dict[str, Any]:
    (gamma, gamma_sd), (c, c_sd) = candidate.exponent, candidate.transient
    return {
        "discrepancy mean": candidate.discrepancy_mean, "logit": candidate.logit, "log gamma": gamma,
        "sd of log gamma": gamma_sd, "c": c, "sd of c": c_sd,
    }  # fmt: skip


# Scoring


def scored(which: Sequence[str]) -> dict[str, Any]:
    """The shipped model beside both bootstraps, a row a study and forecaster."""
    rows = []
    for name in which:
        fitted, asked = study(name)
        sweep, points, actual = l2l.load_sweep(fitted), asked[POINT], asked["loss"].to_numpy()
        about = {"study": name, "runs": len(fitted), "asked": len(asked)}
        about["times"] = round(float(asked["flops"].median() / fitted["flops"].max()), 1)
        for law in ("kaplan", "chinchilla"):
            try:
                table = l2l.bootstrap(sweep, law=law, n_boot=100, seed=1).forecast(points, quantiles=list(LEVELS))
            except DataError:
                continue
            values = table[[f"q{level:g}" for level in LEVELS]].to_numpy()
            rows.append(about | {"forecaster": f"bootstrap of {law}", **_row(values.T, actual)})
        fit = l2l.fit(sweep, random_seed=1)
        draws = fit.forecast(points).draws
        common = np.log(draws).mean(axis=1) - np.log(actual).mean()
        rows.append(about | {
            "forecaster": "joint", **_row(np.quantile(draws, LEVELS, axis=0), actual),
            "pit": round(float((common < 0).mean()), 3), "z": round(float(np.median(common) / common.std()), 2),
            "notes": [note.code for note in fit.notes if note.severity != "info"],
        })  # fmt: skip
    return {"rows": rows}


def _row(quantiles: Floats, actual: Floats) -> dict[str, float]:
    """Error, CRPS and interval of forecasts, in percent; quantiles of shape (level, point)."""
    low, middle, high = (quantiles[np.searchsorted(LEVELS, level - 1e-9)] / actual for level in (0.05, 0.5, 0.95))
    found = {
        "bias": 100 * np.mean(middle - 1),
        "crps": 100 * np.mean(crps_quantiles(LEVELS, quantiles.T, actual) / actual),
        "held": 100 * np.mean((low <= 1) & (high >= 1)),
        "width": 100 * np.mean(high - low),
    }
    return {name: round(float(value), 2) for name, value in found.items()}


# The page


def as_markdown(stored: Mapping[str, Any]) -> str:
    """Tables of what is stored."""
    parts = {"score": _score_page, "learn": _learn_page}
    return "\n".join(parts[name](stored[name]) for name in parts if name in stored)


def _score_page(found: Mapping[str, Any]) -> str:
    table = pd.DataFrame(found["rows"])
    ours = table[table["forecaster"] == "joint"].set_index("study")
    others = table[table["forecaster"] != "joint"].groupby("study")["crps"].min()
    ratio = (ours["crps"] / others).dropna()
    lines = [
        "# Public studies, forecast from their small runs", "",
        "CRPS, bias, coverage and width of 90% intervals in percent of the loss; PIT of what the asked losses of a",
        "study have in common.", "",
        "| study | losses | asked | times further | bias | CRPS | better bootstrap | 90% held | width | PIT |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in ours.iterrows():
        beside = f"{others[name]:.2f}" if name in others else "–"
        about = f"| {name} | {row['runs']} | {row['asked']} | {row['times']:g} | {row['bias']:+.2f} "
        lines.append(
            f"{about}| {row['crps']:.2f} | {beside} | {row['held']:.0f} | {row['width']:.1f} | {row['pit']:.2f} |"
        )
    inside = int(ours["pit"].between(0.05, 0.95).sum())
    lines += [
        "",
        f"CRPS over that of the better bootstrap, chosen afterwards: {np.exp(np.log(ratio).mean()):.2f} (geometric "
        f"mean), below 1 in {int((ratio < 1).sum())} of {len(ratio)}; mean PIT {ours['pit'].mean():.2f}, in the 90% "
        f"interval in {inside} of {len(ours)}; 90% intervals hold {ours['held'].mean():.0f}% of single losses at a "
        f"mean width of {ours['width'].mean():.1f}%.",
        "",
    ]
    return "\n".join(lines)


#: Columns of a candidate: its name, and the heading.
COLUMNS = {
    "discrepancy mean": "mean of the discrepancy", "logit": "logit of E_fraction", "log gamma": "log gamma",
    "sd of log gamma": "its sd", "c": "c", "sd of c": "its sd",
}  # fmt: skip
#: Candidates that are shown.
SHOWN = 8


def _learn_page(found: Mapping[str, Any]) -> str:
    head = f"| {' | '.join(COLUMNS.values())} |"
    table = pd.DataFrame(found["candidates"])
    lines = [
        "## What the studies choose", "",
        "Log score of what forecasts of a fold have in common, mean of all studies, and log evidence, their sum,",
        "beside that of the wide priors: the best by either, the model file at first, and the model file.", "",
        f"{head} log score | log evidence |", f"|{'---|' * (len(COLUMNS) + 2)}",
    ]  # fmt: skip
    named = (found["before"], _shipped())
    shown = [table[(table[list(COLUMNS)] == pd.Series(one)[list(COLUMNS)]).all(axis=1)] for one in named]
    best = [table.nlargest(SHOWN // 2, by) for by in ("log", "evidence")]
    for _, row in pd.concat([*best, *shown[::-1]]).drop_duplicates().iterrows():
        lines.append(f"| {_cells(row)} | {row['log']:.3f} | {row['evidence']:.1f} |")
    lines += [
        "", "Every study with what has the best log score in the others:", "",
        f"| study {head} log score | at first | CRPS by fold |", f"|{'---|' * (len(COLUMNS) + 4)}",
    ]  # fmt: skip
    for row in found["left_out"]:
        crps = ", ".join(f"{fold} {one['crps']:.2f}" for fold, one in row["folds"].items())
        lines.append(f"| {row['study']} | {_cells(row)} | {row['log']:.2f} | {row['before']:.2f} | {crps} |")
    return "\n".join([*lines, ""])


def _cells(row: Mapping[str, Any]) -> str:
    return " | ".join(f"{row[name]:g}" for name in COLUMNS)


def _shipped() -> dict[str, Any]:
    """The candidate that the model file is."""
    record = tomllib.loads(MODEL.read_text(encoding="utf-8"))
    priors = record["priors"]
    logit, gamma = (priors[name]["kwargs"]["mu"][0]["kwargs"] for name in ("E_fraction", "gamma"))
    exponent, c = ((of["mu"], of["sigma"]) for of in (gamma, priors["c"]["kwargs"]))
    return _named(Candidate(record["likelihood"]["discrepancy"]["mean"], logit["mu"], exponent, c))


if __name__ == "__main__":
    raise SystemExit(main())
