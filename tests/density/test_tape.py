"""A tape says what the PyMC model says: values, gradients, and what is reported."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
from model_values import derivative, log_density, some_point, values
from tiny import tiny_joint_sweep, tiny_sweep

import bayes_l2l as l2l
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.density import store
from bayes_l2l.density.laplace import laplace
from bayes_l2l.density.lowering import Lowering, NotLoweredError
from bayes_l2l.density.store import FOLDER_VARIABLE, Densities
from bayes_l2l.density.tape import Tape
from bayes_l2l.density.whitening import Whitening
from bayes_l2l.errors import L2LError
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.models import load_error_spec
from bayes_l2l.structures.protocol import Module, structure_of

X = np.array([-2.5, -1.0, -0.3, 0.2, 0.9, 1.7, 3.1])


def error_sweep() -> Sweep:
    """Runs with losses and with errors that fall with them."""
    table = tiny_joint_sweep().table
    errors = table.assign(metric="error", eval_set=table["eval_set"] + "_error", chance=0.75)
    errors["loss"] = 0.75 - 0.5 * np.exp(-(errors["loss"] - errors["loss"].min()))
    return Sweep.from_table(pd.concat([table, errors]).drop(columns="flops", errors="ignore"), name="errors")


CASES = {
    **{name: (name, tiny_sweep) for name in ("law", "kaplan", "chinchilla", "overtraining")},
    **{name: (name, tiny_joint_sweep) for name in ("joint", "train_to_train", "train_to_test")},
    **{name: (name, error_sweep) for name in ("error_exponential", "error_power", "error_richards")},
}


def spec_of(name: str) -> ModelSpec:
    return load_error_spec(name) if name.startswith("error") else l2l.load_spec(name)


def modules(spec: ModelSpec, sweep: Sweep) -> list[tuple[Module, dict[str, np.ndarray]]]:
    """Modules with their data, a progress that is not 0 among them."""
    structure = structure_of(spec)
    found = []
    for module in structure.modules(spec, structure.arrange(spec, sweep)):
        arrays = {variable.name: variable.get_value() for variable in module.model.data_vars}
        if "progress" in arrays:
            arrays["progress"] = np.random.default_rng(0).normal(size=arrays["progress"].shape)
            module.model.set_data("progress", arrays["progress"])
        found.append((module, arrays))
    return found


def tape_of(model: pm.Model, **arrays: np.ndarray) -> Tape:
    return Lowering(model).tape(arrays).with_data(arrays)


def flat(tape: Tape, point: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(point[name]) for name in tape.names])


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_density_of_the_model_and_its_derivative(name):
    spec, sweep = CASES[name]
    for module, arrays in modules(spec_of(spec), sweep()):
        tape = tape_of(module.model, **arrays)
        for seed in (1, 2):
            point = some_point(module.model, seed=seed)
            found, gradient = tape.log_density(flat(tape, point))
            assert found == pytest.approx(log_density(module.model, point)[0], rel=1e-8, abs=1e-6)
            np.testing.assert_allclose(gradient, derivative(module.model, point), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", ["law", "joint", "train_to_test"])
def test_it_reports_what_the_model_reports(name):
    spec, sweep = CASES[name]
    for module, arrays in modules(spec_of(spec), sweep()):
        tape = tape_of(module.model, **arrays)
        point = some_point(module.model)
        found = tape.quantities(flat(tape, point)[None, None])
        names = [variable.name for variable in module.model.deterministics]
        assert set(names) <= set(found)
        for name, value in zip(names, values(module.model, point, *names), strict=True):
            np.testing.assert_allclose(found[name][0, 0], value, rtol=1e-12, err_msg=name)
            assert len(tape.dims[name]) == value.ndim


@pytest.mark.parametrize(
    "formula",
    [
        pt.exp, pt.log1p, pt.expm1, pt.sigmoid, pt.softplus, abs, pt.sqr, pt.neg, pt.reciprocal,
        lambda x: pt.log(x**2), lambda x: pt.sqrt(x**2 + 1), lambda x: x**3, lambda x: (x**2) ** x,
        lambda x: x / (x - 4),
        lambda x: pt.maximum(x, 0.5), lambda x: pt.minimum(x, 0.5), lambda x: pt.clip(x, -1, 1), lambda x: 3 - x,
        lambda x: pt.gammaln(x + 3), lambda x: pt.log1mexp(-(x**2)), lambda x: pt.switch(x > 0, x, -2 * x),
        lambda x: x[[3, 3, 0]] * x[1], lambda x: x[1:5:2], lambda x: x[:, None] * pt.exp(x),
        lambda x: x.reshape((7, 1)).T,
        lambda x: (x[:, None] * x[None, :]).sum(axis=0), lambda x: pt.alloc(x[2], 4), lambda x: pt.eq(x, x[1]) * x,
    ],
)  # fmt: skip
def test_every_instruction_and_its_derivative(formula):
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0, size=7)
        below = pt.log1p(pt.exp(x) * 0.3) if formula is pt.log1p else x
        pm.Deterministic("y", formula(below))
        pm.Potential("term", pt.sin(0.0) + (formula(below) ** 2).sum())
    tape = tape_of(model)
    found, gradient = tape.log_density(X)
    assert found == pytest.approx(log_density(model, {"x": X})[0], rel=1e-8)
    np.testing.assert_allclose(gradient, derivative(model, {"x": X}), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(tape.quantities(X)["y"], values(model, {"x": X}, "y")[0], rtol=1e-13)


def test_its_derivative_is_that_of_finite_differences():
    (module, arrays), _ = modules(l2l.load_spec("joint"), tiny_joint_sweep())
    tape = tape_of(module.model, **arrays)
    x = flat(tape, some_point(module.model))
    steps = 1e-5 * np.eye(len(x))
    differences = [(tape.log_density(x + step)[0] - tape.log_density(x - step)[0]) / 2e-5 for step in steps]
    np.testing.assert_allclose(tape.log_density(x)[1], differences, rtol=1e-4, atol=1e-3)


def test_exp_and_log_are_right_to_the_last_digits():
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0, size=4000)
        pm.Deterministic("exp", pt.exp(x))
        pm.Deterministic("log", pt.log(pt.abs(x)))
    x = np.concatenate([np.linspace(-700, 700, 2000), 1 + np.linspace(-0.5, 0.9, 2000)])
    found = tape_of(model).quantities(x)
    np.testing.assert_allclose(found["exp"], np.exp(x), rtol=5e-16)
    np.testing.assert_allclose(found["log"], np.log(np.abs(x)), rtol=5e-16)


def test_known_errors_and_missing_losses_are_in_the_likelihood_of_runs():
    table = tiny_joint_sweep().table
    table = table.assign(loss_se=np.where(np.arange(len(table)) % 3, 0.0, 0.01)).drop(index=[3, 8])
    for module, arrays in modules(l2l.load_spec("joint"), Sweep.from_table(table, name="gaps")):
        tape, point = tape_of(module.model, **arrays), some_point(module.model)
        found, gradient = tape.log_density(flat(tape, point))
        assert arrays["noise"].any()
        assert found == pytest.approx(log_density(module.model, point)[0], rel=1e-8, abs=1e-6)
        np.testing.assert_allclose(gradient, derivative(module.model, point), rtol=1e-9, atol=1e-8)


def test_other_data_of_the_same_shapes_need_no_lowering():
    (module, arrays), *_ = modules(l2l.load_spec("law"), tiny_sweep())
    tape = Lowering(module.model).tape(arrays)
    other = arrays | {"log_loss": arrays["log_loss"] + 0.01}
    point = some_point(module.model)
    module.model.set_data("log_loss", other["log_loss"])
    for given in (other, arrays, other):
        found = tape.with_data(given).log_density(flat(tape, point))[0]
        assert (found == pytest.approx(log_density(module.model, point)[0], rel=1e-8)) == (given is other)


def test_a_density_that_is_not_finite_says_so():
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0, size=2)
        pm.Potential("term", pt.log(x).sum())
    value, gradient = tape_of(model).log_density(np.array([1.0, -1.0]))
    assert np.isnan(value)
    assert np.isnan(gradient).all()


# Whitening


def test_whitened_points_are_the_same_points():
    (module, arrays), *_ = modules(l2l.load_spec("law"), tiny_sweep())
    tape = tape_of(module.model, **arrays)
    whitening = laplace(tape)
    white = dataclasses.replace(tape, whitening=whitening)
    z = np.random.default_rng(0).normal(size=len(tape.start))
    x = whitening.parameters(z)
    found, gradient = white.log_density(z)
    value, slope = tape.log_density(x)
    assert found == pytest.approx(value, rel=1e-12)
    moves = np.array([whitening.parameters(z + step) - x for step in 1e-3 * np.eye(len(z))]) / 1e-3
    np.testing.assert_allclose(gradient, moves @ slope, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(white.quantities(z)["E"], tape.quantities(x)["E"], rtol=1e-12)


def test_a_normal_density_becomes_standard():
    covariance = np.array([[4.0, 1.5, 0.0], [1.5, 1.0, 0.05], [0.0, 0.05, 0.01]])
    precision = np.linalg.inv(covariance)
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1000.0, size=3)
        # A product of matrices is one instruction.
        pm.Potential("term", -0.5 * ((x - 3) * ((x - 3) @ precision)).sum())
    whitening = laplace(tape_of(model))
    np.testing.assert_allclose(whitening.center, 3.0, atol=1e-2)
    found = np.cov(whitening.parameters(np.random.default_rng(0).normal(size=(40_000, 3))).T)
    np.testing.assert_allclose(found, covariance, rtol=0.1, atol=0.01)


def test_a_spread_that_is_not_known_does_not_shrink_to_nothing():
    """The mode of effects and their spread together is where all effects are alike, which is far from all draws."""
    with pm.Model() as model:
        spread = pm.LogNormal("spread", -1.0, 0.5)
        effects = pm.Normal("effects", 0.0, spread, size=200)
        pm.Potential("term", -0.5 * ((effects - 0.1) ** 2).sum())
    tape = tape_of(model)
    assert -3.0 < laplace(tape).center[0] < 1.0
    assert tape.log_density(np.r_[-30.0, np.zeros(200)])[0] > tape.log_density(np.r_[-1.0, np.zeros(200)])[0]


# What is kept


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept" / "tapes"


def made(spec: ModelSpec, sweep: Sweep) -> tuple[dict[str, int], list[Tape]]:
    """What a process would make that begins here, and its log densities."""
    structure = structure_of(spec)
    found = Densities(spec, structure.arrange(spec, sweep).signature)
    tapes = [found.of(place, module, arrays) for place, (module, arrays) in enumerate(modules(spec, sweep))]
    return found.made, tapes


def test_a_tape_is_kept_between_processes(folder):
    spec, sweep = l2l.load_spec("joint"), tiny_joint_sweep()
    first, tapes = made(spec, sweep)
    assert first == {"lowered": 2, "compiled": 0, "from disk": 0}
    second, again = made(spec, sweep)
    assert second == {"lowered": 0, "compiled": 0, "from disk": 2}
    for one, other in zip(tapes, again, strict=True):
        z = np.full(len(one.start), 0.1)
        np.testing.assert_array_equal(one.log_density(z)[1], other.log_density(z)[1])
        assert one.dims == other.dims
        assert one.coords == other.coords
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:200])
    assert made(spec, sweep)[0]["lowered"] == 2


def test_another_model_other_cells_or_other_code_are_other_tapes(folder, monkeypatch):
    spec, sweep = l2l.load_spec("law"), tiny_sweep()
    made(spec, sweep)
    changed = spec.to_dict()
    changed["priors"]["excess"]["kwargs"]["sigma"] = 2.0
    assert made(l2l.load_spec(changed), sweep)[0]["lowered"] == 1
    assert made(spec, sweep.select(train_sets=sweep.train_sets[:1]))[0]["lowered"] == 1
    monkeypatch.setattr(store, "code_digest", lambda *_, **__: "later")
    assert made(spec, sweep)[0]["lowered"] == 1


def test_nothing_is_kept_where_nothing_can_be(folder, monkeypatch):
    spec, sweep = l2l.load_spec("law"), tiny_sweep()
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    made(spec, sweep)
    assert made(spec, sweep)[0]["lowered"] == 1
    folder.parent.write_text("no folder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder.parent))
    assert made(spec, sweep)[0]["lowered"] == 1


def test_only_so_many_are_kept(folder, monkeypatch):
    monkeypatch.setattr(store, "_KEPT", 1)
    for spec in ("law", "kaplan"):
        made(l2l.load_spec(spec), tiny_sweep())
    assert len([*folder.iterdir()]) == 1


def test_a_model_that_cannot_be_lowered_is_compiled(folder, monkeypatch):
    import nutpie

    class Compiled:
        shared_data = {"log_loss": 0}

        def with_data(self, **given):
            return sorted(given)

    (module, arrays), *_ = modules(l2l.load_spec("law"), tiny_sweep())
    monkeypatch.setattr(store.Lowering, "tape", lambda *_: (_ for _ in ()).throw(NotLoweredError("erf")))
    monkeypatch.setattr(nutpie, "compile_pymc_model", lambda model: Compiled())
    found = Densities(l2l.load_spec("law"), "")
    assert [found.of(0, module, arrays) for _ in range(2)] == [["log_loss"]] * 2
    assert found.made == {"lowered": 0, "compiled": 1, "from disk": 0}


def test_a_model_with_an_error_of_its_own_is_refused_as_before():
    spec = l2l.load_spec("law")
    with pytest.raises(L2LError):
        structure_of(spec).arrange(spec, tiny_sweep().select(metric="error"))


def test_parameters_of_no_whitening_are_themselves():
    none = Whitening.none(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(none.parameters(np.array([[0.5, 0.5]])), [[1.5, 2.5]])
