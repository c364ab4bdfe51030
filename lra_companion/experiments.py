"""The book's experiments as data: each notebook's parameters, and the runs they ask for.

A notebook's first cell checks its parameters here: a misspelt name or a wrong value stops it before anything is trained.
``status`` and ``book`` read the same lists of runs without opening a notebook.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from lra_companion.config import (
    ClipMode,
    Count,
    LocalLossName,
    NonNegative,
    Positive,
    ProtocolConfig,
    Reduction,
    RunConfig,
    Scope,
    SetSize,
    StrictModel,
    TaskName,
    parse,
)

Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
SequenceLength = Annotated[int, Field(ge=10, le=10_000)]


class NotebookParameters(StrictModel):
    """Parameters all notebooks share. profile: the name shown on the page; results: folder of the store, seen from the
    notebook; jobs: processes that share the training.
    """

    chapter: ClassVar[str]

    profile: str
    results: str
    jobs: Annotated[int, Field(ge=1, le=1024)]
    seeds: Seeds
    max_iterations: Count
    validate_every: Count
    evaluation_size: SetSize

    def protocol(self) -> ProtocolConfig:
        """The protocol of the notebook's runs; validation and test sets have the same size."""
        return ProtocolConfig(
            max_iterations=self.max_iterations,
            validate_every=self.validate_every,
            validation_size=self.evaluation_size,
            test_size=self.evaluation_size,
        )

    @field_validator("*")
    @classmethod
    def _no_repetition(cls, value: Any) -> Any:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("entries must differ from one another")
        return value

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """Check a notebook's variables (``globals()``). Raises ValueError naming field, value and what is allowed."""
        plain = {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_")
            and name not in ("In", "Out")
            and isinstance(value, bool | int | float | str | list | dict | tuple | None)
        }
        return cls.checked(plain)

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Validated parameters; an unknown name is answered with the nearest known one."""
        for name in values:
            if name not in cls.model_fields:
                raise ValueError(
                    f"{name} = {values[name]!r}: is no parameter of {cls.chapter}{did_you_mean(name, cls.model_fields)}"
                )
        return parse(cls, dict(values))

    def runs(self) -> list[RunConfig]:
        """Every run the notebook shows."""
        raise NotImplementedError


class TasksParameters(NotebookParameters):
    """01_tasks: pictures of the tasks, and what a trained readout on a fixed network reaches."""

    chapter: ClassVar[str] = "01_tasks"

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_length: SequenceLength
    shown_samples: Annotated[int, Field(ge=1, le=20)]
    learning_rates: dict[TaskName, Positive]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        return _each_task_has(self, "learning_rates")

    def runs(self) -> list[RunConfig]:
        """The readout control on each task and seed."""
        return [
            _run(
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
        return _each_task_has(self, "settings")

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
        return _run(task, length, {"name": "readout"}, settings.learning_rate, self.protocol(), seed)

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
        return _run(task, length, learner, settings.learning_rate, self.protocol(), seed)


NOTEBOOKS: dict[str, type[NotebookParameters]] = {
    parameters.chapter: parameters for parameters in (TasksParameters, RegularisationParameters)
}
"""Parameters of each notebook, by its name and in the order of the book."""


def did_you_mean(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The end of an error message about an unknown name: the nearest known one, or all."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _each_task_has(parameters: Any, field: str) -> Any:
    """A check for validators: ``field`` maps every task of ``parameters.tasks``."""
    if missing := [task for task in parameters.tasks if task not in getattr(parameters, field)]:
        raise ValueError(f"{field} lack {', '.join(missing)}: each of tasks needs an entry")
    return parameters


def _run(
    task: TaskName,
    sequence_length: int,
    learner: dict[str, Any],
    learning_rate: float,
    protocol: ProtocolConfig,
    seed: int,
) -> RunConfig:
    return parse(
        RunConfig,
        {
            "task": {"name": task, "sequence_length": sequence_length},
            "optimiser": {"learning_rate": learning_rate},
            "learner": learner,
            "protocol": protocol.model_dump(),
            "seed": seed,
        },
    )
