"""The notebooks as cards: a picture out of each, its title and a sentence; a directive of the site's own.

Each line of the directive is ``NAME NUMBER: SENTENCE``: the notebook, which of its pictures is shown, and what it
does.
"""

from __future__ import annotations

import base64
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Gallery(SphinxDirective):
    """A card a notebook."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Take the pictures out, and make the cards."""
        return [nodes.container("", *map(self.card, self.content), classes=["gallery"])]

    def card(self, line: str) -> nodes.Node:
        """One notebook, its picture and title linked."""
        about, _, sentence = line.partition(": ")
        name, number = about.split()
        notebook = Path(self.env.srcdir, "notebooks", f"{name}.ipynb")
        self.env.note_dependency(str(notebook))
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        title = cells[0]["source"][0].lstrip("# ").strip()
        target = Path(self.env.doctreedir, "gallery", f"{name}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture(cells, int(number)))
        image = nodes.image(uri=f"/{os.path.relpath(target, self.env.srcdir)}", alt=f"A picture of {title}")
        lines = [self.link(name, image), self.link(name, nodes.inline("", title)), nodes.Text(sentence)]
        return nodes.container("", *(nodes.paragraph("", "", each) for each in lines), classes=["card"])

    def link(self, name: str, shown: nodes.Node) -> nodes.Node:
        """What is shown, as a link to the notebook's page."""
        address = self.env.app.builder.get_relative_uri(self.env.docname, f"notebooks/{name}")
        return nodes.reference("", "", shown, internal=True, refuri=address)


def picture(cells: list[dict[str, Any]], number: int) -> bytes:
    """A picture among a notebook's outputs, counted from 1."""
    found = [out.get("data", {}) for cell in cells for out in cell.get("outputs", [])]
    encoded = (data["image/png"] for data in found if "image/png" in data)
    return base64.b64decode(next(islice(encoded, number - 1, None)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True}
