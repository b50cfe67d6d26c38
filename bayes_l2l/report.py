"""Report: what a fit says, for those who must decide with it, as one HTML file.

What is said is here; the pictures are in `views.py`; how a page is made of them, in `page.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l import __version__, calibration, drawing, plots
from bayes_l2l.build import LAW_VARIABLES
from bayes_l2l.drawing import label_of
from bayes_l2l.errors import ForecastError
from bayes_l2l.forecast import law_draws, stacked
from bayes_l2l.laws import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.page import (
    Card,
    Cards,
    Gallery,
    Notes,
    Part,
    Picture,
    Section,
    Table,
    decimals,
    digits,
    equation,
    render,
    size,
)  # fmt: skip
from bayes_l2l.plots import REACH
from bayes_l2l.spec import STRUCTURES, ModelSpec, Prior
from bayes_l2l.views import ALONE, BANDS, MOST, PANEL, View, axes_of, bare, below, interval_text

if TYPE_CHECKING:
    from bayes_l2l.fits import Fit
    from bayes_l2l.rollouts import Rollout
    from bayes_l2l.translate import Translation

_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_LAWS: Final = {
    "kaplan": "Eq. 4 of arXiv 2411.12925 (γ = β)",
    "chinchilla": "Chinchilla's (γ = 1)",
    "overtraining": "that of arXiv 2403.08540 (γ = 1, α = β)",
    "generalised": "the generalised one, whose exponent γ is free",
}


def report(fit: Fit, *, rollout: Rollout | None = None, flops: float | None = None) -> str:
    """Write what a fit says as one HTML file: no other file and no network are needed to read it.

    Parameters
    ----------
    fit : Fit
        A posterior.
    rollout : Rollout, optional
        Forecasts beside what happened: how far this one can be believed.
    flops : float, optional
        Budget (FLOPs) to forecast at; by default 20 times the largest that was fitted.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ForecastError
        If the budget is not positive and finite, or the model has no laws to forecast a budget by.
    """
    from matplotlib import rc_context

    if flops is not None and not (np.isfinite(flops) and flops > 0):
        raise ForecastError(f"flops must be positive and finite, not {flops:g}.")
    said = _Report(fit, rollout, flops)
    # Draws whose E is hardly known give a few powers that overflow; they are dashes in the tables.
    with np.errstate(all="ignore"), rc_context({"font.size": 9.5, "axes.titlesize": 10}):
        return render("report.html", **said.content())


class _Report(View):
    """What is said of a fit, a method a section."""

    def content(self) -> dict[str, Any]:
        """What the template asks for."""
        made = (
            self.summary(), self.data(), self.model(), self.forecasts(), self.relations(), self.entropy(),
            self.sizes(), self.tested(), self.diagnostics(),
        )  # fmt: skip
        return {
            "title": f"Scaling laws of {self.fit.sweep.name}",
            "lead": self.lead,
            "badges": list(self.badges()),
            "sections": [section for section in made if section is not None],
            "colophon": self.colophon,
            "version": __version__,
        }

    @property
    def lead(self) -> str:
        sweep = self.fit.sweep
        low, high = sweep.table["flops"].min(), sweep.table["flops"].max()
        return (
            f"{_count(sweep.n_runs, 'run')} on {_count(len(sweep.train_sets), 'training set')}, "
            f"{_count(len(sweep), 'loss', 'losses')} on {_count(len(sweep.eval_sets), 'evaluation')}, "
            f"{digits(low)} to {digits(high)} FLOPs, fitted with the model “{self.fit.spec.name}”."
        )

    @property
    def colophon(self) -> str:
        record = self.fit.record
        made = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
        return f"Fitted {record['created']}; report by bayes_l2l {__version__}" + (f"; {made}." if made else ".")

    def badges(self) -> Iterator[tuple[str, str]]:
        """Class and words of what is read first."""
        serious = [note for note in self.fit.notes if note.severity == "serious"]
        warnings = [note for note in self.fit.notes if note.severity == "warning"]
        if self.fit.sweep.simulated:
            yield "warn", "Simulated runs, not measured"
        if serious:
            yield "bad", "Not to be trusted: see the notes"
        else:
            yield "good", "No serious objection to the fit"
        if warnings:
            yield "warn", _count(len(warnings), "warning")
        yield "", f"R-hat at most {self.worst['rhat']:.3f}"
        yield "", _count(self.divergences, "divergence")

    # Sections

    def summary(self) -> Section | None:
        """The forecasts in a few figures."""
        if self.forecast is None:
            return None
        far = self.flops / max(self.fit.max_flops.values())
        cards = [
            Card(label_of(cell), self.colour[cell[1]], f"{middle:.3f}", f"{low:.3f} to {high:.3f}")
            for cell, (middle, low, high) in self.intervals.items()
            if cell in self.first
        ]
        what = "its own validation data" if self.first[0][0] == self.first[0][1] else self.first[0][0]
        said = (
            f"A compute-optimal run of {digits(self.flops)} FLOPs, {far:.3g} times the largest that was fitted, is "
            f"forecast to reach these losses on {what} (median and 90% interval, nats/token).{self.simulated}"
        )
        believed = [str(note.message) for note in self.forecast.notes if note.code in ("tested", "not_tested")]
        parts: list[Part] = [said, Cards(cards)]
        if believed:
            parts.append("How such forecasts did before: " + "; ".join(believed) + ".")
        elif self.rollout is None:
            parts.append(
                "These intervals have not been held to account on runs of this sweep: “bayes-l2l rollout” "
                "forecasts its larger runs from its smaller ones, and “report --rollout” then says how often the "
                "intervals were right."
            )
        return Section("summary", "In short", parts)

    def data(self) -> Section:
        """The runs."""
        table = self.fit.sweep.table
        runs = table.drop_duplicates(["train_set", "run_id"])
        per_param = runs["tokens"] / runs["params"]
        by = runs.assign(ratio=per_param).groupby("train_set")
        overview = by.agg(
            runs=("run_id", "size"), params_min=("params", "min"), params_max=("params", "max"),
            tokens_min=("tokens", "min"), tokens_max=("tokens", "max"), flops_min=("flops", "min"),
            flops_max=("flops", "max"), ratio_min=("ratio", "min"), ratio_max=("ratio", "max"),
        ).reset_index()  # fmt: skip
        overview["evaluations"] = overview["train_set"].map(table.groupby("train_set")["eval_set"].nunique())
        cells = table.groupby(["eval_set", "train_set"])["loss"].agg(["size", "min", "max"]).reset_index()
        cells = cells.rename(columns={"size": "losses", "min": "smallest_loss", "max": "largest_loss"})
        fig, ax = axes_of(ALONE)
        for place, (name, part) in enumerate(runs.groupby("train_set")):
            # Sets are often run at the same sizes: their dots stand side by side.
            shift = 1.03 ** (place - (len(overview) - 1) / 2)
            ax.plot(part["params"] * shift, part["tokens"], **drawing.DOT, color=self.colour[str(name)])
        ax.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="tokens D")
        alt = f"Sizes of the runs, tokens against parameters. {self.lead} " + "; ".join(
            f"{row['train_set']}: {row['runs']} runs, {size(row['params_min'])} to {size(row['params_max'])} "
            f"parameters, {size(row['tokens_min'])} to {size(row['tokens_max'])} tokens"
            for row in overview.to_dict("records")
        )
        said = [self.fit.sweep.provenance] if self.fit.sweep.provenance else []
        caption = "A dot a run; sets with runs of one size stand side by side." + self.simulated
        columns: dict[str, Any] = {"train_set": ("training set", str), "runs": ("runs", str)}
        columns |= {"evaluations": ("evaluations", str)}
        for name in ("parameters", "tokens"):
            low, high = (f"{name.replace('parameters', 'params')}_{end}" for end in ("min", "max"))
            columns |= {low: (f"fewest {name}", size), high: (f"most {name}", size)}
        columns |= {"flops_min": ("least FLOPs", digits), "flops_max": ("most FLOPs", digits)}
        columns |= {"ratio_min": ("least D/N", digits), "ratio_max": ("most D/N", digits)}
        of_cells = "Cells: losses of every training set on every evaluation (nats/token)"
        return Section("data", "The runs", [
            *said,
            Gallery([Picture(fig, alt, "Sizes of the runs")], caption, self.keys()),
            Table("runs", "Runs of every training set", overview, columns),
            Table("cells", of_cells, cells, {
                "eval_set": ("evaluation", str), "train_set": ("training set", str), "losses": ("losses", str),
                "smallest_loss": ("smallest loss", decimals(3)), "largest_loss": ("largest loss", decimals(3)),
            }, folded=len(cells) > 12),
        ])  # fmt: skip

    def model(self) -> Section:
        """What was believed."""
        import pandas as pd
        from markupsafe import Markup

        spec, settings = self.fit.spec, self.fit.settings
        said = [f"{spec.title or spec.name}. In it, {STRUCTURES[spec.structure]}; the law is {_LAWS[spec.law]}."]
        if spec.readings:
            said.append(
                "A training set's own loss decides the progress R of a run; other evaluations read it, and do not "
                "act back on it."
            )
        likelihood = spec.likelihood
        if likelihood.discrepancy:
            said.append("Small runs may lie off the law, together, and more so the smaller they are.")
        if likelihood.drift:
            said.append("Beyond the runs an evaluation may drift off its law: this widens the intervals further out.")
        if likelihood.fade:
            said.append(f"A run counts (C / largest C)^{likelihood.fade:g}: the law is to hold where it is used.")
        if spec.source:
            said.append(f"Source: {spec.source}.")
        frame = pd.DataFrame(described_priors(spec), columns=["part", "quantity", "along", "prior"])
        formula = Markup('<span class="equation">{}</span>').format(equation(spec.equation))
        n = self.fit.posterior.sizes
        drawn = (
            f"Drawn by NUTS ({settings.sampler}): {n['chain']} chains of {n['draw']} draws after {settings.tune} of "
            f"adaptation, in {self.fit.record['seconds']:.0f} seconds."
        )
        return Section("model", "The model", [
            *([formula] if spec.equation else []),
            " ".join(said),
            drawn,
            Table("priors", "What was believed before the runs were seen", frame, {
                c: (c, str) for c in ("part", "quantity", "along", "prior")
            }, folded=True),
        ])  # fmt: skip

    def forecasts(self) -> Section | None:
        """Curves of every evaluation, and the table of the budget."""
        if self.forecast is None:
            return None
        table = self.forecast.table(quantiles=_QUANTILES)
        table = table.assign(width=100 * (table["q0.95"] - table["q0.05"]) / table["median"])
        first = self.curves_of(self.first, ALONE)
        galleries = [Gallery([first], self.how_curves(), self.keys())]
        evaluations = list(self.evaluations.items())
        if evaluations:
            panels = [self.curves_of(cells, PANEL, name) for name, cells in evaluations[:MOST]]
            left = len(evaluations) - len(panels)
            more = f" {left} more evaluations are in the table." if left else ""
            galleries.append(Gallery(panels, "The same for other evaluations." + more, self.keys()))
        what = "losses (nats/token)" + (" and error rates" if "metric" in table else "")
        caption = f"Forecast {what} of compute-optimal runs of {digits(self.flops)} FLOPs"
        return Section("forecasts", "Forecasts", [
            *galleries,
            Table("forecast", caption, table, {
                "train_set": ("training set", str), "eval_set": ("evaluation", str), "params": ("parameters", size),
                "tokens": ("tokens", size), "extrapolation": ("times compute", digits),
                "median": ("median", decimals(3)), "q0.05": ("5%", decimals(3)), "q0.95": ("95%", decimals(3)),
                "width": ("width of 90%", _percent),
            }),
        ])  # fmt: skip

    def relations(self) -> Section | None:
        """Losses of cells against each other."""
        from markupsafe import Markup

        groups = self.related()
        if groups is None:
            return Section("relations", "Loss to loss", [
                f"The model “{self.fit.spec.name}” does not relate the losses of its cells to each other; the joint "
                "model does."
            ])  # fmt: skip
        translations = [t for group in groups.values() for t in group]
        if not translations:
            return None
        galleries: list[Part] = []
        for said, group in groups.items():
            panels = [self.relation_of(one) for one in group[:MOST]]
            if panels:
                left = len(group) - len(panels)
                more = f" {left} more are in the table." if left else ""
                how = f" Dots: fitted runs of equal N and D; line: posterior median; {BANDS}; nats/token."
                galleries.append(
                    Gallery(panels, said + how + more + self.simulated, self.keys([one.target for one in group]))
                )
        return Section("relations", "Loss to loss", [
            Markup('<span class="equation">{}</span>').format(equation("L1 = K (L0 − E0)^kappa + E1")),
            "The loss of one cell is a shifted power law of that of another, for runs of equal size (Eq. 9 of arXiv "
            "2411.12925).",
            *galleries,
            self.exponents_of(translations),
            _relation_table(translations),
        ])  # fmt: skip

    def entropy(self) -> Section | None:
        """Irreducible entropies, and all parameters."""
        if not self.has_laws:
            return None
        others = [c for c in self.fit.cells if c[1] == self.reference[1] and c not in self.first]
        shown = [group for group in (self.first, others[: 2 * MOST]) if group]
        pictures = []
        for group in shown:
            fig, ax = axes_of((7.2, 1.5 + 0.27 * len(group)), names=True)
            plots.entropy(self.drawn, cells=group, ax=ax)
            draws = self.fit.posterior["E"].sel(cell=["|".join(c) for c in group]).to_numpy()
            ends = np.quantile(draws, [0.5, 0.05, 0.95], axis=(0, 1)).T
            found = "; ".join(f"{label_of(c)} {interval_text(*e)}" for c, e in zip(group, ends, strict=True))
            alt = f"Irreducible entropy E in nats/token, posterior median and 90% interval: {found}."
            heading = (
                "Of the losses above" if group is self.first else f"Of evaluations, trained on {self.reference[1]}"
            )
            pictures.append(Picture(bare(fig), alt, heading if len(shown) > 1 else ""))
        summary = self.fit.summary().reset_index()
        form = decimals(4)
        columns: dict[str, Any] = {"variable": ("quantity", str), "cell": ("evaluation | training set", _or_dash)}
        columns |= {
            c: (h, form)
            for c, h in (("mean", "mean"), ("sd", "sd"), ("q0.05", "5%"), ("median", "median"), ("q0.95", "95%"))
        }
        columns |= {"rhat": ("R-hat", decimals(3)), "ess_bulk": ("bulk ESS", decimals(0))}
        caption = (
            "Open dot: posterior median; thick and thin line: 50% and 90% interval; tick: smallest loss seen. "
            "E is what no compute removes (nats/token)." + self.simulated
        )
        return Section("entropy", "Irreducible loss", [
            *(Gallery([picture], caption if picture is pictures[-1] else "", {}) for picture in pictures),
            Table("parameters", "Posterior of every parameter", summary, columns, folded=True),
        ])  # fmt: skip

    def sizes(self) -> Section | None:
        """Compute-optimal sizes."""
        import pandas as pd

        if not self.has_laws:
            return None
        pictures, rows = [], []
        posterior = stacked(self.fit.posterior[[*LAW_VARIABLES]])
        for cell in self.first:
            law = law_draws(posterior, self.fit.cells.index(cell))
            for flops in dict.fromkeys((self.fit.max_flops[cell[1]], self.flops)):
                n = np.quantile(law.optimal(flops)[0], [0.5, 0.05, 0.95])
                d = flops / (FLOPS_PER_PARAM_TOKEN * n)
                row = {"train_set": cell[1], "eval_set": cell[0], "flops": flops, "params": n[0]}
                row |= {"params_q0.05": n[1], "params_q0.95": n[2], "tokens": d[0], "tokens_per_param": d[0] / n[0]}
                rows.append(row)
        for cell in self.first[:MOST]:
            fig, ax = axes_of((4.3, 3.8))
            plots.isoflop(self.drawn, train_set=cell[1], eval_set=cell[0], ax=ax)
            last = [row for row in rows if (row["eval_set"], row["train_set"]) == cell][-1]
            alt = (
                f"Contours of the loss of {label_of(cell)} over parameters and tokens. The compute-optimal model at "
                f"{digits(last['flops'])} FLOPs has {size(last['params'])} parameters (90% interval "
                f"{size(last['params_q0.05'])} to {size(last['params_q0.95'])}) and "
                f"{digits(last['tokens_per_param'])} tokens a parameter."
            )
            pictures.append(Picture(bare(fig), alt, label_of(cell)))
        caption = (
            "Contours: posterior median of the law (nats/token); dots: fitted runs; coloured line: compute-optimal "
            f"size, {BANDS}; dotted: equal compute; dashed: {REACH:g} times the largest." + self.simulated
        )
        return Section("sizes", "Model size", [
            Gallery(pictures, caption, {}),
            Table("sizes", "Compute-optimal sizes: median, and 90% interval of the parameters", pd.DataFrame(rows), {
                "train_set": ("training set", str), "eval_set": ("evaluation", str), "flops": ("FLOPs", digits),
                "params": ("parameters", size), "params_q0.05": ("5%", size), "params_q0.95": ("95%", size),
                "tokens": ("tokens", size), "tokens_per_param": ("tokens a parameter", digits),
            }),
        ])  # fmt: skip

    def tested(self) -> Section | None:
        """How forecasts did that could be checked."""
        rollout = self.rollout
        if rollout is None:
            return None
        scores = rollout.scores(by=["model", "fold", "distance"])
        overall = rollout.scores(by="model")
        said = [
            f"{row.model}: 90% intervals held {row.coverage90:.0f}% of {row.n} losses, 50% intervals "
            f"{row.coverage50:.0f}%; CRPS {row.crps:.2f}% of the loss"
            for row in overall.itertuples()
        ]
        by_distance = "; ".join(
            f"{row.model}, {row.fold}, {row.distance}: {row.coverage90:.0f}% of {row.n}"
            for row in scores.itertuples()
        )
        pictures = [
            Picture(below(calibration.reliability(rollout)), "Reliability of intervals: " + "; ".join(said) + ".",
                    "What intervals promised, and held"),
            Picture(below(calibration.coverage_by_extrapolation(rollout)),
                    f"Part of the losses that 90% intervals held, by distance: {by_distance}.", "How far out"),
        ]  # fmt: skip
        absent = ""
        if self.fit.spec.name not in rollout.models:
            models = ", ".join(rollout.models)
            absent = f" This rollout is of {models}, not of the model “{self.fit.spec.name}” of this fit."
        columns: dict[str, Any] = {"model": ("model", str), "fold": ("fold", str), "distance": ("distance", str)}
        columns |= {"n": ("losses", str)}
        for name, heading in (
            ("rel_error", "error"), ("bias", "bias"), ("crps", "CRPS"), ("coverage50", "in 50%"),
            ("coverage90", "in 90%"), ("width90", "width of 90%"),
        ):  # fmt: skip
            columns[name] = (heading, decimals(0 if name.startswith("cov") else 2))
        return Section("tested", "Calibration", [
            f"Forecasts of runs that exist, fitted to smaller ones, beside what happened. {'; '.join(said)}.{absent}",
            *(Gallery([picture], "", {}) for picture in pictures),
            Table("scores", "Scores by distance, in percent (of the actual loss, or of the losses)", scores, columns),
            *([Notes(rollout.notes)] if rollout.notes else []),
        ])  # fmt: skip

    def diagnostics(self) -> Section:
        """Whether the sampler did its work, and what is objected to."""
        worst = self.worst
        total = self.fit.tree["sample_stats"]["diverging"].size
        said = (
            f"The chains {'agree' if worst['rhat'] <= 1.01 else 'do not quite agree'}: R-hat is at most "
            f"{worst['rhat']:.3f} (1.01 or less is good). The draws are worth at least {worst['ess_bulk']:.0f} "
            f"independent ones in the middle and {worst['ess_tail']:.0f} in the tails (400 or more is good). "
            f"{self.divergences} of {total} draws diverged (none should)."
        )
        notes = self.forecast.notes if self.forecast else self.fit.notes
        parts: list[Part] = [said]
        parts.append(Notes(notes) if notes else "There is no objection to the runs, the fit or the forecasts.")
        if self.has_laws:
            residuals = self.residuals_of()
            parts.append(
                Gallery([residuals], "Dots: runs, in percent of the median law." + self.simulated, self.keys())
            )
        parts.append(Table("diagnostics", "Worst value of every quantity", self.diagnosed, {
            "variable": ("quantity", str), "rhat": ("R-hat", decimals(3)), "ess_bulk": ("bulk ESS", decimals(0)),
            "ess_tail": ("tail ESS", decimals(0)),
        }, folded=True))  # fmt: skip
        return Section("diagnostics", "Diagnostics", parts)


def _relation_table(translations: Sequence[Translation]) -> Table:
    import pandas as pd

    rows = []
    for one in translations:
        row: dict[str, Any] = {"source": label_of(one.source), "target": label_of(one.target)}
        for name, draws in vars(one.relation).items():
            low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
            row |= {name: middle, f"{name}_q0.05": low, f"{name}_q0.95": high}
        rows.append(row)
    columns: dict[str, Any] = {"source": ("from", str), "target": ("to", str)}
    for name, heading in (("kappa", "κ"), ("K", "K"), ("E0", "E₀"), ("E1", "E₁")):
        columns |= {name: (heading, digits)}
        columns |= {f"{name}_q{q}": (f"{heading} {words}", digits) for q, words in (("0.05", "5%"), ("0.95", "95%"))}
    caption = "Relations: posterior median and 90% interval; “bayes-l2l translate” gives those of any two cells"
    return Table("relations", caption, pd.DataFrame(rows), columns)


def described_priors(spec: ModelSpec) -> list[tuple[str, str, str, str]]:
    """Priors of a model in words: part of the model, quantity, dimensions along which it varies, distribution."""
    parts = {"law": spec.priors, "readings": spec.readings}
    named = ("scatter", "deviation", "nu")
    parts["likelihood"] = {name: prior for name in named if (prior := getattr(spec.likelihood, name)) is not None}
    rows = [
        (part, name, ", ".join(prior.dims) or "–", _prior(prior))
        for part, priors in parts.items()
        for name, prior in priors.items()
    ]
    off = ", ".join(f"{name} = {value:g}" for name, value in spec.likelihood.discrepancy.items())
    fixed = {"discrepancy": off, "drift": spec.likelihood.drift, "fade": spec.likelihood.fade}
    return rows + [("likelihood", name, "–", f"{value}") for name, value in fixed.items() if value]


def _prior(prior: Any) -> str:
    if isinstance(prior, tuple):
        return " + ".join(map(_prior, prior))
    if not isinstance(prior, Prior):
        return f"{prior:g}"
    if prior.dist == "Fixed":
        return _prior(prior.kwargs["value"])
    inside = ", ".join(f"{name} = {_prior(value)}" for name, value in prior.kwargs.items())
    along = f" along {', '.join(prior.dims)}" if prior.dims else ""
    text = f"{prior.dist}({inside}){along}"
    return f"{prior.transform} of {text}" if prior.transform else text


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _percent(value: float) -> str:
    return decimals(1)(value) + "%"


def _or_dash(value: Any) -> str:
    return value if isinstance(value, str) else "–"
