"""The search for settings: fair between the groups, repeatable, and blind to the test set."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from lra_companion import tuning
from lra_companion.config import LRAConfig
from lra_companion.experiments import (
    GROUPS,
    BaselineParameters,
    LocalLossParameters,
    RegularisationParameters,
    TunedSettings,
    TuningPlan,
)
from lra_companion.training import RunResult, train
from lra_companion.tuning import best, candidates, chosen, cost, searches, settings_text, trial
from runs import run_config
from test_experiments import COMMON, VALUES, settings_for

PARAMETERS = RegularisationParameters.checked(VALUES)
PLAN = TuningPlan(
    seed=77,
    trials=25,
    learning_rate=[0.01, 1.0],
    adam_learning_rate=[0.001, 0.01],
    target_step_size=[0.1, 10.0],
    regularisation_strength=[0.02, 2.0],
    inverse_learning_rate=[0.001, 0.1],
)


def with_trials(count: int) -> TuningPlan:
    return PLAN.model_copy(update={"trials": count})


@pytest.mark.parametrize("group", GROUPS)
def test_the_same_candidates_at_every_call_and_more_of_them_continue_fewer(group: str) -> None:
    first = candidates(with_trials(6), "temporal_order", 20, group)
    assert candidates(with_trials(6), "temporal_order", 20, group) == first
    longer = candidates(with_trials(9), "temporal_order", 20, group)
    assert [row.model_copy(update={"trials": 6}) for row in longer[:6]] == first
    assert [row.trials for row in longer] == [9] * 9


def test_every_group_gets_as_many_trials_with_the_same_rates_steps_and_strengths() -> None:
    rows = {group: candidates(PLAN, "random_permutation", 30, group) for group in GROUPS}
    assert {len(found) for found in rows.values()} == {25}
    for each in zip(*rows.values(), strict=True):
        for name in ("target_step_size", "regularisation_strength", "regularisation_scope"):
            assert len({getattr(row, name) for row in each} - {None}) == 1, name
        rates = {(GROUPS[row.group].optimiser, row.learning_rate) for row in each}
        assert {optimiser for optimiser, _ in rates} == {"sgd", "adam"} and len(rates) == 2
    for group, found in rows.items():
        for row in found:
            assert row.place == ("random_permutation", 30, group)
            given = row.model_dump(exclude_none=True)
            free = set(given) - {"task", "sequence_length", "group", "trials", "core_hours"}
            assert free == {"learning_rate", *GROUPS[group].searched}


def test_a_trial_is_a_run_of_the_chapter_on_the_tuning_seed() -> None:
    for group in ("readout", "lra", "lra_omega", "bptt_clipped"):
        for row in candidates(with_trials(3), "random_permutation", 30, group):
            run = trial(PARAMETERS, row, PLAN)
            assert run.seed == 77 and run.protocol == PARAMETERS.protocol()
            assert (run.task.name, run.task.sequence_length) == ("random_permutation", 30)
            assert run.optimiser.learning_rate == row.learning_rate
            if isinstance(run.learner, LRAConfig):
                assert run.learner.inner_steps == 3
                assert run.learner.target_step_size == row.target_step_size
                assert run.learner.regularisation_strength == (row.regularisation_strength or 0)


def test_candidates_spread_over_their_ranges() -> None:
    rows = candidates(with_trials(60), "random_permutation", 20, "lra_omega")
    for name in ("learning_rate", "target_step_size", "regularisation_strength"):
        values, (low, high) = [getattr(row, name) for row in rows], getattr(PLAN, name)
        assert len(set(values)) > 30
        assert low * 0.95 <= min(values) < low * 2 and high / 2 < max(values) <= high * 1.05
        middle = (low * high) ** 0.5
        assert 15 < sum(value < middle for value in values) < 45, "log-uniform"
    assert {row.regularisation_scope for row in rows} == {"batch", "example"}


@pytest.mark.parametrize("bounds", [[1.0, 0.1], [0.1, 0.1], [0.1], [0.0, 1.0]])
def test_bounds_that_are_none(bounds: list[float]) -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        TuningPlan.model_validate(PLAN.model_dump() | {"learning_rate": bounds})


# What is searched


LOSSES = LocalLossParameters.untuned(
    COMMON | {"local_losses": ["log_penalty", "mse"], "tasks": ["temporal_order"], "settings": []}
)
BASELINES = BaselineParameters.untuned(
    COMMON | {"rules": ["bptt", "lra"], "digits_lengths": [8], "settings": [], "sequence_lengths": [20]}
)


def test_what_several_chapters_need_is_searched_once() -> None:
    found = searches([PARAMETERS, LOSSES, BASELINES])
    assert len(found) == len(set(found))
    groups_at = {
        (task, length): [group for *place, group in found if place == [task, length]]
        for task, length, _ in found
    }
    common = ["readout", "lra", "lra_omega"]
    assert groups_at == {
        ("random_permutation", 20): [*common, "bptt"],
        ("random_permutation", 30): common,
        ("temporal_order", 20): [*common, "lra_mse", "lra_mse_omega", "bptt"],
        ("temporal_order", 30): [*common, "lra_mse", "lra_mse_omega"],
        ("sequential_digits", 8): ["readout", "bptt", "lra"],
    }


@pytest.mark.parametrize("name", ["max_iterations", "inner_steps", "patience"])
def test_chapters_that_search_the_same_under_different_settings_are_named(name: str) -> None:
    other = LOSSES.model_copy(update={name: 2})
    with pytest.raises(ValueError, match=f"{name}: 05_regularisation and 04_local_losses .*readout.* and 2$"):
        searches([PARAMETERS, other])


def test_chapters_that_share_nothing_may_differ() -> None:
    far = LOSSES.model_copy(update={"max_iterations": 2, "sequence_lengths": [50]})
    assert len(searches([PARAMETERS, far])) == len(PARAMETERS.needs()) + len(far.needs())


# What is chosen


ANY = train(run_config(max_iterations=1))


def result(validation: float, test: float, iterations: int = 100, status: Any = "stalled") -> RunResult:
    """A result made by hand."""
    return replace(
        ANY, status=status, iterations=iterations, validation_accuracy=validation, test_accuracy=test
    )


def test_the_best_is_chosen_by_validation_not_by_test() -> None:
    assert best([result(0.7, 0.99), result(0.9, 0.1), result(0.8, 0.5)]) == 1


def test_of_equals_the_faster_one() -> None:
    assert best([result(1.0, 0.9, 900), result(1.0, 0.1, 300), result(1.0, 1.0, 600)]) == 1


def test_a_run_that_diverged_is_not_chosen_before_one_that_did_not() -> None:
    assert best([result(0.9, 0.9, status="diverged"), result(0.8, 0.8)]) == 1


class Blind(RunResult):
    """A result whose test accuracy nobody may read."""

    def __getattribute__(self, name: str) -> Any:
        assert name != "test_accuracy", "the test set took part in a decision"
        return super().__getattribute__(name)


def test_the_choice_keeps_the_settings_and_never_reads_the_test_accuracy() -> None:
    tried = candidates(with_trials(3), "temporal_order", 20, "lra_omega")
    results: list[RunResult] = [
        Blind(ANY.config, "stalled", 10, accuracy, 0.5, [], 900.0) for accuracy in (0.2, 0.6, 0.4)
    ]
    settings = chosen(tried, results)
    assert settings == tried[1].model_copy(update={"core_hours": 0.75})


def test_the_file_of_settings_reads_back_in_a_fixed_order() -> None:
    rows = [
        row.model_copy(update={"core_hours": 0.25, "learning_rate": 0.00001})
        for group in ("lra_omega", "readout", "bptt")
        for length in (30, 20)
        for row in candidates(with_trials(1), "temporal_order", length, group)
    ]
    text = settings_text("paper", rows)
    assert text == settings_text("paper", rows[::-1])
    first, *lines = text.splitlines()
    assert first.startswith("# ") and "tune --profile paper" in first and len(lines) == len(rows)
    read = [TunedSettings.model_validate(row) for row in yaml.safe_load(text)]
    assert sorted(map(repr, read)) == sorted(map(repr, rows))
    assert [row.place[1:] for row in read[:3]] == [(20, "readout"), (20, "bptt"), (20, "lra_omega")]


def test_what_the_search_cost() -> None:
    assert cost(PARAMETERS) == (
        "Settings were chosen on another seed, from 48 trials in all, 4 for each task, length and rule (6 core-hours)."
    ), "2 tasks x 2 lengths x 3 groups, 4 trials and half an hour each"
    rows = settings_for(VALUES["tasks"], [20, 30], ["readout", "lra", "lra_omega", "bptt"])
    rows[0]["trials"] = 8
    more = RegularisationParameters.checked(VALUES | {"settings": rows})
    assert "52 trials in all, 4 to 8 for each" in cost(more), "those of bptt are not this chapter's"


def test_chosen_settings_are_what_a_chapter_takes() -> None:
    rows = [
        tried.model_dump(exclude_none=True)
        for place in PARAMETERS.needs()
        for tried in candidates(with_trials(1), *place)
    ]
    again = RegularisationParameters.checked(VALUES | {"settings": rows})
    assert {row.place for row in again.settings} == set(PARAMETERS.needs())


def test_trials_are_kept_where_the_book_s_results_are() -> None:
    assert tuning.TRIALS.name == "tuning" and tuning.TRIALS.is_dir()
