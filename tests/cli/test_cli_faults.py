"""Commands under faults: a disk that fills up while they draw, signals at every step, names that no file can hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import faults
import psutil
import pytest
from command_line import HEADER, ROWS, refused

from bayes_l2l import fits, load_fit
from bayes_l2l.cli import demo, main
from bayes_l2l.cli.keeping import held_back
from bayes_l2l.errors import DataError
from bayes_l2l.files import alone, check_output, write_whole

#: `fit` with a ready answer, before which the disk has been filled by others.
FILLED = """
import sys
from pathlib import Path
from synthetic import synthetic_fit
from bayes_l2l import fits
from bayes_l2l.cli import demo, main
ready = synthetic_fit()
def answer(sweep, **options):
    with open(Path(sys.argv[1]) / "others", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return ready
fits.fit = answer
sys.exit(main(["fit", "runs.csv", "-o", sys.argv[1] + "/fit.nc", *sys.argv[2:]]))
"""


def test_a_disk_that_fills_up_while_draws_are_made_loses_none(runs, folder):
    runs(*ROWS)
    with faults.small_disk(folder, "2m") as disk:
        few = ["--draws", "100", "--chains", "2"]
        done = faults.python(FILLED, disk, *few, cwd=folder)
        assert done.returncode == 1
        *_, said = done.stderr.splitlines()
        kept = next(path for path in folder.iterdir() if path.name.startswith("fit-"))
        assert said == (
            f"bayes-l2l: error: {disk / 'fit.nc'} cannot be written: No space left on device; the fit is kept in "
            f"{kept.name}: move it to where it belongs"
        )
        assert load_fit(kept).posterior.sizes["draw"] == 250
        assert [path.name for path in disk.iterdir()] == ["others"]


def test_the_demo_asks_for_the_space_that_it_takes(folder):
    with faults.small_disk(folder, "2m") as disk:
        with pytest.raises(DataError, match=r"forecast\.csv cannot be written: No space left on device"):
            demo.prepare(disk)
        assert list(disk.iterdir()) == []
    demo.prepare(folder)


def test_a_disk_with_too_little_space_is_refused_before_anything_is_drawn(runs, folder):
    runs(*ROWS)
    with faults.small_disk(folder, "500k") as disk:
        done = faults.python(FILLED, disk, cwd=folder)
        assert done.returncode == 1
        assert done.stderr == (
            f"bayes-l2l: error: {disk / 'fit.nc'} cannot be written: No space left on device, and the file needs "
            "about 1 MB\n"
        )
        assert list(disk.iterdir()) == []


# Names


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\u2028"])
@pytest.mark.parametrize("column", ["run_id", "train_set", "eval_set"])
def test_a_control_character_in_a_name_is_refused_before_sampling(character, column, runs, sampled, capsys, folder):
    cells = ROWS[2].split(",")
    cells[HEADER.split(",").index(column)] = f"a{character}b"
    said = refused(f"fit {runs(*ROWS[:2], ','.join(cells), *ROWS[3:])} -o fit.nc", capsys, folder)
    assert f"row 4, column '{column}': {f'a{character}b'!r} has a control character" in said
    assert sampled == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("x" * 300 + ".nc", "File name too long"),
        ("/dev/null", "it is no ordinary file"),
        ("runs.csv/fit.nc", "there is no folder runs.csv"),
    ],
)
def test_a_place_that_no_file_can_have_is_refused_before_sampling(output, said, runs, sampled, capsys, folder):
    assert main(["fit", runs(*ROWS), "-o", output]) == 1
    assert said in capsys.readouterr().err
    assert sampled == []
    assert [path.name for path in folder.iterdir()] == ["runs.csv"]


def test_an_argument_with_nul_is_refused_as_none_that_a_shell_gives(runs, sampled, capsys, folder):
    assert main(["fit", runs(*ROWS), "-o", "a\0b.nc"]) == 2
    assert "has a NUL character in it" in capsys.readouterr().err
    assert sampled == []
    assert [path.name for path in folder.iterdir()] == ["runs.csv"]


def test_the_longest_name_that_a_file_can_have_is_written(folder):
    path = folder / ("x" * 251 + ".csv")
    write_whole(path, lambda part: part.write_text("new"))
    assert [one.name for one in folder.iterdir()] == [path.name]


# What is half written


def test_a_link_is_followed(folder):
    (folder / "there").mkdir()
    (folder / "fit.nc").symlink_to(folder / "there" / "real.nc")
    write_whole(folder / "fit.nc", lambda part: part.write_text("new"))
    assert (folder / "fit.nc").is_symlink()
    assert (folder / "there" / "real.nc").read_text() == "new"


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(folder):
    program = """
import os, signal, sys, time
from pathlib import Path
from bayes_l2l.files import write_whole
def write(part):
    part.write_text("half")
    print(part, flush=True)
    time.sleep(60)
write_whole(Path("table.csv"), write)
"""
    command = [sys.executable, "-c", program]
    killed, alive = (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=faults.environment()) for _ in "12"
    )
    try:
        parts = {process: folder / process.stdout.readline().strip() for process in (killed, alive)}
        killed.kill()
        killed.wait()
        assert all(part.read_text() == "half" for part in parts.values())
        write_whole(folder / "table.csv", lambda part: part.write_text("new"))
        assert sorted(folder.iterdir()) == sorted([folder / "table.csv", parts[alive]])
    finally:
        alive.kill()
        alive.wait()
        for process in (killed, alive):
            process.stdout.close()


def test_what_another_machine_left_is_removed_after_a_day(folder):
    old, new = folder / ".table.0-1-ab.part.csv", folder / ".table.0-2-cd.part.csv"
    for part in (old, new):
        part.write_text("half")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    check_output(folder / "table.csv")
    assert list(folder.iterdir()) == [new]


def test_threads_that_write_one_file_do_not_take_it_from_each_other(folder):
    failed, at_once = [], threading.Barrier(8)

    def write(part: Path) -> None:
        at_once.wait()
        part.write_text("whole")
        at_once.wait()

    def work() -> None:
        try:
            write_whole(folder / "table.csv", write)
        except DataError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("table.csv", "whole")]


def test_a_file_that_is_added_to_has_one_writer_at_a_time(folder):
    program = """
import time
from pathlib import Path
from bayes_l2l.files import alone
with alone(Path("runs.csv")):
    print("alone", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=faults.environment()) as process:
        assert process.stdout.readline() == "alone\n"
        with (
            pytest.raises(DataError, match=r"runs\.csv is being written by another process; wait for it"),
            alone(folder / "runs.csv"),
        ):
            pytest.fail("two write it")
        process.kill()
        process.wait()
    with alone(folder / "runs.csv"):
        pass
    assert list(folder.iterdir()) == []


# Signals


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_while_a_fit_is_saved_is_heeded_when_it_is_saved(
    number, status, word, runs, sampled, monkeypatch, capsys
):
    save = fits.Fit.save

    def slow(self, path):
        signal.raise_signal(number)
        return save(self, path)

    monkeypatch.setattr(fits.Fit, "save", slow)
    assert main(["fit", runs(*ROWS), "-o", "fit.nc"]) == status
    assert capsys.readouterr().err.endswith(f"bayes-l2l: {word}\n")
    assert load_fit("fit.nc").trusted


def test_the_second_signal_is_heeded_at_once():
    def both() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the second was not heeded")

    with pytest.raises(KeyboardInterrupt):
        both()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


FIT = "fit simulated -o out.nc --draws 100000 --tune 200"
#: Commands that take long, what they wait for before the signal comes, and what may be there afterwards.
LONG = {
    "fit, sampling": (FIT, 6.0),
    "fit by PyMC": (f"{FIT} --sampler pymc", 8.0),
    "backtest": ("backtest simulated --model law --draws 5000 -o out.csv", 6.0),
    "backtest by two": ("backtest simulated --model law --draws 5000 --jobs 2 -o out.csv", 8.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LONG)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_long_command_in_words_and_leaves_nothing_half_written(what, number, status, folder):
    said, left = signalled(*LONG[what], number, status)
    assert "Traceback" not in said
    assert [path for path in left if ".part" in path.name or path.name.startswith("out.nc")] == []


def test_sigterm_ends_a_fit_while_it_starts(folder):
    said, left = signalled(FIT, 1.0, signal.SIGTERM, 143)
    assert said.endswith("bayes-l2l: terminated\n")
    assert left == []


@pytest.mark.slow
def test_sigterm_keeps_what_was_drawn_where_that_was_asked_for(folder):
    said, left = signalled(f"{FIT} --keep-interrupted", 10.0, signal.SIGTERM, None)
    assert "draws a chain were kept [interrupted]" in said
    assert load_fit(left[0]).posterior.sizes["draw"] < 100_000


def signalled(arguments: str, seconds: float, number: int, status: int | None) -> tuple[str, list[Path]]:
    """What a command said that got a signal after so many seconds of processors, and the files that it left."""
    command = [sys.executable, "-m", "bayes_l2l", *arguments.split()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=faults.environment()) as process:
        assert process.stderr is not None
        said = process.stderr.readline()  # of the sweep: the command has begun
        while worked(process.pid) < seconds:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        said += process.communicate(timeout=120)[1]
    assert status is None or process.returncode == status, said
    return said, [path for path in Path().rglob("*") if path.is_file()]


def worked(pid: int) -> float:
    """Seconds of processors that a process and those it started have had."""
    process = psutil.Process(pid)
    of_each = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(times.user + times.system for times in of_each)
