"""08_released_code: the runs it asks for, and its table and sentences on results made by hand."""

from dataclasses import replace
from typing import Any

import pytest

from lra_companion.config import RELEASED_PARTS, LRAAblationConfig, RunConfig
from lra_companion.evidence import released_evidence
from lra_companion.experiments import ReleasedCodeParameters
from lra_companion.fidelity import variants
from lra_companion.findings import (
    DIFFERENCES,
    Fidelity,
    accuracy_table,
    at_a_glance,
    clipping_sentence,
    comparisons,
    fidelity_finding,
    gradient_table,
    omega_sentence,
    protocol_sentences,
    reference_table,
    released_panels,
    turn,
    turns_by_seed,
)
from lra_companion.findings import fidelity as fidelity_of
from lra_companion.training import RunResult
from test_experiments import changed

SEEDS = [3, 4, 5]
VALUES: dict[str, Any] = {
    "profile": "test",
    "results": ".",
    "jobs": 1,
    "seeds": SEEDS,
    "tasks": ["random_permutation", "temporal_order"],
    "sequence_length": 20,
    "added_parts": ["full_differentiation", "diagonal_slope"],
    "removed_parts": ["diagonal_slope"],
    "settings": {
        "random_permutation": {
            "learning_rate": 0.1,
            "target_step_size": 10.0,
            "readout_learning_rate": 0.3,
        },
        "temporal_order": {"learning_rate": 0.2, "target_step_size": 1.0, "readout_learning_rate": 3.0},
    },
    "regularisation_strength": 0.1,
    "inner_steps": 3,
    "clip_norm": 1.0,
    "local_loss": "log_penalty",
    "early_iterations": [10],
    "judged_seeds": SEEDS,
    "max_iterations": 40,
    "validate_every": 10,
    "evaluation_size": 50,
}
PARAMETERS = ReleasedCodeParameters.checked(VALUES)


# The runs


def test_every_condition_runs_with_every_seed() -> None:
    runs = PARAMETERS.runs()
    kinds = 1 + 1 + 1 + 2 * 2 * 2 + 2 + 1  # readout, NaN, not clipped, ends (rule, Ω, length), added, removed
    assert len({run.key() for run in runs}) == len(runs) == 2 * 3 * kinds
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(
            repr([run.task, run.learner, run.optimiser, run.protocol.max_iterations]), set()
        ).add(run.seed)
    assert set(map(tuple, map(sorted, seeds.values()))) == {(3, 4, 5)} and len(seeds) == 2 * kinds
    assert runs[: len(PARAMETERS.measured_runs())] == PARAMETERS.measured_runs()
    assert len(PARAMETERS.measured_runs()) == 2 * 3 * 8


def test_verdicts_may_rest_on_more_seeds() -> None:
    more = ReleasedCodeParameters.checked(VALUES | {"judged_seeds": [2, 3, 4, 5]})
    added = {run.key(): run for run in more.runs()}
    for run in PARAMETERS.runs():
        del added[run.key()]
    assert [run.seed for run in added.values()] == [2] * 2 * 4, "tasks, and what is judged"
    assert {run.learner.name for run in added.values()} == {"readout", "lra_released"}
    (panel, _) = released_panels(more, made(more)[0])
    assert {outcome.accuracy.n for outcome in panel.outcomes.values()} == {4}


def test_what_is_added_and_what_is_removed() -> None:
    added = PARAMETERS.added_run("carried_loss", "temporal_order", 3)
    removed = PARAMETERS.removed_run("carried_loss", "temporal_order", 3)
    assert isinstance(added.learner, LRAAblationConfig) and isinstance(removed.learner, LRAAblationConfig)
    assert added.learner.released == ["carried_loss"]
    assert set(removed.learner.released) == set(RELEASED_PARTS) - {"carried_loss"}
    for run in (added, removed):
        assert run.learner.regularisation_strength == 0.1 and run.learner.target_step_size == 1.0
        assert run.learner.inner_steps == 3 and run.optimiser.learning_rate == 0.2


def test_the_public_code_without_clipping_differs_in_nothing_else() -> None:
    free = PARAMETERS.unclipped_run("temporal_order", 3)
    clipped = PARAMETERS.end_run("lra_released", "temporal_order", 0.0, 3)
    assert free.learner.clip_norm == 0.0 and clipped.learner.clip_norm == 1.0
    assert free.model_copy(update={"learner": clipped.learner}) == clipped
    assert free.learner.model_copy(update={"clip_norm": 1.0}) == clipped.learner


def test_all_rules_share_the_task_s_settings() -> None:
    for run in PARAMETERS.runs():
        settings = PARAMETERS.settings[run.task.name]
        if run.learner.name == "readout":
            assert run.optimiser.learning_rate == settings.readout_learning_rate
        else:
            assert run.optimiser.learning_rate == settings.learning_rate
            assert run.learner.target_step_size == settings.target_step_size
    assert {r.learner.released_nan for r in PARAMETERS.runs() if r.learner.name == "lra_released"} == {
        True,
        False,
    }


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("early_iterations", [40], r"early_iterations = \[40\].* below max_iterations = 40"),
        ("added_parts", ["omega"], "'omega'"),
        ("added_parts", [], "added_parts"),
        ("removed_parts", ["carried_loss"] * 2, "differ"),
        ("tasks", ["adding"], "settings lack adding"),
        ("local_loss", "huber", "local_loss = 'huber'"),
        ("regularisation_strength", 0.0, "regularisation_strength = 0.0"),
        ("settings.temporal_order.beta", 1.0, "beta"),
    ],
)
def test_refused(path: str, value: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ReleasedCodeParameters.checked(changed(VALUES, path, value))


# The findings


def accuracy_of(config: RunConfig) -> float:
    """Made-up test accuracies: full differentiation helps, the slope harms, as released is worst."""
    learner: Any = config.learner
    base = {"readout": 0.6, "lra": 0.7, "lra_released": 0.3, "lra_ablation": 0.7}[learner.name]
    if learner.name == "lra_ablation":
        base = {1: 0.9 if "full_differentiation" in learner.released else 0.5, 7: 0.8}[len(learner.released)]
    if getattr(learner, "regularisation_strength", 0.1) == 0:  # Ω helps as described, and harms as released
        base += {"lra": -0.04, "lra_released": 0.06}[learner.name]
    if getattr(learner, "clip_norm", 1.0) == 0:  # and so does clipping, as released
        base += 0.1
    return base + 0.001 * config.seed


def made(parameters: ReleasedCodeParameters = PARAMETERS) -> tuple[list[RunResult], list[RunResult]]:
    """Every run of the chapter, and those that were measured: angles are 10 times the place of a part."""
    runs, measured = [], []
    for config in parameters.runs():
        accuracy = accuracy_of(config)
        ended = getattr(config.learner, "released_nan", False) and config.seed < 5
        history: list[dict[str, Any]] = [
            {"iteration": 0, "training_loss": None, "validation_accuracy": 0.2},
            {"iteration": 10, "training_loss": 1.0, "validation_accuracy": accuracy + 0.05},
            {"iteration": 20, "training_loss": 1.0, "validation_accuracy": accuracy + 0.01},
        ]
        runs.append(
            RunResult(
                config,
                "diverged" if ended else "solved" if accuracy > 0.9035 else "max_iterations",
                config.seed if ended else 40,
                accuracy,
                accuracy,
                history,
                36.0,
            )
        )
        if config in parameters.measured_runs():
            row = history[-1] | {
                "measured": {
                    "start": gradients_of(config, 1.0),
                    "end": gradients_of(config, 3.0),
                    "accuracy": {"described": 0.5, "released": 0.5 - 0.1 * config.seed},
                }
            }
            measured.append(
                RunResult(config, "max_iterations", 40, accuracy, accuracy, [*history[:-1], row], 36.0)
            )
    return runs, measured


def gradients_of(config: RunConfig, scale: float) -> dict[str, dict[str, float | None]]:
    learner: Any = config.learner
    found: dict[str, dict[str, float | None]] = {}
    for name, _ in variants(learner):
        place = float(RELEASED_PARTS.index(name[2:])) if name[0] in "+-" else 9.0  # type: ignore[arg-type]
        found[name] = {
            "norm": scale * (2.0 if name[0] in "+-" else 4.0),
            "to_exact": 80.0 + place * scale / 10,
            "to_lra": None if name == "+ no_first_step" else 10 * place,
            "to_lra_released": 10 * place + config.seed * scale,
        }
    return found


def everything() -> tuple[list[Fidelity], Any]:
    runs, measured = made()
    return fidelity_of(PARAMETERS, runs[::-1], measured), comparisons(measured)


def test_each_network_is_compared_once() -> None:
    """Two lengths of a run share their start."""
    _, compared = everything()
    networks = {(c.task, c.strength, c.network, c.seed, c.point) for c in compared}
    assert len(networks) == 2 * 2 * 2 * 3 * 3 and {c.point for c in compared} == {0, 10, 40}
    assert len({(c.task, c.strength, c.network, c.seed, c.point, c.variant) for c in compared}) == len(
        compared
    )


def test_turns() -> None:
    _, compared = everything()
    found = turn(compared, "+ moving_targets", "lra", 0.1)
    assert found.to_base == 10 and found.ratio == 0.5
    assert found.to_exact == pytest.approx(80.3), "the median over start, early and end"
    assert turn(compared, "+ moving_targets", "lra", 0.1, point=0).to_exact == pytest.approx(80.1)
    back = turn(compared, "- moving_targets", "lra_released", 0.1, task="temporal_order", point=40)
    assert back.to_base == pytest.approx(10 + 4 * 3)
    nothing = turn(compared, "+ no_first_step", "lra", 0.1)
    assert nothing.to_base != nothing.to_base, "undefined where a gradient is 0"
    estimates, scores = turns_by_seed(compared, "temporal_order", "lra_released", 0.1)
    assert len(estimates) == 8
    assert scores["(ii) moving targets"] == pytest.approx([10 + seed * 7 / 3 for seed in SEEDS])
    assert len(turns_by_seed(compared, "temporal_order", "lra", 0.1)[0]) == 7, "one has no angle"
    assert len(turns_by_seed(compared, "temporal_order", "lra_released", 0.0)[0]) == 5


def test_differences_are_paired_by_seed() -> None:
    found, _ = everything()
    for each in found:
        assert each.ends.iqm.value == pytest.approx(-0.4)
        assert each.added["full_differentiation"].iqm.value == pytest.approx(0.2)
        assert each.added["diagonal_slope"].iqm.value == pytest.approx(-0.2)
        assert each.removed["diagonal_slope"].iqm.value == pytest.approx(0.5)
        assert each.omega["lra"].iqm.value == pytest.approx(0.04)
        assert each.omega["lra_released"].iqm.value == pytest.approx(-0.06)
        assert each.start["lra"].seeds == tuple(SEEDS) and each.start["lra"].mean.value == pytest.approx(-0.4)
        assert each.selection["lra_released"].iqm.value == pytest.approx(0.05), "the best check, not the last"
        assert each.nan == {3: 3, 4: 4, 5: None}
        assert set(each.outcomes) == {
            "readout",
            "lra",
            "lra, α = 0.1",
            "lra_released",
            "lra_released, α = 0.1",
        }


def test_the_table_at_a_glance() -> None:
    found, compared = everything()
    table = at_a_glance(PARAMETERS, found, compared)
    labels = ["(i)", "(ii)", "(iii)", "(iv)", "(v)", "(vi)", "(vii)", "(viii)"]
    assert list(table.index[1:9]) == labels and len(table) == 13
    accuracy = "accuracy, random permutation"
    assert table.loc["(i)", accuracy] == "+0.20 [+0.20, +0.20]"
    assert table.loc["(iv)", accuracy] == "-0.20 [-0.20, -0.20]"
    assert table.loc["(ii)", accuracy] == "–" and table.loc["(ii)", "angle to lra"] == "10°"
    assert table.loc["(ii)", "norm / lra's"] == "0.5" and table.loc["(ii)", "angle to exact"] == "80°"
    assert table.loc["unlisted c", "angle to lra"] == "–"
    assert str(table.loc["(vi)", accuracy]).startswith("-0.40")
    assert str(table.loc["(vii)", accuracy]).startswith("+0.05")
    assert table.loc["(viii)", accuracy] == "2 of 3 runs end (half of them within 4 iterations)"
    assert all(table.loc[label, "angle to lra"] == "–" for label in labels[5:])
    assert str(table.loc["as described", accuracy]).startswith("0.70")
    assert str(table.loc["as released", accuracy]).startswith("0.30")
    assert table.loc["(ii)", "left out: angle to released"] == "19°", "10 + median of seed x 1, 3, 3"
    assert {d.part for d in DIFFERENCES if d.part} == set(RELEASED_PARTS)


def test_the_other_tables() -> None:
    found, compared = everything()
    gradients = gradient_table(PARAMETERS, compared)
    assert len(gradients) == 2 * 2 * 3
    assert gradients.loc[("temporal order", "0.1", 10), "norm / exact"] == "1"
    effects = accuracy_table(found)
    row = effects.loc[("temporal order", "(iv) slope off a diagonal")]
    assert list(row) == ["-0.20 [-0.20, -0.20]", "0 of 3", "+0.50 [+0.50, +0.50]", "3 of 3", "0 of 3"]
    assert list(effects.loc[("temporal order", "(i) full differentiation")])[2:] == ["–", "–", "2 of 3"]
    assert list(effects.loc[("temporal order", "none: lra")]) == ["–"] * 4 + ["0 of 3"]
    none = ReleasedCodeParameters.checked(VALUES | {"removed_parts": []})
    assert "released − it" not in accuracy_table(fidelity_of(none, *made(none))).columns
    assert list(found[0].labelled_pairs()) == [
        "released − described",
        "+ (i) full differentiation",
        "+ (iv) slope off a diagonal",
        "− (iv) slope off a diagonal",
    ]
    assert list(found[0].labelled_learners().values()) == ["lra_released", "lra", "lra", "lra_released"]


def test_the_public_code_s_own_runs_stand_beside_ours() -> None:
    """Only those at the chapter's settings, K among them."""
    found, _ = everything()
    assert len(reference_table(PARAMETERS, found)) == 0
    same = ReleasedCodeParameters.checked(
        changed(VALUES | {"inner_steps": 10}, "settings.temporal_order.learning_rate", 0.1)
    )
    runs, measured = made(same)
    high = same.end_run("lra_released", "random_permutation", 0.0, same.seeds[0])
    runs = [
        replace(run, history=[*run.history, {"iteration": 30, "validation_accuracy": 0.9}])
        if run.config == high
        else run
        for run in runs
    ]
    table = reference_table(same, fidelity_of(same, runs, measured))
    rows = table.to_dict("records")
    best = "its best accuracy, and where in our range"
    assert [(r["task"], r["α"], r["Ω guarded"], r[best]) for r in rows] == [
        ("random permutation", "0.1", "no", "1.00, above"),
        ("random permutation", "0", "no", "0.65, within"),
        ("temporal order", "0.1", "yes", "0.94, above"),
        ("temporal order", "0.1", "no", "0.24, below"),
        ("temporal order", "0", "no", "0.80, above"),
    ]
    assert rows[0]["public code"] == "solved, 1200 iterations"
    assert rows[3]["public code"] == "ended in NaN, 64 iterations"
    assert rows[0]["lra_released, guarded, 40 iterations"] == "0.35 to 0.35", "the best check of each seed"


def test_the_sentences() -> None:
    found, compared = everything()
    text = fidelity_finding(PARAMETERS, found, compared)
    assert "the released rule is worse on random permutation (0.30 against 0.70)" in text
    assert (
        "(i) full differentiation alone brings the described update nearest to the exact gradient (80°)"
        in text
    )
    for task in ("random permutation", "temporal order"):
        assert f"accuracy on {task} rises with (i) (+0.20) and falls with (iv) (-0.20);" in text
    assert "4 of 6 regularised released runs end in NaN" in text
    assert text.count(". ") == 1, "two sentences"
    assert "+0.04 [+0.04, +0.04] as described and -0.06 [-0.06, -0.06] as released on" in omega_sentence(
        found
    )
    protocol = protocol_sentences(found)
    assert "+0.050 [+0.050, +0.050] for lra on random permutation" in protocol
    assert "2 of 3 on temporal order (half of them within 4 iterations)" in protocol


def test_what_clipping_does_as_released() -> None:
    text = clipping_sentence(PARAMETERS, released_panels(PARAMETERS, made()[0]))
    assert "at c = 1" in text and "against no clipping" in text
    assert "by -0.10 [-0.10, -0.10] on random permutation and -0.10 [-0.10, -0.10] on temporal order." in text


def test_the_evidence_on_claims_about_the_released_code() -> None:
    found = released_evidence(PARAMETERS, made()[0])
    for pieces in found.values():
        assert [piece.where for piece in pieces] == ["random permutation, T = 20", "temporal order, T = 20"]
        assert {(piece.method, piece.chapter, piece.estimate.n) for piece in pieces} == {
            ("lra_released", "08_released_code", 3)
        }
    values = {number: pieces[0].estimate.value for number, pieces in found.items()}
    assert values["2"] == pytest.approx(-0.1), "clipped less not clipped, both without Ω"
    assert values["3"] == pytest.approx(0.36 - 0.6), "without Ω less the control"
    assert values["5"] == pytest.approx(-0.06), "with Ω less without"
    assert -0.06 < values["4b"] < -0.03, "the same on all checks but the first"


def test_where_nothing_is_clear_it_says_so() -> None:
    one = ReleasedCodeParameters.checked(VALUES | {"seeds": [3]})
    runs, measured = made(one)
    text = fidelity_finding(one, fidelity_of(one, runs, measured), comparisons(measured))
    assert text.count("changes clearly with none") == 2
    assert text.count("is not clearly different") == 2 and "nan" not in text


def test_a_missing_run_is_an_error() -> None:
    runs, measured = made()
    missing = PARAMETERS.nan_run("temporal_order", 4)
    others = [run for run in runs if run.config != missing]
    with pytest.raises(KeyError):
        fidelity_of(PARAMETERS, others, measured)
    with pytest.raises(KeyError):
        released_panels(PARAMETERS, runs[:-1])
