"""How Sphinx builds the documentation: see CONTRIBUTING.md, "Build the documentation"."""

import dataclasses
import importlib
import inspect
import os
import re
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # of the notebooks: they would show TensorFlow's log

import tensorflow_probability as tfp

import bgmm_jd
import bgmm_jd.sklearn

tfd = tfp.distributions

project = "bgmm_jd"
author = "The bgmm_jd authors"
copyright = "The bgmm_jd authors, Apache License 2.0"
version = release = bgmm_jd.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nitpicky = False  # the types in docstrings are prose, such as "array-like [N, D]"

# Pages.
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "smartquotes"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

# A tutorial is executed each time that its text changes ("cache"), or at every build ("force").
nb_execution_mode = os.environ.get("DOCS_EXECUTION", "cache")
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_execution_excludepatterns = ["*.ipynb"]

# The reference.
REFERENCE = [
    *(f"bgmm_jd.{name}" for name in bgmm_jd.__all__),
    "bgmm_jd.sklearn.BayesianGaussianMixture",
    "bgmm_jd.datasets.three_clusters",
    "bgmm_jd.datasets.old_faithful",
    "bgmm_jd.backend.memory_maps.MemoryMapsWarning",
    "bgmm_jd.data.far_rows.FarRowsWarning",
    "bgmm_jd.data.ties.FewValuesWarning",
    *(f"bgmm_jd.settings.{field.type.__name__}" for field in dataclasses.fields(bgmm_jd.Settings)),
]
default_role = "code"  # single backticks in docstrings
autodoc_default_options = {"exclude-members": "set_fit_request, set_score_request"}
autodoc_typehints = "none"  # numpydoc's sections have the types
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Appearance.
html_theme = "pydata_sphinx_theme"
html_title = f"bgmm_jd {version}"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
copybutton_exclude = ".linenos, .gp, .go"

# In the repository a page may link to files outside of docs/, which the site does not have.
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!decisions)[^)]+\)")
PUBLIC_NAME = re.compile(r"^\| `(\w+)` \|", flags=re.M)


def write_reference(app) -> None:
    """Write a page for each public name, from its docstring."""
    folder = Path(app.srcdir, "reference")
    folder.mkdir(exist_ok=True)
    for path in REFERENCE:
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        kind = "class" if inspect.isclass(found) else "function"
        lines = [name, "=" * len(name), "", f".. auto{kind}:: {path}"]
        if kind == "class" and not issubclass(found, tfd.Distribution):  # which has too many
            lines.append("   :members:")
        text = "\n".join([*lines, ""])
        page = folder / f"{name}.rst"
        if not page.exists() or page.read_text() != text:  # keeps what need not be built again
            page.write_text(text)


def adapt_page(app, docname: str, source: list[str]) -> None:
    """Let a page that is also read in the repository fit into the site."""
    text = source[0]
    if not docname.startswith("tutorials/"):
        text = OUTSIDE.sub(r"\1", text)
    if docname == "api":
        text = PUBLIC_NAME.sub(r"| {py:obj}`\1 <bgmm_jd.\1>` |", text)
        pages = [f"reference/{path.rpartition('.')[2]}" for path in REFERENCE]
        text = "\n".join([text, "```{toctree}", ":hidden:", *pages, "```", ""])
    if docname == "decisions/README":
        text = "\n".join([text, "```{toctree}", ":hidden:", ":glob:", "0*", "```", ""])
    source[0] = text


def setup(app) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", adapt_page)
