"""05_regularisation: LRA without and with Ω on the paper's tasks, and the readout as control."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from lra_companion.config import (
    ClipMode,
    LocalLossName,
    NonNegative,
    Positive,
    Reduction,
    RunConfig,
    Scope,
    StrictModel,
    TaskName,
)
from lra_companion.experiments.base import NotebookParameters, SequenceLength, each_task_has, make_run


class PlainSettings(StrictModel):
    """Tuned settings of LRA without Ω."""

    learning_rate: Positive
    target_step_size: Positive


class RegularisedSettings(PlainSettings):
    """Tuned settings of LRA with Ω."""

    regularisation_strength: Positive
    regularisation_scope: Scope


class ReadoutSettings(StrictModel):
    """Tuned settings of the control."""

    learning_rate: Positive


class TaskSettings(StrictModel):
    """What was chosen on the tuning seed for one task (``tuning``): for the control, and for LRA without and with Ω."""

    readout: ReadoutSettings
    plain: PlainSettings
    regularised: RegularisedSettings


class RegularisationParameters(NotebookParameters):
    """05_regularisation: LRA without and with Ω on the paper's tasks, and the readout as control."""

    chapter: ClassVar[str] = "05_regularisation"

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_lengths: Annotated[list[SequenceLength], Field(min_length=1)]
    regularisation_strengths: list[Positive]
    settings: dict[TaskName, TaskSettings]
    inner_steps: Annotated[int, Field(ge=1, le=1000)]
    clip_norm: NonNegative
    clip_mode: ClipMode
    local_loss: LocalLossName
    reduction: Reduction

    @model_validator(mode="after")
    def _complete(self) -> Self:
        return each_task_has(self, "settings")

    def strengths(self, task: TaskName) -> list[float]:
        """The strengths of Ω shown for a task: the tuned one among those asked for."""
        return sorted(
            {self.settings[task].regularised.regularisation_strength, *self.regularisation_strengths}
        )

    def runs(self) -> list[RunConfig]:
        """Readout, LRA and regularised LRA: every condition with every seed, so that seeds pair runs."""
        return [
            config
            for task in self.tasks
            for length in self.sequence_lengths
            for seed in self.seeds
            for config in self._runs_of_seed(task, length, seed)
        ]

    def _runs_of_seed(self, task: TaskName, length: int, seed: int) -> list[RunConfig]:
        settings = self.settings[task]
        configs = [self.readout_run(task, length, settings.readout, seed)]
        configs.append(self.lra_run(task, length, settings.plain, seed))
        for strength in self.strengths(task):
            stronger = settings.regularised.model_copy(update={"regularisation_strength": strength})
            configs.append(self.lra_run(task, length, stronger, seed))
        return configs

    def readout_run(self, task: TaskName, length: int, settings: ReadoutSettings, seed: int) -> RunConfig:
        """The control with these settings."""
        return make_run(task, length, {"name": "readout"}, settings.learning_rate, self.protocol(), seed)

    def lra_run(self, task: TaskName, length: int, settings: PlainSettings, seed: int) -> RunConfig:
        """LRA with these settings; with Ω if they are ``RegularisedSettings``."""
        learner = {
            "name": "lra",
            "local_loss": self.local_loss,
            "reduction": self.reduction,
            "inner_steps": self.inner_steps,
            "clip_norm": self.clip_norm,
            "clip_mode": self.clip_mode,
        } | settings.model_dump(exclude={"learning_rate"})
        return make_run(task, length, learner, settings.learning_rate, self.protocol(), seed)
