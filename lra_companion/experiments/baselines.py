"""07_baselines: LRA beside the rules it must be measured against."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lra_companion.experiments.comparison import READOUT, Condition, WithDigits

Rule = Literal[
    "bptt",
    "bptt_clipped",
    "bptt_omega",
    "tptt",
    "lra",
    "lra_omega",
    "lra_released",
    "lra_released_omega",
]
RULES: dict[Rule, str] = {
    "bptt": "bptt",
    "bptt_clipped": "bptt, clipped",
    "bptt_omega": "bptt + Ω",
    "tptt": "tptt",
    "lra": "lra",
    "lra_omega": "lra + Ω",
    "lra_released": "lra_released",
    "lra_released_omega": "lra_released + Ω",
}
"""What figures call each rule, by the group of its settings."""


class BaselineParameters(WithDigits):
    """07_baselines: learning rules side by side, each with a search of its own."""

    chapter: ClassVar[str] = "07_baselines"

    rules: Annotated[list[Rule], Field(min_length=1)]

    def conditions(self) -> list[Condition]:
        """Readout and the rules asked for."""
        return [READOUT, *(Condition(RULES[rule], rule) for rule in self.rules)]
