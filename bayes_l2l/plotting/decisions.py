"""Pictures of choices and plans: which training set, how sure, and which runs would tell more.

As in `laws.py`, the functions return a figure that pyplot does not keep, and a training set has the colour that it
has in all pictures of a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.data.rates import WORDS
from bayes_l2l.decisions.choices import DECIDED
from bayes_l2l.plotting import style as drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayes_l2l.data.rates import Metric
    from bayes_l2l.data.sweep import Sweep
    from bayes_l2l.decisions.choices import Choice
    from bayes_l2l.decisions.plans import Plan

_SHARE: Final = "probability of being the best"
#: What is compared, by the kind of a choice.
_WHAT: Final = {"predictive": "difference of runs", "mean": "difference of laws"}


def choice(choice: Choice, *, ax: Sequence[Axes] | None = None) -> Figure:
    """Draw how far every training set is above the best one, and which is the best along compute.

    Parameters
    ----------
    choice : Choice
        From `Fit.choose`.
    ax : sequence of two matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        On the left differences in loss, draw by draw, so that what is uncertain about all sets is not in them; on the
        right the probability that each set's law is the best.
    """
    fig, axes = _two() if ax is None else (drawing.owner(ax[0]), [drawing.tidy(one) for one in ax])
    colour = drawing.palette(choice.fit.sweep.train_sets)
    order = np.argsort(choice.costs.mean(axis=0))
    names, lead = [choice.train_sets[i] for i in order], choice.draws[:, order[0]]
    for row, i in enumerate(order):
        if row:
            drawing.forest_row(axes[0], row, choice.draws[:, i] - lead, colour[names[row]])
        else:
            axes[0].plot(0, 0, marker="o", ms=6, color=colour[names[0]])
    axes[0].axvline(0, color=drawing.GREY, lw=0.8, zorder=0)
    axes[0].set_yticks(range(len(names)), map(drawing.literal, names))
    axes[0].set(
        ylim=(len(names) - 0.4, -0.6),
        xlabel=drawing.literal(
            f"{WORDS[choice.metric]} less that of {names[0]}{_unit(choice.metric, choice.fit.sweep)}"
        ),
    )
    shares = [f"{choice.p_best[name]:.2f}" for name in names]
    drawing.right_labels(axes[0], shares, "P(best)")
    along = choice.p_best_along
    for place, name in enumerate(names):
        # Styles besides colours, for lines that lie on top of each other at 0 and 1.
        axes[1].plot(along.index, along[name], color=colour[name], lw=1.6, ls=("-", "--", "-.", ":")[place % 4])
    axes[1].axhline(DECIDED, color=drawing.GREY, lw=0.9, ls=":")
    asked, largest = choice.points["flops"].max(), max(choice.fit.max_flops.values())
    axes[1].axvline(asked, color="black", lw=1.0, ls="--")
    axes[1].axvline(largest, color=drawing.GREY, lw=0.9, ls=":")
    axes[1].set(xscale="log", ylim=(-0.02, 1.02), xlabel="training compute C (FLOPs)", ylabel=f"{_SHARE} (law)")
    drawing.title(
        axes[0], f"{WORDS[choice.metric].capitalize()} on {_named(choice)} at {asked:.3g} FLOPs", choice.fit.sweep
    )
    drawing.title(axes[1], "The best along compute")
    drawing.legend(axes[0], drawing.forest_keys(f"{_WHAT[choice.kind]}: median"), below=True)
    lines = [
        drawing.key(color=colour[name], lw=1.6, ls=("-", "--", "-.", ":")[place % 4], label=name)
        for place, name in enumerate(names)
    ]
    lines += [
        drawing.key(color="black", lw=1.0, ls="--", label="asked about"),
        drawing.key(color=drawing.GREY, lw=0.9, ls=":", label=f"largest fitted compute; {DECIDED:g}"),
    ]
    drawing.legend(axes[1], lines)
    return fig


def plan(plan: Plan, *, ax: Axes | None = None) -> Figure:
    """Draw what is left of the uncertainty against compute: after each run of the batch, and after any one candidate.

    Parameters
    ----------
    plan : Plan
        From `Fit.plan`.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    colour = drawing.palette(plan.sweep.train_sets)
    fig, ax = drawing.figure(ax, (9.5, 5.0))
    for name, rows in plan.candidates.groupby("train_set"):
        ax.plot(rows["flops"], rows["after"], **drawing.DOT, color=colour[str(name)])
    batch = plan.batch
    ax.plot(batch["total_flops"], batch["after"], color="black", lw=1.2, zorder=3)
    steps = zip(batch["train_set"], batch["total_flops"], batch["after"], strict=True)
    for n, (name, spent, after) in enumerate(steps, 1):
        ax.plot(spent, after, marker="o", ms=9, color=colour[name], mec="black", zorder=4)
        ax.annotate(f"{n}", (spent, after), (0, -16), textcoords="offset points", ha="center", fontsize=8)
    ax.axhline(plan.before, color=drawing.GREY, lw=0.9, ls=":")
    measure = {"sd": "standard deviation of the forecast", "regret": "expected regret"}[plan.measure]
    ax.set(
        xscale="log",
        xlabel="compute of the runs together (FLOPs)",
        ylabel=f"{measure}{_unit(plan.metric, plan.sweep)}",
    )
    ax.set_ylim(bottom=0, top=1.08 * plan.before or 1.0)
    drawing.title(ax, f"What runs would leave of the {measure}:\n{plan.goal}", plan.sweep)
    used: dict[str, Any] = {name: colour[name] for name in dict.fromkeys(plan.candidates["train_set"])}
    handles = [drawing.key(color=c, marker="o", ls="", label=name) for name, c in sorted(used.items())]
    handles += [
        drawing.key(**drawing.DOT, color=drawing.GREY, label="one candidate run alone"),
        drawing.key(color="black", marker="o", ms=9, mfc="white", lw=1.2, label="the batch, run by run"),
        drawing.key(color=drawing.GREY, lw=0.9, ls=":", label="now"),
    ]
    drawing.legend(ax, handles)
    return fig


def _two() -> tuple[Figure, list[Axes]]:
    """Two axes of their own scales side by side."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained", width_ratios=(1.1, 1))
    plt.close(fig)
    return fig, [drawing.tidy(ax) for ax in axes]


def _unit(metric: Metric, sweep: Sweep) -> str:
    """Unit of an axis; fractions have none, and are named by what they are."""
    return f" ({sweep.loss_unit})" if metric == "loss" else " (fraction)"


def _named(choice: Choice) -> str:
    names = list(choice.shares)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
