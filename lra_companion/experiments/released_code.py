"""08_released_code: each difference between the described method and the public code, alone and left out."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from lra_companion.config import (
    RELEASED_PARTS,
    Count,
    NonNegative,
    Positive,
    ReleasedLossName,
    ReleasedPart,
    RunConfig,
    StrictModel,
    TaskName,
)
from lra_companion.experiments.base import (
    Seeds,
    SequenceLength,
    TrainingParameters,
    each_task_has,
    make_run,
)

UNCLIPPED = "lra_released, not clipped"
"""What tables call the public code without clipping."""


class ReleasedCodeSettings(StrictModel):
    """What one task is trained with: the same for all rules but the readout."""

    learning_rate: Positive
    target_step_size: Positive
    readout_learning_rate: Positive


class ReleasedCodeParameters(TrainingParameters):
    """08_released_code: each difference between the described method and the public code, alone and left out.

    judged_seeds: those on which the control and the public code are compared for the verdicts, without and with Ω and without
    clipping. They may be more than the seeds of the other conditions.
    """

    chapter: ClassVar[str] = "08_released_code"

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_length: SequenceLength
    added_parts: Annotated[list[ReleasedPart], Field(min_length=1)]
    removed_parts: list[ReleasedPart]
    settings: dict[TaskName, ReleasedCodeSettings]
    regularisation_strength: Positive
    inner_steps: Annotated[int, Field(ge=1, le=1000)]
    clip_norm: NonNegative
    local_loss: ReleasedLossName
    early_iterations: list[Count]
    judged_seeds: Seeds

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if late := [at for at in self.early_iterations if at >= self.max_iterations]:
            raise ValueError(
                f"early_iterations = {late}: must be below max_iterations = {self.max_iterations}"
            )
        return each_task_has(self, "settings")

    def runs(self) -> list[RunConfig]:
        """Every condition with every seed, so that seeds pair runs; those of ``measured_runs`` first."""
        others = [
            config
            for task in self.tasks
            for seed in self.seeds
            for config in [
                self.readout_run(task, seed),
                self.nan_run(task, seed),
                *self._part_runs(task, seed),
            ]
        ]
        judged = [
            run
            for task in self.tasks
            for seed in self.judged_seeds
            for run in self.judged_runs(task, seed).values()
        ]
        every = self.measured_runs() + others + judged
        return list({run.key(): run for run in every}.values())

    def judged_runs(self, task: TaskName, seed: int) -> dict[str, RunConfig]:
        """The control and the public code, by what tables call them."""
        strength = self.regularisation_strength
        return {
            "readout": self.readout_run(task, seed),
            "lra_released": self.end_run("lra_released", task, 0.0, seed),
            "lra_released + Ω": self.end_run("lra_released", task, strength, seed),
            UNCLIPPED: self.unclipped_run(task, seed),
        }

    def measured_runs(self) -> list[RunConfig]:
        """Both ends, without and with Ω: short runs as well, whose networks show gradients early in training."""
        return [
            self.end_run(name, task, strength, seed, iterations)
            for iterations in [*sorted(self.early_iterations), self.max_iterations]
            for task in self.tasks
            for strength in (0.0, self.regularisation_strength)
            for name in ("lra", "lra_released")
            for seed in self.seeds
        ]

    def end_run(
        self, name: str, task: TaskName, strength: float, seed: int, iterations: int | None = None
    ) -> RunConfig:
        """``lra`` or ``lra_released``."""
        return self._run(task, {"name": name, "regularisation_strength": strength}, seed, iterations)

    def nan_run(self, task: TaskName, seed: int) -> RunConfig:
        """The public code with Ω and without the guard: NaN where the error of Ω is 0."""
        strength = self.regularisation_strength
        learner = {"name": "lra_released", "regularisation_strength": strength, "released_nan": True}
        return self._run(task, learner, seed)

    def unclipped_run(self, task: TaskName, seed: int) -> RunConfig:
        """The public code without Ω and without clipping."""
        return self._run(task, {"name": "lra_released", "clip_norm": 0.0}, seed)

    def readout_run(self, task: TaskName, seed: int) -> RunConfig:
        """The control."""
        rate = self.settings[task].readout_learning_rate
        return make_run(task, self.sequence_length, {"name": "readout"}, rate, self.protocol(), seed)

    def added_run(self, part: ReleasedPart, task: TaskName, seed: int) -> RunConfig:
        """LRA as described, and this one part as released."""
        return self._ablation_run([part], task, seed)

    def removed_run(self, part: ReleasedPart, task: TaskName, seed: int) -> RunConfig:
        """The public code, and this one part as described."""
        return self._ablation_run([other for other in RELEASED_PARTS if other != part], task, seed)

    def _part_runs(self, task: TaskName, seed: int) -> list[RunConfig]:
        added = [self.added_run(part, task, seed) for part in self.added_parts]
        return added + [self.removed_run(part, task, seed) for part in self.removed_parts]

    def _ablation_run(self, released: list[ReleasedPart], task: TaskName, seed: int) -> RunConfig:
        strength = self.regularisation_strength
        learner = {"name": "lra_ablation", "released": released, "regularisation_strength": strength}
        return self._run(task, learner, seed)

    def _run(
        self, task: TaskName, learner: dict[str, Any], seed: int, iterations: int | None = None
    ) -> RunConfig:
        settings = self.settings[task]
        shared = {
            "target_step_size": settings.target_step_size,
            "inner_steps": self.inner_steps,
            "clip_norm": self.clip_norm,
            "local_loss": self.local_loss,
        }
        protocol = self.protocol().model_copy(update={"max_iterations": iterations or self.max_iterations})
        return make_run(task, self.sequence_length, shared | learner, settings.learning_rate, protocol, seed)
