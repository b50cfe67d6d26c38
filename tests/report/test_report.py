"""A report holds the fit's own figures, in one file that a browser shows without a word of complaint."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from backtested import by_hand
from browser import chromium
from synthetic import pairs_fit, synthetic_fit

from bayes_l2l import cli
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.evaluation.backtests import Backtest
from bayes_l2l.fits import Fit
from bayes_l2l.notes import Note
from bayes_l2l.report.page import decimals, digits, equation
from bayes_l2l.report.sections import report

SECTIONS = ["summary", "data", "model", "forecasts", "choice", "relations", "entropy", "sizes", "diagnostics"]
FAR = 20 * 4.84e19


@pytest.fixture(scope="module")
def rolled() -> Backtest:
    rows = [by_hand([2.0, 12.0, 20.0, 20.0], model=model, held=0.75) for model in ("joint", "baseline")]
    return Backtest(pd.concat(rows, ignore_index=True))


@pytest.fixture(scope="module")
def page(joint: Fit, rolled: Backtest, tmp_path_factory) -> Path:
    """The report of the joint fit, with a backtest."""
    return joint.report(tmp_path_factory.mktemp("report") / "report.html", backtest=rolled)


@pytest.fixture(scope="module")
def html(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def sections(html: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', html)


def section(html: str, name: str) -> str:
    return re.search(rf'<section id="{name}".*?</section>', html, flags=re.DOTALL)[0]


def alts(html: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'<svg[^>]*role="img" aria-label="([^"]*)"', html)]


def csv_of(html: str, name: str) -> pd.DataFrame:
    coded = re.search(rf'download="{name}\.csv" href="data:text/csv;charset=utf-8;base64,([^"]*)"', html)[1]
    return pd.read_csv(io.BytesIO(base64.b64decode(coded)))


# What is said


def test_a_joint_fit_has_every_section(html):
    assert sections(html) == [*SECTIONS[:-1], "tested", SECTIONS[-1]]


def test_the_forecasts_are_those_of_the_fit(joint, html):
    budget = 20 * max(joint.max_flops.values())
    expected = joint.forecast(flops=budget).table(quantiles=[0.05, 0.5, 0.95])
    found = csv_of(html, "forecast")
    assert found["flops"].to_numpy() == pytest.approx(budget)
    for column in ("median", "q0.05", "q0.95", "params"):
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-8)
    for row in expected[expected["eval_set"] == expected["train_set"]].itertuples():
        assert f"<strong>{row.median:.3f}</strong>" in section(html, "summary")


def test_a_budget_of_ones_own(joint):
    html = report(joint, flops=3e21)
    assert csv_of(html, "forecast")["flops"].to_numpy() == pytest.approx(3e21)
    assert "A compute-optimal run of 3e21 FLOPs" in section(html, "summary")


def test_every_table_is_there_as_csv(html):
    tables = re.findall(r'<table id="([\w-]+)"', html)
    assert set(tables) == {
        "runs", "cells", "priors", "forecast", "choice", "relations", "parameters", "sizes", "scores", "diagnostics",
    }  # fmt: skip
    for name in tables:
        assert len(csv_of(html, name)), name


def test_the_relations_are_those_of_the_fit(joint, html):
    found = csv_of(html, "relations").set_index(["source", "target"])
    source = found.index[0][0]
    for target in ("smollm-corpus", "starcoder"):
        kappa = joint.translate(source, target).kappa
        row = found.loc[source, target]
        # Made of the draws that pictures are made of.
        assert row["kappa"] == pytest.approx(np.median(kappa), rel=0.02)
        assert row["kappa_q0.95"] == pytest.approx(np.quantile(kappa, 0.95), rel=0.02)


def test_pictures_are_told_in_words_with_their_figures(joint, html):
    told = alts(html)
    assert len(told) == html.count("<svg ") >= 15
    assert all(len(alt) > 40 and re.search(r"\d", alt) for alt in told)
    budget = 20 * max(joint.max_flops.values())
    middle = np.median(joint.forecast(flops=budget, train_set="starcoder", eval_set="task").draws)
    (task,) = (alt for alt in told if alt.startswith("Loss on task against training compute"))
    assert f"starcoder {middle:.3g} (" in task


def test_diagnostics_and_notes_are_said_in_words(html, joint):
    said = section(html, "diagnostics")
    worst = max(float(v.max()) for v in joint.diagnostics.sel(diagnostic="rhat").values())
    assert f"R-hat is at most {worst:.3f}" in said
    assert "0 of 200 draws diverged" in said


def test_a_fit_that_is_not_to_be_trusted_says_so_first():
    html = report(synthetic_fit(train_sets=["starcoder"], notes=[Note("bad", "serious", "all is <lost>")]))
    assert '<li class="bad">Not to be trusted' in html
    assert '<li class="serious"><b>serious</b> all is &lt;lost&gt; <code>bad</code>' in html


def test_simulated_runs_are_called_so(html):
    assert '<li class="warn">Simulated runs, not measured</li>' in html
    for name in ("summary", "data", "forecasts", "relations", "entropy", "sizes", "diagnostics"):
        assert "Simulated runs, not measured" in section(html, name), name


def test_a_backtest_says_how_far_it_can_be_believed(html, rolled):
    said = unescape(section(html, "tested"))
    assert "joint: 90% intervals held 75% of 4 losses" in said
    assert "baseline: 90% intervals held 75% of 4 losses" in said
    assert "90% intervals held" in section(html, "summary")
    assert csv_of(html, "scores")["n"].sum() == len(rolled)


def test_a_backtest_of_another_model_is_named(joint):
    html = report(joint, backtest=Backtest(by_hand([2.0, 20.0], model="law")))
    assert "This backtest is of law, not of the model “joint”" in section(html, "tested")
    assert "How such forecasts did before" not in html


def test_without_a_backtest_it_says_that_nothing_was_checked(joint):
    html = report(joint)
    assert "tested" not in sections(html)
    assert "have not been held to account" in section(html, "summary")


def test_separate_laws_have_no_relations():
    html = report(synthetic_fit(train_sets=["starcoder", "smollm-corpus"]))
    assert sections(html) == [name for name in SECTIONS if name != "choice"]  # they have no evaluation in common
    assert "does not relate" in section(html, "relations")
    assert "<svg" not in section(html, "relations")


def test_pairs_have_relations_and_no_laws():
    fit = pairs_fit()
    html = report(fit)
    assert sections(html) == ["data", "model", "relations", "diagnostics"]
    assert len(csv_of(html, "relations")) == 2  # from the first set to each of the others
    with pytest.raises(ForecastError, match="has no laws to forecast a budget by"):
        report(fit, flops=1e21)


def test_sets_without_a_loss_of_their_own_are_shown_by_evaluation(joint):
    """Each evaluation is then some other data's: the first one stands for all in short."""
    groups = {name: group.to_dataset() for name, group in joint.tree.children.items()}
    task = groups["posterior"]["eval_set"].to_numpy() == "task"
    kept = groups["posterior"].isel(cell=np.flatnonzero(task))
    observed = groups["observed_data"]
    rows = observed.isel(row=np.flatnonzero(observed["eval_set"].to_numpy() == "task"))
    tree = xr.DataTree.from_dict(groups | {"posterior": kept, "observed_data": rows})
    html = report(replace(joint, tree=tree))
    assert sections(html) == SECTIONS
    assert "forecast to reach these losses on task" in section(html, "summary")
    assert len(csv_of(html, "forecast")) == 3


def test_names_out_of_tables_are_escaped(handmade):
    evil = '<script>alert("x")</script>'
    fit = synthetic_fit(train_sets=["starcoder"])
    record = {**fit.record, "sweep": {**fit.record["sweep"], "name": evil}}
    html = report(replace(fit, record=record))
    assert evil not in html
    assert "Scaling laws of &lt;script&gt;" in html


def test_a_report_asks_nothing_of_the_network(html):
    assert "default-src 'none'" in html
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", html)
    assert "@import" not in html
    assert "url(http" not in html


@pytest.mark.parametrize("flops", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_budget_is_refused(joint, flops):
    with pytest.raises(ForecastError, match="flops must be positive and finite"):
        report(joint, flops=flops)


def test_a_wrong_file_is_refused(joint, tmp_path):
    with pytest.raises(DataError, match=r"its name must end in \.html"):
        joint.report(tmp_path / "report.pdf")
    with pytest.raises(DataError, match="there is no folder"):
        joint.report(tmp_path / "absent" / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command(joint_file, tmp_path, rolled, capsys):
    rolled.frame.to_csv(tmp_path / "backtest.csv", index=False)
    out = tmp_path / "report.html"
    assert cli.main(["report", str(joint_file), "--backtest", str(tmp_path / "backtest.csv"), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "R-hat at most" in said.err
    assert f"Written: {out}" in said.err
    assert "tested" in sections(out.read_text(encoding="utf-8"))
    assert cli.main(["report", str(joint_file), "-o", str(joint_file)]) == 1
    assert "its name must end in .html" in capsys.readouterr().err


# What a page is made of


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("E + K R^gamma", "<i>E</i> + <i>K</i> <i>R</i><sup><i>γ</i></sup>"),
        ("E_ij + R^gamma_ij", "<i>E</i><sub>ij</sub> + <i>R</i><sup><i>γ</i><sub>ij</sub></sup>"),
        ("(A/N)^(alpha/gamma)", "(<i>A</i>/<i>N</i>)<sup><i>α</i>/<i>γ</i></sup>"),
        ("c D0/D < 1", "c <i>D</i><sub>0</sub>/<i>D</i> &lt; 1"),
    ],
)
def test_equations(text, html):
    assert str(equation(text)) == html


def test_numbers():
    assert [digits(x) for x in (9.68e20, 0.5, 12345.0, 1e-7, float("inf"))] == [
        "9.68e20",
        "0.5",
        "1.23e4",
        "1e-7",
        "–",
    ]
    assert [decimals(2)(x) for x in (1.234, -0.5, float("nan"))] == ["1.23", "−0.50", "–"]


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser, page):
    """Open the report as a reader has it; what the browser complains about fails the test."""
    complaints: list[str] = []
    pages = []

    def show(*, width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        pages.append(tab)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda one: one.url.startswith(("file:", "data:")) or complaints.append(one.url))
        tab.goto(page.as_uri())
        return tab

    yield show
    for tab in pages:
        tab.close()
    assert complaints == []


def column(tab: Any, table: str, index: int) -> list[str]:
    return tab.eval_on_selector_all(f"#{table} tbody tr", f"rows => rows.map(row => row.cells[{index}].textContent)")


def test_pictures_are_seen_and_named(opened):
    tab = opened()
    pictures = tab.query_selector_all("svg")
    assert len(pictures) >= 15
    for picture in pictures:
        box = picture.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80
    assert tab.get_by_role("img", name="Loss on task against training compute").count() == 1


def test_tables_sort_by_number_and_by_name(opened):
    tab = opened()
    heading = tab.locator("#forecast th button", has_text="median")
    place = tab.eval_on_selector_all("#forecast th", "all => all.findIndex(one => one.textContent === 'median')")
    heading.click()
    up = [float(text) for text in column(tab, "forecast", place)]
    assert up == sorted(up)
    assert tab.locator("#forecast th[aria-sort=ascending]").inner_text().startswith("median")
    heading.click()
    down = [float(text) for text in column(tab, "forecast", place)]
    assert down == sorted(up, reverse=True) != up
    tab.locator("#forecast th button").first.click()
    names = column(tab, "forecast", 0)
    assert names == sorted(names)
    assert tab.locator("#forecast th[aria-sort=descending]").count() == 0


def test_sizes_sort_as_numbers_not_as_text(opened):
    tab = opened()
    tab.locator("#sizes th button", has_text="parameters").first.click()
    sizes = [
        float(value) for value in tab.eval_on_selector_all("#sizes td:nth-child(4)", "a => a.map(c => c.dataset.v)")
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_table_is_downloaded(opened, joint):
    tab = opened()
    with tab.expect_download() as started:
        tab.locator("a[download='forecast.csv']").click()
    found = pd.read_csv(started.value.path())
    assert started.value.suggested_filename == "forecast.csv"
    assert len(found) == len(joint.cells)


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_page_is_wider_than_its_window(opened, width):
    tab = opened(width=width)
    tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_shows_the_forecast_first_and_whole(opened):
    tab = opened(width=390, height=844)
    first = tab.locator("section").first
    assert first.get_attribute("id") == "summary"
    for picture in tab.query_selector_all("#forecasts svg, #diagnostics svg, #entropy svg, #relations svg"):
        box = picture.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    for card in tab.query_selector_all(".cards li"):
        assert card.bounding_box()["x"] + card.bounding_box()["width"] <= 390


def test_a_phone_shows_the_columns_that_matter_unless_all_are_asked_for(opened):
    tab = opened(width=390)
    shown = tab.locator("#forecast th:visible")
    assert [text.split()[0] for text in shown.all_inner_texts()] == ["training", "evaluation", "median", "90%"]
    button = tab.locator("button[aria-controls=forecast]")
    button.click()
    assert shown.count() == tab.locator("#forecast th").count() > 4
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert shown.count() == 4


def test_no_table_is_clipped_on_a_desk(opened):
    tab = opened(width=1280)
    tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert not tab.locator("button.whole").first.is_visible()
    wide = tab.eval_on_selector_all(
        ".table .scroll", "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"
    )
    assert wide == []


def contrast(tab: Any, selector: str) -> float:
    """Of the first such element's colour (fill of a picture) on the ground of its section."""
    script = """([selector]) => {
        const one = document.querySelector(selector);
        const ink = one.matches("svg") ? getComputedStyle(one).fill : getComputedStyle(one).color;
        return [ink, getComputedStyle(one.closest("section")).backgroundColor];
    }"""
    values = []
    for colour in tab.evaluate(script, [selector]):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        values.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(values) + 0.05) / (min(values) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_pictures_stand_out_in_light_and_dark(opened, scheme):
    tab = opened(scheme=scheme)
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")
    for selector in ("section p", "section .caption", "section svg", "section td", "section a"):
        assert contrast(tab, selector) > 4.5, selector


def test_it_is_printed_dark_on_white_in_either_scheme(opened):
    tab = opened(scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert contrast(tab, "section svg") > 15
    assert not tab.locator("nav").is_visible()
    assert tab.pdf(format="A4").startswith(b"%PDF")


def test_the_keyboard_reaches_a_heading_and_sorts_by_it(opened):
    tab = opened()
    tab.locator("#runs th button").nth(1).focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#runs th").nth(1).get_attribute("aria-sort") == "ascending"


def test_colours_of_pictures_are_the_pages_own(html):
    left = {
        colour
        for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
        for colour in re.findall(r"#[0-9a-f]{6}\b", svg)
    }
    # Contours alone have colours of their own, from the middle of their map.
    assert "var(--c0)" in html
    for colour in left:
        parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert 60 < 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2] < 200, colour
