"""Wrong input through each way in: one line that names field, value and what is allowed, and nothing done or left behind.

The shell (beside the table of test_cli.py), a notebook's parameters, Python, files of the project that were damaged, and what
hypothesis thinks of.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lra_companion import RunConfig, cli, notebooks, places, profiles, train, train_many
from lra_companion.chunks import chunks
from lra_companion.config import LearnerConfig, parse
from lra_companion.experiments import NOTEBOOKS
from lra_companion.learners import make_learner
from lra_companion.memory import runs_that_fit
from lra_companion.notebooks import run_notebook
from lra_companion.training import run_group
from runs import run_config

NO_GPU = not torch.cuda.is_available()
LARGEST = "--sequence-length 10000 --hidden-size 10000 --batch-size 100000"

# command ({file} and {folder} are there already), words that the one line must hold
SHELL = [
    ("train --task temporal_oder", ["task.name = 'temporal_oder'", "did you mean temporal_order?"]),
    ("train --task ''", ["task.name = ''", "'adding'"]),
    ("train --task adding --learner lra_relased", ["'lra_relased'", "did you mean lra_released?"]),
    ("train --task adding --local-loss log_penlty", ["'log_penlty'", "did you mean log_penalty?"]),
    ("train --task adding --optimiser adm", ["optimiser.name = 'adm'", "did you mean adam?"]),
    ("train --task adding --sequence-length 10001", ["sequence_length = 10001", "10000"]),
    ("train --task adding --hidden-size 10001", ["hidden_size = 10001", "10000"]),
    ("train --task adding --hidden-size 1e3", ["hidden-size", "'1e3'", "integer"]),
    ("train --task adding --batch-size 100001", ["batch_size = 100001", "100000"]),
    ("train --task adding --inner-steps 1001", ["inner_steps = 1001", "1000"]),
    ("train --task adding --seed 1.5", ["seed", "1.5", "integer"]),
    ("train --task adding --clip-norm nan", ["clip_norm = nan", "finite"]),
    ("train --task adding --target-step-size -inf", ["target_step_size = -inf", "finite"]),
    ("train --task adding --learner tptt --inverse-noise -1", ["inverse_noise = -1.0", "0"]),
    (
        "train --task adding --learner lra_ablation --released pull_to_stat",
        ["learner.lra_ablation.released.0 = 'pull_to_stat'", "did you mean pull_to_state?"],
    ),
    (
        "train --task adding --learner lra_ablation --released no_first_step --released no_first_step",
        ["released = ['no_first_step', 'no_first_step']", "differ"],
    ),
    (
        "train --task adding --learner lra_released --regularisation-strength 1 --batch-size 9 --hidden-size 8",
        ["protocol.batch_size = 9", "at most network.hidden_size = 8"],
    ),
    ("train --task sequential_digits", ["sequence_length = 20", "64", "8"]),
    (f"train --task adding {LARGEST}", ["protocol.batch_size = 100000", "GB of memory", "GB are allowed"]),
    (
        "train --task adding --sequence-length 10000 --hidden-size 10000",
        ["network.hidden_size = 10000", "GB"],
    ),
    ("train --task adding --device gpu", ["device = 'gpu'", "auto, cpu, cuda"]),
    ("train --task adding --scheduler tcp://127.0.0.1:1", ["--scheduler"]),
    ("sweep --profile smoke --scheduler localhost", ["scheduler = 'localhost'", "tcp://"]),
    ("sweep --profile smoke --scheduler http://127.0.0.1", ["scheduler = 'http://127.0.0.1'", "tcp://"]),
    ("sweep --profile smoke --device tpu", ["device = 'tpu'", "cuda"]),
    ("reproduce --profile smoke --scheduler 8786", ["scheduler = '8786'", "tcp://"]),
    ("tune --profile smoke --device GPU", ["device = 'GPU'", "cuda"]),
    ("notebook 01_tasks --scheduler ''x", ["scheduler = 'x'", "tcp://"]),
    ("notebook 01_tasks -p device cuda", ["device = 'cuda'", "option"]),
    ("notebook 01_tasks -p scheduler tcp://127.0.0.1:1", ["scheduler", "option"]),
    ("notebook ../x", ["notebook = '../x'", "known are 01_tasks"]),
    ("notebook ../notebooks/01_tasks", ["notebook = '../notebooks/01_tasks'", "01_tasks"]),
    ("notebook /etc/passwd", ["notebook = '/etc/passwd'"]),
    ("notebook ''", ["notebook = ''", "known are"]),
    ("notebook 01_tasks --profile ../profiles/smoke", ["profile = '../profiles/smoke'", "smoke"]),
    ("notebook 01_tasks -p seeds '[]' --profile smoke", ["seeds = []", "at least 1"]),
    ("notebook 01_tasks -p tasks '[temporal_oder]' --profile smoke", ["did you mean temporal_order?"]),
    ("notebook 05_regularisation -p clip_norm .nan --profile smoke", ["clip_norm = nan", "finite"]),
    ("notebook 05_regularisation -p clip_norm '!!python/object:os.system {}'", ["clip_norm", "is not YAML"]),
    (
        "notebook 01_tasks -p sequence_length 10000 -p evaluation_size 1000000 --profile smoke",
        ["task.sequence_length = 10000", "GB of memory"],
    ),
    ("sweep --profile smoke --results {file}", ["--results", "{file}", "a folder is needed"]),
    ("sweep --profile smoke --results {file}/sub", ["--results", "{file}", "a folder is needed"]),
    ("status --profile smoke --results {file}", ["--results", "{file}", "a folder is needed"]),
    ("claims --results {file}", ["--results", "{file}", "a folder is needed"]),
    ("notebook 01_tasks --output-dir {file}", ["--output-dir", "{file}", "a folder is needed"]),
    ("reproduce --profile smoke --build {file}/a/b", ["--build", "{file}", "a folder is needed"]),
    ("book --build {file}", ["--build", "{file}", "a folder is needed"]),
    ("book --picture {folder}", ["--picture", "{folder}", "a file is needed"]),
    ("tune --profile smoke --settings {folder}", ["--settings", "{folder}", "a file is needed"]),
    ("sweep --profile smoke --results {folder}/" + "x" * 300, ["--results", "name too long"]),
]


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run a wrong command in an empty folder: what stands on stderr, which must be all it left."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("lra_companion.chunks.run_group", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(notebooks.papermill, "execute_notebook", lambda *_, **__: pytest.fail("ran"))

    def run(line: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["lra-companion", *shlex.split(line)])
            with pytest.raises(SystemExit) as caught:
                cli.main()
        done = capsys.readouterr()
        assert (caught.value.code, done.out) == (2, "")
        assert done.err.startswith("lra-companion: ") and done.err.count("\n") == 1, done.err
        assert "Traceback" not in done.err
        assert list(here.iterdir()) == []
        assert not {places.DEVICE_VARIABLE, places.SCHEDULER_VARIABLE} & set(os.environ)
        return done.err

    return run


@pytest.mark.parametrize(("line", "words"), SHELL, ids=[line[:90] for line, _ in SHELL])
def test_the_shell(line: str, words: list[str], shell: Callable[[str], str], tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("in the way")
    folder.mkdir()

    def filled(text: str) -> str:
        return text.replace("{file}", str(file)).replace("{folder}", str(folder))

    said = shell(filled(line))
    for word in words:
        assert filled(word) in said
    assert file.read_text() == "in the way" and not list(folder.iterdir())


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
@pytest.mark.parametrize(
    "command", ["train --task adding", "sweep", "notebook 01_tasks", "reproduce", "tune"]
)
def test_cuda_where_there_is_none(command: str, shell: Callable[[str], str]) -> None:
    profile = "" if command.startswith("train") else "--profile smoke"
    assert "device = 'cuda': PyTorch finds no GPU here" in shell(f"{command} {profile} --device cuda")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("sweep --profile smoke --results locked", "--results"),
        ("notebook 01_tasks --output-dir locked/sub", "--output-dir"),
        ("tune --profile smoke --settings locked/a.yaml", "--settings"),
        ("status --results locked", "--results"),
    ],
)
def test_a_folder_without_permission(
    line: str, option: str, shell: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    real = os.access  # root may everything, and nothing else is different here
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and real(path, mode))
    said = shell(line.replace("locked", str(locked)))
    assert option in said and re.search(f"{locked}' is not readable|{locked} may not be", said)
    locked.chmod(0o700)
    assert list(locked.iterdir()) == []


# A notebook's parameters, as its first cell checks them


def given_to(name: str, profile: str = "smoke") -> dict[str, Any]:
    """Right parameters of a notebook, as papermill would put them in."""
    return profiles.parameters_of(name, profile, {}, ".", 1).model_dump(mode="json", exclude_none=True)


EVERY_NOTEBOOK: list[tuple[str, Any, list[str]]] = [
    ("jbos", 1, ["jbos = 1", "did you mean jobs?"]),
    ("jobs", 0, ["jobs = 0", "greater than or equal to 1"]),
    ("jobs", 1025, ["jobs = 1025", "1024"]),
    ("jobs", "2", ["jobs = '2'", "integer"]),
    ("jobs", float("nan"), ["jobs = nan", "integer"]),
    ("results", 3, ["results = 3", "string"]),
    ("profile", ["smoke"], ["profile = ['smoke']", "string"]),
]
A_NOTEBOOK: list[tuple[str, str, Any, list[str]]] = [
    ("01_tasks", "seeds", [2**63], ["seeds.0 = 9223372036854775808", "less than"]),
    ("01_tasks", "seeds", [1, 1], ["seeds = [1, 1]", "differ"]),
    ("01_tasks", "seeds", [[1]], ["seeds"]),
    ("01_tasks", "tasks", "adding", ["tasks = 'adding'", "list"]),
    ("01_tasks", "tasks", ["addin"], ["tasks.0 = 'addin'", "did you mean adding?"]),
    ("01_tasks", "sequence_length", 10_001, ["sequence_length = 10001", "10000"]),
    ("01_tasks", "sequence_length", 20.0, ["sequence_length = 20.0", "integer"]),
    ("01_tasks", "max_iterations", -5, ["max_iterations = -5"]),
    ("01_tasks", "max_iterations", True, ["max_iterations = True", "integer"]),
    ("01_tasks", "validate_every", 0, ["validate_every = 0"]),
    ("01_tasks", "evaluation_size", 1_000_001, ["evaluation_size = 1000001", "1000000"]),
    ("02_vanishing_gradients", "seeds", [], ["seeds = []", "at least 1"]),
    ("05_regularisation", "clip_norm", float("inf"), ["clip_norm = inf", "finite"]),
    ("05_regularisation", "regularisation_strengths", [float("nan")], ["strengths.0 = nan", "finite"]),
    ("05_regularisation", "settings", {"adding": 1}, ["settings", "list"]),
    ("05_regularisation", "learners", ["lra_relesed"], ["learners.0 = 'lra_relesed'", "lra_released"]),
    ("04_local_losses", "local_losses", ["hubr"], ["'hubr'", "did you mean huber?"]),
    ("07_baselines", "seeds", [-1], ["seeds.0 = -1"]),
]


@pytest.mark.parametrize(
    ("name", "parameter", "value", "words"),
    [(name, *row) for name in ("01_tasks", "08_released_code", "10_claims") for row in EVERY_NOTEBOOK]
    + A_NOTEBOOK,
)
def test_a_notebook_s_parameters(name: str, parameter: str, value: Any, words: list[str]) -> None:
    right = given_to(name)
    NOTEBOOKS[name].from_notebook(right)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        NOTEBOOKS[name].from_notebook(right | {parameter: value})
    for word in words:
        assert word in str(caught.value)


# Python

RIGHT: dict[str, Any] = {
    "task": {"name": "adding", "sequence_length": 20},
    "learner": {"name": "lra"},
    "seed": 0,
}
HUGE = parse(
    RunConfig,
    RIGHT
    | {"network": {"hidden_size": 10_000}, "protocol": {"batch_size": 100_000}}
    | {"task": {"name": "adding", "sequence_length": 10_000}},
)


def config(**changes: Any) -> Callable[[], Any]:
    return lambda: parse(RunConfig, RIGHT | changes)


def learner(**fields: Any) -> Callable[[], Any]:
    return config(learner={"name": "lra"} | fields)


PYTHON: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("a list", lambda: parse(RunConfig, [RIGHT]), ["config = [", "dictionary"]),  # type: ignore[arg-type]
    ("nothing", lambda: parse(RunConfig, {}), ["task: is missing", "learner: is missing", "seed"]),
    ("a section misspelt", config(protocl={}), ["protocl = {}", "did you mean protocol?"]),
    (
        "a field misspelt",
        config(protocol={"pateince": 1}),
        ["protocol.pateince = 1", "did you mean patience?"],
    ),
    ("a setting misspelt", learner(clip_nrom=1.0), ["learner.lra.clip_nrom", "did you mean clip_norm?"]),
    ("another rule's setting", learner(inverse_noise=1.0), ["learner.lra.inverse_noise = 1.0"]),
    ("a learner without a name", config(learner={}), ["learner.name: is missing"]),
    ("a learner that is a name", config(learner="lra"), ["learner = 'lra'", "dictionary"]),
    ("a seed that is a share", config(seed=0.5), ["seed = 0.5", "integer"]),
    ("a seed that is none", config(seed=None), ["seed = None", "integer"]),
    ("a seed that is true", config(seed=True), ["seed = True", "integer"]),
    ("a seed of 5000 digits", config(seed=10**5000), ["seed", "too long to print", "less than"]),
    ("a text of many lines", config(seed="1\n2"), ["seed = '1\\n2'"]),
    ("a name of two lines", config(**{"se\ned": 1}), ["se ed = 1"]),
    ("a learning rate of NaN", config(optimiser={"learning_rate": float("nan")}), ["learning_rate = nan"]),
    ("a share of 1", config(protocol={"solved_error": 1.0}), ["solved_error = 1.0", "less than 1"]),
    ("a very long value", config(seed="x" * 10_000), ["seed = 'xxx", "..."]),
    ("no jobs", lambda: train_many([run_config()], jobs=0), ["jobs = 0", "at least 1"]),
    ("half a job", lambda: train_many([run_config()], jobs=1.5), ["jobs = 1.5", "whole"]),  # type: ignore[arg-type]
    ("jobs as text", lambda: train_many([run_config()], jobs="2"), ["jobs = '2'"]),  # type: ignore[arg-type]
    ("a plain dictionary", lambda: train_many([RIGHT]), ["configs hold", "RunConfig"]),  # type: ignore[list-item]
    ("no device", lambda: train_many([run_config()], device="gpu"), ["device = 'gpu'", "cuda"]),
    ("no such device", lambda: train(run_config(), device="mps"), ["device = 'mps'", "cuda"]),
    ("no address", lambda: train_many([run_config()], scheduler="here"), ["scheduler = 'here'", "tcp://"]),
    ("too large to train", lambda: train(HUGE), ["GB of memory", "GB are allowed"]),
    ("too large for a sweep", lambda: train_many([run_config(), HUGE]), ["hidden_size = 10000", "GB"]),
    ("too large for a chunk", lambda: chunks([HUGE], 2), ["batch_size = 100000", "GB"]),
    ("no room at all", lambda: runs_that_fit(run_config(), 1000.0), ["GB of memory", "0.0 GB are allowed"]),
    ("runs without shape", lambda: next(run_group([])), ["configs", "one shape"]),
    (
        "runs of two shapes",
        lambda: next(run_group([run_config("lra"), run_config("bptt")])),
        ["configs", "one shape"],
    ),
    ("no learner", lambda: make_learner([]), ["configs = []"]),
    (
        "a notebook elsewhere",
        lambda: run_notebook("../x", "smoke", {}, Path("out"), Path("store"), 1),
        ["notebook = '../x'", "known are"],
    ),
    (
        "a notebook with a misspelt parameter",
        lambda: run_notebook("01_tasks", "smoke", {"sedes": [1]}, Path("out"), Path("store"), 1),
        ["sedes = [1]", "did you mean seeds?"],
    ),
    (
        "a notebook of runs too large",
        lambda: run_notebook(
            "01_tasks",
            "smoke",
            {"sequence_length": 10_000, "evaluation_size": 1_000_000},
            Path("out"),
            Path("store"),
            1,
        ),
        ["task.sequence_length = 10000", "GB"],
    ),
]


@pytest.mark.parametrize(("action", "words"), [row[1:] for row in PYTHON], ids=[row[0] for row in PYTHON])
def test_python(
    action: Callable[[], Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        action()
    for word in words:
        assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Files of the project that were damaged

NOTEBOOK = (profiles.BOOK / "notebooks" / "01_tasks.ipynb").read_text(encoding="utf-8")
DAMAGED = {
    "empty": "",
    "cut off": NOTEBOOK[:2000],
    "no JSON": "no notebook",
    "a list": "[]",
    "a text": '"x"',
    "no cells": '{"metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "cells that are none": '{"cells": [1], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "of a format to come": '{"cells": [], "metadata": {}, "nbformat": "x", "nbformat_minor": 5}',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_notebook(
    kind: str, shell: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book" / "notebooks").mkdir(parents=True)
    (tmp_path / "book" / "notebooks" / "01_tasks.ipynb").write_text(DAMAGED[kind])
    monkeypatch.setattr(notebooks, "BOOK", tmp_path / "book")
    assert "notebook = '01_tasks.ipynb': cannot be read as one (" in shell(
        "notebook 01_tasks --profile smoke"
    )


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("notebook 01_tasks", "01_tasks: {sedes: [1]}", ["sedes = [1]", "did you mean seeds?"]),
        ("notebook 01_tasks", "01_tasks: {seeds: 1}", ["seeds = 1", "list"]),
        ("sweep", "01_tasks: {seeds: [1, 1]}", ["seeds = [1, 1]", "differ"]),
        ("sweep", "tunning: {seed: 1}", ["tunning", "is no notebook"]),
        ("tune", "tuning: {trails: 3}", ["trails = 3", "did you mean trials?"]),
        ("tune", "tuning: 3", ["tuning = 3"]),
        ("tune", "tunning: {}", ["tuning = None"]),
        ("status", "01_tasks: {seeds: [1}", ["is not YAML"]),
    ],
)
def test_a_profile_with_a_mistake(
    command: str,
    text: str,
    words: list[str],
    shell: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)
    said = shell(f"{command} --profile mine")
    for word in words:
        assert word in said


# Whatever else there may be

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["lra", "bptt", "adding", "sgd", "clip", "mse", ""])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
COMPLETE = [
    run_config(rule, optimiser=optimiser).model_dump(mode="json")
    for rule, optimiser in [
        ("lra_omega", "adam"),
        ("bptt", "sgd"),
        ("lra_ablation_omega", "nesterov"),
        ("tptt", "rmsprop"),
        ("lra_released", "adagrad"),
        ("readout", "sgd"),
    ]
]


def read(data: Any) -> None:
    """Either a configuration that survives the way through JSON, or one line that says why not."""
    found, complaint = None, ""
    try:
        found = parse(RunConfig, data)
    except ValueError as error:
        complaint = str(error)
    if found is None:
        assert len(complaint.splitlines()) == 1 and complaint.encode()
        return
    again = parse(RunConfig, json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False)))
    assert again == found and again.key() == found.key()
    assert re.fullmatch(r"[0-9a-f]{16}", found.key())


@given(json_values)
def test_any_json_is_a_configuration_or_one_line(data: Any) -> None:
    read(data)


@given(
    st.sampled_from(COMPLETE),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), json_values), min_size=1, max_size=3),
)
def test_a_configuration_with_some_values_exchanged(document: dict[str, Any], changes: list[Any]) -> None:
    data = deepcopy(document)
    for section_number, field_number, value in changes:
        section = list(data)[section_number % len(data)]
        inside = data[section]
        if isinstance(inside, dict) and inside and field_number % (len(inside) + 1):
            inside[list(inside)[field_number % len(inside)]] = value
        else:
            data[section] = value
    read(data)


@given(
    st.sampled_from(COMPLETE),
    st.sampled_from(["task", "network", "optimiser", "learner", "protocol"]),
    st.text(max_size=12),
    json_values,
)
def test_a_field_too_many_is_named(document: dict[str, Any], section: str, name: str, value: Any) -> None:
    if name in document[section]:
        return
    data = document | {section: document[section] | {name: value}}
    with pytest.raises(ValueError, match="extra inputs are not permitted"):
        parse(RunConfig, data)
    read(data)


def test_every_learner_is_among_the_complete_documents() -> None:
    kinds = {kind.__name__ for kind in LearnerConfig.__args__[0].__args__}  # type: ignore[attr-defined]
    assert len(kinds) == len({document["learner"]["name"] for document in COMPLETE})
    assert all(parse(RunConfig, document) for document in COMPLETE)
