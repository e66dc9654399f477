"""Sphinx configuration. Build: python -m sphinx -W --keep-going -b html docs docs/_build/html."""

import re
import sys
import textwrap
import warnings
from importlib import import_module
from pathlib import Path

import lossnoise
from lossnoise.corrections import CORRECTIONS

sys.path.insert(0, str(Path(__file__).parent))
from gallery_order import ORDER

project = "lossnoise"
author = "lossnoise developers"
project_copyright = "lossnoise developers"
version = release = lossnoise.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]


def format_warning(message, category, *place):
    """Return a warning as the tutorials show it: without a path of this machine."""
    return textwrap.fill(f"{category.__name__}: {message}", 88) + "\n"


warnings.formatwarning = format_warning

# The examples that are written in cells are run, and become pages with what they print and draw.
TUTORIALS = rf"({'|'.join(ORDER)})\.py$"
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "tutorials",
    "filename_pattern": f"/{TUTORIALS}",
    "ignore_pattern": f"^(?!(.*/)?{TUTORIALS})",
    "within_subsection_order": "gallery_order.place",
    "image_scrapers": ("matplotlib",),
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "abort_on_example_error": True,
}

# No intersphinx: the build needs no network. Names of other packages are not links, ours must be.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!lossnoise\.).*")]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings state types, shapes and units already
numpydoc_show_class_members = False  # autodoc lists the members itself
autosummary_generate = False

html_theme = "pydata_sphinx_theme"
html_title = "lossnoise"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}


def skip_foreign_members(app, what, name, obj, skip, options):
    """Leave out what scikit-learn's base classes bring: it has references to its own manual."""
    foreign = str(getattr(obj, "__module__", "")).startswith("sklearn.")
    return True if foreign else None


EVERY_CORRECTION = ".. Here conf.py puts the class of each correction."
SECTION = re.compile(r"^(\S[^\n]*\n-+\n)(.*?)(?=^\S[^\n]*\n-+\n|\Z)", re.M | re.S)


def complete_reference(app, docname, source):
    """Name each registered correction, and begin each section with a table of the names in it."""
    if docname == "api":
        names = [f"lossnoise.corrections.{kind.__name__}" for kind in CORRECTIONS.values()]
        classes = "\n\n".join(f".. autoclass:: {name}" for name in names)
        source[0] = SECTION.sub(_with_table, source[0].replace(EVERY_CORRECTION, classes))


def _with_table(section):
    names = re.findall(r"^\.\. auto\w+:: (\S+)", section[2], re.M)
    rows = "".join(f"   ~{name}\n" for name in names)
    return f"{section[1]}\n.. autosummary::\n   :nosignatures:\n\n{rows}\n{section[2]}"


# The recorders for other people's loops, also where those packages are not installed.
for extra, name in (
    ("huggingface", "HuggingFaceLossRecorder"),
    ("lightning", "LightningLossRecorder"),
    ("skorch", "SkorchLossRecorder"),
):
    recorder = getattr(import_module(f"lossnoise.integrations._{extra}"), name)
    setattr(import_module(f"lossnoise.integrations.{extra}"), name, recorder)


def setup(app):
    app.connect("autodoc-skip-member", skip_foreign_members)
    app.connect("source-read", complete_reference)
