"""03_clipping: does it matter whether and where gradients are clipped?"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from lra_companion.config import ClipMode, NonNegative, RunConfig, TaskName
from lra_companion.experiments.base import Seeds, SequenceLength
from lra_companion.experiments.comparison import READOUT, ComparisonParameters, Condition

CLIPPED_RULES = {"lra": "lra", "lra + Ω": "lra_omega"}
"""What figures call the rules that are clipped, and the group of each one's settings."""
RELEASED = "lra_released"
"""The rule that is run at two bounds alone, its name in figures and the group of its settings."""


class ClippingParameters(ComparisonParameters):
    """03_clipping: LRA without and with Ω at each bound c and in each mode of eq. 3; at ``released_lengths`` also the released
    code, without clipping and at the common bound.

    Only c and the mode change: the other settings are those tuned with the common ones. diagnosed_seeds: the seeds on which
    the share of clipped steps is recorded; records are large.
    """

    chapter: ClassVar[str] = "03_clipping"

    clip_norms: Annotated[list[NonNegative], Field(min_length=1)]
    clip_modes: Annotated[list[ClipMode], Field(min_length=1)]
    released_lengths: list[SequenceLength]
    diagnosed_seeds: Seeds

    def problems(self) -> list[tuple[TaskName, int]]:
        """The tasks at their lengths, then at those at which the released code alone is run."""
        lengths = list(dict.fromkeys([*self.sequence_lengths, *self.released_lengths]))
        return [(task, length) for task in self.tasks for length in lengths]

    def conditions_at(self, length: int) -> list[Condition]:
        """The control, and each rule at the lengths at which it is asked for."""
        return [
            condition
            for condition in super().conditions_at(length)
            if condition == READOUT
            or length in (self.released_lengths if condition.group == RELEASED else self.sequence_lengths)
        ]

    def conditions(self) -> list[Condition]:
        """Readout; each rule with each mode and bound. c = 0, no clipping, is the same in both modes and comes once."""
        found = [READOUT]
        for rule, group in CLIPPED_RULES.items():
            for index, mode in enumerate(self.clip_modes):
                found += [
                    Condition(clip_label(rule, mode, norm), group, {"clip_norm": norm, "clip_mode": mode})
                    for norm in sorted(self.clip_norms)
                    if norm > 0 or index == 0
                ]
        if self.released_lengths:  # no mode there: eq. 3 is all that the released code knows
            found += [
                Condition(clip_label(RELEASED, "clip", norm), RELEASED, {"clip_norm": norm})
                for norm in dict.fromkeys([0.0, self.clip_norm])
            ]
        return found

    def run(self, task: TaskName, length: int, condition: Condition, seed: int) -> RunConfig:
        """A condition's run, its steps counted where that was asked for; the control has none to count."""
        if seed in self.diagnosed_seeds and condition != READOUT:
            condition = replace(condition, protocol={"diagnostics": True})
        return super().run(task, length, condition, seed)


def clip_label(rule: str, mode: ClipMode, norm: float) -> str:
    """What tables call a rule clipped in this way."""
    if norm == 0:
        return f"{rule}, not clipped"
    return f"{rule}, {mode}, c = {norm:.15g}"
