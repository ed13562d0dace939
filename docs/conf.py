"""Sphinx configuration: MyST pages, and a page for each public name. The site loads nothing from other servers."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import fastgen_rf

project = "fastgen_rf"
author = "the fastgen_rf authors"
project_copyright = author
version = release = fastgen_rf.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True

html_theme = "pydata_sphinx_theme"
html_title = f"fastgen_rf {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_sidebars = {"start/index": [], "faq": []}  # These pages have no subpages.
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "show_toc_level": 2,
    # The gallery has no table of contents on the right, because its programs need the width.
    "secondary_sidebar_items": {"gallery/*": [], "[!g]**": ["page-toc"]},
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_math_renderer = "mathml"

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # The docstrings state types and shapes.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 60  # A longer signature has one line for each parameter.
napoleon_google_docstring = False
napoleon_use_param = False  # Keep "x0, eps : ..." as one entry.
napoleon_use_rtype = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app):
    """Write mathematics as MathML, which browsers show without a script; show dark pictures on dark pages."""
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("doctree-read", add_dark_pictures, priority=400)  # before Sphinx collects the pictures, at 500


def add_dark_pictures(app, doctree):
    """Next to each ``NAME.png``, insert ``NAME_dark.png`` if it exists; the theme shows one of the two."""
    for light in list(doctree.findall(nodes.image)):
        uri = light["uri"].removesuffix(".png") + "_dark.png"
        if Path(app.env.relfn2path(uri)[1]).exists():
            dark = light.deepcopy()
            dark["uri"] = uri
            light["classes"].append("only-light")
            dark["classes"].append("only-dark")
            light.parent.insert(light.parent.index(light) + 1, dark)


def inline_math(translator, node):
    translator.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def display_math(translator, node):
    translator.body.append(f'<div class="math">{mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


def mathml(node, block):
    return tex2mathml(node.astext(), as_block=block)
