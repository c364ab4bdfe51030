"""Using the book as a reader does, without a mouse: moving about, searching, switching to dark, printing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from browsing import BOOK, FACTS, VIEWS, listen, ready
from lra_companion.notebooks import build_site
from lra_companion.printing import printed

Open = Callable[[str, str], Page]

# The focused element: what it is, whether it can be seen, and whether something marks it.
FOCUS = """() => {
  const element = document.activeElement, box = element.getBoundingClientRect();
  const looks = () => {
    const style = getComputedStyle(element);
    return [style.outlineStyle === "none" ? "" : style.outline, style.boxShadow].join();
  };
  const focused = looks();
  element.blur();
  const plain = looks();
  element.focus();
  return {
    name: (element.getAttribute("aria-label") || element.textContent || element.title || element.placeholder).trim(),
    tag: element.tagName,
    shown: box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    marked: focused !== plain,
  };
}"""


@pytest.fixture
def open_at(browser: Browser) -> Iterator[Open]:
    """Open a page of the book and leave it open; whatever it complains of by then fails the test."""
    contexts, heard = [], []

    def open_(name: str, view: str) -> Page:
        contexts.append(browser.new_context(**VIEWS[view], offline=True))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        heard.append(listen(page))
        page.goto((BOOK / f"{name}.html").as_uri())
        ready(page)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [complaint for each in heard for one in each for complaint in one] == []


def tabbed(page: Page, most: int) -> list[dict[str, Any]]:
    """What the focus comes to by the tab key, until it leaves the page or that many times."""
    stops: list[dict[str, Any]] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        page.wait_for_timeout(400 if not stops else 0)  # the link to the text slides in
        stop = page.evaluate(FOCUS)
        if stop["tag"] == "BODY":
            break
        stops.append(stop)
    return stops


# Keyboard


@pytest.mark.parametrize("view", ["phone-light", "desktop-light", "desktop-dark"])
def test_the_first_stop_skips_to_the_text(view: str, open_at: Open) -> None:
    page = open_at("method", view)
    page.keyboard.press("Tab")
    page.wait_for_timeout(500)
    stop = page.evaluate(FOCUS)
    assert stop["name"] == "Skip to main content" and stop["shown"]
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")
    (stop,) = tabbed(page, 1)
    assert page.evaluate("document.activeElement.closest('main') !== null"), stop


@pytest.mark.parametrize("view", ["desktop-light", "desktop-dark"])
def test_tabs_come_to_search_then_menu_then_text_and_all_show_it(view: str, open_at: Open) -> None:
    page = open_at("notebooks/05_regularisation", view)
    stops = tabbed(page, 60)
    names = [stop["name"] for stop in stops]
    search, first, last = (
        next(place for place, name in enumerate(names) if name.startswith(begin))
        for begin in ("Search", "Can LRA RNNs", "Changelog")
    )
    assert search < first < last
    assert any(stop["tag"] == "SUMMARY" for stop in stops[last:]), "the text's folded code"
    assert [stop["name"] for stop in stops if not stop["shown"]] == []
    assert [stop["name"] for stop in stops if not stop["marked"]] == []


def test_on_a_phone_the_menu_opens_and_closes_by_keys(open_at: Open) -> None:
    page = open_at("method", "phone-light")
    toggle = page.locator("button.primary-toggle")
    toggle.focus()
    page.keyboard.press("Enter")
    menu = page.locator("#pst-primary-sidebar-modal")
    menu.wait_for(state="visible")
    stops = tabbed(page, 3)
    assert page.evaluate("document.activeElement.closest('#pst-primary-sidebar-modal') !== null"), stops
    page.keyboard.press("Escape")
    menu.wait_for(state="hidden")


def test_a_link_is_followed_by_keys(open_at: Open) -> None:
    page = open_at("intro", "desktop-light")
    page.locator("nav.bd-links a", has_text="Glossary").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/glossary.html")


# Search


def found(page: Page, words: str) -> list[str]:
    """Search by keys alone; the links of what is found."""
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog").wait_for(state="visible")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.locator("#search-results p.search-summary", has_text=re.compile("found|did not match")).wait_for()
    page.wait_for_timeout(300)
    return [link.evaluate("link => link.href") for link in page.locator("ul.search li > a").all()]


@pytest.mark.parametrize("view", ["phone-light", "desktop-dark"])
def test_search_finds_a_word(view: str, open_at: Open) -> None:
    page = open_at("notebooks/01_tasks", view)
    links = found(page, "displacement")
    assert len(links) > 3
    files = [Path(unquote(urlsplit(link).path)) for link in links]
    assert all("displacement" in file.read_text(encoding="utf-8").lower() for file in files)
    assert BOOK / "why_it_vanishes.html" in files
    page.locator("ul.search li > a").first.click()
    page.wait_for_url(links[0] if "#" in links[0] else f"{links[0]}**")


def test_search_finds_nothing_where_there_is_nothing(open_at: Open) -> None:
    assert found(open_at("intro", "desktop-light"), "zxqvwk") == []


# Dark and light


def test_the_button_switches_to_dark_and_stays_so(open_at: Open) -> None:
    page = open_at("method", "desktop-light")
    button = page.locator("button.theme-switch-button").first
    seen = []
    for _ in range(3):  # light, dark, and as the system has it
        button.focus()
        page.keyboard.press("Enter")
        seen.append(page.evaluate("document.documentElement.dataset.theme"))
        if seen[-1] == "dark":
            break
    assert "dark" in seen
    page.goto((BOOK / "notation.html").as_uri())
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


# On paper


def test_a_page_on_paper_has_text_and_no_buttons(open_at: Open) -> None:
    page = open_at("notebooks/10_claims", "desktop-dark")
    page.emulate_media(media="print")
    for hidden in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer", "details.hide"):
        assert not page.locator(hidden).first.is_visible(), hidden
    assert page.locator("figure img").first.is_visible()


def test_the_whole_book_is_printed(browser: Browser) -> None:
    first = build_site(BOOK.parents[1], "singlehtml").with_name("intro.html")
    context = browser.new_context(color_scheme="light", offline=True)
    page = context.new_page()
    page.goto(first.as_uri())
    ready(page)
    facts = page.evaluate(FACTS)
    context.close()
    assert len(facts["images"]) > 25 and all(image["loaded"] for image in facts["images"])
    assert facts["formulas"] > 300 and facts["formulasLeft"] == facts["formulasWrong"] == []
    document = printed(browser, first)
    assert document.startswith(b"%PDF-") and document.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type\s*/Page\b", document)) > 40
    assert b"/Outlines" in document, "no list of chapters"
    assert len(set(re.findall(rb"/Dest\s*/(\S+)", document))) > 20, "links within"
    assert b"file:" not in document, "a link to a folder of this machine"
