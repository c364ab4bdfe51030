"""Chapter 02: its runs, its sentences on histories made by hand, and its looks at untrained networks."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lra_companion.claims import judgements
from lra_companion.config import RunConfig
from lra_companion.evidence import gradient_evidence
from lra_companion.experiments import VanishingParameters
from lra_companion.findings import untrained
from lra_companion.findings.decay import compare_decay
from lra_companion.findings.vanishing_gradients import DISPLACEMENT, GRADIENT, Trace, finding, summary, traces
from lra_companion.training import RunResult
from runs import run_config

SETTINGS: dict[str, Any] = {
    "plain": {"learning_rate": 0.25, "target_step_size": 2.0},
    "regularised": {
        "learning_rate": 0.125,
        "target_step_size": 3.0,
        "regularisation_strength": 0.2,
        "regularisation_scope": "example",
    },
    "released": {"learning_rate": 0.1, "target_step_size": 4.0, "regularisation_strength": 0.5},
    "bptt": {"learning_rate": 0.3, "clip_norm": 2.0, "regularisation_strength": 0.6},
}
VALUES: dict[str, Any] = {
    "profile": "test",
    "results": ".",
    "jobs": 1,
    "seeds": [4, 5, 6],
    "tasks": ["random_permutation"],
    "sequence_length": 10,
    "settings": {"random_permutation": SETTINGS},
    "inner_steps": 3,
    "clip_norm": 1.0,
    "local_loss": "log_penalty",
    "reduction": "mean",
    "compared_step_sizes": [10.0, 1.0],
    "max_iterations": 20,
    "validate_every": 10,
    "evaluation_size": 50,
}
PARAMETERS = VanishingParameters.checked(VALUES)
CONDITIONS = ["lra", "lra, α = 0.2", "lra_released", "lra_released, α = 0.5", "bptt", "bptt, α = 0.6"]
T = 10


def history(gradient: float, displacement: float | None, checks: int = 3) -> list[dict[str, Any]]:
    """Norms that lose a given factor at each step back, from 1 at the end, with noise-free checks."""
    distance = np.arange(T)[::-1]
    rows = []
    for check in range(checks):
        row = {"iteration": 10 * check, "training_loss": 1.0, "validation_accuracy": 0.1}
        row[GRADIENT] = (gradient**distance * (distance < T - 1)).tolist()  # nothing at t = 1
        if displacement is not None:
            row[DISPLACEMENT] = (displacement**distance).tolist()
        rows.append(row)
    return rows


FACTORS = {"lra": (0.1, 0.1), "lra_released": (1e-3, 1e-3), "bptt": (0.9, None)}
WITH_OMEGA = {"lra": (0.99, 0.95), "lra_released": (0.8, 0.9), "bptt": (0.97, None)}


def result_of(config: RunConfig, checks: int = 3) -> RunResult:
    strong = getattr(config.learner, "regularisation_strength", 0.0) > 0
    gradient, displacement = (WITH_OMEGA if strong else FACTORS)[config.learner.name]
    gradient *= 1 - 0.001 * config.seed  # seeds differ
    return RunResult(config, "max_iterations", 20, 0.1, 0.1, history(gradient, displacement, checks), 0.5)


@pytest.fixture
def found() -> list[Trace]:
    return traces([result_of(config) for config in PARAMETERS.runs()])


def test_every_rule_runs_without_and_with_omega_and_keeps_its_norms() -> None:
    runs = PARAMETERS.runs()
    assert len({run.key() for run in runs}) == len(runs) == 6 * 3
    assert all(run.protocol.diagnostics and run.protocol.max_iterations == 20 for run in runs)
    rates = {"lra": (0.25, 0.125), "lra_released": (0.1, 0.1), "bptt": (0.3, 0.3)}
    sizes = {"lra": (2.0, 3.0), "lra_released": (4.0, 4.0)}
    for run in runs:
        learner: Any = run.learner
        strong = learner.regularisation_strength > 0
        assert run.optimiser.learning_rate == rates[learner.name][strong]
        if learner.name == "bptt":
            assert learner.clip_norm == 2.0
        else:
            assert learner.target_step_size == sizes[learner.name][strong]
            assert (learner.inner_steps, learner.clip_norm) == (3, 1.0)
    strengths = [(run.learner.name, getattr(run.learner, "regularisation_strength", 0)) for run in runs[::3]]
    assert strengths == [
        ("lra", 0.0),
        ("lra", 0.2),
        ("lra_released", 0.0),
        ("lra_released", 0.5),
        ("bptt", 0.0),
        ("bptt", 0.6),
    ]


def test_a_task_without_settings_is_named() -> None:
    with pytest.raises(ValueError, match="settings lack temporal_order"):
        VanishingParameters.checked(VALUES | {"tasks": ["random_permutation", "temporal_order"]})


def test_traces(found: list[Trace]) -> None:
    assert [trace.condition for trace in found] == CONDITIONS
    plain = found[0]
    assert_array_equal(plain.iterations, [0, 10, 20])
    assert plain.norms[GRADIENT].values.shape == (3, 3, T)
    estimate = plain.start[GRADIENT].estimate
    assert estimate is not None and estimate.value == pytest.approx(0.0995, rel=1e-3) and estimate.n == 3
    assert DISPLACEMENT not in found[4].norms


def test_gradients_of_rounding_errors_are_not_used(found: list[Trace]) -> None:
    """Batch 20, 100 hidden units: displacements above 5e-6 are believed, six of those that fall by tens, and the gradients of
    these steps alone; the exact gradient, which is no difference, all the way but t = 1.
    """
    plain, omega, _, _, exact, _ = found
    assert [plain.norms[name].reach("start") for name in (GRADIENT, DISPLACEMENT)] == [6, 6]
    assert [omega.norms[name].reach("end") for name in (GRADIENT, DISPLACEMENT)] == [T - 1, T]
    assert exact.norms[GRADIENT].reach("start") == T - 1
    heat = plain.norms[GRADIENT].heat
    assert heat.shape == (T, 3)
    assert (heat[:4] == -np.inf).all()
    assert_allclose(heat[-1], 0, atol=1e-12)
    assert_allclose(heat[4], 5 * np.log10(0.1 * (1 - 0.005)), rtol=1e-12)  # the median seed


def test_runs_that_end_early_count_with_their_last_check() -> None:
    results = [result_of(config) for config in PARAMETERS.runs()]
    results[0].history = history(0.5, 0.5, checks=2)
    (plain, *_) = traces(results)
    assert np.isnan(plain.norms[GRADIENT].values[0, 2]).all()
    values, used = plain.norms[GRADIENT].at("end")
    assert_allclose(values[0], results[0].history[1][GRADIENT])
    assert used[0].sum() == T - 1 and used[1].sum() == 6
    assert plain.end[GRADIENT].factors[0] == pytest.approx(0.5)
    assert_allclose(plain.norms[GRADIENT].heat[-1], 0, atol=1e-12)


def test_the_finding(found: list[Trace]) -> None:
    text = finding(found)
    first, second = text.split(". In single precision ")
    assert "by 0.099 [0.099, 0.1], that of the exact gradient by 0.9 [0.89, 0.9]: LRA's fades faster" in first
    assert second == (
        "this leaves a gradient to the last 6 of 10 steps, and after training to 6 without Ω, 9 with it "
        "(released code: 2 without, 9 with)."
    )


@pytest.mark.parametrize(
    ("local", "exact", "words"),
    [
        (0.95, 0.5, "LRA's fades more slowly."),
        (0.9, 0.9, "LRA's does not clearly differ."),
        (0.8999, 0.9, "LRA's does not clearly differ."),
    ],
)
def test_the_finding_s_words_follow_the_numbers(
    local: float, exact: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FACTORS, "lra", (local, local))
    monkeypatch.setitem(FACTORS, "bptt", (exact, None))
    text = finding(traces([result_of(config) for config in PARAMETERS.runs()]))
    assert words in text and "fades faster" not in text


def test_tasks_that_differ_are_named() -> None:
    tasks = ["random_permutation", "temporal_order"]
    parameters = VanishingParameters.checked(
        VALUES | {"tasks": tasks, "settings": dict.fromkeys(tasks, SETTINGS)}
    )
    results = [result_of(config) for config in parameters.runs()]
    for result in results:
        if result.config.task.name == "temporal_order" and result.config.learner.name == "lra":
            result.history = history(0.95, 0.95)
    found = traces(results)
    assert [trace.task for trace in found] == ["random_permutation"] * 6 + ["temporal_order"] * 6
    text = finding(found)
    assert "LRA's fades faster on random permutation and fades more slowly on temporal order." in text
    assert "to the last 6 on random permutation and 9 on temporal order of 10 steps" in text
    assert "that of the exact gradient by 0.9 [0.89, 0.9]: " in text, "what is the same is said once"


def test_one_step_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTORS, "lra", (1e-7, 1e-7))
    found = traces([result_of(config) for config in PARAMETERS.runs()])
    text = finding(found)
    assert (
        "by nothing (no two steps)" in text and "LRA's cannot be compared" in text and "last 1 of 10" in text
    )
    assert summary(found)["factor before"].iloc[0] == "nothing (no two steps)"


def test_the_table(found: list[Trace]) -> None:
    table = summary(found).reset_index()
    assert list(dict.fromkeys(table["condition"])) == CONDITIONS
    assert len(table) == 10, "backpropagation has no targets"
    row = table[(table["condition"] == "lra, α = 0.2") & (table["norm of"] == "target move")].iloc[0]
    assert (row["factor after"], row["steps after"]) == ("0.95 [0.95, 0.95]", 10)


def test_the_evidence_for_the_claims() -> None:
    """Without Ω before training, with it after; one condition for each method, and none of backpropagation."""
    found = gradient_evidence(PARAMETERS, [result_of(config) for config in PARAMETERS.runs()])
    assert {number: [piece.method for piece in pieces] for number, pieces in found.items()} == {
        "1": ["lra", "lra_released"],
        "4a": ["lra", "lra_released"],
    }
    values = [piece.estimate.value for pieces in found.values() for piece in pieces]
    assert_allclose(values, np.array([0.1, 1e-3, 0.99, 0.8]) * 0.995, rtol=1e-3)
    assert found["1"][0].where == "random permutation, T = 10"
    verdicts = {each.claim.number: each.verdict for each in judgements(found) if each.method == "lra"}
    assert (verdicts["1"], verdicts["4a"], verdicts["2"]) == ("reproduced", "reproduced", "not run")


# Untrained networks


def test_powers_of_the_step_size() -> None:
    """Cut, a displacement of the n-th step grows with beta^n; in the released code with beta^(2^n - 1)."""
    parameters = VanishingParameters.checked(VALUES | {"seeds": [1, 2]})
    assert_allclose(untrained.growth_exponents(parameters, "lra"), [1, 2, 3], rtol=2e-3)
    assert_allclose(untrained.growth_exponents(parameters, "lra_released"), [1, 3, 7], rtol=2e-2)
    assert "1.0, 2.0, and 3.0 of a small β" in untrained.powers_sentence(parameters)


def test_prediction_and_measurement_agree() -> None:
    compared = untrained.step_size_comparisons(PARAMETERS, "random_permutation")
    assert [comparison.step_size for comparison in compared] == [1.0, 10.0]
    for comparison, tolerance in zip(compared, (0.005, 0.05), strict=True):
        assert comparison.error < tolerance
        assert comparison.measured.estimate is not None
        assert comparison.measured.estimate.value == pytest.approx(comparison.scalar, rel=0.06)
    assert compared[1].error > compared[0].error, "what the theory leaves out grows with the displacement"
    text = untrained.prediction_sentence({"random_permutation": compared})
    assert text.startswith("Over step sizes from 1 to 10 the predicted factor is off by at most")
    assert "at β = 10" in text and "none of them brings the factor to 0.9" in text


def test_only_lra_is_predicted() -> None:
    with pytest.raises(ValueError, match=r"learner\.name = 'bptt'"):
        compare_decay([run_config("bptt")], np.random.default_rng(0))


def test_angles() -> None:
    results = [result_of(config) for config in PARAMETERS.runs()]
    degrees = untrained.angles(PARAMETERS, results, "random_permutation")
    assert list(degrees) == [*CONDITIONS, *untrained.OMEGA_PLACES]
    assert degrees["bptt"].value == pytest.approx(0, abs=0.1)
    assert degrees["bptt, α = 0.6"].value > 0.5
    assert 30 < degrees["lra"].value < 89
    for name in untrained.OMEGA_PLACES:
        assert 85 < degrees[name].value < 95
    text = untrained.angles_sentence(PARAMETERS, results)
    assert f"at {degrees['lra'].value:.0f} [" in text and "on random permutation." in text
