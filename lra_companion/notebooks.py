"""Papermill and Jupyter Book: run the book's notebooks with checked parameters, and build the site from what they leave.

A notebook runs into a temporary file, which is renamed when it succeeded; machine paths and times that papermill notes go out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Literal

import nbformat
import papermill

from lra_companion.memory import device_memory, refuse_too_large
from lra_companion.places import scheduler_address, usable_device
from lra_companion.profiles import BOOK, ROOT, parameters_of
from lra_companion.progress import FILE_VARIABLE, follow
from lra_companion.store import write_whole

CHANGELOG = ROOT / "CHANGELOG.md"  # lies where visitors of the repository look, and is a page of the book


class NotebookFailedError(RuntimeError):
    """A notebook stopped with an error; ``kind`` is the error's name."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def run_notebook(
    name: str, profile: str, changes: Mapping[str, Any], output_folder: Path, results: Path, jobs: int
) -> Path:
    """Execute a notebook into ``output_folder``; return the file.

    The parameters are checked first, so that wrong ones leave nothing behind; a failed run leaves an earlier output as it was.
    Raises ValueError for wrong parameters, NotebookFailedError where a cell fails.
    """
    folder = output_folder.resolve()
    seen_from_notebook = os.path.relpath(results.resolve(), folder)  # no machine path gets into the notebook
    parameters = parameters_of(name, profile, changes, seen_from_notebook, jobs)
    if scheduler_address() is None:  # else its workers have the memory
        refuse_too_large(parameters.runs(), device_memory(usable_device()))
    source = BOOK / "notebooks" / f"{name}.ipynb"
    _check_source(source)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.name
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / source.name
        with _reported_progress(Path(scratch) / "progress.json"):
            try:
                papermill.execute_notebook(
                    source,
                    draft,
                    parameters=parameters.model_dump(mode="json", exclude_none=True),
                    kernel_name="python3",
                    cwd=folder,
                    progress_bar=False,
                    log_output=False,
                    extra_arguments=[
                        "--IPKernelApp.log_level=CRITICAL"
                    ],  # else it tells of its transport and its end
                    shutdown_kernel="immediate",  # in mid-training it would not hear that it is asked to end
                )
            except papermill.PapermillExecutionError as error:
                raise NotebookFailedError(f"{name}: {error.ename}: {error.evalue}", error.ename) from None
            except RuntimeError as error:  # the kernel died, or never came up
                kind = type(error).__name__
                raise NotebookFailedError(f"{name}: {kind}: {error}", kind) from None
        notebook = nbformat.read(draft, as_version=4)
    _forget_the_machine(notebook)
    _hide_parameters(notebook)
    write_whole(target, nbformat.writes(notebook) + "\n")
    return target


def copy_book(target: Path) -> None:
    """A fresh copy of the book's pages, without notebooks, results, profiles and settings; executed notebooks are kept."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(
        BOOK,
        target,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("notebooks", "results", "profiles", "settings", "_build"),
    )
    shutil.copyfile(CHANGELOG, target / CHANGELOG.name)


def write_excuse(name: str, error: NotebookFailedError, folder: Path) -> None:
    """A page in place of a notebook that failed: its title, and a note that says so."""
    source = nbformat.read(BOOK / "notebooks" / f"{name}.ipynb", as_version=4)
    title = next(line for line in source.cells[0].source.splitlines() if line.startswith("# "))
    # The error's name alone: its message may hold paths of this machine.
    note = (
        ":::{error}\n"
        f"This page could not be made: its notebook stopped with `{error.kind}`. The command that built the book has said why; "
        "`lra-companion status` lists runs that failed. The same command tries again.\n:::"
    )
    cells = [
        nbformat.v4.new_markdown_cell(text, id=place) for place, text in (("title", title), ("note", note))
    ]
    page = nbformat.v4.new_notebook(metadata=source.metadata, cells=cells)
    write_whole(folder / f"{name}.ipynb", nbformat.writes(page) + "\n")


def build_site(folder: Path, builder: Literal["html", "singlehtml"] = "html", complete: bool = True) -> Path:
    """Build the site of a book folder; return its front page. Raises RuntimeError with the log.

    complete: whether every page is there. Then warnings are errors; else some tell of what would have been on the others.
    An earlier site goes first: what Sphinx leaves as it was would make a site that depends on its past.
    builder: ``html`` makes a page for each chapter, ``singlehtml`` one that holds them all.
    """
    site = folder / "_build" / builder
    shutil.rmtree(site, ignore_errors=True)
    command = [
        Path(sys.executable).with_name("jupyter-book"),
        "build",
        folder,
        "--builder",
        builder,
        *(["-W", "--keep-going"] if complete else []),
        "-n",
        "--quiet",
    ]
    log = folder / "build.log"
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
        raise RuntimeError(f"jupyter-book failed; the end of {log}:\n{tail}")
    return site / "index.html"


def save_figure(executed: Path, name: str, target: Path) -> None:
    """Save the SVG of the figure called ``name`` in an executed notebook as a file."""
    notebook = nbformat.read(executed, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            (drawing,) = (
                output.data["image/svg+xml"]
                for output in cell.outputs
                if "image/svg+xml" in output.get("data", {})
            )
            write_whole(target, drawing)
            return
    raise ValueError(f"figure = {name!r}: is not in {executed.name}")


def _check_source(source: Path) -> None:
    """Raise ValueError where a notebook of the book is not one."""
    try:
        nbformat.validate(nbformat.read(source, as_version=4))
    except (OSError, ValueError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"notebook = {source.name!r}: cannot be read as one ({reason})") from None


@contextlib.contextmanager
def _reported_progress(file: Path) -> Generator[None]:
    """Let the notebook's kernel report to a file, and draw its progress here."""
    before = os.environ.get(FILE_VARIABLE)
    os.environ[FILE_VARIABLE] = str(file)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # errors are raised, and told of once
    try:
        with follow(file):
            yield
    finally:
        if before is None:
            del os.environ[FILE_VARIABLE]
        else:
            os.environ[FILE_VARIABLE] = before


def _forget_the_machine(notebook: nbformat.NotebookNode) -> None:
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)


def _hide_parameters(notebook: nbformat.NotebookNode) -> None:
    """The values papermill put in are long: let a page fold them, as it does the cell of their defaults. The cell's own name
    replaces papermill's random one: the same results make the same file.
    """
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
            cell["id"] = "injected-parameters"
