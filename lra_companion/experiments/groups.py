"""Which settings of a learning rule are searched together, under the name by which their tuned values are looked up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field, field_validator

from lra_companion.config import (
    Count,
    NonNegative,
    OptimiserName,
    Positive,
    Scope,
    StrictModel,
    TaskName,
)
from lra_companion.experiments.base import SequenceLength, did_you_mean
from lra_companion.presets import ON_W_HH

_OMEGA = ("regularisation_strength", "regularisation_scope")


@dataclass(frozen=True)
class Group:
    """One search: the learner's fields that are fixed, those searched beside the learning rate, and the optimiser."""

    learner: dict[str, Any]
    searched: tuple[str, ...] = field(default=())
    optimiser: OptimiserName = "sgd"


def _lra(name: str, **fixed: str) -> dict[str, Group]:
    """LRA with these fields fixed, without and with Ω."""
    learner = {"name": "lra", **fixed}
    return {
        name: Group(learner, ("target_step_size",)),
        f"{name}_omega": Group(learner, ("target_step_size", *_OMEGA)),
    }


def _whole_steps(name: str, **target_steps: str) -> dict[str, Group]:
    """LRA with K = 1 and target steps that no mean divides, without Ω and with Ω on W_hh alone, example by example."""
    learner = {"name": "lra", "reduction": "per_example", "inner_steps": 1, "clip_norm": 1.0, **target_steps}
    return {
        name: Group(learner, ("target_step_size",)),
        f"{name}_omega": Group(learner | ON_W_HH, ("target_step_size", "regularisation_strength")),
    }


_LENGTHS: dict[str, Group] = {
    "readout": Group({"name": "readout"}),
    "bptt": Group({"name": "bptt"}),
    "bptt_clipped": Group({"name": "bptt", "clip_norm": 1.0}),
    "bptt_clipped_omega": Group({"name": "bptt", "clip_norm": 1.0}, _OMEGA),
    "tptt": Group({"name": "tptt"}, ("target_step_size", "inverse_learning_rate")),
    **_lra("lra"),
    **_whole_steps("lra_per_example"),
    **_whole_steps("lra_normalised", target_clip_mode="normalise"),
}
GROUPS: dict[str, Group] = {
    **_LENGTHS,
    "bptt_omega": Group({"name": "bptt"}, _OMEGA),
    "lra_released": Group({"name": "lra_released"}, ("target_step_size",)),
    "lra_released_omega": Group({"name": "lra_released"}, ("target_step_size", "regularisation_strength")),
    **_lra("lra_mse", local_loss="mse"),
    **_lra("lra_huber", local_loss="huber"),
    **_lra("lra_l1", local_loss="l1"),
    **_lra("lra_cosine", local_loss="cosine"),
    **{f"{name}_adam": replace(group, optimiser="adam") for name, group in _LENGTHS.items()},
}
"""Every search that a chapter may need. Each gets the same number of trials, whatever the number of its settings."""


class TunedSettings(StrictModel):
    """What a search chose for one task and length, from how many trials and at what cost (``tuning``). A setting that the
    group does not search is None.
    """

    task: TaskName
    sequence_length: SequenceLength
    group: str
    trials: Count
    core_hours: NonNegative
    learning_rate: Positive
    target_step_size: Positive | None = None
    regularisation_strength: Positive | None = None
    regularisation_scope: Scope | None = None
    inverse_learning_rate: Positive | None = None

    @field_validator("group")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in GROUPS:
            raise ValueError(f"is no group of settings{did_you_mean(value, GROUPS)}")
        return value

    @property
    def place(self) -> tuple[TaskName, int, str]:
        """What the settings are for."""
        return self.task, self.sequence_length, self.group

    def learner(self) -> dict[str, Any]:
        """The learner's fields, fixed and tuned."""
        group = GROUPS[self.group]
        return group.learner | {name: getattr(self, name) for name in group.searched}


Range = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class TuningPlan(StrictModel):
    """How a profile's settings are searched: on which seed, how often, and between which bounds each setting is drawn
    log-uniformly. Rates of plain SGD and of Adam differ by orders of magnitude: each has bounds of its own.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    trials: Count
    learning_rate: Range
    adam_learning_rate: Range
    target_step_size: Range
    regularisation_strength: Range
    inverse_learning_rate: Range

    @field_validator(
        *("learning_rate", "adam_learning_rate"),
        *("target_step_size", "regularisation_strength", "inverse_learning_rate"),
    )
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if value[0] >= value[1]:
            raise ValueError("must be a lower and a higher bound")
        return value
