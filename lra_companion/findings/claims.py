"""10_claims: the verdicts in words and tables, and what they rest on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd

from lra_companion.claims import (
    CLAIMS,
    METHODS,
    Evidence,
    Judgement,
    Method,
    Verdict,
    judgements,
)
from lra_companion.evidence import (
    clipping_evidence,
    gradient_evidence,
    how_far_evidence,
    regularisation_evidence,
    released_evidence,
)
from lra_companion.experiments import (
    ClippingParameters,
    HowFarParameters,
    NotebookParameters,
    RegularisationParameters,
    ReleasedCodeParameters,
    VanishingParameters,
)
from lra_companion.findings.outcomes import listed
from lra_companion.reporting import caution, core_hours
from lra_companion.statistics import Estimate
from lra_companion.training import RunResult


@dataclass(frozen=True)
class Source:
    """A chapter by which claims are judged: its profile, parameters and results, in the order of its runs.

    profile: None where its runs are complete under no profile; ``lacking`` then says what is there.
    """

    chapter: str
    profile: str | None
    parameters: NotebookParameters | None = None
    results: tuple[RunResult, ...] = ()
    lacking: str = ""


def evidence_of(source: Source) -> Mapping[str, list[Evidence]]:
    """What a chapter's runs say on each claim, by its number; nothing where they are not complete."""
    match source.parameters:
        case VanishingParameters() as parameters:
            return gradient_evidence(parameters, source.results)
        case ClippingParameters() as parameters:
            return clipping_evidence(parameters, source.results)
        case RegularisationParameters() as parameters:
            return regularisation_evidence(parameters, source.results)
        case ReleasedCodeParameters() as parameters:
            return released_evidence(parameters, source.results)
        case HowFarParameters() as parameters:
            return how_far_evidence(parameters, source.results)
        case _:
            return {}


def judged(sources: Sequence[Source]) -> list[Judgement]:
    """The verdicts on all claims and aims, in their order."""
    evidence: dict[str, list[Evidence]] = defaultdict(list)
    for source in sources:
        for number, pieces in evidence_of(source).items():
            evidence[number] += pieces
    return judgements(evidence)


def claims_finding(found: Sequence[Judgement]) -> str:
    """Three sentences for the top of the chapter: how many claims came to which verdict, for each of the two methods, and
    which of this book's aims were met.
    """
    claims = [each for each in found if not each.claim.aim]
    described, released = (
        listed(
            [
                f"{len(numbers)} {verdict} ({listed(numbers)})"
                for verdict, numbers in by_verdict(claims, method).items()
            ]
        )
        for method in METHODS
    )
    aims = [f"{each.claim.number} {each.words}" for each in found if each.claim.aim]
    return (
        f"Of the {sum(not claim.aim for claim in CLAIMS)} statements into which the abstract's claims are divided here, the "
        f"verdicts on the method as described are: {described}. On the code as released they are: {released}. This book's own "
        f"aims for the method as described: {listed(aims)}."
    )


def by_verdict(found: Sequence[Judgement], method: Method) -> dict[Verdict, list[str]]:
    """The numbers of the claims that came to each verdict, the best verdict first, without those that none came to."""
    every: dict[Verdict, list[str]] = {
        verdict: [each.claim.number for each in found if (each.method, each.verdict) == (method, verdict)]
        for verdict in get_args(Verdict)
    }
    return {verdict: numbers for verdict, numbers in every.items() if numbers}


def verdict_on(number: str, found: Sequence[Judgement], sources: Sequence[Source]) -> str:
    """The verdicts on one claim in a few words, each with the profile it rests on."""
    return "; ".join(
        f"{METHODS[each.method]}: {each.words}"
        + (f" (profile {_of_chapter(each.chapter, sources).profile})" if each.evidence else "")
        for each in found
        if each.claim.number == number
    )


def claims_caution(found: Sequence[Judgement], sources: Sequence[Source]) -> str:
    """For the page: which verdicts rest on a profile smaller than `paper`, and how far they can be trusted."""
    sentences = []
    for profile in dict.fromkeys(source.profile for source in sources):
        if profile is None or not caution(profile):
            continue
        pieces = [
            (each.claim.number, piece.estimate.n)
            for each in found
            for piece, _ in each.evidence
            if _of_chapter(each.chapter, sources).profile == profile
        ]
        if pieces:
            numbers = list(dict.fromkeys(number for number, _ in pieces))
            seeds = sorted({n for _, n in pieces})
            span = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
            sentences.append(
                f"What is said on claims {listed(numbers)} rests on the profile {profile}, with {span} seeds. "
                f"{caution(profile)}"
            )
    return " ".join(["Thresholds were fixed before the runs of the profile paper.", *sentences])


def claims_origin(sources: Sequence[Source]) -> str:
    """For the page: whose runs these are, under which profile, at what cost; and what is not complete."""
    runs = {result.config.key(): result for source in sources for result in source.results}
    chapters = [
        f"{source.chapter} (profile {source.profile}, {len(source.results)} runs)"
        for source in sources
        if source.profile is not None
    ]
    rest = [
        f"Not complete, and so not judged: {source.chapter} ({source.lacking})."
        for source in sources
        if source.profile is None
    ]
    read = f"Judged from the runs of {listed(chapters)}" if chapters else "No chapter's runs are complete"
    return " ".join(
        [f"{read}: {len(runs)} runs in all, {core_hours(runs.values()):.2g} core-hours of training.", *rest]
    )


def verdict_rows(found: Sequence[Judgement], sources: Sequence[Source]) -> list[dict[str, str]]:
    """The table of verdicts: a row for each estimate, and one for each verdict without any. All entries are text."""
    rows = []
    for each in found:
        source = _of_chapter(each.chapter, sources)
        head = {"claim": each.claim.number, "method": METHODS[each.method], "verdict": each.words}
        tail = {
            "must lie": str(each.claim.threshold),
            "chapter": each.chapter,
            "profile": source.profile or "none is complete",
        }
        for piece, answer in each.evidence:
            middle = {
                "where": piece.where,
                "estimate": estimate_text(piece.estimate),
                "says": answer,
                "seeds": str(piece.estimate.n),
            }
            rows.append(head | middle | tail)
        if not each.evidence:
            rows.append(head | {"where": "", "estimate": "", "says": "", "seeds": ""} | tail)
    return rows


def estimate_text(estimate: Estimate) -> str:
    """An estimate with its interval; factors may be too small for a fixed number of decimals, and iterations have none."""
    largest = max(
        map(abs, (estimate.value, estimate.low, estimate.high))
    )  # NaN, where there is no interval, is not larger
    if 0 < largest < 0.001:
        return f"{estimate:.2g}"
    return f"{estimate:.0f}" if largest >= 10 else f"{estimate:.3f}"


def verdict_table(found: Sequence[Judgement], sources: Sequence[Source]) -> pd.DataFrame:
    """``verdict_rows`` for a page; what is the same for all of a claim's rows stands in ``quantity_table``."""
    table = pd.DataFrame(verdict_rows(found, sources)).drop(columns=["must lie", "chapter", "profile"])
    return table.set_index(["claim", "method", "verdict", "where"])


def quantity_table(sources: Sequence[Source]) -> pd.DataFrame:
    """What decides on each claim, as it was fixed beforehand, and by which chapter's runs under which profile."""
    rows = [
        {
            "claim": claim.number,
            "in our words": claim.statement,
            "judged by": claim.quantity,
            "must lie": str(claim.threshold),
            "chapter": ", else ".join(
                f"{chapter[:2]} ({_of_chapter(chapter, sources).profile or 'not complete'})"
                for chapter in claim.chapters
            ),
        }
        for claim in CLAIMS
    ]
    return pd.DataFrame(rows).set_index("claim")


def _of_chapter(chapter: str, sources: Sequence[Source]) -> Source:
    return next(source for source in sources if source.chapter == chapter)
