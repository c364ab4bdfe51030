"""Every notebook, executed under the smoke profile: what it leaves, that it runs again the same, and the book built from it."""

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
import pytest
import yaml

from lra_companion import notebooks, profiles
from lra_companion.experiments import NOTEBOOKS
from lra_companion.notebooks import NotebookFailedError, run_notebook

REPOSITORY = "https://github.com/somebody/something"
SOURCES = {file.stem: file for file in sorted((profiles.BOOK / "notebooks").glob("*.ipynb"))}


class Built(NamedTuple):
    """A book folder with executed notebooks, and where their results are."""

    folder: Path
    results: Path

    def notebook(self, name: str) -> Any:
        return nbformat.read(self.folder / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All notebooks, executed by the package."""
    folder = tmp_path_factory.mktemp("build")
    built = Built(folder / "book", folder / "results")
    notebooks.copy_book(built.folder)
    for name in SOURCES:
        file = run_notebook(name, "smoke", {}, built.folder / "notebooks", built.results, 1)
        assert file == built.folder / "notebooks" / f"{name}.ipynb"
    return built


@pytest.fixture(scope="module")
def site(built: Built) -> Path:
    """The folder of the site's pages, published beside a repository; building it fails on any warning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRA_COMPANION_REPOSITORY", REPOSITORY)
        front = notebooks.build_site(built.folder)
    assert front.is_file()
    return front.parent


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def draws(cell: Any) -> bool:
    """Whether a cell shows a figure."""
    return re.search(r"plt\.show\(|subplots\(|\bdraw_\w+\(", cell.source) is not None


# The sources


def test_every_notebook_has_parameters_and_every_parameters_a_notebook() -> None:
    assert set(SOURCES) == set(NOTEBOOKS)


@pytest.mark.parametrize("name", SOURCES)
def test_sources_carry_no_outputs(name: str) -> None:
    notebook = nbformat.read(SOURCES[name], as_version=4)
    nbformat.validate(notebook)
    assert "papermill" not in notebook.metadata
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None
        assert not {"papermill", "execution"} & set(cell.metadata)


@pytest.mark.parametrize("name", SOURCES)
def test_each_parameter_shows_its_type_and_help(name: str) -> None:
    shown = papermill.inspect_notebook(str(SOURCES[name]))
    assert set(shown) == set(NOTEBOOKS[name].model_fields)
    for parameter, entry in shown.items():
        assert entry["inferred_type_name"] not in ("None", "", None), parameter
        assert len(entry["help"].strip()) > 3, f"{parameter} shows no help"
        assert entry["default"].strip(), parameter


@pytest.mark.parametrize("name", SOURCES)
def test_the_parameters_cell_alone_is_the_profile_smoke(name: str) -> None:
    first = code_cells(nbformat.read(SOURCES[name], as_version=4))[0]
    assert "parameters" in first.metadata["tags"]
    namespace: dict[str, Any] = {}
    exec(first.source, namespace)
    written = NOTEBOOKS[name].from_notebook(namespace).model_dump()
    smoke = profiles.parameters_of(name, "smoke", {}, namespace["results"], 1).model_dump()
    if isinstance(written.get("settings"), list):
        for values in (written, smoke):  # in any order; core-hours are of the machine that searched
            rows = [
                {field: value for field, value in row.items() if field != "core_hours"}
                for row in values["settings"]
            ]
            values["settings"] = sorted(
                rows, key=lambda row: (row["task"], row["sequence_length"], row["group"])
            )
    assert written == smoke, "as the page on running says"


@pytest.mark.parametrize("name", SOURCES)
def test_every_figure_has_a_caption_and_words_for_those_who_cannot_see_it(name: str) -> None:
    cells = [cell for cell in code_cells(nbformat.read(SOURCES[name], as_version=4)) if draws(cell)]
    assert cells
    names = [cell.metadata["mystnb"]["figure"]["name"] for cell in cells]
    assert len(set(names)) == len(names)
    for cell in cells:
        rendering = cell.metadata["mystnb"]
        assert len(rendering["image"]["alt"]) > 30
        assert len(rendering["figure"]["caption"]) > 30
        assert rendering["image"]["alt"] != rendering["figure"]["caption"]


@pytest.mark.parametrize("name", SOURCES)
def test_notebooks_call_the_package_and_hold_no_functions(name: str) -> None:
    source = "\n".join(cell.source for cell in code_cells(nbformat.read(SOURCES[name], as_version=4)))
    assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE)
    assert "import torch" not in source


# Executed


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_a_notebook_runs_and_every_figure_is_there(name: str, built: Built) -> None:
    executed = built.notebook(name)
    nbformat.validate(executed)
    assert all(cell.execution_count for cell in code_cells(executed))
    for cell in code_cells(executed):
        assert not [output for output in cell.outputs if output.output_type in ("error", "stream")], (
            cell.source
        )
        if draws(cell):
            kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
            assert {"image/svg+xml", "image/png"} & kinds, cell.source


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_nothing_of_this_machine_is_left_in_a_notebook(name: str, built: Built) -> None:
    text = (built.folder / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|private|var)/", text)
    assert str(profiles.ROOT) not in text and str(built.results) not in text
    assert socket.gethostname() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text
    document = json.loads(text)
    assert "papermill" not in document["metadata"]
    for cell in document["cells"]:
        assert not {"papermill", "execution"} & set(cell["metadata"])
    assert not re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text), "a time"


@pytest.mark.slow
def test_the_results_are_those_that_the_profile_asks_for(built: Built) -> None:
    wanted = {run.key() for runs in profiles.profile_runs("smoke").values() for run in runs}
    assert {file.stem for file in built.results.iterdir() if file.is_file()} == wanted
    assert profiles.missing_runs("smoke", profiles.ResultStore(built.results)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_a_second_run_trains_nothing_and_leaves_the_same_notebook(
    name: str, built: Built, tmp_path: Path
) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in built.results.iterdir()}
    again = nbformat.read(
        run_notebook(name, "smoke", {}, tmp_path / "notebooks", built.results, 1), as_version=4
    )
    assert {file.name: file.stat().st_mtime_ns for file in built.results.iterdir()} == before

    def without_place(notebook: Any) -> str:
        return re.sub(r'results = [^\n]*"', "", nbformat.writes(notebook))

    assert without_place(again) == without_place(built.notebook(name))
    assert [file.name for file in (tmp_path / "notebooks").iterdir()] == [f"{name}.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_nbval_executes_the_executed_copy_and_finds_the_same_text(name: str, built: Built) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in built.results.iterdir()}
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "--nbval",
                "--nbval-current-env",
                "-p",
                "no:cacheprovider",
                "-q",
            ),
            f"{name}.ipynb",
        ],
        cwd=built.folder / "notebooks",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(rf"\b{len(code_cells(built.notebook(name)))} passed", done.stdout), done.stdout[-500:]
    assert {file.name: file.stat().st_mtime_ns for file in built.results.iterdir()} == before


@pytest.mark.slow
def test_nbval_notices_a_changed_text(built: Built, tmp_path: Path) -> None:
    folder = tmp_path / "book" / "notebooks"
    folder.mkdir(parents=True)
    shutil.copytree(built.results, tmp_path / "results")
    text = (built.folder / "notebooks" / "01_tasks.ipynb").read_text(encoding="utf-8")
    assert text.count("99") and "remembered for (steps)" in text
    (folder / "01_tasks.ipynb").write_text(text.replace("remembered for (steps)", "remembered for (days)"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval",
            "--nbval-current-env",
            "-p",
            "no:cacheprovider",
            "-q",
            ".",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1 and "failed" in done.stdout


# What is wrong stops in the first cell


WRONG = [
    ("sedes", [1], "sedes = [1]: is no parameter of {name}; did you mean seeds?"),
    ("max_iterations", "many", "max_iterations = 'many'"),
    ("seeds", 3, "seeds = 3"),
    ("tasks", ["sorting"], "'sorting'"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("parameter", "value", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_plain_papermill_stops_in_the_first_cell(
    parameter: str, value: Any, message: str, tmp_path: Path
) -> None:
    name = "05_regularisation"
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            SOURCES[name],
            folder / "out.ipynb",
            parameters={parameter: value},
            kernel_name="python3",
            cwd=folder,
            progress_bar=False,
            log_output=False,
        )
    assert caught.value.ename == "ValueError"
    assert message.format(name=name) in caught.value.evalue
    executed = nbformat.read(folder / "out.ipynb", as_version=4)
    ran = [cell for cell in code_cells(executed) if cell.execution_count and "from_notebook" in cell.source]
    assert len(ran) == 1
    after = code_cells(executed)[code_cells(executed).index(ran[0]) + 1 :]
    assert after and not any(cell.execution_count for cell in after)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["out.ipynb"]


@pytest.mark.parametrize(("parameter", "value", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_run_notebook_refuses_before_anything_is_made(
    parameter: str, value: Any, message: str, tmp_path: Path
) -> None:
    name = "05_regularisation"
    with pytest.raises(ValueError, match=re.escape(message.format(name=name))):
        run_notebook(name, "smoke", {parameter: value}, tmp_path / "out", tmp_path / "results", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_changed_parameters_reach_the_notebook(built: Built, tmp_path: Path) -> None:
    changes = {"tasks": ["adding"], "seeds": [8], "max_iterations": 20}
    file = run_notebook("01_tasks", "smoke", changes, tmp_path, tmp_path / "results", 1)
    seeds = {
        json.loads(each.read_text())["content"]["config"]["seed"]
        for each in (tmp_path / "results").glob("*.json")
    }
    assert seeds == {8}
    assert "adding" in file.read_text()


def a_notebook(*sources: str) -> Any:
    """A notebook of our own."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    return notebook


@pytest.mark.slow
def test_a_failing_notebook_leaves_an_earlier_output_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = tmp_path / "sources"
    (book / "notebooks").mkdir(parents=True)
    nbformat.write(
        a_notebook("seeds = [1]", "raise KeyError('on purpose')"), book / "notebooks" / "01_tasks.ipynb"
    )
    monkeypatch.setattr(notebooks, "BOOK", book)
    out = tmp_path / "out"
    out.mkdir()
    (out / "01_tasks.ipynb").write_text("the earlier output")
    environment = dict(os.environ)
    with pytest.raises(NotebookFailedError, match=r"^01_tasks: KeyError: 'on purpose'$"):
        run_notebook("01_tasks", "smoke", {}, out, tmp_path / "results", 1)
    assert [file.name for file in out.iterdir()] == ["01_tasks.ipynb"]
    assert (out / "01_tasks.ipynb").read_text() == "the earlier output"
    assert dict(os.environ) == environment


# The book


class Page(HTMLParser):
    """Images, and what a page loads from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.foreign: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        source = found.get("href" if tag == "link" else "src")
        loads = tag in ("script", "img", "iframe", "source", "link") and found.get("rel") != "canonical"
        if loads and source and re.match(r"(https?:)?//", source):
            self.foreign.append(f"<{tag}> {source}")


def pages_of_the_contents() -> list[str]:
    contents = yaml.safe_load((profiles.BOOK / "_toc.yml").read_text())
    return [contents["root"], *(chapter["file"] for chapter in contents["chapters"])]


@pytest.mark.slow
def test_every_notebook_is_in_the_book() -> None:
    assert {f"notebooks/{name}" for name in SOURCES} <= set(pages_of_the_contents())


@pytest.mark.slow
@pytest.mark.parametrize("name", pages_of_the_contents())
def test_a_page_is_whole(name: str, site: Path) -> None:
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    body = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    for mark in (
        "{glue",
        "glue:text",
        "{eq}",
        "{cite",
        "{ref}",
        "system-message",
        'class="problematic"',
        "[??]",
    ):
        assert mark not in body, mark
    assert not re.search(r"\bnan\b", re.sub(r"<[^>]*>", " ", body)), "a number that is none"
    page = Page(text)
    assert page.foreign == []
    for image in page.images:
        alt = image.get("alt")
        assert alt and alt.strip(), image
        assert alt != image["src"] and not re.search(r"\.(svg|png)$", alt), image
        source = str(image["src"])
        assert source.startswith("data:") or (site / name).parent.joinpath(source.split("?")[0]).exists(), (
            source
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", pages_of_the_contents())
def test_buttons_lead_to_committed_files(name: str, site: Path) -> None:
    """In Binder and Colab for notebooks, to be edited for all."""
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    places = {
        "binder": r'"https://mybinder\.org/v2/gh/somebody/something/main\?urlpath=lab/tree/([^"]+)"',
        "colab": r'"https://colab\.research\.google\.com/github/somebody/something/blob/main/([^"]+)"',
        "edit": rf'"{REPOSITORY}/edit/main/([^"]+)"',
    }
    found = {place: re.findall(pattern, text) for place, pattern in places.items()}
    (source,) = [*profiles.BOOK.glob(f"{name}.ipynb"), *profiles.BOOK.glob(f"{name}.md")]
    launched = [str(source.relative_to(profiles.ROOT))] if source.suffix == ".ipynb" else []
    assert found == {"binder": launched, "colab": launched, "edit": [str(source.relative_to(profiles.ROOT))]}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_prose_takes_its_numbers_from_the_results(name: str, site: Path, built: Built) -> None:
    text = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
    plain = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    glued = {
        key.group(1)
        for cell in built.notebook(name).cells
        for key in re.finditer(r"\{glue:text\}`(\w+)`", cell.source if cell.cell_type == "markdown" else "")
    }
    assert glued
    stored: dict[str, str] = {}
    for cell in code_cells(built.notebook(name)):
        for output in cell.outputs:
            key = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if key:
                data = {
                    kind.removeprefix("application/papermill.record/"): value
                    for kind, value in output.data.items()
                }
                stored[key] = data["text/plain"].strip("'\"")
    assert glued <= set(stored)
    for key in glued:
        start = re.split(r"[`<>&'’]", stored[key])[0][:60].strip()
        assert len(start) > 15 and start in plain, key
