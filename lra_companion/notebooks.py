"""Papermill and Jupyter Book: run the book's notebooks with checked parameters, and build the site from what they leave.

A notebook runs into a temporary file, which is renamed when it succeeded; machine paths and times that papermill notes go out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from lra_companion.config import RunConfig, parse
from lra_companion.experiments import (
    NOTEBOOKS,
    ComparisonParameters,
    NotebookParameters,
    TunedSettings,
    TuningPlan,
    UntunedError,
    did_you_mean,
)
from lra_companion.fidelity import MEASURED_FOLDER
from lra_companion.progress import FILE_VARIABLE, follow
from lra_companion.store import ResultStore

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PROFILES = BOOK / "profiles"
SETTINGS = BOOK / "settings"  # of each profile, as ``lra-companion tune`` leaves them
PUBLISHED_PROFILES = ("paper", "quick")  # the better one first

_PLACE = (
    "results",
    "jobs",
    "profile",
)  # parameters that say where and how, not what: never part of a profile


class NotebookFailedError(RuntimeError):
    """A notebook stopped with an error."""


def profile_parameters(profile: str) -> dict[str, dict[str, Any]]:
    """Parameters of each notebook under a profile, in the order of the book. Raises ValueError for an unknown profile,
    notebook, name or value.
    """
    document = _profile(profile)
    document.pop(_TUNING, None)
    for name, values in document.items():
        if not isinstance(values, dict):
            raise ValueError(f"profile {profile}: {name} = {values!r}: must map parameters to values")
        if name not in NOTEBOOKS:
            raise ValueError(f"profile {profile}: {name} is no notebook{did_you_mean(name, NOTEBOOKS)}")
    return {name: document[name] for name in NOTEBOOKS if name in document}


_TUNING = "tuning"  # what a profile holds beside notebooks


def tuning_plan(profile: str) -> TuningPlan:
    """How a profile's settings are searched. Raises ValueError."""
    plan = _profile(profile).get(_TUNING)
    if not isinstance(plan, dict):
        raise ValueError(f"profile {profile}: {_TUNING} = {plan!r}: must say how settings are searched")
    return parse(TuningPlan, plan)


def _profile(profile: str) -> dict[str, Any]:
    profiles = sorted(file.stem for file in PROFILES.glob("*.yaml"))
    if profile not in profiles:
        raise ValueError(f"profile = {profile!r}: unknown{did_you_mean(profile, profiles)}")
    document = read_yaml(f"profile {profile}", (PROFILES / f"{profile}.yaml").read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(
            f"profile {profile} = {str(document)[:60]!r}: must map notebooks to their parameters"
        )
    return document


def read_settings(file: Path) -> list[TunedSettings]:
    """The rows of a file of tuned settings; none where there is no file. Raises ValueError."""
    if not file.exists():
        return []
    rows = read_yaml(file.name, file.read_text(encoding="utf-8")) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file.name} = {str(rows)[:60]!r}: must be a list of settings")
    return [parse(TunedSettings, row) for row in rows]


def parameters_of(
    name: str, profile: str, changes: Mapping[str, Any], results: str, jobs: int
) -> NotebookParameters:
    """Checked parameters of a notebook: the profile's, with changes, and of its tuned settings those that are needed.

    Raises ValueError; UntunedError where settings have still to be searched.
    """
    kind, values = _values(name, profile, changes, results, jobs)
    if issubclass(kind, ComparisonParameters) and "settings" not in values:
        needs = set(kind.untuned(values | {"settings": []}).needs())
        rows = [row for row in read_settings(SETTINGS / f"{profile}.yaml") if row.place in needs]
        values["settings"] = [row.model_dump(exclude_none=True) for row in rows]
    return kind.checked(values)


def comparisons(profile: str) -> list[ComparisonParameters]:
    """Parameters of a profile's comparisons, whether or not their settings have been searched."""
    found = []
    for name in profile_parameters(profile):
        kind, values = _values(name, profile, {}, ".", 1)
        if issubclass(kind, ComparisonParameters):
            found.append(kind.untuned(values | {"settings": []}))
    return found


def _values(
    name: str, profile: str, changes: Mapping[str, Any], results: str, jobs: int
) -> tuple[type[NotebookParameters], dict[str, Any]]:
    if name not in NOTEBOOKS:
        raise ValueError(f"notebook = {name!r}: unknown{did_you_mean(name, NOTEBOOKS)}")
    for place in _PLACE:
        if place in changes:
            raise ValueError(f"{place} = {changes[place]!r}: is an option of the command, not a parameter")
    given = profile_parameters(profile)
    if name not in given:
        raise ValueError(f"profile {profile}: has no parameters for {name}, only for {', '.join(given)}")
    place = {"profile": profile, "results": results, "jobs": jobs}
    return NOTEBOOKS[name], given[name] | dict(changes) | place


class _YamlLoader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as everybody expects, and not a string, as YAML 1.1 has it."""


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(name: str, text: str) -> Any:
    """The value of a YAML text. Raises ValueError naming ``name``."""
    try:
        return yaml.load(text, Loader=_YamlLoader)  # a SafeLoader: it builds plain values only
    except yaml.YAMLError:
        raise ValueError(f"{name} = {text[:60]!r}: is not YAML") from None


def profile_runs(profile: str) -> dict[str, list[RunConfig]]:
    """The runs each notebook of a profile shows."""
    return {name: parameters_of(name, profile, {}, ".", 1).runs() for name in profile_parameters(profile)}


def missing_runs(profile: str, store: ResultStore, chapters: Iterable[str] | None = None) -> list[RunConfig]:
    """Runs of a profile, or of some of its chapters, that the store does not hold, each once; also those that it holds and that
    were to be measured.
    """
    wanted: dict[str, RunConfig] = {}
    closer: set[str] = set()
    for name in profile_parameters(profile) if chapters is None else chapters:
        parameters = parameters_of(name, profile, {}, ".", 1)
        wanted |= {run.key(): run for run in parameters.runs()}
        closer |= {run.key() for run in parameters.measured_runs()}
    measured = ResultStore(store.path / MEASURED_FOLDER)
    return [run for key, run in wanted.items() if run not in store or (key in closer and run not in measured)]


def published_profile(name: str, published: Path) -> str:
    """The profile under which the published book shows a notebook: the first whose runs are all stored, under its name.

    Raises RuntimeError where there is none.
    """
    missing, profile = 0, ""
    for profile in PUBLISHED_PROFILES:
        if name not in profile_parameters(profile):
            continue
        try:
            missing = len(missing_runs(profile, ResultStore(published / profile), [name]))
        except UntunedError:
            continue
        if not missing:
            return profile
    raise RuntimeError(
        f"{missing} runs of {name} are not in {published / profile}; make them with: "
        f"lra-companion notebook {name} --profile {profile} --results {published / profile}"
    )


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
    source = BOOK / "notebooks" / f"{name}.ipynb"
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
                )
            except papermill.PapermillExecutionError as error:
                raise NotebookFailedError(f"{name}: {error.ename}: {error.evalue}") from None
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


def build_site(folder: Path) -> Path:
    """Build the site of a book folder, warnings being errors; return its front page. Raises RuntimeError with the log."""
    command = [
        Path(sys.executable).with_name("jupyter-book"),
        "build",
        folder,
        "-W",
        "-n",
        "--keep-going",
        "--quiet",
    ]
    log = folder / "build.log"
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
        raise RuntimeError(f"jupyter-book failed; the end of {log}:\n{tail}")
    return folder / "_build" / "html" / "index.html"


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


@contextlib.contextmanager
def _reported_progress(file: Path) -> Generator[None]:
    """Let the notebook's kernel report to a file, and draw its progress here."""
    before = os.environ.get(FILE_VARIABLE)
    os.environ[FILE_VARIABLE] = str(file)
    logging.getLogger("papermill").setLevel(logging.ERROR)
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
    """The values papermill put in are long: let a page fold them, as it does the cell of their defaults."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]


def write_whole(target: Path, text: str) -> None:
    """Write a file whole or not at all, in a folder that may have to be made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
