"""The main job on an embedded sweep: fit, forecast the runs that were kept out, compare with what they did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bayes_l2l.cli.keeping import keep
from bayes_l2l.data.datasets import large_runs
from bayes_l2l.errors import DataError
from bayes_l2l.evaluation import scores
from bayes_l2l.evaluation.baseline import bootstrap
from bayes_l2l.files import check_output, write_picture, write_table
from bayes_l2l.fits import Fit, fit

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Sweep
    from bayes_l2l.inference.stages import Listener

#: What the demo writes.
FILES: Final = ("forecast.csv", "fit.nc", "forecast.png", "report.html")
#: Bytes that all of these take together, rather more.
_SPACE: Final = 16 * 1024**2
_SIMULATED: Final = "Simulated data, not measured: {provenance}."
_MEASURED: Final = (
    "Real data, of very small models: byte-level transformers that were trained for this package on six corpora of "
    "text and code, one pass over each, and the losses that they reached (docs/microsweep.md). The runs below were "
    "made too, and are not fitted."
)
_FORM: Final = (
    "The simulated truth is Eq. 4 itself, so the bootstrap has the right form here; measured runs have not."
)


def prepare(folder: Path) -> None:
    """Make the demo's folder and see that its files can be written.

    Parameters
    ----------
    folder : Path
        Made if it is absent; the folder that it is in must exist.

    Raises
    ------
    DataError
        If it cannot be made or written to.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be made: {error.strerror or error}") from error
    for name in FILES:
        check_output(folder / name, size=_SPACE)


def run(folder: Path, *, sweep: Sweep, progress: bool | Listener = False) -> tuple[Fit, str]:
    """Fit the default model to the embedded sweep and report on it.

    Parameters
    ----------
    folder : Path
        Where `FILES` go.
    sweep : Sweep
        An embedded sweep, measured or simulated.
    progress : bool or callable, default False
        As of `bayes_l2l.fit`; forecasting and reporting are further stages.

    Returns
    -------
    Fit, str
        The fit, and `report`'s text.
    """
    fitted = fit(sweep, random_seed=1, progress=progress)
    if callable(progress):
        progress("forecasting, and writing the report", None)
    return fitted, report(fitted, folder)


def report(fitted: Fit, folder: Path) -> str:
    """Forecast the runs that were kept out, beside the baseline; write `FILES`.

    Parameters
    ----------
    fitted : Fit
        A fit to an embedded sweep, measured or simulated.
    folder : Path
        Where the files go; it exists.

    Returns
    -------
    str
        The forecasts beside the truth, and their scores.
    """
    import pandas as pd

    from bayes_l2l.plotting import laws as plots

    simulated, unit = fitted.sweep.simulated, fitted.sweep.loss_unit
    large = large_runs("simulated" if simulated else "microsweep", eval_sets="train")
    points = large.table[["train_set", "eval_set", "params", "tokens"]]
    tables = {
        f"model {fitted.spec.name!r}": fitted.forecast(points).table(),
        "bootstrap of the paper's Eq. 4": bootstrap(fitted.sweep).forecast(points),
    }
    keep(fitted, folder / "fit.nc")
    write_table(next(iter(tables.values())), folder / "forecast.csv")
    write_picture(plots.curves(fitted, large=large), folder / "forecast.png")
    fitted.report(folder / "report.html")

    scored = {name: scores.score_table(table, large.table) for name, table in tables.items()}
    averages = pd.concat([scores.summary(rows).assign(forecast=name) for name, rows in scored.items()])
    columns = ["forecast", "rel_error", "bias", "crps", "coverage50", "width50", "coverage90", "width90"]
    size, reach = large.table.iloc[0], next(iter(tables.values()))["extrapolation"].iloc[0]
    lines = [
        (_SIMULATED if simulated else _MEASURED).format(provenance=fitted.sweep.provenance),
        f"Loss ({unit}) of a run of {size['params']:.3g} parameters on "
        f"{size['tokens']:.3g} {unit.removeprefix('nats/')}s, {reach:.1f} times the largest compute fitted; "
        "median and 90% interval.",
        "",
        _side_by_side(tables, large.table),
        "",
        "Scores over these runs, in percent of the actual loss:",
        averages[columns].to_string(index=False, float_format="{:.2f}".format),
    ]
    return "\n".join(lines + [_FORM] * simulated)


def _side_by_side(tables: dict[str, pd.DataFrame], actual: pd.DataFrame) -> str:
    """Actual losses, and each forecast's median, interval and error."""
    import pandas as pd

    shown = {"": actual["train_set"].to_numpy(), "actual": [f"{loss:.3f}" for loss in actual["loss"]]}
    for name, table in tables.items():
        shown[name] = [
            f"{median:.3f} [{low:.3f}, {high:.3f}] {100 * (median / loss - 1):+.1f}%"
            for median, low, high, loss in zip(
                table["median"], table["q0.05"], table["q0.95"], actual["loss"], strict=True
            )
        ]
    return pd.DataFrame(shown).to_string(index=False)
