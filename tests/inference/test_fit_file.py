"""The file of a fit under faults: a full disk, damage, a hostile file. Each is injected, none is mocked."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faults
import h5py
import numpy as np
import pytest
import xarray as xr

from bayes_l2l.errors import DataError, FitFileError, SpecError
from bayes_l2l.fits import Fit, load_fit
from bayes_l2l.inference.netcdf import from_bytes, to_bytes, unsealed
from bayes_l2l.inference.posterior_file import _from_dict, _to_dict, expected_size
from bayes_l2l.inference.soundness import check, check_stored

SAVE = """
import resource, sys
from bayes_l2l import load_fit
fit = load_fit(sys.argv[1])
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    fit.save(sys.argv[2])
except Exception as error:
    print(type(error).__name__, error)
print(float(fit.posterior["E"].mean()) > 0)
"""


# A disk that is full


@pytest.mark.parametrize("most", [1000, 100_000, 300_000])
def test_a_limit_on_the_size_of_files_is_an_error_and_the_fit_lives_on(fit_file, tmp_path, most):
    done = faults.python(SAVE, fit_file, tmp_path / "fit.nc", most, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"FitFileError {tmp_path / 'fit.nc'} cannot be written: File too large\nTrue\n"
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_the_file_that_was_there_stays(fit_file, tmp_path):
    with faults.small_disk(tmp_path, "300k") as disk:
        (disk / "fit.nc").write_bytes(b"what was there")
        done = faults.python(SAVE, fit_file, disk / "fit.nc", 0, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"FitFileError {disk / 'fit.nc'} cannot be written: No space left on device\nTrue\n"
        assert done.stderr == ""
        assert [path.read_bytes() for path in disk.iterdir()] == [b"what was there"]


def test_the_size_that_is_expected_is_about_that_of_the_file(handmade, fit_file, joint, joint_file):
    for fit, file in ((handmade, fit_file), (joint, joint_file)):
        assert 0.4 < expected_size(fit.sweep, fit.settings) / file.stat().st_size < 2


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_hold_is_an_error_of_ours(handmade, tmp_path, name):
    draws = handmade.posterior.assign_coords(eval_set=("cell", [name] * handmade.posterior.sizes["cell"]))
    tree = handmade.tree.copy()
    tree["posterior"] = xr.DataTree(draws)
    with pytest.raises(FitFileError, match=r"fit\.nc cannot be written: something in the fit cannot be stored"):
        replace(handmade, tree=tree).save(tmp_path / "fit.nc")
    assert list(tmp_path.iterdir()) == []


# Damage


@pytest.mark.parametrize("seed", range(3))
def test_no_bit_that_flips_goes_unseen(joint_file, tmp_path, seed):
    content, rng = bytearray(joint_file.read_bytes()), np.random.default_rng(seed)
    damaged = tmp_path / "damaged.nc"
    for place in rng.integers(0, len(content), 30):
        content[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(content)
        with pytest.raises(FitFileError, match=r"^[^\n]*damaged\.nc: is "):
            load_fit(damaged)
        content = bytearray(joint_file.read_bytes())


@pytest.mark.parametrize("cut", [1, 20, 82, 100])
def test_a_file_that_lost_its_end_is_refused(joint_file, tmp_path, cut):
    (tmp_path / "cut.nc").write_bytes(joint_file.read_bytes()[:-cut])
    with pytest.raises(FitFileError, match=r"cut\.nc: is damaged"):
        load_fit(tmp_path / "cut.nc")


def test_other_programs_read_the_file(joint, joint_file):
    with xr.open_datatree(joint_file, engine="h5netcdf") as opened:
        xr.testing.assert_equal(opened["posterior"].to_dataset().load(), joint.posterior)


def in_version_2(fit_file: Path, path: Path, change: Callable[[Any], object] = lambda file: None) -> Path:
    """The file as versions of the package wrote it that knew no checksum, with changes by HDF5 itself."""
    content = io.BytesIO(unsealed(fit_file.read_bytes())[0])
    with h5py.File(content, "r+") as file:
        file.attrs["bayes_l2l_format"] = 2
        change(file)
    path.write_bytes(content.getvalue())
    return path


def test_a_file_of_version_2_is_read_without_a_checksum(joint, joint_file, tmp_path):
    old = in_version_2(joint_file, tmp_path / "old.nc")
    assert load_fit(old).posterior.equals(joint.posterior)
    old.write_bytes(to_bytes(xr.open_datatree(old, engine="h5netcdf").load()))
    assert load_fit(old).posterior.equals(joint.posterior)


# Hostile files


def external(file: Any) -> None:
    del file["posterior/size_effect_scale"]
    file.create_dataset("posterior/size_effect_scale", (2, 100), "f8", external=[("/etc/passwd", 0, 1600)])


def huge(file: Any) -> None:
    file.create_dataset("posterior/more", (750_000_000,), "f8", chunks=(1000,), compression="gzip")


def repeated(file: Any) -> None:
    """One long text that many cells share."""
    texts = file.create_dataset("posterior/more", (20_000,), h5py.string_dtype())
    texts[0] = "x" * 1_000_000
    raw = texts.id.get_offset()
    file.flush()
    file.attrs["_raw"] = raw


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((2,), "f8")
    layout[0] = h5py.VirtualSource("/tmp/other.nc", "E", (1,))[0]
    file.create_virtual_dataset("posterior/more", layout)


HOSTILE = {
    "an external dataset": (external, "lies in another file"),
    "a virtual dataset": (virtual, "lies in another file"),
    "an external link": (lambda f: f.__setitem__("posterior/more", h5py.ExternalLink("o.nc", "/E")), "is a link"),
    "a soft link": (lambda f: f.__setitem__("posterior/more", h5py.SoftLink("/posterior/E")), "is a link"),
    "a linked group": (lambda f: f.__setitem__("errors", h5py.ExternalLink("o.nc", "/")), "is a link"),
    "a group in itself": (lambda f: f.__setitem__("posterior/posterior", f["posterior"]), "a fit has no"),
    "a group more": (lambda f: f.create_group("more"), "a fit has no more"),
    "six GB": (huge, "would take more than"),
    "objects": (lambda f: f.create_dataset("posterior/more", (2,), h5py.ref_dtype), "is of type"),
    "nothing": (lambda f: f.create_dataset("posterior/more", data=h5py.Empty("f8")), "is empty"),
    "many texts": (lambda f: f["posterior"].attrs.create("more", ["x"] * 100), "an attribute more"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_read_elsewhere_or_fill_the_memory_is_refused(joint_file, tmp_path, kind, capfd):
    change, said = HOSTILE[kind]
    hostile = in_version_2(joint_file, tmp_path / "hostile.nc", change)
    started = time.monotonic()
    with pytest.raises(FitFileError, match=rf"hostile\.nc: is damaged \([^\n]*{said}"):
        load_fit(hostile)
    assert time.monotonic() - started < 5
    assert capfd.readouterr() == ("", "")


def test_texts_that_share_their_place_are_counted_each(joint_file, tmp_path):
    """References of 16 bytes to one text of a megabyte: 20 GB of texts in a file of little more than one."""
    hostile = in_version_2(joint_file, tmp_path / "hostile.nc", repeated)
    with h5py.File(hostile, "r") as file:
        start = file.attrs["_raw"]
    content = bytearray(hostile.read_bytes())
    content[start : start + 16 * 20_000] = content[start : start + 16] * 20_000
    hostile.write_bytes(content)
    with pytest.raises(FitFileError, match="texts of /posterior/more are longer than the file"):
        load_fit(hostile)


# What is no posterior


def rewritten(file: Path, path: Path, change: Callable[[xr.DataTree, dict[str, Any]], object]) -> Path:
    """The file with changes to its arrays and metadata, and the checksum that belongs to them."""
    with xr.open_datatree(file, engine="h5netcdf") as opened:
        tree = opened.load()
    stored = json.loads(tree.attrs["bayes_l2l"])
    change(tree, stored)
    tree.attrs["bayes_l2l"] = json.dumps(stored)
    path.write_bytes(to_bytes(tree))
    return path


def array(group: str, name: str, change: Callable[[xr.DataArray], Any]) -> Callable[[xr.DataTree, Any], None]:
    """Change of one array."""

    def changed(tree: xr.DataTree, stored: Any) -> None:
        data = tree[group].to_dataset()
        tree[group] = xr.DataTree(data.assign({name: change(data[name])}))

    return changed


def dataset(group: str, change: Callable[[xr.Dataset], xr.Dataset]) -> Callable[[xr.DataTree, Any], None]:
    """Change of one group."""

    def changed(tree: xr.DataTree, stored: Any) -> None:
        tree[group] = xr.DataTree(change(tree[group].to_dataset()))

    return changed


def metadata(*path: str, to: Any) -> Callable[[Any, dict[str, Any]], None]:
    """Change of one entry of the metadata."""

    def changed(tree: Any, stored: dict[str, Any]) -> None:
        for name in path[:-1]:
            stored = stored[name]
        stored[path[-1]] = to

    return changed


UNSOUND: dict[str, Callable[[Any, Any], None]] = {
    "no draws": lambda tree, stored: tree.__delitem__("posterior"),
    "no statistics": lambda tree, stored: tree.__delitem__("sample_stats"),
    "no diagnostics": lambda tree, stored: tree.__delitem__("diagnostics"),
    "no table": lambda tree, stored: tree.__delitem__("observed_data"),
    "a draw that is not a number": array("posterior", "E", lambda E: E.where(E["draw"] != 3)),
    "an infinite draw": array("posterior", "log_A", lambda A: A.where(A["draw"] != 3, np.inf)),
    "draws of text": array("posterior", "gamma", lambda g: g.astype(str)),
    "draws of no cell": array("posterior", "E", lambda E: E.isel(cell=0, drop=True)),
    "no E": dataset("posterior", lambda d: d.drop_vars("E")),
    "no scale": dataset("posterior", lambda d: d.drop_vars("residual_scale")),
    "no cells": dataset("posterior", lambda d: d.drop_vars("cell")),
    "no evaluations": dataset("posterior", lambda d: d.drop_vars("eval_set")),
    "no anchors": dataset("posterior", lambda d: d.drop_vars("anchor")),
    "anchors of 2": dataset("posterior", lambda d: d.assign_coords(anchor=2 * d["anchor"].astype(int))),
    "no draw": dataset("posterior", lambda d: d.isel(draw=slice(0))),
    "cells of numbers": dataset("posterior", lambda d: d.assign_coords(eval_set=("cell", np.arange(6.0)))),
    "a cell that was not fitted": dataset("posterior", lambda d: d.assign_coords(eval_set=("cell", ["x"] * 6))),
    "a cell twice": dataset("posterior", lambda d: d.assign_coords(cell=["a|a"] * 6)),
    "no divergences": dataset("sample_stats", lambda d: d.drop_vars("diverging")),
    "no energy": dataset("sample_stats", lambda d: d.drop_vars("energy")),
    "divergences of 7": array("sample_stats", "diverging", lambda v: v.astype(int) + 7),
    "energy that is not a number": array("sample_stats", "energy", lambda v: v * np.nan),
    "diagnostics of another name": dataset("diagnostics", lambda d: d.assign_coords(diagnostic=["a", "b", "c"])),
    "diagnostics of what was not drawn": dataset("diagnostics", lambda d: d.rename(E="F")),
    "diagnostics of text": array("diagnostics", "E", lambda v: v.astype(str)),
    "no run": dataset("observed_data", lambda d: d.isel(row=slice(0))),
    "no losses": dataset("observed_data", lambda d: d.drop_vars("loss")),
    "no names of runs": dataset("observed_data", lambda d: d.drop_vars("run_id")),
    "a negative size": array("observed_data", "params", lambda v: -v),
    "no compute": array("observed_data", "flops", lambda v: v * 0),
    "a loss that is not a number": array("observed_data", "loss", lambda v: v * np.nan),
    "an unknown metric": array("observed_data", "metric", lambda v: v.where(False, "mood")),
    "draws of a float": metadata("settings", "draws", to=2.5),
    "a negative seed": metadata("settings", "seed", to=-1),
    "a seed of text": metadata("settings", "seed", to="1"),
    "a flag of text": metadata("settings", "progress", to="no"),
    "a note of a number": metadata("notes", to=[{"code": 1, "severity": "info", "message": "x"}]),
    "notes of text": metadata("notes", to=["x"]),
    "no sweep": metadata("record", "sweep", to=None),
    "a sweep without a name": metadata("record", "sweep", "name", to=3),
    "an unknown unit of losses": metadata("record", "sweep", "loss_unit", to="bits"),
    "seconds of text": metadata("record", "seconds", to="long"),
    "seconds that are not a number": metadata("record", "seconds", to=float("nan")),
    "versions of text": metadata("record", "versions", to="new"),
    "no date": metadata("record", "created", to=None),
    "a deep nest": metadata("spec", "priors", to=json.loads("[" * 900 + "]" * 900)),
}


def check_all(fit: Fit, tree: xr.DataTree, stored: dict[str, Any]) -> None:
    check_stored(stored)
    spec, settings, notes, record = _from_dict(stored)
    check(replace(fit, tree=tree, spec=spec, settings=settings, notes=notes, record=record))


@pytest.mark.parametrize("what", UNSOUND)
def test_what_is_no_posterior_is_unsound(joint, what):
    tree, stored = joint.tree.copy(), json.loads(json.dumps(_to_dict(joint)))
    UNSOUND[what](tree, stored)
    with pytest.raises((DataError, KeyError, SpecError)):
        check_all(joint, tree, stored)


@pytest.mark.parametrize("what", ["no draws", "a draw that is not a number", "no anchors", "no sweep", "a deep nest"])
def test_what_is_no_posterior_is_refused_when_it_is_read(joint_file, tmp_path, what):
    with pytest.raises(FitFileError, match=r"^[^\n]*unsound\.nc: is damaged \("):
        load_fit(rewritten(joint_file, tmp_path / "unsound.nc", UNSOUND[what]))


@pytest.mark.parametrize("name", ["handmade", "joint"])
def test_what_is_a_posterior_is_sound(name, request):
    fit = request.getfixturevalue(name)
    check_stored(_to_dict(fit))
    check(fit)


# Places that cannot be written to or read


NOBODY = """
import os, sys
from pathlib import Path
from bayes_l2l import load_fit
from bayes_l2l.errors import L2LError
from bayes_l2l.files import check_output
fit = load_fit("fit.nc")
fit.plot
os.setgid(65534), os.setuid(65534)
for place in ("locked/fit.nc", "closed/fit.nc", "sticky/fit.nc", "sticky/" + "x" * 300 + ".nc"):
    for act in (fit.save, lambda path: check_output(Path(path)), load_fit):
        try:
            act(place)
            print("done")
        except L2LError as error:
            print(str(error).replace("x" * 300, "long"))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to become another user")
def test_a_place_that_is_another_users_is_refused_in_words(fit_file, tmp_path):
    """By the library, with nothing but our own errors, and before the work as well as after it."""
    shutil.copy(fit_file, tmp_path / "fit.nc")
    for name, mode in (("locked", 0o555), ("closed", 0o600), ("sticky", 0o1777)):
        (tmp_path / name).mkdir()
        shutil.copy(fit_file, tmp_path / name / "fit.nc")
        (tmp_path / name).chmod(mode)
    shared = [tmp_path, *[p for p in tmp_path.parents if p != p.parent and p.stat().st_mode & 0o005 != 0o005]]
    for folder in shared:
        folder.chmod(folder.stat().st_mode | 0o005)
    done = faults.python(NOBODY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[:3] == ["locked/fit.nc cannot be written: Permission denied"] * 2 + ["done"]
    assert said[3:5] == ["closed/fit.nc cannot be written: Permission denied"] * 2
    assert said[5] == "closed/fit.nc: cannot be read (Permission denied)."
    # Which of the two a system says of another's file in a shared folder differs.
    refusals = ("Operation not permitted", "Permission denied")
    assert said[6] in [f"sticky/fit.nc cannot be written: {why}" for why in refusals]
    assert said[7] == "sticky/fit.nc cannot be written: it belongs to someone else; name another"
    assert said[9:11] == ["sticky/long.nc cannot be written: File name too long"] * 2
    assert said[11] == "sticky/long.nc: cannot be read (File name too long)."


def read_both(content: bytes) -> tuple[xr.DataTree, xr.DataTree]:
    """A file as it is read here, and by xarray."""
    inside, _ = unsealed(content)
    with xr.open_datatree(io.BytesIO(inside), engine="h5netcdf") as opened:
        expected = opened.load()
    return from_bytes(inside, tuple(expected.children), mark="bayes_l2l_format"), expected


def test_a_file_is_read_as_xarray_reads_it(joint_file):
    """Flags, texts, dimensions with and without coordinates, in their order."""
    found, expected = read_both(joint_file.read_bytes())
    assert found.identical(expected)
    for group in expected.children:
        made, right = (
            [(name, values.dtype) for name, values in t[group].variables.items()] for t in (found, expected)
        )
        assert made == right


def test_a_coordinate_that_is_called_like_a_dimension_is_read():
    """As in files of pairwise models, whose effects lie along the training sets, and whose pairs have one each."""
    draws = xr.Dataset(
        {"effect": ("train_set", [0.1, 0.2]), "kappa": ("pair", [1.0, 0.9, 1.1])},
        coords={"pair": ["a -> b", "b -> a", "a -> c"], "source": ("pair", ["a", "b", "a"])},
    )
    draws = draws.assign(train_set=("pair", ["b", "a", "c"]))
    tree = xr.DataTree.from_dict({"posterior": draws})
    tree.attrs["bayes_l2l_format"] = 3
    found, expected = read_both(to_bytes(tree))
    assert found.identical(expected)
    assert found["posterior"]["train_set"].values.tolist() == ["b", "a", "c"]
