"""06_reduction: how much of the vanishing is the learning rule's, and how much is the 1 / (B H) of a mean."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from lra_companion.config import (
    Count,
    LocalLossName,
    Positive,
    Reduction,
    RunConfig,
    TaskName,
    parse,
)
from lra_companion.experiments.base import SequenceLength, TrainingParameters, make_run
from lra_companion.experiments.settings import PlainSettings, ReadoutSettings

Sizes = Annotated[list[Count], Field(min_length=1)]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "per_example")


class ReductionParameters(TrainingParameters):
    """06_reduction: LRA without Ω under both reductions, untrained over batch and hidden sizes, and trained.

    step_size and clip_norm are those of the untrained networks; settings those of the trained ones. Both use inner_steps.
    """

    chapter: ClassVar[str] = "06_reduction"

    task: TaskName
    sequence_length: SequenceLength
    batch_sizes: Sizes
    hidden_sizes: Sizes
    step_size: Positive
    clip_norm: Positive
    inner_steps: Annotated[int, Field(ge=1, le=1000)]
    local_loss: LocalLossName
    settings: dict[Reduction, PlainSettings]
    readout: ReadoutSettings

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := [reduction for reduction in REDUCTIONS if reduction not in self.settings]:
            raise ValueError(f"settings lack {', '.join(missing)}: each reduction needs an entry")
        return self

    def runs(self) -> list[RunConfig]:
        """The control and LRA under both reductions, with every seed."""
        protocol, length = self.protocol(), self.sequence_length
        control, rate = {"name": "readout"}, self.readout.learning_rate
        found = [make_run(self.task, length, control, rate, protocol, seed) for seed in self.seeds]
        for reduction in REDUCTIONS:
            chosen = self.settings[reduction]
            learner = self._learner(reduction) | {
                "target_step_size": chosen.target_step_size,
                "clip_norm": self.clip_norm,
            }
            found += [
                make_run(self.task, length, learner, chosen.learning_rate, protocol, seed)
                for seed in self.seeds
            ]
        return found

    def untrained(
        self, reduction: Reduction, batch_size: int = 20, hidden_size: int = 100, **fields: Any
    ) -> list[RunConfig]:
        """One run for each seed, to be looked at before training only: LRA without Ω and clipping, but for the fields given."""
        off = {"target_step_size": self.step_size, "clip_norm": 0.0}
        return [
            parse(
                RunConfig,
                {
                    "task": {"name": self.task, "sequence_length": self.sequence_length},
                    "network": {"hidden_size": hidden_size},
                    "learner": self._learner(reduction) | off | fields,
                    "protocol": {"batch_size": batch_size},
                    "seed": seed,
                },
            )
            for seed in self.seeds
        ]

    def _learner(self, reduction: Reduction) -> dict[str, Any]:
        return {
            "name": "lra",
            "local_loss": self.local_loss,
            "reduction": reduction,
            "inner_steps": self.inner_steps,
        }
