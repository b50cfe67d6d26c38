"""Known sweeps: a simulated one, and public ones that are found locally or downloaded by pinned hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_l2l.data.columns import SHOWN_LOSS_UNITS, ColumnMap
from bayes_l2l.data.simulation import simulate, simulated_sweep
from bayes_l2l.data.sweep import EvalSets, Sweep, read_sweep
from bayes_l2l.data.tables import RawTable
from bayes_l2l.errors import DataError, TableError, did_you_mean
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DataFile", "Dataset", "fetch", "known", "large_runs", "load_sweep", "simulated_sweep"]

DATA_VARIABLE = "BAYES_L2L_DATA"
"""Environment variable that names a folder with a local copy of the public data sets."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Parameters
    ----------
    path : str
        Below the data folder.
    sha256 : str
        Hash of its content.
    url : str
        Where it is downloaded from; empty if it cannot be.
    """

    path: str
    sha256: str
    url: str = ""


@dataclass(frozen=True)
class Dataset:
    """A known sweep.

    Parameters
    ----------
    name : str
        What `load_sweep` and the command line call it.
    title, licence, source : str
        What it is, under which licence, and where it comes from.
    files : tuple of DataFile
        The small runs first, then the large ones if they are in a file of their own; none if simulated.
    advice : str
        How to get the files where they cannot be downloaded.
    loss_unit : str
        What its losses are in.
    """

    name: str
    title: str
    licence: str
    source: str
    files: tuple[DataFile, ...] = ()
    advice: str = ""
    loss_unit: str = SHOWN_LOSS_UNITS[0]


_LOSS_TO_LOSS = (
    "https://raw.githubusercontent.com/KempnerInstitute/loss-to-loss-notebooks/"
    "457ce81a019019bc3981937c20a70c52f5fad436/data"
)
_KNOWN = (
    Dataset(
        name="microsweep",
        title="six corpora, 174 runs of byte-level transformers and 6 large ones, 6 evaluations",
        licence="MIT",
        source="docs/microsweep.md",
        loss_unit="nats/byte",
    ),
    Dataset(
        name="simulated",
        title="six training sets, 528 runs simulated from the published laws of arXiv 2411.12925, Table 3",
        licence="MIT",
        source="bayes_l2l.simulated_sweep",
    ),
    Dataset(
        name="loss-to-loss",
        title="six training sets, 529 runs and 6 large ones, 19 losses and 11 accuracies (arXiv 2411.12925)",
        licence="none stated; every user downloads it from its authors",
        source="https://github.com/KempnerInstitute/loss-to-loss-notebooks at commit 457ce81a",
        files=(
            DataFile(
                "loss_to_loss/sweep.csv",
                "1a9fd71e3bd6ecf35bdd32b660a9b42dbb3b8635630b1a358633fa18d61fb13c",
                f"{_LOSS_TO_LOSS}/sweep.csv",
            ),
            DataFile(
                "loss_to_loss/extrapolation.csv",
                "2c7cecc44aa016464e2d4e42b339798eb899ec9d0d313f618dae8bd3ce0757b3",
                f"{_LOSS_TO_LOSS}/extrapolation.csv",
            ),
        ),
    ),
    Dataset(
        name="gadre",
        title="three training sets, 98 runs and 6 large ones, 8 losses and 48 error rates (arXiv 2403.08540)",
        licence="MIT",
        source="derived from https://github.com/mlfoundations/scaling at commit a003c491, exp_data/",
        files=(DataFile("gadre/gadre2024.csv", "64fb719ac55f30aadc34c56659500794283cbbdb49ba2129632e3b74379edaa8"),),
        advice="make this long table from exp_data/ of that repository, with the columns run_id, train_set, "
        "eval_set, metric, params, tokens, flops, value, lo95_seq, hi95_seq, is_extrapolation and those that "
        "the package's mappings/gadre.toml keeps",
    ),
)


def known() -> list[Dataset]:
    """Return the data sets that `load_sweep` knows by name.

    Returns
    -------
    list of Dataset
        The embedded default first.
    """
    return list(_KNOWN)


def is_known(name: str) -> bool:
    """Say whether `load_sweep` knows a data set of this name.

    Parameters
    ----------
    name : str
        What a user wrote.

    Returns
    -------
    bool
        Whether it is one.
    """
    return name in [dataset.name for dataset in _KNOWN]


def load_sweep(
    source: str | Path | pd.DataFrame,
    *,
    columns: ColumnMap | Mapping[str, Any] | str | Path | None = None,
    eval_sets: EvalSets = None,
) -> Sweep:
    """Load runs from a file, a data frame or a known data set.

    Parameters
    ----------
    source : str, Path or pandas.DataFrame
        A CSV or Parquet file, a frame, or the name of a known data set (``"microsweep"``,
        ``"loss-to-loss"``, ``"gadre"``, ``"simulated"``), which wins over a file of that name. Large runs of a
        known data set are left out: see `large_runs`.
    columns : ColumnMap, dict or path to a TOML file, optional
        Which column means what, for tables of one's own.
    eval_sets : {"train", "all"} or sequence of str, optional
        Evaluations to keep; by default what the mapping says (the train losses for loss-to-loss), else all.

    Returns
    -------
    Sweep
        Validated, with its provenance and notes.

    Raises
    ------
    TableError
        With all faults of the table.
    DataError
        If there is no such file or data set, or it cannot be downloaded.
    SpecError
        If the mapping is refused.

    Examples
    --------
    >>> sweep = load_sweep("microsweep")
    >>> sweep.n_runs, sweep.simulated
    (174, False)
    """
    if not isinstance(source, (str, Path)):
        return Sweep.from_table(source, columns=columns, eval_sets=eval_sets)
    names = [dataset.name for dataset in _KNOWN]
    if is_known(str(source)):
        if columns is not None:
            raise DataError(f"the data set {str(source)!r} has its own column mapping; leave columns out")
        return _load_known(str(source), large=False, eval_sets=eval_sets)
    if not Path(source).exists():
        hint = did_you_mean(str(source), names)
        raise DataError(f"there is no file and no data set {str(source)!r}{hint} (known: {', '.join(names)})")
    return read_sweep(source, columns=columns, eval_sets=eval_sets)


def large_runs(name: str = "microsweep", *, eval_sets: EvalSets = None) -> Sweep:
    """Load the large runs of a known data set, which `load_sweep` leaves out: the truth of its forecasts.

    Parameters
    ----------
    name : str, default "microsweep"
        Name of a known data set.
    eval_sets : {"train", "all"} or sequence of str, optional
        Evaluations to keep, as in `load_sweep`.

    Returns
    -------
    Sweep
        A run or two a training set.

    Raises
    ------
    DataError
        If the data set is unknown or cannot be had.
    """
    return _load_known(_find(name).name, large=True, eval_sets=eval_sets)


def fetch(dataset: str | Dataset, *, cache: str | Path | None = None, progressbar: bool = True) -> Path:
    """Find a public data set, downloading it if need be.

    Parameters
    ----------
    dataset : str or Dataset
        Name of a known data set, or an entry of one's own.
    cache : path, optional
        Where downloads are kept; by default the user's cache folder.
    progressbar : bool, default True
        Whether to show one on standard error.

    Returns
    -------
    Path
        The folder that the paths of its files start from: what ``$BAYES_L2L_DATA`` names if it is set, else
        the cache.

    Raises
    ------
    DataError
        If the variable is set and a file is not there, or a download fails or does not have the pinned hash.
    """
    dataset = _find(dataset) if isinstance(dataset, str) else dataset
    if not dataset.files:
        raise DataError(f"the data set {dataset.name!r} comes with the package; there is nothing to fetch")
    return _have(dataset, dataset.files, cache=cache, progressbar=progressbar)


def _have(
    dataset: Dataset, wanted: Sequence[DataFile], *, cache: str | Path | None = None, progressbar: bool = True
) -> Path:
    """Return the folder that holds the wanted files of a data set, after downloading what is missing."""
    local = os.environ.get(DATA_VARIABLE)
    if local:
        for file in wanted:
            if not (Path(local) / file.path).is_file():
                raise DataError(
                    f"{DATA_VARIABLE} is set to {local}, but there is no {file.path} in it; "
                    + (dataset.advice or "put it there, or unset the variable to download the data set")
                )
        return Path(local)
    for file in wanted:
        if not file.url:
            raise DataError(
                f"the data set {dataset.name!r} ({dataset.source}) cannot be downloaded as a table: "
                f"{dataset.advice}; then put it at {file.path} in a folder and set {DATA_VARIABLE} "
                "to that folder"
            )
    import pooch

    folder = Path(cache) if cache is not None else Path(pooch.os_cache("bayes_l2l"))
    for file in wanted:
        _download(file, folder, progressbar=progressbar)
    return folder


def _download(file: DataFile, folder: Path, *, progressbar: bool) -> None:
    """Put a file in its place in the folder, unless it is there with the right hash."""
    import pooch
    import requests

    target = folder / file.path
    instead = f"or put the file at {file.path} in a folder and set {DATA_VARIABLE} to that folder"
    show = progressbar and find_spec("tqdm") is not None
    try:
        pooch.retrieve(
            file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(progressbar=show, timeout=30),
        )
    except requests.HTTPError as error:
        status = "with an error"
        if error.response is not None:
            error.response.close()  # pooch streams, and leaves the connection open
            status = str(error.response.status_code)
        said = f"the server answers {status}; try later, {instead}"
        raise DataError(f"{file.url} cannot be downloaded: {said}") from error
    except requests.RequestException as error:
        raise DataError(f"{file.url} cannot be reached; check the network connection, {instead}") from error
    except ValueError as error:  # what pooch raises for a wrong hash; it has thrown the file away
        raise DataError(
            f"{file.url} was downloaded, but is damaged or has changed: its sha256 is not the pinned "
            f"{file.sha256[:12]}...; try again, {instead}"
        ) from error
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}") from error


def _find(name: str) -> Dataset:
    for dataset in _KNOWN:
        if dataset.name == name:
            return dataset
    names = [dataset.name for dataset in _KNOWN]
    raise DataError(f"there is no data set {name!r}{did_you_mean(name, names)} (known: {', '.join(names)})")


def _load_known(name: str, *, large: bool, eval_sets: EvalSets) -> Sweep:
    if name == "simulated":
        return simulate(0)[large].select(eval_sets=eval_sets)
    dataset = _find(name)
    if dataset.name == "microsweep":
        return _measured(dataset, large=large, eval_sets=eval_sets)
    file = dataset.files[-1 if large else 0]
    folder = _have(dataset, [file])
    raw = RawTable.read(folder / file.path)
    if name == "gadre":
        raw = _gadre(raw, large=large)
    with as_file(files("bayes_l2l.data") / "mappings" / f"{name}.toml") as path:
        columns = ColumnMap.from_toml(path)
    sweep = Sweep.from_table(
        raw,
        columns=columns,
        eval_sets=eval_sets,
        name=f"{name}, large runs" if large else name,
        provenance=f"measured; {dataset.title}; {dataset.source}",
        loss_unit=dataset.loss_unit,
    )
    # The mapping is the package's: a reader of the sweep knows no other names.
    notes = tuple(note for note in sweep.notes if note.code != "renamed_evaluations")
    return replace(sweep, notes=_hash_notes(file, folder) + notes)


def _measured(dataset: Dataset, *, large: bool, eval_sets: EvalSets) -> Sweep:
    """The sweep whose measurements come with the package."""
    suffix = "-large" if large else ""
    with as_file(files("bayes_l2l.data") / "measurements" / f"{dataset.name}{suffix}.csv") as path:
        sweep = read_sweep(path, eval_sets=eval_sets)
    name = f"{dataset.name}, large runs" if large else dataset.name
    provenance = f"measured; {dataset.title}; {dataset.source}"
    return replace(sweep, name=name, provenance=provenance, loss_unit=dataset.loss_unit)


def _hash_notes(file: DataFile, folder: Path) -> tuple[Note, ...]:
    """Note a local file that is not the published one: it may be used, but not quoted as such."""
    if hashlib.sha256((folder / file.path).read_bytes()).hexdigest() == file.sha256:
        return ()
    message = f"{file.path} in {folder} is not the published file (its sha256 differs)"
    return (Note("data_differs", "warning", message, {"file": file.path}),)


def _gadre(raw: RawTable, *, large: bool) -> RawTable:
    """Keep the small or the large runs, with the standard error that the published 95% limits stand for."""
    import pandas as pd

    needed = ["lo95_seq", "hi95_seq", "is_extrapolation"]
    absent = [f"there is no column {name!r}" for name in needed if name not in raw.frame]
    if absent:
        raise TableError(absent, table=raw.name)
    low, high, is_large = (pd.to_numeric(raw.frame[name], errors="coerce") for name in needed)
    keep = (is_large == 1) == large
    frame = raw.frame.assign(loss_se=(high - low) / (2 * 1.96))[keep]
    return replace(raw, frame=frame, rows=[row for row, kept in zip(raw.rows, keep, strict=True) if kept])
