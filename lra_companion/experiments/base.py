"""What all notebooks' parameters share, and how their runs are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator

from lra_companion.complaints import nearest
from lra_companion.config import (
    Count,
    ProtocolConfig,
    RunConfig,
    SetSize,
    StrictModel,
    TaskConfig,
    TaskName,
    parse,
)

Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
SequenceLength = Annotated[int, Field(ge=1, le=10_000)]  # which of them a task takes, TaskConfig knows


class NotebookParameters(StrictModel):
    """Parameters all notebooks share. profile: the name shown on the page; results: folder of the store, seen from the
    notebook; jobs: processes that share the training.
    """

    chapter: ClassVar[str]

    profile: str
    results: str
    jobs: Annotated[int, Field(ge=1, le=1024)]

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

    def measured_runs(self) -> list[RunConfig]:
        """Those of them whose networks are measured as well (``fidelity.measure_many``)."""
        return []


def did_you_mean(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The end of an error message about an unknown name: the nearest known one, or all."""
    return nearest(name, known) or f"; known are {', '.join(known)}"


class TrainingParameters(NotebookParameters):
    """Parameters of the notebooks that train: their seeds and their protocol."""

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


def each_task_has(parameters: Any, field: str) -> Any:
    """A check for validators: ``field`` maps every task of ``parameters.tasks``."""
    if missing := [task for task in parameters.tasks if task not in getattr(parameters, field)]:
        raise ValueError(f"{field} lack {', '.join(missing)}: each of tasks needs an entry")
    return parameters


def each_length_fits(problems: Iterable[tuple[TaskName, int]]) -> None:
    """A check for validators: raises ValueError where a task does not come in a length."""
    for task, length in problems:
        parse(TaskConfig, {"name": task, "sequence_length": length})


def make_run(
    task: TaskName,
    sequence_length: int,
    learner: dict[str, Any],
    learning_rate: float,
    protocol: ProtocolConfig,
    seed: int,
) -> RunConfig:
    """A run of the standard network with plain SGD. Raises ValueError naming field, value and what is allowed."""
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
