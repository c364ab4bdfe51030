"""Chapter 06: its runs, the decay it lays over the prediction, and its sentences."""

from typing import Any

import pytest

from lra_companion.config import LRAConfig
from lra_companion.experiments import ReductionParameters
from lra_companion.findings import reduction
from lra_companion.training import RunResult

VALUES: dict[str, Any] = {
    "profile": "test",
    "results": ".",
    "jobs": 1,
    "seeds": [4, 5, 6],
    "task": "random_permutation",
    "sequence_length": 10,
    "batch_sizes": [8, 4],
    "hidden_sizes": [20, 40],
    "step_size": 0.5,
    "clip_norm": 1.0,
    "inner_steps": 5,
    "local_loss": "log_penalty",
    "settings": {
        "mean": {"learning_rate": 0.25, "target_step_size": 2.0},
        "per_example": {"learning_rate": 0.125, "target_step_size": 3.0},
    },
    "readout": {"learning_rate": 0.5},
    "max_iterations": 20,
    "validate_every": 10,
    "evaluation_size": 50,
}
PARAMETERS = ReductionParameters.checked(VALUES)


def result_of(config: Any, scores: dict[str, float]) -> RunResult:
    name = getattr(config.learner, "reduction", config.learner.name)
    accuracy = scores[name] + 0.001 * config.seed
    history = [{"iteration": at, "training_loss": 1.0, "validation_accuracy": accuracy} for at in (0, 10, 20)]
    return RunResult(config, "max_iterations", 20, accuracy, accuracy, history, 0.5)


def outcomes(**scores: float) -> Any:
    return reduction.trained([result_of(config, scores) for config in PARAMETERS.runs()])


def test_runs() -> None:
    runs = PARAMETERS.runs()
    assert len({run.key() for run in runs}) == len(runs) == 9
    found = {}
    for run in runs:
        learner: Any = run.learner
        found.setdefault(getattr(learner, "reduction", "readout"), set()).add(
            (run.optimiser.learning_rate, getattr(learner, "target_step_size", None), run.seed)
        )
    assert found == {
        "readout": {(0.5, None, seed) for seed in (4, 5, 6)},
        "mean": {(0.25, 2.0, seed) for seed in (4, 5, 6)},
        "per_example": {(0.125, 3.0, seed) for seed in (4, 5, 6)},
    }


def test_a_reduction_without_settings_is_named() -> None:
    with pytest.raises(ValueError, match="settings lack per_example"):
        ReductionParameters.checked(VALUES | {"settings": {"mean": VALUES["settings"]["mean"]}})


def test_untrained_networks_differ_in_what_is_asked_alone() -> None:
    standard, small = PARAMETERS.untrained("mean")[0], PARAMETERS.untrained("mean", batch_size=3)[0]
    assert (standard.protocol.batch_size, standard.network.hidden_size) == (20, 100)
    assert small.protocol.batch_size == 3 and small.learner == standard.learner
    assert isinstance(standard.learner, LRAConfig)
    assert standard.learner.clip_norm == 0 and standard.learner.target_step_size == 0.5


def test_a_mean_fades_with_both_sizes_and_an_example_with_neither() -> None:
    def factors(found: reduction.Comparisons, name: Any) -> list[float]:
        estimates = [comparison.measured.estimate for comparison in found[name]]
        assert None not in estimates
        return [estimate.value for estimate in estimates if estimate]

    for found in (reduction.over_batch_sizes(PARAMETERS), reduction.over_hidden_sizes(PARAMETERS)):
        smaller, larger = factors(found, "mean")
        assert smaller / larger == pytest.approx(2, rel=0.1), "twice the size, half the factor"
        assert all(0.8 < factor < 1.2 for factor in factors(found, "per_example"))
        assert all(comparison.error < 0.01 for comparison in found["mean"])


def test_clipping_and_normalising() -> None:
    found = reduction.variants(PARAMETERS)
    assert list(found) == [
        f"{title}{way}" for title in ("mean", "per example") for way in ("", ", clipped", ", normalised")
    ]
    assert (found["mean"].norms == found["mean, clipped"].norms).all(), "there is nothing to clip"
    values = {name: comparison.measured.estimate for name, comparison in found.items()}
    for name in ("mean, normalised", "per example, normalised", "per example, clipped"):
        estimate = values[name]
        assert estimate is not None and estimate.value == pytest.approx(1, abs=0.1)
    ceiling = 5 * 0.5 * 1.0  # K beta c
    for name in ("mean, normalised", "per example, clipped", "per example, normalised"):
        assert (found[name].norms <= ceiling * (1 + 1e-9)).all()
        assert (found[name].norms > 0.5 * ceiling).all(), "a slope below it at every step"
    assert found["mean, normalised"].norms == pytest.approx(found["per example, normalised"].norms, rel=1e-6)


def test_the_finding() -> None:
    text = reduction.finding(
        PARAMETERS, reduction.variants(PARAMETERS), outcomes(mean=0.6, per_example=0.9, readout=0.5)
    )
    assert (
        "(β = 0.5)" in text and "averaged over batch and units by 0.00" in text and "per example by " in text
    )
    assert "rises, from 0.60 to 0.91 (difference 0.30 [0.30, 0.30]; readout 0.51)" in text


@pytest.mark.parametrize(("example", "word"), [(0.3, "falls, from"), (0.6, "does not clearly change, from")])
def test_the_finding_s_words_follow_the_numbers(example: float, word: str) -> None:
    found = outcomes(mean=0.6, per_example=example, readout=0.5)
    assert word in reduction.finding(PARAMETERS, reduction.variants(PARAMETERS), found)


def test_the_worst_prediction_is_told() -> None:
    found = [comparison for group in reduction.over_batch_sizes(PARAMETERS).values() for comparison in group]
    text = reduction.prediction_sentence(found)
    worst = max(found, key=lambda comparison: comparison.error)
    assert text.startswith("Over the 4 settings") and f"{100 * worst.error:.2g} % at worst" in text
    assert "reduction per_example" in text
