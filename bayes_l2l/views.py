"""Views: what a report shows of a fit, and its pictures, each with what it shows in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l import drawing, plots, relations
from bayes_l2l.build import LAW_VARIABLES, NOISE_VARIABLES, RELATION_VARIABLES
from bayes_l2l.drawing import label_of, palette
from bayes_l2l.error_fits import GROUPS as ERROR_GROUPS
from bayes_l2l.errors import ForecastError
from bayes_l2l.forecast import thinned
from bayes_l2l.page import Gallery, Picture, digits
from bayes_l2l.plots import REACH

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.fits import Fit
    from bayes_l2l.forecast import Forecast
    from bayes_l2l.rollouts import Rollout
    from bayes_l2l.translate import Translation

Name = tuple[str, str]
#: Pictures of a gallery at most; tables hold the rest.
MOST: Final = 18
#: What shaded bands are, in captions.
BANDS: Final = "shading: 50% and 90% intervals"
#: Inches of one of several pictures side by side, and of one alone.
PANEL: Final = (4.3, 3.3)
ALONE: Final = (7.2, 4.6)
_WORST: Final[Mapping[str, Callable[..., Any]]] = {"rhat": np.nanmax, "ess_bulk": np.nanmin, "ess_tail": np.nanmin}
#: Draws that pictures are made of: enough for a line; tables use all.
_DRAWN: Final = 500


@dataclass(frozen=True)
class View:
    """What is shown of a fit, computed when it is first asked for.

    Parameters
    ----------
    fit : Fit
        A posterior.
    rollout : Rollout or None
        Forecasts beside what happened.
    budget : float or None
        To forecast at (FLOPs); 20 times the largest fitted if it is None.
    """

    fit: Fit
    rollout: Rollout | None
    budget: float | None

    @cached_property
    def drawn(self) -> Fit:
        """The fit with what pictures need: its laws or relations, of as many draws as a line asks for."""
        import xarray as xr

        posterior = thinned(self.fit, _DRAWN).posterior
        needed = [n for n in (*LAW_VARIABLES, *RELATION_VARIABLES, *NOISE_VARIABLES) if n in posterior]
        # A forecast names error rates too, so their draws stay.
        others = [name for name in ("observed_data", *ERROR_GROUPS[:1]) if name in self.fit.tree]
        kept = {"posterior": posterior[needed]} | {name: self.fit.tree[name].to_dataset() for name in others}
        return replace(self.fit, tree=xr.DataTree.from_dict(kept))

    @cached_property
    def has_laws(self) -> bool:
        """Whether its cells have laws of (N, D); a model of pairs has none."""
        return "log_A" in self.fit.posterior

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
        known = self.rollout is not None and self.fit.spec.name in self.rollout.models
        return self.fit.forecast(flops=self.flops, rollout=self.rollout if known else None)

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

    @cached_property
    def diagnosed(self) -> pd.DataFrame:
        """Largest R-hat and smallest effective sample sizes of every variable."""
        import pandas as pd

        found = self.fit.diagnostics
        of_kind = {k: [float(f(v)) for v in found.sel(diagnostic=k).values()] for k, f in _WORST.items()}
        return pd.DataFrame({"variable": [str(name) for name in found], **of_kind})

    @cached_property
    def worst(self) -> dict[str, float]:
        """The same of them all."""
        return {k: float(f(self.diagnosed[k])) for k, f in _WORST.items()}

    @cached_property
    def divergences(self) -> int:
        """Number of draws that diverged."""
        return int(self.fit.tree["sample_stats"]["diverging"].sum())

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
            f"median and 90% interval in nats/token: {found}."
        )
        return Picture(bare(fig), alt, heading or f"Loss on {what}")

    def how_curves(self) -> str:
        """How to read them."""
        return (
            f"Dots: fitted runs; line: median of the law at compute-optimal size; {BANDS} of the law; bars: "
            f"forecast of a run of {digits(self.flops)} FLOPs, median and 90% interval; dotted: largest fitted "
            f"compute. Losses in nats/token.{self.simulated}"
        )

    def related(self) -> dict[str, list[Translation]] | None:
        """Relations that are shown, by what they are; None of a model that has none."""
        fit, source = self.drawn, self.reference
        if fit.spec.structure == "separate":
            return None
        if fit.spec.structure == "pairs":
            posterior = fit.posterior
            pairs = list(zip(posterior["source"].to_numpy(), posterior["target"].to_numpy(), strict=True))
            start = str(pairs[0][0])
            return {f"From {start}.": [fit.translate(s, t) for s, t in pairs if s == start]}
        sets = [cell for cell in self.first if cell != source]
        evals = [cell for cell in fit.cells if cell[1] == source[1] and cell != source]
        return {
            f"Other training sets against {label_of(source)}.": [fit.translate(source, t) for t in sets],
            f"Other evaluations of models trained on {source[1]}.": [fit.translate(source, t) for t in evals],
        }

    def relation_of(self, one: Translation) -> Picture:
        """One loss against another."""
        fig, ax = axes_of(PANEL)
        relations.loss_to_loss(one, ax=ax)
        ax.set_ylabel("loss (nats/token)")
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
        fig, ax = axes_of((7.2, 1.5 + 0.27 * len(shown)), names=True)
        relations.exponents(self.drawn, [(one.source, one.target) for one in shown], ax=ax)
        ax.set_yticks(range(len(shown)), [label_of(one.target) for one in shown])
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

    def residuals_of(self) -> Picture:
        """What runs deviate from their law."""
        fig, axes = drawing.figures((8.2, 3.4), columns=2)
        plots.residuals(self.drawn, cells=self.first, ax=axes)
        legend = axes[1].get_legend()
        rms = [text.get_text() for text in legend.get_texts()] if legend else []
        alt = (
            "What runs deviate from their law, in percent, against tokens a parameter and against compute. Root mean "
            f"square of all runs and of those less than ten times below the largest: {'; '.join(rms)}."
        )
        return Picture(bare(fig), alt, "What the law leaves unexplained")


def axes_of(inches: tuple[float, float], *, names: bool = False) -> tuple[Figure, Axes]:
    """Axes of their own figure; with room for names at the left, or with margins that need no search."""
    fig, axes = drawing.figures(inches, columns=1)
    if not names:
        width, height = inches
        fig.set_layout_engine("none")
        axes[0].set_position((0.62 / width, 0.5 / height, 1 - 0.74 / width, 1 - 0.58 / height))
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
    fig.set_size_inches(8.2, 4.6)
    return fig


def interval_text(middle: float, low: float, high: float) -> str:
    """Write a median and its interval."""
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"
