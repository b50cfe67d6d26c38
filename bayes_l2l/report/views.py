"""Views: what a report shows of a fit, and its pictures, each with what it shows in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.data.rates import WORDS, Metric
from bayes_l2l.decisions.choices import Choice, choose
from bayes_l2l.errors import ForecastError
from bayes_l2l.inference.diagnostics import by_variable, divergences, worst
from bayes_l2l.plotting import laws as plots
from bayes_l2l.plotting import optimum as optima
from bayes_l2l.plotting import over_training, relations
from bayes_l2l.plotting import style as drawing
from bayes_l2l.plotting.laws import REACH
from bayes_l2l.plotting.style import label_of, palette
from bayes_l2l.posterior.draws import thinned
from bayes_l2l.prediction.forecasts import forecast
from bayes_l2l.prediction.optimum import tokens_of
from bayes_l2l.prediction.translations import translate
from bayes_l2l.report.page import Gallery, Picture, digits, size
from bayes_l2l.structures.error_rate import learned, metrics_of, predictor_of
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.evaluation.backtests import Backtest
    from bayes_l2l.posterior.posterior import Posterior
    from bayes_l2l.prediction.forecasts import Forecast
    from bayes_l2l.prediction.optimum import Optimum
    from bayes_l2l.prediction.translations import Translation

Name = tuple[str, str]
#: Pictures of a gallery at most; tables hold the rest.
MOST: Final = 18
#: What shaded bands are, in captions.
BANDS: Final = "shading: 50% and 90% intervals"
#: Inches of one of several pictures side by side, and of one alone.
PANEL: Final = (4.3, 3.3)
ALONE: Final = (5.2, 4.0)
#: Draws that pictures are made of: enough for a line; tables use all.
_DRAWN: Final = 500


@dataclass(frozen=True)
class View:
    """What is shown of a fit, computed when it is first asked for.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    backtest : Backtest or None
        Forecasts beside what happened.
    budget : float or None
        To forecast at (FLOPs); 20 times the largest fitted if it is None.
    """

    fit: Posterior
    backtest: Backtest | None
    budget: float | None

    @cached_property
    def drawn(self) -> Posterior:
        """The fit with what pictures need: its laws or relations, of as many draws as a line asks for."""
        import xarray as xr

        few = thinned(self.fit, _DRAWN)
        of_residuals = getattr(getattr(few.spec, "likelihood", None), "parameters", ())
        needed = [name for name in (*structure_of(few.spec).variables, *of_residuals) if name in few.draws]
        groups = {"posterior": few.draws[needed], "observed_data": few.tree["observed_data"].to_dataset()}
        return replace(few, tree=xr.DataTree.from_dict(groups))

    @cached_property
    def has_laws(self) -> bool:
        """Whether its cells have laws of (N, D); a model of relations has none."""
        return structure_of(self.fit.spec).has_laws

    @cached_property
    def flops(self) -> float:
        """Budget of the forecasts, the same for all training sets."""
        return self.budget or REACH * max(self.fit.max_flops.values())

    @cached_property
    def colour(self) -> dict[str, str]:
        """Colour of every training set."""
        return palette(self.fit.sweep.train_sets)

    @cached_property
    def first(self) -> list[Name]:
        """Cells that are shown first: each set's own loss, or the first evaluation where there is none."""
        own = [cell for cell in self.fit.cells if cell[0] == cell[1]]
        return own or [cell for cell in self.fit.cells if cell[0] == self.fit.cells[0][0]]

    @cached_property
    def reference(self) -> Name:
        """Cell that others are read from: of the training set with most runs."""
        runs = self.fit.sweep.table.groupby(["eval_set", "train_set"]).size()
        return max(self.first, key=lambda cell: int(runs[cell]))

    @cached_property
    def evaluations(self) -> dict[str, list[Name]]:
        """Cells of every evaluation that are not among the first."""
        rest = [cell for cell in self.fit.cells if cell not in self.first]
        return {name: [c for c in rest if c[0] == name] for name in sorted({c[0] for c in rest})}

    @cached_property
    def forecast(self) -> Forecast | None:
        """Runs of the compute-optimal size of the budget, every cell; none of a model without laws."""
        if not self.has_laws:
            if self.budget is not None:
                raise ForecastError(
                    f"Model {self.fit.spec.name!r} has no laws to forecast a budget by: leave it out."
                )
            return None
        known = self.backtest is not None and self.fit.spec.name in self.backtest.models
        return forecast(self.fit, flops=self.flops, backtest=self.backtest if known else None)

    @cached_property
    def choice(self) -> Choice | None:
        """The best training set by the losses on all evaluations that each of them has, at the budget; if any."""
        sets = list(dict.fromkeys(train for _, train in self.fit.cells))
        evaluations = list(dict.fromkeys(name for name, _ in self.fit.cells))
        common = [name for name in evaluations if all((name, train) in self.fit.cells for train in sets)]
        if not (self.has_laws and common and len(sets) > 1):
            return None
        return choose(self.drawn, eval_set=common, flops=self.flops)

    @cached_property
    def intervals(self) -> dict[Name, tuple[float, float, float]]:
        """Median and 90% interval of every forecast cell."""
        if self.forecast is None:
            return {}
        ends = np.quantile(self.forecast.draws, [0.5, 0.05, 0.95], axis=0).T
        cells = zip(self.forecast.points["eval_set"], self.forecast.points["train_set"], strict=True)
        return {cell: (float(m), float(a), float(b)) for cell, (m, a, b) in zip(cells, ends, strict=True)}

    @property
    def simulated(self) -> str:
        """What captions say of simulated runs."""
        return " Simulated runs, not measured." if self.fit.sweep.simulated else ""

    @property
    def unit(self) -> str:
        """What losses are in."""
        return self.fit.sweep.loss_unit

    @cached_property
    def diagnosed(self) -> pd.DataFrame:
        """Largest R-hat and smallest effective sample sizes of every variable, or k-hat and what draws are worth."""
        import pandas as pd

        found = self.fit.diagnostics
        of_kind = {kind: by_variable(found, kind) for kind in map(str, found["diagnostic"].values)}
        return pd.DataFrame(
            {"variable": [str(name) for name in found]} | {k: list(v.values()) for k, v in of_kind.items()}
        )

    @cached_property
    def worst(self) -> dict[str, float]:
        """The same of them all."""
        return {kind: value for kind, (_, value) in worst(self.fit.diagnostics).items()}

    @cached_property
    def divergences(self) -> tuple[int, int]:
        """Number of draws that diverged, and of all."""
        return divergences(self.fit.sample_stats)

    # Pictures

    def keys(self, cells: Sequence[Name] | None = None) -> dict[str, str]:
        """Training sets, or those of some cells, and their colours."""
        named = self.colour if cells is None else {train_set for _, train_set in cells}
        return {name: colour for name, colour in self.colour.items() if name in named}

    def curves_of(self, cells: Sequence[Name], inches: tuple[float, float], heading: str = "") -> Picture:
        """Curves of some cells against compute."""
        fig, ax = axes_of(inches)
        plots.curves(self.drawn, cells=cells, flops=self.flops, ax=ax)
        ax.minorticks_off()
        found = "; ".join(f"{cell[1]} {interval_text(*self.intervals[cell])}" for cell in cells)
        what = heading or ("the validation data of each training set" if cells[0][0] == cells[0][1] else cells[0][0])
        alt = (
            f"Loss on {what} against training compute: runs, laws and forecasts. At {digits(self.flops)} FLOPs, "
            f"median and 90% interval in {self.unit}: {found}."
        )
        return Picture(bare(fig), alt, heading or f"Loss on {what}")

    def how_curves(self) -> str:
        """How to read them."""
        return (
            f"Dots: fitted runs; line: median of the law at compute-optimal size; {BANDS} of the law; bars: "
            f"forecast of a run of {digits(self.flops)} FLOPs, median and 90% interval; dotted: largest fitted "
            f"compute. Losses in {self.unit}.{self.simulated}"
        )

    def related(self) -> dict[str, list[Translation]] | None:
        """Relations that are shown, by what they are; None of a model that has none."""
        fit, source = self.drawn, self.reference
        pairs = structure_of(fit.spec).relations(fit, source)
        if pairs is None:
            return None
        found = [translate(fit, *pair) for pair in pairs]
        others = [one for one in found if one.target[1] == one.source[1]]
        sets = [one for one in found if one not in others]
        start = found[0].source if found else source
        return {
            f"Other training sets against {label_of(start)}.": sets,
            f"Other evaluations of models trained on {start[1]}.": others,
        }

    def relation_of(self, one: Translation) -> Picture:
        """One loss against another."""
        fig, ax = axes_of(PANEL)
        relations.loss_to_loss(one, ax=ax)
        ax.set_ylabel(f"loss ({self.unit})")
        kappa, K = (np.quantile(values, [0.5, 0.05, 0.95]) for values in (one.kappa, one.K))
        alt = (
            f"Loss of {label_of(one.target)} against that of {label_of(one.source)}, {len(one.pairs)} runs of equal "
            f"size. kappa {interval_text(*kappa)}, K {interval_text(*K)}, with 90% intervals."
        )
        heading = one.target[0] if one.target[1] == one.source[1] else label_of(one.target)
        return Picture(bare(fig), alt, heading)

    def exponents_of(self, translations: Sequence[Translation]) -> Gallery:
        """Forest of kappa, with K beside it."""
        shown = translations[: 2 * MOST]
        fig, ax = axes_of((5.4, 1.3 + 0.27 * len(shown)), names=True)
        relations.exponents(self.drawn, [(one.source, one.target) for one in shown], ax=ax)
        ax.set_yticks(range(len(shown)), [drawing.literal(label_of(one.target)) for one in shown])
        found = "; ".join(
            f"{label_of(t.target)} {interval_text(*np.quantile(t.kappa, [0.5, 0.05, 0.95]))}" for t in shown
        )
        alt = f"Exponent kappa of the relations from {label_of(shown[0].source)}, median and 90% interval: {found}."
        caption = (
            "Open dot: posterior median; thick and thin line: 50% and 90% interval; dotted: kappa = 1, losses in "
            "proportion; at the right K, median and 90% interval." + self.simulated
        )
        heading = f"Exponents κ of relations from {label_of(shown[0].source)}"
        return Gallery([Picture(bare(fig), alt, heading)], caption, {})

    def rates_of(self, task: str) -> Picture:
        """Error rate or accuracy of a task against the loss that it is a function of."""
        assert self.fit.errors is not None
        fig, ax = axes_of(PANEL)
        over_training.errors(self.fit, task, ax=ax)
        has_left, what = learned(self.fit.errors), WORDS[self.metric_of(task)]
        cells = [cell for cell in self.fit.error_cells if cell[0] == task]
        found = "; ".join(
            f"{cell[1]} {interval_text(*self.intervals[cell])}" if has_left[cell] else f"{cell[1]} at chance, no law"
            for cell in cells
        )
        loss = ", ".join(dict.fromkeys(predictor_of(self.fit.errors)[cell] for cell in cells))
        alt = (
            f"{what.capitalize()} on {task} against the loss on {loss}: runs and laws. At {digits(self.flops)} "
            f"FLOPs, median and 90% interval: {found}."
        )
        return Picture(bare(fig), alt, f"{what.capitalize()} on {task}")

    def budgets_of(self, found: Optimum, cell: Name) -> Picture:
        """Loss against model size, a curve a budget."""
        fig, ax = axes_of((4.3, 3.8))
        optima.isoflops(replace(found, fit=self.drawn), cells=[cell], ax=ax)
        ax.minorticks_off()
        return Picture(
            bare(fig),
            f"Loss of {label_of(cell)} against parameters at equal compute. {self._best(found, cell)}",
            label_of(cell),
        )

    def map_of(self, found: Optimum, cell: Name) -> Picture:
        """Contours of the loss over parameters and tokens."""
        fig, ax = axes_of((4.3, 3.8))
        plots.isoflop(self.drawn, train_set=cell[1], eval_set=cell[0], ax=ax)
        alt = f"Contours of the loss of {label_of(cell)} over parameters and tokens. {self._best(found, cell)}"
        return Picture(bare(fig), alt, label_of(cell))

    def _best(self, found: Optimum, cell: Name) -> str:
        """The compute-optimal size of a cell at the largest budget, in a sentence."""
        n = np.quantile(found.params[-1, :, found.cells.index(cell)], [0.5, 0.05, 0.95])
        ratio = tokens_of(found.flops[-1], n[0]) / n[0]
        return (
            f"The compute-optimal model at {digits(found.flops[-1])} FLOPs has {size(n[0])} parameters (90% interval "
            f"{size(n[1])} to {size(n[2])}) and {digits(ratio)} tokens a parameter."
        )

    def metric_of(self, task: str) -> Metric:
        """What a task was given as."""
        return metrics_of(self.fit)[next(cell for cell in self.fit.error_cells if cell[0] == task)]

    def residuals_of(self) -> list[Picture]:
        """What runs deviate from their law, by tokens a parameter and by compute."""
        both = [axes_of(PANEL) for _ in range(2)]
        plots.residuals(self.drawn, cells=self.first, ax=[ax for _, ax in both])
        legend = both[1][1].get_legend()
        shown = [text.get_text().replace(r"\$", "$") for text in legend.get_texts()] if legend else []
        words = "Root mean square of all runs and of those less than ten times below the largest"
        rms = f"{words}: {'; '.join(shown)}."
        both[1][1].set_ylabel(both[0][1].get_ylabel())
        named = zip(both, ("tokens a parameter", "compute"), strict=True)
        return [
            Picture(
                bare(fig),
                f"What runs deviate from their law, in percent, against {by}. {rms}",
                f"What the law leaves unexplained, by {by}",
            )
            for (fig, _), by in named
        ]


def axes_of(inches: tuple[float, float], *, names: bool = False) -> tuple[Figure, Axes]:
    """Axes of their own figure; with room for names at the left, or with margins that need no search."""
    fig, axes = drawing.figures(inches, columns=1)
    if not names:
        width, height = inches
        fig.set_layout_engine("none")
        axes[0].set_position((0.78 / width, 0.5 / height, 1 - 0.9 / width, 1 - 0.58 / height))
    return fig, axes[0]


def bare(fig: Figure) -> Figure:
    """Figure without titles and keys, which the page has itself."""
    for ax in fig.axes:
        ax.set_title("", loc="left")
        if (legend := ax.get_legend()) is not None:
            legend.remove()
    return fig


def below(fig: Figure) -> Figure:
    """Figure with its key below, where a narrow page has room for it."""
    for ax in fig.axes:
        if (legend := ax.get_legend()) is not None:
            handles = legend.legend_handles
            legend.remove()
            fig.legend(
                handles=[h for h in handles if h is not None], loc="outside lower left", ncols=2, frameon=False
            )
    fig.set_size_inches(6.0, 4.6)
    return fig


def interval_text(middle: float, low: float, high: float) -> str:
    """Write a median and its interval."""
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"
