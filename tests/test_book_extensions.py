"""What the book's own Sphinx extensions do to pages, on a small book with the real one's configuration."""

import hashlib
import importlib.util
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
from sphinx.errors import ExtensionError

from lra_companion.notebooks import build_site
from lra_companion.profiles import BOOK, ROOT

ADDRESS = "https://github.com/somebody/something"
PAGE = """# A page

See {cite:t}`manchev2025`, and the {doc}`notebook <notebooks/01_tasks>`. In Colab first: {{ install_in_colab }}.

```{bibliography}
:style: plain
```
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of a page and an executed notebook."""
    folder = tmp_path_factory.mktemp("book")
    for name in ("_ext", "_static", "_templates"):
        shutil.copytree(BOOK / name, folder / name)
    for name in ("_config.yml", "references.bib", "logo.svg", "favicon.svg"):
        shutil.copyfile(BOOK / name, folder / name)
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: notebooks/01_tasks\n", encoding="utf-8"
    )
    (folder / "intro.md").write_text(PAGE, encoding="utf-8")
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    table = (
        "<table><thead><tr><th></th><th>value</th></tr></thead></table>"  # as pandas writes the corner of one
    )
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# A notebook", id="title"),
        nbformat.v4.new_code_cell(
            "table",
            id="table",
            execution_count=1,
            outputs=[nbformat.v4.new_output("execute_result", {"text/html": table}, execution_count=1)],
        ),
    ]
    (folder / "notebooks").mkdir()
    nbformat.write(notebook, folder / "notebooks" / "01_tasks.ipynb")
    return folder


def built(book: Path, **environment: str) -> dict[str, str]:
    """The site's pages, built anew."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LRA_COMPANION_REPOSITORY", "LRA_COMPANION_BRANCH"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        site = build_site(book).parent
    return {
        name: (site / f"{name}.html").read_text(encoding="utf-8") for name in ("intro", "notebooks/01_tasks")
    }


@pytest.fixture(scope="module")
def plain(book: Path) -> dict[str, str]:
    """Its pages where no address is given."""
    return built(book)


def links(page: str) -> list[str]:
    return re.findall(r'href="(https://[^"]+)"', page)


def text_of(page: str) -> str:
    return re.sub(r"<[^>]*>", "", page)


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
def test_buttons_appear_with_an_address_alone_and_the_site_does_not_depend_on_its_past(
    book: Path, plain: dict[str, str]
) -> None:
    before = checksums(book / "_build" / "html")
    assert all(
        "github.com" not in link and "binder" not in link for page in plain.values() for link in links(page)
    )
    assert "%pip install git+ADDRESS" in text_of(plain["intro"])

    buttons = built(book, LRA_COMPANION_REPOSITORY=ADDRESS, LRA_COMPANION_BRANCH="published")
    assert {f"{ADDRESS}/edit/published/book/intro.md", ADDRESS} <= set(links(buttons["intro"]))
    assert not [link for link in links(buttons["intro"]) if "binder" in link or "colab" in link]
    assert f"%pip install git+{ADDRESS}" in text_of(buttons["intro"])
    found = links(buttons["notebooks/01_tasks"])
    (binder,) = (link for link in found if "binder" in link)
    (colab,) = (link for link in found if "colab" in link)
    (opened,) = parse_qs(urlsplit(binder).query)["urlpath"]
    assert binder.startswith("https://mybinder.org/v2/gh/somebody/something/published?")
    assert (ROOT / opened.removeprefix("lab/tree/")).is_file()
    start = "https://colab.research.google.com/github/somebody/something/blob/published/"
    assert colab.startswith(start) and (ROOT / colab.removeprefix(start)).is_file()

    assert built(book) == plain
    assert checksums(book / "_build" / "html") == before


@pytest.mark.slow
def test_faulty_markup_is_repaired(plain: dict[str, str]) -> None:
    assert "<td></td><th>value</th>" in plain["notebooks/01_tasks"]
    assert 'class="citation"' in plain["intro"] and "doc-biblioentry" not in plain["intro"]
    assert re.search(r'<nav aria-label="Home">\s*<a class="navbar-brand logo"', plain["intro"])


def extension(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, BOOK / "_ext" / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "address",
    [
        "somebody/something",
        "http://github.com/somebody/something",
        "https://github.com/somebody",
        "https://github.com/somebody/something/tree/main",
        "https://elsewhere.example/somebody/something",
        'https://github.com/some"body/x',
    ],
)
def test_an_address_that_buttons_cannot_use_ends_the_build(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRA_COMPANION_REPOSITORY", address)
    config = SimpleNamespace(html_theme_options={}, myst_substitutions={})
    with pytest.raises(
        ExtensionError, match=r"^LRA_COMPANION_REPOSITORY = .*must be of the form https://github\.com/"
    ):
        extension("repository").add_buttons(None, config)
    assert config == SimpleNamespace(html_theme_options={}, myst_substitutions={})
