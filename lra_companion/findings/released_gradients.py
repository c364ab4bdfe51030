"""08_released_code: how each difference turns the gradient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lra_companion.config import RELEASED_PARTS, TaskName
from lra_companion.findings.outcomes import BOOTSTRAP_SEED
from lra_companion.findings.released_code import PART_TITLES
from lra_companion.statistics import (
    Estimate,
    iqm_interval,
)
from lra_companion.training import RunResult


@dataclass(frozen=True)
class Comparison:
    """One variant's gradient at one network. network: the rule that trained it; point: after how many iterations, as asked for.
    angles: in degrees, to "exact", "lra" and "lra_released"; NaN where a gradient is 0.
    """

    task: TaskName
    strength: float
    network: str
    seed: int
    point: int
    variant: str
    norm: float
    angles: dict[str, float]


def comparisons(measured: Sequence[RunResult]) -> list[Comparison]:
    """Every comparison once: runs of one rule, seed and setting that differ in length share what was at the start."""
    found = {}
    for result in measured:
        config = result.config
        for point, moment in ((0, "start"), (config.protocol.max_iterations, "end")):
            for variant, values in result.history[-1]["measured"][moment].items():
                angles = {
                    other: np.nan if (value := values[f"to_{other}"]) is None else float(value)
                    for other in ("exact", "lra", "lra_released")
                }
                comparison = Comparison(
                    task=config.task.name,
                    strength=getattr(config.learner, "regularisation_strength", 0.0),
                    network=config.learner.name,
                    seed=config.seed,
                    point=point,
                    variant=variant,
                    norm=values["norm"],
                    angles=angles,
                )
                found[_place(comparison), variant] = comparison
    return list(found.values())


def _place(comparison: Comparison) -> tuple[object, ...]:
    """At which network."""
    return (
        comparison.task,
        comparison.strength,
        comparison.network,
        comparison.seed,
        comparison.point,
    )


@dataclass(frozen=True)
class Turn:
    """Medians over networks. to_base: angle to the rule that is changed; ratio: norm over that rule's; NaN where none is
    defined.
    """

    to_base: float
    to_exact: float
    ratio: float


def turn(
    compared: Sequence[Comparison],
    variant: str,
    base: str,
    strength: float,
    against: str | None = None,
    point: int | None = None,
    task: TaskName | None = None,
) -> Turn:
    """What a variant's gradient is beside that of ``base`` (lra or lra_released), on networks that ``base`` trained; of one
    task or point in training, or of all. ``against``: whose norm counts, if not that of ``base``.
    """
    here = [
        each
        for each in compared
        if (each.network, each.strength) == (base, strength)
        and point in (None, each.point)
        and task in (None, each.task)
    ]
    scale = {_place(each): each.norm for each in here if each.variant == (against or base)}
    of_variant = [each for each in here if each.variant == variant]
    return Turn(
        to_base=_median(each.angles[base] for each in of_variant),
        to_exact=_median(each.angles["exact"] for each in of_variant),
        ratio=_median(each.norm / scale[_place(each)] for each in of_variant if scale[_place(each)] > 0),
    )


def _median(values: Iterable[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.median(defined)) if defined else np.nan


def turns_by_seed(
    compared: Sequence[Comparison], task: TaskName, base: str, strength: float
) -> tuple[dict[str, Estimate], dict[str, list[float]]]:
    """For a figure: of each part, by its title, the angle by which it turns ``base``'s gradient: interquartile mean over seeds
    with its interval, and each seed's mean over the points in training.
    """
    sign = "+" if base == "lra" else "-"
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    estimates, scores = {}, {}
    for part in RELEASED_PARTS:
        by_seed: dict[int, list[float]] = defaultdict(list)
        for each in compared:
            if (each.task, each.network, each.strength, each.variant) == (
                task,
                base,
                strength,
                f"{sign} {part}",
            ):
                by_seed[each.seed].append(each.angles[base])
        means = [float(np.mean(angles)) for angles in by_seed.values() if not np.isnan(angles).any()]
        if means:
            estimates[PART_TITLES[part]] = iqm_interval(means, generator)
            scores[PART_TITLES[part]] = means
    return estimates, scores
