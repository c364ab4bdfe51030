"""Sphinx extension: buttons that lead to the book's repository, where the build is told its address.

``LRA_COMPANION_REPOSITORY`` holds the address of a public GitHub repository, ``LRA_COMPANION_BRANCH`` its branch if that is
not main. Each notebook then offers to run in Binder and in Colab, and each page can be edited. Without the address no such
button appears: a copy of the book must not lead to a place that does not exist.
"""

import os
import re

from sphinx.errors import ExtensionError

ADDRESS = "LRA_COMPANION_REPOSITORY"
BRANCH = "LRA_COMPANION_BRANCH"


def add_buttons(app, config):
    """Tell the theme where the sources are, and the page on running the book how Colab gets the package."""
    address = os.environ.get(ADDRESS, "").rstrip("/")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ExtensionError(
            f"{ADDRESS} = {address!r}: must be of the form https://github.com/OWNER/NAME, as Colab reads from nowhere else"
        )
    install = f"`%pip install git+{address or 'ADDRESS'}`"
    config.myst_substitutions = {**config.myst_substitutions, "install_in_colab": install}
    if not address:
        return
    config.html_theme_options |= {
        "repository_url": address,
        "repository_branch": os.environ.get(BRANCH) or "main",
        "path_to_docs": "book",
        "use_repository_button": True,
        "use_edit_page_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


def setup(app):
    """Register with Sphinx, ahead of the theme, which reads these options when it is told of the configuration."""
    app.connect("config-inited", add_buttons, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
