"""How the settings of a profile were chosen: random search on a seed that no figure shows.

The control, LRA and LRA with Ω get the same number of trials; LRA without and with Ω try the same learning rates and target
step sizes. All trials stay in the store, so that a page can say how many there were and what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lra_companion.config import RunConfig, TaskName
from lra_companion.experiments import (
    PlainSettings,
    ReadoutSettings,
    RegularisationParameters,
    RegularisedSettings,
    TaskSettings,
)
from lra_companion.store import ResultStore
from lra_companion.training import RunResult

TRIALS = Path(__file__).resolve().parent.parent / "book" / "results" / "tuning"
"""Where the trials behind the committed profiles are kept."""
TUNING_SEED = 1000
LEARNING_RATES = (0.005, 3.0)  # drawn log-uniformly, as the next two
TARGET_STEP_SIZES = (0.1, 10.0)
REGULARISATION_STRENGTHS = (0.02, 2.0)


def trials(
    parameters: RegularisationParameters, task: TaskName, sequence_length: int, count: int
) -> dict[str, list[RunConfig]]:
    """Runs to try for one task: "readout", "plain" and "regularised", ``count`` of each; the same at every call."""
    generator = np.random.default_rng(TUNING_SEED)

    def draw(low: float, high: float) -> float:
        return float(f"{np.exp(generator.uniform(np.log(low), np.log(high))):.2g}")

    found: dict[str, list[RunConfig]] = {"readout": [], "plain": [], "regularised": []}
    for _ in range(count):
        regularised = RegularisedSettings(
            learning_rate=draw(*LEARNING_RATES),
            target_step_size=draw(*TARGET_STEP_SIZES),
            regularisation_strength=draw(*REGULARISATION_STRENGTHS),
            regularisation_scope="batch" if generator.integers(2) else "example",
        )
        plain = PlainSettings(
            learning_rate=regularised.learning_rate, target_step_size=regularised.target_step_size
        )
        readout = ReadoutSettings(learning_rate=regularised.learning_rate)
        found["readout"].append(parameters.readout_run(task, sequence_length, readout, TUNING_SEED))
        found["plain"].append(parameters.lra_run(task, sequence_length, plain, TUNING_SEED))
        found["regularised"].append(parameters.lra_run(task, sequence_length, regularised, TUNING_SEED))
    return found


def best(results: Sequence[RunResult]) -> RunConfig:
    """The trial with the highest final validation accuracy; of equal ones the one that got there first. A trial that diverged
    is chosen only where all did.
    """

    def merit(result: RunResult) -> tuple[bool, float, int]:
        return result.status != "diverged", result.validation_accuracy, -result.iterations

    return max(results, key=merit).config


def chosen(results: dict[str, list[RunResult]]) -> TaskSettings:
    """Settings of the best trials, as a profile holds them."""

    def settings(name: str) -> dict[str, object]:
        config = best(results[name])
        fields = {"learning_rate": config.optimiser.learning_rate} | config.learner.model_dump()
        return {field: value for field, value in fields.items() if field in RegularisedSettings.model_fields}

    regularised = settings("regularised")
    plain = {name: value for name, value in settings("plain").items() if name in PlainSettings.model_fields}
    return TaskSettings.model_validate(
        {"readout": settings("readout"), "plain": plain, "regularised": regularised}
    )


def cost(parameters: RegularisationParameters) -> str:
    """One line for a page: how many trials chose its settings, and what they cost."""
    tried = [
        result
        for result in ResultStore(TRIALS).load_all()
        if result.config.task.name in parameters.tasks
        and result.config.task.sequence_length in parameters.sequence_lengths
        and result.config.protocol == parameters.protocol()
        and result.config.seed == TUNING_SEED
    ]
    if not tried:
        return (
            "The settings were not searched for these tasks and this number of iterations, but carried over."
        )
    core_hours = sum(result.duration_seconds for result in tried) / 3600
    kinds = len(parameters.tasks) * 3
    return (
        f"Settings were chosen on another seed, from {len(tried)} trials in all, about {len(tried) // kinds} for each "
        f"task and condition ({core_hours:.2g} core-hours)."
    )
