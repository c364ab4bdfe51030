"""02_vanishing_gradients: how far back in time each learning rule's gradients reach, at the start and through training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from lra_companion.config import (
    NonNegative,
    Positive,
    ProtocolConfig,
    Reduction,
    ReleasedLossName,
    RunConfig,
    StrictModel,
    TaskName,
)
from lra_companion.experiments.base import SequenceLength, TrainingParameters, each_task_has, make_run
from lra_companion.experiments.settings import (
    ExactSettings,
    PlainSettings,
    RegularisedSettings,
    ReleasedSettings,
)


class VanishingSettings(StrictModel):
    """Settings of each learning rule on one task."""

    plain: PlainSettings
    regularised: RegularisedSettings
    released: ReleasedSettings
    bptt: ExactSettings


class VanishingParameters(TrainingParameters):
    """02_vanishing_gradients: per-step norms of weight gradients and targets, of three learning rules without and with Ω."""

    chapter: ClassVar[str] = "02_vanishing_gradients"

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_length: SequenceLength
    settings: dict[TaskName, VanishingSettings]
    inner_steps: Annotated[int, Field(ge=1, le=1000)]
    clip_norm: NonNegative
    local_loss: ReleasedLossName
    reduction: Reduction
    compared_step_sizes: Annotated[list[Positive], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        return each_task_has(self, "settings")

    def protocol(self) -> ProtocolConfig:
        """As of all notebooks, and every check keeps the norms of each step."""
        return super().protocol().model_copy(update={"diagnostics": True})

    def runs(self) -> list[RunConfig]:
        """LRA, the released code and backpropagation, without and with Ω, with every seed."""
        return [
            make_run(task, self.sequence_length, learner, learning_rate, self.protocol(), seed)
            for task in self.tasks
            for learner, learning_rate in self._conditions(self.settings[task])
            for seed in self.seeds
        ]

    def _conditions(self, settings: VanishingSettings) -> list[tuple[dict[str, Any], float]]:
        """Fields and learning rate of each learner."""
        rules: list[tuple[str, StrictModel]] = [
            ("lra", settings.plain),
            ("lra", settings.regularised),
            ("lra_released", settings.released.without_omega),
            ("lra_released", settings.released),
            ("bptt", settings.bptt.without_omega),
            ("bptt", settings.bptt),
        ]
        found = []
        for name, chosen in rules:
            fields = chosen.model_dump()
            rate = fields.pop("learning_rate")
            found.append((self._learner(name) | fields, rate))
        return found

    def untrained(self, task: TaskName, learner: str = "lra", **fields: Any) -> list[RunConfig]:
        """One run for each seed, to be looked at before training only: a learner without Ω, but for the fields given."""
        size = self.settings[task].plain.target_step_size
        return [
            make_run(
                task,
                self.sequence_length,
                self._learner(learner) | {"target_step_size": size} | fields,
                learning_rate=1.0,  # plays no part
                protocol=self.protocol(),
                seed=seed,
            )
            for seed in self.seeds
        ]

    def _learner(self, name: str) -> dict[str, Any]:
        """The settings that all conditions of a learner share."""
        if name == "bptt":
            return {"name": name}
        shared = {
            "name": name,
            "local_loss": self.local_loss,
            "inner_steps": self.inner_steps,
            "clip_norm": self.clip_norm,
        }
        return shared | ({"reduction": self.reduction} if name == "lra" else {})
