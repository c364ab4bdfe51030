"""The paper's claims as data, and this book's aims beside them, and the verdict on each from stored results.

What decides was fixed before the results of the profile `paper` were made: for each claim a quantity, the sign or size it must
have, and how the answers on single tasks add up. A task's answer is what the whole interval of its estimate says; where the
interval crosses the threshold there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lra_companion.experiments import (
    ClippingParameters,
    HowFarParameters,
    RegularisationParameters,
    ReleasedCodeParameters,
    VanishingParameters,
)
from lra_companion.experiments.clipping import clip_label
from lra_companion.experiments.how_far import RULES, preset_label
from lra_companion.experiments.released_code import UNCLIPPED
from lra_companion.findings.comparison import Panel, in_focus, panels
from lra_companion.findings.outcomes import BOOTSTRAP_SEED
from lra_companion.findings.released_code import released_panels
from lra_companion.findings.vanishing_gradients import GRADIENT, traces
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import Estimate, paired_difference
from lra_companion.training import RunResult

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
        """What the interval says; an estimate without one (a single seed) says nothing."""
        if self.side == "at least":
            return "holds" if estimate.value >= self.bound else "fails"
        low, high = estimate.low, estimate.high
        if np.isnan(low) or np.isnan(high):
            return "unclear"
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
settings of the public code's own grid, and the preset was chosen from the trials of such a search.
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


def gradient_evidence(
    parameters: VanishingParameters, results: Sequence[RunResult]
) -> dict[str, list[Evidence]]:
    """Claims 1 and 4a, from the runs of 02_vanishing_gradients. Where rounding left no two steps there is no estimate."""
    found: dict[str, list[Evidence]] = {"1": [], "4a": []}
    for trace in traces(results):
        number, decays = ("4a", trace.end) if trace.strength else ("1", trace.start)
        estimate = decays[GRADIENT].estimate
        if estimate is not None and trace.learner in METHODS:
            where = f"{TASK_TITLES[trace.task]}, T = {parameters.sequence_length}"
            method: Method = "lra" if trace.learner == "lra" else "lra_released"
            found[number].append(Evidence(where, method, estimate, parameters.chapter))
    return found


def clipping_evidence(
    parameters: ClippingParameters, results: Sequence[RunResult]
) -> dict[str, list[Evidence]]:
    """Claim 2, from the runs of 03_clipping."""
    clipped = clip_label("lra", "clip", parameters.clip_norm)
    free = clip_label("lra", "clip", 0.0)
    return {
        "2": [
            Evidence(panel.title, "lra", panel.difference(clipped, free).iqm, parameters.chapter)
            for panel in panels(parameters, results)
            if {clipped, free} <= panel.outcomes.keys()
        ]
    }


def regularisation_evidence(
    parameters: RegularisationParameters, results: Sequence[RunResult]
) -> dict[str, list[Evidence]]:
    """Claims 3, 4b and 5, from the runs of 05_regularisation at the length at which most was run."""
    every = panels(parameters, results)
    found: dict[str, list[Evidence]] = {"3": [], "4b": [], "5": []}
    for method in METHODS:
        for panel in in_focus([panel for panel in every if method in panel.outcomes] or every):
            _compare(panel, method, parameters.chapter, found)
    return found


def released_evidence(
    parameters: ReleasedCodeParameters, results: Sequence[RunResult]
) -> dict[str, list[Evidence]]:
    """Claims 2, 3, 4b and 5 for the released code, from the runs of 08_released_code."""
    found: dict[str, list[Evidence]] = {"2": [], "3": [], "4b": [], "5": []}
    for panel in released_panels(parameters, results):
        _compare(panel, "lra_released", parameters.chapter, found)
        clipping = panel.difference("lra_released", UNCLIPPED).iqm
        found["2"].append(Evidence(panel.title, "lra_released", clipping, parameters.chapter))
    return found


def how_far_evidence(parameters: HowFarParameters, results: Sequence[RunResult]) -> dict[str, list[Evidence]]:
    """Aims 6a to 6c, from the runs of 09_how_far."""
    ours, theirs = preset_label("recommended"), RULES["bptt_clipped_omega"]
    found: dict[str, list[Evidence]] = {"6a": [], "6b": [], "6c": []}

    def add(number: str, panel: Panel, estimate: Estimate) -> None:
        found[number].append(Evidence(panel.title, "lra", estimate, parameters.chapter))

    for panel in panels(parameters, results):
        if ours not in panel.outcomes:
            continue
        if panel.sequence_length in (FAR, FARTHER):
            add("6a" if panel.sequence_length == FAR else "6b", panel, panel.outcomes[ours].solved)
        if panel.sequence_length == FAR and theirs in panel.outcomes:
            generator = np.random.default_rng(BOOTSTRAP_SEED)
            ours_needed, theirs_needed = (panel.outcomes[label].needed for label in (ours, theirs))
            add("6c", panel, paired_difference(ours_needed, theirs_needed, generator).iqm)
    return found


def _compare(panel: Panel, method: Method, chapter: str, found: dict[str, list[Evidence]]) -> None:
    """Add what a panel says on claims 3, 4b and 5 for a method, if it was run there without and with Ω."""
    plain, omega = method, f"{method} + Ω"
    if {plain, omega} <= panel.outcomes.keys():
        estimates = {
            "3": panel.difference(plain, "readout").iqm,
            "4b": convergence_gain(panel, omega, plain),
            "5": panel.difference(omega, plain).iqm,
        }
        for number, estimate in estimates.items():
            found[number].append(Evidence(panel.title, method, estimate, chapter))


def convergence_gain(panel: Panel, treated: str, control: str) -> Estimate:
    """Difference, within seeds, of the mean validation accuracy over all checks (a run that ended keeps its last one)."""

    def means(label: str) -> dict[int, float]:
        outcome = panel.outcomes[label]
        return dict(zip(outcome.scores, outcome.curves.matrix.mean(axis=1).tolist(), strict=True))

    return paired_difference(means(treated), means(control), np.random.default_rng(BOOTSTRAP_SEED)).iqm


def judgements(evidence: Mapping[str, Sequence[Evidence]]) -> list[Judgement]:
    """The verdicts on all claims and aims, from the evidence on each by its number."""
    return [judgement for claim in CLAIMS for judgement in judge(claim, evidence.get(claim.number, ()))]
