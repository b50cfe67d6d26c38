"""Priors as random variables: effects that cells cannot tell apart are one variable, with the same joint prior."""

import numpy as np
import pytest

from bayes_l2l.spec.prior import Prior
from bayes_l2l.structures.parameters import effects_of, parameter

PRIOR = Prior.from_dict(
    {
        "dist": "Normal",
        "dims": "cell",
        "kwargs": {
            "mu": [
                {"dist": "Normal", "kwargs": {"mu": -1.0, "sigma": 0.8}},
                {"dist": "Normal", "dims": "eval_set", "kwargs": {"mu": 0.0, "sigma": 0.6}},
                {"dist": "Normal", "dims": "train_set", "kwargs": {"mu": 0.5, "sigma": 0.3}},
            ],
            "sigma": 0.2,
        },
    },
    where="prior",
)
#: Cells, (evaluation, training set), and the variables that are drawn for them.
CASES = {
    "one cell": ([("a", "a")], {"x_drawn"}),
    "train losses": ([("a", "a"), ("b", "b"), ("c", "c")], {"x_drawn", "x_mu_drawn"}),
    "one evaluation": ([("c4", "a"), ("c4", "b")], {"x_drawn", "x_mu_drawn"}),
    "crossed": (
        [("c4", "a"), ("c4", "b"), ("wiki", "a"), ("wiki", "b")],
        {"x_drawn", "x_mu_drawn", "x_eval_set_drawn", "x_train_set_drawn"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_effects_that_cells_cannot_tell_apart_are_one_variable_with_the_same_prior(case):
    import pymc as pm

    cells, expected = CASES[case]
    effects = effects_of(cells)
    coords = {"cell": range(len(cells))} | {dim: names for dim, (names, _) in effects.items()}
    with pm.Model(coords=coords) as model:
        parameter("x", PRIOR, effects)
    assert {variable.name for variable in model.free_RVs} == expected
    drawn = pm.draw(model["x"], 20_000, random_seed=0)
    evaluations, trains = (np.array(names) for names in zip(*cells, strict=True))
    same = evaluations[:, None] == evaluations, trains[:, None] == trains
    covariance = 0.8**2 + 0.6**2 * same[0] + 0.3**2 * same[1] + 0.2**2 * np.eye(len(cells))
    np.testing.assert_allclose(drawn.mean(axis=0), -0.5, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T).reshape(covariance.shape), covariance, atol=0.04)
