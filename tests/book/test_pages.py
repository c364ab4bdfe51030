"""Every page of the built book, opened from its folder without a network, on a phone and on a desktop, light and dark."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from playwright.sync_api import Browser

from browsing import BOOK, VIEWS, Seen, open_page
from lra_companion import profiles

See = Callable[[Path, str], Seen]
PAGES = [
    str(file.relative_to(BOOK).with_suffix(""))
    for file in sorted(BOOK.rglob("*.html"))
    if "_static" not in file.parts
]
everywhere = pytest.mark.parametrize(
    ("name", "view"), [pytest.param(name, view, id=f"{name}-{view}") for name in PAGES for view in VIEWS]
)


def file_of(name: str) -> Path:
    return BOOK / f"{name}.html"


# As anybody sees them


def complaints(seen: Seen, view: str) -> list[str]:
    """What is wrong with a page, links apart."""
    facts = seen.facts
    width = VIEWS[view]["viewport"]["width"]
    found = [*seen.complaints]
    found += [f"asked another host: {url}" for url in seen.foreign]
    found += [f"not shown: {image['source']}" for image in facts["images"] if not image["loaded"]]
    found += [f"no alt text: {image['source']}" for image in facts["images"] if not described(image)]
    found += [f"formula not understood: {text}" for text in facts["formulasWrong"]]
    found += [f"formula not set: {text}" for text in facts["formulasLeft"]]
    if facts["width"] > width:
        found.append(f"{facts['width']} px wide where there are {width}")
    return found + [f"axe-core: {violation}" for violation in seen.violations]


def described(image: dict[str, Any]) -> bool:
    """Whether an image has words for those who do not see it; myst-nb puts the file's name where none were given."""
    alt = (image["alt"] or "").strip()
    return len(alt) > 3 and not re.search(r"\.(svg|png)$|^_images/", alt)


@everywhere
def test_a_page_is_as_it_should_be(name: str, view: str, see: See) -> None:
    assert complaints(see(file_of(name), view), view) == []


@pytest.mark.parametrize("view", VIEWS)
def test_light_and_dark_follow_the_system(view: str, see: See) -> None:
    colour = see(file_of("intro"), view).facts["background"]
    brightness = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
    assert brightness < 60 if view.endswith("dark") else brightness > 200


def test_there_is_something_to_see(see: See) -> None:
    """Formulas and figures by the hundred and the dozen: nothing was left out on the way."""
    facts = [see(file_of(name), "desktop-light").facts for name in PAGES]
    figures = {image["source"] for each in facts for image in each["images"] if "_images/" in image["source"]}
    assert sum(each["formulas"] for each in facts) > 300
    assert len(figures) > 25


WRONG = {
    "console": ("<script>console.error('on purpose')</script>", "error: on purpose"),
    "exception": ("<script>missing()</script>", "uncaught: missing is not defined"),
    "file": ("<script src='missing.js'></script>", "failed: file://"),
    "host": (
        "<img alt='a picture' src='https://example.invalid/picture.png'>",
        "asked another host: https://",
    ),
    "image": ("<img alt='a picture' src='missing.png'>", "not shown: missing.png"),
    "alt": ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>", "no alt text: data:"),
    "alt is a file": ("<img alt='_images/a.svg' src='a.svg'>", "no alt text: a.svg"),
    "formula": ("<span class='math'>x^2</span>", "formula not set: x^2"),
    "error": ("<g><g data-mml-node='merror'>x</g></g>", "formula not understood: x"),
    "wide": ("<div style='width: 2000px'>wide</div>", "px wide where there are 390"),
    "contrast": ("<p style='color: #aaa; background: #fff'>pale</p>", "axe-core: color-contrast: <p"),
    "folded": (
        "<details><p style='color: #aaa; background: #fff'>pale</p></details>",
        "axe-core: color-contrast",
    ),
    "landmark": ("</main><p>outside</p><main>", "axe-core: region: <p>outside"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_noticed(fault: str, browser: Browser, tmp_path: Path) -> None:
    markup, expected = WRONG[fault]
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><html lang='en'><meta name='viewport' content='width=device-width'><title>A page</title>"
        f"<body><main><h1>A page</h1>{markup}</main></body></html>"
    )
    found = complaints(open_page(browser, page, "phone-light"), "phone-light")
    assert any(expected in complaint for complaint in found), found
    page.write_text(page.read_text().replace(markup, ""))
    assert complaints(open_page(browser, page, "phone-light"), "phone-light") == []


# Links


class Anchors(HTMLParser):
    """The places within a page that a link may name."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.found: set[str] = {""}
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ("id", "name") and value}


@cache
def anchors(file: Path) -> set[str]:
    return Anchors(file).found


def leads_somewhere(link: str) -> bool:
    """Whether a file is there and has the place that is named; of other hosts, whether the link is safe to follow."""
    parts = urlsplit(link)
    if parts.scheme != "file":
        return parts.scheme == "https"
    file = Path(unquote(parts.path))
    return file.is_file() and (file.suffix != ".html" or unquote(parts.fragment) in anchors(file))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str, see: See) -> None:
    links = see(file_of(name), "desktop-light").facts["links"]
    assert len(links) > 15
    assert [link for link in links if not leads_somewhere(link)] == []


@pytest.mark.parametrize("link", ["nowhere.html", "intro.html#nowhere", "notebooks"])
def test_a_link_to_nowhere_is_noticed(link: str) -> None:
    assert leads_somewhere((BOOK / "intro.html").as_uri())
    assert not leads_somewhere(f"{BOOK.as_uri()}/{link}")


def test_every_notebook_can_be_downloaded(see: See) -> None:
    names = [name for name in PAGES if name.startswith("notebooks/")]
    assert len(names) == len(profiles.NOTEBOOKS)
    for name in names:
        (copy,) = {
            Path(unquote(urlsplit(link).path))
            for link in see(file_of(name), "desktop-light").facts["links"]
            if link.endswith(".ipynb")
        }
        assert copy.stem == Path(name).name
        nbformat.validate(nbformat.read(copy, as_version=4))


# Nothing of the machine that built it


MACHINE_FOLDERS = ("home", "root", "tmp", "work", "Users", "private")


def traces(text: str) -> list[str]:
    """Folders of a machine, its name and its user's, as far as they can be told from words."""
    found = re.findall(rf"(?<![\w.])/(?:{'|'.join(MACHINE_FOLDERS)})/\w+", text)
    names = [
        name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 4 and name != "localhost"
    ]
    return found + [name for name in [*names, str(profiles.ROOT)] if name in text]


def test_nothing_of_the_machine_is_in_the_book() -> None:
    ours = [
        file
        for file in BOOK.rglob("*")
        if file.suffix in (".html", ".ipynb", ".md", ".txt", ".js", ".svg", ".css", ".json", "")
        and file.is_file()
        and not {"vendor", "mathjax", "scripts", "styles", "locales"} & set(file.relative_to(BOOK).parts)
    ]
    assert len(ours) > 60
    found = {file.name: traces(file.read_text(encoding="utf-8", errors="replace")) for file in ours}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize("folder", MACHINE_FOLDERS)
@pytest.mark.parametrize("around", ["in /{}/ada", "file:///{}/x1", '{{"at": "/{}/book"}}'])
def test_a_folder_of_a_machine_is_noticed(around: str, folder: str) -> None:
    assert traces(around.format(folder))
    assert not traces(f"chapters/{folder}/part")
