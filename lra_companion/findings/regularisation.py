"""05_regularisation: what Ω did to LRA on each task, and whether LRA beat the control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lra_companion.config import TaskConfig, TaskName
from lra_companion.experiments import RegularisationParameters
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, Outcome, direction, listed, outcome_of
from lra_companion.reporting import TASK_TITLES, condition
from lra_companion.statistics import PairedDifference, paired_difference
from lra_companion.tasks import make_task


@dataclass(frozen=True)
class Panel:
    """One task at one length. Differences are paired by seed; gain: LRA with the tuned Ω minus LRA without; margin: LRA with it
    minus the readout; plain_margin: LRA without it minus the readout.
    """

    task: TaskName
    sequence_length: int
    outcomes: dict[str, Outcome]
    tuned: str
    gain: PairedDifference
    margin: PairedDifference
    plain_margin: PairedDifference

    @property
    def title(self) -> str:
        """Task and length, as a figure's title."""
        return f"{TASK_TITLES[self.task]}, T = {self.sequence_length}"

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return make_task(TaskConfig(name=self.task, sequence_length=self.sequence_length)).chance


def panels(parameters: RegularisationParameters, table: pd.DataFrame) -> list[Panel]:
    """Every task and length of the experiment, from ``experiments.frame`` of its runs."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    groups = dict(tuple(table.groupby(["task", "sequence_length"], sort=False)))
    return [
        _panel(parameters, groups[task, length], generator)
        for task in parameters.tasks
        for length in parameters.sequence_lengths
    ]


def _panel(
    parameters: RegularisationParameters, group: pd.DataFrame, generator: np.random.Generator
) -> Panel:
    task, length = group["task"].iloc[0], int(group["sequence_length"].iloc[0])
    outcomes = {
        str(name): outcome_of(rows["result"].tolist(), generator)
        for name, rows in group.groupby("condition", sort=False)
    }
    tuned = condition("lra", parameters.settings[task].regularised.regularisation_strength)

    def compare(treated: str, control: str) -> PairedDifference:
        return paired_difference(outcomes[treated].scores, outcomes[control].scores, generator)

    return Panel(
        task=task,
        sequence_length=length,
        outcomes=outcomes,
        tuned=tuned,
        gain=compare(tuned, "lra"),
        margin=compare(tuned, "readout"),
        plain_margin=compare("lra", "readout"),
    )


def summary(found: Sequence[Panel]) -> pd.DataFrame:
    """The regularisation chapter's table: one row per task, length and condition."""
    return pd.DataFrame(
        [
            {
                "task": TASK_TITLES[panel.task],
                "T": panel.sequence_length,
                "condition": outcome.condition,
                "test accuracy (IQM)": f"{outcome.accuracy:.3f}",
                "solved": f"{round(outcome.solved.value * outcome.solved.n)} of {outcome.solved.n}",
                "diverged": outcome.diverged,
            }
            for panel in found
            for outcome in panel.outcomes.values()
        ]
    ).set_index(["task", "T", "condition"])


def finding(found: Sequence[Panel]) -> str:
    """Two sentences for the top of the regularisation chapter: what Ω did to LRA, and whether LRA beat the control."""
    lengths = {panel.sequence_length for panel in found}
    where = f" at T = {lengths.pop()}" if len(lengths) == 1 else ""
    places = [TASK_TITLES[panel.task] if where else panel.title for panel in found]
    gains, margins = [], []
    for panel, place in zip(found, places, strict=True):
        readout, plain, tuned = (
            panel.outcomes[name].accuracy.value for name in ("readout", "lra", panel.tuned)
        )
        verb = direction(panel.gain.iqm, "rose", "fell", "did not clearly change")
        gains.append(f"{verb} on {place} (from {plain:.2f} to {tuned:.2f}; difference {panel.gain.iqm:.2f})")
        verb = direction(panel.margin.iqm, "was better", "was worse", "was not clearly different")
        margins.append(f"{verb} on {place} (readout {readout:.2f}; difference {panel.margin.iqm:.2f})")
    return (
        f"With regularisation, LRA's accuracy on unseen sequences{where} {listed(gains)}. "
        f"Against the control, a trained readout on an untrained network, regularised LRA {listed(margins)}."
    )
