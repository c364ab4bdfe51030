"""From the results of a chapter's runs to what they say on each claim, by its number: estimates, task by task (``claims``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lra_companion.claims import FAR, FARTHER, METHODS, Evidence, Method
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
