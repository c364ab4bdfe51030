"""From results to what a page shows: tables of runs, names of tasks and conditions, and what a page was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from lra_companion.config import RunConfig, TaskConfig, TaskName
from lra_companion.experiments import TrainingParameters
from lra_companion.tasks import make_task
from lra_companion.training import RunResult


def frame(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per run: task, length, learner, strength, condition (how figures call it), seed and what became of it."""
    rows = []
    for result in results:
        config = result.config
        strength = getattr(config.learner, "regularisation_strength", 0.0)
        rows.append(
            {
                "task": config.task.name,
                "sequence_length": config.task.sequence_length,
                "learner": config.learner.name,
                "strength": strength,
                "condition": condition(config.learner.name, strength),
                "seed": config.seed,
                "status": result.status,
                "iterations": result.iterations,
                "test_accuracy": result.test_accuracy,
                "result": result,
            }
        )
    return pd.DataFrame(rows)


TASK_TITLES: dict[TaskName, str] = {
    "temporal_order": "temporal order",
    "temporal_order_3bit": "temporal order, 3 bit",
    "random_permutation": "random permutation",
    "adding": "adding",
    "sequential_digits": "sequential digits",
}
"""What prose and figures call a task."""


def memory_table(tasks: Sequence[TaskName], sequence_length: int) -> pd.DataFrame:
    """What each task asks to be remembered, and for how many steps up to the end."""
    rows = []
    for name in tasks:
        task = make_task(TaskConfig(name=name, sequence_length=sequence_length))
        intervals = task.marker_intervals
        spans = [sequence_length - 1 - position for low, high in intervals for position in (low, high - 1)]
        rows.append(
            {
                "task": TASK_TITLES[name],
                "markers": len(intervals),
                "positions": ", ".join(
                    f"{low}-{high - 1}" if high - 1 > low else f"{low}" for low, high in intervals
                ),
                "remembered for (steps)": f"{min(spans)}-{max(spans)}"
                if min(spans) < max(spans)
                else f"{max(spans)}",
                "inputs": task.input_size,
                "outputs": task.output_size,
                "chance": f"{task.chance:.3g}",
            }
        )
    return pd.DataFrame(rows).set_index("task")


def condition(learner: str, strength: float) -> str:
    """What figures and tables call a learner at a regularisation strength."""
    return f"{learner}, α = {strength:.15g}" if strength else learner


def condition_of(config: RunConfig) -> str:
    """What figures and tables call the condition of a run."""
    return condition(config.learner.name, getattr(config.learner, "regularisation_strength", 0.0))


_CAUTIONS = {
    "smoke": "Runs this short mean nothing; they show that everything works.",
    "quick": "Few seeds and short runs: read the direction of the effects, not a verdict.",
}
"""What a page made with a small profile says about itself."""


def caution(profile: str) -> str:
    """How far to trust what a profile made; empty where nothing stands against it."""
    return _CAUTIONS.get(profile, "")


def core_hours(results: Iterable[RunResult]) -> float:
    """What runs took to train."""
    return sum(result.duration_seconds for result in results) / 3600


def origin(parameters: TrainingParameters, results: Sequence[RunResult]) -> str:
    """For a page: which profile made it, from how many runs, at what cost, and how far to trust it."""
    seeds = len(parameters.seeds)
    left_out = getattr(parameters, "left_out", "").strip()
    sentences = [
        f"Made with the profile {parameters.profile}: {len(results)} runs, {seeds} seed{'s' * (seeds != 1)}, "
        f"{core_hours(results):.2g} core-hours of training.",
        caution(parameters.profile),
        left_out and f"Left out: {left_out}",
    ]
    return " ".join(filter(None, sentences))
