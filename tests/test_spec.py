"""Model files: what they say is what is built, and whatever is wrong in one is named."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from evaluation import log_density, some_point

from bayes_l2l import spec as specs
from bayes_l2l.build import ModelData, build
from bayes_l2l.errors import L2LError, SpecError
from bayes_l2l.simulation import simulated_sweep
from bayes_l2l.spec import ModelSpec, Prior, load_spec, model_names

MODELS = Path(__file__).resolve().parents[1] / "models"
SHIPPED = sorted(path.stem for path in MODELS.glob("*.toml") if not path.stem.startswith("error_"))


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
    assert ModelSpec.from_dict(spec.to_dict()) == spec
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
    spec = ModelSpec.from_dict(changed("priors.gamma", 1))
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
        ("likelihood.dist", "StudentT", "likelihood.dist is 'StudentT'; known is Normal."),
        ("likelihood.dist", None, "likelihood has no 'dist'."),
        ("likelihood.scatter", None, "likelihood has no 'scatter'."),
        ("likelihood.deviation", None, "likelihood has no 'deviation'."),
        ("likelihood.noise", 0.1, "likelihood has an unknown key 'noise'"),
        ("likelihood.fade", -1, "likelihood.fade must be a number from 0 to 10, not -1."),
        ("likelihood.fade", "2", "likelihood.fade must be a number from 0 to 10, not '2'."),
        ("likelihood.fade", True, "likelihood.fade must be a number from 0 to 10, not True."),
        ("likelihood.fade", float("nan"), "likelihood.fade must be a number from 0 to 10, not nan."),
        ("likelihood.drift", -0.5, "likelihood.drift must be a number from 0 to 10, not -0.5."),
        ("likelihood.drift", "1", "likelihood.drift must be a number from 0 to 10, not '1'."),
        ("likelihood.drift", True, "likelihood.drift must be a number from 0 to 10, not True."),
        ("likelihood.drift", float("inf"), "likelihood.drift must be a number from 0 to 10, not inf."),
        ("likelihood.drift", {"sd": 1.0}, "likelihood.drift must be a number from 0 to 10, not {'sd': 1.0}."),
        ("likelihood.scatter.dist", "Norma", "likelihood.scatter.dist is 'Norma', no known distribution"),
        ("structure", "pairwise", "structure is 'pairwise'; known are separate, joint, pairs."),
        ("structure", ["joint"], "structure is ['joint']; known are separate, joint, pairs."),
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
    ],
)
def test_what_is_wrong_in_a_model_is_named(path, value, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        ModelSpec.from_dict(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("law", "chinchilla", "structure = 'joint' needs law = 'generalised', not 'chinchilla'."),
        ("priors.alpha_over_gamma", None, "priors has no 'alpha_over_gamma'"),
        ("readings.nu", 2, "readings.nu must be a number above 2: the degrees of freedom of what readings scatter."),
        (
            "readings.nu",
            {"dist": "Gamma", "kwargs": {"alpha": 2, "beta": 0.1}},
            "readings.nu must be a number above 2",
        ),
        ("readings.share", 0.4, "readings has an unknown key 'share' (known: E_fraction, excess, gamma, nu)"),
        ("readings.gamma.dist", "Norml", "readings.gamma.dist is 'Norml', no known distribution"),
        ("readings.E_fraction", 1.5, "readings.E_fraction must be between 0 and 1, not 1.5."),
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
        ModelSpec.from_dict(changed(path, value, name="joint"))


def test_readings_are_of_a_joint_model_and_may_be_left_out():
    assert not ModelSpec.from_dict(changed("readings", None, name="joint")).readings
    with pytest.raises(SpecError, match="the model file has an unknown key 'readings'"):
        ModelSpec.from_dict(record() | {"readings": {}})


@pytest.mark.parametrize("dim", ["eval_set", "train_set"])
@pytest.mark.parametrize("path", ["priors.alpha", "likelihood.scatter"])
def test_a_quantity_varies_along_cells_or_not_at_all(path, dim):
    """Along the parts of a cell's name only the effects in a list of priors vary."""
    with pytest.raises(SpecError, match=re.escape(f"{path}.dims")):
        ModelSpec.from_dict(changed(f"{path}.dims", dim))


def test_the_shared_deviation_cannot_vary_along_cells():
    deviation = {"dist": "LogNormal", "dims": "cell", "kwargs": {"mu": -5.1, "sigma": 1.0}}
    with pytest.raises(SpecError, match=re.escape("likelihood.deviation")):
        ModelSpec.from_dict(changed("likelihood.deviation", deviation))


@pytest.mark.parametrize("drift", [0, 0.7])
def test_drift_goes_to_a_file_and_back(drift):
    spec = ModelSpec.from_dict(changed("likelihood.drift", drift))
    assert spec.likelihood.drift == drift
    assert spec.to_dict()["likelihood"].get("drift", 0.0) == drift
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert load_spec("law").likelihood.drift == 0  # none unless it is asked for


def test_an_unknown_model_is_refused_with_those_that_are_known():
    with pytest.raises(SpecError) as caught:
        load_spec("kaplann")
    message = str(caught.value)
    assert message.startswith("There is no model 'kaplann'; known are ")
    assert "chinchilla" in message
    assert "a file that ends in .toml" in message
    assert message.endswith("; did you mean 'kaplan'?")


def test_a_file_that_is_absent_or_no_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"mine\.toml: cannot be read \(No such file or directory\)\.$"):
        load_spec(tmp_path / "mine.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SpecError, match=r"folder\.toml: cannot be read \(Is a directory\)\.$"):
        load_spec(tmp_path / "folder.toml")


@pytest.mark.parametrize("content", [b'name = "law', b"\xff\xfe\x00", b"a = 1\na = 2\n"])
def test_broken_toml_is_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"mine\.toml: is not valid TOML \("):
        load_spec(path)


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
    sweep = simulated_sweep().select(train_sets=["starcoder", "proof-pile-2"]).up_to(1e18)
    return ModelData.of(sweep, likelihood=load_spec("law").likelihood)


def density(spec, data):
    """Log density of a spec's model at a point, and how many random variables it has."""
    model = build(spec, data)
    return log_density(model, some_point(model))[0], len(model.free_RVs)


def test_changing_a_prior_in_a_copied_file_changes_the_model(tmp_path, data):
    text = (MODELS / "law.toml").read_text(encoding="utf-8")
    shipped, n_shipped = density(load_spec("law"), data)
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert density(load_spec(path), data) == (shipped, n_shipped)
    for table in ("priors.c", "priors.gamma.kwargs", "likelihood.scatter"):  # a prior, a hyper-prior, the noise
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
    fixed = ModelSpec.from_dict(changed("priors.gamma", 0.75))
    model = build(fixed, data)
    assert not [rv.name for rv in model.free_RVs if rv.name.startswith("gamma")]
    np.testing.assert_allclose(model["gamma"].eval(mode="FAST_COMPILE"), 0.75)


def test_every_distribution_can_be_built():
    """What the file may name exists in PyMC, with these arguments."""
    import pymc as pm

    # a Uniform or a truncation needs its ends in order; one is no valid scale of anything else
    values = {"lower": 0.1, "upper": 0.9, "mu": 0.5}
    for name, arguments in specs.DISTRIBUTIONS.items():
        prior = Prior.from_dict({"dist": name, "kwargs": {a: values.get(a, 1.0) for a in arguments}}, where="p")
        assert prior.dist == name
        drawn = getattr(pm, name).dist(**prior.kwargs)
        assert np.isfinite(pm.draw(drawn, random_seed=1, mode="FAST_COMPILE"))
