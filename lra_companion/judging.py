"""From a folder of results to verdicts: which chapters are complete there, under which profile, and the verdicts as data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lra_companion.claims import CLAIMS, METHODS, Judgement
from lra_companion.experiments import UntunedError
from lra_companion.findings.claims import Source
from lra_companion.profiles import parameters_of, profile_parameters
from lra_companion.reporting import core_hours
from lra_companion.statistics import Estimate
from lra_companion.store import ResultStore


def sources(results: Path, profiles: Sequence[str]) -> list[Source]:
    """The chapters that claims are judged by, each under the first of the ``profiles`` of which all its runs are stored.

    ``results`` is a store, or a folder that holds a store for each profile under its name. Nothing is trained. Raises
    ValueError for an unknown profile.
    """
    chapters = dict.fromkeys(chapter for claim in CLAIMS for chapter in claim.chapters)
    return [_source(chapter, results, profiles) for chapter in sorted(chapters)]


def _source(chapter: str, results: Path, profiles: Sequence[str]) -> Source:
    lacking = []
    for profile in profiles:
        if chapter not in profile_parameters(profile):
            lacking.append(f"the profile {profile} leaves it out")
            continue
        try:
            parameters = parameters_of(chapter, profile, {}, ".", 1)
        except UntunedError:
            lacking.append(f"no settings have been searched for the profile {profile}")
            continue
        runs, most = parameters.runs(), 0
        for store in (ResultStore(results / profile), ResultStore(results)):
            stored = [result for run in runs if (result := store.get(run)) is not None]
            if len(stored) == len(runs):
                return Source(chapter, profile, parameters, tuple(stored))
            most = max(most, len(stored))
        lacking.append(f"{most} of {len(runs)} runs of the profile {profile} are stored")
    return Source(chapter, None, lacking="; ".join(lacking))


def document(found: Sequence[Judgement], judged_by: Sequence[Source]) -> dict[str, Any]:
    """The verdicts and what they rest on, for JSON: a number that is none is null."""
    profiles = {source.chapter: source.profile for source in judged_by}
    return {
        "chapters": {source.chapter: _chapter(source) for source in judged_by},
        "verdicts": [
            {
                "claim": each.claim.number,
                "statement": each.claim.statement,
                "method": each.method,
                "meaning": METHODS[each.method],
                "verdict": each.words,
                "quantity": each.claim.quantity,
                "threshold": {"side": each.claim.threshold.side, "bound": each.claim.threshold.bound},
                "chapter": each.chapter,
                "profile": profiles[each.chapter],
                "evidence": [
                    {"where": piece.where, **_estimate(piece.estimate), "says": answer}
                    for piece, answer in each.evidence
                ],
            }
            for each in found
        ],
    }


def _chapter(source: Source) -> dict[str, Any]:
    return {
        "profile": source.profile,
        "runs": len(source.results),
        "core_hours": core_hours(source.results),
        "lacking": source.lacking,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    def known(number: float) -> float | None:
        return float(number) if np.isfinite(number) else None

    return {
        "value": known(estimate.value),
        "low": known(estimate.low),
        "high": known(estimate.high),
        "level": estimate.level,
        "seeds": estimate.n,
    }
