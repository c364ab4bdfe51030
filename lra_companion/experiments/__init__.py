"""The book's experiments as data: each notebook's parameters, and the runs they ask for.

A notebook's first cell checks its parameters here: a misspelt name or a wrong value stops it before anything is trained.
``status`` and ``book`` read the same lists of runs without opening a notebook.
"""

from __future__ import annotations

from lra_companion.experiments.base import NotebookParameters, TrainingParameters, did_you_mean
from lra_companion.experiments.baselines import BaselineParameters
from lra_companion.experiments.claims import ClaimsParameters
from lra_companion.experiments.clipping import ClippingParameters
from lra_companion.experiments.comparison import READOUT, ComparisonParameters, Condition, UntunedError
from lra_companion.experiments.groups import GROUPS, Group, TunedSettings, TuningPlan
from lra_companion.experiments.how_far import HowFarParameters
from lra_companion.experiments.losses import LocalLossParameters
from lra_companion.experiments.reduction import ReductionParameters
from lra_companion.experiments.regularisation import RegularisationParameters
from lra_companion.experiments.released_code import ReleasedCodeParameters, ReleasedCodeSettings
from lra_companion.experiments.tasks import TasksParameters
from lra_companion.experiments.vanishing_gradients import VanishingParameters
from lra_companion.experiments.when_it_works import WhenItWorksParameters

__all__ = [
    "GROUPS",
    "NOTEBOOKS",
    "READOUT",
    "BaselineParameters",
    "ClaimsParameters",
    "ClippingParameters",
    "ComparisonParameters",
    "Condition",
    "Group",
    "HowFarParameters",
    "LocalLossParameters",
    "NotebookParameters",
    "ReductionParameters",
    "RegularisationParameters",
    "ReleasedCodeParameters",
    "ReleasedCodeSettings",
    "TasksParameters",
    "TrainingParameters",
    "TunedSettings",
    "TuningPlan",
    "UntunedError",
    "VanishingParameters",
    "WhenItWorksParameters",
    "did_you_mean",
]

NOTEBOOKS: dict[str, type[NotebookParameters]] = {
    parameters.chapter: parameters
    for parameters in (
        TasksParameters,
        VanishingParameters,
        ClippingParameters,
        LocalLossParameters,
        RegularisationParameters,
        ReductionParameters,
        BaselineParameters,
        ReleasedCodeParameters,
        HowFarParameters,
        ClaimsParameters,
        WhenItWorksParameters,
    )
}
"""Parameters of each notebook, by its name and in the order of the book."""
