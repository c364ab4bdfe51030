"""How the recommended preset was found: its trials, what is chosen from them, and that the preset is just that."""

import itertools
from collections.abc import Callable

import pytest

from lra_companion.config import LRAConfig
from lra_companion.preset_search import (
    GRIDS,
    SEED,
    TASKS,
    all_trials,
    most_robust,
    omega_sentence,
    preset_cost,
    report,
)
from lra_companion.presets import PRESETS, LocalSetting
from lra_companion.profiles import tuning_plan
from lra_companion.store import ResultStore
from lra_companion.training import RunResult
from lra_companion.tuning import TRIALS

TRIED = {
    length: {each for grid in GRIDS if grid.length == length for each in grid.settings()}
    for length in (100, 200)
}
SHARED = sorted(TRIED[100] & TRIED[200], key=str)


def results(outcome: Callable[[LocalSetting], tuple[float, int]], hard: str = "") -> list[RunResult]:
    """What became of each setting: its accuracy on every task, or on the ``hard`` one alone, and its iterations."""
    found = []
    for grid in GRIDS:
        for setting in grid.settings():
            for run in grid.trials(setting):
                accuracy, iterations = outcome(setting)
                if hard and run.task.name != hard:
                    accuracy = 1.0
                status = "solved" if accuracy == 1 else "stalled"
                found.append(RunResult(run, status, iterations, accuracy, accuracy, [], 36.0))
    return found


def test_a_trial_differs_from_another_of_its_task_and_grid_in_its_setting_alone() -> None:
    runs = all_trials()
    assert len({run.key() for run in runs}) == len(runs) == 3 * sum(len(grid.settings()) for grid in GRIDS)
    for grid, task in itertools.product(GRIDS, TASKS):
        rest = set()
        for setting in grid.settings():
            (fields,) = [run.model_dump() for run in grid.trials(setting) if run.task.name == task]
            assert fields["task"]["sequence_length"] == grid.length
            del fields["optimiser"]["learning_rate"]
            for name in ("target_step_size", "regularisation_strength", "regularisation_scope"):
                del fields["learner"][name]
            for name in ("regularise_targets", "regularise_readout"):
                del fields["learner"][name]  # where Ω acts, which says nothing without one
            rest.add(str(fields))
        assert len(rest) == 1
    assert {run.seed for run in runs} == {SEED} == {tuning_plan("paper").seed}


def test_omega_acts_on_the_recurrent_weights_alone() -> None:
    for run in GRIDS[0].trials(LocalSetting(0.1, 1.0, 0.5)):
        assert isinstance(run.learner, LRAConfig)
        assert run.learner.regularise_recurrent and run.learner.regularisation_strength == 0.5
        assert not (
            run.learner.regularise_targets or run.learner.regularise_readout or run.learner.regularise_input
        )


@pytest.mark.parametrize("best", SHARED, ids=str)
def test_what_solves_most_is_chosen_then_what_is_best_at_its_worst_then_what_is_first(
    best: LocalSetting,
) -> None:
    assert most_robust(results(lambda each: (1.0, 900) if each == best else (0.99, 100))) == best
    assert (
        most_robust(results(lambda each: (0.9, 900) if each == best else (0.8, 100), hard=TASKS[1])) == best
    )
    assert most_robust(results(lambda each: (1.0, 300 if each == best else 400))) == best


def test_what_was_not_tried_at_every_length_is_not_chosen() -> None:
    alone = next(each for each in GRIDS[0].settings() if each not in SHARED)
    assert most_robust(results(lambda each: (1.0 if each == alone else 0.5, 10))) in SHARED


def test_the_preset_is_what_its_trials_chose() -> None:
    store = ResultStore(TRIALS)
    stored = [store.get(run) for run in all_trials()]
    found = [result for result in stored if result is not None]
    assert len(found) == len(stored), "all trials come with the repository"
    assert most_robust(found).fields() == PRESETS["recommended"]
    *lines, last = report(found)
    assert len(lines) == len(stored) / len(TASKS) and last.startswith("chosen: LocalSetting(")


def test_what_it_cost(tmp_path) -> None:
    store = ResultStore(tmp_path)
    made = results(lambda each: (1.0, 10))[:10]
    for result in made:
        store.put(result)
    assert "chosen from 10 trials at T = 100 and T = 200" in preset_cost(store)
    assert "(0.1 core-hours)" in preset_cost(store)


def test_what_omega_did_is_told_grid_by_grid(tmp_path) -> None:
    store = ResultStore(tmp_path)
    for result in results(lambda each: (1.0, 10) if each.regularisation_strength == 0.1 else (0.5, 10)):
        store.put(result)
    text = omega_sentence(store)
    assert (
        "at T = 100, in at most 2500 iterations, 0 of 27 at α = 0 (mean accuracy 0.500) and 27 of 27 at α = 0.1"
        in text
    )
    assert (
        "at T = 200, in at most 6000 iterations, 0 of 6 at α = 0.5 (mean accuracy 0.500), 0 of 6 at α = 1"
        in text
    )
