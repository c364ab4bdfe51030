"""The shell: exit codes, one line on stderr for what is wrong, one JSON document on stdout, nothing written in vain."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from lra_companion import RunConfig, book_commands, cli, notebooks, profiles, train_command, training
from lra_companion.claims import CLAIMS
from lra_companion.fidelity import MEASURED_FOLDER
from lra_companion.runs import RunState
from lra_companion.store import ResultStore
from lra_companion.training import train
from lra_companion.unfinished import Unfinished
from runs import OPTIMISERS, outcome, run_config

QUICK = "--max-iterations 3 --validate-every 2 --hidden-size 4 --batch-size 2 --sequence-length 10"


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


Shell = Callable[[str], Done]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> Done:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["lra-companion", *shlex.split(line)])
            patch.setattr(sys, "stderr", sys.stderr)  # put back whatever --quiet does to it
            with pytest.raises(SystemExit) as caught:
                cli.main()
        code = caught.value.code
        return Done(code if isinstance(code, int) else 0 if code is None else 1, *capsys.readouterr())

    return run


@pytest.fixture
def small_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure accuracy on few sequences: there is no option for it, and 10,000 take a while."""
    real = training.Task.evaluation_batch
    monkeypatch.setattr(
        training.Task, "evaluation_batch", lambda self, seed, split, size: real(self, seed, split, 50)
    )


# What is wrong

WRONG = [
    # command, words that the message must hold
    ("train", ["task"]),
    ("train --task sorting", ["task.name", "'sorting'", "temporal_order", "adding"]),
    ("train --task adding --learner hebb", ["learner", "'hebb'", "lra", "bptt", "readout"]),
    ("train --task adding --sequence-length 9", ["sequence_length = 9", "10"]),
    ("train --task adding --sequence-length 9.5", ["sequence-length", "9.5", "integer"]),
    ("train --task adding --hidden-size 0", ["hidden_size = 0", "1"]),
    ("train --task adding --optimiser momentum", ["optimiser.name", "'momentum'", "adam"]),
    ("train --task adding --learning-rate 0", ["learning_rate = 0.0", "greater than 0"]),
    ("train --task adding --learning-rate nan", ["learning_rate = nan", "finite"]),
    ("train --task adding --learning-rate inf", ["learning_rate = inf", "finite"]),
    ("train --task adding --learning-rate fast", ["learning-rate", "fast", "number"]),
    ("train --task adding --preset papr", ["preset", "'papr'", "paper", "recommended"]),
    ("train --task adding --preset paper --learner bptt", ["preset", "'paper'", "learner", "'bptt'"]),
    ("train --task adding --local-loss hubert", ["local_loss", "'hubert'", "log_penalty", "mse"]),
    ("train --task adding --reduction sum", ["reduction", "'sum'", "mean", "per_example"]),
    ("train --task adding --target-step-size -1", ["target_step_size = -1.0", "greater than 0"]),
    ("train --task adding --inner-steps 0", ["inner_steps = 0", "1"]),
    ("train --task adding --clip-norm -1", ["clip_norm = -1.0", "0"]),
    ("train --task adding --clip-mode cut", ["clip_mode", "'cut'", "normalise"]),
    ("train --task adding --target-clip-norm -1", ["target_clip_norm = -1.0"]),
    ("train --task adding --target-clip-mode cut", ["target_clip_mode", "'cut'"]),
    ("train --task adding --regularisation-strength -0.1", ["regularisation_strength = -0.1"]),
    ("train --task adding --regularisation-scope all", ["regularisation_scope", "'all'", "batch", "example"]),
    ("train --task adding --batch-size 0", ["batch_size = 0"]),
    ("train --task adding --max-iterations 0", ["max_iterations = 0"]),
    ("train --task adding --validate-every 0", ["validate_every = 0"]),
    ("train --task adding --patience 0", ["patience = 0"]),
    ("train --task adding --seed -1", ["seed = -1", "0"]),
    ("train --task adding --seed 9223372036854775808", ["seed = 9223372036854775808"]),
    ("train --task adding --learner bptt --inner-steps 3", ["inner_steps = 3"]),
    ("train --task adding --learner readout --clip-norm 1", ["clip_norm = 1.0"]),
    ("train --task adding --lerning-rate 1", ["--lerning-rate"]),
    ("train --task adding surplus", ["surplus"]),
    ("trian --task adding", ["trian"]),
    ("notebook 01_task", ["notebook = '01_task'", "did you mean 01_tasks"]),
    ("notebook 01_tasks --profile smok", ["profile = 'smok'", "did you mean smoke"]),
    ("notebook 01_tasks -p sedes '[1]' --profile smoke", ["sedes = [1]", "did you mean seeds"]),
    ("notebook 01_tasks -p seeds '[1, 1]' --profile smoke", ["seeds = [1, 1]", "differ"]),
    ("notebook 01_tasks -p seeds two --profile smoke", ["seeds = 'two'", "list"]),
    ("notebook 01_tasks -p seeds '[1' --profile smoke", ["seeds = '[1'", "YAML"]),
    ("notebook 01_tasks -p seeds --profile smoke", ["seeds"]),
    ("notebook 01_tasks -p --profile smoke", ["-p"]),
    ("notebook 01_tasks --sedes 1 --profile smoke", ["--sedes"]),
    ("notebook 01_tasks -p jobs 2 --profile smoke", ["jobs = 2", "option"]),
    ("notebook 01_tasks --jobs -1 --profile smoke", ["jobs = -1"]),
    ("notebook 01_tasks -p max_iterations 0 --profile smoke", ["max_iterations = 0"]),
    ("notebook", ["name"]),
    ("reproduce --profile none", ["profile = 'none'", "known are", "smoke"]),
    ("reproduce --profile smoke --jobs -2", ["jobs = -2"]),
    ("status --profile none", ["profile = 'none'"]),
    ("tune --profile none", ["profile = 'none'"]),
    ("tune --trials 0", ["trials", "1"]),
    ("tune --profile smoke --task temporal_oder --results found", ["temporal_oder", "temporal_order"]),
    ("tune --profile smoke --group lra_omga --results found", ["group = 'lra_omga'", "lra_omega"]),
    ("tune --profile smoke --length 21 --results found", ["length = 21", "20"]),
    ("tune --profile smoke --length 8 --group lra_l1 --results found", ["nothing is left"]),
    ("sweep --profile none", ["profile = 'none'"]),
    ("claims --profile smok", ["profile = 'smok'", "did you mean smoke"]),
    ("claims --profile none --json", ["profile = 'none'", "known are"]),
    ("claims 5", ["5"]),
    ("sweep --profile smoke --notebook 01_task", ["'01_task'", "did you mean 01_tasks"]),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_input(line: str, words: list[str], shell: Shell, tmp_path: Path) -> None:
    done = shell(line)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("lra-companion: ") and done.err.count("\n") == 1, done.err
    for word in words:
        assert word.lower() in done.err.lower()
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


BROKEN_PROFILES = {
    "no YAML": ("01_tasks: [", ["broken"]),
    "empty": ("", ["broken"]),
    "a list": ("- 01_tasks", ["broken"]),
    "an unknown notebook": ("01_task: {seeds: [1]}", ["01_task", "did you mean 01_tasks"]),
    "a notebook missing": ("05_regularisation: {}", ["01_tasks"]),
    "only how to tune": ("tuning: {seed: 1}", ["01_tasks"]),
    "no parameters": ("01_tasks:", ["01_tasks"]),
}


@pytest.mark.parametrize("kind", BROKEN_PROFILES)
def test_a_broken_profile(
    kind: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("profiles")
    text, words = BROKEN_PROFILES[kind]
    (folder / "broken.yaml").write_text(text)
    monkeypatch.setattr(profiles, "PROFILES", folder)
    done = shell("notebook 01_tasks --profile broken")
    assert done.code == 2 and done.err.count("\n") == 1 and done.out == ""
    for word in words:
        assert word in done.err
    assert list(tmp_path.iterdir()) == []


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it."""
    script = Path(sys.executable).with_name("lra-companion")
    return subprocess.run(
        [script, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def test_exit_codes_and_streams_of_the_real_command(tmp_path: Path) -> None:
    wrong = command("train", "--task", "sorting", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1 and "sorting" in wrong.stderr
    arguments = shlex.split(f"train --task random_permutation --learner bptt --json --seed 3 {QUICK}")
    right = command(*arguments, cwd=tmp_path)
    assert (right.returncode, right.stderr) == (0, "")
    assert json.loads(right.stdout)["iterations"] == 3
    assert list(tmp_path.iterdir()) == []


# train


LEARNERS_AND_LOSSES = [
    *(f"lra --local-loss {loss}" for loss in ("log_penalty", "mse", "huber", "l1", "cosine")),
    *(f"lra_released --local-loss {loss}" for loss in ("log_penalty", "mse")),
    *("bptt", "readout", "tptt"),
]
TASKS = ["temporal_order", "temporal_order_3bit", "random_permutation", "adding", "sequential_digits"]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("learner", LEARNERS_AND_LOSSES)
def test_every_learner_loss_task_and_optimiser_trains(
    learner: str, task: str, optimiser: str, shell: Shell, small_validation: None
) -> None:
    quick = QUICK.replace(
        "--sequence-length 10", f"--sequence-length {8 if task == 'sequential_digits' else 10}"
    )
    done = shell(
        f"train --task {task} --learner {learner} --optimiser {optimiser} --learning-rate 0.01 --json {quick}"
    )
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    config = document["config"]
    assert (config["task"]["name"], config["learner"]["name"]) == (task, learner.split()[0])
    assert config["learner"].get("local_loss") == (learner.split()[-1] if "--" in learner else None)
    assert config["optimiser"] == {"name": optimiser, "learning_rate": 0.01}
    assert (document["status"], document["iterations"]) == ("max_iterations", 3)
    assert [row["iteration"] for row in document["history"]] == [0, 2, 3]


def test_json_holds_what_training_gives(shell: Shell, small_validation: None, tmp_path: Path) -> None:
    done = shell(
        f"train --task adding --learner lra --local-loss mse --reduction per_example --target-step-size 2 "
        f"--inner-steps 2 --clip-norm 0.5 --clip-mode normalise --target-clip-norm 0.25 --target-clip-mode clip "
        f"--regularisation-strength 0.1 --regularisation-scope example --no-regularise-targets "
        f"--no-regularise-recurrent --no-regularise-readout --regularise-input --patience 7 --seed 11 --json {QUICK}"
    )
    document = json.loads(done.out)
    config = RunConfig.model_validate(document["config"])
    assert config.learner.model_dump() == config.learner.model_dump() | {
        "name": "lra",
        "local_loss": "mse",
        "reduction": "per_example",
        "target_step_size": 2.0,
        "inner_steps": 2,
        "clip_norm": 0.5,
        "clip_mode": "normalise",
        "target_clip_norm": 0.25,
        "target_clip_mode": "clip",
        "regularisation_strength": 0.1,
        "regularisation_scope": "example",
        "regularise_targets": False,
        "regularise_recurrent": False,
        "regularise_readout": False,
        "regularise_input": True,
    }
    assert (config.seed, config.protocol.patience, config.protocol.batch_size) == (11, 7, 2)
    assert document["key"] == config.key()
    expected = outcome(train(config))
    for name in ("status", "iterations", "validation_accuracy", "test_accuracy", "history"):
        assert document[name] == expected[name]
    assert list(tmp_path.iterdir()) == []


def test_json_survives_divergence(shell: Shell, small_validation: None) -> None:
    done = shell(f"train --task adding --learner readout --learning-rate 1e38 --json {QUICK}")

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(done.out, parse_constant=refuse)["status"] == "diverged"
    assert done.code == 0


def test_the_table_for_readers(shell: Shell, small_validation: None) -> None:
    done = shell(f"train --task adding --learner bptt {QUICK}")
    assert (done.code, done.err) == (0, "")
    assert "validation accuracy" in done.out
    assert "max_iterations after 3 iterations; test accuracy 0." in done.out


def test_quiet(shell: Shell, small_validation: None) -> None:
    assert shell(f"train --task adding --learner bptt --quiet {QUICK}") == Done(0, "", "")
    done = shell(f"train --task adding --learner bptt --quiet --json {QUICK}")
    assert (done.code, done.err) == (0, "") and json.loads(done.out)["iterations"] == 3


class Broken:
    """A learner with a defect."""

    def __init__(self, *_: Any) -> None:
        pass

    def gradients(self, *_: Any, **__: Any) -> Any:
        raise ArithmeticError("out of sorts")


@pytest.mark.parametrize("quiet", ["", "--quiet"])
def test_a_failed_training_is_one_line_and_code_1(
    quiet: str, shell: Shell, small_validation: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "make_learner", Broken)
    done = shell(f"train --task adding {quiet} {QUICK}")
    assert done.code == 1 and done.out == ""
    assert done.err.count("\n") == 1 and "out of sorts" in done.err


def test_an_interruption_is_one_line_and_code_1(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "train_many", interrupt)
    monkeypatch.setattr(os, "_exit", sys.exit)
    done = shell(f"train --task adding {QUICK}")
    assert done.code == 1 and done.err.count("\n") == 1 and "interrupted" in done.err


# notebook


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What notebooks would have been run with."""
    calls: list[tuple[Any, ...]] = []

    def record(*arguments: Any) -> Path:
        calls.append(arguments)
        return Path("done.ipynb")

    monkeypatch.setattr(notebooks, "run_notebook", record)
    return calls


def test_parameters_of_a_notebook_are_yaml(shell: Shell, asked: list[tuple[Any, ...]]) -> None:
    done = shell(
        "notebook 05_regularisation -p seeds '[1, 2]' -p clip_norm 0.5 --profile smoke "
        "-p tasks '[adding]' --parameter local_loss mse --jobs 3 -p regularisation_strengths [] "
        "-p settings '{adding: {readout: {learning_rate: 0.1}}}' --output-dir out --results store"
    )
    assert done == Done(0, "done.ipynb\n", "")
    changes = {
        "seeds": [1, 2],
        "clip_norm": 0.5,
        "tasks": ["adding"],
        "local_loss": "mse",
        "regularisation_strengths": [],
        "settings": {"adding": {"readout": {"learning_rate": 0.1}}},
    }
    assert asked == [("05_regularisation", "smoke", changes, Path("out"), Path("store"), 3)]


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_numbers_in_any_notation(text: str, shell: Shell, asked: list[tuple[Any, ...]]) -> None:
    shell(f"notebook 05_regularisation -p clip_norm {text} --profile smoke")
    assert asked[0][2] == {"clip_norm": 0.001}


def test_all_cores_unless_told_otherwise(shell: Shell, asked: list[tuple[Any, ...]]) -> None:
    shell("notebook 01_tasks")
    name, profile, changes, _, _, jobs = asked[0]
    assert (name, profile, changes) == ("01_tasks", "quick", {}) and jobs >= 1


def test_a_failing_notebook_is_one_line_and_code_1(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Path:
        raise notebooks.NotebookFailedError("01_tasks: ValueError: no", "ValueError")

    monkeypatch.setattr(notebooks, "run_notebook", fail)
    assert shell("notebook 01_tasks") == Done(1, "", "lra-companion: 01_tasks: ValueError: no\n")


# status, book, tune


ROW = ("done", "left", "begun", "failed", "diverged")


def test_status_counts_what_is_done(shell: Shell, tmp_path: Path) -> None:
    runs = profiles.profile_runs("smoke")
    everything = {name: dict.fromkeys(ROW, 0) | {"left": len(of)} for name, of in runs.items()}
    document = json.loads(shell("status --profile smoke --json --results store").out)
    assert document == {
        "profile": "smoke",
        "notebooks": everything,
        "begun": [],
        "failed": [],
        "core_seconds_left_at_most": 0.0,
        "runs_left_without_estimate": len({run.key() for of in runs.values() for run in of}),
        "damaged": [],
    }
    assert list(tmp_path.iterdir()) == []
    store = ResultStore("store")
    for run in runs["01_tasks"][:3]:
        store.put(train(run))
    everything["01_tasks"] |= {"done": 3, "left": len(runs["01_tasks"]) - 3}
    done = shell("status --profile smoke --json --results store")
    assert json.loads(done.out)["notebooks"] == everything
    table = shell("status --profile smoke --results store").out
    line = next(line for line in table.splitlines() if "01_tasks" in line)
    assert "3" in line and str(len(runs["01_tasks"]) - 3) in line


def test_status_tells_what_is_begun_and_what_failed_and_how_long_the_rest_may_take(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    long: dict[str, Any] = {"max_iterations": 100, "validate_every": 50}
    solved, begun, failed = (run_config(seed=seed, **long) for seed in (1, 2, 3))
    other, diverged = run_config("lra", **long), run_config("readout", task="adding", rate=1e39)
    monkeypatch.setattr(
        profiles, "profile_runs", lambda _: {"one": [solved, begun, other], "two": [begun, failed, diverged]}
    )
    store = ResultStore("store")
    store.put(replace(train(solved), iterations=40, duration_seconds=4.0))
    store.put(train(diverged))
    tensors = {"parameters.b_y": torch.zeros(1, 2)}
    Unfinished(store).save([RunState(begun, iteration=60, seconds=16.0, tensors=tensors)])
    Unfinished(store).fail(failed, "MemoryError: no more")
    document = json.loads(shell("status --json --results store").out)
    assert document["notebooks"] == {
        "one": dict(zip(ROW, (1, 2, 1, 0, 0), strict=True)),
        "two": dict(zip(ROW, (1, 2, 1, 1, 1), strict=True)),
    }
    assert [(each["key"], each["iteration"]) for each in document["begun"]] == [(begun.key(), 60)]
    assert [(each["key"], each["reason"]) for each in document["failed"]] == [
        (failed.key(), "MemoryError: no more")
    ]
    assert RunConfig.model_validate(document["failed"][0]["config"]) == failed
    # 20 s for 100 iterations; of the one that is begun 40 are left, of the one that failed all 100.
    assert document["core_seconds_left_at_most"] == pytest.approx(0.2 * 140)
    assert document["runs_left_without_estimate"] == 1, "nothing is known of lra"
    text = " ".join(shell("status --results store").out.split())
    assert f"begun: {begun.key()}, at iteration 60 of 100" in text and '"name": "bptt"' in text
    assert f"failed: {failed.key()}, MemoryError: no more" in text
    assert "at most 28 s of one core" in text and "nothing to go by for 1 run" in text


def test_status_names_damaged_files(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    done, begun = run_config(seed=1), run_config(seed=2)
    monkeypatch.setattr(profiles, "profile_runs", lambda _: {"one": [done, begun]})
    store = ResultStore("store")
    store.put(train(done))
    Unfinished(store).save([RunState(begun, iteration=1, tensors={"parameters.b_y": torch.zeros(1, 2)})])
    names = [f"{done.key()}.json", f"unfinished/{begun.key()}.safetensors"]
    for name in names:
        file = store.path / name
        file.write_bytes(file.read_bytes()[:-9])
    found = json.loads(shell("status --json --results store").out)
    assert found["notebooks"]["one"] == dict(zip(ROW, (0, 2, 0, 0, 0), strict=True))
    assert found["damaged"] == sorted(str(Path(name).with_suffix(".damaged")) for name in names)
    assert f"damaged: {done.key()}.damaged was set aside" in shell("status --results store").out


def test_status_estimates_from_runs_that_stop_otherwise(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = run_config(max_iterations=10), run_config(max_iterations=36000)
    monkeypatch.setattr(profiles, "profile_runs", lambda _: {"one": [short, long]})
    ResultStore("store").put(replace(train(short), iterations=10, duration_seconds=5.0))
    assert "time left: at most 5.0 h of one core\n" in shell("status --results store").out


def test_status_of_a_folder_that_is_a_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    done = shell("status --profile smoke --results store")
    assert done.code in (1, 2) and done.err.count("\n") == 1 and "store" in done.err


def test_the_book_is_not_built_while_runs_are_missing(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_commands, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(notebooks, "build_site", lambda *_, **__: pytest.fail("built"))
    done = shell("book --build site")
    assert done.code == 1 and done.err.count("\n") == 1
    wanted = len(profiles.profile_runs("quick")["01_tasks"])
    assert f"{wanted} runs of 01_tasks" in done.err and "notebook 01_tasks --profile quick" in done.err
    assert not (tmp_path / "site").exists()


def test_a_chapter_is_published_under_the_best_profile_that_is_complete(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[tuple[Any, ...]]
) -> None:
    monkeypatch.setattr(book_commands, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(profiles, "PUBLISHED_PROFILES", ("quick", "smoke"))
    monkeypatch.setattr(notebooks, "build_site", lambda *_, **__: None)
    stored = {"quick": ["01_tasks"], "smoke": list(profiles.NOTEBOOKS)}
    some = train(RunConfig.model_validate(SMALLEST))
    for profile, chapters in stored.items():
        store = tmp_path / "published" / profile
        for name in chapters:
            parameters = profiles.parameters_of(name, profile, {}, ".", 1)
            for config in parameters.runs():
                ResultStore(store).put(replace(some, config=config))
            for config in parameters.measured_runs():
                ResultStore(store / MEASURED_FOLDER).put(replace(some, config=config))
    assert shell("book --build site").code == 0
    shown = {name: (profile, store) for name, profile, _, _, store, _ in asked}
    assert shown.pop("01_tasks") == ("quick", tmp_path / "published" / "quick")
    assert shown.pop("10_claims") == ("quick", tmp_path / "published"), "it reads every profile's results"
    assert set(shown) == set(profiles.NOTEBOOKS) - {"01_tasks", "10_claims"}
    assert set(shown.values()) == {("smoke", tmp_path / "published" / "smoke")}


SMALLEST: dict[str, Any] = {
    "task": {"name": "adding", "sequence_length": 10},
    "network": {"hidden_size": 2},
    "learner": {"name": "readout"},
    "protocol": {"max_iterations": 1, "validation_size": 10, "test_size": 10},
    "seed": 1,
}


def test_a_sweep_trains_what_is_missing_and_nothing_else(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = profiles.profile_runs("smoke")["01_tasks"]
    store = ResultStore("store")
    for run in runs[:3]:
        store.put(train(run))
    before = {file.name: file.stat().st_mtime_ns for file in Path("store").iterdir()}
    done = shell("sweep --profile smoke --notebook 01_tasks --results store --jobs 1")
    assert done == Done(0, f"01_tasks: 3 of {len(runs)} runs are stored\n", "")
    assert {file.stem for file in Path("store").glob("*.json")} == {run.key() for run in runs}
    assert {name: (Path("store") / name).stat().st_mtime_ns for name in before} == before
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_wrong_parameters_stop_a_sweep_before_it_trains(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "SETTINGS", tmp_path / "none")
    done = shell("sweep --profile smoke --results store")
    assert done.code == 2 and "settings lack" in done.err and "lra-companion tune" in done.err
    assert list(tmp_path.iterdir()) == []


def test_tuning_writes_settings_that_the_chapters_take(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "tune --profile smoke --trials 2 --length 8 --results found --settings sub/smoke.yaml --jobs 1"
    done = shell(f"{line} --group readout --group bptt")
    assert (done.code, done.err) == (0, "")
    assert Path("sub/smoke.yaml").read_text() == done.out
    rows = profiles.read_settings(Path("sub/smoke.yaml"))
    assert [row.place for row in rows] == [
        ("sequential_digits", 8, "readout"),
        ("sequential_digits", 8, "bptt"),
    ]
    assert {row.trials for row in rows} == {2} and all(row.core_hours > 0 for row in rows)
    stored = {file.name: file.stat().st_mtime_ns for file in Path("found").glob("*.json")}
    assert len(stored) == 4
    seeds = {result.config.seed for result in ResultStore("found").load_all()}
    assert seeds == {profiles.tuning_plan("smoke").seed}
    again = shell(f"{line} --group lra")
    assert [row.group for row in profiles.read_settings(Path("sub/smoke.yaml"))] == [
        "readout",
        "bptt",
        "lra",
    ]
    assert "group: lra," in again.out and "readout" not in again.out, "only what was searched is printed"
    assert stored.items() <= {file.name: file.stat().st_mtime_ns for file in Path("found").iterdir()}.items()
    monkeypatch.setattr(profiles, "SETTINGS", Path("sub").resolve())
    with pytest.raises(ValueError, match="settings lack readout on random_permutation, T = 10"):
        profiles.parameters_of("07_baselines", "smoke", {}, ".", 1)


# claims

VERDICTS = sum(1 if claim.aim else 2 for claim in CLAIMS)
"""Claims are judged for both methods, aims for one."""


def test_the_verdicts_that_come_with_the_repository(shell: Shell, tmp_path: Path) -> None:
    done = shell("claims")
    assert (done.code, done.err) == (0, "")
    for claim in CLAIMS:
        assert claim.statement in done.out and claim.quantity in done.out and str(claim.threshold) in done.out
    data = json.loads(shell("claims --json").out, parse_constant=lambda name: pytest.fail(name))
    assert len(data["verdicts"]) == VERDICTS
    for name, chapter in data["chapters"].items():
        assert chapter["profile"] == profiles.published_profile(name, book_commands.PUBLISHED)
    for each in data["verdicts"]:
        assert (each["verdict"] == "not run") == (not each["evidence"])
        assert each["verdict"] in done.out
        for piece in each["evidence"]:
            assert piece["low"] <= piece["value"] <= piece["high"] and piece["where"] in done.out
    assert list(tmp_path.iterdir()) == []


def test_without_results_nothing_is_judged(shell: Shell, tmp_path: Path) -> None:
    for line in ("claims --results none", "claims --results none --profile smoke"):
        done = shell(line)
        assert (done.code, done.err) == (0, "")
        assert done.out.count("not run") == VERDICTS and "inconclusive" not in done.out
        assert "No chapter's runs are complete" in done.out
        assert re.search(r"03_clipping \(.*0 of \d+ runs of the profile (quick|smoke) are stored\)", done.out)
        data = json.loads(shell(f"{line} --json").out)
        assert {each["verdict"] for each in data["verdicts"]} == {"not run"}
        assert {each["profile"] for each in data["verdicts"]} == {None}
    assert list(tmp_path.iterdir()) == []


def test_verdicts_by_one_s_own_results(shell: Shell) -> None:
    some = train(RunConfig.model_validate(SMALLEST))
    for config in profiles.profile_runs("smoke")["03_clipping"]:
        ResultStore("own").put(replace(some, config=config, test_accuracy=0.5))
    data = json.loads(shell("claims --results own --profile smoke --json").out)
    found = {(each["claim"], each["method"]): each for each in data["verdicts"]}
    assert found["2", "lra"]["verdict"] == "reproduced"
    assert [piece["value"] for piece in found["2", "lra"]["evidence"]] == [0.0]
    assert found["2", "lra"]["profile"] == "smoke"
    assert {each["verdict"] for place, each in found.items() if place != ("2", "lra")} == {"not run"}
    assert "Runs this short mean nothing" in shell("claims --results own --profile smoke").out
    otherwise = json.loads(shell("claims --results own --json").out)
    assert {each["verdict"] for each in otherwise["verdicts"]} == {"not run"}, "smoke is never published"


def test_verdicts_from_a_folder_that_is_a_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    done = shell("claims --results store")
    assert done.code in (1, 2) and done.err.count("\n") == 1 and "store" in done.err


@pytest.mark.parametrize("text", ["readout: 1", "- 1", "- {task: adding}", "- ["])
def test_a_damaged_file_of_settings_is_named(text: str, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text(text)
    done = shell("tune --profile smoke --results found --settings smoke.yaml")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "smoke.yaml" in done.err or "sequence_length" in done.err
    assert [file.name for file in tmp_path.iterdir()] == ["smoke.yaml"]


def test_help_needs_no_input(shell: Shell) -> None:
    done = shell("--help")
    assert done.code == 0 and done.err == ""
    for name in ("train", "notebook", "reproduce", "book", "sweep", "status", "claims", "tune"):
        assert name in done.out
