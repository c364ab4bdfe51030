"""01_tasks: what the tasks ask, and what a trained readout on a fixed network reaches."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from lra_companion.config import Positive, RunConfig, TaskName
from lra_companion.experiments.base import (
    SequenceLength,
    TrainingParameters,
    each_length_fits,
    each_task_has,
    make_run,
)


class TasksParameters(TrainingParameters):
    """01_tasks: pictures of the tasks, and what a trained readout on a fixed network reaches."""

    chapter: ClassVar[str] = "01_tasks"

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_length: SequenceLength
    shown_samples: Annotated[int, Field(ge=1, le=20)]
    learning_rates: dict[TaskName, Positive]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        each_length_fits((task, self.sequence_length) for task in self.tasks)
        return each_task_has(self, "learning_rates")

    def runs(self) -> list[RunConfig]:
        """The readout control on each task and seed."""
        return [
            make_run(
                task,
                self.sequence_length,
                {"name": "readout"},
                self.learning_rates[task],
                self.protocol(),
                seed,
            )
            for task in self.tasks
            for seed in self.seeds
        ]
