"""How the settings of a profile are chosen: random search on a seed that no figure shows.

Every group of settings (``experiments.GROUPS``) gets the same number of trials on each task and length. The nth trial of
every group has the same learning rate, among those with one optimiser, and of those that search them the same target step
size and strength of Ω. All trials stay in a store; what was chosen goes into the profile's file of settings, with the number
of trials and their cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml

from lra_companion.config import RunConfig, TaskName
from lra_companion.experiments import (
    GROUPS,
    ComparisonParameters,
    Condition,
    TunedSettings,
    TuningPlan,
)
from lra_companion.experiments.comparison import Place
from lra_companion.reporting import core_hours
from lra_companion.training import RunResult

TRIALS = Path(__file__).resolve().parent.parent / "book" / "results" / "tuning"
"""Where the trials behind the committed profiles are kept."""


def candidates(plan: TuningPlan, task: TaskName, sequence_length: int, group: str) -> list[TunedSettings]:
    """The settings to try, the same at every call; more trials continue fewer."""
    generator = np.random.default_rng(plan.seed)
    other = np.random.default_rng(
        [plan.seed, 1]
    )  # for what only some groups search: it must not shift the rest

    def draw(bounds: Sequence[float], source: np.random.Generator) -> float:
        return float(f"{np.exp(source.uniform(*np.log(bounds))):.2g}")

    rates = plan.adam_learning_rate if GROUPS[group].optimiser == "adam" else plan.learning_rate
    found = []
    for _ in range(plan.trials):
        drawn = {
            "learning_rate": draw(rates, generator),
            "target_step_size": draw(plan.target_step_size, generator),
            "regularisation_strength": draw(plan.regularisation_strength, generator),
            "regularisation_scope": "batch" if generator.integers(2) else "example",
            "inverse_learning_rate": draw(plan.inverse_learning_rate, other),
        }
        searched = ("learning_rate", *GROUPS[group].searched)
        found.append(
            TunedSettings(
                task=task,
                sequence_length=sequence_length,
                group=group,
                trials=plan.trials,
                core_hours=0.0,
                **{name: drawn[name] for name in searched},
            )
        )
    return found


def trial(parameters: ComparisonParameters, settings: TunedSettings, plan: TuningPlan) -> RunConfig:
    """The run that tries these settings, with the comparison's common settings and its protocol of searches."""
    protocol = parameters.search_protocol().model_dump()
    return parameters.run_with(
        settings, Condition(settings.group, settings.group, protocol=protocol), plan.seed
    )


def searches(chapters: Iterable[ComparisonParameters]) -> dict[Place, ComparisonParameters]:
    """All that the chapters of a profile need searched, and a chapter with the settings to search it under.

    Raises ValueError where two chapters would search the same under different settings: one value could not serve both.
    """
    found: dict[Place, ComparisonParameters] = {}
    for parameters in chapters:
        for place in parameters.needs():
            first = found.setdefault(place, parameters)
            ours, theirs = _under(parameters), _under(first)
            for name, value in ours.items():
                if value != theirs[name]:
                    raise ValueError(
                        f"{name}: {first.chapter} and {parameters.chapter} both need {place[2]} on {place[0]}, T = {place[1]}, "
                        f"but under {theirs[name]!r} and {value!r}"
                    )
    return found


def _under(parameters: ComparisonParameters) -> dict[str, object]:
    """What a search is made under, by name."""
    names = ("inner_steps", "clip_norm", "clip_mode", "local_loss", "reduction")
    return {name: getattr(parameters, name) for name in names} | parameters.search_protocol().model_dump()


def best(results: Sequence[RunResult]) -> int:
    """Place of the trial with the highest final validation accuracy; of equal ones the one that got there first. A trial that
    diverged is chosen only where all did.
    """

    def merit(result: RunResult) -> tuple[bool, float, int]:
        return result.status != "diverged", result.validation_accuracy, -result.iterations

    return max(range(len(results)), key=lambda place: merit(results[place]))


def chosen(tried: Sequence[TunedSettings], results: Sequence[RunResult]) -> TunedSettings:
    """The best of the settings tried, from the results of their trials in the same order, and what all the trials cost."""
    return tried[best(results)].model_copy(update={"core_hours": float(f"{core_hours(results):.3g}")})


def settings_text(profile: str, rows: Iterable[TunedSettings]) -> str:
    """The file of a profile's settings, one row a line in a fixed order."""
    groups = list(GROUPS)
    ordered = sorted(rows, key=lambda row: (row.task, row.sequence_length, groups.index(row.group)))
    lines = [
        yaml.safe_dump(
            row.model_dump(exclude_none=True), default_flow_style=True, sort_keys=False, width=1000
        )
        for row in ordered
    ]
    return f"# Written by: lra-companion tune --profile {profile}\n" + "".join(f"- {line}" for line in lines)


def cost(parameters: ComparisonParameters) -> str:
    """One line for a page: how many trials chose its settings, and what they cost."""
    rows = [parameters.tuned(*place) for place in parameters.needs()]
    trials = sorted({row.trials for row in rows})
    each = f"{trials[0]}" if len(trials) == 1 else f"{trials[0]} to {trials[-1]}"
    total, core_hours = sum(row.trials for row in rows), sum(row.core_hours for row in rows)
    return (
        f"Settings were chosen on another seed, from {total} trials in all, {each} for each task, length and rule "
        f"({core_hours:.2g} core-hours)."
    )
