"""05_regularisation: does Ω help, at which strength, and where does it have to act?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lra_companion.config import NonNegative
from lra_companion.experiments.comparison import READOUT, ComparisonParameters, Condition

Place = Literal["targets", "recurrent", "readout", "input"]
PLACES: dict[Place, str] = {
    "targets": "targets",
    "recurrent": "W_hh",
    "readout": "W_hy",
    "input": "W_xh",
}
"""What figures call the places where Ω can act."""


class RegularisationParameters(ComparisonParameters):
    """05_regularisation: LRA without and with Ω, and the readout as control.

    Strengths and places are shown with the other settings tuned for Ω on all places. learners: lra, lra_released or both;
    places are switches of lra alone.
    """

    chapter: ClassVar[str] = "05_regularisation"

    learners: Annotated[list[Literal["lra", "lra_released"]], Field(min_length=1)]
    regularisation_strengths: list[NonNegative]
    places: list[Place]

    def conditions(self) -> list[Condition]:
        """Readout; each learner without Ω, with the tuned Ω and at each strength; lra with Ω on one place at a time."""
        found = [READOUT]
        for learner in self.learners:
            found += [Condition(learner, learner), Condition(f"{learner} + Ω", f"{learner}_omega")]
            found += [
                Condition(
                    strength_label(learner, strength),
                    f"{learner}_omega",
                    {"regularisation_strength": strength},
                )
                for strength in sorted(self.regularisation_strengths)
            ]
        if "lra" in self.learners:
            found += [
                Condition(
                    place_label(place),
                    "lra_omega",
                    {f"regularise_{other}": other == place for other in PLACES},
                )
                for place in self.places
            ]
        return found

    def place_labels(self) -> list[str]:
        """The conditions with Ω on one place alone."""
        return [place_label(place) for place in self.places if "lra" in self.learners]


def strength_label(learner: str, strength: float) -> str:
    """What figures call a learner at a given strength of Ω."""
    return f"{learner}, α = {strength:.15g}"


def place_label(place: Place) -> str:
    """What figures call lra with Ω on one place alone."""
    return f"lra + Ω on {PLACES[place]}"
