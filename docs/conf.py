"""How Sphinx makes the documentation site: `make docs`.

The source folder is the checkout itself (``sphinx-build -c docs . docs/_build/html``), so that a link from one file
to another leads to the same place here as in the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import bayes_l2l  # noqa: E402

project = "bayes_l2l"
author = "bayes_l2l contributors"
version = release = bayes_l2l.__version__
language = "en"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_nb", "gallery"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "notebooks/*.ipynb",
    "models/README.md",
    "benchmarks/results/*.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
]
# Folders that hold no page are not searched.
exclude_patterns = [".*", "bayes_l2l", "build", "demo", "dist", "docs/_build", "tests"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Notebooks are shown with the outputs that are in them; a test executes them.
nb_execution_mode = "off"
nb_merge_streams = True

# `name` in a docstring links what has that name.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
python_maximum_signature_line_length = 80
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "bayes_l2l"
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_extra_path = ["root"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
