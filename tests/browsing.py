"""A page as a Chromium without a network shows it: what the tests of the built book share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

BOOK = Path(
    os.environ.get("LRA_COMPANION_BOOK", Path(__file__).parents[1] / "build" / "book" / "_build" / "html")
).resolve()
VIEWS: dict[str, dict[str, Any]] = {
    f"{device}-{scheme}": {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
    for device, width, height in (("phone", 390, 844), ("desktop", 1280, 900))
    for scheme in ("light", "dark")
}


@dataclass(frozen=True)
class Seen:
    """What became of opening a page: what it complained of, what it asked other hosts for, facts about its elements, and what
    axe-core objects to.
    """

    complaints: list[str]
    foreign: list[str]
    facts: dict[str, Any]
    violations: list[str]


# Folded code has to be legible as well; it fades in.
UNFOLD = """async () => {
  document.querySelectorAll("details").forEach(each => { each.open = true });
  await new Promise(requestAnimationFrame);
  await Promise.all(document.getAnimations().map(animation => animation.finished));
}"""
FACTS = """() => {
  const all = selector => [...document.querySelectorAll(selector)];
  return {
    width: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
    images: all("img").map(image => ({
      source: image.getAttribute("src"), alt: image.getAttribute("alt"), loaded: image.complete && image.naturalWidth > 0
    })),
    links: all("a[href]").map(link => link.href),
    identifiers: all("[id]").map(element => element.id),
    formulas: all(".math mjx-container > svg").length,
    formulasLeft: all(".math")
      .filter(element => !element.querySelector("mjx-container > svg")).map(element => element.textContent),
    formulasWrong: all("[data-mml-node=merror]").map(element => element.parentElement.textContent),
  };
}"""


def ready(page: Page) -> None:
    """Wait until the formulas are set, where the page has any."""
    page.evaluate("window.MathJax?.startup ? MathJax.startup.promise.then(() => true) : true")


def listen(page: Page) -> tuple[list[str], list[str]]:
    """What a page will complain of (console, exceptions, requests that fail), and what it will ask other hosts for."""
    complaints: list[str] = []
    foreign: list[str] = []

    def on_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):  # the theme logs each change between light and dark
            complaints.append(f"{message.type}: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            foreign.append(request.url)

    page.on("console", on_message)
    page.on("request", on_request)
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    return complaints, foreign


def open_page(browser: Browser, file: Path, view: str) -> Seen:
    """Open a page as a file, look around, and close it."""
    with browser.new_context(**VIEWS[view], offline=True) as context:
        page = context.new_page()
        complaints, foreign = listen(page)
        page.goto(file.as_uri())
        if 'http-equiv="Refresh"' in file.read_text(encoding="utf-8"):
            page.wait_for_url(lambda url: url != file.as_uri(), wait_until="load")
        ready(page)
        page.evaluate(UNFOLD)
        facts = page.evaluate(FACTS)
        options: dict[str, Any] = {
            "resultTypes": ["violations"],
            "preload": False,
        }  # it would fetch style sheets
        if view.endswith("dark"):  # what does not depend on colours was seen in light
            options["runOnly"] = ["color-contrast"]
        violations = [
            f"{violation['id']}: {node['html'][:150]}"
            for violation in Axe().run(page, options=options).response["violations"]
            for node in violation["nodes"]
        ]
    return Seen(complaints, foreign, facts, violations)
