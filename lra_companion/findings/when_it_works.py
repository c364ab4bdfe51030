"""11_when_it_works: where each variant of LRA learns, its angle to the exact gradient, and how robust the preset is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lra_companion.config import RunConfig, TaskConfig, TaskName
from lra_companion.experiments.when_it_works import RECOMMENDED, Variant, WhenItWorksParameters
from lra_companion.findings.decay import DecayComparison, compare_decay
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, Outcome, listed, outcome_of
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import Curves, Estimate, curves_on_common_grid, iqm_interval
from lra_companion.tasks import make_task
from lra_companion.training import RunResult

Floats = NDArray[np.float64]
RIGHT_ANGLE = 90.0


class Results:
    """A chapter's results, to be asked for by the run that made them. KeyError where one is missing."""

    def __init__(self, parameters: WhenItWorksParameters, results: Sequence[RunResult]) -> None:
        self.parameters = parameters
        self._by_key = {result.config.key(): result for result in results}

    def of(self, runs: Sequence[RunConfig]) -> list[RunResult]:
        """The results of runs, in their order."""
        return [self._by_key[run.key()] for run in runs]

    def chance(self, task: TaskName) -> float:
        """Accuracy of guessing."""
        return make_task(TaskConfig(name=task, sequence_length=self.parameters.sequence_length)).chance

    def map(self, task: TaskName, variant: Variant) -> Map:
        """What a variant came to at each learning rate and target step size."""
        asked = self.parameters
        cells = [
            [
                self.of([asked.cell(task, variant, rate, size, seed) for seed in asked.map_seeds])
                for size in asked.target_step_sizes
            ]
            for rate in asked.learning_rates
        ]
        accuracy = [
            [float(np.mean([each.validation_accuracy for each in cell])) for cell in row] for row in cells
        ]
        solved = [[all(each.solved for each in cell) for cell in row] for row in cells]
        return Map(variant, np.array(accuracy), np.array(solved))

    def angles(self, task: TaskName, variant: Variant) -> Angles:
        """A variant's angle to the exact gradient in training."""
        asked = self.parameters
        return Angles(variant, self.of([asked.followed(task, variant, seed) for seed in asked.seeds]))

    def varied(self, task: TaskName, name: str) -> list[RunResult]:
        """The preset's runs with one thing changed."""
        return self.of([self.parameters.varied(task, name, seed) for seed in self.parameters.seeds])

    def variations(self, task: TaskName) -> dict[str, Outcome]:
        """What they came to, by what was changed."""
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        return {
            name: outcome_of(self.varied(task, name), generator, name)
            for name in self.parameters.variations()
        }


@dataclass(frozen=True)
class Map:
    """One variant on one task. accuracy, solved (learning rates, target step sizes): the mean validation accuracy at the end of
    training, and whether every seed solved the task.
    """

    variant: Variant
    accuracy: Floats
    solved: NDArray[np.bool_]


@dataclass(frozen=True)
class Angles:
    """Runs of one variant that recorded their angle to the exact gradient of W_hh, one for each seed."""

    variant: Variant
    results: list[RunResult]

    def curves(self) -> Curves:
        """In degrees over iterations (seeds, checks). A run that ended keeps its last angle."""
        return curves_on_common_grid(
            [[row["iteration"] for row in result.history] for result in self.results],
            [self._degrees(result) for result in self.results],
            [result.solved for result in self.results],
            end=self.results[0].config.protocol.max_iterations,
        )

    def mean(self) -> Estimate:
        """Of all checks of each run, in degrees."""
        means = [float(np.mean(self._degrees(result))) for result in self.results]
        return iqm_interval(means, np.random.default_rng(BOOTSTRAP_SEED))

    @staticmethod
    def _degrees(result: RunResult) -> list[float]:
        """At each check. A gradient of 0, which has no angle, points neither with the exact one nor against it."""
        return [RIGHT_ANGLE if row["exact_angle"] is None else row["exact_angle"] for row in result.history]


def iterations_needed(outcomes: Mapping[str, Outcome]) -> dict[str, Estimate]:
    """Iterations until solved, all that were allowed where a seed did not: interquartile means over seeds."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return {
        name: iqm_interval(list(outcome.needed.values()), generator) for name, outcome in outcomes.items()
    }


def displacements(parameters: WhenItWorksParameters) -> dict[Variant, DecayComparison]:
    """Measured and predicted displacement in untrained networks on the first task, of each variant without Ω, which on W_hh
    alone moves no target.
    """
    task, rate = parameters.tasks[0], parameters.learning_rates[0]  # which plays no part
    return {
        variant: compare_decay(
            [parameters.cell(task, variant, rate, parameters.step_size, seed) for seed in parameters.seeds],
            np.random.default_rng(BOOTSTRAP_SEED),
        )
        for variant in parameters.variants()
        if not variant.regularised
    }


def finding(found: Results) -> str:
    """Two sentences for the top of the chapter: how much of the maps each variant solves, and how often the preset does."""
    asked = found.parameters
    counts: dict[str, list[str]] = {}
    for variant in asked.variants():
        solved = sum(int(found.map(task, variant).solved.sum()) for task in asked.tasks)
        name = variant.reduction.replace("_", " ") + " + Ω" * variant.regularised
        counts.setdefault(name, []).append(f"{solved} {variant.target_steps}")
    clauses = [f"{name}: {listed(of_steps)}" for name, of_steps in counts.items()]
    cells = len(asked.tasks) * len(asked.learning_rates) * len(asked.target_step_sizes)
    solves = {
        name: sum(result.solved for task in asked.tasks for result in found.varied(task, name))
        for name in asked.variations()
    }
    changed = [name for name in solves if name != RECOMMENDED]
    worst = min(changed, key=solves.__getitem__, default=RECOMMENDED)
    total = len(asked.tasks) * len(asked.seeds)
    return (
        f"Of {cells} combinations of task, learning rate and target step size at T = {asked.sequence_length}, strictly local "
        f"LRA solved, by what is done to target steps: {'; '.join(clauses)}. The recommended preset solved "
        f"{solves[RECOMMENDED]} of its {total} runs there"
        + (f", and with one thing changed at a time at least {solves[worst]} ({worst})." if changed else ".")
    )


def angle_sentence(found: Results) -> str:
    """The mean angle in training, from the smallest to the largest over variants, and of which variants these are."""
    clauses = []
    for task in found.parameters.tasks:
        means = {
            variant.label: found.angles(task, variant).mean().value for variant in found.parameters.variants()
        }
        low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        clauses.append(f"from {means[low]:.0f} ({low}) to {means[high]:.0f} ({high}) on {TASK_TITLES[task]}")
    return f"Over training the mean angle to the exact gradient, in degrees, goes {listed(clauses)}."


def angle_table(found: Results) -> pd.DataFrame:
    """Each variant's mean angle in training beside what it learned."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    rows = []
    for task in found.parameters.tasks:
        for variant in found.parameters.variants():
            angles = found.angles(task, variant)
            outcome = outcome_of(angles.results, generator)
            rows.append(
                {
                    "task": TASK_TITLES[task],
                    "variant": variant.label,
                    "mean angle": f"{angles.mean():.0f}",
                    "solved": outcome.solved.tally,
                    "test accuracy (IQM)": f"{outcome.accuracy:.3f}",
                }
            )
    return pd.DataFrame(rows).set_index(["task", "variant"])
