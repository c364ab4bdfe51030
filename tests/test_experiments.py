"""The notebooks' parameters: what they refuse, and which runs they ask for."""

import itertools
from copy import deepcopy
from typing import Any

import pytest

from lra_companion import profiles
from lra_companion.claims import CLAIMS
from lra_companion.config import BPTTConfig, LRAConfig, LRAReleasedConfig
from lra_companion.experiments import (
    GROUPS,
    NOTEBOOKS,
    BaselineParameters,
    ClippingParameters,
    Condition,
    LocalLossParameters,
    RegularisationParameters,
    TasksParameters,
    TunedSettings,
)
from lra_companion.reporting import condition, frame
from lra_companion.training import train
from runs import run_config


def settings_for(tasks: list[str], lengths: list[int], groups: list[str]) -> list[dict[str, Any]]:
    """Tuned settings made by hand. Learning rate: readout 0.5, plain rules 0.25, with Ω 0.125; steps 2, and 3 with Ω."""
    rows: list[dict[str, Any]] = []
    for task, length, group in itertools.product(tasks, lengths, groups):
        row: dict[str, Any] = {
            "task": task,
            "sequence_length": length,
            "group": group,
            "trials": 4,
            "core_hours": 0.5,
        }
        omega = {"regularisation_strength": 0.2, "regularisation_scope": "example"}
        searched = GROUPS[group].searched
        step = {"target_step_size": 3.0 if "regularisation_strength" in searched else 2.0}
        every = omega | step | {"inverse_learning_rate": 0.25}
        row |= {name: value for name, value in every.items() if name in searched}
        rate = 0.5 if group == "readout" else 0.125 if "regularisation_strength" in searched else 0.25
        rows.append(row | {"learning_rate": rate})
    return rows


VALUES: dict[str, Any] = {
    "profile": "test",
    "results": ".",
    "jobs": 1,
    "seeds": [4, 5, 6],
    "tasks": ["random_permutation", "temporal_order"],
    "sequence_lengths": [20, 30],
    "only_lengths": {},
    "left_out": "",
    "learners": ["lra"],
    "regularisation_strengths": [0.5, 0.1],
    "places": [],
    "settings": settings_for(
        ["random_permutation", "temporal_order"], [20, 30], ["readout", "lra", "lra_omega"]
    ),
    "inner_steps": 3,
    "clip_norm": 1.0,
    "clip_mode": "clip",
    "local_loss": "log_penalty",
    "reduction": "mean",
    "max_iterations": 40,
    "validate_every": 10,
    "patience": 7,
    "evaluation_size": 50,
}
OWN = ("learners", "regularisation_strengths", "places")
COMMON: dict[str, Any] = {name: value for name, value in VALUES.items() if name not in OWN}
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
PROFILES = sorted(file.stem for file in profiles.PROFILES.glob("*.yaml"))


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The values with the entry at a dotted path replaced."""
    values = deepcopy(values)
    inner: Any = values
    *above, last = path.split(".")
    for name in above:
        inner = inner[int(name) if isinstance(inner, list) else name]
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
        (
            "tasks",
            ["random_permutation", "adding"],
            ["settings", "lack", "readout", "adding", "T = 20", "tune"],
        ),
        ("sequence_lengths", [9], ["sequence_length = 9", "10"]),
        ("sequence_lengths", [20, 20], ["sequence_lengths", "differ"]),
        ("sequence_lengths", [20, 40], ["settings lack readout on random_permutation, T = 40"]),
        ("tasks", ["sequential_digits"], ["sequence_length = 20", "64", "8"]),
        ("only_lengths", {"lra_released*": [20]}, ["only_lengths", "'lra_released*'", "lra + Ω"]),
        ("only_lengths", {"adding: lra": [20]}, ["only_lengths", "'adding: lra'", "lra + Ω"]),
        ("only_lengths", {"lra": 20}, ["only_lengths.lra = 20", "list"]),
        ("regularisation_strengths", [-0.1], ["regularisation_strengths.0 = -0.1", "greater than or equal"]),
        ("places", ["everywhere"], ["places.0 = 'everywhere'", "targets"]),
        ("learners", ["bptt"], ["learners.0 = 'bptt'", "lra_released"]),
        ("patience", 0, ["patience = 0"]),
        ("regularisation_strengths", [0.1, 0.1], ["regularisation_strengths", "differ"]),
        ("max_iterations", 0, ["max_iterations = 0", "1"]),
        ("max_iterations", "many", ["max_iterations = 'many'", "integer"]),
        ("clip_norm", float("nan"), ["clip_norm = nan", "finite"]),
        ("clip_mode", "cut", ["clip_mode = 'cut'", "clip", "normalise"]),
        ("jobs", 0, ["jobs = 0"]),
        ("jobs", True, ["jobs = True"]),
        ("settings.0.learning_rate", 0.0, ["settings.0.learning_rate = 0.0", "greater than 0"]),
        ("settings.0.beta", 1.0, ["settings.0.beta"]),
        ("settings.0.group", "lra_omga", ["settings.0.group = 'lra_omga'", "did you mean lra_omega"]),
        ("settings.0.task", "temporal_oder", ["settings.0.task"]),
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
        assert run.protocol.patience == 7 and not run.protocol.diagnostics
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


def test_settings_are_those_of_the_task_and_length() -> None:
    rows = deepcopy(VALUES["settings"])
    for row in rows:
        row["learning_rate"] = 0.001 * row["sequence_length"] * (1 + (row["task"] == "temporal_order"))
    for run in RegularisationParameters.checked(VALUES | {"settings": rows}).runs():
        expected = {20: 0.02, 30: 0.03}[run.task.sequence_length] * (1 + (run.task.name == "temporal_order"))
        assert run.optimiser.learning_rate == pytest.approx(expected)


def test_a_condition_may_be_confined_to_some_lengths() -> None:
    only = {"lra, α*": [30], "lra": [20], "lra, α = 0.5": []}
    parameters = RegularisationParameters.checked(VALUES | {"only_lengths": only})
    at_20, at_30 = (
        [each.label for each in parameters.conditions_at("temporal_order", length)] for length in (20, 30)
    )
    assert at_20 == ["readout", "lra", "lra + Ω"]
    assert at_30 == ["readout", "lra + Ω", "lra, α = 0.1"]
    assert len(parameters.runs()) == 2 * 3 * (3 + 3)
    assert ("temporal_order", 30, "lra") not in parameters.needs()


def test_a_condition_may_be_confined_on_one_task_alone() -> None:
    only = {"lra, α*": [30], "random_permutation: lra*": [20]}
    parameters = RegularisationParameters.checked(VALUES | {"only_lengths": only})
    at_30 = {task: [each.label for each in parameters.conditions_at(task, 30)] for task in parameters.tasks}
    assert at_30["random_permutation"] == ["readout"]
    assert at_30["temporal_order"] == ["readout", "lra", "lra + Ω", "lra, α = 0.1", "lra, α = 0.5"]
    assert ("random_permutation", 30, "lra") not in parameters.needs()
    assert ("temporal_order", 30, "lra") in parameters.needs()


def test_a_strength_that_was_tuned_is_run_once_and_shown_twice() -> None:
    parameters = RegularisationParameters.checked(changed(VALUES, "regularisation_strengths", [0.2]))
    assert [each.label for each in parameters.conditions()] == ["readout", "lra", "lra + Ω", "lra, α = 0.2"]
    assert len(parameters.runs()) == 2 * 2 * 3 * 3


def test_strength_0_is_the_tuned_rule_with_the_regulariser_off() -> None:
    parameters = RegularisationParameters.checked(changed(VALUES, "regularisation_strengths", [0.0]))
    (off,) = [each for each in parameters.conditions() if each.label == "lra, α = 0"]
    run = parameters.run("temporal_order", 20, off, 4)
    assert isinstance(run.learner, LRAConfig)
    assert run.learner.regularisation_strength == 0 and run.optimiser.learning_rate == 0.125


def test_omega_acts_on_one_place_at_a_time() -> None:
    places = ["targets", "recurrent", "readout", "input"]
    parameters = RegularisationParameters.checked(changed(VALUES, "places", places))
    switches: dict[str, list[str]] = {}
    for each in parameters.conditions():
        learner = parameters.run("temporal_order", 20, each, 4).learner
        if isinstance(learner, LRAConfig) and learner.regularisation_strength:
            on = [place for place in places if getattr(learner, f"regularise_{place}")]
            switches[each.label] = on
    assert switches.pop("lra + Ω") == places[:3], "as everywhere else"
    assert switches == {
        "lra + Ω on targets": ["targets"],
        "lra + Ω on W_hh": ["recurrent"],
        "lra + Ω on W_hy": ["readout"],
        "lra + Ω on W_xh": ["input"],
        "lra, α = 0.1": places[:3],
        "lra, α = 0.5": places[:3],
    }
    assert parameters.place_labels() == [label for label in switches if "on" in label.split()]


def test_the_released_code_beside_the_described_method() -> None:
    groups = ["readout", "lra", "lra_omega", "lra_released", "lra_released_omega"]
    both = VALUES | {
        "learners": ["lra", "lra_released"],
        "settings": settings_for(VALUES["tasks"], VALUES["sequence_lengths"], groups),
    }
    parameters = RegularisationParameters.checked(both)
    (omega,) = [each for each in parameters.conditions() if each.label == "lra_released + Ω"]
    learner = parameters.run("temporal_order", 20, omega, 4).learner
    assert isinstance(learner, LRAReleasedConfig)
    assert (learner.regularisation_strength, learner.inner_steps, learner.clip_norm) == (0.2, 3, 1.0)


# The other comparisons


def test_clipping_changes_c_and_the_mode_and_nothing_else() -> None:
    values = COMMON | {
        "clip_norms": [1.0, 0.0, 0.1],
        "clip_modes": ["clip", "normalise"],
        "diagnosed_seeds": [4],
    }
    parameters = ClippingParameters.checked(values)
    labels = [each.label for each in parameters.conditions()]
    plain = [label for label in labels if label.startswith("lra,")]
    assert plain == [
        "lra, not clipped",
        "lra, clip, c = 0.1",
        "lra, clip, c = 1",
        "lra, normalise, c = 0.1",
        "lra, normalise, c = 1",
    ]
    assert labels == ["readout", *plain, *(label.replace("lra,", "lra + Ω,") for label in plain)]
    runs = parameters.runs()
    assert len(runs) == 2 * 2 * 3 * 11
    for run in runs:
        diagnosed = run.seed == 4 and run.learner.name == "lra"
        assert run.protocol.diagnostics == diagnosed
    changing = {"clip_norm", "clip_mode"}
    rest = {
        repr(run.learner.model_dump(exclude=changing))
        for run in runs
        if isinstance(run.learner, LRAConfig) and not run.learner.regularisation_strength
    }
    assert len(rest) == 1
    found = {
        (run.learner.clip_norm, run.learner.clip_mode) for run in runs if isinstance(run.learner, LRAConfig)
    }
    assert found == {(0.0, "clip"), *itertools.product((0.1, 1.0), ("clip", "normalise"))}


def test_clipping_shares_runs_with_other_chapters_where_it_can() -> None:
    values = COMMON | {"clip_norms": [1.0], "clip_modes": ["clip"], "diagnosed_seeds": [4]}
    clipped = {run.key() for run in ClippingParameters.checked(values).runs() if run.seed != 4}
    assert clipped <= {run.key() for run in RegularisationParameters.checked(VALUES).runs()}


def test_each_local_loss_has_settings_of_its_own() -> None:
    groups = ["readout", "lra", "lra_omega", "lra_l1", "lra_l1_omega"]
    rows = settings_for(VALUES["tasks"], VALUES["sequence_lengths"], groups)
    for row in rows:
        row["learning_rate"] *= 3 if "l1" in row["group"] else 1
    values = COMMON | {"local_losses": ["log_penalty", "l1"], "settings": rows}
    parameters = LocalLossParameters.checked(values)
    found = {}
    for each in parameters.conditions():
        run = parameters.run("temporal_order", 30, each, 5)
        loss = getattr(run.learner, "local_loss", None)
        found[each.label] = (loss, run.optimiser.learning_rate)
    assert found == {
        "readout": (None, 0.5),
        "log_penalty": ("log_penalty", 0.25),
        "log_penalty + Ω": ("log_penalty", 0.125),
        "l1": ("l1", 0.75),
        "l1 + Ω": ("l1", 0.375),
    }


def test_baselines_take_their_own_settings_and_the_digits_their_own_lengths() -> None:
    groups = ["readout", "bptt", "bptt_clipped", "bptt_omega", "lra_omega"]
    rows = settings_for([*VALUES["tasks"], "sequential_digits"], [8, 20, 30], groups)
    values = COMMON | {"rules": groups[1:], "digits_lengths": [8], "settings": rows}
    parameters = BaselineParameters.checked(values)
    assert parameters.problems() == [
        *itertools.product(("random_permutation", "temporal_order"), (20, 30)),
        ("sequential_digits", 8),
    ]
    learners = {
        each.label: parameters.run("sequential_digits", 8, each, 4).learner
        for each in parameters.conditions()
    }
    assert list(learners) == ["readout", "bptt", "bptt, clipped", "bptt + Ω", "lra + Ω"]
    plain, clipped, omega = (learners[name] for name in ("bptt", "bptt, clipped", "bptt + Ω"))
    assert isinstance(plain, BPTTConfig) and isinstance(clipped, BPTTConfig) and isinstance(omega, BPTTConfig)
    assert (plain.clip_norm, plain.regularisation_strength) == (0.0, 0.0), "LRA's common c is not for BPTT"
    assert (clipped.clip_norm, clipped.regularisation_strength) == (1.0, 0.0)
    assert (omega.clip_norm, omega.regularisation_strength) == (0.0, 0.2)
    assert omega.regularisation_scope == "example"


@pytest.mark.parametrize("length", [9, 20])
def test_digits_come_in_their_lengths_only(length: int) -> None:
    values = COMMON | {"rules": ["lra"], "digits_lengths": [length]}
    with pytest.raises(ValueError, match=f"sequence_length = {length}: .*64.*8"):
        BaselineParameters.checked(values)


def test_a_condition_asked_for_twice_is_named() -> None:
    values = changed(VALUES, "regularisation_strengths", [0.1, 0.1 + 1e-16])
    with pytest.raises(ValueError, match=r"twice: lra, α = 0\.1"):
        RegularisationParameters.checked(values)


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_of_settings_makes_a_run(name: str) -> None:
    (row,) = settings_for(["temporal_order"], [20], [name])
    tuned = TunedSettings.model_validate(row)
    run = RegularisationParameters.checked(VALUES).run_with(tuned, Condition("x", name), 3)
    fields = run.learner.model_dump()
    assert fields == fields | GROUPS[name].learner
    assert {field: fields[field] for field in GROUPS[name].searched} == {
        field: row[field] for field in GROUPS[name].searched
    }


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
    assert {"smoke", "quick", "paper"} <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_fits_its_notebooks(profile: str) -> None:
    """And has all of them."""
    runs = profiles.profile_runs(profile)
    assert set(runs) == set(NOTEBOOKS)
    assert {name for name, asked in runs.items() if not asked} == {"10_claims"}, "which trains nothing"


def test_the_paper_profile_compares_at_least_ten_seeds() -> None:
    for parameters in profiles.comparisons("paper"):
        assert len(parameters.seeds) >= 10
        control = (100, "readout_adam") if parameters.chapter == "09_how_far" else (30, "readout")
        assert ("random_permutation", *control) in parameters.needs()


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_shows_the_seed_that_chose_its_settings(profile: str) -> None:
    plan = profiles.tuning_plan(profile)
    for values in profiles.profile_parameters(profile).values():
        assert plan.seed not in values.get("seeds", [])


def test_the_chapter_of_verdicts_comes_after_those_it_judges() -> None:
    for profile in PROFILES:
        chapters = list(profiles.profile_parameters(profile))
        assert chapters == [name for name in NOTEBOOKS if name in chapters] and "10_claims" in chapters
    order = list(NOTEBOOKS)
    for claim in CLAIMS:
        assert all(order.index(chapter) < order.index("10_claims") for chapter in claim.chapters)
    published = profiles.profile_parameters("paper")["10_claims"]["profiles"]
    assert tuple(published) == profiles.PUBLISHED_PROFILES
