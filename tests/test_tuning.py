"""The search for settings: fair between the conditions, repeatable, and blind to the test set."""

from dataclasses import replace
from typing import Any

from lra_companion import tuning
from lra_companion.config import LRAConfig
from lra_companion.experiments import RegularisationParameters
from lra_companion.training import RunResult, train
from lra_companion.tuning import TUNING_SEED, best, chosen, trials
from runs import run_config
from test_experiments import VALUES

PARAMETERS = RegularisationParameters.checked(VALUES)


def test_the_same_trials_at_every_call_and_more_of_them_continue_fewer() -> None:
    first = trials(PARAMETERS, "temporal_order", 20, 6)
    assert trials(PARAMETERS, "temporal_order", 20, 6) == first
    longer = trials(PARAMETERS, "temporal_order", 20, 9)
    assert {name: runs[:6] for name, runs in longer.items()} == first


def test_every_condition_gets_as_many_trials_with_the_same_rates_and_steps() -> None:
    found = trials(PARAMETERS, "random_permutation", 30, 25)
    assert list(found) == ["readout", "plain", "regularised"]
    assert {len(runs) for runs in found.values()} == {25}
    for readout, plain, regularised in zip(*found.values(), strict=True):
        assert readout.learner.name == "readout"
        assert isinstance(plain.learner, LRAConfig) and isinstance(regularised.learner, LRAConfig)
        rates = {run.optimiser.learning_rate for run in (readout, plain, regularised)}
        assert len(rates) == 1
        assert plain.learner.target_step_size == regularised.learner.target_step_size
        assert plain.learner.regularisation_strength == 0 < regularised.learner.regularisation_strength
        for run in (readout, plain, regularised):
            assert run.seed == TUNING_SEED
            assert (run.task.name, run.task.sequence_length) == ("random_permutation", 30)
            assert run.protocol == PARAMETERS.protocol()
        assert plain.learner.inner_steps == regularised.learner.inner_steps == 3


def test_trials_spread_over_their_ranges() -> None:
    runs = trials(PARAMETERS, "random_permutation", 20, 60)["regularised"]
    learners = [run.learner for run in runs if isinstance(run.learner, LRAConfig)]
    for values, (low, high) in (
        ([run.optimiser.learning_rate for run in runs], tuning.LEARNING_RATES),
        ([learner.target_step_size for learner in learners], tuning.TARGET_STEP_SIZES),
        ([learner.regularisation_strength for learner in learners], tuning.REGULARISATION_STRENGTHS),
    ):
        assert len(set(values)) > 30
        assert low * 0.95 <= min(values) < low * 2 and high / 2 < max(values) <= high * 1.05
    assert {learner.regularisation_scope for learner in learners} == {"batch", "example"}


ANY = train(run_config(max_iterations=1))


def result(
    seed: int, validation: float, test: float, iterations: int = 100, status: Any = "stalled"
) -> RunResult:
    """A result made by hand; the seed tells which."""
    return replace(
        ANY,
        config=run_config(seed=seed),
        status=status,
        iterations=iterations,
        validation_accuracy=validation,
        test_accuracy=test,
    )


def test_the_best_is_chosen_by_validation_not_by_test() -> None:
    assert best([result(1, 0.7, 0.99), result(2, 0.9, 0.1), result(3, 0.8, 0.5)]).seed == 2


def test_of_equals_the_faster_one() -> None:
    assert best([result(1, 1.0, 0.9, 900), result(2, 1.0, 0.1, 300), result(3, 1.0, 1.0, 600)]).seed == 2


def test_a_run_that_diverged_is_not_chosen_before_one_that_did_not() -> None:
    assert best([result(1, 0.9, 0.9, status="diverged"), result(2, 0.8, 0.8)]).seed == 2


class Blind(RunResult):
    """A result whose test accuracy nobody may read."""

    def __getattribute__(self, name: str) -> Any:
        assert name != "test_accuracy", "the test set took part in a decision"
        return super().__getattribute__(name)


def test_the_choice_never_reads_the_test_accuracy() -> None:
    tried = trials(PARAMETERS, "temporal_order", 20, 3)
    results = {
        kind: [
            Blind(run, "stalled", 10, [0.2, 0.6, 0.4][index], 0.5, [], 0.1) for index, run in enumerate(runs)
        ]
        for kind, runs in tried.items()
    }
    settings = chosen(results)  # pyright: ignore[reportArgumentType]
    readout, plain, regularised = (runs[1] for runs in tried.values())
    assert settings.readout.learning_rate == readout.optimiser.learning_rate
    assert isinstance(plain.learner, LRAConfig) and isinstance(regularised.learner, LRAConfig)
    assert settings.plain.model_dump() == {
        "learning_rate": plain.optimiser.learning_rate,
        "target_step_size": plain.learner.target_step_size,
    }
    assert settings.regularised.model_dump() == {
        "learning_rate": regularised.optimiser.learning_rate,
        "target_step_size": regularised.learner.target_step_size,
        "regularisation_strength": regularised.learner.regularisation_strength,
        "regularisation_scope": regularised.learner.regularisation_scope,
    }


def test_chosen_settings_are_what_a_profile_holds() -> None:
    tried = trials(PARAMETERS, "temporal_order", 20, 1)
    results = {
        kind: [RunResult(run, "stalled", 1, 0.5, 0.5, [], 0.1) for run in runs]
        for kind, runs in tried.items()
    }
    dumped = chosen(results).model_dump()
    again = RegularisationParameters.checked(VALUES | {"settings": dict.fromkeys(VALUES["tasks"], dumped)})
    wanted = {run.model_copy(update={"seed": 4}).key() for runs in tried.values() for run in runs}
    assert wanted <= {run.key() for run in again.runs()}
