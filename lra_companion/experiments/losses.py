"""04_local_losses: does it matter how a state's distance from its target is measured?"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from lra_companion.config import LocalLossName
from lra_companion.experiments.comparison import READOUT, ComparisonParameters, Condition


class LocalLossParameters(ComparisonParameters):
    """04_local_losses: LRA without and with Ω under each local loss, every one with a search of its own."""

    chapter: ClassVar[str] = "04_local_losses"

    local_losses: Annotated[list[LocalLossName], Field(min_length=1)]

    def conditions(self) -> list[Condition]:
        """Readout; each loss without and with Ω. The common local loss takes the settings of plain ``lra``."""
        found = [READOUT]
        for loss in self.local_losses:
            group = "lra" if loss == self.local_loss else f"lra_{loss}"
            found += [
                Condition(loss_label(loss, False), group),
                Condition(loss_label(loss, True), f"{group}_omega"),
            ]
        return found


def loss_label(loss: LocalLossName, regularised: bool) -> str:
    """What figures call LRA with this loss."""
    return f"{loss} + Ω" if regularised else loss
