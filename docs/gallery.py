"""The notebooks as cards: a picture out of each, its title and a sentence; a directive of the site's own.

Each line of the directive is ``NAME NUMBER: SENTENCE``: the notebook, which of its pictures is shown, and what it does.
"""

from __future__ import annotations

import base64
import json
from itertools import islice
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
MADE = "docs/_build/gallery"


class Gallery(SphinxDirective):
    """A card a notebook."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write the pictures, and Markdown that links them."""
        cards = nodes.container(classes=["gallery"])
        for line in self.content:
            about, _, sentence = line.partition(": ")
            name, number = about.split()
            notebook = ROOT / "notebooks" / f"{name}.ipynb"
            self.env.note_dependency(str(notebook))
            cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
            title = cells[0]["source"][0].lstrip("# ").strip()
            target = ROOT / MADE / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture(cells, int(number)))
            card = nodes.container(classes=["card"])
            link = f"/notebooks/{name}.ipynb"
            card += self.parse_text_to_nodes(f"[![](/{MADE}/{name}.png)]({link})\n\n[{title}]({link})\n\n{sentence}")
            cards += card
        return [cards]


def picture(cells: list[dict[str, Any]], number: int) -> bytes:
    """A picture among a notebook's outputs, counted from 1."""
    found = (out["data"]["image/png"] for cell in cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {}))
    return base64.b64decode(next(islice(found, number - 1, None)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True}
