"""Verdicts: what an interval says about a threshold, and how the answers on single tasks add up."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from lra_companion import plots, profiles
from lra_companion.claim_pictures import claim_rows, draw_claims
from lra_companion.claims import (
    CLAIMS,
    METHODS,
    Answer,
    Evidence,
    Threshold,
    judge,
    judgements,
    verdict,
)
from lra_companion.evidence import clipping_evidence, how_far_evidence, regularisation_evidence
from lra_companion.experiments import ComparisonParameters, HowFarParameters, RegularisationParameters
from lra_companion.findings.claims import (
    Source,
    claims_caution,
    claims_finding,
    claims_origin,
    estimate_text,
    judged,
    quantity_table,
    verdict_on,
    verdict_rows,
    verdict_table,
)
from lra_companion.judging import document, sources
from lra_companion.statistics import Estimate, wilson_interval
from lra_companion.store import ResultStore
from lra_companion.training import RunResult
from test_experiments import COMMON, VALUES, settings_for
from test_findings import HIGH, LOW, MIDDLE, SEEDS, clipping, result_of

mpl.use("agg")


def estimate(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 0.95, 10)


@pytest.mark.parametrize(
    ("side", "low", "high", "answer"),
    [
        ("above", 0.06, 0.2, "holds"),
        ("above", -0.2, 0.04, "fails"),
        ("above", 0.04, 0.06, "unclear"),
        ("below", -0.2, 0.04, "holds"),
        ("below", 0.06, 0.2, "fails"),
        ("below", 0.04, 0.06, "unclear"),
        ("within", -0.04, 0.04, "holds"),
        ("within", -0.06, 0.04, "unclear"),
        ("within", -0.04, 0.06, "unclear"),
        ("within", -0.2, -0.06, "fails"),
        ("within", 0.06, 0.2, "fails"),
        ("within", -0.3, 0.3, "unclear"),
    ],
)
def test_what_an_interval_says(side: str, low: float, high: float, answer: Answer) -> None:
    assert Threshold(side, 0.05).answer(estimate(low, high)) == answer  # type: ignore[arg-type]


@given(
    low=st.floats(-1, 1),
    width=st.floats(0, 1),
    bound=st.floats(0.01, 0.5),
    side=st.sampled_from(["above", "below", "within"]),
)
def test_an_interval_that_contains_the_bound_decides_nothing(
    low: float, width: float, bound: float, side: str
) -> None:
    """And what holds above fails below, and the mirror image says the same about ``within``."""
    threshold = Threshold(side, bound)  # type: ignore[arg-type]
    found = threshold.answer(estimate(low, low + width))
    if low <= bound <= low + width:
        assert found == "unclear"
    opposite = {"holds": "fails", "fails": "holds", "unclear": "unclear"}
    if side == "above":
        assert Threshold("below", bound).answer(estimate(low, low + width)) == opposite[found]
    if side == "within":
        assert threshold.answer(estimate(-low - width, -low)) == found


@pytest.mark.parametrize(("solved", "answer"), [(10, "holds"), (9, "holds"), (8, "fails"), (0, "fails")])
def test_a_share_of_seeds_counts_by_itself(solved: int, answer: Answer) -> None:
    """Whatever its interval, which for ten seeds never lies above nine tenths."""
    share = wilson_interval(solved, 10)
    assert share.low < 0.9
    assert Threshold("at least", 0.9).answer(share) == answer


def test_one_seed_says_nothing() -> None:
    alone = Estimate(0.9, np.nan, np.nan, 0.95, 1)
    for side in ("above", "below", "within", "at least"):
        assert Threshold(side, 0.05).answer(alone) == "unclear"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], "not run"),
        (["holds"] * 3, "reproduced"),
        (["fails"] * 3, "not reproduced"),
        (["holds", "fails", "holds"], "partly reproduced"),
        (["holds", "fails", "unclear"], "partly reproduced"),
        (["holds", "holds", "unclear"], "inconclusive"),
        (["fails", "unclear"], "inconclusive"),
        (["unclear"], "inconclusive"),
    ],
)
def test_how_answers_add_up(answers: list[Answer], expected: str) -> None:
    for order in itertools.permutations(answers):
        assert verdict(order) == expected


def test_each_method_is_judged_by_its_own_evidence() -> None:
    claim = next(claim for claim in CLAIMS if claim.number == "5")
    evidence = [
        Evidence("one task", "lra", estimate(0.1, 0.2), "05_regularisation"),
        Evidence("another", "lra", estimate(0.2, 0.3), "05_regularisation"),
        Evidence("one task", "lra_released", estimate(-0.3, -0.2), "05_regularisation"),
    ]
    described, released = judge(claim, evidence)
    assert (described.verdict, released.verdict) == ("reproduced", "not reproduced")
    assert [piece.where for piece, _ in described.evidence] == ["one task", "another"]


def test_a_method_is_judged_by_the_first_of_the_claim_s_chapters_that_trained_it() -> None:
    claim = next(claim for claim in CLAIMS if claim.number == "5")
    assert claim.chapters == ("05_regularisation", "08_released_code")
    later = Evidence("one task", "lra_released", estimate(-0.3, -0.2), "08_released_code")
    sooner = Evidence("one task", "lra_released", estimate(0.2, 0.3), "05_regularisation")
    _, released = judge(claim, [later])
    assert (released.verdict, released.chapter) == ("not reproduced", "08_released_code")
    described, released = judge(claim, [later, sooner])
    assert (released.verdict, released.chapter) == ("reproduced", "05_regularisation")
    assert [piece for piece, _ in released.evidence] == [sooner]
    assert (described.verdict, described.chapter) == ("not run", "05_regularisation")


def test_all_claims_are_judged_whatever_was_run() -> None:
    found = judgements({"5": [Evidence("one task", "lra", estimate(0.1, 0.2), "05_regularisation")]})
    aims = [claim for claim in CLAIMS if claim.aim]
    assert len(found) == (len(CLAIMS) - len(aims)) * len(METHODS) + len(aims)
    run = {(item.claim.number, item.method): item.verdict for item in found if item.verdict != "not run"}
    assert run == {("5", "lra"): "reproduced"}


def test_numbers_are_unique() -> None:
    assert len({claim.number for claim in CLAIMS}) == len(CLAIMS)


# From a chapter's results to evidence


def regularisation(**changes: Any) -> RegularisationParameters:
    tasks, lengths = ["temporal_order"], [20, 30]
    groups = ["readout", "lra", "lra_omega", "lra_released", "lra_released_omega"]
    values: dict[str, Any] = {
        "seeds": SEEDS,
        "tasks": tasks,
        "sequence_lengths": lengths,
        "regularisation_strengths": [],
        "settings": settings_for(tasks, lengths, groups),
    }
    return RegularisationParameters.checked(VALUES | values | changes)


def results_for(asked: ComparisonParameters, accuracies: dict[str, list[float]]) -> tuple[RunResult, ...]:
    """A result of each run, with these test accuracies by label and seed."""
    found = {}
    for task, length in asked.problems():
        for condition in asked.conditions_at(task, length):
            for seed, accuracy in zip(asked.seeds, accuracies[condition.label], strict=True):
                config = asked.run(task, length, condition, seed)
                found[config.key()] = result_of(config, accuracy)
    return tuple(found[config.key()] for config in asked.runs())


ACCURACIES = {
    "readout": MIDDLE,
    "lra": LOW,
    "lra + Ω": HIGH,
    "lra_released": HIGH,
    "lra_released + Ω": LOW,
}


def test_the_evidence_of_the_regularisation_chapter() -> None:
    asked = regularisation(sequence_lengths=[20])
    found = regularisation_evidence(asked, results_for(asked, ACCURACIES))
    assert {
        number: [(piece.where, piece.method) for piece in pieces] for number, pieces in found.items()
    } == {number: [("temporal order, T = 20", "lra")] for number in ("3", "4b", "5")}
    values = {number: pieces[0].estimate.value for number, pieces in found.items()}
    gain = np.mean([0.6, 0.61, 0.6])  # the middle ones of the differences .6 .6 .63 .61 .6
    assert values["5"] == pytest.approx(gain)
    assert values["4b"] == pytest.approx(gain / 2), "accuracy rises evenly from nothing over five checks"
    assert values["3"] == pytest.approx(np.mean([-0.3, -0.28, -0.29]))
    assert all(pieces[0].estimate.n == len(SEEDS) for pieces in found.values())


def test_a_method_is_judged_at_the_length_at_which_it_was_run() -> None:
    asked = regularisation(
        learners=["lra", "lra_released"],
        only_lengths={"lra_released*": [20], "lra + Ω on *": [30]},
        places=["targets", "recurrent", "readout"],
    )
    scores = {condition.label: MIDDLE for condition in asked.conditions()} | ACCURACIES
    found = regularisation_evidence(asked, results_for(asked, scores))
    for pieces in found.values():
        assert [(piece.where, piece.method) for piece in pieces] == [
            ("temporal order, T = 30", "lra"),
            ("temporal order, T = 20", "lra_released"),
        ]
    assert [piece.estimate.value > 0 for piece in found["5"]] == [True, False]


def test_the_evidence_on_clipping() -> None:
    asked = clipping()
    labels = [condition.label for condition in asked.conditions()]
    scores = dict.fromkeys(labels, MIDDLE) | {"lra, clip, c = 1": [0.53] * 5, "lra, clip, c = 0.1": LOW}
    (piece,) = clipping_evidence(asked, results_for(asked, scores))["2"]
    assert (piece.where, piece.method) == ("temporal order, T = 20", "lra")
    assert piece.estimate.value == pytest.approx(0.03), "at the common bound, less none"


@pytest.mark.parametrize("norms", [[0.1, 1.0], [0.0, 0.1]])
def test_without_both_sides_there_is_no_evidence_on_clipping(norms: list[float]) -> None:
    asked = clipping(clip_norms=norms)
    scores = {condition.label: MIDDLE for condition in asked.conditions()}
    assert clipping_evidence(asked, results_for(asked, scores)) == {"2": []}


# From the chapter on reach to the aims

SOONER, LATER = [300, 400, 300, 400, 300], [900, 900, 800, 900, 900]


def how_far_results(ours: list[str], theirs: str = "solved") -> tuple[HowFarParameters, list[RunResult]]:
    """The preset against clipped backpropagation with Ω at T = 100 and 200; ``ours``: how each seed of the preset ended."""
    asked = HowFarParameters.checked(
        COMMON
        | {
            "seeds": SEEDS,
            "tasks": ["temporal_order"],
            "sequence_lengths": [100, 200],
            "rules": ["bptt_clipped_omega"],
            "sgd_rules": [],
            "presets": ["recommended"],
            "search_iterations": 500,
            "digits_lengths": [],
            "search_patience": 3,
            "max_iterations": 1000,
            "settings": settings_for(
                ["temporal_order"], [100, 200], ["readout_adam", "bptt_clipped_omega_adam"]
            ),
        }
    )
    results = []
    for length in asked.sequence_lengths:
        for condition in asked.conditions():
            for place, seed in enumerate(SEEDS):
                run = asked.run("temporal_order", length, condition, seed)
                if condition.preset:
                    status, iterations = ours[place], SOONER[place]
                else:
                    status, iterations = theirs, LATER[place]
                results.append(result_of(run, 0.9, status=status, iterations=iterations))
    return asked, results


def test_the_aims_from_the_chapter_on_reach() -> None:
    evidence = how_far_evidence(*how_far_results(["solved"] * 5))
    found = {each.claim.number: each for each in judgements(evidence) if each.claim.aim}
    assert {number: each.words for number, each in found.items()} == dict.fromkeys(("6a", "6b", "6c"), "met")
    assert {each.method for each in found.values()} == {"lra"}
    (sooner,) = evidence["6c"]
    assert sooner.where == "temporal order, T = 100"
    assert sooner.estimate.value == pytest.approx(-1600 / 3), (
        "-600, -500, -500, -500, -600 without a quarter at each end"
    )


def test_a_seed_that_did_not_solve_the_task_counts_with_all_it_was_allowed() -> None:
    """It was given up after 300 iterations: were those counted, the preset would seem the faster."""
    evidence = how_far_evidence(*how_far_results(["stalled"] * 5))
    found = {each.claim.number: each.words for each in judgements(evidence) if each.claim.aim}
    assert found == {"6a": "not met", "6b": "not met", "6c": "not met"}
    (needed,) = evidence["6c"]
    assert needed.estimate.low >= 100
    four = how_far_evidence(*how_far_results(["solved"] * 4 + ["stalled"]))
    assert [each.words for each in judgements(four) if each.claim.number == "6a"] == ["not met"]


def test_other_lengths_and_rules_say_nothing_on_the_aims() -> None:
    asked, results = how_far_results(["solved"] * 5)
    short = asked.model_copy(update={"sequence_lengths": [200]})
    found = how_far_evidence(short, results)
    assert (found["6a"], found["6c"]) == ([], []) and len(found["6b"]) == 1


# What chapters, tables and the shell make of it


def described(accuracies: dict[str, list[float]] = ACCURACIES) -> list[Source]:
    """A chapter that was run under `quick`, one that was not, and one that is not complete."""
    asked = regularisation(sequence_lengths=[20], profile="quick")
    return [
        Source("02_vanishing_gradients", None, lacking="3 of 9 runs of the profile paper are stored"),
        Source("03_clipping", None, lacking="nothing"),
        Source("05_regularisation", "quick", asked, results_for(asked, accuracies)),
        Source("08_released_code", None, lacking="all"),
        Source("09_how_far", None, lacking="all of it"),
    ]


def test_the_chapter_s_sentences() -> None:
    judged_by = described()
    found = judged(judged_by)
    assert claims_finding(found) == (
        "Of the 6 statements into which the abstract's claims are divided here, the verdicts on the method as described are: "
        "3 reproduced (3, 4b, and 5) and 3 not run (1, 2, and 4a). On the code as released they are: "
        "6 not run (1, 2, 3, 4a, 4b, and 5). This book's own aims for the method as described: 6a not run, 6b not run, and 6c "
        "not run."
    )
    assert verdict_on("5", found, judged_by) == (
        "as described: reproduced (profile quick); as released: not run"
    )
    assert verdict_on("1", found, judged_by) == "as described: not run; as released: not run"
    text = claims_caution(found, judged_by)
    assert "fixed before the runs of the profile paper" in text
    assert "claims 3, 4b, and 5 rests on the profile quick, with 5 seeds. Few seeds" in text
    assert claims_origin(judged_by) == (
        "Judged from the runs of 05_regularisation (profile quick, 15 runs): 15 runs in all, 0.0021 core-hours of training. "
        "Not complete, and so not judged: 02_vanishing_gradients (3 of 9 runs of the profile paper are stored). "
        "Not complete, and so not judged: 03_clipping (nothing). "
        "Not complete, and so not judged: 08_released_code (all). "
        "Not complete, and so not judged: 09_how_far (all of it)."
    )


def test_the_words_follow_the_results() -> None:
    turned = ACCURACIES | {"lra": HIGH, "lra + Ω": LOW}
    text = claims_finding(judged(described(turned)))
    assert "as described are: 3 not reproduced (3, 4b, and 5) and 3 not run" in text
    level = ACCURACIES | {"lra + Ω": [0.9, 0.1, 0.9, 0.1, 0.5]}
    text = claims_finding(judged(described(level)))
    assert "1 reproduced (3), 2 inconclusive (4b and 5), and 3 not run" in text


def test_a_large_profile_needs_no_caution() -> None:
    (*_, last, _, _) = described()
    judged_by = [replace(source, profile="paper", parameters=last.parameters) for source in described()]
    assert claims_caution(judged(judged_by[2:3]), judged_by) == (
        "Thresholds were fixed before the runs of the profile paper."
    )


def test_the_tables() -> None:
    judged_by = described()
    found = judged(judged_by)
    rows = verdict_rows(found, judged_by)
    assert len(rows) == sum(1 if claim.aim else 2 for claim in CLAIMS), "one estimate, or none, for each"
    by_place = {(row["claim"], row["method"]): row for row in rows}
    row = by_place["5", "as described"]
    assert (row["verdict"], row["says"], row["seeds"]) == ("reproduced", "holds", "5")
    assert row["estimate"].startswith("0.603 [0.6") and row["must lie"] == "above 0.05"
    assert (row["chapter"], row["profile"]) == ("05_regularisation", "quick")
    lacking = by_place["2", "as described"]
    assert (lacking["verdict"], lacking["estimate"], lacking["profile"]) == (
        "not run",
        "",
        "none is complete",
    )
    assert len(verdict_table(found, judged_by)) == len(rows)
    decides = quantity_table(judged_by)
    assert list(decides.index) == [claim.number for claim in CLAIMS]
    assert decides.loc["5", "chapter"] == "05 (quick), else 08 (not complete)"
    assert decides.loc["1", "chapter"] == "02 (not complete)"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (estimate(0.04, 0.06), "0.050 [0.040, 0.060]"),
        (estimate(1e-5, 3e-5), "2e-05 [1e-05, 3e-05]"),
        (estimate(-0.01, 0.0101), "0.000 [-0.010, 0.010]"),
        (estimate(0.0, 0.0), "0.000 [0.000, 0.000]"),
        (Estimate(0.3, np.nan, np.nan, 0.95, 1), "0.300 (n = 1)"),
    ],
)
def test_estimates_as_text(given: Estimate, text: str) -> None:
    assert estimate_text(given) == text


def test_verdicts_as_data() -> None:
    judged_by = described()
    asked = regularisation(sequence_lengths=[20], seeds=[7])
    judged_by[2] = Source(
        "05_regularisation",
        "smoke",
        asked,
        results_for(asked, {label: scores[:1] for label, scores in ACCURACIES.items()}),
    )
    data = json.loads(json.dumps(document(judged(judged_by), judged_by), allow_nan=False))
    assert data["chapters"]["05_regularisation"]["profile"] == "smoke"
    assert data["chapters"]["02_vanishing_gradients"] == {
        "profile": None,
        "runs": 0,
        "core_hours": 0.0,
        "lacking": "3 of 9 runs of the profile paper are stored",
    }
    (five,) = [each for each in data["verdicts"] if (each["claim"], each["method"]) == ("5", "lra")]
    assert (five["verdict"], five["threshold"]) == ("inconclusive", {"side": "above", "bound": 0.05})
    (piece,) = five["evidence"]
    assert (piece["low"], piece["high"], piece["seeds"], piece["says"]) == (None, None, 1, "unclear")
    assert piece["value"] == pytest.approx(0.6)


# Which chapters are complete, and under which profile

CHAPTER = "03_clipping"


def stored(folder: Path, profile: str, leave: int = 0) -> int:
    """Made-up results of the chapter's runs under a profile, less the last few; how many there should be."""
    runs = profiles.profile_runs(profile)[CHAPTER]
    for config in runs[: len(runs) - leave]:
        ResultStore(folder).put(result_of(config, 0.5))
    return len(runs)


def clipping_source(folder: Path, *tried: str) -> Source:
    (found,) = [source for source in sources(folder, tried) if source.chapter == CHAPTER]
    return found


def test_a_chapter_is_judged_under_the_first_complete_profile(tmp_path: Path) -> None:
    total = stored(tmp_path / "smoke", "smoke")
    found = clipping_source(tmp_path, "quick", "smoke")
    assert (found.profile, len(found.results)) == ("smoke", total)
    assert [result.config for result in found.results] == profiles.profile_runs("smoke")[CHAPTER]
    quick = stored(tmp_path / "quick", "quick", leave=1)
    assert clipping_source(tmp_path, "quick", "smoke").profile == "smoke"
    assert clipping_source(tmp_path, "quick").lacking == (
        f"{quick - 1} of {quick} runs of the profile quick are stored"
    )
    stored(tmp_path / "quick", "quick")
    assert clipping_source(tmp_path, "quick", "smoke").profile == "quick"
    assert clipping_source(tmp_path, "smoke", "quick").profile == "smoke"


def test_results_may_be_the_store_itself(tmp_path: Path) -> None:
    stored(tmp_path, "smoke")
    assert clipping_source(tmp_path, "quick", "smoke").profile == "smoke"
    others = [source for source in sources(tmp_path, ["smoke"]) if source.chapter != CHAPTER]
    assert {source.chapter for source in others} == {
        chapter for claim in CLAIMS for chapter in claim.chapters
    } - {CHAPTER}
    assert all(source.profile is None and "runs of the profile smoke" in source.lacking for source in others)


def test_settings_that_were_not_searched_are_said_to_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "SETTINGS", tmp_path)
    assert (
        "no settings have been searched for the profile smoke" in clipping_source(tmp_path, "smoke").lacking
    )


def test_a_chapter_that_a_profile_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("01_tasks: {}")
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)
    assert clipping_source(tmp_path, "mine").lacking == "the profile mine leaves it out"


# The picture


@pytest.fixture
def axes() -> Iterator[Axes]:
    plots.style()
    yield plt.subplots()[1]
    plt.close("all")


def test_a_claim_s_panel_names_every_row_and_what_it_says(axes: Axes) -> None:
    claim = next(claim for claim in CLAIMS if claim.number == "5")
    evidence = [
        Evidence("one task", "lra", estimate(0.1, 0.2), claim.chapters[0]),
        Evidence("another", "lra", estimate(-0.2, 0.3), claim.chapters[0]),
        Evidence("one task", "lra_released", estimate(-0.3, -0.2), claim.chapters[0]),
    ]
    claim_rows(axes, judge(claim, evidence))
    assert axes.get_title("left") == "Claim 5. as described: inconclusive, as released: not reproduced"
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "one task\nas described",
        "another\nas described",
        "one task\nas released",
    ]
    texts = [text.get_text() for text in axes.texts]
    assert "holds: above 0.05" in texts
    assert [text.split("\n")[1] for text in texts if "\n" in text] == ["holds", "unclear", "fails"]
    marks = [line for line in axes.get_lines() if line.get_marker() not in ("None", None)]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([0.15, 0.05, -0.25])  # pyright: ignore
    assert len({line.get_marker() for line in marks}) == 2, "colour is not the only cue"
    low, high = axes.get_xlim()
    assert low < -0.3 and high > 0.3


@pytest.mark.parametrize(
    ("number", "region"), [("1", (None, 0.8)), ("2", (-0.05, 0.05)), ("4a", (0.9, None))]
)
def test_the_hatched_region_is_where_the_claim_holds(
    number: str, region: tuple[float | None, float | None], axes: Axes
) -> None:
    (claim,) = [claim for claim in CLAIMS if claim.number == number]
    claim_rows(axes, judge(claim, [Evidence("one task", "lra", estimate(0.2, 0.3), claim.chapters[0])]))
    (hatched,) = [patch for patch in axes.patches if patch.get_hatch()]
    box = hatched.get_path().get_extents(hatched.get_patch_transform())
    limits = axes.get_xlim()
    assert (box.x0, box.x1) == pytest.approx(
        [edge if given is None else given for edge, given in zip(limits, region, strict=True)]
    )


def test_what_was_not_run_is_in_the_picture() -> None:
    plots.style()
    draw_claims(judgements({}))
    panels = plt.gcf().axes
    assert len(panels) == len(CLAIMS)
    assert all("not run" in [text.get_text() for text in panel.texts] for panel in panels)
    plt.close("all")
