"""Sphinx extension: the book's formulas are set by a MathJax that lies beside the pages, without any network.

MathJax 3.2.2 comes from the package sphinx-mathjax-offline, whose own extension would choose web fonts; Firefox
blocks those in pages opened from a folder. SVG output needs no fonts. The script must not lie in book/_static:
Jupyter Book puts every script found there on every page.
"""

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from sphinx.errors import ExtensionError

SCRIPT = "tex-mml-svg.js"
ON_DEMAND = "input/tex/extensions"  # loaded by the script where a formula uses, say, \cancel


def choose_local_mathjax(app, config):
    """Point the pages at the copy; paths are relative to _static."""
    config.mathjax_path = f"mathjax/{SCRIPT}"


def copy_mathjax(app):
    """Copy what the pages need before they are written, so that their links carry the file's checksum."""
    if app.builder.format != "html":
        return
    try:
        source = Path(
            distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax")
        )
        target = Path(app.outdir) / "_static" / "mathjax"
        shutil.copytree(source / ON_DEMAND, target / ON_DEMAND, dirs_exist_ok=True)
        shutil.copyfile(source / SCRIPT, target / SCRIPT)
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise ExtensionError(f"no MathJax to copy; install sphinx-mathjax-offline ({error})") from error


def setup(app):
    """Register with Sphinx."""
    app.connect("config-inited", choose_local_mathjax)
    app.connect("builder-inited", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
