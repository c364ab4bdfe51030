"""11_when_it_works: over learning rates and target step sizes, where does strictly local LRA learn, and what decides it?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lra_companion.config import (
    Count,
    LocalLossName,
    NonNegative,
    OptimiserName,
    Positive,
    ProtocolConfig,
    Reduction,
    RunConfig,
    TaskName,
    parse,
)
from lra_companion.experiments.base import SequenceLength, TrainingParameters
from lra_companion.experiments.groups import ON_W_HH
from lra_companion.presets import preset

TargetSteps = Literal["as they are", "clipped", "normalised"]
"""What eq. 3 does to target steps. Weight gradients are clipped in all cases."""


@dataclass(frozen=True)
class Variant:
    """One panel of a phase diagram: how target steps are reduced and bounded, and whether Ω acts on W_hh."""

    reduction: Reduction
    target_steps: TargetSteps
    regularised: bool

    @property
    def label(self) -> str:
        """What figures and sentences call it."""
        reduction = self.reduction.replace("_", " ")
        return f"{reduction}, {self.target_steps}{' + Ω' * self.regularised}"


class WhenItWorksParameters(TrainingParameters):
    """11_when_it_works: every variant of LRA's target steps at each learning rate and target step size; then the recommended
    preset with one thing changed at a time.

    learning_rates are those of ``per_example``; with plain SGD a ``mean`` gets them times H, since its weight gradients are so
    much smaller. regularisation_strength: alpha of the panels with Ω, which acts on W_hh alone, example by example. The lists
    batch_sizes to inner_steps_varied are what the preset is varied over. patience as elsewhere.
    """

    chapter: ClassVar[str] = "11_when_it_works"

    tasks: Annotated[list[TaskName], Field(min_length=1)]
    sequence_length: SequenceLength
    optimiser: OptimiserName
    learning_rates: Annotated[list[Positive], Field(min_length=1)]
    target_step_sizes: Annotated[list[Positive], Field(min_length=1)]
    reductions: Annotated[list[Reduction], Field(min_length=1)]
    target_steps: Annotated[list[TargetSteps], Field(min_length=1)]
    regularisation_strength: NonNegative
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
        """The panels in reading order: each way of bounding target steps under each reduction, without and with Ω."""
        omega = (False, True) if self.regularisation_strength else (False,)
        return [
            Variant(reduction, target_steps, regularised)
            for reduction, regularised in itertools.product(self.reductions, omega)
            for target_steps in self.target_steps
        ]

    def runs(self) -> list[RunConfig]:
        """Every cell of every phase diagram with every seed, and the preset's variations; each run once."""
        cells = [
            self.cell(task, variant, rate, beta, seed)
            for task in self.tasks
            for variant in self.variants()
            for rate, beta in itertools.product(self.learning_rates, self.target_step_sizes)
            for seed in self.seeds
        ]
        varied = [
            self.varied(task, changes, seed)
            for task in self.tasks
            for changes in self.variations().values()
            for seed in self.seeds
        ]
        return list({run.key(): run for run in cells + varied}.values())

    def cell(self, task: TaskName, variant: Variant, rate: float, beta: float, seed: int) -> RunConfig:
        """One network of a phase diagram."""
        learner: dict[str, Any] = {
            "name": "lra",
            "local_loss": self.local_loss,
            "reduction": variant.reduction,
            "target_step_size": beta,
            "inner_steps": self.inner_steps,
            "clip_norm": self.clip_norm,
            **_BOUNDS[variant.target_steps],
        }
        if variant.regularised:
            learner |= {"regularisation_strength": self.regularisation_strength} | ON_W_HH
        optimiser = {"name": self.optimiser, "learning_rate": rate * self._rate_scale(variant.reduction)}
        return self._run(task, seed, {"learner": learner, "optimiser": optimiser})

    def varied(self, task: TaskName, changes: dict[str, dict[str, Any]], seed: int) -> RunConfig:
        """A network with the recommended preset and some changes to it."""
        return self._run(task, seed, preset("recommended", changes))

    def variations(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What is changed in the preset, by what figures call it; first nothing."""
        found: dict[str, dict[str, dict[str, Any]]] = {"recommended": {}}
        found |= {f"B = {size}": {"protocol": {"batch_size": size}} for size in self.batch_sizes}
        found |= {f"H = {size}": {"network": {"hidden_size": size}} for size in self.hidden_sizes}
        found |= {f"K = {steps}": {"learner": {"inner_steps": steps}} for steps in self.inner_steps_varied}
        return found

    def _rate_scale(self, reduction: Reduction) -> float:
        """Plain SGD feels the 1 / H by which the weight gradients of a mean are smaller; the other optimisers do not."""
        return HIDDEN_SIZE if reduction == "mean" and self.optimiser in ("sgd", "nesterov") else 1.0

    def _run(self, task: TaskName, seed: int, fields: dict[str, Any]) -> RunConfig:
        protocol = self.protocol().model_dump() | fields.get("protocol", {})
        place = {"name": task, "sequence_length": self.sequence_length}
        return parse(RunConfig, fields | {"task": place, "protocol": protocol, "seed": seed})


HIDDEN_SIZE = 100.0
"""H of the phase diagrams: the configuration's default."""
_BOUNDS: dict[TargetSteps, dict[str, Any]] = {
    "as they are": {"target_clip_norm": 0.0},
    "clipped": {},
    "normalised": {"target_clip_mode": "normalise"},
}
