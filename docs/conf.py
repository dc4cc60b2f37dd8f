"""How Sphinx makes the site. Pages lie in ``docs/`` and beside what they are about: the sources are the repository."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs" / "_ext")]
os.environ["COLUMNS"] = "80"  # of a command's usage

from convkit.version import described  # noqa: E402

project = "convkit"
author = "the authors of convkit"
version = release = described().split()[0]

root_doc = "docs/index"
include_patterns = ["docs/**.md", "config/README.md", "benchmarks/README.md", "CONTRIBUTING.md", "examples/*/README.md"]
# What isn't looked into: Sphinx walks through the whole repository otherwise.
exclude_patterns = [".*", "build", "dist", "results", "src", "tests", "docs/_*"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated", "references", "example_report"]
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 4
# A link that leads nowhere is a warning, and a warning is an error.
nitpicky = True
# What other packages document: their pages aren't asked, for the site is built without a network.
nitpick_ignore_regex = [(r"py:.*", r"(?!convkit\b).*")]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False

# Blocks without a language aren't highlighted.
highlight_language = "text"

html_theme = "furo"
html_title = "convkit"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_extra_path = ["_root"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_copyright = False
