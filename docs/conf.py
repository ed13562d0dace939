"""Sphinx configuration: MyST pages, and the API from the docstrings."""

import fastgen_rf

project = "fastgen_rf"
author = "the fastgen_rf authors"
project_copyright = author
version = release = fastgen_rf.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"fastgen_rf {release}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "none"  # the docstrings give types with shapes, which annotations cannot
autodoc_member_order = "bysource"
