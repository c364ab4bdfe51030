"""07_baselines: LRA beside the rules it must be measured against."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lra_companion.config import TaskName
from lra_companion.experiments.base import SequenceLength
from lra_companion.experiments.comparison import READOUT, ComparisonParameters, Condition

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


class BaselineParameters(ComparisonParameters):
    """07_baselines: learning rules side by side, each with a search of its own. digits_lengths: lengths of sequential_digits,
    the row with real data, 8 (row by row) or 64 (pixel by pixel); empty: without it.
    """

    chapter: ClassVar[str] = "07_baselines"

    rules: Annotated[list[Rule], Field(min_length=1)]
    digits_lengths: list[SequenceLength]

    def conditions(self) -> list[Condition]:
        """Readout and the rules asked for."""
        return [READOUT, *(Condition(RULES[rule], rule) for rule in self.rules)]

    def problems(self) -> list[tuple[TaskName, int]]:
        """The tasks at their lengths, then the digits at theirs."""
        return [*super().problems(), *(("sequential_digits", length) for length in self.digits_lengths)]
