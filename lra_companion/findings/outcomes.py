"""What the runs of one condition came to, and the words for differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lra_companion.config import RunConfig
from lra_companion.reporting import condition
from lra_companion.runs import Status
from lra_companion.statistics import (
    Curves,
    Estimate,
    SolvingCurve,
    curves_on_common_grid,
    iqm_interval,
    solving_curve,
    wilson_interval,
)
from lra_companion.training import RunResult

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Outcome:
    """One condition's runs on one task and length. accuracy: interquartile mean on the test set; scores: test accuracy of each
    seed. needed: each seed's iterations until it had solved the task, and all that were allowed where it did not. unsolved:
    how each seed ended that did not.

    config: of its first run. milliseconds: per iteration, of the median run. clipped: share of steps that eq. 3 rescaled, the
    mean over all checks that recorded it; None where none did.
    """

    condition: str
    strength: float
    learner: str
    scores: dict[int, float]
    needed: dict[int, int]
    unsolved: dict[int, Status]
    accuracy: Estimate
    solved: Estimate
    curves: Curves
    solving: SolvingCurve
    config: RunConfig
    milliseconds: float
    clipped: float | None

    @property
    def diverged(self) -> int:
        """How many of the seeds diverged."""
        return list(self.unsolved.values()).count("diverged")

    @property
    def half_solved(self) -> int | None:
        """Iterations until half of the runs have solved the task; None where they do not."""
        reached = np.flatnonzero(self.solving.survival <= 0.5)
        return int(self.solving.iteration[reached[0]]) if reached.size else None


def outcome_of(
    results: Sequence[RunResult], generator: np.random.Generator, label: str | None = None
) -> Outcome:
    """The runs of one condition on one task, summed up over seeds. Without a ``label`` learner and strength name it."""
    first = results[0].config
    strength = getattr(first.learner, "regularisation_strength", 0.0)
    solved = [result.solved for result in results]
    diverged = [result.status == "diverged" for result in results]
    iterations = [result.iterations for result in results]
    shares = [row["clipped_share"] for result in results for row in result.history if "clipped_share" in row]
    return Outcome(
        condition=condition(first.learner.name, strength) if label is None else label,
        strength=strength,
        learner=first.learner.name,
        scores={result.config.seed: result.test_accuracy for result in results},
        needed={
            result.config.seed: result.iterations if result.solved else result.config.protocol.max_iterations
            for result in results
        },
        unsolved={result.config.seed: result.status for result in results if not result.solved},
        accuracy=iqm_interval([result.test_accuracy for result in results], generator),
        solved=wilson_interval(sum(solved), len(results)),
        curves=curves_on_common_grid(
            [[row["iteration"] for row in result.history] for result in results],
            [[row["validation_accuracy"] for row in result.history] for result in results],
            solved,
            end=first.protocol.max_iterations,
        ),
        solving=solving_curve(iterations, solved, diverged),
        config=first,
        milliseconds=float(
            np.median([1000 * result.duration_seconds / max(result.iterations, 1) for result in results])
        ),
        clipped=float(np.mean(shares)) if shares else None,
    )


def direction(difference: Estimate, up: str, down: str, unclear: str) -> str:
    """A word for a difference, by whether its interval excludes 0. One seed has no interval: unclear."""
    if difference.low > 0:
        return up
    return down if difference.high < 0 else unclear


def listed(clauses: Sequence[str]) -> str:
    """Clauses joined as prose joins them."""
    *some, last = clauses
    return f"{', '.join(some)}{',' * (len(some) > 1)} and {last}" if some else last
