"""What every comparison of learning rules shares: tasks × lengths × conditions × seeds, each condition with tuned settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from lra_companion.config import (
    ClipMode,
    Count,
    LocalLossName,
    NonNegative,
    ProtocolConfig,
    Reduction,
    RunConfig,
    TaskName,
    parse,
)
from lra_companion.experiments.base import SequenceLength, TrainingParameters, each_length_fits
from lra_companion.experiments.groups import GROUPS, TunedSettings
from lra_companion.presets import preset

Place = tuple[TaskName, int, str]
"""What settings are tuned for: task, sequence length, group."""


class UntunedError(ValueError):
    """Parameters that are sound, but for which no settings have been searched."""


@dataclass(frozen=True)
class Condition:
    """One row of a comparison: what figures call it, whose tuned settings it takes, and what it changes in the run.

    preset: a preset whose settings it takes instead, the same on every task and length; nothing is searched for it then.
    """

    label: str
    group: str = ""
    learner: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None


READOUT = Condition("readout", "readout")
"""The control, in every comparison."""


class ComparisonParameters(TrainingParameters):
    """Parameters all comparisons share. A chapter adds what it varies, and says in ``conditions`` how.

    only_lengths: lengths to which conditions are confined, by a pattern of their labels such as "lra_released*", or, for one
    task alone, "temporal_order: lra_released*". left_out: what the page says was not run. The learner's settings from
    inner_steps on are common to all conditions that do not change them.
    """

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_lengths: Annotated[list[SequenceLength], Field(min_length=1)]
    only_lengths: dict[str, list[SequenceLength]]
    left_out: str
    settings: list[TunedSettings]
    inner_steps: Annotated[int, Field(ge=1, le=1000)]
    clip_norm: NonNegative
    clip_mode: ClipMode
    local_loss: LocalLossName
    reduction: Reduction
    patience: Count

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        each_length_fits(self.problems())
        labels = [condition.label for condition in self.conditions()]
        if repeated := {label for label in labels if labels.count(label) > 1}:
            raise ValueError(f"conditions asked for twice: {', '.join(sorted(repeated))}")
        for pattern in self.only_lengths:
            if not any(_matches(pattern, task, label) for task, _ in self.problems() for label in labels):
                raise ValueError(
                    f"only_lengths: {pattern!r} matches no condition; known are {', '.join(labels)}"
                )
        return self

    @classmethod
    def untuned(cls, values: Mapping[str, Any]) -> Self:
        """Validated parameters, whether or not their settings have been searched."""
        return super().checked(values)

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Validated parameters with all the settings they need. Raises UntunedError where some are lacking."""
        parameters = cls.untuned(values)
        tuned = {row.place for row in parameters.settings}
        if lacking := [place for place in parameters.needs() if place not in tuned]:
            task, length, group = lacking[0]
            raise UntunedError(
                f"settings lack {group} on {task}, T = {length}, and {len(lacking) - 1} more: "
                "search them with lra-companion tune, or add them to settings"
            )
        return parameters

    def protocol(self) -> ProtocolConfig:
        """The notebooks' protocol, with this comparison's patience."""
        return super().protocol().model_copy(update={"patience": self.patience})

    def search_protocol(self) -> ProtocolConfig:
        """The protocol under which settings are searched: that of the runs themselves, unless a chapter says otherwise."""
        return self.protocol()

    def conditions(self) -> list[Condition]:
        """What is compared, in the order of the tables."""
        raise NotImplementedError

    def problems(self) -> list[tuple[TaskName, int]]:
        """The tasks and lengths on which it is compared."""
        return [(task, length) for task in self.tasks for length in self.sequence_lengths]

    def conditions_at(self, task: TaskName, length: int) -> list[Condition]:
        """The conditions that are not confined to other lengths there."""
        return [
            condition
            for condition in self.conditions()
            if all(
                length in lengths
                for pattern, lengths in self.only_lengths.items()
                if _matches(pattern, task, condition.label)
            )
        ]

    def needs(self) -> list[Place]:
        """Everything that needs tuned settings, each once."""
        places: list[Place] = [
            (task, length, condition.group)
            for task, length in self.problems()
            for condition in self.conditions_at(task, length)
            if condition.preset is None
        ]
        return list(dict.fromkeys(places))

    def tuned(self, task: TaskName, length: int, group: str) -> TunedSettings:
        """The settings to use there."""
        return next(row for row in self.settings if row.place == (task, length, group))

    def run(self, task: TaskName, length: int, condition: Condition, seed: int) -> RunConfig:
        """A condition's run with its tuned settings, or its preset's."""
        if condition.preset is not None:
            place = {"name": task, "sequence_length": length}
            return parse(
                RunConfig,
                preset(
                    condition.preset, {"task": place, "protocol": self.protocol().model_dump(), "seed": seed}
                ),
            )
        return self.run_with(self.tuned(task, length, condition.group), condition, seed)

    def run_with(self, settings: TunedSettings, condition: Condition, seed: int) -> RunConfig:
        """A condition's run with any settings: a condition's own fields go before tuned ones, and those before common ones."""
        learner = settings.learner()
        common = {name: getattr(self, name) for name in _COMMON.get(learner["name"], ())}
        return parse(
            RunConfig,
            {
                "task": {"name": settings.task, "sequence_length": settings.sequence_length},
                "network": condition.network,
                "optimiser": {
                    "name": GROUPS[settings.group].optimiser,
                    "learning_rate": settings.learning_rate,
                },
                "learner": common | learner | condition.learner,
                "protocol": self.protocol().model_dump() | condition.protocol,
                "seed": seed,
            },
        )

    def runs(self) -> list[RunConfig]:
        """Every condition with every seed, so that seeds pair runs; a run that two conditions share comes once."""
        every = [
            self.run(task, length, condition, seed)
            for task, length in self.problems()
            for seed in self.seeds
            for condition in self.conditions_at(task, length)
        ]
        return list({run.key(): run for run in every}.values())


def _matches(pattern: str, task: str, label: str) -> bool:
    """Whether a pattern of ``only_lengths`` means this condition on this task."""
    return fnmatchcase(label, pattern) or fnmatchcase(f"{task}: {label}", pattern)


class WithDigits(ComparisonParameters):
    """A comparison with real data beside it. digits_lengths: lengths of sequential_digits, 8 (row by row) or 64 (pixel by
    pixel); empty: without it.
    """

    digits_lengths: list[SequenceLength]

    def problems(self) -> list[tuple[TaskName, int]]:
        """The tasks at their lengths, then the digits at theirs."""
        return [*super().problems(), *(("sequential_digits", length) for length in self.digits_lengths)]


_COMMON: dict[str, tuple[str, ...]] = {
    "lra": ("inner_steps", "clip_norm", "clip_mode", "local_loss", "reduction"),
    "lra_released": ("inner_steps", "clip_norm", "local_loss"),
}
"""Which of the common settings a learner takes."""
