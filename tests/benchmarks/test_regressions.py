"""The paper's regressions are recovered, are least, and give the figures that the paper printed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayes_l2l
from bayes_l2l.data import datasets
from bayes_l2l.errors import DataError
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from benchmarks.regressions import IDENTITY, bootstrap_relation, fit_compute, fit_relation

TRUE = ShiftedPowerLaw(K=1.3, kappa=0.7, E0=1.9, E1=1.2)
X = np.geomspace(2.2, 4.0, 12)
EDU = "fineweb-edu-100b"


@pytest.mark.parametrize("E1", [None, 1.2])
@pytest.mark.parametrize("kappa", [0.3, 0.7, 2.5])
def test_an_exact_relation_is_recovered(kappa, E1):
    true = ShiftedPowerLaw(K=1.3, kappa=kappa, E0=1.9, E1=1.2)
    found = fit_relation(X, true(X), E0=1.9, E1=E1)
    assert vars(found) == pytest.approx(vars(true), rel=1e-4)


def test_no_optimiser_finds_a_smaller_sum_of_squares():
    y = TRUE(X) * np.exp(0.02 * np.random.default_rng(3).standard_normal(len(X)))
    found = fit_relation(X, y, E0=1.9)

    def squares(theta):
        return np.sum((np.exp(theta[0]) * (X - 1.9) ** theta[1] + theta[2] - y) ** 2)

    starts = [[0.0, kappa, E] for kappa in (0.3, 1.0) for E in (0.1, 1.5)]
    bounds = [(None, None), (0.01, 20), (0, y.min())]
    least = min(minimize(squares, start, bounds=bounds).fun for start in starts)
    assert squares([np.log(found.K), found.kappa, found.E1]) <= least * (1 + 1e-6)


def test_the_irreducible_entropy_stays_at_or_above_zero():
    """A curve that bends down faster than any shifted power law that ends above zero."""
    found = fit_relation(X, 6 - 10 / X, E0=1.9)
    assert found.E1 == 0


def test_compute_is_the_source_with_no_entropy():
    flops = np.geomspace(2e17, 5e19, 7)
    found = fit_compute(flops, 1.8 + 4e3 * flops**-0.2)
    assert (found.kappa, found.E1) == pytest.approx((0.2, 1.8), rel=1e-3)
    assert found(1e-21) == pytest.approx(1.8 + 4e3 * 1e21**-0.2, rel=1e-5)


def test_the_identity_is_one():
    np.testing.assert_array_equal(IDENTITY(X), X)


@pytest.mark.parametrize("E1", [None, 1.2])
def test_the_bootstrap_spreads_about_the_point(E1):
    y = TRUE(X) * np.exp(0.01 * np.random.default_rng(5).standard_normal(len(X)))
    found = bootstrap_relation(X, y, E0=1.9, E1=E1, n_boot=400, seed=2)
    draws = found.draws([2.5, 2.05])
    assert draws.shape == (400, 2)
    assert np.median(draws, axis=0) == pytest.approx(found.point(np.array([2.5, 2.05])), rel=0.02)
    # the runs surround the first point, and the second lies beyond them: of what is reducible it knows less
    assert draws[:, 0].std() == pytest.approx(0.01 * TRUE(2.5), rel=0.5)
    known = draws.std(axis=0) / (TRUE(np.array([2.5, 2.05])) - 1.2)
    assert known[1] > 1.2 * known[0]
    np.testing.assert_array_equal(
        draws, bootstrap_relation(X, y, E0=1.9, E1=E1, n_boot=400, seed=2).draws([2.5, 2.05])
    )


def test_refits_with_entropies_of_their_own():
    E = np.random.default_rng(0).uniform(1.6, 2.1, (2, 50))
    found = bootstrap_relation(X, TRUE(X), E0=E[0], E1=E[1] - 0.7, n_boot=50)
    np.testing.assert_array_equal(found.resampled.E0, E[0])
    np.testing.assert_array_equal(found.resampled.E1, E[1] - 0.7)
    assert np.median(E[0]) == found.point.E0
    # where E0 is taken larger, the curve through the same points is flatter
    assert np.corrcoef(E[0], found.resampled.kappa)[0, 1] < -0.3


def test_entropies_are_one_or_one_a_refit():
    with pytest.raises(DataError, match="E0 has 7 values for 50 refits"):
        bootstrap_relation(X, TRUE(X), E0=np.full(7, 1.9), n_boot=50)


@pytest.mark.parametrize(
    ("x", "y", "given", "said"),
    [
        (X[:2], X[:2], {"E0": 1.0}, "at least 3 runs"),
        (X, X[1:], {"E0": 1.0}, r"\(12,\) and \(11,\)"),
        (X, X, {"E0": 2.2}, "E of the source is 2.2"),
        (X, X, {"E0": 1.0, "E1": 3.0}, "E of the target is 3"),
        (X, np.where(X > 3, np.nan, X), {"E0": 1.0}, "losses of the target must be finite"),
    ],
)
def test_what_is_refused(x, y, given, said):
    with pytest.raises(DataError, match=said):
        fit_relation(x, y, **given)


# Tables 7, 8 and 9 of arXiv 2411.12925: kappa and K from FineWeb-Edu, with the E's of the authors' own fits.
PUBLISHED = {
    ("fineweb-100b", None): (1.00, 1.01),
    ("proof-pile-2", None): (1.07, 0.60),
    ("slimpajama-chunk1", None): (0.97, 1.05),
    ("smollm-corpus", None): (1.01, 1.07),
    ("starcoder", None): (1.10, 0.63),
    ("fineweb-100b", "hellaswag"): (1.05, 0.98),
    ("proof-pile-2", "hellaswag"): (0.74, 1.60),
    ("slimpajama-chunk1", "hellaswag"): (0.95, 1.11),
    ("smollm-corpus", "hellaswag"): (0.99, 1.01),
    ("starcoder", "hellaswag"): (0.74, 1.64),
    (EDU, "hellaswag"): (1.08, 0.93),
    (EDU, "arc_easy"): (0.36, 4.68),
    (EDU, "mmlu_humanities"): (0.96, 1.14),
    (EDU, "mmlu_stem"): (0.53, 2.35),
}


@pytest.fixture(scope="module")
def authors(real_data):
    """The sweep, and E of the authors' fits of Eq. 4 by evaluation and training set."""
    fits = pd.read_csv(real_data / "loss_to_loss" / "opt_params_data.csv")
    fits = fits[fits["kaplan"]]
    mapping = Path(datasets.__file__).parent / "mappings" / "loss-to-loss.toml"
    names = {column: name for name, column in tomllib.loads(mapping.read_text())["losses"].items()}
    E = {(names.get(e, t), t): v for e, t, v in zip(fits["loss_name"], fits["data"], fits["E"], strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(datasets.DATA_VARIABLE, str(real_data))
        return bayes_l2l.load_sweep("loss-to-loss", eval_sets="all").select(metric="loss"), E


@pytest.mark.parametrize(("train", "task"), PUBLISHED)
def test_published_relations(authors, train, task):
    sweep, E = authors
    test_to_test = task is not None and train != EDU
    source, target = (task if test_to_test else EDU, EDU), (task or train, train)
    runs = sweep.pairs(source, target)
    found = fit_relation(runs["x"], runs["y"], E0=E[source], E1=E[target])
    assert (round(found.kappa, 2), round(found.K, 2)) == PUBLISHED[train, task]
