"""Model files: what they say is what is built, and whatever is wrong in one is named."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from model_values import log_density, some_point

from bayes_l2l.data.columns import ColumnMap, as_column_map
from bayes_l2l.data.simulation import simulated_sweep
from bayes_l2l.errors import L2LError, SpecError
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.spec import prior as priors
from bayes_l2l.spec.prior import MAY_BE_NEGATIVE, Prior
from bayes_l2l.structures.models import load_spec, model_names

MODELS = Path(__file__).resolve().parents[2] / "models"
SHIPPED = sorted(path.stem for path in MODELS.glob("*.toml") if not path.stem.startswith("error_"))


NORMAL = {"dist": "Normal", "kwargs": {"mu": 0.0, "sigma": 1.0}}
STUDENT = {"dist": "StudentT", "residual_scale": 0.01, "size_effect_scale": 0.0}


def record(name="law"):
    """A shipped model file, as parsed."""
    return tomllib.loads((MODELS / f"{name}.toml").read_text(encoding="utf-8"))


def changed(path, value, *, name="law"):
    """The same with one entry changed, added, or (value None) removed; `path` is dotted."""
    *parents, key = path.split(".")
    top = part = copy.deepcopy(record(name))
    for parent in parents:
        part = part[parent]
    if value is None:
        del part[key]
    else:
        part[key] = value
    return top


def test_the_shipped_models_are_listed():
    assert model_names() == SHIPPED
    assert {"law", "kaplan", "chinchilla"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_loads_and_goes_through_plain_types_and_back(name):
    spec = load_spec(name)
    assert spec.name == name
    assert spec.title
    assert spec.equation
    assert spec.source
    assert load_spec(spec.to_dict()) == spec
    assert spec.to_dict()["priors"].keys() == record(name)["priors"].keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_of_a_file_is_lost(name):
    """Every number, distribution and key of the file stands in what is stored with a fit."""

    def flat(value, at=""):
        if isinstance(value, dict):
            return {k: v for key, one in value.items() for k, v in flat(one, f"{at}.{key}").items()}
        if isinstance(value, list):
            return {k: v for i, one in enumerate(value) for k, v in flat(one, f"{at}[{i}]").items()}
        return {at: value}

    read, stored = flat(record(name)), flat(load_spec(name).to_dict())
    for key, value in read.items():
        if key.endswith(".dims"):
            key = f"{key}[0]"
        # true is the default of `centered`, and is not written
        assert stored.get(key, True) == value, key


def test_a_spec_is_returned_as_it_is():
    spec = load_spec("law")
    assert load_spec(spec) is spec


def test_a_copied_file_is_the_same_model(tmp_path):
    copied = tmp_path / "mine.toml"
    copied.write_text((MODELS / "law.toml").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_spec(copied) == load_spec(str(copied)) == load_spec("law")


def test_a_bare_number_fixes_a_quantity():
    spec = load_spec(changed("priors.gamma", 1))
    assert spec.priors["gamma"] == Prior("Fixed", {"value": 1.0})
    assert spec.to_dict()["priors"]["gamma"] == 1.0


def test_hyper_priors_are_read_as_priors():
    alpha = load_spec("law").priors["alpha"]
    assert isinstance(alpha.kwargs["mu"], Prior)
    assert alpha.kwargs["mu"].dist == "Normal"
    assert alpha.dims == ("cell",)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", None, "The model file has no 'name'."),
        ("law", None, "The model file has no 'law'."),
        ("priors", None, "The model file has no 'priors'."),
        ("likelihood", None, "The model file has no 'likelihood'."),
        ("prior", {}, "the model file has an unknown key 'prior' (known: "),
        ("prior", {}, "; did you mean 'priors'?"),
        ("law", "kaplann", "law is 'kaplann', no known member (kaplan, chinchilla, overtraining, generalised)"),
        ("law", "kaplann", "; did you mean 'kaplan'?"),
        ("law", 3, "law is 3, no known member"),
        ("law", "chinchilla", "priors (law = 'chinchilla') has an unknown key 'gamma'"),
        ("law", "overtraining", "priors (law = 'overtraining') has an unknown key 'beta'"),
        ("priors", 3, "must be a table, not 3"),
        ("priors.E_fraction", None, "priors has no 'E_fraction', which law = 'generalised' needs."),
        ("priors.gamma", None, "priors has no 'gamma', which law = 'generalised' needs."),
        ("priors.gama", 1.0, "priors (law = 'generalised') has an unknown key 'gama'"),
        ("priors.gama", 1.0, "; did you mean 'gamma'?"),
        ("priors.share", "half", "priors.share must be a number or a table with `dist` and `kwargs`, not 'half'."),
        ("priors.share", True, "priors.share must be a number or a table with `dist` and `kwargs`, not True."),
        ("priors.c.dist", "Lognormal", "priors.c.dist is 'Lognormal', no known distribution (Normal, "),
        ("priors.c.dist", "Lognormal", "; did you mean 'LogNormal'?"),
        ("priors.c.dist", "Cauchy", "priors.c.dist is 'Cauchy', no known distribution"),
        ("priors.c.dist", None, "priors.c.dist is "),
        ("priors.c.sigma", 1.0, "priors.c has an unknown key 'sigma' (known: dist, kwargs, "),
        ("priors.c.kwargs", 3, "priors.c.kwargs must be a table of LogNormal's arguments, not 3."),
        ("priors.c.kwargs.sd", 1.0, "priors.c.kwargs has an unknown key 'sd' (known: mu, sigma)"),
        ("priors.c.kwargs.sigma", None, "priors.c.kwargs has no 'sigma', which LogNormal needs."),
        ("priors.c.kwargs.mu", "0", "priors.c.kwargs.mu must be a number or a table"),
        ("priors.c.dims", "cells", "priors.c.dims names 'cells'; a prior may vary along cell"),
        ("priors.c.centered", "no", "priors.c.centered must be true or false, not 'no'."),
        ("priors.c.centered", False, "priors.c.centered = false is for Normal, not for LogNormal."),
        ("priors.c.transform", "log", "priors.c.transform is 'log'; known are exp, sigmoid, below_one."),
        ("priors.alpha.kwargs.mu.dist", "Norml", "priors.alpha.kwargs.mu.dist is 'Norml', no known distribution"),
        ("priors.alpha.kwargs.mu.kwargs.nu", 3, "priors.alpha.kwargs.mu.kwargs has an unknown key 'nu'"),
        ("priors.alpha.kwargs.mu.dims", "cell", "priors.alpha.kwargs.mu: a hyper-prior has no dims"),
        ("likelihood", 3, "likelihood must be a table, not 3."),
        ("likelihood.dist", "Cauchy", "likelihood.dist is 'Cauchy'; known are Normal, StudentT."),
        ("likelihood.dist", "StudentT", "likelihood has no 'nu', which dist = 'StudentT' needs."),
        ("likelihood.nu", 4.0, "likelihood.nu belongs to dist = 'StudentT'."),
        ("likelihood.dist", None, "likelihood has no 'dist'."),
        ("likelihood.residual_scale", None, "likelihood has no 'residual_scale'."),
        ("likelihood.size_effect_scale", None, "likelihood has no 'size_effect_scale'."),
        ("likelihood.noise", 0.1, "likelihood has an unknown key 'noise'"),
        ("likelihood.weight_exponent", -1, "likelihood.weight_exponent must be a number from 0 to 10, not -1."),
        ("likelihood.weight_exponent", "2", "likelihood.weight_exponent must be a number from 0 to 10, not '2'."),
        ("likelihood.weight_exponent", True, "likelihood.weight_exponent must be a number from 0 to 10, not True."),
        (
            "likelihood.weight_exponent",
            float("nan"),
            "likelihood.weight_exponent must be a number from 0 to 10, not nan.",
        ),
        (
            "likelihood.extrapolation_discrepancy",
            -0.5,
            "likelihood.extrapolation_discrepancy must be a number from 0 to 10, not -0.5.",
        ),
        (
            "likelihood.extrapolation_discrepancy",
            "1",
            "likelihood.extrapolation_discrepancy must be a number from 0 to 10, not '1'.",
        ),
        (
            "likelihood.extrapolation_discrepancy",
            True,
            "likelihood.extrapolation_discrepancy must be a number from 0 to 10, not True.",
        ),
        (
            "likelihood.extrapolation_discrepancy",
            float("inf"),
            "likelihood.extrapolation_discrepancy must be a number from 0 to 10, not inf.",
        ),
        (
            "likelihood.extrapolation_discrepancy",
            {"sd": 1.0},
            "likelihood.extrapolation_discrepancy must be a number from 0 to 10, not {'sd': 1.0}.",
        ),
        (
            "likelihood.residual_scale.dist",
            "Norma",
            "likelihood.residual_scale.dist is 'Norma', no known distribution",
        ),
        (
            "structure",
            "pairs",
            "structure is 'pairs'; known are error_rate, joint, mixture, pairwise, "
            "relations_only, separate; did you mean 'pairwise'?",
        ),
        (
            "structure",
            ["joint"],
            "structure is ['joint']; known are error_rate, joint, mixture, pairwise, relations_only, separate.",
        ),
        ("structure", "joint", "has an unknown key 'alpha'"),
        ("likelihood.discrepancy", 3, "likelihood.discrepancy must be a table, not 3."),
        ("likelihood.discrepancy", {"rate": 1.0}, "likelihood.discrepancy has no 'at_largest'."),
        ("likelihood.discrepancy", {"slope": 1.0}, "likelihood.discrepancy has an unknown key 'slope'"),
        (
            "likelihood.discrepancy",
            {"at_largest": -0.1, "rate": 1.0, "cap": 0.1},
            "likelihood.discrepancy.at_largest must be a number of at least 0, not -0.1.",
        ),
        # what is no text, number or table where one is meant
        ("law", ["kaplan"], "law is ['kaplan'], no known member"),
        ("priors.c.dims", 3, "priors.c.dims "),
        ("priors.c.dist", ["Normal"], "priors.c.dist is "),
        ("priors.c.transform", ["exp"], "priors.c.transform is ['exp']; known are exp, sigmoid, below_one."),
        # numbers that no distribution can take
        ("priors.c.kwargs.mu", float("nan"), "priors.c.kwargs.mu must be a finite number, not nan."),
        ("priors.gamma", float("inf"), "priors.gamma must be a finite number, not inf."),
        ("priors.c.kwargs.sigma", -1, "priors.c.kwargs.sigma must be positive, not -1."),
        ("priors.c.kwargs.sigma", 0, "priors.c.kwargs.sigma must be positive, not 0."),
        ("priors.gamma", 10**400, "priors.gamma must be a finite number, not 1000"),
        pytest.param("priors.gamma", 10**5000, "not a value of type int that cannot be shown", id="5000 digits"),
        ("likelihood.weight_exponent", 10**400, "likelihood.weight_exponent must be a number from 0 to 10, not 1000"),
        # what may be negative and must not be
        ("priors.c.kwargs.sigma", NORMAL, f"priors.c.kwargs.sigma {MAY_BE_NEGATIVE}"),
        ("priors.alpha.kwargs.sigma", NORMAL, f"priors.alpha.kwargs.sigma {MAY_BE_NEGATIVE}"),
        (
            "priors.alpha.kwargs.sigma",
            {"dist": "TruncatedNormal", "kwargs": {"mu": 0.1, "sigma": 0.1, "lower": -1, "upper": 1}},
            f"priors.alpha.kwargs.sigma {MAY_BE_NEGATIVE}",
        ),
        ("priors.alpha.kwargs.sigma", [NORMAL], f"priors.alpha.kwargs.sigma {MAY_BE_NEGATIVE}"),
        ("priors.c", NORMAL, f"priors.c {MAY_BE_NEGATIVE}"),
        ("priors.alpha.transform", None, f"priors.alpha {MAY_BE_NEGATIVE}"),
        ("priors.excess.transform", "below_one", f"priors.excess {MAY_BE_NEGATIVE}"),
        ("likelihood.residual_scale.transform", None, f"likelihood.residual_scale {MAY_BE_NEGATIVE}"),
        ("likelihood.size_effect_scale", NORMAL, f"likelihood.size_effect_scale {MAY_BE_NEGATIVE}"),
        ("likelihood.residual_scale", -0.1, "likelihood.residual_scale must not be negative, and is -0.1."),
        ("likelihood.residual_scale", 0, "likelihood.residual_scale must be above 0."),
        ("likelihood", STUDENT | {"nu": NORMAL}, f"likelihood.nu {MAY_BE_NEGATIVE}"),
        # fractions, and intervals with nothing in them
        ("priors.E_fraction.transform", None, "priors.E_fraction is a fraction and may leave the interval from 0 to"),
        ("priors.share.transform", "exp", "priors.share is a fraction and may leave the interval from 0 to 1"),
        ("priors.share", {"dist": "Uniform", "kwargs": {"lower": 0, "upper": 2}}, "priors.share is a fraction and"),
        (
            "priors.share",
            {"dist": "Uniform", "kwargs": {"lower": 0.7, "upper": 0.3}},
            "priors.share.kwargs.lower must be below upper: from 0.7 to 0.3 there is nothing.",
        ),
        (
            "priors.c",
            {"dist": "TruncatedNormal", "kwargs": {"mu": 0.0, "sigma": 1.0, "lower": 0.1, "upper": 0.1}},
            "priors.c.kwargs.lower must be below upper: from 0.1 to 0.1 there is nothing.",
        ),
    ],
)
def test_what_is_wrong_in_a_model_is_named(path, value, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        load_spec(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("law", "chinchilla", "structure = 'joint' needs law = 'generalised', not 'chinchilla'."),
        ("priors.alpha_over_gamma", None, "priors has no 'alpha_over_gamma'"),
        ("downstream.likelihood", {"dist": "StudentT", "nu": 2}, "downstream.likelihood.nu must be above 2, not 2."),
        (
            "downstream.likelihood",
            {"dist": "StudentT", "nu": {"dist": "Gamma", "kwargs": {"alpha": 2, "beta": 0.1}}},
            "downstream.likelihood.nu must be a number.",
        ),
        (
            "downstream.share",
            0.4,
            "downstream has an unknown key 'share' (known: E_fraction, excess, gamma, likelihood)",
        ),
        ("downstream.gamma.dist", "Norml", "downstream.gamma.dist is 'Norml', no known distribution"),
        ("downstream.E_fraction", 1.5, "downstream.E_fraction must be between 0 and 1, not 1.5."),
        ("priors.alpha", 0.4, "has an unknown key 'alpha'"),
        ("priors.gamma.kwargs.mu", [], "priors.gamma.kwargs.mu must be a list of priors with different dims"),
        (
            "priors.gamma.kwargs.mu",
            2 * [{"dist": "Normal", "dims": "eval_set", "kwargs": {"mu": 0.0, "sigma": 1.0}}],
            "priors.gamma.kwargs.mu must be a list of priors with different dims",
        ),
        (
            "priors.gamma.kwargs.mu",
            [{"dist": "Normal", "dims": "cell", "kwargs": {"mu": 0.0, "sigma": 1.0}}],
            "priors.gamma.kwargs.mu must be a list of priors with different dims",
        ),
        (
            "priors.gamma.kwargs.mu",
            [{"dist": "Normal", "dims": "eval_set", "kwargs": {"mu": 0.0}}],
            "priors.gamma.kwargs.mu[0].kwargs has no 'sigma', which Normal needs.",
        ),
    ],
)
def test_what_is_wrong_in_a_joint_model_is_named(path, value, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        load_spec(changed(path, value, name="joint"))


def test_downstream_evaluations_are_of_a_joint_model_and_may_be_left_out():
    assert not load_spec(changed("downstream", None, name="joint")).downstream.priors
    with pytest.raises(SpecError, match="the model file has an unknown key 'downstream'"):
        load_spec(record() | {"downstream": {}})


@pytest.mark.parametrize("dim", ["eval_set", "train_set"])
@pytest.mark.parametrize("path", ["priors.alpha", "likelihood.residual_scale"])
def test_a_quantity_varies_along_cells_or_not_at_all(path, dim):
    """Along the parts of a cell's name only the effects in a list of priors vary."""
    with pytest.raises(SpecError, match=re.escape(f"{path}.dims")):
        load_spec(changed(f"{path}.dims", dim))


def test_the_shared_size_effect_cannot_vary_along_cells():
    effect = {"dist": "LogNormal", "dims": "cell", "kwargs": {"mu": -5.1, "sigma": 1.0}}
    with pytest.raises(SpecError, match=re.escape("likelihood.size_effect_scale")):
        load_spec(changed("likelihood.size_effect_scale", effect))


@pytest.mark.parametrize("size", [0, 0.7])
def test_an_extrapolation_discrepancy_goes_to_a_file_and_back(size):
    spec = load_spec(changed("likelihood.extrapolation_discrepancy", size))
    assert spec.likelihood.extrapolation_discrepancy == size
    assert spec.to_dict()["likelihood"].get("extrapolation_discrepancy", 0.0) == size
    assert load_spec(spec.to_dict()) == spec
    assert load_spec("law").likelihood.extrapolation_discrepancy == 0  # none unless it is asked for


def test_an_unknown_model_is_refused_with_those_that_are_known():
    with pytest.raises(SpecError) as caught:
        load_spec("kaplann")
    message = str(caught.value)
    assert message.startswith("There is no model 'kaplann'; known are ")
    assert "chinchilla" in message
    assert "a file that ends in .toml" in message
    assert message.endswith("; did you mean 'kaplan'?")


def test_a_file_that_is_absent_or_no_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"the model file .*mine\.toml cannot be read: No such file or directory$"):
        load_spec(tmp_path / "mine.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SpecError, match=r"the model file .*folder\.toml cannot be read: Is a directory$"):
        load_spec(tmp_path / "folder.toml")


@pytest.mark.parametrize("content", [b'name = "law', b"\xff\xfe\x00", b"a = 1\na = 2\n"])
def test_broken_toml_is_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"the model file .*mine\.toml is not TOML: "):
        load_spec(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"name = {'9' * 5000}", r"is not TOML: it has a number of thousands of digits$"),
        (f"[priors]\nalpha = {'9' * 400}", r"is not TOML: priors\.alpha is an integer of more than 64 bits$"),
        (
            f"[priors]\nalpha = [1, {{ a = {2**63} }}]",
            r"is not TOML: priors\.alpha\[1\]\.a is an integer of more than 64 bits$",
        ),
        (f"name = {'[' * 3000}{']' * 3000}", r"is refused: its tables or lists are nested too deep$"),
        (f"a{'.a' * 3000} = 1", r"is refused: its tables or lists are nested too deep$"),
    ],
    ids=["digits", "64 bits", "64 bits further in", "lists", "tables"],
)
@pytest.mark.parametrize("read", [load_spec, as_column_map])
def test_numbers_and_nesting_that_nothing_can_bear_are_refused_in_any_toml_file(tmp_path, content, said, read):
    path = tmp_path / "mine.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SpecError, match=rf"mine\.toml {said}"):
        read(path)


def test_bottomless_tables_are_refused_in_python_too():
    prior = NORMAL
    for _ in range(3000):
        prior = {"dist": "Normal", "kwargs": {"mu": prior, "sigma": 1.0}}
    with pytest.raises(SpecError, match=r"^priors\.c is nested too deep\.$"):
        load_spec(changed("priors.c", prior))


@pytest.mark.parametrize("number", [10**400, float("inf"), float("nan")])
def test_a_mapping_needs_finite_numbers(number):
    with pytest.raises(SpecError, match=r"n_items\.quiz is no finite number"):
        ColumnMap(errors={"quiz": "column"}, n_items={"quiz": number})


def test_a_refused_file_is_named_before_what_is_wrong(tmp_path):
    path = tmp_path / "mine.toml"
    text = (MODELS / "law.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("[priors.gamma]", "[priors.gama]").replace("[priors.gamma.", "[priors.gama."))
    with pytest.raises(SpecError, match=r"^mine\.toml: priors .*'gama'.*did you mean 'gamma'\?$"):
        load_spec(path)


def test_refusals_are_the_users_errors():
    assert issubclass(SpecError, L2LError)


@pytest.fixture(scope="module")
def data():
    return simulated_sweep().select(train_sets=["starcoder", "proof-pile-2"]).up_to(1e18)


def density(spec, data):
    """Log density of a spec's model at a point, and how many random variables it has."""
    model = CompiledModel(spec, data).modules[0].model
    return log_density(model, some_point(model))[0], len(model.free_RVs)


def test_changing_a_prior_in_a_copied_file_changes_the_model(tmp_path, data):
    text = (MODELS / "law.toml").read_text(encoding="utf-8")
    shipped, n_shipped = density(load_spec("law"), data)
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert density(load_spec(path), data) == (shipped, n_shipped)
    for table in (
        "priors.c",
        "priors.gamma.kwargs",
        "likelihood.residual_scale",
    ):  # a prior, a hyper-prior, the noise
        # the first number called sigma below the table's name
        sigma = re.compile(rf"(\[{re.escape(table)}\][^\[]*?sigma = )([0-9.]+)")
        changed_text, count = sigma.subn(lambda found: f"{found[1]}{0.5 * float(found[2])}", text)
        assert count == 1
        path.write_text(changed_text, encoding="utf-8")
        other, n_other = density(load_spec(path), data)
        assert n_other == n_shipped
        assert np.isfinite(other)
        assert abs(other - shipped) > 1e-3


def test_a_fixed_quantity_is_no_random_variable(data):
    fixed = load_spec(changed("priors.gamma", 0.75))
    model = CompiledModel(fixed, data).modules[0].model
    assert not [rv.name for rv in model.free_RVs if rv.name.startswith("gamma")]
    np.testing.assert_allclose(model["gamma"].eval(mode="FAST_COMPILE"), 0.75)


def test_every_distribution_can_be_built():
    """What the file may name exists in PyMC, with these arguments."""
    import pymc as pm

    # a Uniform or a truncation needs its ends in order; one is no valid scale of anything else
    values = {"lower": 0.1, "upper": 0.9, "mu": 0.5}
    for name, arguments in priors.DISTRIBUTIONS.items():
        prior = Prior.from_dict({"dist": name, "kwargs": {a: values.get(a, 1.0) for a in arguments}}, where="p")
        assert prior.dist == name
        drawn = getattr(pm, name).dist(**prior.kwargs)
        assert np.isfinite(pm.draw(drawn, random_seed=1, mode="FAST_COMPILE"))
