"""What the experiments show: every comparison of a chapter, from the runs to the sentence at its top.

All intervals are 95 % percentile bootstraps over seeds (Wilson for shares), drawn from one explicit generator.
"""

from __future__ import annotations

from lra_companion.findings.outcomes import Outcome
from lra_companion.findings.regularisation import Panel, finding, panels, summary
from lra_companion.findings.tasks import ReadoutLevel, readout_levels, readout_sentence

__all__ = [
    "Outcome",
    "Panel",
    "ReadoutLevel",
    "finding",
    "panels",
    "readout_levels",
    "readout_sentence",
    "summary",
]
