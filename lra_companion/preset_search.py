"""How the preset ``recommended`` was found: settings of strictly local LRA, each tried on all three tasks with the same values.

Trials are on the tuning seed, which no figure shows, and stay in the store of all trials. ``lra-companion tune-preset`` makes
them again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from lra_companion.config import RunConfig, TaskName, parse
from lra_companion.findings.outcomes import listed
from lra_companion.presets import LocalSetting
from lra_companion.reporting import core_hours
from lra_companion.store import ResultStore
from lra_companion.training import RunResult

TASKS: tuple[TaskName, ...] = ("random_permutation", "temporal_order", "temporal_order_3bit")
SEED = 1000
"""The tuning seed of the book's profiles."""


@dataclass(frozen=True)
class Grid:
    """Settings tried at one sequence length, in all combinations, and how long each trial may take."""

    length: int
    learning_rates: tuple[float, ...]
    target_step_sizes: tuple[float, ...]
    regularisation_strengths: tuple[float, ...]
    max_iterations: int
    patience: int

    def settings(self) -> list[LocalSetting]:
        """Every combination."""
        return [
            LocalSetting(*values)
            for values in itertools.product(
                self.learning_rates, self.target_step_sizes, self.regularisation_strengths
            )
        ]

    def trials(self, setting: LocalSetting) -> list[RunConfig]:
        """A setting's runs, one for each task."""
        protocol = {
            "max_iterations": self.max_iterations,
            "patience": self.patience,
            "validation_size": 2000,
            "test_size": 2000,
        }
        return [
            parse(
                RunConfig,
                setting.fields()
                | {
                    "task": {"name": task, "sequence_length": self.length},
                    "protocol": protocol,
                    "seed": SEED,
                },
            )
            for task in TASKS
        ]


GRIDS: tuple[Grid, ...] = (
    Grid(100, (2e-4, 4e-4, 8e-4), (1.0, 2.0, 4.0), (0.0, 0.1), 2500, 10),
    Grid(200, (2e-4, 4e-4, 8e-4), (2.0,), (0.1, 0.5), 4000, 10),
    Grid(200, (1e-4, 2e-4), (2.0,), (0.5, 1.0, 2.0), 6000, 20),
    Grid(100, (1e-4, 2e-4), (2.0,), (0.5, 1.0, 2.0), 6000, 20),
)
"""In the order in which they were tried. On T = 200 a stronger Ω and lower rates began to learn where the others did not, but
late: so the last two have both, and more time.
"""


def all_trials() -> list[RunConfig]:
    """Of all grids."""
    return [run for grid in GRIDS for setting in grid.settings() for run in grid.trials(setting)]


def most_robust(results: Sequence[RunResult]) -> LocalSetting:
    """Of the settings tried at every length the one that solved most tasks; of equals that whose worst accuracy is best; of
    equals the one that got there first. What was tried twice counts by its longer trials. ``results``: of ``all_trials``, in
    any order; KeyError where one is missing.
    """
    by_key = _by_key(results)
    tried: dict[LocalSetting, dict[int, list[RunResult]]] = {}
    for grid in sorted(GRIDS, key=lambda grid: grid.max_iterations):
        for setting in grid.settings():
            found = [by_key[run.key()] for run in grid.trials(setting)]
            tried.setdefault(setting, {})[grid.length] = found

    def merit(setting: LocalSetting) -> tuple[int, float, int]:
        found = [result for of_length in tried[setting].values() for result in of_length]
        return (
            sum(result.solved for result in found),
            min(result.validation_accuracy for result in found),
            -sum(result.iterations for result in found),
        )

    lengths = {grid.length for grid in GRIDS}
    return max((setting for setting, found in tried.items() if found.keys() == lengths), key=merit)


def report(results: Sequence[RunResult]) -> list[str]:
    """A line for each setting of each grid, then what is chosen. ``results`` as for ``most_robust``."""
    by_key, lines = _by_key(results), []
    for grid in GRIDS:
        for setting in grid.settings():
            found = [by_key[run.key()] for run in grid.trials(setting)]
            ends = ", ".join(
                f"{result.config.task.name} {result.validation_accuracy:.4f} ({result.status}, {result.iterations})"
                for result in found
            )
            lines.append(f"T = {grid.length}, {setting}: {ends}")
    return [*lines, f"chosen: {most_robust(results)}"]


def _by_key(results: Sequence[RunResult]) -> dict[str, RunResult]:
    return {result.config.key(): result for result in results}


def omega_sentence(store: ResultStore) -> str:
    """For a page: what the trials of each grid came to at each alpha, over all its other settings and all tasks."""
    clauses = []
    for grid in GRIDS:
        found = []
        for strength in grid.regularisation_strengths:
            runs = [
                run
                for setting in grid.settings()
                if setting.regularisation_strength == strength
                for run in grid.trials(setting)
            ]
            results = [result for run in runs if (result := store.get(run)) is not None]
            if results:
                mean = sum(result.validation_accuracy for result in results) / len(results)
                solved = sum(result.solved for result in results)
                found.append(f"{solved} of {len(results)} at α = {strength:g} (mean accuracy {mean:.3f})")
        if found:
            clauses.append(
                f"at T = {grid.length}, in at most {grid.max_iterations} iterations, {listed(found)}"
            )
    return f"Of the trials in the search for the preset these solved their task: {'; '.join(clauses)}."


def preset_cost(store: ResultStore) -> str:
    """For a page: how many trials the preset was chosen from, and what they cost."""
    asked = all_trials()
    found = [result for run in asked if (result := store.get(run)) is not None]
    lengths = " and ".join(f"T = {length}" for length in sorted({grid.length for grid in GRIDS}))
    return (
        f"The preset was chosen from {len(found)} trials at {lengths}, each setting on all {len(TASKS)} tasks, on another seed "
        f"too ({core_hours(found):.2g} core-hours)."
    )
