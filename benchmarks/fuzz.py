"""Fuzz: readers are given inputs that were broken at random, and must refuse them in words or read what they hold.

Each input goes to a process of its own kind, which is watched: it may end in nothing but a result or an L2LError, in
ten seconds of its processors' time and two gigabytes, and what was read must be usable. What else happens is a
finding; findings that look alike are kept once, each with its input. Started again with the same folder, it goes on
where it stopped, after another look at what was wrong.

    python -m benchmarks.fuzz --inputs 10000 -o findings/
    python -m benchmarks.fuzz --inputs 10000 -o findings/ --store  # and into benchmarks/results/fuzz.{json,md}
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.pages import store

if TYPE_CHECKING:
    import pandas as pd

#: Most that an input may take: seconds of the processors (a busy machine is no finding), and bytes.
SECONDS: Final = 10.0
BYTES: Final = 2 * 1024**3
#: The same for an input that waits for imports.
_STARTED: Final = 60.0
#: A process that does nothing, but does not end either, is waited for so many times as long.
_PATIENCE: Final = 12
#: Inputs after which the state of a long run is kept.
_OFTEN: Final = 100
#: Fits that are broken, by model: small ones, whose files are read in a fraction of a second.
_MODELS: Final = ("joint", "law", "train_to_train", "relations")
RESULTS: Final = Path(__file__).parent / "results" / "fuzz.json"
#: Address space of the process that reads: enough for its libraries and for what is too much.
_SPACE: Final = 8 * 1024**3

_HEADER: Final = "run_id,train_set,eval_set,params,tokens,loss,loss_se,metric"
_LONG: Final = "\n".join(
    [_HEADER]
    + [
        f"r{i},{name},{name},{10 ** (8 + i / 4):.4g},{10 ** (9.3 + i / 5):.4g},{3.6 - 0.1 * i},0.01,loss"
        for name in ("web", "code")
        for i in range(8)
    ]
)
_WIDE: Final = "\n".join(
    ["name,data,N,D,web,books,task"]
    + [
        f"r{i},web,{10 ** (8 + i / 4):.4g},{10 ** (9.3 + i / 5):.4g},{3.6 - 0.1 * i},4.5,0.{5 + i % 4}"
        for i in range(8)
    ]
)
_MAPPING: Final = """use = "all"
keep = []
[columns]
run_id = "name"
train_set = "data"
params = "N"
tokens = "D"
[losses]
web = "web"
books = "books"
[accuracies]
task = "task"
[chance]
task = 0.75
[n_items]
task = 1000
[own]
web = "web"
"""
_POINTS: Final = "train_set,eval_set,params,tokens\nweb,web,1e9,2e10\ncode,code,3e9,5e10\n"
_ARGUMENTS: Final = (
    "fit runs.csv -o out.nc --draws 10 --tune 10 --chains 2 --seed 1 --model joint --eval-set all",
    "fit wide.csv --columns map.toml --eval-set train -o out.nc --sampler nutpie",
    "check fit.nc",
    "forecast fit.nc --params 3.3e9 --tokens 5e10 --quantiles 0.05,0.5,0.95 --kind mean",
    "forecast fit.nc --flops 1e21 --train-set english -o forecast.csv",
    "forecast fit.nc --at points.csv",
    "translate fit.nc --source english --target c",
    "choose fit.nc --eval-set english --flops 1e12",
    "plan fit.nc --budget 1e12 --goal english --flops 1e13",
    "optimum fit.nc --flops 1e12,1e13",
    "score runs.csv runs.csv --by eval_set",
    "backtest runs.csv -o out.csv --cutoff 1e18 --split hindcast --jobs 1",
    "columns wide.csv",
    "compare out.csv out.csv",
    "models joint",
    "data list",
    "data fetch nonesuch",
)
#: What stands for a cell, a value or an argument at the edge of what is possible.
_ODD: Final = (
    "", "nan", "inf", "-inf", "-1", "0", "-0.0", "1e400", "1e-400", "1_000", "0x10", "1,5", "True", "None", "null",
    "\0", "\x1b[2J", "\u2028", "\ufeff", "é", "\U0001f600", '"', "'", "[]", "{}", "[[x]]", "a=1", "x" * 5000,
    "9" * 400, "1e308", "../x", "/dev/null", ".", "--help", "-", "@", "a@b@c", "web", "train", "all", "joint",
    "Normal", "\n", "\r",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What should not have happened.

    Parameters
    ----------
    reader : str
        Which reader.
    what : str
        An exception, a signal, "slow" or "memory".
    where : str
        Place in the package, or what was said.
    input : str
        Name of its input's file.
    """

    reader: str
    what: str
    where: str
    input: str


# What is given


def mutated(seed: bytes, rng: random.Random, *, text: bool) -> bytes:
    """Break an input, at one to four places.

    Parameters
    ----------
    seed : bytes
        An input that is well.
    rng : random.Random
        Decides how.
    text : bool
        Whether whole words are changed, too.

    Returns
    -------
    bytes
    """
    content = bytearray(seed)
    ways: list[Callable[[bytearray, random.Random], None]] = [_flip, _set, _cut, _repeat, _drop, _move]
    if text:
        ways += 3 * [_word]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(ways)(content, rng)
    return bytes(content)


def _place(content: bytearray, rng: random.Random) -> int:
    return rng.randrange(len(content) + 1)


def _flip(content: bytearray, rng: random.Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _set(content: bytearray, rng: random.Random) -> None:
    start = _place(content, rng)
    content[start : start + rng.choice((1, 2, 4, 8))] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * rng.choice(
        (1, 4, 8)
    )


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[_place(content, rng) :]


def _repeat(content: bytearray, rng: random.Random) -> None:
    start = _place(content, rng)
    content[start:start] = content[start : start + rng.choice((1, 10, 100, 1000))] * rng.choice((1, 2, 50))


def _drop(content: bytearray, rng: random.Random) -> None:
    start = _place(content, rng)
    del content[start : start + rng.choice((1, 4, 30, 300))]


def _move(content: bytearray, rng: random.Random) -> None:
    start, end, length = _place(content, rng), _place(content, rng), rng.choice((1, 8, 64))
    content[end : end + length] = content[start : start + length]


def _word(content: bytearray, rng: random.Random) -> None:
    """Put something odd in place of what stands between two separators."""
    cuts = [i for i, letter in enumerate(content) if letter in b",\n=. []\"'"]
    if len(cuts) > 1:
        place = rng.randrange(len(cuts) - 1)
        content[cuts[place] + 1 : cuts[place + 1]] = rng.choice(_ODD).encode("utf-8", "surrogatepass")


def mutated_fit(seed: bytes, rng: random.Random) -> bytes:
    """Break a fit's file: as it is, without its checksum, or with the checksum of what is broken."""
    from bayes_l2l.inference.netcdf import sealed, to_bytes, unsealed

    way = rng.random()
    if way < 0.1:
        return mutated(seed, rng, text=False)
    inside = bytes(unsealed(seed)[0])
    if way < 0.6:
        return _of_version_2(mutated(inside, rng, text=False))
    if way < 0.9:
        return sealed(_with_other_values(inside, rng))
    tree = _tree(inside).copy(deep=True)
    _break_array(tree, rng)
    return to_bytes(tree)


def _of_version_2(inside: bytes) -> bytes:
    """The same in the format that has no checksum, so that the damage is not seen at once."""
    # The attribute's value, a whole number of eight bytes, follows its name.
    start = inside.find(b"bayes_l2l_format")
    place = inside.find((3).to_bytes(8, "little"), start)
    return (
        inside[:place] + (2).to_bytes(8, "little") + inside[place + 8 :]
        if 0 <= start < place < start + 80
        else inside
    )


@lru_cache
def _tree(inside: bytes) -> Any:
    """Arrays of a fit, of which xarray takes long to read."""
    import xarray as xr

    with xr.open_datatree(io.BytesIO(inside), engine="h5netcdf") as opened:
        return opened.load()


def _with_other_values(inside: bytes, rng: random.Random) -> bytes:
    """A file with another number in an array, or a changed value in its metadata; all else is as it was."""
    import h5py
    import numpy as np

    with h5py.File.in_memory(inside) as file:
        if rng.random() < 0.5:
            stored = json.loads(file.attrs["bayes_l2l"])
            _break_record(stored, rng)
            file.attrs["bayes_l2l"] = json.dumps(stored)
        else:
            arrays: list[Any] = []
            file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
            array = rng.choice([one for one in arrays if one.dtype.kind in "fiu" and one.size])
            values = array[()].reshape(-1)
            odd = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300) if array.dtype.kind == "f" else (0, 1, 2, 100)
            with np.errstate(over="ignore"):
                values[rng.randrange(values.size)] = rng.choice(odd)
            array[()] = values.reshape(array.shape)
        file.flush()
        return bytes(file.id.get_file_image())


def _break_array(tree: Any, rng: random.Random) -> None:
    """Drop an array of a tree, cut its dimension short, or make it text."""
    groups = [group for group in tree.subtree if group.variables]
    group = rng.choice(groups)
    name, data = rng.choice(list(group.variables)), group.to_dataset()
    way = rng.randrange(3)
    if way == 0:
        group.dataset = data.drop_vars(name)
    elif way == 1 and data.sizes:
        group.dataset = data.isel({rng.choice(list(data.sizes)): slice(rng.randrange(2))})
    elif name in data.data_vars:
        group.dataset = data.assign({name: data[name].astype(str)})


def _break_record(record: Any, rng: random.Random) -> None:
    """Drop or change a value somewhere in a record."""
    while isinstance(record, dict | list) and record:
        key = rng.choice(list(record)) if isinstance(record, dict) else rng.randrange(len(record))
        if not isinstance(record[key], dict | list) or not record[key] or rng.random() < 0.2:
            if rng.random() < 0.3:
                del record[key]
            else:
                record[key] = rng.choice(
                    (None, True, -1, 0, 1e300, float("nan"), "", "x", [], {}, [1], {"a": 1}, 2**70)
                )
            return
        record = record[key]


def mutated_parquet(seed: bytes, rng: random.Random) -> bytes:
    """Break a Parquet file, or write one whose cells are odd."""
    import pandas as pd

    if rng.random() < 0.7:
        return mutated(seed, rng, text=False)
    frame = pd.read_parquet(io.BytesIO(seed))
    name = rng.choice(list(frame))
    column = frame[name].astype(object)
    column.iloc[rng.randrange(len(frame))] = rng.choice(_ODD)
    frame[name] = column.astype(str) if rng.random() < 0.8 else pd.Series([[1.0]] * len(frame))
    content = io.BytesIO()
    frame.to_parquet(content, engine="pyarrow", index=False)
    return content.getvalue()


def mutated_arguments(seed: bytes, rng: random.Random) -> bytes:
    """Change the arguments of a command."""
    words = shlex.split(seed.decode())
    for _ in range(rng.choice((1, 1, 2, 3))):
        place, way = rng.randrange(len(words) + 1), rng.randrange(4)
        if way == 0:
            words.insert(place, rng.choice(_ODD))
        elif way == 1:
            words[place : place + 1] = [rng.choice(_ODD)]
        elif way == 2:
            del words[place : place + 1]
        else:
            words.insert(place, rng.choice(words or ["fit"]))
    return json.dumps(words).encode()


# What is done with it


def _read_fit(file: Path) -> None:
    from bayes_l2l.fits import load_fit

    fit = load_fit(file)
    run = fit.sweep.table.iloc[0]
    for one in fit.cells[:2]:
        if fit.sweep.has_sizes:
            fit.forecast(params=run["params"], tokens=run["tokens"], eval_set=one[0], train_set=one[1]).table()
        else:
            fit.forecast(given={fit.cells[0]: run["loss"]}, eval_set=one[0], train_set=one[1]).table()
    str(fit), fit.summary(), fit.sweep.summary(), list(map(str, fit.notes)), fit.trusted


def _read_table(file: Path) -> None:
    from bayes_l2l.data.sweep import read_sweep

    sweep = read_sweep(file)
    sweep.summary(), sweep.wide(), sweep.cells


def _read_points(file: Path) -> None:
    from bayes_l2l.data.sweep import read_points

    read_points(file)


def _read_mapping(file: Path) -> None:
    from bayes_l2l.data.sweep import read_sweep

    read_sweep(file.parent / "wide.csv", columns=file).summary()


def _read_model(file: Path) -> None:
    from bayes_l2l.structures.models import load_spec
    from bayes_l2l.structures.protocol import structure_of

    spec = load_spec(file)
    assert load_spec(spec.to_dict()) == spec
    structure_of(spec).describe(spec)


def _read_backtest(file: Path) -> None:
    from bayes_l2l.evaluation.backtests import Backtest

    found = Backtest.read(file)
    found.scores(by=["model", "split", "cell_kind", "distance"])
    str(found), found.notes, found.trusted


def _read_split(file: Path) -> None:
    """A finished split that cannot be read is made again."""
    from bayes_l2l.evaluation.jobs import Job

    class Known(Job):
        """A job of which the key is known."""

        key = file.stem

    Known(None, None, None, None).finished(file.parent)  # type: ignore[arg-type]


def _run_arguments(file: Path) -> None:
    from bayes_l2l import fits
    from bayes_l2l.cli import main
    from bayes_l2l.errors import DataError
    from bayes_l2l.inference import sampling

    def nothing(*_: Any, **__: Any) -> Any:
        raise DataError("Nothing is drawn here.")

    before, here = (fits.fit, sampling.sample), Path.cwd()
    fits.fit = sampling.sample = nothing
    shown = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        for path in file.parent.iterdir():
            if path.suffix in (".csv", ".toml", ".nc"):
                shutil.copy(path, folder)
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                status = main(json.loads(file.read_bytes()))
        finally:
            os.chdir(here)
            fits.fit, sampling.sample = before
    if status not in (0, 1, 2) or "Traceback" in shown.getvalue():
        raise AssertionError(f"status {status}: {shown.getvalue()[-300:]}")
    if status:
        raise DataError("It ended as it is to where something was refused.")


@dataclass(frozen=True)
class Reader:
    """A reader of inputs of one kind.

    Parameters
    ----------
    read : callable
        Reads a file, and uses what it read.
    mutate : callable
        Breaks an input.
    suffix : str
        Ending of the file's name.
    """

    read: Callable[[Path], None]
    mutate: Callable[[bytes, random.Random], bytes]
    suffix: str


_text, _binary = partial(mutated, text=True), partial(mutated, text=False)
READERS: Final[Mapping[str, Reader]] = {
    "fit": Reader(_read_fit, mutated_fit, ".nc"),
    "table": Reader(_read_table, _text, ".csv"),
    "parquet": Reader(_read_table, mutated_parquet, ".parquet"),
    "points": Reader(_read_points, _text, ".csv"),
    "mapping": Reader(_read_mapping, _text, ".toml"),
    "model": Reader(_read_model, _text, ".toml"),
    "backtest": Reader(_read_backtest, _text, ".csv"),
    "split": Reader(_read_split, mutated_parquet, ".parquet"),
    "arguments": Reader(_run_arguments, mutated_arguments, ".json"),
}


def seeds(fits: Sequence[bytes]) -> dict[str, list[bytes]]:
    """Inputs that are well, of every reader.

    Parameters
    ----------
    fits : sequence of bytes
        Files of fits.

    Returns
    -------
    dict
    """
    import pandas as pd

    from bayes_l2l.data.datasets import load_sweep
    from bayes_l2l.evaluation.backtests import backtest
    from bayes_l2l.structures.models import error_model_names, model_names

    def parquet(frame: pd.DataFrame) -> bytes:
        content = io.BytesIO()
        frame.to_parquet(content, engine="pyarrow", index=False)
        return content.getvalue()

    sweep = load_sweep("simulated").select(train_sets=["starcoder"])
    made = backtest(sweep, models=["baseline"], kinds=("hindcast",), cutoffs=[3e18], resamples=5).table()
    models = Path(__file__).parents[1] / "models"
    return {
        "fit": list(fits),
        "table": [_LONG.encode()],
        "parquet": [parquet(pd.read_csv(io.StringIO(_LONG)))],
        "points": [_POINTS.encode()],
        "mapping": [_MAPPING.encode()],
        "model": [(models / f"{name}.toml").read_bytes() for name in (*model_names(), *error_model_names())],
        "backtest": [made.head(20).to_csv(index=False).encode()],
        "split": [parquet(made.head(20))],
        "arguments": [line.encode() for line in _ARGUMENTS],
    }


# The process that reads, and the one that watches


@dataclass(frozen=True)
class Ending:
    """How an input ended.

    Parameters
    ----------
    what : str
        What was wrong, as in a `Finding`; nothing, if it is empty.
    where : str
        As in a `Finding`.
    refused : bool
        Whether it was refused in words.
    seconds : float
        That the processors were busy.
    peak : int
        Bytes of memory that its process has had at most until then.
    """

    what: str
    where: str = ""
    refused: bool = False
    seconds: float = 0.0
    peak: int = 0


def _work(ear: Connection, folder: Path, readers: Mapping[str, Reader], memory: int) -> None:
    """Read one input after another, and say how each ended; one that takes too long ends this process."""
    from bayes_l2l.errors import L2LError

    resource.setrlimit(resource.RLIMIT_AS, (_SPACE, _SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    while message := ear.recv():
        reader, name, seconds = message
        file, said = folder / name, io.StringIO()
        what, where, refused = "", "", False
        sys.unraisablehook = partial(_hear, said)
        started = time.process_time()
        # Nothing handles the signal that comes at the end of it: also C that never returns ends.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            readers[reader].read(file)
        except L2LError as error:
            refused = True
            if "Traceback" in str(error):
                what, where = "traceback", str(error)
        except BaseException as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "bayes_l2l" in f.filename]
            last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
            what, where = f"{type(error).__name__}: {error}"[:300], f"{Path(last.filename).name}:{last.name}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if said.getvalue() and not what:
            what, where = "printed", said.getvalue()[:200]
        if not what and peak > memory:
            what = "memory"
        ear.send(Ending(what, where, refused, time.process_time() - started, peak))


def _hear(said: io.StringIO, error: Any) -> None:
    """Note what a library would print when an object of its own cannot be closed."""
    said.write(str(error.exc_value))


class Watched:
    """A process that reads, started again when it has died or hangs."""

    def __init__(self, folder: Path, readers: Mapping[str, Reader], *, seconds: float, memory: int) -> None:
        self._given, self._seconds = (folder, readers, memory), seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._fresh = True
        self._mouth, ear = context.Pipe()
        self._process = context.Process(target=_work, args=(ear, *self._given), daemon=True)
        self._process.start()
        ear.close()

    def read(self, reader: str, name: str, *, first: bool) -> Ending:
        """How reading a file ended."""
        seconds = _STARTED if first or self._fresh else self._seconds
        self._fresh = False
        self._mouth.send((reader, name, seconds))
        if not self._mouth.poll(_PATIENCE * seconds):
            self._restart()
            return Ending("hangs", f"more than {_PATIENCE * seconds:g} s")
        try:
            ending: Ending = self._mouth.recv()
        except EOFError:
            self._process.join()
            ended = -(self._process.exitcode or 0)
            slow = ended == signal.SIGPROF
            ending = Ending("slow", f"more than {seconds:g} s") if slow else Ending(f"signal {ended}")
        if ending.what.partition(" ")[0] in ("memory", "signal", "slow"):
            self._restart()
        return ending

    def _restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._mouth.close()


def run(
    given: Mapping[str, Sequence[bytes]],
    *,
    inputs: int,
    seed: int,
    folder: Path,
    seconds: float | None = None,
    readers: Mapping[str, Reader] = READERS,
    limits: tuple[float, int] = (SECONDS, BYTES),
    state: State | None = None,
) -> tuple[list[Finding], dict[str, dict[str, float]]]:
    """Give every reader so many broken inputs.

    Parameters
    ----------
    given : mapping of str to sequence of bytes
        Inputs that are well, of each reader that is meant.
    inputs : int
        Of each reader.
    seed : int
        Of what is broken and how.
    folder : Path
        Where inputs go; those of findings stay there.
    seconds : float, optional
        Most that a reader gets; inputs beyond are left out.
    readers : mapping of str to Reader
        Those that can be meant.
    limits : (float, int)
        Seconds of the processors and bytes that one input may take.
    state : State, optional
        Of an earlier run with the same seed, to go on from; it is kept up to date.

    Returns
    -------
    findings : list of Finding
        One of each kind.
    counts : dict
        Of each reader, how many inputs it got, read, refused, and were wrong; seconds of all, seconds of the
        slowest, and most memory (MB).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runs.csv").write_text(_LONG)
    (folder / "wide.csv").write_text(_WIDE)
    (folder / "map.toml").write_text(_MAPPING)
    (folder / "points.csv").write_text(_POINTS)
    state = state or State()
    watched = Watched(folder, readers, seconds=limits[0], memory=limits[1])
    for reader, wells in given.items():
        if reader == "arguments" and "fit" in given:
            (folder / "fit.nc").write_bytes(given["fit"][0])
        suffix = readers[reader].suffix
        for i, well in enumerate(wells):
            _give(watched, reader, f"well-{reader}-{i}{suffix}", _well(reader, well), folder, state)
        count = state.counts.setdefault(reader, dict(_NONE))
        started, before = time.monotonic(), count["seconds"]
        again = state.look_again(reader)
        count["inputs"] -= len(again)
        count["wrong"] -= len(again)
        for i in (*again, *range(int(count["inputs"]) + len(again), inputs)):
            if seconds is not None and time.monotonic() - started > seconds:
                break
            rng = random.Random(f"{seed} {reader} {i}")
            content = readers[reader].mutate(rng.choice(list(wells)), rng)
            ending = _give(watched, reader, f"{reader}-{i}{suffix}", content, folder, state)
            count["inputs"] += 1
            count["wrong" if ending.what else "refused" if ending.refused else "read"] += 1
            if ending.what:
                state.wrong.setdefault(reader, []).append(i)
            count["slowest"] = max(count["slowest"], round(ending.seconds, 2))
            count["peak"] = max(count["peak"], round(ending.peak / 1e6))
            count["seconds"] = round(before + time.monotonic() - started, 1)
            if i % _OFTEN == 0:
                state.keep()
        state.keep()
    watched.stop()
    return list(state.findings.values()), state.counts


#: Counts of a reader before its first input.
_NONE: Final = dict.fromkeys(("inputs", "read", "refused", "wrong", "seconds", "slowest", "peak"), 0.0)


class State:
    """What a run has found so far.

    Parameters
    ----------
    file : Path, optional
        Where it is kept, and read from if it is there; by default nowhere.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file, self.counts = file, dict[str, dict[str, float]]()
        self.findings = dict[tuple[str, str, str], Finding]()
        self.wrong = dict[str, list[int]]()
        if file is not None and file.is_file():
            kept = json.loads(file.read_text())
            self.counts, self.wrong = kept["counts"], kept["wrong"]
            for one in kept["findings"]:
                self.add(Finding(**one))

    def look_again(self, reader: str) -> list[int]:
        """Numbers of the inputs of a reader that were wrong, which are forgotten."""
        self.findings = {kind: one for kind, one in self.findings.items() if one.reader != reader}
        return self.wrong.pop(reader, [])

    def add(self, finding: Finding) -> bool:
        """Take a finding, unless there is one of its kind; whether it was taken."""
        kind = (finding.reader, finding.what.partition(":")[0], finding.where)
        return self.findings.setdefault(kind, finding) is finding

    def keep(self) -> None:
        """Write it, whole."""
        if self.file is not None:
            findings = [asdict(one) for one in self.findings.values()]
            kept = {"counts": self.counts, "wrong": self.wrong, "findings": findings}
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(kept, indent=1) + "\n")
            part.replace(self.file)


def _well(reader: str, content: bytes) -> bytes:
    return json.dumps(shlex.split(content.decode())).encode() if reader == "arguments" else content


def _give(watched: Watched, reader: str, name: str, content: bytes, folder: Path, state: State) -> Ending:
    """Give a reader an input, and keep it if it is a finding."""
    file = folder / name
    file.write_bytes(content)
    # The first input waits for imports.
    ending = watched.read(reader, name, first=name.startswith("well"))
    if not ending.what or not state.add(Finding(reader, ending.what, ending.where, name)):
        file.unlink()
    return ending


def main() -> int:
    """Give all readers broken inputs, and show what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="of each reader (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="most that a reader gets (no end)")
    parser.add_argument("--reader", action="append", choices=list(READERS), help="may be repeated (all)")
    parser.add_argument("--store", action="store_true", help=f"write counts to {RESULTS.parent.name}/{RESULTS.name}")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for findings and their inputs")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    given = seeds(small_fits(options.output))
    state = State(options.output / "state.json")
    (options.output / "fit.nc").write_bytes(given["fit"][0])
    for reader in options.reader or given:
        findings, counts = run(
            {reader: given[reader]},
            inputs=options.inputs,
            seed=options.seed,
            folder=options.output,
            seconds=options.seconds,
            state=state,
        )
        sys.stdout.write(f"{reader}: {counts[reader]}\n")
        for one in findings:
            if one.reader == reader:
                sys.stdout.write(f"  {one.what} [{one.where}] {one.input}\n")
        sys.stdout.flush()
    if options.store:
        stored = {"seed": options.seed, "readers": state.counts, "setup": _setup()}
        findings_kept = [asdict(one) for one in state.findings.values()]
        store(RESULTS, {"fuzz": stored | {"findings": findings_kept}}, "fuzz", as_markdown)
    return 1 if state.findings else 0


def _setup() -> dict[str, str]:
    """Versions of what reads."""
    libraries = ("bayes-l2l", "numpy", "pandas", "pyarrow", "h5py", "h5netcdf", "xarray", "click")
    return {"python": sys.version.split()[0]} | {name: version(name) for name in libraries}


def as_markdown(stored: Mapping[str, Any]) -> str:
    """Page of the results."""
    made = stored["fuzz"]
    lines = ["# Broken inputs", "", *(__doc__ or "").strip().split("\n"), ""]
    lines += ["| reader | inputs | read | refused | wrong | slowest (s) | most memory (MB) |", "|" + " --- |" * 7]
    for reader, count in made["readers"].items():
        numbers = [f"{count[name]:,.0f}" for name in ("inputs", "read", "refused", "wrong")]
        lines.append(f"| {reader} | {' | '.join(numbers)} | {count['slowest']:g} | {count['peak']:.0f} |")
    found = [f"- {one['reader']}: {one['what']} ({one['where']})" for one in made["findings"]]
    versions = ", ".join(f"{name} {number}" for name, number in made["setup"].items())
    return "\n".join([*lines, "", *found, *([""] if found else []), f"Seed {made['seed']}; {versions}."]) + "\n"


# Fits to break


def small_fits(folder: Path) -> list[bytes]:
    """Files of small fits, which are made in a folder unless they are there.

    Parameters
    ----------
    folder : Path
        Where they are kept.

    Returns
    -------
    list of bytes
        That of the joint model, with error rates, comes first.
    """
    from bayes_l2l.fits import fit

    files = []
    for model in _MODELS:
        file = folder / f"small-{model}.nc"
        if not file.is_file():
            table = _small_table(rates=model == "joint")
            if model == "relations":
                table = table.drop(columns=["params", "tokens"])
            elif model == "law":
                table = table[(table["train_set"] == "english") & (table["eval_set"] == "english")]
            made = fit(table, model=model, draws=6, tune=100, chains=2, random_seed=1)
            _shrink(made)
            if made.errors is not None:
                _shrink(made.errors)
            made.save(file)
        files.append(file.read_bytes())
    return files


def _small_table(*, rates: bool) -> pd.DataFrame:
    """Eight runs of two training sets on their evaluations, and a task if it is asked for."""
    import pandas as pd

    rows = []
    for k, train_set in enumerate(("english", "c")):
        for i in range(8):
            n, d = 10 ** (6 + i / 4), 10 ** (8.3 + (3 * i % 8) / 5)
            loss = 1.7 + 0.2 * k + 4000 / n**0.45 / 2 + 300 / d**0.3 + 0.003 * (-1) ** i
            run = {"run_id": f"r{i}", "train_set": train_set, "params": n, "tokens": d}
            rows += [
                run | {"eval_set": "english", "loss": loss * (1 + 0.05 * k), "metric": "loss"},
                run | {"eval_set": "c", "loss": loss * (1.1 - 0.05 * k) + 0.002 * (i % 3), "metric": "loss"},
            ]
            if rates:
                error = 0.8 - 2.2 / loss + 0.004 * (i % 2)
                rows.append(run | {"eval_set": "task", "loss": error, "metric": "error", "chance": 0.75})
    return pd.DataFrame(rows)


def _shrink(posterior: Any) -> None:
    """Leave out what no reader needs: every array costs time."""
    from bayes_l2l.inference.soundness import needed

    tree = posterior.tree
    draws, stats, diagnostics = (tree[name].to_dataset() for name in ("posterior", "sample_stats", "diagnostics"))
    kept = [name for name in draws.data_vars if name in needed(posterior.spec)]
    tree["posterior"].dataset = draws[kept]
    tree["diagnostics"].dataset = diagnostics[[name for name in diagnostics.data_vars if name in kept][:2]]
    tree["sample_stats"].dataset = stats[[name for name in ("diverging", "energy") if name in stats]]


if __name__ == "__main__":
    sys.exit(main())
