"""What the experiments show: every comparison of a chapter, from the runs to the sentence at its top.

All intervals are 95 % percentile bootstraps over seeds (Wilson for shares), drawn from one explicit generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lra_companion.config import TaskConfig, TaskName
from lra_companion.experiments import RegularisationParameters, TasksParameters
from lra_companion.reporting import TASK_TITLES, condition
from lra_companion.statistics import (
    Curves,
    Estimate,
    PairedDifference,
    SolvingCurve,
    curves_on_common_grid,
    iqm_interval,
    paired_difference,
    solving_curve,
    wilson_interval,
)
from lra_companion.tasks import make_task
from lra_companion.training import RunResult

_BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Outcome:
    """One condition's runs on one task. accuracy: interquartile mean on the test set; scores: test accuracy of each seed."""

    condition: str
    strength: float
    learner: str
    scores: dict[int, float]
    accuracy: Estimate
    solved: Estimate
    diverged: int
    curves: Curves
    solving: SolvingCurve


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
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
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
        str(name): _outcome(rows["result"].tolist(), generator)
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


def _outcome(results: Sequence[RunResult], generator: np.random.Generator) -> Outcome:
    first = results[0].config
    strength = getattr(first.learner, "regularisation_strength", 0.0)
    solved = [result.solved for result in results]
    diverged = [result.status == "diverged" for result in results]
    iterations = [result.iterations for result in results]
    return Outcome(
        condition=condition(first.learner.name, strength),
        strength=strength,
        learner=first.learner.name,
        scores={result.config.seed: result.test_accuracy for result in results},
        accuracy=iqm_interval([result.test_accuracy for result in results], generator),
        solved=wilson_interval(sum(solved), len(results)),
        diverged=sum(diverged),
        curves=curves_on_common_grid(
            [[row["iteration"] for row in result.history] for result in results],
            [[row["validation_accuracy"] for row in result.history] for result in results],
            solved,
            end=first.protocol.max_iterations,
        ),
        solving=solving_curve(iterations, solved, diverged),
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


@dataclass(frozen=True)
class ReadoutLevel:
    """What guessing and the trained readout reach on a task (interquartile mean of test accuracy)."""

    task: TaskName
    chance: float
    readout: Estimate


def readout_levels(parameters: TasksParameters, table: pd.DataFrame) -> list[ReadoutLevel]:
    """Chance and readout for each task, from ``experiments.frame`` of the readout's runs."""
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    return [
        ReadoutLevel(
            task=name,
            chance=make_task(TaskConfig(name=name, sequence_length=parameters.sequence_length)).chance,
            readout=iqm_interval(table.loc[table["task"] == name, "test_accuracy"], generator),
        )
        for name in parameters.tasks
    ]


def readout_sentence(levels: Sequence[ReadoutLevel]) -> str:
    """Two sentences for the top of the chapter: how far an untrained memory goes."""
    clauses = [
        f"{level.readout:.2f} on {TASK_TITLES[level.task]} (chance {level.chance:.3g})" for level in levels
    ]
    highest = max(levels, key=lambda level: level.readout.value)
    return (
        f"A readout trained on an untrained orthogonal network reaches an accuracy of {_listed(clauses)}. "
        f"What it reaches, up to {highest.readout.value:.2f} on {TASK_TITLES[highest.task]}, a learning rule must exceed "
        "before it can be said to have taught the network to remember."
    )


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
        verb = _direction(panel.gain.iqm, "rose", "fell", "did not clearly change")
        gains.append(f"{verb} on {place} (from {plain:.2f} to {tuned:.2f}; difference {panel.gain.iqm:.2f})")
        verb = _direction(panel.margin.iqm, "was better", "was worse", "was not clearly different")
        margins.append(f"{verb} on {place} (readout {readout:.2f}; difference {panel.margin.iqm:.2f})")
    return (
        f"With regularisation, LRA's accuracy on unseen sequences{where} {_listed(gains)}. "
        f"Against the control, a trained readout on an untrained network, regularised LRA {_listed(margins)}."
    )


def _direction(difference: Estimate, up: str, down: str, unclear: str) -> str:
    """A word for a difference, by whether its interval excludes 0. One seed has no interval: unclear."""
    if difference.low > 0:
        return up
    return down if difference.high < 0 else unclear


def _listed(clauses: Sequence[str]) -> str:
    *some, last = clauses
    return f"{', '.join(some)}{',' * (len(some) > 1)} and {last}" if some else last
