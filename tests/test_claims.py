"""Verdicts: what an interval says about a threshold, and how the answers on single tasks add up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lra_companion.claims import CLAIMS, METHODS, Answer, Evidence, Threshold, judge, judgements, verdict
from lra_companion.statistics import Estimate


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


def test_one_seed_says_nothing() -> None:
    alone = Estimate(0.9, np.nan, np.nan, 0.95, 1)
    for side in ("above", "below", "within"):
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
    claim = CLAIMS[-1]
    evidence = [
        Evidence("one task", "lra", estimate(0.1, 0.2)),
        Evidence("another", "lra", estimate(0.2, 0.3)),
        Evidence("one task", "lra_released", estimate(-0.3, -0.2)),
    ]
    described, released = judge(claim, evidence)
    assert (described.verdict, released.verdict) == ("reproduced", "not reproduced")
    assert [piece.where for piece, _ in described.evidence] == ["one task", "another"]


def test_all_claims_are_judged_whatever_was_run() -> None:
    found = judgements({"5": [Evidence("one task", "lra", estimate(0.1, 0.2))]})
    assert len(found) == len(CLAIMS) * len(METHODS)
    run = {(item.claim.number, item.method): item.verdict for item in found if item.verdict != "not run"}
    assert run == {("5", "lra"): "reproduced"}


def test_numbers_are_unique() -> None:
    assert len({claim.number for claim in CLAIMS}) == len(CLAIMS)
