"""What the pages and the README say exists does exist: names in the code, pages, equations, commands, examples."""

import ast
import importlib
import inspect
import json
import math
import os
import pkgutil
import re
import shlex
import typing
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import BaseModel

import lra_companion
from benchmarks import machines
from benchmarks.table import table
from lra_companion import book_commands, cli, profiles
from lra_companion.chunks import chunks
from lra_companion.claims import CLAIMS
from lra_companion.config import RunConfig

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
PAGES = (
    *("intro.md", "method.md", "notation.md", "running.md", "more_machines.md"),
    *("why_it_vanishes.md", "how_fast.md", "glossary.md", "status.md"),
)
PROSE = [BOOK / name for name in PAGES] + [ROOT / "README.md"]
LABELS = re.findall(r"^\$\$ \(([^)]+)\)$", (BOOK / "method.md").read_text(), flags=re.MULTILINE)
EQUATIONS = [f"eq-{number}" for number in range(1, len(LABELS) + 1)]


def by_name(path):
    return str(path.relative_to(ROOT))


def without_blocks(text):
    """A page less its fenced code and displayed formulas."""
    return re.sub(r"^```.*?^```|^\$\$.*?^\$\$", "", text, flags=re.DOTALL | re.MULTILINE)


def code_spans(text):
    """The inline code of a page; roles such as {eq}`...` are none."""
    spans = re.findall(r"(\{[\w:]+\})?`([^`]+)`", without_blocks(text))
    return [" ".join(span.split()) for role, span in spans if not role]


# What may be named in code


@cache
def modules():
    names = [module.name for module in pkgutil.walk_packages(lra_companion.__path__, "lra_companion.")]
    return [importlib.import_module(name) for name in names if name != "lra_companion.__main__"]


def module_at(path):
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def belongs(owner, name):
    """Whether a module has the name, or a class has it as attribute, field or self.name."""
    if hasattr(owner, name) or name in getattr(owner, "__annotations__", {}):
        return True
    if not inspect.isclass(owner):
        return False
    tree = ast.parse(inspect.getsource(owner))
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) == ("self", name)
        for node in ast.walk(tree)
    )


def resolves(module, dotted):
    *path, last = dotted.split(".")
    owner = module
    for name in path:
        if not belongs(owner, name) or not hasattr(owner, name):
            return False
        owner = getattr(owner, name)
    return belongs(owner, last)


@cache
def settings():
    """Every field of a RunConfig as a dotted path and by its last name, and every word a field may take."""
    paths, words = set(), set()

    def descend(annotation, prefix):
        if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
            for name, field in annotation.model_fields.items():
                paths.update({f"{prefix}{name}", name})
                descend(field.annotation, f"{prefix}{name}.")
        elif typing.get_origin(annotation) is typing.Literal:
            words.update(typing.get_args(annotation))
        else:
            for argument in typing.get_args(annotation):
                descend(argument, prefix)

    descend(RunConfig, "")
    return paths | words


def known(span):
    if "/" in span:
        return (ROOT / span).exists()
    if span.startswith("--"):
        return span[2:].replace("-", "_") in settings()
    return span in settings() or any(resolves(module, span) for module in modules())


@pytest.mark.parametrize(
    ("page", "least"), [("method.md", 31), ("notation.md", 31), ("why_it_vanishes.md", 15)]
)
def test_every_name_in_code_exists(page, least):
    spans = code_spans((BOOK / page).read_text())
    assert len(spans) >= least
    assert [span for span in spans if not known(span)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "_Pass.first_target",
        "learner.beta",
        "lra_companion/lra.py",
        "Parameters.w_yy",
        "tests/test_none.py",
        "hebb",
        "--target-steps",
    ],
)
def test_a_wrong_name_is_noticed(wrong):
    assert not known(wrong)


def computed_by(text):
    """The paragraphs that start "In the code:", as (position, [(file, name), ...])."""
    for paragraph in re.finditer(
        r"^ *In the code: (.*?)(?=\n\n|\n`|\Z)", text, flags=re.DOTALL | re.MULTILINE
    ):
        file, pairs = None, []
        for span in re.findall(r"`([^`]+)`", paragraph[1]):
            if span.endswith(".py"):
                file = span
            else:
                pairs.append((file, span))
        yield paragraph.start(), pairs


def test_every_function_named_stands_in_the_file_named():
    pairs = [pair for _, pairs in computed_by((BOOK / "method.md").read_text()) for pair in pairs]
    assert len(pairs) > 20
    assert [(file, name) for file, name in pairs if file is None or not resolves(module_at(file), name)] == []
    elsewhere = [
        (file, name)
        for file, name in pairs
        if getattr(getattr(module_at(file), name, None), "__module__", module_at(file).__name__)
        != module_at(file).__name__
    ]
    assert elsewhere == [], "imported there, written elsewhere"


# Equations


def test_the_method_page_has_its_equations_in_order():
    assert len(LABELS) >= 12
    assert LABELS == EQUATIONS


@pytest.mark.parametrize("number", range(1, len(LABELS) + 1))
def test_each_equation_is_followed_by_code_that_carries_its_number(number):
    text = (BOOK / "method.md").read_text()
    equation = text.index(f"$$ (eq-{number})")
    position, pairs = next((p, pairs) for p, pairs in computed_by(text) if p > equation)
    assert text[equation:position].strip() == f"$$ (eq-{number})", (
        "the code is not named right after the equation"
    )
    assert f"({number})" in (ROOT / pairs[0][0]).read_text()


@pytest.mark.parametrize("page", PROSE[:-1], ids=by_name)
def test_references_to_equations_lead_somewhere(page):
    """To those of the method, or of the page itself."""
    text = page.read_text()
    own = re.findall(r"^\$\$ \(([^)]+)\)$", text, flags=re.MULTILINE)
    assert set(re.findall(r"\{eq\}`([^`]+)`", text)) <= {*EQUATIONS, *own}


# Pages


def pages():
    contents = yaml.safe_load((BOOK / "_toc.yml").read_text())
    return [contents["root"], *(chapter["file"] for chapter in contents["chapters"])]


@pytest.mark.parametrize("page", pages())
def test_every_page_of_the_contents_exists_once(page):
    assert sum((BOOK / f"{page}{ending}").exists() for ending in (".md", ".ipynb")) == 1


def test_no_page_is_left_out_of_the_contents():
    written = {
        str(path.relative_to(BOOK).with_suffix(""))
        for path in [*BOOK.glob("*.md"), *BOOK.glob("notebooks/*.ipynb")]
    }
    assert written == set(pages())


def test_the_table_of_speeds_is_the_one_measured():
    measured = json.loads((ROOT / "tests" / "benchmarks" / "measured.json").read_text(encoding="utf-8"))
    assert (BOOK / "speed_table.txt").read_text(encoding="utf-8") == table(measured)
    for render in (machines.machines_table, machines.workers_table):
        assert (BOOK / f"{render.__name__}.txt").read_text(encoding="utf-8") == render(measured)


def test_more_workers_end_a_plan_no_later_and_none_before_its_longest_run():
    rate = 100.0
    longest = max(machines._seconds([config], rate) for config in machines.PLAN)
    whole = machines._seconds(machines.PLAN, rate)
    before = math.inf
    for workers in machines.WORKERS:
        costs = [machines._seconds(piece, rate) for piece in chunks(machines.PLAN, workers, memory=math.inf)]
        end = machines._until_done(costs, workers)
        assert sum(costs) == pytest.approx(whole)
        assert max(longest, whole / workers) * 0.999 <= end <= before
        before = end


@pytest.mark.parametrize("page", PROSE, ids=by_name)
def test_links_between_pages_and_files_lead_somewhere(page):
    text = without_blocks(page.read_text())
    figures = set(figure_names())
    labels = set(re.findall(r"^\(([\w-]+)\)=$", (BOOK / "method.md").read_text(), flags=re.MULTILINE))
    for target in re.findall(r"\{doc\}`([^`]+)`", text):
        assert target in pages()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            assert target in labels | figures or target in pages() or (ROOT / target).exists(), target


def figure_names():
    notebooks_ = [json.loads(path.read_text()) for path in sorted(BOOK.glob("notebooks/*.ipynb"))]
    cells = [cell for notebook in notebooks_ for cell in notebook["cells"]]
    figures = [cell["metadata"].get("mystnb", {}).get("figure") for cell in cells]
    return [figure["name"] for figure in figures if figure]


def test_a_figure_s_name_leads_to_one_figure():
    names = figure_names()
    assert len(names) == len(set(names)) > 0


def test_glued_texts_are_glued_by_the_notebook_they_name():
    """In the notebook's own cells, and in pages, which name the notebook."""
    shown = {}
    for path in BOOK.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        shown[f"notebooks/{path.name}"] = set(re.findall(r"glue\(\s*\"(\w+)\"", code))
        assert set(re.findall(r"\{glue:text\}`(\w+)`", text)) <= shown[f"notebooks/{path.name}"]
    wanted = [
        pair for page in PROSE for pair in re.findall(r"\{glue:text\}`(\S+?)::(\w+):?\w*`", page.read_text())
    ]
    assert len(wanted) > 5
    assert [pair for pair in wanted if pair[1] not in shown[pair[0]]] == []


RESULT = re.compile(r"\b[01]\.\d+\b|\d ?(?:%|per cent)")


@pytest.mark.parametrize("page", PROSE, ids=by_name)
def test_no_result_is_typed(page):
    """Results come from glue. Outside of code, formulas and tables, no share and no percentage has been typed."""
    text = without_blocks(page.read_text())
    prose = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("|"))
    prose = re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "", prose)
    assert RESULT.findall(prose) == []


def test_a_typed_result_is_noticed():
    assert RESULT.findall("It reached 0.95, then 97 %; version 2.5 of ten.") == ["0.95", "7 %"]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.number)
def test_the_index_of_claims_leads_to_the_chapter_that_judges_each(claim):
    number = claim.number if claim.aim else claim.number[0]  # 4a and 4b share a row
    row = re.search(rf"^\| {number} \|.*$", (BOOK / "intro.md").read_text(), flags=re.MULTILINE)[0]
    assert f"{{doc}}`notebooks/{claim.chapters[0]}`" in row
    assert f"10_claims.ipynb::claim_{claim.number}:" in row


# The README and its examples


def test_nothing_is_left_to_fill_in():
    assert re.findall(r"\{\{\w*\}\}", (ROOT / "README.md").read_text()) == []


def blocks(page, language):
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [block.replace("\\\n", " ") for block in found]


def shell_lines(page):
    """Commands of the page, of its bash blocks and its inline code, as lists of words."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += [
        span for span in code_spans(page.read_text()) if re.match(r"(make|lra-companion|papermill) ", span)
    ]
    return [shlex.split(line) for line in lines]


def commands(page, program):
    for words in shell_lines(page):
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and words[0] == program:
            yield words[1:]


def shell_examples():
    pages = [BOOK / "running.md", BOOK / "more_machines.md", ROOT / "README.md"]
    return [(by_name(page), words) for page in pages for words in commands(page, "lra-companion")]


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{page}: {' '.join(words)[:60]}") for page, words in shell_examples()]
)
def test_shell_examples_are_understood(words):
    """Options and values are parsed as the shell's would be; parameters of a notebook are checked as before a run."""
    group = typer.main.get_command(cli.app)
    command = group.commands[words[0]]
    if "--help" in words:
        return
    context = command.make_context(words[0], words[1:])
    if words[0] == "notebook":
        values = context.params
        profiles.parameters_of(
            values["name"], values["profile"], book_commands._changes(context.args), ".", 1
        )
    else:
        assert context.args == []
        if context.params.get("profile") is not None:
            assert (profiles.PROFILES / f"{context.params['profile']}.yaml").exists()


def test_both_pages_show_how_to_train_and_how_to_rerun_a_notebook():
    shown = {(page, words[0]) for page, words in shell_examples()}
    assert shown >= {
        (page, name) for page in ("README.md", "book/running.md") for name in ("train", "notebook")
    }


@pytest.mark.parametrize("place", range(2))
def test_the_training_example_trains(place, capsys):
    words = [words for _, words in shell_examples() if words[0] == "train" and "--json" in words][place]
    words[words.index("--max-iterations") + 1] = "2"
    assert not typer.main.get_command(cli.app).main(words, standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["iterations"] == 2


def test_options_named_in_the_text_exist():
    group = typer.main.get_command(cli.app)
    options = {
        name for command in group.commands.values() for option in command.params for name in option.opts
    }
    for page in ("running.md", "more_machines.md"):
        named = {span for span in code_spans((BOOK / page).read_text()) if span.startswith("--")}
        assert named
        assert named <= options


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = [words for page in PROSE for words in commands(page, "make")]
    assert {"reproduce", "test", "book"} <= {words[0] for words in named}
    for target, *variables in named:
        assert target in targets
        for variable in variables:
            assert re.search(rf"^{variable.split('=')[0]} *\?=", makefile, flags=re.MULTILINE)


def test_notebooks_named_in_examples_exist():
    text = "".join(page.read_text() for page in PROSE)
    for notebook in re.findall(r"book/notebooks/\w+\.ipynb", text):
        assert (ROOT / notebook).exists()
    for words in (
        words for page in PROSE for words in commands(page, "lra-companion") if words[0] == "notebook"
    ):
        assert (BOOK / "notebooks" / f"{words[1]}.ipynb").exists()


def shortened(source):
    """The example with runs of four iterations and small test sets."""
    source, changes = re.subn(
        r'"max_iterations": \d+', '"max_iterations": 4, "validation_size": 50, "test_size": 50', source
    )
    assert changes == 1
    return source


def python_examples():
    return [
        pytest.param(source, id=f"{by_name(page)}-{place}")
        for page in PROSE
        for place, source in enumerate(blocks(page, "python"))
    ]


@pytest.mark.parametrize("source", python_examples())
def test_python_examples_run(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(shortened(source), "example", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "max_iterations" in printed or "solved" in printed


def test_there_are_python_examples():
    assert {page.name for page in PROSE if blocks(page, "python")} == {"README.md", "running.md"}


def test_the_readme_shows_existing_pictures():
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures
    for alternative, path in pictures:
        assert len(alternative) > 40
        assert os.path.getsize(ROOT / path) > 0


def test_citations_are_in_the_bibliography():
    entries = set(re.findall(r"^@\w+\{([\w-]+),", (BOOK / "references.bib").read_text(), flags=re.MULTILINE))
    for page in PROSE[:-1]:
        cited = {
            key for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", page.read_text()) for key in keys.split(",")
        }
        assert cited <= entries
