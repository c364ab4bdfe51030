"""Progress: silent without a terminal, a file for the process that started this one, a bar for long work only."""

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lra_companion import progress
from lra_companion.progress import FILE_VARIABLE, follow, watch


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    monkeypatch.setattr(progress, "_INTERVAL", 0.02)
    monkeypatch.setattr(progress, "_PATIENCE", 0.15)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@contextlib.contextmanager
def on_terminal() -> Iterator[Terminal]:
    """stderr is a terminal. (No fixture: between set-up and call pytest puts its own stream back.)"""
    before, stream = sys.stderr, Terminal()
    sys.stderr = stream
    try:
        yield stream
    finally:
        sys.stderr = before


def test_silent_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with watch("training", 10, lambda: 5):
        time.sleep(0.3)
    with follow(Path("nowhere")):
        time.sleep(0.1)
    assert capfd.readouterr() == ("", "")


def test_no_bar_for_short_work() -> None:
    with on_terminal() as terminal, watch("training", 10, lambda: 5):
        time.sleep(0.06)
    assert terminal.getvalue() == ""


def test_a_bar_for_long_work_on_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with on_terminal() as terminal, watch("counting sheep", 200, lambda: 50):
        assert terminal.getvalue() == ""
        time.sleep(0.6)
    text = terminal.getvalue()
    assert "counting sheep" in text and "25 %" in text and "model-iterations/s" in text
    assert capsys.readouterr().out == ""


def test_a_file_instead_of_a_bar_where_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    done = [0]
    with on_terminal() as terminal, watch("training", 40, lambda: done[0]):
        done[0] = 17
        time.sleep(0.3)
    assert json.loads(file.read_text()) == ["training", 40, 17]
    assert terminal.getvalue() == ""


def test_a_file_that_cannot_be_written_does_not_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "missing" / "progress.json"))
    with watch("training", 40, lambda: 3):
        time.sleep(0.1)


def test_following_draws_what_the_other_process_reports(tmp_path: Path) -> None:
    file = tmp_path / "progress.json"
    with on_terminal() as terminal, follow(file):
        time.sleep(0.2)  # not there yet
        for half_written in ('["train', "", '["training", 100'):
            file.write_text(half_written)
            time.sleep(0.05)
        file.write_text(json.dumps(["their work", 100, 30]))
        time.sleep(0.4)
    assert "their work" in terminal.getvalue() and "30 %" in terminal.getvalue()


def test_the_body_s_error_comes_through_and_the_cursor_comes_back() -> None:
    def work() -> None:
        with watch("training", 10, lambda: 1):
            time.sleep(0.5)
            raise KeyError("mine")

    with on_terminal() as terminal, pytest.raises(KeyError, match="mine"):
        work()
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l") >= 0
