"""What the experiments show: every comparison of a chapter, from the runs to the sentence at its top.

All intervals are 95 % percentile bootstraps over seeds (Wilson for shares), drawn from one explicit generator.
"""

from __future__ import annotations

from lra_companion.findings.baselines import baselines_finding, longest_solved
from lra_companion.findings.clipping import clipping_effects, clipping_finding, clipping_series
from lra_companion.findings.comparison import Panel, by_task, in_focus, panels, summary
from lra_companion.findings.how_far import (
    how_far_finding,
    omega_tally,
    real_data_finding,
    shortfalls,
    solved_table,
)
from lra_companion.findings.losses import losses_finding
from lra_companion.findings.outcomes import Outcome
from lra_companion.findings.regularisation import (
    places_sentence,
    regularisation_differences,
    regularisation_finding,
    strength_series,
)
from lra_companion.findings.released_code import (
    DIFFERENCES,
    PART_TITLES,
    Difference,
    Fidelity,
    fidelity,
    released_panels,
)
from lra_companion.findings.released_gradients import Comparison, Turn, comparisons, turn, turns_by_seed
from lra_companion.findings.released_sentences import (
    clipping_sentence,
    fidelity_finding,
    omega_sentence,
    protocol_sentences,
)
from lra_companion.findings.released_tables import (
    accuracy_table,
    at_a_glance,
    gradient_table,
    reference_table,
)
from lra_companion.findings.tasks import ReadoutLevel, readout_levels, readout_sentence

__all__ = [
    "DIFFERENCES",
    "PART_TITLES",
    "Comparison",
    "Difference",
    "Fidelity",
    "Outcome",
    "Panel",
    "ReadoutLevel",
    "Turn",
    "accuracy_table",
    "at_a_glance",
    "baselines_finding",
    "by_task",
    "clipping_effects",
    "clipping_finding",
    "clipping_sentence",
    "clipping_series",
    "comparisons",
    "fidelity",
    "fidelity_finding",
    "gradient_table",
    "how_far_finding",
    "in_focus",
    "longest_solved",
    "losses_finding",
    "omega_sentence",
    "omega_tally",
    "panels",
    "places_sentence",
    "protocol_sentences",
    "readout_levels",
    "readout_sentence",
    "real_data_finding",
    "reference_table",
    "regularisation_differences",
    "regularisation_finding",
    "released_panels",
    "shortfalls",
    "solved_table",
    "strength_series",
    "summary",
    "turn",
    "turns_by_seed",
]
