"""Pictures show what they say: medians, intervals, actual losses, colours and words, not pixels."""

from __future__ import annotations

import inspect
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from synthetic import synthetic_fit
from synthetic_errors import chained

from bayes_l2l.data.datasets import large_runs
from bayes_l2l.data.sizes import budgets_of
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError
from bayes_l2l.fits import Fit
from bayes_l2l.plotting import laws as plots
from bayes_l2l.plotting import over_training as multiples
from bayes_l2l.plotting import relations
from bayes_l2l.plotting import sampler as chains
from bayes_l2l.plotting import style as drawing
from bayes_l2l.plotting.gallery import HOME

STARCODER = ("starcoder", "starcoder")


@pytest.fixture(scope="module")
def large() -> Sweep:
    return large_runs("simulated")


@pytest.fixture(scope="module")
def with_large(handmade: Fit, large: Sweep) -> Figure:
    return plots.curves(handmade, large=large)


def measured(fit: Fit) -> Fit:
    """The same fit as if its runs had been measured."""
    return replace(fit, record={**fit.record, "sweep": {**fit.record["sweep"], "simulated": False}})


def crossed(fit: Fit) -> Fit:
    """The fit to two sets, with the second cell an evaluation of the first training set."""
    (first, _), (second, _) = fit.cells
    groups = {name: group.to_dataset() for name, group in fit.tree.children.items()}
    labels = [f"{first}|{first}", f"{second}|{first}"]
    names = {"cell": labels, "train_set": ("cell", [first, first])}
    groups["posterior"] = groups["posterior"].assign_coords(names)
    observed = groups["observed_data"]
    groups["observed_data"] = observed.assign(train_set=xr.full_like(observed["train_set"], first))
    return replace(fit, tree=xr.DataTree.from_dict(groups))


def words(fig: Figure) -> list[str]:
    legend = fig.axes[0].get_legend() or fig.axes[-1].get_legend()
    return [text.get_text() for text in legend.get_texts()]


def titles(fig: Figure) -> str:
    return " ".join(ax.get_title(loc="left") for ax in fig.axes)


def lines(fig: Figure, **wanted: object) -> list[Line2D]:
    """Lines of the first axes that have these properties."""
    return [
        line
        for line in fig.axes[0].get_lines()
        if all(getattr(line, f"get_{name}")() == value for name, value in wanted.items()) and len(line.get_xdata())
    ]


def curve_of(fig: Figure, name: str) -> Line2D:
    (line,) = lines(fig, label=name)
    return line


def at_cell(table: pd.DataFrame, cell: tuple[str, str] = STARCODER) -> pd.DataFrame:
    return table[(table["eval_set"] == cell[0]) & (table["train_set"] == cell[1])]


def is_drawn(fig: Figure) -> bool:
    """Whether the figure can be laid out and written; the suite turns warnings into errors."""
    with io.BytesIO() as file:
        fig.savefig(file, format="png", dpi=40)
        return file.tell() > 1000


def test_curves_show_the_forecast_of_the_curve(handmade, with_large):
    flops, drawn = curve_of(with_large, "starcoder").get_data()
    assert flops[0] == pytest.approx(at_cell(handmade.sweep.table)["flops"].min())
    assert 20 < flops[-1] / handmade.max_flops["starcoder"] <= 50
    for i in (0, 30, -1):
        forecast = handmade.forecast(flops=flops[i], train_set="starcoder", kind="mean")
        assert drawn[i] == pytest.approx(np.median(forecast.draws), rel=1e-10)


def test_bands_are_the_central_intervals(handmade):
    fig = plots.curves(handmade, cells=["starcoder"], levels=[0.8, 0.5])
    bands = [c for c in fig.axes[0].collections if isinstance(c, PolyCollection)]
    assert len(bands) == 2
    flops = curve_of(fig, "starcoder").get_xdata()
    draws = handmade.forecast(flops=flops[-1], train_set="starcoder", kind="mean").draws
    for band, (low, high) in zip(bands, ((0.1, 0.9), (0.25, 0.75)), strict=True):  # the widest below
        corners = band.get_paths()[0].vertices
        right = corners[np.isclose(corners[:, 0], flops[-1], rtol=1e-9), 1]
        assert [right.min(), right.max()] == pytest.approx(np.quantile(draws, [low, high]), rel=1e-9)


def test_stars_are_the_actual_losses_beside_their_forecasts(handmade, large, with_large):
    stars = lines(with_large, marker="*")
    assert [(*s.get_xdata(), *s.get_ydata()) for s in stars] == [
        tuple(row) for row in large.table.sort_values("train_set")[["flops", "loss"]].to_numpy()
    ]
    forecast = handmade.forecast(large.table, kind="predictive")
    dashes = [line for line in lines(with_large, marker="_") if line.get_markersize() == 9]
    assert [line.get_ydata()[0] for line in dashes] == pytest.approx(np.median(forecast.draws, axis=0))


def test_curves_without_large_runs_forecast_the_optimal_run_20_times_further(handmade):
    fig = plots.curves(handmade, cells=["starcoder"])
    assert lines(fig, marker="*") == []
    (point,) = (line for line in lines(fig, marker="_") if line.get_markersize() == 9)
    flops = 20 * handmade.max_flops["starcoder"]
    assert point.get_xdata()[0] == pytest.approx(flops)
    expected = np.median(handmade.forecast(flops=flops, train_set="starcoder", kind="predictive").draws)
    assert point.get_ydata()[0] == pytest.approx(expected)


def test_the_legend_of_curves_names_cells_intervals_and_runs(handmade, with_large):
    found = words(with_large)
    assert set(found[:6]) == set(handmade.sweep.train_sets)
    heights = [curve_of(with_large, name).get_ydata()[-1] for name in found[:6]]
    assert heights == sorted(heights, reverse=True)  # as the curves lie
    assert found[6:] == [
        "fitted runs",
        "compute-optimal curve: median",
        "50% interval",
        "90% interval",
        "forecast of a run: median, 90% interval",
        "largest fitted compute",
        "large runs, not fitted",
    ]
    assert with_large.axes[0].get_ylabel() == "loss (nats/token)"
    assert with_large.axes[0].get_xlabel() == "training compute C (FLOPs)"


def test_every_run_is_a_dot(handmade, with_large):
    dots = lines(with_large, marker="o")
    assert sum(len(line.get_xdata()) for line in dots) == len(handmade.sweep)
    losses = np.sort(np.concatenate([line.get_ydata() for line in dots]))
    np.testing.assert_array_equal(losses, np.sort(handmade.sweep.table["loss"]))


def test_a_training_set_keeps_its_colour(handmade, with_large):
    colours = drawing.palette(handmade.sweep.train_sets)
    assert len(set(colours.values())) == 6
    one = plots.curves(handmade, cells=["starcoder"])
    rows = plots.forecast(handmade.forecast(flops=1e21, train_set="starcoder"), fit=handmade)
    residuals = plots.residuals(handmade, cells=["starcoder"])
    isoflop = plots.isoflop(handmade, train_set="starcoder")
    expected = colours["starcoder"].lower()
    for line in (
        curve_of(with_large, "starcoder"),
        curve_of(one, "starcoder"),
        lines(rows, marker="o")[0],
        lines(residuals, marker="o")[0],
        lines(isoflop, marker="o")[0],
    ):
        assert to_hex(line.get_color()) == expected


def test_colours_follow_sorted_names_and_not_the_order_given():
    assert drawing.palette(["b", "a", "b"]) == {"a": drawing.COLOURS[0], "b": drawing.COLOURS[1]}
    assert len(set(drawing.COLOURS)) == 8


def test_evaluations_of_one_training_set_differ_in_line_style_and_share_the_colour():
    fit = crossed(synthetic_fit(train_sets=["proof-pile-2", "starcoder"], draws=20))
    fig = plots.curves(fit, cells=["proof-pile-2@proof-pile-2", "starcoder@proof-pile-2"])
    own, other = curve_of(fig, "proof-pile-2"), curve_of(fig, "starcoder of proof-pile-2")
    assert own.get_color() == other.get_color()
    assert own.get_linestyle() != other.get_linestyle()
    # Each training set's own evaluation is what is shown unless others are asked for.
    assert words(plots.curves(fit))[:2] == ["proof-pile-2", "fitted runs"]
    assert plots.isoflop(fit).axes[0].get_title(loc="left").startswith("Loss of proof-pile-2,")
    assert "starcoder of proof-pile-2" in titles(plots.isoflop(fit, eval_set="starcoder"))


def every_picture(fit: Fit, large: Sweep) -> dict[str, Figure]:
    return {
        "curves": plots.curves(fit, large=large),
        "forecast": plots.forecast(fit.forecast(large.table), actual=large.table, fit=fit),
        "entropy": plots.entropy(fit),
        "isoflop": plots.isoflop(fit),
        "residuals": plots.residuals(fit),
        "prior": plots.prior_predictive(fit.posterior, fit.sweep),
    }


def test_simulated_runs_are_said_to_be_so_in_every_picture(handmade, large):
    for name, fig in every_picture(handmade, large).items():
        assert "simulated runs, not measured" in titles(fig), name
        assert is_drawn(fig)
    for name, fig in every_picture(measured(handmade), large).items():
        assert "simulated" not in titles(fig), name


def test_a_forecast_picture_learns_from_the_actual_runs_that_they_are_simulated(handmade, large):
    assert "simulated" in titles(plots.forecast(handmade.forecast(large.table), actual=large))


def test_forecast_rows_hold_intervals_and_actual_losses(handmade, large):
    forecast = handmade.forecast(large.table)
    shuffled = large.table.sample(frac=1, random_state=1)
    fig = plots.forecast(forecast, actual=shuffled, fit=handmade)
    table = forecast.table()
    (stars,) = lines(fig, marker="*")
    by_row = dict(zip(stars.get_ydata(), stars.get_xdata(), strict=True))
    truth = large.table.set_index("train_set")["loss"]
    for row, point in table.iterrows():
        assert by_row[row] == pytest.approx(100 * (truth[point["train_set"]] / point["median"] - 1))
    bars = [line for line in lines(fig, marker="None") if list(line.get_ydata()) == [0, 0]]
    assert [list(bar.get_xdata()) for bar in bars] == [
        pytest.approx(list(100 * (table.loc[0, ends] / table.loc[0, "median"] - 1).astype(float)))
        for ends in (["q0.25", "q0.75"], ["q0.05", "q0.95"])
    ]
    assert words(fig) == ["forecast of a run: median", "50% interval", "90% interval", "actual loss, not fitted"]
    texts = " ".join(text.get_text() for text in fig.findobj(plt.Text))
    assert f"{table['median'][0]:.3f} ({table['q0.05'][0]:.3f} to {table['q0.95'][0]:.3f})" in texts
    assert "nats/token" in texts
    assert "3.3B parameters, 50.4B tokens, 20.6x compute" in texts


def test_a_forecast_has_the_colours_of_its_fit(handmade):
    colours = drawing.palette(handmade.sweep.train_sets)
    fig = handmade.forecast(flops=1e21, train_set=["smollm-corpus", "starcoder"]).plot()
    dots = [line.get_color() for line in lines(fig, marker="o")]
    assert dots == [colours["smollm-corpus"], colours["starcoder"]]
    assert "simulated runs, not measured" in titles(fig)


def test_a_forecast_of_no_fit_claims_no_training_set_colour(handmade):
    fig = replace(handmade.forecast(flops=1e21, kind="mean"), sweep=None).plot()
    assert {line.get_color() for line in lines(fig, marker="o")} == {drawing.GREY}
    assert words(fig)[0] == "forecast of the law: median"


def test_accuracies_are_drawn_in_points(joint):
    fit = chained(metric="accuracy", learned=False, jitter=0.05)
    forecast = fit.forecast(train_set=["fineweb-edu-100b", "starcoder"], params=1e9, tokens=2e10)
    actual = forecast.points.assign(loss=0.5).query("metric == 'accuracy' and train_set == 'starcoder'")
    fig = forecast.plot(actual=actual)
    table = forecast.table()
    ((row, point),) = table.query("eval_set == 'quiz' and train_set == 'starcoder'").iterrows()
    bars = [line for line in lines(fig, marker="None") if list(line.get_ydata()) == [row, row]]
    ends = [100 * (point[end] - point["median"]) for end in ("q0.05", "q0.95")]
    assert list(bars[1].get_xdata()) == pytest.approx(ends)
    (star,) = lines(fig, marker="*")
    assert star.get_xdata()[0] == pytest.approx(100 * (0.5 - point["median"]))
    assert fig.axes[0].get_xlabel() == "difference from the median (losses: %, accuracies: points)"
    numbers = [text.get_text() for text in fig.axes[0].child_axes[0].get_yticklabels()]
    assert numbers[table.query("eval_set == 'quiz'").index[0]] == "at chance: no forecast"
    assert [to_hex(line.get_color()) for line in lines(fig, marker="o")][row].upper() == (
        drawing.palette(fit.sweep.train_sets)["starcoder"]
    )


def test_actual_losses_elsewhere_are_refused(handmade, large):
    with pytest.raises(DataError, match="None of the actual losses is of a forecast point"):
        plots.forecast(handmade.forecast(flops=1e20), actual=large)


def test_entropy_rows(handmade):
    fig = plots.entropy(handmade)
    E = handmade.posterior["E"]
    medians = [line.get_xdata()[0] for line in lines(fig, marker="o")]
    assert medians == pytest.approx(E.median(("chain", "draw")).values)
    seen = [line.get_xdata()[0] for line in lines(fig, marker="|")]
    assert seen == list(handmade.sweep.table.groupby("train_set")["loss"].min())
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == handmade.sweep.train_sets
    assert words(fig) == ["posterior median", "50% interval", "90% interval", "smallest loss seen"]
    assert "nats/token" in fig.axes[0].get_xlabel()


def test_isoflop_path_is_the_optimum(handmade):
    fig = plots.isoflop(handmade, train_set="starcoder")
    n, d = next(line.get_data() for line in lines(fig, marker="None") if line.get_linewidth() == 1.6)
    largest = handmade.max_flops["starcoder"]
    assert 6 * n[-1] * d[-1] == pytest.approx(20 * largest)
    point = handmade.forecast(flops=20 * largest, train_set="starcoder").points
    assert n[-1] == pytest.approx(point["params"][0])
    (dots,) = lines(fig, marker="o")
    assert len(dots.get_xdata()) == 88
    assert len(lines(fig, linestyle=":")) == 8  # one a budget of the grid
    assert {"50% interval", "90% interval", "law: posterior median (nats/token)"} <= set(words(fig))


def test_isoflop_contours_are_values_of_the_law(handmade):
    fig = plots.isoflop(handmade, train_set="starcoder")
    contours = next(c for c in fig.axes[0].collections if hasattr(c, "levels"))
    middle = len(contours.levels) // 2
    n, d = contours.get_paths()[middle].vertices[5]
    curve = handmade.forecast(params=n, tokens=d, train_set="starcoder", kind="mean")
    assert np.median(curve.draws) == pytest.approx(contours.levels[middle], rel=2e-3)


def test_budgets_of_runs_on_no_grid_are_powers_of_ten():
    flops = np.geomspace(3e17, 4e20, 200)
    assert budgets_of(flops) == pytest.approx([1e18, 1e19, 1e20])


def test_prior_predictive_shows_draws_beside_the_runs(handmade):
    fig = plots.prior_predictive(handmade.posterior, handmade.sweep, train_set="starcoder")
    thin = lines(fig, linewidth=0.4)
    assert len(thin) == 50
    flops, loss = thin[0].get_data()
    draws = handmade.posterior.stack(s=("chain", "draw"), create_index=False).isel(s=0, cell=-1)
    n = np.sqrt(flops / 120)
    reducible = (np.exp(draws["log_A"].item()) / n) ** (draws["alpha"] / draws["gamma"]).item()
    reducible += (np.exp(draws["log_B"].item()) / (20 * n)) ** (draws["beta"] / draws["gamma"]).item()
    # The runs' median ratio is 20 up to the rounding of their sizes.
    assert loss == pytest.approx(draws["E"].item() + reducible ** draws["gamma"].item(), rel=1e-4)
    assert words(fig) == [
        "runs",
        "curves from the prior\nat 20 tokens a parameter",
        "50% interval",
        "90% interval",
        "uniform guess among 50,000 tokens",
    ]


def test_residuals_are_percents_of_the_law(handmade):
    fig = plots.residuals(handmade, cells=["starcoder"])
    runs = at_cell(handmade.sweep.table)
    law = np.median(handmade.forecast(runs[["train_set", "eval_set", "params", "tokens"]], kind="mean").draws, axis=0)
    percent = 100 * (runs["loss"].to_numpy() / law - 1)
    by_ratio, by_flops = (ax.get_lines()[0] for ax in fig.axes)
    assert by_ratio.get_ydata() == pytest.approx(percent)
    assert by_ratio.get_xdata() == pytest.approx(runs["tokens"] / runs["params"])
    assert by_flops.get_xdata() == pytest.approx(runs["flops"])
    near = percent[runs["flops"] > runs["flops"].max() / 10]
    assert words(fig) == [f"starcoder: {np.sqrt(np.mean(percent**2)):.2f}%, {np.sqrt(np.mean(near**2)):.2f}%"]


def test_pictures_go_where_they_are_told(handmade):
    ours, axes = plt.subplots(2, 2)
    try:
        assert plots.curves(handmade, cells=["starcoder"], ax=axes[0, 0]) is ours
        assert plots.entropy(handmade, ax=axes[0, 1]) is ours
        assert plots.residuals(handmade, ax=axes[1]) is ours
        assert all(ax.get_legend() for ax in (*axes[0], axes[1, 1]))
    finally:
        plt.close(ours)


PICTURES = [
    (name, module)
    for module in (plots, relations, multiples, chains)
    for name, draw in vars(module).items()
    if inspect.isfunction(draw)
    and draw.__module__ == module.__name__
    and not name.startswith("_")
    and next(iter(inspect.signature(draw).parameters)) == "fit"
]


@pytest.mark.parametrize(("name", "module"), PICTURES, ids=lambda one: one if isinstance(one, str) else "")
def test_a_fit_has_every_picture_by_name(handmade, name, module):
    assert HOME[name] == module.__name__.rpartition(".")[2]
    draw = getattr(handmade.plot, name)
    assert draw.__doc__ == getattr(module, name).__doc__
    assert name in dir(handmade.plot)


def test_a_fit_has_no_other_pictures(handmade):
    assert dict(PICTURES).keys() == HOME.keys()
    with pytest.raises(AttributeError, match="a fit has no picture 'moon'; it has curves, "):
        handmade.plot.moon()
    np.testing.assert_array_equal(
        curve_of(handmade.plot.curves(), "starcoder").get_ydata(),
        curve_of(plots.curves(handmade), "starcoder").get_ydata(),
    )


def test_curves_forecast_at_a_budget_of_ones_own(handmade):
    fig = plots.curves(handmade, cells=["starcoder"], flops=3e22)
    (bar,) = [line for line in lines(fig, marker="_") if line.get_markersize() == 9]
    expected = handmade.forecast(flops=3e22, train_set="starcoder")
    assert (bar.get_xdata()[0], bar.get_ydata()[0]) == pytest.approx((3e22, np.median(expected.draws)))


def test_entropy_of_some_cells(handmade):
    fig = plots.entropy(handmade, cells=["starcoder"])
    (dot,) = lines(fig, marker="o")
    expected = handmade.posterior["E"].sel(cell="starcoder|starcoder").median()
    assert dot.get_xdata()[0] == pytest.approx(float(expected))


def test_one_evaluation_of_several_sets_has_solid_lines(joint):
    fig = plots.curves(joint, cells=["task@starcoder", "task@smollm-corpus"])
    assert {curve_of(fig, f"task of {name}").get_linestyle() for name in ("starcoder", "smollm-corpus")} == {"-"}
    both = plots.curves(joint, cells=["starcoder", "task@starcoder"])
    assert curve_of(both, "task of starcoder").get_linestyle() == "--"


def test_traces_are_the_draws_of_the_worst(handmade):
    fig = chains.traces(handmade)
    assert len(fig.axes) == chains.WORST
    rhat = {
        f"{name} {cell}" if "cell" in found.dims else name: float(one)
        for name, found in handmade.diagnostics.sel(diagnostic="rhat").items()
        for cell, one in zip(
            found["cell"].to_numpy() if "cell" in found.dims else [""], np.atleast_1d(found), strict=True
        )
    }
    worst = max(rhat, key=rhat.get)
    drawn = {ax.get_title(): ax for ax in fig.axes}
    (ax,) = [ax for title, ax in drawn.items() if title.replace("\n", " ") == worst]
    name, _, cell = worst.partition(" ")
    draws = handmade.posterior[name].sel(cell=cell) if cell else handmade.posterior[name]
    shown = sorted(tuple(line.get_ydata()) for line in ax.get_lines() if len(line.get_ydata()) == draws.sizes["draw"])
    assert shown == sorted(map(tuple, draws.to_numpy()))
    assert is_drawn(fig)
    with pytest.raises(DataError, match="The posterior has no 'moon'"):
        chains.traces(handmade, variables=["moon"])
    assert len(chains.traces(handmade, variables=["size_effect_scale"]).axes) == 1


def test_pictures_of_chains_are_not_kept_by_pyplot(handmade):
    before = plt.get_fignums()
    assert is_drawn(chains.energy(handmade))
    chains.traces(handmade)
    assert plt.get_fignums() == before


def test_own_figures_are_not_kept_by_pyplot(handmade):
    before = plt.get_fignums()
    plots.entropy(handmade)
    assert plt.get_fignums() == before


def test_cells_that_are_not_there_are_refused(handmade, large):
    with pytest.raises(DataError, match="has no cell 'moon'"):
        plots.curves(handmade, cells=["moon"])
    with pytest.raises(DataError, match="has no training set 'moon'"):
        plots.isoflop(handmade, train_set="moon")
    only = large.select(train_sets=["starcoder"])
    with pytest.raises(DataError, match="has no run of the cells that are shown"):
        plots.curves(handmade, cells=["proof-pile-2"], large=only)
    some = plots.curves(handmade, large=only)
    assert sum(len(line.get_xdata()) for line in lines(some, marker="*")) == 1


# Axes


@pytest.mark.parametrize(("low", "high"), [(1.9, 2.1), (1.6, 3.0), (1.0, 30.0)])
def test_a_loss_axis_has_enough_ticks(low, high):
    _, (ax,) = drawing.figures((4, 3), columns=1)
    ax.plot([1, 2], [low, high])
    drawing.plain_log(ax)
    inside = [tick for tick in ax.get_yticks() if low <= tick <= high]
    assert 3 <= len(inside) <= 12


@pytest.mark.parametrize(("low", "high"), [(3e3, 8e4), (2e7, 3e8), (1e6, 1e10)])
def test_an_axis_of_sizes_has_enough_ticks_as_people_write_them(low, high):
    fig, (ax,) = drawing.figures((4, 3), columns=1)
    ax.plot([low, high], [1, 2])
    drawing.size_ticks(ax.xaxis)
    fig.draw_without_rendering()
    inside = [label.get_text() for label in ax.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert len(inside) >= 3
    assert all(text[-1] in "KMB" for text in inside)


def test_no_interval_makes_the_data_flat():
    for scale in ("linear", "log"):
        fig, (ax,) = drawing.figures((4, 3), columns=1)
        ax.set_yscale(scale)
        ax.fill_between([1, 2], [0.1, 0.1], [90.0, 90.0])
        drawing.within(ax, [2.0, 3.0], [[1.9]])
        low, high = ax.get_ylim()
        assert 1 < low < 1.9
        assert 3 < high < 4
        assert drawing.is_cut(fig)


def test_an_axis_that_data_fill_is_left_alone():
    fig, (ax,) = drawing.figures((4, 3), columns=1)
    ax.plot([1, 2], [2.0, 3.0])
    before = ax.get_ylim()
    drawing.within(ax, [2.0, 3.0])
    assert ax.get_ylim() == before
    assert not drawing.is_cut(fig)


def test_one_wide_interval_leaves_the_rows_of_a_forest_readable():
    fig, (ax,) = drawing.figures((4, 3), columns=1)
    middles, reach = np.array([1.0, 1.1, 0.9, 1.0]), np.array([0.1, 0.1, 0.1, 50.0])
    ax.plot([middles - reach, middles + reach], [range(4), range(4)])
    drawing.forest_within(ax, middles, middles - reach, middles + reach)
    low, high = ax.get_xlim()
    assert high - low < 1.5
    assert drawing.is_cut(fig)
