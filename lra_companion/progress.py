"""Progress of long work: a bar on stderr where there is a terminal, a small file where another process draws the bar."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

FILE_VARIABLE = "LRA_COMPANION_PROGRESS"
"""Environment variable: the file in which a process without a terminal keeps its progress, for the one that started it."""

_PATIENCE = 2.0  # seconds before a bar appears: shorter work needs none
_INTERVAL = 0.5  # seconds between two looks

Report = tuple[str, int, int]  # description, total, done


@contextlib.contextmanager
def watch(description: str, total: int, done: Callable[[], int]) -> Generator[None]:
    """Show how far ``done()`` has come towards ``total`` while the body runs."""
    file = os.environ.get(FILE_VARIABLE)
    if file:

        def write() -> None:
            with contextlib.suppress(OSError):  # progress is a courtesy: it must not end the work
                Path(file).write_text(json.dumps([description, total, done()]), encoding="utf-8")

        with _every_interval(write):
            yield
    elif sys.stderr.isatty():
        with _bar() as show, _every_interval(lambda: show((description, total, done()))):
            yield
    else:
        yield


@contextlib.contextmanager
def follow(file: Path) -> Generator[None]:
    """While the body runs, draw the progress that a child process keeps in ``file``."""
    if not sys.stderr.isatty():
        yield
        return

    def read() -> None:
        with contextlib.suppress(OSError, ValueError):  # not there yet, or just being written
            description, total, done = json.loads(file.read_text(encoding="utf-8"))
            show((description, total, done))

    with _bar() as show, _every_interval(read):
        yield


@contextlib.contextmanager
def _every_interval(action: Callable[[], None]) -> Generator[None]:
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(_INTERVAL):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _bar() -> Generator[Callable[[Report], None]]:
    """A bar with rate and remaining time, drawn from the moment the work has lasted ``_PATIENCE`` seconds."""
    started = time.monotonic()
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]:,.0f} model-iterations/s"),
        TimeRemainingColumn(),
    ]
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks: list[TaskID] = []

    def show(report: Report) -> None:
        description, total, done = report
        elapsed = time.monotonic() - started
        if elapsed < _PATIENCE:
            return
        if not tasks:
            progress.start()
            tasks.append(progress.add_task(description, total=total, rate=0.0))
        progress.update(tasks[0], description=description, total=total, completed=done, rate=done / elapsed)

    try:
        yield show
    finally:
        progress.stop()
