"""Pictures, reports and sentences say the unit of the losses of the sweep that was fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic_errors import chained

from bayes_l2l.fits import Fit, load_fit
from bayes_l2l.plotting import laws
from bayes_l2l.plotting.gallery import HOME
from bayes_l2l.report.sections import report

SETS = ("fineweb-edu-100b", "smollm-corpus")
PAIR = [SETS]


def without_unit(fit: Fit) -> Fit:
    """The fit as of before units were kept."""
    said = {name: value for name, value in fit.record["sweep"].items() if name != "loss_unit"}
    return replace(fit, record=fit.record | {"sweep": said})


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Laws of losses in nats per byte and of error rates, out of their file."""
    fit = chained()
    said = fit.record["sweep"] | {"loss_unit": "nats/byte"}
    fit = replace(fit, record=fit.record | {"sweep": said})
    return load_fit(fit.save(tmp_path_factory.mktemp("units") / "fit.nc"))


def every_picture(fit: Fit) -> dict[str, Figure]:
    """Those of the fit, and those of what is made of it."""
    given = {
        "exponents": {"pairs": PAIR},
        "grid": {"pairs": PAIR},
        "train_to_train": {"source": SETS[0]},
        "train_to_test": {"eval_set": "task"},
        "test_to_test": {"eval_set": "task", "source": SETS[0]},
        "overview": {"source": SETS[0], "target": SETS[1], "eval_set": "task"},
    }
    choice = fit.choose(eval_set="task", flops=1e21)
    return {name: getattr(fit.plot, name)(**given.get(name, {})) for name in HOME} | {
        "forecast": fit.forecast(flops=1e21).plot(),
        "choice": choice.plot(),
        "plan": fit.plan(goal=choice, budget=1e20, runs=2).plot(),
        "translation": fit.translate(*SETS).plot(),
        "isoflops": fit.optimum(1e20, train_set=SETS[0]).plot(),
        "prior": laws.prior_predictive(fit.posterior, fit.sweep),
    }


def test_every_picture_says_the_unit_of_the_sweep(of_bytes):
    for name, figure in every_picture(of_bytes).items():
        texts = " ".join(text.get_text() for text in figure.findobj(Text))
        assert "nats/token" not in texts, name
        # Of these the axes are percent, exponents, or what the sampler knows.
        assert ("nats/byte" in texts) == (name not in ("residuals", "exponents", "energy", "traces")), name


def test_a_uniform_guess_is_among_what_is_predicted(of_bytes):
    figure = laws.prior_predictive(of_bytes.posterior, of_bytes.sweep)
    assert any("among 256 bytes" in text.get_text() for text in figure.findobj(Text))


def test_the_report_says_the_unit_of_the_sweep(of_bytes):
    html = report(of_bytes)
    assert "nats/byte" in html
    assert "nats/token" not in html


def test_sentences_say_the_unit_of_the_sweep(of_bytes):
    choice = of_bytes.choose(eval_set="task", flops=1e21)
    for said in (str(choice), str(choice.plan(runs=1)), of_bytes.translate(*SETS)._repr_html_()):
        assert "nats/byte" in said
        assert "nats/token" not in said


def test_a_fit_of_before_units_were_kept_is_of_tokens(joint: Fit, tmp_path: Path):
    again = load_fit(without_unit(joint).save(tmp_path / "old.nc"))
    assert again.sweep.loss_unit == "nats/token"
