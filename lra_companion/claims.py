"""The paper's claims as data, and this book's aims beside them, and the verdict on each from the evidence (``evidence``).

What decides was fixed before the results of the profile `paper` were made: for each claim a quantity, the sign or size it must
have, and how the answers on single tasks add up. A task's answer is what the whole interval of its estimate says; where the
interval crosses the threshold there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lra_companion.experiments import (
    ClippingParameters,
    HowFarParameters,
    RegularisationParameters,
    ReleasedCodeParameters,
    VanishingParameters,
)
from lra_companion.statistics import Estimate

Answer = Literal["holds", "fails", "unclear"]
Verdict = Literal["reproduced", "partly reproduced", "not reproduced", "inconclusive", "not run"]
AIM_WORDS: dict[Verdict, str] = {
    "reproduced": "met",
    "partly reproduced": "met in part",
    "not reproduced": "not met",
}
"""What is said of an aim in place of what is said of a claim."""
Method = Literal["lra", "lra_released"]
METHODS: dict[Method, str] = {"lra": "as described", "lra_released": "as released"}
"""The two things one can mean by the paper's method, and what they are called."""

NOTABLE = 0.05
"""Difference in accuracy below which two conditions count as alike, and above which as clearly different."""
VANISHING = 0.8
"""Factor per step below which a norm counts as vanishing: a hundredth is left after twenty steps."""
NEARLY_ALL = 0.9
"""Share of seeds from which on a task counts as solved by a setting."""
FAR, FARTHER = 100, 200
"""Sequence lengths, in time steps, at which the aims are judged."""
FLOWING = 0.9
"""Factor per step above which gradients count as flowing: an eighth is left after twenty steps."""


@dataclass(frozen=True)
class Threshold:
    """What an estimate's interval must do: lie ``above`` or ``below`` a bound, or ``within`` the bound of 0 on either side. Or
    what the estimate itself must be, ``at least`` a bound: a share of ten seeds has an interval too wide for any other.
    """

    side: Literal["above", "below", "within", "at least"]
    bound: float

    def answer(self, estimate: Estimate) -> Answer:
        """What the interval says, or the estimate itself; a single seed says nothing."""
        if estimate.n < 2:
            return "unclear"
        if self.side == "at least":
            return "holds" if estimate.value >= self.bound else "fails"
        low, high = estimate.low, estimate.high
        if self.side == "within":
            low, high = (
                (-high, -low) if low + high < 0 else (low, high)
            )  # the worse side, as a positive number
            inside, outside = high < self.bound and low > -self.bound, low > self.bound
        elif self.side == "above":
            inside, outside = low > self.bound, high < self.bound
        else:
            inside, outside = high < self.bound, low > self.bound
        return "holds" if inside else "fails" if outside else "unclear"

    def __str__(self) -> str:
        """In words, for tables."""
        return f"within ±{self.bound:g}" if self.side == "within" else f"{self.side} {self.bound:g}"


@dataclass(frozen=True)
class Evidence:
    """One estimate that bears on a claim: where it was measured, for which of the two methods, and by which chapter's runs."""

    where: str
    method: Method
    estimate: Estimate
    chapter: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper's abstract, in our words, with what decides it.

    chapters: the notebooks whose runs it may be judged by. Each method is judged by the first that trained it. aim: it is none
    of the paper's but what this book set out to reach with the method as described, and is judged for that alone.
    """

    number: str
    statement: str
    quantity: str
    threshold: Threshold
    chapters: tuple[str, ...]
    aim: bool = False


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim for one of the methods, and the evidence with what each piece of it says."""

    claim: Claim
    method: Method
    verdict: Verdict
    evidence: tuple[tuple[Evidence, Answer], ...]

    @property
    def words(self) -> str:
        """The verdict as it is told: aims are not reproduced but met."""
        return AIM_WORDS.get(self.verdict, self.verdict) if self.claim.aim else self.verdict

    @property
    def chapter(self) -> str:
        """The notebook by whose runs it was judged; where there is no evidence, the first that might have been."""
        return self.evidence[0][0].chapter if self.evidence else self.claim.chapters[0]


_GRADIENTS, _CLIPPING = VanishingParameters.chapter, ClippingParameters.chapter
_REGULARISATION, _RELEASED = RegularisationParameters.chapter, ReleasedCodeParameters.chapter
_HOW_FAR = HowFarParameters.chapter

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "1",
        "Cutting the network into sub-graphs does not do away with vanishing gradients.",
        "factor by which the norm of the recurrent weight gradient changes per step back in time, without Ω, before training",
        Threshold("below", VANISHING),
        (_GRADIENTS,),
    ),
    Claim(
        "2",
        "Gradient clipping as LRA proposes it has little or no effect on performance.",
        "test accuracy with clipping at the common bound minus test accuracy without clipping",
        Threshold("within", NOTABLE),
        (_CLIPPING, _RELEASED),
    ),
    Claim(
        "3",
        "The LRA RNN without regularisation is very hard to train.",
        "test accuracy of LRA without Ω minus that of the control, whose hidden weights are not trained",
        Threshold("below", NOTABLE),
        (_REGULARISATION, _RELEASED),
    ),
    Claim(
        "4a",
        "Regularising gradients in the direction of the update lets them flow.",
        "factor by which the norm of the recurrent weight gradient changes per step back in time, with Ω, after training",
        Threshold("above", FLOWING),
        (_GRADIENTS,),
    ),
    Claim(
        "4b",
        "Regularising gradients makes a marked difference to convergence.",
        "mean validation accuracy over all checks of the training, with Ω minus without",
        Threshold("above", NOTABLE),
        (_REGULARISATION, _RELEASED),
    ),
    Claim(
        "5",
        "The regularised LRA RNN does considerably better than the unregularised one on each of the three tasks.",
        "test accuracy with Ω minus test accuracy without",
        Threshold("above", NOTABLE),
        (_REGULARISATION, _RELEASED),
    ),
    Claim(
        "6a",
        f"With one setting for all of them, strictly local LRA solves the three tasks at T = {FAR}.",
        f"share of seeds that solved the task at T = {FAR} with the preset recommended",
        Threshold("at least", NEARLY_ALL),
        (_HOW_FAR,),
        aim=True,
    ),
    Claim(
        "6b",
        f"The same setting solves them at T = {FARTHER}.",
        f"share of seeds that solved the task at T = {FARTHER} with the preset recommended",
        Threshold("at least", NEARLY_ALL),
        (_HOW_FAR,),
        aim=True,
    ),
    Claim(
        "6c",
        f"At T = {FAR} it is sooner there than clipped backpropagation with Ω, whose settings were searched task by task.",
        f"iterations until solved at T = {FAR} (all that were allowed where a seed did not) with the preset recommended, minus "
        "those of clipped backpropagation with Ω",
        Threshold("below", 0),
        (_HOW_FAR,),
        aim=True,
    ),
)
"""The abstract's claims, then the aims of this book. Differences are within seeds, interquartile means with 95 % bootstrap
intervals over seeds. Both sides of one had the same search for their settings; what the chapter on the released code trains has
settings of the public code's own grid (the control a rate that was searched), and the preset was chosen from the trials of a
search.
"""


def verdict(answers: Sequence[Answer]) -> Verdict:
    """How the answers on single tasks add up: all hold, all fail, some of both; else what is unclear decides."""
    if not answers:
        return "not run"
    if "holds" in answers and "fails" in answers:
        return "partly reproduced"
    if set(answers) == {"holds"}:
        return "reproduced"
    return "not reproduced" if set(answers) == {"fails"} else "inconclusive"


def judge(claim: Claim, evidence: Sequence[Evidence]) -> list[Judgement]:
    """The verdict on a claim for each method that it is about, from the evidence that bears on it."""
    found = []
    methods: Sequence[Method] = ("lra",) if claim.aim else tuple(METHODS)
    for method in methods:
        of_method = [piece for piece in evidence if piece.method == method]
        trained_by = [
            chapter for chapter in claim.chapters if any(piece.chapter == chapter for piece in of_method)
        ]
        pieces: list[tuple[Evidence, Answer]] = [
            (piece, claim.threshold.answer(piece.estimate))
            for piece in of_method
            if piece.chapter == trained_by[0]
        ]
        answers: list[Answer] = [answer for _, answer in pieces]
        found.append(Judgement(claim, method, verdict(answers), tuple(pieces)))
    return found


def judgements(evidence: Mapping[str, Sequence[Evidence]]) -> list[Judgement]:
    """The verdicts on all claims and aims, from the evidence on each by its number."""
    return [judgement for claim in CLAIMS for judgement in judge(claim, evidence.get(claim.number, ()))]
