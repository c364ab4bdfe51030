"""09_how_far: the longest sequences that each learning rule solves, with every rule under the same optimiser."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lra_companion.config import Count, ProtocolConfig
from lra_companion.experiments.comparison import READOUT, Condition, WithDigits

Rule = Literal[
    "bptt",
    "bptt_clipped",
    "bptt_clipped_omega",
    "tptt",
    "lra",
    "lra_omega",
    "lra_per_example",
    "lra_per_example_omega",
    "lra_normalised",
    "lra_normalised_omega",
]
Preset = Literal["paper", "recommended"]
RULES: dict[Rule, str] = {
    "bptt": "bptt",
    "bptt_clipped": "bptt, clipped",
    "bptt_clipped_omega": "bptt, clipped + Ω",
    "tptt": "tptt",
    "lra": "lra",
    "lra_omega": "lra + Ω",
    "lra_per_example": "lra, per example",
    "lra_per_example_omega": "lra, per example + Ω",
    "lra_normalised": "lra, normalised",
    "lra_normalised_omega": "lra, normalised + Ω",
}
"""What figures call each rule, by the group of its settings under plain SGD."""
PLAIN = ", SGD"
"""What is put behind a rule's name where it is trained by plain SGD."""


class HowFarParameters(WithDigits):
    """09_how_far: rules side by side over lengths, each with a search of its own, all under Adam.

    sgd_rules: those that are run under plain SGD as well, the paper's optimiser. presets: settings under a name, which are the
    same on every task and length. search_iterations, search_patience: max_iterations and patience of the searches' trials.
    """

    chapter: ClassVar[str] = "09_how_far"

    rules: Annotated[list[Rule], Field(min_length=1)]
    sgd_rules: list[Rule]
    presets: list[Preset]
    search_iterations: Count
    search_patience: Count

    def search_protocol(self) -> ProtocolConfig:
        """As of the runs, but shorter: a setting that needs longer than this is not found."""
        shorter = {"max_iterations": self.search_iterations, "patience": self.search_patience}
        return self.protocol().model_copy(update=shorter)

    def conditions(self) -> list[Condition]:
        """Readout and the rules under Adam, then the rules under plain SGD."""
        found = [Condition(READOUT.label, "readout_adam")]
        found += [Condition(RULES[rule], f"{rule}_adam") for rule in self.rules]
        found += [Condition(plain_label(rule), rule) for rule in self.sgd_rules]
        return found + [Condition(preset_label(name), preset=name) for name in self.presets]


def preset_label(name: Preset) -> str:
    """What figures call LRA with a preset."""
    return f"lra, {name}"


def plain_label(rule: Rule) -> str:
    """What figures call a rule under plain SGD; Ω stays last."""
    name, *omega = RULES[rule].partition(" + Ω")
    return name + PLAIN + "".join(omega)
