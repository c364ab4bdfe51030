"""The notebooks' parameters: what they refuse, and which runs they ask for."""

import itertools
from copy import deepcopy
from typing import Any

import pytest

from lra_companion import notebooks
from lra_companion.experiments import NOTEBOOKS, RegularisationParameters, TasksParameters
from lra_companion.reporting import condition, frame
from lra_companion.training import train
from lra_companion.tuning import TUNING_SEED
from runs import run_config

SETTINGS = {
    "readout": {"learning_rate": 0.5},
    "plain": {"learning_rate": 0.25, "target_step_size": 2.0},
    "regularised": {
        "learning_rate": 0.125,
        "target_step_size": 3.0,
        "regularisation_strength": 0.2,
        "regularisation_scope": "example",
    },
}
VALUES: dict[str, Any] = {
    "profile": "test",
    "results": ".",
    "jobs": 1,
    "seeds": [4, 5, 6],
    "tasks": ["random_permutation", "temporal_order"],
    "sequence_lengths": [20, 30],
    "regularisation_strengths": [0.5, 0.1],
    "settings": {"random_permutation": SETTINGS, "temporal_order": SETTINGS},
    "inner_steps": 3,
    "clip_norm": 1.0,
    "clip_mode": "clip",
    "local_loss": "log_penalty",
    "reduction": "mean",
    "max_iterations": 40,
    "validate_every": 10,
    "evaluation_size": 50,
}
TASK_VALUES: dict[str, Any] = {
    "profile": "test",
    "results": ".",
    "jobs": 1,
    "seeds": [4, 5],
    "tasks": ["adding", "temporal_order"],
    "sequence_length": 20,
    "shown_samples": 3,
    "learning_rates": {"adding": 0.1, "temporal_order": 3.0},
    "max_iterations": 40,
    "validate_every": 10,
    "evaluation_size": 50,
}
PROFILES = sorted(file.stem for file in notebooks.PROFILES.glob("*.yaml"))


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The values with the entry at a dotted path replaced."""
    values = deepcopy(values)
    inner = values
    *above, last = path.split(".")
    for name in above:
        inner = inner[name]
    inner[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sedes", [1], ["sedes = [1]", "did you mean seeds?", "05_regularisation"]),
        ("zzz", 1, ["zzz = 1", "known are", "seeds", "tasks"]),
        ("seeds", [], ["seeds = []", "at least 1"]),
        ("seeds", [1, 2, 1], ["seeds = [1, 2, 1]", "differ"]),
        ("seeds", [1.5], ["seeds.0 = 1.5", "integer"]),
        ("seeds", [-1], ["seeds.0 = -1", "greater than or equal to 0"]),
        ("seeds", 3, ["seeds = 3", "list"]),
        ("seeds", ["1"], ["seeds.0 = '1'", "integer"]),
        ("tasks", [], ["tasks = []"]),
        ("tasks", ["temporal_oder"], ["'temporal_oder'", "temporal_order"]),
        ("tasks", ["random_permutation"] * 2, ["tasks", "differ"]),
        ("tasks", ["random_permutation", "adding"], ["settings", "lack", "adding"]),
        ("sequence_lengths", [9], ["sequence_lengths.0 = 9", "10"]),
        ("sequence_lengths", [20, 20], ["sequence_lengths", "differ"]),
        ("regularisation_strengths", [0.0], ["regularisation_strengths.0 = 0.0", "greater than 0"]),
        ("regularisation_strengths", [0.1, 0.1], ["regularisation_strengths", "differ"]),
        ("max_iterations", 0, ["max_iterations = 0", "1"]),
        ("max_iterations", "many", ["max_iterations = 'many'", "integer"]),
        ("clip_norm", float("nan"), ["clip_norm = nan", "finite"]),
        ("clip_mode", "cut", ["clip_mode = 'cut'", "clip", "normalise"]),
        ("jobs", 0, ["jobs = 0"]),
        ("jobs", True, ["jobs = True"]),
        ("settings.temporal_order.plain.learning_rate", 0.0, ["plain.learning_rate = 0.0", "greater than 0"]),
        ("settings.temporal_order.plain.beta", 1.0, ["plain.beta"]),
        (
            "settings.temporal_order.regularised.regularisation_strength",
            "x",
            ["regularisation_strength = 'x'"],
        ),
        ("settings.temporal_oder", SETTINGS, ["settings.temporal_oder"]),
        ("evaluation_size", 2_000_000, ["evaluation_size = 2000000"]),
    ],
)
def test_refused(path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        RegularisationParameters.checked(changed(VALUES, path, value))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", VALUES)
def test_every_parameter_is_needed(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: is missing"):
        RegularisationParameters.checked({key: value for key, value in VALUES.items() if key != name})


def test_a_task_without_a_learning_rate_is_named() -> None:
    with pytest.raises(ValueError, match=r"learning_rates lack random_permutation"):
        TasksParameters.checked(changed(TASK_VALUES, "tasks", ["adding", "random_permutation"]))


def test_a_notebook_s_namespace_is_read_without_what_jupyter_puts_there() -> None:
    namespace = VALUES | {
        "In": ["x"],
        "Out": {},
        "_": 3,
        "_ih": [],
        "__name__": "__main__",
        "itertools": itertools,
        "train": train,
        "RegularisationParameters": RegularisationParameters,
    }
    assert RegularisationParameters.from_notebook(namespace) == RegularisationParameters.checked(VALUES)


def test_a_misspelt_name_in_a_namespace_is_noticed() -> None:
    with pytest.raises(ValueError, match="did you mean max_iterations"):
        RegularisationParameters.from_notebook(VALUES | {"max_iteration": 5})


def test_seeds_pair_runs_over_all_conditions() -> None:
    parameters = RegularisationParameters.checked(VALUES)
    runs = parameters.runs()
    assert len({run.key() for run in runs}) == len(runs) == 2 * 2 * 3 * (1 + 1 + 3)
    seeds_of: dict[Any, set[int]] = {}
    for run in runs:
        strength = getattr(run.learner, "regularisation_strength", 0.0)
        place = (run.task.name, run.task.sequence_length, run.learner.name, strength)
        seeds_of.setdefault(place, set()).add(run.seed)
    assert set(map(tuple, map(sorted, seeds_of.values()))) == {(4, 5, 6)}
    conditions = [("readout", 0.0), ("lra", 0.0), ("lra", 0.1), ("lra", 0.2), ("lra", 0.5)]
    assert set(seeds_of) == {
        (task, length, *rest) for task in VALUES["tasks"] for length in (20, 30) for rest in conditions
    }


def test_each_condition_runs_with_its_own_settings() -> None:
    for run in RegularisationParameters.checked(VALUES).runs():
        assert run.protocol.max_iterations == 40 and run.protocol.validate_every == 10
        assert run.protocol.validation_size == run.protocol.test_size == 50
        if run.learner.name == "readout":
            assert run.optimiser.learning_rate == 0.5
            continue
        assert run.learner.name == "lra"
        assert run.learner.inner_steps == 3 and run.learner.clip_norm == 1.0
        if run.learner.regularisation_strength:
            assert (run.optimiser.learning_rate, run.learner.target_step_size) == (0.125, 3.0)
            assert run.learner.regularisation_scope == "example"
        else:
            assert (run.optimiser.learning_rate, run.learner.target_step_size) == (0.25, 2.0)


@pytest.mark.parametrize(
    ("asked", "shown"), [([], [0.2]), ([0.2], [0.2]), ([0.5, 0.1], [0.1, 0.2, 0.5]), ([2.0], [0.2, 2.0])]
)
def test_the_tuned_strength_is_always_shown(asked: list[float], shown: list[float]) -> None:
    parameters = RegularisationParameters.checked(changed(VALUES, "regularisation_strengths", asked))
    assert parameters.strengths("temporal_order") == shown


def test_the_control_of_the_tasks_notebook() -> None:
    runs = TasksParameters.checked(TASK_VALUES).runs()
    found = {(run.task.name, run.seed, run.optimiser.learning_rate) for run in runs}
    assert len(runs) == 4
    assert found == {
        (task, seed, rate) for task, rate in TASK_VALUES["learning_rates"].items() for seed in (4, 5)
    }
    assert {run.learner.name for run in runs} == {"readout"}


def test_the_table_of_runs() -> None:
    results = [train(run_config(learner, max_iterations=1)) for learner in ("readout", "lra", "lra_omega")]
    table = frame(results)
    assert list(table.columns) == [
        "task",
        "sequence_length",
        "learner",
        "strength",
        "condition",
        "seed",
        "status",
        "iterations",
        "test_accuracy",
        "result",
    ]
    assert list(table["condition"]) == ["readout", "lra", "lra, α = 0.3"]
    assert list(table["strength"]) == [0.0, 0.0, 0.3]
    assert list(table["result"]) == results
    assert list(table["test_accuracy"]) == [result.test_accuracy for result in results]


def test_different_strengths_are_different_conditions() -> None:
    assert condition("lra", 0.0) == "lra"
    assert condition("lra", 0.12345678) != condition("lra", 0.12345679)


# The profiles of the book


def test_there_are_the_profiles_that_the_makefile_offers() -> None:
    assert {"smoke", "quick"} <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_fits_every_notebook(profile: str) -> None:
    runs = notebooks.profile_runs(profile)
    assert set(runs) == set(NOTEBOOKS)
    assert all(runs.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_shows_the_seed_that_chose_its_settings(profile: str) -> None:
    for runs in notebooks.profile_runs(profile).values():
        assert TUNING_SEED not in {run.seed for run in runs}
