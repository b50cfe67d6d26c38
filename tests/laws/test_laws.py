"""The closed forms: stable over many orders of magnitude, the same in three libraries, closed under translation."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_l2l.laws import scaling as laws
from bayes_l2l.laws.family import LAW_FORMS
from bayes_l2l.laws.scaling import D0, Law, law_loss, log_optimal_params, log_reducible
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw

FAST = "FAST_COMPILE"

flops = st.floats(15, 26).map(lambda x: 10.0**x)
tokens_per_param = st.floats(-2, 6).map(lambda x: 10.0**x)
exponent = st.floats(0.02, 2.0)
log_scale = st.floats(-20, 60)


@st.composite
def sizes(draw):
    """N and D of a run of 1e15 to 1e26 FLOPs, from far too large a model to far too small a one."""
    c, ratio = draw(flops), draw(tokens_per_param)
    params = float(np.sqrt(c / 6 / ratio))
    return params, c / 6 / params


shapes = st.fixed_dictionaries(
    {
        "log_A": log_scale,
        "log_B": log_scale,
        "alpha": exponent,
        "beta": exponent,
        "gamma": exponent,
        "c": st.just(0.0) | st.floats(0, 10),
    }
)
tame = st.fixed_dictionaries(
    {
        "E": st.floats(0.1, 3),
        "log_A": st.floats(12, 22),
        "log_B": st.floats(12, 24),
        "alpha": st.floats(0.15, 0.8),
        "beta": st.floats(0.15, 0.8),
        "gamma": st.floats(0.2, 2),
        "c": st.just(0.0) | st.floats(0, 0.1),
    }
).map(lambda values: Law(**values))
relations = st.fixed_dictionaries(
    {
        "K": st.floats(0.1, 5),
        "kappa": st.floats(0.3, 2),
        "E0": st.floats(0.1, 3),
        "E1": st.floats(0.1, 3),
    }
).map(lambda values: ShiftedPowerLaw(**values))


def exactly(params, tokens, *, log_A, log_B, alpha, beta, gamma, c):
    """log R^gamma in 60 digits, and the largest number on the way (what rounding errors are relative to)."""
    with localcontext(Context(prec=60, Emax=999999999, Emin=-999999999)):
        a, b, g = Decimal(alpha), Decimal(beta), Decimal(gamma)
        first = a / g * (Decimal(log_A) - Decimal(params).ln())
        second = b / g * (Decimal(log_B) - Decimal(tokens).ln())
        transient = 1 + Decimal(c) * Decimal(D0) / Decimal(tokens)
        # only the ratio is exponentiated, so that no exponent is out of reach
        high, low = max(first, second), min(first, second)
        value = g * (high + (1 + (low - high).exp()).ln() + transient.ln())
        scale = max(abs(g * high), abs(a * Decimal(params).ln()), abs(b * Decimal(tokens).ln()), 1)
        return float(value), float(scale)


@given(sizes(), shapes)
def test_log_reducible_is_exact_from_1e15_to_1e26_flops(size, shape):
    value = log_reducible(np.log(size[0]), np.log(size[1]), **shape)
    expected, scale = exactly(*size, **shape)
    assert np.isfinite(value)
    assert abs(value - expected) <= 1e-12 * scale


@given(sizes(), shapes, st.floats(0, 3))
def test_loss_is_finite_above_E_and_falls_with_size(size, shape, E):
    params, tokens = size
    values = {k: v for k, v in shape.items() if not k.startswith("log_")}
    values |= {"E": E, "A": np.exp(shape["log_A"]), "B": np.exp(shape["log_B"])}
    loss = law_loss(params, tokens, **values)
    assert np.isfinite(loss)
    assert loss >= E
    assert law_loss(2 * params, tokens, **values) <= loss * (1 + 1e-12)
    assert law_loss(params, 2 * tokens, **values) <= loss * (1 + 1e-12)
    law = Law(E=E, **shape)
    np.testing.assert_allclose(law.loss(params, tokens), loss, rtol=1e-10)


@given(sizes(), st.floats(100, 2000))
def test_scales_of_hundreds_of_orders_of_magnitude_do_not_overflow(size, log_A):
    """With a small alpha, A itself is far beyond the range of floats."""
    shape = {"log_A": log_A, "log_B": -log_A, "alpha": 0.01, "beta": 0.01, "gamma": 0.02, "c": 0.0}
    value = log_reducible(np.log(size[0]), np.log(size[1]), **shape)
    np.testing.assert_allclose(value, exactly(*size, **shape)[0], rtol=1e-10)


@pytest.fixture(scope="module")
def in_pytensor():
    """The same expressions, compiled for PyTensor."""
    import pytensor
    import pytensor.tensor as pt

    names = ("log_params", "log_tokens", "log_A", "log_B", "alpha", "beta", "gamma", "c")
    x = {name: pt.dscalar(name) for name in names}
    reducible = log_reducible(x["log_params"], x["log_tokens"], **{name: x[name] for name in names[2:]})
    shape = {name: x[name] for name in ("log_A", "log_B", "alpha", "beta", "gamma")}
    optimum = log_optimal_params(x["log_params"], **shape)
    return pytensor.function(list(x.values()), [reducible, optimum], mode=FAST, on_unused_input="ignore")


@given(size=sizes(), shape=shapes)
@settings(deadline=None)
def test_numpy_xarray_and_pytensor_agree(in_pytensor, size, shape):
    log_params, log_tokens = np.log(size)
    value = log_reducible(log_params, log_tokens, **shape)
    labelled = {name: xr.DataArray([v, v], dims="cell") for name, v in shape.items()}
    array = log_reducible(xr.DataArray([log_params] * 3, dims="run"), log_tokens, **labelled)
    assert array.sizes == {"run": 3, "cell": 2}
    np.testing.assert_array_equal(array, value)
    order = ("log_A", "log_B", "alpha", "beta", "gamma", "c")
    reducible, optimum = in_pytensor(log_params, log_tokens, *(shape[name] for name in order))
    np.testing.assert_allclose(reducible, value, rtol=1e-12, atol=1e-9)
    closed = {name: v for name, v in shape.items() if name != "c"}
    expected = log_optimal_params(log_params, **closed)
    np.testing.assert_allclose(optimum, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("symbolic", ["log_params", "log_tokens", "log_A", "log_B", "alpha", "beta", "gamma", "c"])
def test_any_single_argument_may_be_symbolic(symbolic):
    import pytensor.tensor as pt

    values = {
        "log_params": 20.0, "log_tokens": 23.0, "log_A": 18.0, "log_B": 20.0,
        "alpha": 0.4, "beta": 0.35, "gamma": 0.8, "c": 0.02,
    }  # fmt: skip

    def reducible(log_params, log_tokens, **shape):
        return log_reducible(log_params, log_tokens, **shape)

    mixed = reducible(**values | {symbolic: pt.constant(values[symbolic])})
    np.testing.assert_allclose(mixed.eval(mode=FAST), reducible(**values), rtol=1e-14)


@given(sizes(), tame)
def test_named_members_are_their_textbook_formulas(size, law):
    N, D = size
    A, B, E, alpha, beta = np.exp(law.log_A), np.exp(law.log_B), law.E, law.alpha, law.beta
    given_ = {"E": E, "A": A, "B": B, "alpha": alpha, "beta": beta}
    chinchilla = E + (A / N) ** alpha + (B / D) ** beta
    np.testing.assert_allclose(law_loss(N, D, **given_), chinchilla, rtol=1e-11)
    kaplan = E + ((A / N) ** (alpha / beta) + B / D) ** beta
    np.testing.assert_allclose(law_loss(N, D, gamma=beta, **given_), kaplan, rtol=1e-11)
    # arXiv 2403.08540: L = E + (a M^eta + b M^-eta) C^-eta, with M tokens a parameter
    eta, M, C = alpha / 2, D / N, 6 * N * D
    a, b = A**alpha * 6**eta, B**alpha * 6**eta
    overtraining = E + (a * M**eta + b * M**-eta) * C**-eta
    np.testing.assert_allclose(law_loss(N, D, **given_ | {"beta": alpha}), overtraining, rtol=1e-11)
    R = ((A / N) ** (alpha / law.gamma) + (B / D) ** (beta / law.gamma)) * (1 + law.c * D0 / D)
    np.testing.assert_allclose(law.loss(N, D), E + R**law.gamma, rtol=1e-11)


def test_every_named_member_says_what_it_fixes():
    assert {name: form.constraint for name, form in LAW_FORMS.items()} == {
        "kaplan": "gamma = beta",
        "chinchilla": "gamma = 1",
        "overtraining": "gamma = 1, alpha = beta",
        "generalised": "gamma free",
    }


@given(sizes(), tame, relations)
def test_the_translated_law_is_the_translation_of_the_laws_loss(size, law, relation):
    relation = ShiftedPowerLaw(K=relation.K, kappa=relation.kappa, E0=law.E, E1=relation.E1)
    translated = law.translate(relation)
    np.testing.assert_allclose(translated.loss(*size), relation(law.loss(*size)), rtol=1e-8)
    assert translated.E == relation.E1
    assert translated.c == law.c


@given(flops, tame, relations)
def test_translation_keeps_the_compute_optimal_size(budget, law, relation):
    np.testing.assert_allclose(law.translate(relation).optimal(budget), law.optimal(budget), rtol=1e-8)


@given(sizes(), tame, relations, relations)
def test_laws_translate_step_by_step_as_at_once(size, law, first, second):
    once = law.translate(first.then(second))
    twice = law.translate(first).translate(second)
    np.testing.assert_allclose(once.loss(*size), twice.loss(*size), rtol=1e-8)
    np.testing.assert_allclose(once.gamma, twice.gamma)


@given(relations, relations, st.floats(-6, 2).map(np.exp))
def test_relations_compose(first, second, excess):
    second = ShiftedPowerLaw(K=second.K, kappa=second.kappa, E0=first.E1, E1=second.E1)
    both = first.then(second)
    loss = first.E0 + excess
    expected = (second.K * first.K**second.kappa, first.kappa * second.kappa)
    assert (both.K, both.kappa) == pytest.approx(expected)
    # the reducible part is compared: cancellation against E would hide an error, or make one up
    middle = first.K * excess**first.kappa
    np.testing.assert_allclose(both(loss) - both.E1, second.K * middle**second.kappa, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(both(loss), second.E1 + second.K * middle**second.kappa, rtol=1e-9)


@given(relations, st.floats(-3, 2).map(np.exp))
def test_the_inverse_undoes_a_relation(relation, excess):
    loss = relation.E0 + excess
    back = relation.inverse()
    np.testing.assert_allclose(back(relation(loss)), loss, rtol=1e-7)
    identity = relation.then(back)
    assert (identity.K, identity.kappa) == pytest.approx((1, 1))
    assert (identity.E0, identity.E1) == (relation.E0, relation.E0)
    again = back.inverse()
    assert (again.K, again.kappa) == pytest.approx((relation.K, relation.kappa))


def test_a_relation_has_no_value_below_the_sources_entropy():
    with np.errstate(invalid="ignore"):
        assert np.isnan(ShiftedPowerLaw(K=1.0, kappa=0.5, E0=2.0, E1=1.0)(np.float64(1.9)))


@given(flops, tame)
def test_the_optimum_is_where_the_loss_is_flat_along_equal_compute(budget, law):
    law = Law(**law.__dict__ | {"c": 0.0})
    params, tokens = law.optimal(budget)
    np.testing.assert_allclose(6 * params * tokens, budget, rtol=1e-10)

    def along(step):
        """Log reducible loss at the same compute and exp(step) times the optimal size."""
        shape = {name: getattr(law, name) for name in ("log_A", "log_B", "alpha", "beta", "gamma")}
        return log_reducible(np.log(params) + step, np.log(tokens) - step, **shape)

    h = 1e-4
    slope = (along(h) - along(-h)) / (2 * h)
    assert abs(slope) < 1e-6 * max(law.alpha, law.beta) ** 2 / min(law.gamma, 1) + 1e-8
    for step in (-2, -0.5, -0.05, 0.05, 0.5, 2):
        assert along(step) > along(0)


@given(flops, tame)
def test_the_optimum_is_the_published_formula(budget, law):
    """N* = G (C/6)^(beta/(alpha+beta)), as in arXiv 2203.15556 (gamma = 1) and with gamma in general."""
    a, b, g = law.alpha, law.beta, law.gamma
    log_G = g / (a + b) * (np.log(a) + a / g * law.log_A - np.log(b) - b / g * law.log_B)
    expected = np.exp(log_G) * (budget / 6) ** (b / (a + b))
    np.testing.assert_allclose(law.optimal(budget)[0], expected, rtol=1e-9)


@given(flops, tame)
def test_the_best_size_is_where_the_loss_is_lowest_with_the_correction(budget, law):
    (params, exponent), (more, _) = law.best(budget), law.best(budget * 1.001)

    def along(step):
        shape = {name: getattr(law, name) for name in ("log_A", "log_B", "alpha", "beta", "gamma", "c")}
        return log_reducible(np.log(params) + step, np.log(budget / 6 / params) - step, **shape)

    for step in (-2, -0.5, -0.05, 0.05, 0.5, 2):
        assert along(step) > along(0)
    assert exponent == pytest.approx(np.log(more / params) / np.log(1.001), rel=1e-2, abs=1e-4)
    closed = Law(**law.__dict__ | {"c": 0.0})
    assert closed.best(budget)[0] == pytest.approx(law.optimal(budget)[0], rel=1e-7)
    assert closed.best(budget)[1] == pytest.approx(law.beta / (law.alpha + law.beta))
    assert params <= law.optimal(budget)[0] * (1 + 1e-9)


def test_best_sizes_of_many_draws_at_once():
    """Each is the one that it is alone, however many steps the others need."""
    rng = np.random.default_rng(0)
    c = np.array([0.0, 0.01, 0.2, 3.0])
    many = Law(
        E=1.0, log_A=rng.normal(19, 0.3, 4), log_B=rng.normal(21, 0.3, 4), alpha=0.4, beta=0.35, gamma=0.8, c=c
    )
    params, exponent = many.best(1e18)
    for i in range(4):
        alone = Law(E=1.0, log_A=many.log_A[i], log_B=many.log_B[i], alpha=0.4, beta=0.35, gamma=0.8, c=c[i])
        assert (params[i], exponent[i]) == pytest.approx(alone.best(1e18), rel=1e-8)


@given(tame, st.floats(-3, 2), st.floats(0.02, 0.98), st.floats(16, 23), st.floats(18, 27))
def test_from_reference_gives_back_the_value_and_the_share_at_the_reference(law, value, share, log_N, log_D):
    shape = {"alpha": law.alpha, "beta": law.beta, "gamma": law.gamma}
    log_A, log_B = laws.from_reference(
        log_reducible_ref=value, share=share, log_N_ref=log_N, log_D_ref=log_D, **shape
    )
    np.testing.assert_allclose(log_reducible(log_N, log_D, log_A=log_A, log_B=log_B, **shape), value, atol=1e-9)
    by_size = law.alpha / law.gamma * (log_A - log_N)
    by_tokens = law.beta / law.gamma * (log_B - log_D)
    np.testing.assert_allclose(1 / (1 + np.exp(by_tokens - by_size)), share, rtol=1e-8)


def test_laws_take_arrays_of_draws():
    draws = Law(E=np.array([1.0, 1.5]), log_A=np.full(2, 18.0), log_B=np.full(2, 20.0), alpha=0.4, beta=0.35)
    loss = draws.loss(1e9, 2e10)
    assert loss.shape == (2,)
    assert np.diff(loss) == pytest.approx(0.5)
    assert draws.optimal(1e21)[0].shape == (2,)
