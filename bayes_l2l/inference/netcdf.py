"""Bytes of a fit's file: a tree as NetCDF with a checksum, and back.

The HDF5 library never has a file of its own: it writes to memory, since it may end the process when a disk is full,
and it reads from memory what has its checksum, or at least nothing that would send it elsewhere.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

#: What every HDF5 file begins with.
MAGIC: Final = b"\x89HDF\r\n\x1a\n"
#: The checksum follows the NetCDF file, whose readers do not look there.
_SEAL: Final = b"\nbayes_l2l sha256 "
_SEALED: Final = len(_SEAL) + hashlib.sha256().digest_size * 2 + 1
#: Bytes that arrays may take, beside some times those of the file: those that a fit writes are not compressed.
_FREE: Final = 2**26
_TIMES: Final = 4
#: Texts that are read at a time take no more than this, however often a file repeats one of its length.
_AT_ONCE: Final = 2**28
#: Name of what stands for a dimension that has no coordinate.
_NO_VARIABLE: Final = b"This is a netCDF dimension but not a netCDF variable"
#: What the names of arrays begin with that are called like a dimension and do not lie along it alone.
_NAMED_AS_DIMENSION: Final = "_nc4_non_coord_"
#: Texts of an attribute.
_FEW: Final = 64


def to_bytes(tree: xr.DataTree) -> bytes:
    """Write a tree into memory, with its checksum.

    Parameters
    ----------
    tree : xarray.DataTree
        What is written.

    Returns
    -------
    bytes
        A NetCDF file.
    """
    content = tree.to_netcdf(engine="h5netcdf")
    assert content is not None
    return sealed(content)


def sealed(content: bytes | memoryview) -> bytes:
    """A NetCDF file with its checksum behind it."""
    return b"".join((content, _SEAL, hashlib.sha256(content).hexdigest().encode(), b"\n"))


def unsealed(content: bytes) -> tuple[memoryview, bool]:
    """Part of a file that is NetCDF.

    Parameters
    ----------
    content : bytes
        Of a file.

    Returns
    -------
    memoryview, bool
        It, and whether there was a checksum.

    Raises
    ------
    DataError
        If the checksum is another.
    """
    whole, end = memoryview(content), content[-_SEALED:]
    if _SEAL not in end:
        return whole, False
    if end != _SEAL + hashlib.sha256(whole[:-_SEALED]).hexdigest().encode() + b"\n":
        raise DataError("its checksum is not that of its content")
    return whole[:-_SEALED], True


def from_bytes(content: memoryview, groups: tuple[str, ...], *, mark: str) -> xr.DataTree:
    """Read a tree from memory.

    Parameters
    ----------
    content : memoryview
        A NetCDF file.
    groups : tuple of str
        Paths of the groups that it may have.
    mark : str
        Attribute by which such files are known.

    Returns
    -------
    xarray.DataTree
        Loaded; empty if the file is of another kind.

    Raises
    ------
    DataError
        If anything in it lies elsewhere, is of a strange type, or takes more memory than such a file can need.
    Exception
        Whatever the libraries raise on a damaged file.
    """
    import h5py
    import xarray as xr

    with h5py.File(io.BytesIO(content), "r") as file:
        if mark not in file.attrs:
            return xr.DataTree()
        _check_links(file, groups)
        _check_sizes(file, groups, most=_FREE + _TIMES * len(content), at_once=_AT_ONCE // len(content))
        found = {path: _dataset(file, path) for path in groups if path in file}
        root = xr.Dataset(attrs={name: _single(value) for name, value in file.attrs.items() if name[0] != "_"})
    return xr.DataTree.from_dict(found | {"/": root})


def _dataset(file: Any, group: str) -> xr.Dataset:
    """Arrays of a group, read as `to_bytes` writes them; `xarray.open_datatree` takes ten times as long."""
    import h5py
    import xarray as xr

    arrays: dict[str, xr.Variable] = {}
    # Coordinates along which nothing was drawn are named by the group.
    coordinates = set(str(_single(file[group].attrs.get("coordinates", ""))).split())
    for name, item in file[group].items():
        if not isinstance(item, h5py.Dataset) or bytes(item.attrs.get("NAME", b"")).startswith(_NO_VARIABLE):
            continue
        scales = [file[references[0]].name for references in item.attrs.get("DIMENSION_LIST", ())]
        dims = (name,) if item.is_scale else tuple(scale.rpartition("/")[2] for scale in scales)
        values = item.asstr()[()].astype(str) if h5py.check_string_dtype(item.dtype) else item[()]
        if item.attrs.get("dtype") == "bool":
            values = values.astype(bool)
        arrays[name.removeprefix(_NAMED_AS_DIMENSION)] = xr.Variable(dims, values)
        coordinates |= set(str(item.attrs.get("coordinates", "")).split())
    return xr.Dataset(arrays).set_coords(coordinates & set(arrays))


def _single(value: Any) -> Any:
    """What an attribute holds, out of the array that it may lie in."""
    return value.item() if getattr(value, "size", 0) == 1 and hasattr(value, "item") else value


def _check_links(file: Any, groups: tuple[str, ...]) -> None:
    """Refuse what is in no known place, or only points to its place."""
    import h5py

    for group in ("", *groups):
        if group and group not in file:
            continue
        for name in file[group or "/"]:
            path = f"{group}/{name}".lstrip("/")
            if not isinstance(file[group or "/"].get(name, getlink=True), h5py.HardLink):
                raise DataError(f"{path} is a link, and a fit has none")
            kind = h5py.Group if path in groups else h5py.Dataset
            if not isinstance(file[path], kind) or (not group and path not in groups):
                raise DataError(f"a fit has no {path}")


def _datasets(file: Any, groups: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    import h5py

    for group in groups:
        for name, item in file[group].items() if group in file else ():
            if isinstance(item, h5py.Dataset):
                yield f"{group}/{name}", item


def _check_sizes(file: Any, groups: tuple[str, ...], *, most: int, at_once: int) -> None:
    """Refuse arrays that lie in other files, are of a strange type, or would together take more than `most` bytes."""
    import h5py

    size = 0
    for group in ("/", *groups):
        if group in file:
            _check_attributes(file[group].attrs, group)
    for path, array in _datasets(file, groups):
        if array.external or array.is_virtual:
            raise DataError(f"{path} lies in another file, and a fit is one file")
        _check_attributes(array.attrs, path)
        if array.shape is None:
            raise DataError(f"{path} is empty")
        size += array.size * array.dtype.itemsize
        if size > most:
            raise DataError(f"its arrays would take more than {most / 1e6:.0f} MB, and the file does not hold them")
        if h5py.check_string_dtype(array.dtype):
            size += _length(array, most - size, max(at_once, _FEW))
        elif array.dtype.kind not in "fiu":
            raise DataError(f"{path} is of type {array.dtype}")


def _length(texts: Any, most: int, at_once: int) -> int:
    """Characters of all texts together."""
    if texts.ndim != 1:
        raise DataError(f"{texts.name} is no list of texts")
    length = 0
    for start in range(0, len(texts), at_once):
        length += sum(map(len, texts[start : start + at_once]))
        if length > most:
            raise DataError(f"the texts of {texts.name} are longer than the file")
    return length


def _check_attributes(attributes: Any, path: str) -> None:
    import h5py

    for name in attributes:
        found = attributes.get_id(name)
        many = found.shape is None or any(length > _FEW for length in found.shape)
        if h5py.check_string_dtype(found.dtype) and many:
            raise DataError(f"{path} has an attribute {name} that no fit has")
