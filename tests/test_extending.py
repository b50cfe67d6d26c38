"""What docs/extending.md adds from a file of one's own is fitted, forecast and kept as if it were the package's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bayes_l2l import registry
from bayes_l2l.data.simulation import PUBLISHED_LAWS
from bayes_l2l.errors import SpecError
from bayes_l2l.laws.error_curves import ERROR_CURVES
from bayes_l2l.laws.family import LAW_FORMS
from bayes_l2l.laws.residuals import RESIDUALS
from bayes_l2l.laws.scaling import law_loss
from bayes_l2l.structures.models import load_spec
from bayes_l2l.structures.protocol import STRUCTURES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
LARGE = {"params": 3.3e9, "tokens": 5e10}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """The fit of every section of the page, whose code is run from its beginning to its end."""
    folder, space, fits = tmp_path_factory.mktemp("extending"), {"__name__": "extending"}, {}
    with pytest.MonkeyPatch.context() as patch:
        for registered in (LAW_FORMS, RESIDUALS, ERROR_CURVES, STRUCTURES):  # what is added is not for other tests
            patch.setattr(registered, "_items", dict(registered._items))
        patch.chdir(folder)
        for section in SECTIONS:
            for block in re.findall(r"^```python\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE):
                exec(compile(block, f"{PAGE.name}: {section.splitlines()[0]}", "exec"), space)
            fits[section.splitlines()[0]] = space.get("fit")
        yield fits | {"space": space, "folder": folder}


def loss_of_large() -> float:
    law = PUBLISHED_LAWS["starcoder"]
    return float(law_loss(**LARGE, gamma=law["beta"], **law))


@pytest.mark.slow
def test_a_law_of_ones_own(made):
    fit = made["A scaling law"]
    assert fit.spec.law == "equal"
    np.testing.assert_array_equal(fit.posterior["alpha"], fit.posterior["beta"])
    assert float(fit.posterior["gamma"].std()) > 0
    assert np.median(fit.forecast(train_set="starcoder", **LARGE).draws) == pytest.approx(loss_of_large(), rel=0.1)


@pytest.mark.slow
def test_a_likelihood_of_ones_own(made):
    fit = made["A likelihood"]
    assert fit.spec.likelihood.dist == "Laplace"
    run, mean = (fit.forecast(train_set="starcoder", kind=kind, **LARGE).draws for kind in ("predictive", "mean"))
    residual = (
        np.log(run / mean)[:, 0] / fit.posterior["residual_scale"].sel(cell="starcoder|starcoder").to_numpy().ravel()
    )
    assert np.abs(residual).mean() == pytest.approx(1.0, abs=0.3)  # of the double exponential distribution
    assert np.median(run) == pytest.approx(loss_of_large(), rel=0.1)


@pytest.mark.slow
def test_an_error_curve_of_ones_own(made):
    fit, truth = made["An error curve"], made["space"]["truth"]
    assert set(fit.errors.draws) >= {"ceiling", "level", "slope"}
    found = fit.forecast(eval_set="quiz", train_set="starcoder", params=1e9, tokens=2e10)
    loss = fit.forecast(eval_set="starcoder", train_set="starcoder", params=1e9, tokens=2e10)
    assert np.median(found.draws) == pytest.approx(truth(np.median(loss.draws)), abs=0.02)


@pytest.mark.slow
def test_a_structure_of_ones_own(made):
    import bayes_l2l as l2l

    fit = made["A kind of model"]
    kept = l2l.load_fit(made["folder"] / "compute.nc")
    at = {"train_set": "starcoder", **LARGE}
    np.testing.assert_array_equal(kept.forecast(**at).draws, fit.forecast(**at).draws)
    assert np.median(kept.forecast(**at).draws) == pytest.approx(loss_of_large(), rel=0.1)
    assert "the loss of every cell is a power law of compute" in made["space"]["Compute"].words
    page = kept.report(made["folder"] / "report.html").read_text(encoding="utf-8")
    assert "the loss of every cell is a power law of compute" in page


def test_every_section_has_a_test():
    titles = [section.splitlines()[0] for section in SECTIONS[1:]]
    assert titles == ["A scaling law", "A likelihood", "An error curve", "A kind of model"]


# Entry points


def test_a_package_of_ones_own_is_found_by_its_entry_point(monkeypatch):
    from bayes_l2l.laws.family import LawForm

    def load() -> None:
        class Doubled(LawForm):
            name = "doubled"
            constraint = "beta = 2 alpha, gamma = 1"
            words = "one whose exponent β is twice α"
            free = ("alpha",)

            @classmethod
            def exponents(cls, free):
                return free["alpha"], 2 * free["alpha"], 1.0

    asked = []

    def entry_points(*, group: str) -> list[SimpleNamespace]:
        asked.append(group)
        return [SimpleNamespace(load=load)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_loaded", False)
    monkeypatch.setattr(LAW_FORMS, "_items", dict(LAW_FORMS._items))
    record = load_spec("overtraining").to_dict() | {"law": "doubled"}
    assert load_spec(record).law == "doubled"
    np.testing.assert_allclose(LAW_FORMS["doubled"].directions(), [[1.0], [1.0], [0.0]])
    with pytest.raises(SpecError, match="law is 'tripled', no known member"):
        load_spec(record | {"law": "tripled"})
    assert asked == ["bayes_l2l.extensions"]
