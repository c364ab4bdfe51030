"""05_regularisation: what Ω did to LRA on each task, and whether LRA beat the control."""

from __future__ import annotations

from collections.abc import Sequence

from lra_companion.experiments import RegularisationParameters
from lra_companion.experiments.regularisation import PLACES, place_label, strength_label
from lra_companion.findings.comparison import Panel, in_focus
from lra_companion.findings.outcomes import direction, listed
from lra_companion.reporting import TASK_TITLES


def regularisation_finding(found: Sequence[Panel]) -> str:
    """Two sentences for the top of the chapter: what the tuned Ω did to LRA, and whether LRA beat the control. The numbers are
    those of the length in focus; over the others the clear effects are counted.
    """
    shown = in_focus(found)
    gains, margins = [], []
    for panel in shown:
        place = TASK_TITLES[panel.task]
        readout, plain, tuned = (
            panel.outcomes[name].accuracy.value for name in ("readout", "lra", "lra + Ω")
        )
        gain = panel.difference("lra + Ω", "lra").iqm
        verb = direction(gain, "rose", "fell", "did not clearly change")
        gains.append(f"{verb} on {place} (from {plain:.2f} to {tuned:.2f}; difference {gain:.2f})")
        margin = panel.difference("lra + Ω", "readout").iqm
        verb = direction(margin, "was better", "was worse", "was not clearly different")
        margins.append(f"{verb} on {place} (readout {readout:.2f}; difference {margin:.2f})")
    return (
        f"With regularisation, LRA's accuracy on unseen sequences at T = {shown[0].sequence_length} {listed(gains)}"
        f"{_elsewhere(found, shown, 'lra')}. "
        f"Against the control, a trained readout on an untrained network, regularised LRA {listed(margins)}"
        f"{_elsewhere(found, shown, 'readout')}."
    )


def _elsewhere(found: Sequence[Panel], shown: Sequence[Panel], control: str) -> str:
    if len(found) == len(shown):
        return ""
    signs = [panel.clear("lra + Ω", control) for panel in found]
    return (
        f"; counted over all {len(found)} tasks and lengths it was clearly better {_times(signs.count(1))} and clearly worse "
        f"{_times(signs.count(-1))}"
    )


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def regularisation_differences(panel: Panel) -> dict[str, tuple[str, str]]:
    """The comparisons within seeds that the chapter shows: row -> (treated, control)."""
    rows = {
        "with Ω − without": ("lra + Ω", "lra"),
        "with Ω − readout": ("lra + Ω", "readout"),
        "without Ω − readout": ("lra", "readout"),
        "released: with Ω − without": ("lra_released + Ω", "lra_released"),
        "released with Ω − readout": ("lra_released + Ω", "readout"),
    }
    return {name: pair for name, pair in rows.items() if set(pair) <= set(panel.outcomes)}


def strength_series(
    parameters: RegularisationParameters, shown: Sequence[Panel]
) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the strengths of Ω, and the conditions of each learner that was run at all of them, the tuned strength last."""
    strengths = sorted(parameters.regularisation_strengths)
    series = {
        f"{learner} + Ω": [
            *(strength_label(learner, strength) for strength in strengths),
            f"{learner} + Ω",
        ]
        for learner in parameters.learners
    }
    run = {name: labels for name, labels in series.items() if set(labels) <= shown[0].outcomes.keys()}
    return [*(f"{strength:.15g}" for strength in strengths), "tuned"], run


def places_sentence(parameters: RegularisationParameters, shown: Sequence[Panel]) -> str:
    """What Ω does on one place alone, against the same settings with Ω off; for each task."""
    off = strength_label("lra", 0.0)
    labels = {
        PLACES[place]: place_label(place) for place in parameters.places if "lra" in parameters.learners
    }
    clauses = []
    for panel in shown:
        gains = [
            f"{panel.difference(label, off).iqm:.2f} on {name}"
            for name, label in labels.items()
            if {label, off} <= panel.outcomes.keys()
        ]
        if gains:
            clauses.append(f"on {TASK_TITLES[panel.task]} {listed(gains)}")
    if not clauses:
        return "Single places were not compared with Ω switched off."
    changes = "; ".join(clauses)
    return f"Against the same settings with Ω switched off, Ω on one place alone changed accuracy as follows: {changes}."
