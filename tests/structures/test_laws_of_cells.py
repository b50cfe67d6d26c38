"""The model that is built is the one that its file and its equations say, checked by numbers of the tests' own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from model_values import log_density, some_point, values
from scipy.stats import multivariate_normal

from bayes_l2l.data.simulation import PUBLISHED_LAWS, simulated_sweep
from bayes_l2l.data.sizes import size_label
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.laws.scaling import Law, law_loss
from bayes_l2l.posterior.draws import LAW_VARIABLES
from bayes_l2l.spec.likelihood import Discrepancy
from bayes_l2l.spec.prior import Prior
from bayes_l2l.structures import size_effect
from bayes_l2l.structures.arrays import LossArrays, discrepancy_scale, discrepancy_shift
from bayes_l2l.structures.models import load_spec, model_names
from bayes_l2l.structures.protocol import structure_of

SETS = ["fineweb-100b", "proof-pile-2", "starcoder"]
LAWS = [name for name in model_names() if structure_of(load_spec(name)).has_laws]


def arranged(spec, sweep):
    """A sweep as a model of laws conditions on it, with all cells as anchors."""
    data = structure_of(spec).arrange(spec, sweep)
    return replace(data, anchors=tuple(range(len(data.cells))))


def build(spec, data):
    """The PyMC model of the laws."""
    data = replace(data, anchors=tuple(range(len(data.cells))))
    return structure_of(spec).modules(spec, data)[0].model


def table(rows):
    """A sweep of (train_set, eval_set, params, tokens, loss), every row a run of its own."""
    frame = pd.DataFrame(rows, columns=["train_set", "eval_set", "params", "tokens", "loss"])
    return Sweep.from_table(frame.assign(run_id=[f"run-{i}" for i in range(len(frame))]))


def sweep_with_gaps():
    """Three training sets on a small grid, each lacking some of the runs that the others have."""
    full = simulated_sweep().select(train_sets=SETS).up_to(3e18)
    kept = np.random.default_rng(3).random(len(full)) < 0.6
    return Sweep.from_table(full.table[kept].reset_index(drop=True))


@pytest.fixture(scope="module")
def gaps():
    return sweep_with_gaps()


# What a sweep becomes


def test_every_loss_is_found_where_its_size_and_cell_say(gaps):
    data = LossArrays.of(gaps)
    assert data.cells == [(s, s) for s in SETS]
    assert data.labels == [f"{s}|{s}" for s in SETS]
    assert data.observed.sum() == len(gaps)
    assert 0 < data.observed.mean() < 1
    for row in gaps.table.itertuples():
        point = np.argmin(np.abs(data.log_params - np.log(row.params)) + np.abs(data.log_tokens - np.log(row.tokens)))
        column = data.cells.index((row.eval_set, row.train_set))
        assert data.observed[point, column] == 1
        assert data.log_loss[point, column] == pytest.approx(np.log(row.loss))
    assert (data.log_loss[data.observed == 0] == 0).all()
    smallest = gaps.table.groupby("train_set")["loss"].min()
    np.testing.assert_allclose(data.smallest, smallest[SETS])


def test_cells_are_ordered_by_training_set_then_evaluation():
    rows = [(t, e, 1e8, 1e9, 3.0) for t in ("b", "a") for e in ("z", "b", "a")]
    rows += [(t, e, 2e8, 1e9, 2.9) for t in ("a", "b") for e in ("a", "b", "z")]
    data = LossArrays.of(table(rows))
    assert data.cells == [("a", "a"), ("b", "a"), ("z", "a"), ("a", "b"), ("b", "b"), ("z", "b")]


def test_repeated_runs_of_one_size_are_all_used():
    rows = [
        ("a", "a", 1e8, 1e9, 3.0),
        ("a", "a", 1e8, 1e9, 3.1),
        ("b", "b", 1e8, 1e9, 3.3),
        ("a", "a", 2e8, 1e9, 2.8),
    ]
    data = LossArrays.of(table(rows))
    assert len(data.log_params) == 3
    np.testing.assert_array_equal(data.observed.sum(axis=0), [3, 1])
    np.testing.assert_allclose(sorted(np.exp(data.log_loss[data.observed == 1])), [2.8, 3.0, 3.1, 3.3])
    first = np.flatnonzero(data.observed[:, 1])[0]  # the run of b stands beside a run of a of its own size
    assert data.observed[first, 0] == 1
    assert data.log_params[first] == pytest.approx(np.log(1e8))


def test_sizes_that_agree_to_six_digits_are_one_size():
    assert size_label(1e8, 1e9) == size_label(1e8 * (1 + 1e-8), 1e9)
    assert size_label(1e8, 1e9) != size_label(1.0001e8, 1e9)
    rows = [("a", "a", 1e8, 1e9, 3.0), ("b", "b", 1e8 + 0.4, 1e9, 3.1)]
    assert len(LossArrays.of(table(rows)).log_params) == 1


def test_known_errors_are_relative_to_the_loss():
    frame = pd.DataFrame(
        {
            "train_set": "a",
            "eval_set": "a",
            "params": [1e8, 2e8],
            "tokens": 1e9,
            "loss": [4.0, 3.0],
            "loss_se": [0.04, np.nan],
        }
    )
    data = LossArrays.of(Sweep.from_table(frame))
    np.testing.assert_allclose(data.noise[:, 0], [0.01, 0.0])


def test_weights_fade_with_compute(gaps):
    flops = gaps.table.drop_duplicates(["params", "tokens"])["flops"].to_numpy()
    even = LossArrays.of(gaps)
    np.testing.assert_array_equal(even.weight, 1)
    np.testing.assert_allclose(even.reference, [even.log_params.mean(), even.log_tokens.mean()])
    faded = LossArrays.of(gaps, weight_exponent=2.0)
    np.testing.assert_allclose(faded.weight, (flops / flops.max()) ** 2)
    assert faded.weight.max() == 1
    expected = [(faded.weight * x).sum() / faded.weight.sum() for x in (faded.log_params, faded.log_tokens)]
    np.testing.assert_allclose(faded.reference, expected)
    assert (faded.reference > even.reference).all()


@pytest.mark.parametrize("name", ["joint", "law"])
def test_the_correction_of_short_runs_is_measured_by_the_shortest_where_all_are_tiny(gaps, name):
    def prior_of_c(times):
        runs = gaps.table.assign(tokens=gaps.table["tokens"] * times).drop(columns="flops")
        return CompiledModel(load_spec(name), Sweep.from_table(runs)).prior(20, seed=1)["c"].to_numpy()

    shortest = gaps.table["tokens"].min()
    np.testing.assert_allclose(prior_of_c(1e9 / shortest), prior_of_c(1e8 / shortest))  # both as at D0
    np.testing.assert_allclose(prior_of_c(1e6 / shortest), prior_of_c(1e8 / shortest) / 100)
    np.testing.assert_allclose(prior_of_c(1e4 / shortest), prior_of_c(1e8 / shortest) / 1e4)


def test_the_discrepancy_grows_towards_small_runs_up_to_its_cap():
    assert (discrepancy_scale(np.array([0.01, 1.0]), None) == 0).all()
    off = discrepancy_scale(np.array([1e-6, 1e-2, 0.1, 1.0, 10.0]), Discrepancy(at_largest=0.003, rate=1.0, cap=0.1))
    assert (np.diff(off) < 0).all()
    assert off[0] == pytest.approx(0.1, rel=1e-3)
    assert off[3] == pytest.approx(0.003, rel=1e-3)
    assert off[4] == pytest.approx(0.0003, rel=1e-3)
    # both limits as 1/sqrt(1/a^2 + 1/b^2)
    assert off[1] == pytest.approx((0.3**-2 + 0.1**-2) ** -0.5)


def test_the_mean_of_the_discrepancy_is_in_its_standard_deviations():
    relative, shape = np.array([1e-2, 1.0]), {"at_largest": 0.003, "rate": 1.0, "cap": 0.1}
    assert (discrepancy_shift(relative, None) == 0).all()
    assert (discrepancy_shift(relative, Discrepancy(**shape)) == 0).all()
    below = discrepancy_shift(relative, Discrepancy(**shape, mean=-2.0))
    np.testing.assert_allclose(below, -2 * discrepancy_scale(relative, Discrepancy(**shape)))


def test_some_cells_alone_are_those_of_the_whole(gaps):
    data = LossArrays.of(gaps)
    some = data.only([2, 0])
    assert some.cells == [data.cells[2], data.cells[0]]
    for name in ("log_loss", "observed", "noise"):
        np.testing.assert_array_equal(getattr(some, name), getattr(data, name)[:, [2, 0]])
    np.testing.assert_array_equal(some.smallest, data.smallest[[2, 0]])
    for name in ("log_params", "log_tokens", "weight", "discrepancy", "reference"):
        np.testing.assert_array_equal(getattr(some, name), getattr(data, name))
    assert len(data.cells) == 3


@pytest.mark.parametrize("train_set", simulated_sweep().train_sets)
def test_a_set_of_small_runs_may_have_less_than_its_smallest_loss_at_the_reference(train_set):
    """The law there lies above `smallest`: the prior of the excess must not refuse the truth."""
    sweep = simulated_sweep()
    table, law = sweep.table, PUBLISHED_LAWS[train_set]
    small = (table["train_set"] != train_set) | (table["flops"] <= 1.01 * table["flops"].min())
    data = LossArrays.of(Sweep.from_table(table[small].reset_index(drop=True)))
    truth = law_loss(*np.exp(data.reference), gamma=law["beta"], **law)
    found = data.smallest[data.cells.index((train_set, train_set))]
    assert truth < table[small & (table["train_set"] == train_set)]["loss"].min()
    assert 0.65 * truth < found
    assert found < 0.95 * truth
    # the others, whose runs surround the reference, keep theirs
    whole = LossArrays.of(sweep)
    others = [i for i, cell in enumerate(data.cells) if cell[0] != train_set]
    np.testing.assert_array_equal(data.smallest[others], whole.smallest[others])


@pytest.mark.parametrize("exponent", [0.0, 2.0])
def test_sets_that_have_all_sizes_keep_their_smallest_loss(exponent):
    """Also where the reference lies among the largest runs, because small ones fade."""
    sweep = simulated_sweep()
    data = LossArrays.of(sweep, weight_exponent=exponent)
    np.testing.assert_allclose(data.smallest, sweep.table.groupby("train_set")["loss"].min())


def test_a_sweep_of_error_rates_alone_is_refused():
    frame = pd.DataFrame(
        {
            "train_set": "a",
            "eval_set": "quiz",
            "metric": "error",
            "params": [1e8, 2e8],
            "tokens": 1e9,
            "loss": [0.6, 0.5],
        }
    )
    with pytest.raises(DataError, match=r"has no losses to fit \(all its rows are error rates or accuracies\)\.$"):
        LossArrays.of(Sweep.from_table(frame))


# The likelihood


def by_hand(residual, observed, variance, shared):
    """Log densities of the points with their covariance written out."""
    found = []
    for r, seen, v, s in zip(residual, observed.astype(bool), variance, shared, strict=True):
        covariance = np.diag(v) + np.outer(s, s)
        found.append(multivariate_normal(np.zeros(seen.sum()), covariance[np.ix_(seen, seen)]).logpdf(r[seen]))
    return np.array(found)


@pytest.mark.parametrize("n_cells", [1, 4])
def test_log_density_is_that_of_the_multivariate_normal(n_cells):
    rng = np.random.default_rng(5)
    shape = (12, n_cells)
    observed = (rng.random(shape) < 0.7).astype(float)
    observed[:, 0] = 1  # scipy has no normal of no dimensions
    variance = rng.uniform(0.001, 0.02, shape) ** 2 + rng.uniform(0, 0.01, shape) ** 2
    shared = rng.uniform(0, 0.05, shape)
    residual = 0.02 * rng.standard_normal(shape) * observed
    expected = by_hand(residual, observed, variance, shared)
    given = {"variance": variance, "shared": shared, "total": lambda values: (values * observed).sum(axis=-1)}
    found = size_effect.log_density(residual, **given)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    import pytensor.tensor as pt

    tensor = size_effect.log_density(pt.as_tensor_variable(residual), **given)
    np.testing.assert_allclose(tensor.eval(mode="FAST_COMPILE"), expected, rtol=1e-9)
    draws = np.stack([residual, 2 * residual])
    found = size_effect.log_density(draws, **given)
    np.testing.assert_allclose(found, [expected, by_hand(2 * residual, observed, variance, shared)], rtol=1e-9)


def test_a_point_that_was_not_observed_counts_nothing():
    nothing = np.zeros((1, 3))
    given = {"variance": nothing + 0.01, "shared": nothing + 0.1, "total": lambda values: (0 * values).sum(axis=-1)}
    density = size_effect.log_density(nothing, **given)
    assert density.tolist() == [0.0]


@pytest.mark.parametrize("name", LAWS)
def test_the_models_likelihood_is_computed_by_hand_from_what_it_reports(name, gaps):
    """The laws that a model reports, with noise that it reports, have the likelihood that it says."""
    spec = load_spec(name)
    frame = gaps.table.assign(loss_se=np.where(gaps.table.index % 3 == 0, 0.01, np.nan))
    data = arranged(replace(spec, likelihood=replace(spec.likelihood, weight_exponent=1.0)), Sweep.from_table(frame))
    assert (data.noise > 0).any()
    model = build(spec, data)
    point = some_point(model)
    names = [*LAW_VARIABLES, "residual_scale", "size_effect_scale", "log_likelihood"]
    *law, scatter, deviation, found = values(model, point, *names)
    law = dict(zip(LAW_VARIABLES, law, strict=True))
    assert all(value.shape == (3,) for value in law.values())

    N, D = np.exp(data.log_params)[:, None], np.exp(data.log_tokens)[:, None]
    ratio = np.exp(law["log_A"]) / N, np.exp(law["log_B"]) / D
    R = ratio[0] ** (law["alpha"] / law["gamma"]) + ratio[1] ** (law["beta"] / law["gamma"])
    # small runs lie off the law on average
    shift = np.exp(data.discrepancy * (spec.likelihood.discrepancy.mean if spec.likelihood.discrepancy else 0))
    reducible = (R * (1 + law["c"] * 2e9 / D) * shift[:, None]) ** law["gamma"]
    loss = law["E"] + reducible
    residual = np.where(data.observed == 1, data.log_loss - np.log(loss), 0)
    # a deviation of log R moves log(E + R^gamma) by gamma R^gamma / (E + R^gamma)
    sensitivity = law["gamma"] * reducible / loss
    shared = np.sqrt(deviation**2 + data.discrepancy[:, None] ** 2) * sensitivity
    densities = by_hand(residual, data.observed, scatter**2 + data.noise**2, shared)
    assert found == pytest.approx((data.weight * densities).sum(), rel=1e-9)


def test_log_density_of_the_model_is_its_priors_and_its_likelihood(gaps):
    spec = load_spec("law")
    model = build(spec, arranged(spec, gaps))
    point = some_point(model)
    (likelihood,) = values(model, point, "log_likelihood")
    from pytensor.compile.mode import Mode

    prior = model.compile_fn(model.varlogp, mode=Mode(linker="py", optimizer=None))(point)
    assert log_density(model, point) == [pytest.approx(float(prior) + float(likelihood))]


# The law that each file names


def evaluated(spec, data):
    model = build(spec, data)
    return dict(zip(LAW_VARIABLES, values(model, some_point(model, seed=4), *LAW_VARIABLES), strict=True))


@pytest.fixture(scope="module")
def law_data(gaps):
    return LossArrays.of(gaps)


def test_kaplan_has_gamma_equal_to_beta(law_data):
    law = evaluated(load_spec("kaplan"), law_data)
    np.testing.assert_array_equal(law["gamma"], law["beta"])
    assert (law["alpha"] != law["beta"]).all()
    np.testing.assert_array_equal(law["c"], 0)


def test_chinchilla_has_gamma_one(law_data):
    law = evaluated(load_spec("chinchilla"), law_data)
    np.testing.assert_array_equal(law["gamma"], 1)
    assert (law["alpha"] != law["beta"]).all()


def test_overtraining_has_equal_exponents_and_gamma_one(law_data):
    record = load_spec("chinchilla").to_dict()
    del record["priors"]["beta"]
    law = evaluated(load_spec(record | {"law": "overtraining"}), law_data)
    np.testing.assert_array_equal(law["alpha"], law["beta"])
    np.testing.assert_array_equal(law["gamma"], 1)


def test_the_generalised_law_has_all_of_them_free(law_data):
    law = evaluated(load_spec("law"), law_data)
    for name in ("alpha", "beta", "gamma", "E"):
        assert np.unique(law[name]).size == 3
    assert np.unique(law["c"]).size == 1
    assert law["c"][0] > 0


def test_fixed_priors_give_the_law_that_they_say(law_data):
    """E as a part of the smallest loss, and the law's value and split at the reference size."""
    spec = load_spec("law")
    fixed = {"E_fraction": 0.6, "excess": 0.2, "share": 0.4, "alpha": 0.4, "beta": 0.3, "gamma": 0.7, "c": 0.02}
    priors = {name: Prior("Fixed", {"value": value}) for name, value in fixed.items()}
    found = evaluated(replace(spec, priors=priors), law_data)
    law = Law(**found)
    np.testing.assert_allclose(law.E, 0.6 * law_data.smallest)
    N, D = np.exp(law_data.reference)
    np.testing.assert_allclose(law.loss(N, D), 1.2 * law_data.smallest, rtol=1e-10)
    by_size = np.exp(0.4 / 0.7 * (law.log_A - np.log(N)))
    by_tokens = np.exp(0.3 / 0.7 * (law.log_B - np.log(D)))
    np.testing.assert_allclose(by_size / (by_size + by_tokens), 0.4, rtol=1e-10)


def test_a_joint_model_has_one_progress_for_all_cells(law_data):
    """R depends on (N, D) alone: alpha/gamma, beta/gamma, the optimum and c are those of every cell."""
    law = evaluated(load_spec("joint"), law_data)
    for name in ("alpha", "beta"):
        np.testing.assert_allclose(law[name] / law["gamma"], (law[name] / law["gamma"])[0])
    assert np.unique(law["gamma"]).size == 3
    np.testing.assert_allclose(Law(**law).optimal(1e20)[0], Law(**law).optimal(1e20)[0][0])


# Priors


@pytest.fixture(scope="module", params=["law", "kaplan"])
def prior(request):
    return CompiledModel(load_spec(request.param), simulated_sweep()).prior(400, 1)


def test_the_prior_is_shaped_as_a_posterior(prior):
    assert prior.sizes == {"chain": 1, "draw": 400, "cell": 6}
    assert set(prior) >= {*LAW_VARIABLES, "residual_scale", "size_effect_scale"}
    assert prior["train_set"].values.tolist() == simulated_sweep().train_sets
    assert all(np.isfinite(prior[name]).all() for name in prior)


def test_prior_curves_lie_in_the_physical_range_and_fall(prior):
    """From the smallest run of the sweep to the 20x one, nearly all prior curves are losses of language models."""
    ladder = np.geomspace(1, 5e3, 12)  # from 2e17 to 1e21 FLOPs
    params, tokens = 4e7 * ladder**0.5, 8e8 * ladder**0.5
    law = Law(**{name: prior[name].to_numpy()[0][..., None] for name in LAW_VARIABLES})
    curves = law.loss(params, tokens)
    inside = ((curves > 0.1) & (curves < 20)).all(axis=-1)
    assert inside.mean() > 0.95
    assert (np.diff(curves, axis=-1) < 0).all()
    assert (law.loss(2 * params, tokens) <= curves).all()
    assert (law.loss(params, 2 * tokens) <= curves).all()
    smallest = simulated_sweep().table.groupby("train_set")["loss"].min().to_numpy()
    assert (prior["E"].to_numpy() > 0).all()
    assert (prior["E"].to_numpy() < smallest).all()
    # wide enough to learn from: the prior does not decide what E is
    assert (prior["E"].std(("chain", "draw")) > 0.1 * smallest).all()


def test_prior_draws_are_those_of_the_seed():
    compiled = CompiledModel(load_spec("chinchilla"), simulated_sweep().select(train_sets=["starcoder"]))
    one, same, other = (compiled.prior(5, seed) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


# Sweeps at the edge


EDGES = {
    "one training set": simulated_sweep().select(train_sets=["starcoder"]),
    "one model size": table([(s, s, 1e8, d, 4 - 0.3 * i) for s in "ab" for i, d in enumerate((1e9, 2e9, 4e9))]),
    "one budget": table([("a", "a", n, 1e18 / n, 3 + i / 10) for i, n in enumerate((1e8, 2e8, 4e8))]),
    "two runs": table([("a", "a", 1e8, 1e9, 3.0), ("a", "a", 2e8, 4e9, 2.8)]),
    "two runs alike": table([("a", "a", 1e8, 1e9, 3.0), ("a", "a", 1e8, 1e9, 3.0)]),
    "no size in common": table([(s, s, 1e8 * i, 1e9 * i, 3.0) for s, i in (("a", 1), ("a", 2), ("b", 3), ("b", 4))]),
    "far apart": table([("a", "a", 1e6, 1e7, 7.0), ("a", "a", 1e12, 1e14, 1.5)]),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", ["law", "joint"])
def test_the_density_is_finite_where_sampling_starts(name, edge):
    spec = load_spec(name)
    model = build(spec, arranged(spec, EDGES[edge]))
    points = [some_point(model, seed=seed, scale=1.0) for seed in range(3)]
    assert np.isfinite(log_density(model, *points)).all()
