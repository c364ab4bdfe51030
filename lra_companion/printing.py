"""The command ``pdf``: the built book printed as one document by Chromium, formulas, figures and links included."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lra_companion.notebooks import build_site
from lra_companion.store import write_whole

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names under which a browser that can print is looked for in PATH, in this order."""

_SCALE = 0.72  # of what a screen shows: text of about nine points
_PAGE_NUMBER = '<div style="width: 100%; font-size: 8px; text-align: center" class="pageNumber"></div>'
# All chapters are one page here: links that name its file stay within it, and those to files beside it would lead to a
# folder of this machine.
_KEEP_LINKS_WITHIN = """
for (const link of document.querySelectorAll("a[href]")) {
  if (/^https?:/.test(link.getAttribute("href"))) continue;
  const inside = link.hash && document.getElementById(decodeURIComponent(link.hash.slice(1)));
  if (inside) link.setAttribute("href", link.hash); else link.removeAttribute("href");
}
"""


def pdf(
    build: Annotated[Path, typer.Option(help="Folder in which the book was built.")] = Path("build/book"),
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("build/book.pdf"),
) -> None:
    """Print the built book as one PDF. Needs playwright (the extra dev) and a Chromium in PATH."""
    if not (build / "_build" / "html").is_dir():
        raise ValueError(f"build = '{build}': holds no built book; make it with: lra-companion book")
    with launched() as browser:
        first = build_site(build, "singlehtml").with_name(
            "intro.html"
        )  # holds all others; the front only leads there
        write_whole(output, printed(browser, first))
    print(output)


@contextlib.contextmanager
def launched() -> Generator[Browser]:
    """A headless Chromium, closed at the end. Raises RuntimeError where there is none, or no playwright to steer it."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise RuntimeError(f"no Chromium found in PATH; looked for {', '.join(BROWSERS)}")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise RuntimeError("playwright is not installed; it comes with the extra dev (make setup)") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()


def printed(browser: Browser, file: Path) -> bytes:
    """The PDF of a page that holds the whole book."""
    page = browser.new_page(color_scheme="light", offline=True)
    page.goto(file.resolve().as_uri())
    page.evaluate("MathJax.startup.promise.then(() => true)")  # until the formulas are set
    page.evaluate(f"(() => {{ {_KEEP_LINKS_WITHIN} }})()")
    return page.pdf(
        format="A4",
        scale=_SCALE,
        margin={"top": "16mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
        print_background=True,
        tagged=True,
        outline=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=_PAGE_NUMBER,
    )
