"""The command pdf, as far as it goes without a browser; tests/book prints the book."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lra_companion import cli, printing


def test_without_a_book_nothing_is_printed(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli.app, ["pdf", "--build", str(tmp_path), "--output", str(tmp_path / "book.pdf")]
    )
    assert isinstance(done.exception, ValueError)
    assert (
        str(done.exception) == f"build = '{tmp_path}': holds no built book; make it with: lra-companion book"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_a_browser_the_book_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_build" / "html").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(printing, "build_site", lambda *_: pytest.fail("built"))
    done = CliRunner().invoke(
        cli.app, ["pdf", "--build", str(tmp_path), "--output", str(tmp_path / "book.pdf")]
    )
    assert isinstance(done.exception, RuntimeError)
    assert str(done.exception) == f"no Chromium found in PATH; looked for {', '.join(printing.BROWSERS)}"
    assert [file.name for file in tmp_path.iterdir()] == ["_build"]
