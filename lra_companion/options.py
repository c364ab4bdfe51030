"""Options that several commands share, and what is checked of them before anything is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_companion import places

RESULTS = Path("build/results")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Profile = Annotated[str, typer.Option(help="Which parameters: a file of book/profiles (smoke, quick, ...).")]
Jobs = Annotated[int, typer.Option(help="Processes that share the training; 0: one per core.")]


def _checked(path: Path, mode: int, may: str) -> Path:
    try:
        nearest = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    except OSError as error:
        raise typer.BadParameter(str(error.strerror)) from None
    if not nearest.is_dir():
        raise typer.BadParameter(f"{nearest} is a file, where a folder is needed")
    if not os.access(nearest, mode):
        raise typer.BadParameter(f"{nearest} may not be {may}")
    return path


def folder_to_read(path: Path) -> Path:
    """A folder, or nothing yet, where one may be. Raises BadParameter."""
    return _checked(path, os.R_OK | os.X_OK, "read")


def folder_to_write(path: Path) -> Path:
    """A folder to write in, or where one may be made. Raises BadParameter."""
    return _checked(path, os.W_OK | os.X_OK, "written")


def file_to_write(path: Path | None) -> Path | None:
    """A file that may be written, in a folder that may have to be made. Raises BadParameter."""
    if path is not None:
        folder_to_write(path.absolute().parent)
        if path.is_dir():
            raise typer.BadParameter("is a folder, where a file is needed")
    return path


def _passed_on(check: Callable[[Any], object]) -> Callable[[Any], Any]:
    def callback(value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return callback


Results = Annotated[Path, typer.Option(help="Folder of the result store.", callback=folder_to_write)]
KeptIn = Annotated[
    Path | None,
    typer.Option(
        "--results",
        help="Keep the result in this store, and go on from what it holds of the run.",
        callback=_passed_on(folder_to_write),
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where networks are trained: auto, cpu or cuda; default: cpu.",
        callback=_passed_on(places.device_name),
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler whose workers train, such as tcp://192.0.2.1:8786; default: this machine.",
        callback=_passed_on(places.scheduler_address),
    ),
]


def processes(jobs: int) -> int:
    """How many ``--jobs`` asks for: 0 is one per core that this process may use. Raises ValueError below 0."""
    if jobs < 0:
        raise ValueError(f"jobs = {jobs}: must be 0 (one per core) or more")
    return jobs or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
