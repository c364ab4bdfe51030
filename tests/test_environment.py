"""pyproject.toml says what is needed; environment.yml (conda) and constraints.txt (pins) agree with it."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

# Where conda-forge calls a package otherwise; whatever else differs in name is a mistake.
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.fixture(scope="module")
def constraints():
    return (ROOT / "constraints.txt").read_text()


def requirements(lines):
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def conda_disagreements(project, environment):
    """What environment.yml lacks, has in excess or bounds otherwise than pyproject.toml, a sentence each."""
    from_conda = dict(split_conda(entry) for entry in environment["dependencies"] if isinstance(entry, str))
    from_pip = [line for e in environment["dependencies"] if isinstance(e, dict) for line in e["pip"]]
    python, _ = from_conda.pop("python"), from_conda.pop("pip")

    found = []
    if not SpecifierSet(project["requires-python"]).contains(python.lstrip("=") + ".0"):
        found.append(f"python{python} is outside {project['requires-python']}")
    if "-e ." not in from_pip:
        found.append("the package itself is not installed")
    actual = {name: SpecifierSet(bound) for name, bound in from_conda.items()}
    actual |= requirements(line for line in from_pip if line != "-e .")
    expected = {CONDA_NAMES.get(n, n): bound for n, bound in requirements(project["dependencies"]).items()}
    for name in sorted(expected.keys() | actual.keys()):
        ours, theirs = actual.get(name), expected.get(name)
        if ours != theirs:
            found.append(f"{name}: {ours} in environment.yml, {theirs} in pyproject.toml")
    return found


def split_conda(entry):
    name, bound = re.fullmatch(r"([\w.-]+)(.*)", entry).groups()
    return name, bound


def pin_disagreements(project, constraints):
    """Dependencies that constraints.txt does not pin, or outside their bound; lines that pin nothing."""
    lines = [line for line in constraints.splitlines() if line and not line.startswith("#")]
    found = [f"not an exact pin: {line}" for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    pins = {
        canonicalize_name(name): version for name, version in (li.split("==") for li in lines if "==" in li)
    }
    extras = project["optional-dependencies"].values()
    for name, bound in requirements(chain(project["dependencies"], *extras)).items():
        if name not in pins:
            found.append(f"{name} is not pinned")
        elif not bound.contains(pins[name]):
            found.append(f"{name}=={pins[name]} is outside {bound}")
    return found


def test_conda_environment_is_in_step(project, environment):
    assert conda_disagreements(project, environment) == []


def test_every_dependency_is_pinned_within_its_bound(project, constraints):
    assert pin_disagreements(project, constraints) == []


def test_citation_names_the_version(project):
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == project["version"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  - rich>=13.7\n", "", "rich: None in environment.yml, >=13.7 in pyproject.toml"),
        ("rich>=13.7", "rich>=13.8", "rich: >=13.8 in environment.yml, >=13.7 in pyproject.toml"),
        ("rich>=13.7", "rich>=13.7\n  - seaborn", "seaborn:  in environment.yml, None in pyproject.toml"),
        ("jupyter-book>=1.0.4,<2", "jupyter-book>=1.0.4", "jupyter-book: >=1.0.4 in environment.yml"),
        ("sphinx-mathjax-offline>=0.0.2", "sphinx-mathjax-offline", "sphinx-mathjax-offline: "),
        ("python=3.11", "python=3.10", "python=3.10 is outside >=3.11"),
        ("      - -e .\n", "", "the package itself is not installed"),
    ],
)
def test_a_conda_environment_out_of_step_is_noticed(project, old, new, complaint):
    text = (ROOT / "environment.yml").read_text()
    assert text.count(old) == 1
    (found,) = conda_disagreements(project, yaml.safe_load(text.replace(old, new)))
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    ("pattern", "new", "complaint"),
    [
        (r"^rich==.*\n", "", "rich is not pinned"),
        (r"^jupyter-book==.*$", "jupyter-book==2.1.0", "jupyter-book==2.1.0 is outside"),
        (r"^dask==.*\n", "", "dask is not pinned"),
        (r"^rich==", "other @ ../other\nrich==", "not an exact pin: other @ ../other"),
    ],
)
def test_pins_out_of_step_are_noticed(project, constraints, pattern, new, complaint):
    doctored, changes = re.subn(pattern, new, constraints, flags=re.MULTILINE)
    assert changes == 1
    (found,) = pin_disagreements(project, doctored)
    assert found.startswith(complaint)
