"""11_when_it_works: over learning rates and target step sizes, where does strictly local LRA learn, and what decides it?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lra_companion.config import (
    Count,
    LocalLossName,
    Positive,
    ProtocolConfig,
    Reduction,
    RunConfig,
    TaskName,
    parse,
)
from lra_companion.experiments.base import Seeds, SequenceLength, TrainingParameters
from lra_companion.presets import ON_W_HH, preset

TargetSteps = Literal["as they are", "clipped", "normalised"]
"""What eq. 3 does to target steps. Weight gradients are clipped in all cases."""
RECOMMENDED = "recommended"
"""What figures call the preset with nothing changed."""
Changes = dict[str, dict[str, Any]]  # of a configuration, section by section


@dataclass(frozen=True)
class Variant:
    """How target steps are reduced and bounded, and whether Ω acts on W_hh: one panel of the maps."""

    reduction: Reduction
    target_steps: TargetSteps
    regularised: bool

    @property
    def label(self) -> str:
        """What figures and sentences call it."""
        reduction = self.reduction.replace("_", " ")
        return f"{reduction}, {self.target_steps}{' + Ω' * self.regularised}"


class WhenItWorksParameters(TrainingParameters):
    """11_when_it_works: every variant of LRA's target steps at each learning rate and target step size, under Adam; the angle
    of each to the exact gradient in training; and the recommended preset with one thing changed at a time.

    map_seeds: of the maps, which have many runs; seeds: of all else. regularisation_strength: alpha where Ω acts, which is on
    W_hh alone, example by example. step_size: beta of the angles, at the preset's learning rate, and of the displacements. The
    lists from batch_sizes on are what the preset is varied over.
    """

    chapter: ClassVar[str] = "11_when_it_works"

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_length: SequenceLength
    map_seeds: Seeds
    learning_rates: Annotated[list[Positive], Field(min_length=1)]
    target_step_sizes: Annotated[list[Positive], Field(min_length=1)]
    reductions: Annotated[list[Reduction], Field(min_length=1)]
    target_steps: Annotated[list[TargetSteps], Field(min_length=1)]
    regularisation_strength: Positive
    step_size: Positive
    inner_steps: Annotated[int, Field(ge=1, le=1000)]
    clip_norm: Positive
    local_loss: LocalLossName
    patience: Count
    batch_sizes: list[Count]
    hidden_sizes: list[Count]
    inner_steps_varied: list[Count]

    def protocol(self) -> ProtocolConfig:
        """The notebooks' protocol, with this chapter's patience."""
        return super().protocol().model_copy(update={"patience": self.patience})

    def variants(self) -> list[Variant]:
        """In reading order: each way of bounding target steps under each reduction, without and with Ω."""
        return [
            Variant(reduction, target_steps, regularised)
            for reduction, regularised in itertools.product(self.reductions, (False, True))
            for target_steps in self.target_steps
        ]

    def runs(self) -> list[RunConfig]:
        """Every cell of every map, the runs whose angle is followed, and the preset's variations; each run once."""
        found = [
            self.cell(task, variant, rate, size, seed)
            for task, variant in itertools.product(self.tasks, self.variants())
            for rate, size in itertools.product(self.learning_rates, self.target_step_sizes)
            for seed in self.map_seeds
        ]
        for task, seed in itertools.product(self.tasks, self.seeds):
            found += [self.followed(task, variant, seed) for variant in self.variants()]
            found += [self.varied(task, name, seed) for name in self.variations()]
        return list({run.key(): run for run in found}.values())

    def cell(
        self, task: TaskName, variant: Variant, learning_rate: float, step_size: float, seed: int
    ) -> RunConfig:
        """One network of a map."""
        optimiser = {"name": "adam", "learning_rate": learning_rate}
        changes = {"optimiser": optimiser, "learner": self.learner(variant, step_size)}
        return self._run(task, seed, changes)

    def followed(self, task: TaskName, variant: Variant, seed: int) -> RunConfig:
        """A network of one of the variants that records its angle to the exact gradient."""
        learner = self.learner(variant, self.step_size)
        return self._run(
            task, seed, preset("recommended", {"learner": learner, "protocol": {"exact_angle": True}})
        )

    def varied(self, task: TaskName, name: str, seed: int) -> RunConfig:
        """A network with the recommended preset and one of the ``variations``."""
        return self._run(task, seed, preset("recommended", self.variations()[name]))

    def variations(self) -> dict[str, Changes]:
        """What is changed in the preset, by what figures call it; first nothing."""
        found: dict[str, Changes] = {RECOMMENDED: {}}
        found |= {f"B = {size}": {"protocol": {"batch_size": size}} for size in self.batch_sizes}
        found |= {f"H = {size}": {"network": {"hidden_size": size}} for size in self.hidden_sizes}
        found |= {f"K = {steps}": {"learner": {"inner_steps": steps}} for steps in self.inner_steps_varied}
        return found

    def learner(self, variant: Variant, step_size: float) -> dict[str, Any]:
        """All of a variant's fields."""
        omega = {"regularisation_strength": self.regularisation_strength} | ON_W_HH
        return {
            "name": "lra",
            "local_loss": self.local_loss,
            "reduction": variant.reduction,
            "target_step_size": step_size,
            "inner_steps": self.inner_steps,
            "clip_norm": self.clip_norm,
            **_BOUNDS[variant.target_steps],
            **(omega if variant.regularised else {"regularisation_strength": 0.0}),
        }

    def _run(self, task: TaskName, seed: int, fields: Changes) -> RunConfig:
        protocol = self.protocol().model_dump() | fields.get("protocol", {})
        place = {"name": task, "sequence_length": self.sequence_length}
        return parse(RunConfig, fields | {"task": place, "protocol": protocol, "seed": seed})


_BOUNDS: dict[TargetSteps, dict[str, Any]] = {
    "as they are": {"target_clip_norm": 0.0, "target_clip_mode": None},
    "clipped": {"target_clip_mode": None},
    "normalised": {"target_clip_mode": "normalise"},
}
