"""The built book must be there; one Chromium for all tests, and each page opened once in a view, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browsing import BOOK, Seen, open_page
from lra_companion.printing import launched


def pytest_sessionstart() -> None:
    """Without a book there is nothing to test."""
    if not (BOOK / "index.html").is_file():
        pytest.exit(
            f"no book in {BOOK}: make book builds one, LRA_COMPANION_BOOK names another", returncode=2
        )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def see(browser: Browser) -> Callable[[Path, str], Seen]:
    """Open a page in a view; once, however many tests ask for it."""
    return cache(lambda file, view: open_page(browser, file, view))
