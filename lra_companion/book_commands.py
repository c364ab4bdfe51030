"""The commands that make notebooks and the book of them: notebook, reproduce, book."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_companion import notebooks, profiles
from lra_companion.endings import interruptible, report
from lra_companion.experiments import ClaimsParameters
from lra_companion.options import (
    RESULTS,
    Device,
    Jobs,
    Profile,
    Results,
    Scheduler,
    file_to_write,
    folder_to_write,
    processes,
)
from lra_companion.places import trained_at
from lra_companion.status_page import TABLE, status_table
from lra_companion.store import write_whole

Build = Annotated[Path, typer.Option(help="Folder in which the book is built.", callback=folder_to_write)]
BUILD = Path("build/book")
PUBLISHED = profiles.BOOK / "results"


def notebook(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A notebook of the book, such as 05_regularisation.")],
    profile: Profile = "quick",
    output_dir: Annotated[
        Path, typer.Option(help="Where the executed notebook goes.", callback=folder_to_write)
    ] = Path("build/notebooks"),
    results: Results = RESULTS,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Run one notebook with the profile's parameters, changed by any number of -p NAME VALUE."""
    changes = _changes(context.args)
    with trained_at(device, scheduler), interruptible(results):
        print(notebooks.run_notebook(name, profile, changes, output_dir, results, processes(jobs)))


def reproduce(
    profile: Profile = "quick",
    results: Results = RESULTS,
    build: Build = BUILD,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Train what the store does not hold yet, run every notebook, build the book. A chapter that the profile leaves out is made
    under `quick`.
    """
    given = profiles.profile_runs(profile)  # wrong parameters stop here, before anything is done
    chapters = {name: (profile if name in given else "quick", results) for name in profiles.NOTEBOOKS}
    with trained_at(device, scheduler), interruptible(results):
        failed = _build_book(chapters, build, processes(jobs))
    shown = [
        run
        for name, (used, _) in chapters.items()
        for run in profiles.parameters_of(name, used, {}, ".", 1).runs()
    ]
    report(shown, results, pages=failed)


def book(
    build: Build = BUILD,
    picture: Annotated[
        Path | None,
        typer.Option(help="Save the picture that README shows to this file.", callback=file_to_write),
    ] = None,
) -> None:
    """Build the book from the committed results, training nothing: each chapter under the profile `paper` where its runs are
    complete, else under `quick`.
    """
    shown = {name: profiles.published_profile(name, PUBLISHED) for name in profiles.NOTEBOOKS}
    chapters = {name: (profile, PUBLISHED / profile) for name, profile in shown.items()}
    claims_chapter = ClaimsParameters.chapter  # reads the others' runs, each under its own profile
    chapters[claims_chapter] = (shown[claims_chapter], PUBLISHED)
    report([], PUBLISHED, pages=_build_book(chapters, build, jobs=1))
    if picture is not None:
        notebooks.save_figure(build / "notebooks" / "05_regularisation.ipynb", "fig-accuracy", picture)


def _build_book(chapters: dict[str, tuple[str, Path]], build: Path, jobs: int) -> list[str]:
    """Each chapter under its profile and from its results; then the site. Returns what is said of chapters that failed."""
    notebooks.copy_book(build)
    folder = build / "notebooks"
    seconds: dict[str, float] = {}
    failed: list[str] = []
    for name, (profile, results) in chapters.items():
        try:
            seconds[name] = _timed(
                name,
                lambda name=name, profile=profile, results=results: notebooks.run_notebook(
                    name, profile, {}, folder, results, jobs
                ),
            )
        except notebooks.NotebookFailedError as error:
            failed.append(str(error))
            notebooks.write_excuse(name, error, folder)
    write_whole(build / TABLE, status_table(chapters, seconds))
    _timed("book", lambda: notebooks.build_site(build, complete=not failed))
    print(f"open {build / '_build' / 'html' / 'index.html'}")
    return failed


def _timed(what: str, action: Callable[[], object]) -> float:
    """Do it, say so, and return the seconds it took."""
    print(f"{what} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    action()
    seconds = time.monotonic() - start
    print(f"{what}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return seconds


def _changes(arguments: list[str]) -> dict[str, Any]:
    """-p NAME VALUE, any number of times: typer has no options with two values that may be repeated."""
    changes: dict[str, Any] = {}
    while arguments:
        flag, *rest = arguments
        if flag not in ("-p", "--parameter"):
            raise ValueError(f"{flag}: is no option of notebook; parameters are changed by -p NAME VALUE")
        if len(rest) < 2:
            raise ValueError(f"{flag} {' '.join(rest)}: needs a name and a value")
        name, text, *arguments = rest
        changes[name] = profiles.read_yaml(name, text)
    return changes
