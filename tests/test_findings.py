"""The chapter's sentences on results made by hand, where the right words are known."""

from typing import Any

import numpy as np
import pytest

from lra_companion.config import RunConfig
from lra_companion.experiments import RegularisationParameters
from lra_companion.findings import Panel, finding, panels, summary
from lra_companion.reporting import frame
from lra_companion.training import RunResult
from test_experiments import VALUES, changed


def parameters(seeds: list[int], **changes: Any) -> RegularisationParameters:
    values = VALUES | {
        "seeds": seeds,
        "tasks": ["temporal_order"],
        "sequence_lengths": [20],
        "regularisation_strengths": [],
    }
    return RegularisationParameters.checked(values | changes)


def result_of(
    config: RunConfig, accuracy: float, status: Any = "max_iterations", iterations: int = 40
) -> RunResult:
    checks = range(0, iterations + 1, 10)
    history = [
        {"iteration": at, "training_loss": 1.0, "validation_accuracy": accuracy * at / iterations}
        for at in checks
    ]
    return RunResult(config, status, iterations, accuracy, accuracy, history, 0.5)


def found(asked: RegularisationParameters, accuracies: dict[str, list[float]], **special: Any) -> list[Panel]:
    """Panels of results with these test accuracies by condition, one per seed; ``special``: (seed, kind) -> status."""
    results = []
    for config in asked.runs():
        strength = getattr(config.learner, "regularisation_strength", 0.0)
        kind = "readout" if config.learner.name == "readout" else "omega" if strength else "lra"
        accuracy = accuracies[kind][asked.seeds.index(config.seed)]
        status, iterations = special.get(f"{kind}_{config.seed}", ("max_iterations", 40))
        results.append(result_of(config, accuracy, status, iterations))
    return panels(asked, frame(results[::-1]))


SEEDS = [1, 2, 3, 4, 5]
LOW, HIGH, MIDDLE = [0.2, 0.22, 0.21, 0.2, 0.23], [0.8, 0.82, 0.84, 0.81, 0.83], [0.5] * 5


def test_a_clear_gain() -> None:
    (panel,) = found(parameters(SEEDS), {"readout": MIDDLE, "lra": LOW, "omega": HIGH})
    assert panel.gain.iqm.value == pytest.approx(
        np.mean([0.6, 0.61, 0.6])
    )  # of the differences .6 .6 .63 .61 .6
    assert panel.gain.iqm.low > 0.5
    assert panel.margin.mean.value == pytest.approx(0.32)
    assert panel.plain_margin.mean.value == pytest.approx(-0.288)
    text = finding([panel])
    first, second = text.split(". Against")
    assert "rose on temporal order (from 0.21 to 0.82; difference 0.60 [" in first
    assert "was better on temporal order (readout 0.50; difference 0.32 [" in second
    assert not any(word in text for word in ("fell", "did not clearly change", "worse", "different"))


def test_a_clear_loss() -> None:
    text = finding(found(parameters(SEEDS), {"readout": MIDDLE, "lra": HIGH, "omega": LOW}))
    assert "fell on temporal order (from 0.82 to 0.21; difference -0.60 [" in text
    assert "was worse on temporal order" in text
    assert "rose" not in text and "better" not in text


def test_no_difference() -> None:
    mixed = {"readout": MIDDLE, "lra": [0.4, 0.6, 0.4, 0.6, 0.5], "omega": [0.6, 0.4, 0.6, 0.4, 0.5]}
    text = finding(found(parameters(SEEDS), mixed))
    assert "did not clearly change on" in text and "was not clearly different on" in text
    assert not any(word in text for word in ("rose", "fell", "better", "worse"))


def test_the_same_scores_everywhere_show_nothing() -> None:
    text = finding(found(parameters(SEEDS), {"readout": MIDDLE, "lra": MIDDLE, "omega": MIDDLE}))
    assert "did not clearly change" in text and "difference 0.00 [0.00, 0.00]" in text
    assert "-0.00" not in text


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    nearly = [0.499, 0.5, 0.499, 0.5, 0.499]
    text = finding(found(parameters(SEEDS), {"readout": MIDDLE, "lra": MIDDLE, "omega": nearly}))
    assert "-0.00" not in text


def test_one_seed_decides_nothing() -> None:
    (panel,) = found(parameters([7]), {"readout": [0.1], "lra": [0.2], "omega": [0.9]})
    text = finding([panel])
    assert "did not clearly change" in text and "was not clearly different" in text
    assert "difference 0.70 (n = 1)" in text and "nan" not in text
    assert panel.outcomes[panel.tuned].scores == {7: 0.9}


def test_several_tasks_in_one_sentence() -> None:
    asked = parameters(SEEDS, tasks=["temporal_order", "random_permutation"], sequence_lengths=[20, 30])
    given = found(asked, {"readout": MIDDLE, "lra": LOW, "omega": HIGH})
    assert [panel.title for panel in given] == [
        "temporal order, T = 20",
        "temporal order, T = 30",
        "random permutation, T = 20",
        "random permutation, T = 30",
    ]
    text = finding(given)
    assert text.count("rose on") == 4 and ", and rose on random permutation, T = 30" in text
    assert finding(given[:2]).count(" and rose on temporal order, T = 30") == 1
    assert text.count(".") - text.count("0.") == 2, "two sentences"


def test_outcomes() -> None:
    asked = parameters(SEEDS, regularisation_strengths=[0.5])
    (panel,) = found(
        asked,
        {"readout": MIDDLE, "lra": LOW, "omega": HIGH},
        omega_1=("solved", 20),
        omega_2=("diverged", 10),
        omega_3=("stalled", 30),
        lra_4=("diverged", 30),
    )
    assert list(panel.outcomes) != [] and panel.tuned == "lra, α = 0.2"
    assert set(panel.outcomes) == {"readout", "lra", "lra, α = 0.2", "lra, α = 0.5"}
    outcome = panel.outcomes["lra, α = 0.2"]
    assert (outcome.condition, outcome.strength, outcome.learner) == ("lra, α = 0.2", 0.2, "lra")
    assert outcome.scores == dict(zip(SEEDS, HIGH, strict=True))
    assert outcome.accuracy.value == pytest.approx(0.82) and outcome.accuracy.n == 5
    assert 0.8 <= outcome.accuracy.low < outcome.accuracy.high <= 0.84
    assert outcome.solved.value == 0.2 and outcome.solved.n == 5
    assert 0 < outcome.solved.low < 0.2 < outcome.solved.high < 0.7
    assert outcome.diverged == 1
    assert panel.outcomes["lra"].diverged == 1 and panel.outcomes["readout"].diverged == 0
    assert list(outcome.curves.iterations) == [0, 10, 20, 30, 40]
    assert outcome.curves.matrix.shape == (5, 5)
    by_score = {
        row[-1]: flags for row, flags in zip(outcome.curves.matrix, outcome.curves.flagged, strict=True)
    }
    assert not by_score[0.8].any(), "a solved run is carried on unmarked"
    assert list(by_score[0.82]) == [False, False, True, True, True], "diverged at 10"
    assert list(by_score[0.84]) == [False, False, False, False, True], "stalled at 30"
    assert outcome.solving.n == 5
    assert outcome.solving.survival[-1] == pytest.approx(0.8)


def test_the_chapter_s_table() -> None:
    given = found(
        parameters(SEEDS),
        {"readout": MIDDLE, "lra": LOW, "omega": HIGH},
        omega_1=("solved", 20),
        lra_2=("diverged", 10),
    )
    table = summary(given).reset_index()
    assert list(table["condition"]) and len(table) == 3
    rows = {row["condition"]: row for _, row in table.iterrows()}
    assert set(table["task"]) == {"temporal order"} and set(table["T"]) == {20}
    assert rows["lra, α = 0.2"]["solved"] == "1 of 5" and rows["readout"]["solved"] == "0 of 5"
    assert rows["lra"]["diverged"] == 1 and rows["lra, α = 0.2"]["diverged"] == 0
    assert rows["lra, α = 0.2"]["test accuracy (IQM)"].startswith("0.820 [0.8")


def test_the_same_results_give_the_same_words_in_any_order() -> None:
    asked = parameters(SEEDS)
    results = [
        result_of(config, 0.1 * config.seed + (config.learner.name == "lra") * 0.2) for config in asked.runs()
    ]
    assert finding(panels(asked, frame(results))) == finding(panels(asked, frame(results)))


def test_a_missing_seed_is_an_error_not_a_silent_comparison() -> None:
    asked = parameters(SEEDS)
    results = [result_of(config, 0.5) for config in asked.runs()]
    with pytest.raises(ValueError, match="seeds without a partner: 5"):
        panels(asked, frame(results[:-1]))


def test_changed_helper_leaves_the_original_alone() -> None:
    assert changed(VALUES, "seeds", [9])["seeds"] == [9] and VALUES["seeds"] == [4, 5, 6]
