"""Differences between training sets on one evaluation: what is seen of them, and how little they change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bayes_l2l.errors import SpecError
from bayes_l2l.spec.likelihood import DifferenceSpec
from bayes_l2l.structures.arrays import LossArrays
from bayes_l2l.structures.differences import differences, groups_of
from bayes_l2l.structures.models import load_spec

GIVEN = DifferenceSpec(change=0.003, weight_exponent=2.0, counts=0.5)
SIZES, CELLS = 30, [("task", "a"), ("task", "b"), ("task", "c")]
LEVELS = np.array([-0.1, 0.02, 0.08])


def arranged(rng: np.random.Generator, *, observed: np.ndarray | None = None) -> LossArrays:
    """Runs whose sizes deviate together far more than training sets differ by chance."""
    log_params = np.repeat(np.log(1e8) + np.linspace(0, 2, 6), 5)
    log_tokens = log_params + np.log(20) + np.tile(np.linspace(-1, 1, 5), 6)
    together = rng.normal(0, 0.2, (SIZES, 1))
    ones = np.ones(SIZES)
    return LossArrays(
        cells=CELLS, log_params=log_params, log_tokens=log_tokens,
        log_loss=1 + together + LEVELS + rng.normal(0, 0.01, (SIZES, 3)),
        observed=np.ones((SIZES, 3)) if observed is None else observed, noise=np.zeros((SIZES, 3)), weight=ones,
        discrepancy=0 * ones, shift=0 * ones, smallest=np.ones(3), reference=np.zeros(2),
    )  # fmt: skip


def found_in(data: LossArrays, given: DifferenceSpec = GIVEN) -> list:
    # Laws that know nothing of the sets.
    return differences(data, [[0, 1, 2]], log_law=np.ones((SIZES, 3)), residual_scale=np.full(3, 0.01), given=given)


def test_what_sizes_have_in_common_cancels():
    (found,) = found_in(arranged(np.random.default_rng(0)))
    normal = np.random.default_rng(1).standard_normal((4000, 6))
    far = np.full(3, found.largest + np.log(100))
    drawn = found.drawn(normal, far, np.arange(3))
    np.testing.assert_allclose(drawn.mean(axis=0), LEVELS - LEVELS.mean(), atol=0.02)
    np.testing.assert_allclose(drawn.sum(axis=1), 0, atol=1e-9)  # their mean is the laws'
    near = found.drawn(normal, far - np.log(100), np.arange(3))
    assert (near.std(axis=0) < drawn.std(axis=0)).all()
    # A difference of two changes by sqrt(2) times what each does, and is not known to change at all.
    change = np.log(100) + found.largest - found.middle
    assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(np.sqrt(2) * 0.003 * change, rel=0.25)


def test_largest_runs_decide():
    """Differences that were others among the small runs are as the largest show them."""
    data = arranged(np.random.default_rng(0))
    small = data.log_params + data.log_tokens < np.median(data.log_params + data.log_tokens)
    changed = replace(data, log_loss=data.log_loss + np.outer(small, [0.3, 0.0, -0.3]))
    (found,) = found_in(changed)
    np.testing.assert_allclose(found.mean[:3], LEVELS - LEVELS.mean(), atol=0.02)
    assert found.weight(np.array([found.largest - np.log(10)])) == pytest.approx(0.01)
    assert found.weight(np.array([found.largest + 5.0])) == 1


def test_a_set_without_large_runs_keeps_its_law():
    data = arranged(np.random.default_rng(0))
    compute = data.log_params + data.log_tokens
    observed = np.ones((SIZES, 3))
    observed[compute > compute.min() + 1, 2] = 0.0
    (found,) = found_in(replace(data, observed=observed))
    assert found.columns == [0, 1]
    observed[compute > compute.min() + 1, 1] = 0.0
    assert found_in(replace(data, observed=observed)) == []


def test_groups_are_of_one_evaluation_and_either_decide_the_progress_or_not():
    cells = [("x", "a"), ("task", "a"), ("x", "b"), ("task", "b"), ("x", "c"), ("y", "c")]
    apart = np.array([True, False, False, False, False, True])
    assert groups_of(cells, apart) == [[1, 3], [2, 4]]


def test_forecasts_far_out_keep_the_order_that_the_largest_runs_show(joint):
    """Laws that are exchanged between two sets are not believed against the runs."""
    first, second = joint.sweep.train_sets[:2]
    far = joint.forecast(train_set=[first, second], eval_set="task", params=1e10, tokens=2e11, kind="mean")
    plain = replace(joint, spec=replace(joint.spec, likelihood=replace(joint.spec.likelihood, differences=None)))
    law = plain.forecast(train_set=[first, second], eval_set="task", params=1e10, tokens=2e11, kind="mean")
    gap, of_laws = (np.log(f.draws[:, 1]) - np.log(f.draws[:, 0]) for f in (far, law))
    assert gap.std() < 0.1
    assert not np.allclose(gap, of_laws)
    # Far below the largest runs it is the laws.
    small = {"train_set": [first, second], "eval_set": "task", "params": 1e7, "tokens": 2e8, "kind": "mean"}
    np.testing.assert_allclose(joint.forecast(**small).draws, plain.forecast(**small).draws, rtol=1e-3)
    # One set alone is forecast as beside others.
    alone = joint.forecast(train_set=first, eval_set="task", params=1e10, tokens=2e11, kind="mean")
    np.testing.assert_allclose(alone.draws[:, 0], far.draws[:, list(far.points["train_set"]).index(first)])


def test_the_key_goes_to_a_file_and_back():
    record = load_spec("joint").to_dict()
    assert load_spec(record).likelihood.differences == DifferenceSpec(**record["likelihood"]["differences"])
    record["likelihood"]["differences"]["change"] = 0
    with pytest.raises(SpecError, match=r"differences\.change must be a number from"):
        load_spec(record)
    assert load_spec("law").likelihood.differences is None
