"""What every comparison shows: its outcomes by task and length, differences within seeds, and the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lra_companion.config import TaskConfig, TaskName
from lra_companion.experiments import ComparisonParameters
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, Outcome, direction, outcome_of
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import PairedDifference, paired_difference
from lra_companion.tasks import make_task
from lra_companion.training import RunResult


@dataclass(frozen=True)
class Panel:
    """One task at one length, and what each condition came to there, by its label."""

    task: TaskName
    sequence_length: int
    outcomes: dict[str, Outcome]

    @property
    def title(self) -> str:
        """Task and length, as a figure's title."""
        return f"{TASK_TITLES[self.task]}, T = {self.sequence_length}"

    @property
    def real(self) -> bool:
        """Whether its sequences are real data, not made by rule."""
        return self.task == "sequential_digits"

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return make_task(TaskConfig(name=self.task, sequence_length=self.sequence_length)).chance

    def difference(self, treated: str, control: str) -> PairedDifference:
        """Test accuracy of one condition minus another's, within seeds."""
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        return paired_difference(self.outcomes[treated].scores, self.outcomes[control].scores, generator)

    def clear(self, treated: str, control: str) -> int:
        """1 where a condition is clearly better than another, -1 where it is clearly worse, else 0."""
        return {"up": 1, "down": -1}.get(
            direction(self.difference(treated, control).iqm, "up", "down", "unclear"), 0
        )


def panels(parameters: ComparisonParameters, results: Iterable[RunResult]) -> list[Panel]:
    """Every task and length at which anything was run, from all results in any order. KeyError where one is missing."""
    by_key = {result.config.key(): result for result in results}
    return [
        Panel(
            task,
            length,
            {
                condition.label: outcome_of(
                    [
                        by_key[parameters.run(task, length, condition, seed).key()]
                        for seed in parameters.seeds
                    ],
                    np.random.default_rng(BOOTSTRAP_SEED),
                    condition.label,
                )
                for condition in parameters.conditions_at(task, length)
            },
        )
        for task, length in parameters.problems()
        if parameters.conditions_at(task, length)
    ]


def in_focus(found: Sequence[Panel]) -> list[Panel]:
    """The panels at the one length at which most conditions were run; of several such lengths the longest."""

    def conditions(length: int) -> int:
        return sum(len(panel.outcomes) for panel in found if panel.sequence_length == length)

    focus = max((panel.sequence_length for panel in found), key=lambda length: (conditions(length), length))
    return [panel for panel in found if panel.sequence_length == focus]


def by_task(found: Sequence[Panel]) -> list[list[Panel]]:
    """The panels of each task, in the order of their lengths."""
    tasks = dict.fromkeys(panel.task for panel in found)
    return [
        sorted((panel for panel in found if panel.task == task), key=lambda panel: panel.sequence_length)
        for task in tasks
    ]


def summary(found: Sequence[Panel], time: bool = False) -> pd.DataFrame:
    """A comparison's table: one row per task, length and condition. ``time`` adds the time per iteration."""
    rows = []
    for panel in found:
        for outcome in panel.outcomes.values():
            learner, half = outcome.config.learner, outcome.half_solved
            row = {
                "task": TASK_TITLES[panel.task],
                "T": panel.sequence_length,
                "condition": outcome.condition,
                "test accuracy (IQM)": f"{outcome.accuracy:.3f}",
                "solved": outcome.solved.tally,
                "half solved by": "" if half is None else str(half),
                "diverged": outcome.diverged,
                "learning rate": f"{outcome.config.optimiser.learning_rate:.3g}",
                "β": _setting(getattr(learner, "target_step_size", None)),
                "α": _setting(getattr(learner, "regularisation_strength", None)),
            }
            if any(other.clipped is not None for every in found for other in every.outcomes.values()):
                row["steps clipped"] = "" if outcome.clipped is None else f"{outcome.clipped:.0%}"
            if time:
                row["ms per iteration"] = f"{outcome.milliseconds:.3g}"
            rows.append(row)
    return pd.DataFrame(rows).set_index(["task", "T", "condition"])


def _setting(value: float | None) -> str:
    return f"{value:.3g}" if value else ""
