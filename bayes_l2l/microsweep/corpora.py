"""Corpora: documents of one's own, part of them held out for the evaluation, and both in subwords."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayes_l2l.errors import DataError
from bayes_l2l.microsweep.transformer import CONTEXT, VOCABULARY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.uint16]

HELD_OUT: Final = 512  # sequences of an evaluation: some 70 kB
_HELD_SHARE: Final = 0.02  # of a corpus at least, so that the windows are of many documents
_PIECE: Final = 16_384  # bytes; a single file is cut at line ends into documents of about this size
BLOCK: Final = 8192  # windows that are shuffled among each other
_PART: Final = 2_048  # bytes; documents that are trained on are cut into parts of about this size and shuffled
_SAMPLE: Final = 2_000_000  # bytes of each corpus that subwords are learned on


@dataclass(frozen=True)
class Corpus:
    """Documents, shuffled and split.

    Parameters
    ----------
    name : str
        What the training set and its evaluation are called.
    train, held : tuple of bytes
        Parts of documents, shuffled, to train on (so that short runs read of every kind, too), and whole documents to
        evaluate on.
    """

    name: str
    train: tuple[bytes, ...]
    held: tuple[bytes, ...]


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus in subwords.

    Parameters
    ----------
    name : str
        What the training set and its evaluation are called.
    train : ndarray of uint16
        Tokens to train on.
    held : ndarray of uint16, (windows, tokens)
        Windows of documents that are not trained on; each is one token longer than `CONTEXT`.
    held_bytes : ndarray of int64, (windows,)
        Bytes that the predicted tokens of each window are.
    """

    name: str
    train: Tokens
    held: Tokens
    held_bytes: NDArray[np.int64]


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
    documents = _shuffled(_documents(path))
    size = sum(map(len, documents))
    wanted = max(HELD_OUT * CONTEXT, int(_HELD_SHARE * size))
    held: list[bytes] = []
    while documents and sum(map(len, held)) < wanted:
        held.append(documents.pop())
    if sum(map(len, documents)) < wanted:
        raise DataError(f"the corpus {path} has {size:,} bytes, too few to hold {wanted:,} out for the evaluation")
    parts = [part for document in documents for part in _pieces(document, _PART)]
    return Corpus(path.stem, tuple(_shuffled(parts)), tuple(held))


def _shuffled(texts: Sequence[bytes]) -> list[bytes]:
    """Texts, each once, in the order of their hashes: it knows no file names and no random numbers of a library."""
    by_hash = {hashlib.sha256(text).digest(): text for text in texts}
    return [by_hash[key] for key in sorted(by_hash)]


def _pieces(text: bytes, size: int) -> list[bytes]:
    """Cut a text at line ends into pieces a little larger than this."""
    pieces, start = [], 0
    while start < len(text):
        end = text.find(b"\n", start + size) + 1 or len(text)
        pieces.append(text[start:end])
        start = end
    return pieces


def _documents(path: Path) -> list[bytes]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        return [file.read_bytes() for file in files]
    if not path.is_file():
        raise DataError(f"there is no corpus {path}; name a folder of text files, or one file")
    return _pieces(path.read_bytes(), _PIECE)


def tokenize(corpora: Sequence[Corpus], needed: Mapping[str, int]) -> list[TokenizedCorpus]:
    """Learn subwords on all corpora, the same share of each, and put as much of them into these as is needed.

    Parameters
    ----------
    corpora : sequence of Corpus
        What is to be trained on.
    needed : mapping of str to int
        Tokens to train on, by corpus.

    Returns
    -------
    list of TokenizedCorpus
        With at least that many tokens to train on.

    Raises
    ------
    DataError
        If `tokenizers` is not installed, or with the name of each corpus that is too small, and what it would need.
    """
    tokenizer = _learn(corpora)
    lengths = np.array([len(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())])
    tokenized, faults = [], []
    for corpus in corpora:
        wanted, block = needed[corpus.name], BLOCK * CONTEXT
        train = _encode(tokenizer, corpus.train, math.ceil((wanted - 1) / block) * block + 1)
        if len(train) < wanted:
            faults.append(f"{corpus.name} has {len(train):,} tokens to train on and needs {wanted:,}")
            continue
        pool = _encode(tokenizer, corpus.held)
        starts = np.linspace(0, len(pool) - CONTEXT - 1, HELD_OUT).astype(int)
        held = pool[starts[:, None] + np.arange(CONTEXT + 1)]
        tokenized.append(TokenizedCorpus(corpus.name, train, held, lengths[held[:, 1:]].sum(1)))
    if faults:
        raise DataError(
            f"no run reads a token twice, and a corpus is too small for its largest: {'; '.join(faults)}; "
            "add text, or lower the budgets or the large factor"
        )
    return tokenized


def _learn(corpora: Sequence[Corpus]) -> Any:
    """A byte-level BPE: every token is some bytes, and every byte is a token."""
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError as error:
        raise DataError("training needs tokenizers; install the extra: pip install 'bayes-l2l[sweep]'") from error
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((text for corpus in corpora for text in _sample(corpus)), trainer)
    return tokenizer


def _sample(corpus: Corpus) -> Iterator[str]:
    size = 0
    for document in corpus.train:
        if size >= _SAMPLE:
            return
        yield document.decode("utf-8", errors="replace")
        size += len(document)


def _encode(tokenizer: Any, documents: Sequence[bytes], needed: float = math.inf) -> Tokens:
    """Tokens of documents, one after the other, not many more than are needed."""
    parts: list[Tokens] = []
    size = 0
    for start in range(0, len(documents), 64):
        texts = [document.decode("utf-8", errors="replace") for document in documents[start : start + 64]]
        parts += [np.array(encoded.ids, np.uint16) for encoded in tokenizer.encode_batch(texts)]
        size += sum(map(len, parts[-len(texts) :]))
        if size >= needed:
            break
    return np.concatenate(parts)[: None if needed == math.inf else int(needed)]
