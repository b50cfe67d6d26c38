"""Corpora: documents of one's own, part of them held out for the evaluation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.errors import DataError
from bayes_l2l.microsweep.transformer import CONTEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

HELD_OUT: Final = 512  # sequences of an evaluation: 66 kB
_HELD_SHARE: Final = 0.02  # of a corpus at least, so that the windows are of many documents
_PIECE: Final = 16_384  # bytes; a single file is cut at line ends into documents of about this size


@dataclass(frozen=True)
class Corpus:
    """Documents, shuffled and split.

    Parameters
    ----------
    name : str
        What the training set and its evaluation are called.
    train : ndarray of uint8
        Bytes to train on.
    held : ndarray of uint8, (windows, bytes)
        Windows of documents that are not trained on; each is one byte longer than `CONTEXT`.
    """

    name: str
    train: Bytes
    held: Bytes


def read_corpus(path: str | Path) -> Corpus:
    """Read a corpus, shuffle its documents and hold some of them out.

    Parameters
    ----------
    path : path
        A folder, of whose files (at any depth, hidden ones excepted) each is a document; or one file, which is
        cut at line ends.

    Returns
    -------
    Corpus
        Named after the folder or the file. The same content gives the same split on every machine.

    Raises
    ------
    DataError
        If it is not there, or too small to hold anything out.
    """
    path = Path(path)
    documents = _documents(path)
    # Sorted by their content's hash: an order that knows no file names and no random numbers of a library.
    order = sorted({hashlib.sha256(document).digest(): document for document in documents}.items())
    documents = [document for _, document in order]
    wanted = max(HELD_OUT * (CONTEXT + 1), int(_HELD_SHARE * sum(map(len, documents))))
    held: list[bytes] = []
    while documents and sum(map(len, held)) < wanted:
        held.append(documents.pop())
    train = np.frombuffer(b"".join(documents), np.uint8)
    if len(train) < wanted:
        size = len(train) + sum(map(len, held))
        raise DataError(f"the corpus {path} has {size:,} bytes, too few to hold {wanted:,} out for the evaluation")
    pool = np.frombuffer(b"".join(held), np.uint8)
    starts = np.linspace(0, len(pool) - CONTEXT - 1, HELD_OUT).astype(int)
    return Corpus(path.stem, train, pool[starts[:, None] + np.arange(CONTEXT + 1)])


def _documents(path: Path) -> list[bytes]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        return [file.read_bytes() for file in files]
    if not path.is_file():
        raise DataError(f"there is no corpus {path}; name a folder of text files, or one file")
    data, pieces, start = path.read_bytes(), [], 0
    while start < len(data):
        end = data.find(b"\n", start + _PIECE) + 1 or len(data)
        pieces.append(data[start:end])
        start = end
    return pieces
