"""Where results go: stored as JSON, a page of them beside it, and what is new to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bayes_l2l.files import write_whole


def store(path: Path, stored: Mapping[str, Any], new: str, as_markdown: Callable[[Mapping[str, Any]], str]) -> None:
    """Write all sections, and show the new one."""
    text, page = json.dumps(stored, indent=1) + "\n", as_markdown(stored)
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    write_whole(path.with_suffix(".md"), lambda part: part.write_text(page, encoding="utf-8"))
    sys.stdout.write(as_markdown({new: stored[new]}))
