"""01_tasks: how far an untrained memory goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lra_companion.config import TaskConfig, TaskName
from lra_companion.experiments import TasksParameters
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, listed
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import Estimate, iqm_interval
from lra_companion.tasks import make_task


@dataclass(frozen=True)
class ReadoutLevel:
    """What guessing and the trained readout reach on a task (interquartile mean of test accuracy)."""

    task: TaskName
    chance: float
    readout: Estimate


def readout_levels(parameters: TasksParameters, table: pd.DataFrame) -> list[ReadoutLevel]:
    """Chance and readout for each task, from ``experiments.frame`` of the readout's runs."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
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
        f"A readout trained on an untrained orthogonal network reaches an accuracy of {listed(clauses)}. "
        f"What it reaches, up to {highest.readout.value:.2f} on {TASK_TITLES[highest.task]}, a learning rule must exceed "
        "before it can be said to have taught the network to remember."
    )
