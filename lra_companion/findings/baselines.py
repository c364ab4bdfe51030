"""07_baselines: how LRA compares with the rules it must be measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lra_companion.findings.comparison import Panel, by_task
from lra_companion.findings.outcomes import listed
from lra_companion.reporting import TASK_TITLES


def solves(panel: Panel, label: str) -> bool:
    """Whether at least half of the seeds of a condition solved the task."""
    return label in panel.outcomes and panel.outcomes[label].solved.value >= 0.5


def baselines_finding(labels: Sequence[str], found: Sequence[Panel]) -> str:
    """Two sentences for the top of the chapter: what each rule solves, and LRA without and with Ω against the control and
    backpropagation, in accuracy and in time per iteration.
    """
    solved = []
    for label in labels:
        run_on = [panel for panel in found if label in panel.outcomes]
        solved.append(f"{label} {sum(solves(panel, label) for panel in run_on)} of {len(run_on)}")
    first = f"Of the tasks and lengths it was run on, each rule solved with at least half of its seeds: {listed(solved)}."
    compared = [clause for rule in ("lra", "lra + Ω") if (clause := _standing(rule, found))]
    if not compared:
        return f"{first} LRA was not run."
    slower = [
        panel.outcomes["lra"].milliseconds / panel.outcomes["bptt"].milliseconds
        for panel in found
        if {"lra", "bptt"} <= panel.outcomes.keys()
    ]
    time = (
        f"; an iteration of lra took {np.median(slower):.2g} times as long as one of bptt" if slower else ""
    )
    return f"{first} In accuracy on unseen sequences {'; '.join(compared)}{time}."


def _standing(rule: str, found: Sequence[Panel]) -> str:
    clauses = []
    for other in ("readout", "bptt"):
        signs = [panel.clear(rule, other) for panel in found if {rule, other} <= panel.outcomes.keys()]
        if signs:
            clauses.append(
                f"clearly better than {other} on {signs.count(1)} and clearly worse on {signs.count(-1)} of {len(signs)}"
            )
    return f"{rule} was {listed(clauses)}" if clauses else ""


def longest_solved(labels: Sequence[str], found: Sequence[Panel]) -> pd.DataFrame:
    """For each rule and task the longest length that at least half of its seeds solved."""
    return pd.DataFrame(
        {
            TASK_TITLES[panels[0].task]: [_longest(panels, label) for label in labels]
            for panels in by_task(found)
        },
        index=pd.Index(labels, name="longest T solved"),
    )


def _longest(panels: Sequence[Panel], label: str) -> str:
    if not any(label in panel.outcomes for panel in panels):
        return "not run"
    lengths = [panel.sequence_length for panel in panels if solves(panel, label)]
    return str(max(lengths)) if lengths else "none"
