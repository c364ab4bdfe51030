"""03_clipping: does it matter whether and where gradients are clipped?"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from lra_companion.config import ClipMode, NonNegative, RunConfig, TaskName
from lra_companion.experiments.base import Seeds
from lra_companion.experiments.comparison import READOUT, ComparisonParameters, Condition

CLIPPED_RULES = {"lra": "lra", "lra + Ω": "lra_omega"}
"""What figures call the rules that are clipped, and the group of each one's settings."""


class ClippingParameters(ComparisonParameters):
    """03_clipping: LRA without and with Ω at each bound c and in each mode of eq. 3.

    Only c and the mode change: the other settings are those tuned with the common ones. diagnosed_seeds: the seeds on which
    the share of clipped steps is recorded; records are large.
    """

    chapter: ClassVar[str] = "03_clipping"

    clip_norms: Annotated[list[NonNegative], Field(min_length=1)]
    clip_modes: Annotated[list[ClipMode], Field(min_length=1)]
    diagnosed_seeds: Seeds

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
