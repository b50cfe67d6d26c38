"""Report: what a fit says, for those who must decide with it, as one HTML file.

What is said is here; the pictures are in `views.py`; how a page is made of them, in `page.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l import __version__
from bayes_l2l.data.rates import METRICS, PLURALS, WORDS, is_rate
from bayes_l2l.errors import ForecastError
from bayes_l2l.inference.diagnostics import summary_table
from bayes_l2l.plotting import calibration
from bayes_l2l.plotting import decisions as plots_of_choices
from bayes_l2l.plotting import laws as plots
from bayes_l2l.plotting import style as drawing
from bayes_l2l.plotting.laws import REACH
from bayes_l2l.plotting.style import label_of
from bayes_l2l.prediction.optimum import optimum
from bayes_l2l.report.page import (
    Card,
    Cards,
    Columns,
    Gallery,
    Notes,
    Part,
    Picture,
    Section,
    Table,
    between,
    decimals,
    digits,
    equation,
    render,
    size,
    with_interval,
)  # fmt: skip
from bayes_l2l.report.views import ALONE, BANDS, MOST, PANEL, View, axes_of, bare, below, interval_text
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    from bayes_l2l.evaluation.backtests import Backtest
    from bayes_l2l.posterior.posterior import Posterior
    from bayes_l2l.prediction.translations import Translation

_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def report(fit: Posterior, *, backtest: Backtest | None = None, flops: float | None = None) -> str:
    """Write what a fit says as one HTML file: no other file and no network are needed to read it.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    backtest : Backtest, optional
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
    said = _Report(fit, backtest, flops)
    # Draws whose E is hardly known give a few powers that overflow; they are dashes in the tables.
    with np.errstate(all="ignore"), rc_context({"font.size": 9.5, "axes.titlesize": 10}):
        return render("report.html", **said.content())


class _Report(View):
    """What is said of a fit, a method a section."""

    def content(self) -> dict[str, Any]:
        """What the template asks for."""
        made = (
            self.summary(), self.data(), self.model(), self.forecasts(), self.rates(), self.choices(),
            self.relations(), self.entropy(), self.sizes(), self.tested(), self.diagnostics(),
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
        compute = f"{digits(low)} to {digits(high)} FLOPs, " if sweep.has_sizes else ""
        return (
            f"{_count(sweep.n_runs, 'run')} on {_count(len(sweep.train_sets), 'training set')}, "
            f"{_count(len(sweep), 'loss', 'losses')} on {_count(len(sweep.eval_sets), 'evaluation')}, "
            f"{compute}fitted with the model “{self.fit.spec.name}”."
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
        if self.fit.settings.method == "laplace":
            yield "", f"Method laplace, k-hat at most {self.worst['khat']:.2f}"
            return
        yield "", f"R-hat at most {self.worst['rhat']:.3f}"
        yield "", _count(self.divergences[0], "divergence")

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
            f"forecast to reach these losses on {what} (median and 90% interval, {self.unit}).{self.simulated}"
        )
        believed = [str(note.message) for note in self.forecast.notes if note.code in ("tested", "not_tested")]
        parts: list[Part] = [said, Cards(cards)]
        if believed:
            parts.append("How such forecasts did before: " + "; ".join(believed) + ".")
        elif self.backtest is None:
            parts.append(
                "These intervals have not been held to account on runs of this sweep: “bayes-l2l backtest” "
                "forecasts its larger runs from its smaller ones, and “report --backtest” then says how often the "
                "intervals were right."
            )
        return Section("summary", "In short", parts)

    def data(self) -> Section:
        """The runs."""
        if not self.fit.sweep.has_sizes:
            said = [self.fit.sweep.provenance] if self.fit.sweep.provenance else []
            return Section("data", "The runs", [*said, "Their sizes are not known.", self.table_of_cells()])
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
        fig, ax = axes_of(ALONE)
        for place, (name, part) in enumerate(runs.groupby("train_set")):
            # Sets are often run at the same sizes: their dots stand side by side.
            shift = 1.03 ** (place - (len(overview) - 1) / 2)
            ax.plot(part["params"] * shift, part["tokens"], **drawing.DOT, color=self.colour[str(name)])
        ax.set(xlabel="parameters N", ylabel="tokens D")
        drawing.size_ticks(ax.xaxis, ax.yaxis)
        alt = f"Sizes of the runs, tokens against parameters. {self.lead} " + "; ".join(
            f"{row['train_set']}: {row['runs']} runs, {size(row['params_min'])} to {size(row['params_max'])} "
            f"parameters, {size(row['tokens_min'])} to {size(row['tokens_max'])} tokens"
            for row in overview.to_dict("records")
        )
        said = [self.fit.sweep.provenance] if self.fit.sweep.provenance else []
        caption = "A dot a run; sets with runs of one size stand side by side." + self.simulated
        columns: Columns = {"train_set": ("training set", str), "runs": ("runs", str)}
        columns |= {"evaluations": ("evaluations", str)}
        for ends, form in (("params", size), ("tokens", size), ("flops", digits), ("ratio", digits)):
            heading = {"params": "parameters", "flops": "FLOPs", "ratio": "tokens a parameter"}.get(ends, ends)
            columns[f"{ends}_min", f"{ends}_max"] = (heading, between(form))
        return Section("data", "The runs", [
            *said,
            Gallery([Picture(fig, alt, "Sizes of the runs")], caption, self.keys()),
            Table("runs", "Runs of every training set", overview, columns,
                  brief=("training set", "runs", "parameters", "tokens")),
            self.table_of_cells(),
        ])  # fmt: skip

    def table_of_cells(self) -> Table:
        """Losses of every cell."""
        cells = self.fit.sweep.table.groupby(["eval_set", "train_set"])["loss"].agg(["size", "min", "max"])
        cells = cells.reset_index().rename(columns={"size": "losses", "min": "smallest_loss", "max": "largest_loss"})
        return Table("cells", f"Cells: losses of every training set on every evaluation ({self.unit})", cells, {
            "eval_set": ("evaluation", str), "train_set": ("training set", str), "losses": ("losses", str),
            "smallest_loss": ("smallest loss", decimals(3)), "largest_loss": ("largest loss", decimals(3)),
        }, folded=len(cells) > 12, brief=("evaluation", "training set", "smallest loss"))  # fmt: skip

    def model(self) -> Section:
        """What was believed."""
        import pandas as pd
        from markupsafe import Markup

        spec, settings = self.fit.spec, self.fit.settings
        structure = structure_of(spec)
        said = [f"{spec.title or spec.name}. In it, {structure.words}.", *structure.describe(spec)]
        if spec.source:
            said.append(f"Source: {spec.source}.")
        frame = pd.DataFrame(described_priors(spec), columns=["part", "quantity", "along", "prior"])
        formula = Markup('<span class="equation">{}</span>').format(equation(spec.equation))
        n = self.fit.draws.sizes
        if settings.method == "laplace":
            how = f"importance resampling (method 'laplace'): {n['chain'] * n['draw']} draws"
        else:
            how = f"NUTS ({settings.sampler}): {n['chain']} chains of {n['draw']} draws after {settings.tune} of "
            how += "adaptation"
        drawn = f"Drawn by {how}, in {self.fit.record['seconds']:.0f} seconds."
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
        rate = is_rate(table) if "metric" in table else np.zeros(len(table), dtype=bool)
        # In percent of a loss, and in points of a fraction.
        table = table.assign(width=100 * (table["q0.95"] - table["q0.05"]) / np.where(rate, 1.0, table["median"]))
        first = self.curves_of(self.first, ALONE)
        galleries = [Gallery([first], self.how_curves(), self.keys())]
        evaluations = list(self.evaluations.items())
        if evaluations:
            panels = [self.curves_of(cells, PANEL, name) for name, cells in evaluations[:MOST]]
            left = len(evaluations) - len(panels)
            more = f" {left} more evaluations are in the table." if left else ""
            galleries.append(Gallery(panels, "The same for other evaluations." + more, self.keys()))
        given = [m for m in METRICS if m in set(table.get("metric", ["loss"]))]
        what = " and ".join(PLURALS[m] + (f" ({self.unit})" if m == "loss" else "") for m in given)
        of_metric: Columns = {"metric": ("metric", lambda m: WORDS[m])} if "metric" in table else {}
        width = "width of 90%" + (" (of fractions, in points)" if rate.any() else "")
        # Where all losses are on validation data of the training sets themselves, one name says both.
        own = (table["eval_set"] == table["train_set"]).all()
        which = ("training set",) if own else ("training set", "evaluation")
        caption = f"Forecast {what} of compute-optimal runs of {digits(self.flops)} FLOPs"
        return Section("forecasts", "Forecasts", [
            *galleries,
            Table("forecast", caption, table, {
                "train_set": ("training set", str), "eval_set": ("evaluation", str), **of_metric,
                "params": ("parameters", size), "tokens": ("tokens", size),
                "extrapolation": ("times compute", digits),
                "median": ("median", decimals(3)), ("q0.05", "q0.95"): ("90% interval", between(decimals(3))),
                "width": (width, _percent),
            }, brief=(*which, "median", "90% interval")),
        ])  # fmt: skip

    def rates(self) -> Section | None:
        """Error rates and accuracies against the loss."""
        if self.fit.errors is None or self.forecast is None:
            return None
        tasks = list(dict.fromkeys(name for name, _ in self.fit.error_cells))
        words = list(dict.fromkeys(WORDS[self.metric_of(task)] for task in tasks))
        left = len(tasks) - MOST
        more = f" {left} more tasks are in the table of forecasts." if left > 0 else ""
        caption = (
            "Dots: fitted runs; line: median of the law, with its 90% interval; dotted: chance. A training set whose "
            f"runs have not left chance has no line.{more}{self.simulated}"
        )
        return Section("rates", "Accuracy" if words == ["accuracy"] else "Error rates", [
            f"The {' or the '.join(words)} of a task is a function of a loss, and is forecast through the forecast "
            f"of that loss (model “{self.fit.errors.spec.name}”).",
            Gallery([self.rates_of(task) for task in tasks[:MOST]], caption, self.keys()),
        ])  # fmt: skip

    def choices(self) -> Section | None:
        """Which training set is best at the budget."""
        if self.choice is None:
            return None
        evaluations = list(self.choice.shares)
        one = "its loss" if len(evaluations) == 1 else "the mean of their losses"
        said = [f"{text[0].upper()}{text[1:]}." for text in self.choice.recommendation(next_run=False)]
        (apart, left), (along, right) = axes_of(PANEL, names=True), axes_of(PANEL)
        plots_of_choices.choice(self.choice, ax=[left, right])
        pictures = [
            Picture(bare(apart), f"How far training sets are from the best. {said[0]}", "Above the best"),
            Picture(bare(along), f"Probability of being the best, by compute. {said[0]}", "The best along compute"),
        ]
        caption = (
            f"Left: differences from the best set, draw by draw; right: probability of being the best by {one}. "
            f"Dashed: {digits(self.flops)} FLOPs, dotted: the largest fitted compute."
        )
        tables = [
            Table("choice", f"Training sets at {digits(self.flops)} FLOPs ({self.unit})", self.choice.table(), {
                "train_set": ("training set", str), "median": ("median", decimals(3)),
                ("q0.05", "q0.95"): ("90% interval", between(decimals(3))), "p_best": ("P(best)", decimals(2)),
                "regret": ("expected regret", decimals(4)), "lost_flops": ("as if so much compute were lost", _part),
            }, brief=("training set", "P(best)", "expected regret")),
        ]  # fmt: skip
        if len(evaluations) > 1:
            tables.append(Table("choice-by-evaluation", "By each evaluation alone", self.choice.by_evaluation(), {
                "eval_set": ("evaluation", str), "train_set": ("the best there", str),
                "p_best": ("P(best)", decimals(2)),
                "p_best_of_all": (f"P(best) of {self.choice.best}", decimals(2)),
                "regret": ("its expected regret", decimals(4)),
            }, folded=len(evaluations) > 12, brief=("evaluation", "the best there", "P(best)")))  # fmt: skip
        return Section("choice", "Which data", [*said, Gallery(pictures, caption, self.keys()), *tables])

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
                how = f" Dots: fitted runs of equal N and D; line: posterior median; {BANDS}; {self.unit}."
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
            fig, ax = axes_of((5.4, 1.3 + 0.27 * len(group)), names=True)
            plots.entropy(self.drawn, cells=group, ax=ax)
            draws = self.fit.draws["E"].sel(cell=["|".join(c) for c in group]).to_numpy()
            ends = np.quantile(draws, [0.5, 0.05, 0.95], axis=(0, 1)).T
            found = "; ".join(f"{label_of(c)} {interval_text(*e)}" for c, e in zip(group, ends, strict=True))
            alt = f"Irreducible entropy E in {self.unit}, posterior median and 90% interval: {found}."
            heading = (
                "Of the losses above" if group is self.first else f"Of evaluations, trained on {self.reference[1]}"
            )
            pictures.append(Picture(bare(fig), alt, heading if len(shown) > 1 else ""))
        summary = summary_table(self.fit).reset_index()
        form = decimals(4)
        columns: Columns = {"variable": ("quantity", str), "cell": ("evaluation | training set", _or_dash)}
        columns |= {c: (c, form) for c in ("mean", "sd", "median")}
        columns["q0.05", "q0.95"] = ("90% interval", between(form))
        if "rhat" in summary:
            columns |= {"rhat": ("R-hat", decimals(3)), "ess_bulk": ("bulk ESS", decimals(0))}
        caption = (
            "Open dot: posterior median; thick and thin line: 50% and 90% interval; tick: smallest loss seen. "
            f"E is what no compute removes ({self.unit})." + self.simulated
        )
        return Section("entropy", "Irreducible loss", [
            *(Gallery([picture], caption if picture is pictures[-1] else "", {}) for picture in pictures),
            Table("parameters", "Posterior of every parameter", summary, columns, folded=True,
                  brief=("quantity", "evaluation | training set", "median", "90% interval")),
        ])  # fmt: skip

    def sizes(self) -> Section | None:
        """Compute-optimal sizes."""
        if not self.has_laws:
            return None
        largest = {self.fit.max_flops[train] for _, train in self.first}
        name, sets = self.first[0][0], [train for _, train in self.first]
        one = None if self.first[0] == (sets[0], sets[0]) else name  # of train losses each set has another one
        found = optimum(self.fit, sorted({*largest, self.flops}), train_set=sets, eval_set=one)
        said = [f"{line[0].upper()}{line[1:]}." for line in str(found).splitlines()]
        if found.shared:
            said.append(
                f"That is an assumption of the model “{self.fit.spec.name}”, not a finding: all training sets and "
                "evaluations have the same compute-optimal sizes, which are said once."
            )
        budgets = Gallery(
            [self.budgets_of(found, cell) for cell in found.cells[:MOST]],
            "Dots: fitted runs of each budget; lines: median of the law and its 90% interval along equal compute; "
            "open dots: its minimum, the compute-optimal size, with 90% intervals. Light: more compute."
            + self.simulated,
            {},
        )
        maps = Gallery(
            [self.map_of(found, cell) for cell in ([self.reference] if found.shared else found.cells[:MOST])],
            f"Contours: posterior median of the law ({self.unit}); dots: fitted runs; coloured line: compute-optimal "
            f"size, {BANDS}; dotted: equal compute; dashed: {REACH:g} times the largest." + self.simulated,
            {},
        )
        columns: Columns = {"train_set": ("training set", str), "eval_set": ("evaluation", str)}
        columns |= {"flops": ("FLOPs", digits)}
        for name, heading, form in (
            ("params", "parameters", size), ("tokens", "tokens", size),
            ("tokens_per_param", "tokens a parameter", digits), ("params_exponent", "exponent of N", decimals(2)),
        ):  # fmt: skip
            columns[name, f"{name}_q0.05", f"{name}_q0.95"] = (heading, with_interval(form))
        return Section("sizes", "Model size", [
            " ".join(said),
            budgets,
            maps,
            Table("sizes", "Compute-optimal sizes: median and 90% interval", found.table(), columns,
                  brief=("FLOPs", "parameters", *(() if found.shared else ("training set",)))),
        ])  # fmt: skip

    def tested(self) -> Section | None:
        """How forecasts did that could be checked."""
        backtest = self.backtest
        if backtest is None:
            return None
        scores = backtest.scores(by=["model", "split", "distance"])
        overall = backtest.scores(by="model")
        said = [
            f"{row.model}: 90% intervals held {row.coverage90:.0f}% of {row.n} losses, 50% intervals "
            f"{row.coverage50:.0f}%; CRPS {row.crps:.2f}% of the loss"
            for row in overall.itertuples()
        ]
        by_distance = "; ".join(
            f"{row.model}, {row.split}, {row.distance}: {row.coverage90:.0f}% of {row.n}"
            for row in scores.itertuples()
        )
        pictures = [
            Picture(below(calibration.reliability(backtest)), "Reliability of intervals: " + "; ".join(said) + ".",
                    "What intervals promised, and held"),
            Picture(below(calibration.coverage_by_extrapolation(backtest)),
                    f"Part of the losses that 90% intervals held, by distance: {by_distance}.", "How far out"),
        ]  # fmt: skip
        absent = ""
        if self.fit.spec.name not in backtest.models:
            models = ", ".join(backtest.models)
            absent = f" This backtest is of {models}, not of the model “{self.fit.spec.name}” of this fit."
        columns: Columns = {"model": ("model", str), "split": ("split", str), "distance": ("distance", str)}
        columns |= {"n": ("losses", str)}
        for name, heading in (
            ("rel_error", "error"), ("bias", "bias"), ("crps", "CRPS"), ("coverage50", "in 50%"),
            ("coverage90", "in 90%"), ("width90", "width of 90%"),
        ):  # fmt: skip
            columns[name] = (heading, decimals(0 if name.startswith("cov") else 2))
        brief = ("model", "distance", "in 90%", "CRPS")
        return Section("tested", "Calibration", [
            f"Forecasts of runs that exist, fitted to smaller ones, beside what happened. {'; '.join(said)}.{absent}",
            *(Gallery([picture], "", {}) for picture in pictures),
            Table("scores", "Scores by distance, in percent (of the actual loss, or of the losses)", scores, columns,
                  brief=brief),
            *([Notes(backtest.notes)] if backtest.notes else []),
        ])  # fmt: skip

    def diagnostics(self) -> Section:
        """Whether the sampler did its work, and what is objected to."""
        notes = self.forecast.notes if self.forecast else self.fit.notes
        parts: list[Part] = [self._drawing()]
        parts.append(Notes(notes) if notes else "There is no objection to the runs, the fit or the forecasts.")
        if self.has_laws:
            residuals = self.residuals_of()
            parts.append(
                Gallery(residuals, "Dots: runs, in percent of the median law." + self.simulated, self.keys())
            )
        columns: Columns = {
            "variable": ("quantity", str), "rhat": ("R-hat", decimals(3)), "ess_bulk": ("bulk ESS", decimals(0)),
            "ess_tail": ("tail ESS", decimals(0)), "khat": ("k-hat", decimals(2)), "ess": ("worth", decimals(0)),
        }  # fmt: skip
        columns = {name: column for name, column in columns.items() if name in self.diagnosed}
        parts.append(Table("diagnostics", "Worst value of every quantity", self.diagnosed, columns, folded=True))
        return Section("diagnostics", "Diagnostics", parts)

    def _drawing(self) -> str:
        """How the draws were made, and how well."""
        worst = self.worst
        if self.fit.settings.method == "laplace":
            return (
                f"The draws are an approximation, resampled by importance: k-hat is at most {worst['khat']:.2f} "
                f"(0.7 or less is usable), and they are worth at least {worst['ess']:.0f} independent ones (400 or "
                "more is good). NUTS needs no such approximation (method='nuts')."
            )
        diverged, total = self.divergences
        return (
            f"The chains {'agree' if worst['rhat'] <= 1.01 else 'do not quite agree'}: R-hat is at most "
            f"{worst['rhat']:.3f} (1.01 or less is good). The draws are worth at least {worst['ess_bulk']:.0f} "
            f"independent ones in the middle and {worst['ess_tail']:.0f} in the tails (400 or more is good). "
            f"{diverged} of {total} draws diverged (none should)."
        )


def _relation_table(translations: Sequence[Translation]) -> Table:
    import pandas as pd

    rows = []
    for one in translations:
        row: dict[str, Any] = {"source": label_of(one.source), "target": label_of(one.target)}
        for name, draws in vars(one.relation).items():
            low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
            row |= {name: middle, f"{name}_q0.05": low, f"{name}_q0.95": high}
        rows.append(row)
    columns: Columns = {"source": ("from", str), "target": ("to", str)}
    for name, heading in (("kappa", "κ"), ("K", "K"), ("E0", "E₀"), ("E1", "E₁")):
        columns[name, f"{name}_q0.05", f"{name}_q0.95"] = (heading, with_interval(digits))
    caption = "Relations: posterior median and 90% interval; “bayes-l2l translate” gives those of any two cells"
    return Table("relations", caption, pd.DataFrame(rows), columns, brief=("to", "κ"))


def described_priors(spec: ModelSpec) -> list[tuple[str, str, str, str]]:
    """Priors of a model in words: part of the model, quantity, dimensions along which it varies, distribution."""
    rows = [
        (part, name, ", ".join(prior.dims) or "–", str(prior))
        for part, priors in spec.quantities().items()
        for name, prior in priors.items()
    ]
    return rows + [("likelihood", name, "–", words) for name, words in spec.likelihood.numbers().items()]


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _part(value: float) -> str:
    return f"{100 * value:.2g}%"


def _percent(value: float) -> str:
    return decimals(1)(value) + "%"


def _or_dash(value: Any) -> str:
    return value if isinstance(value, str) else "–"
