"""The book's experiments as data: each notebook's parameters, and the runs they ask for.

A notebook's first cell checks its parameters here: a misspelt name or a wrong value stops it before anything is trained.
``status`` and ``book`` read the same lists of runs without opening a notebook.
"""

from __future__ import annotations

from lra_companion.experiments.base import NotebookParameters, did_you_mean
from lra_companion.experiments.regularisation import (
    PlainSettings,
    ReadoutSettings,
    RegularisationParameters,
    RegularisedSettings,
    TaskSettings,
)
from lra_companion.experiments.released_code import ReleasedCodeParameters, ReleasedCodeSettings
from lra_companion.experiments.tasks import TasksParameters

__all__ = [
    "NOTEBOOKS",
    "NotebookParameters",
    "PlainSettings",
    "ReadoutSettings",
    "RegularisationParameters",
    "RegularisedSettings",
    "ReleasedCodeParameters",
    "ReleasedCodeSettings",
    "TaskSettings",
    "TasksParameters",
    "did_you_mean",
]

NOTEBOOKS: dict[str, type[NotebookParameters]] = {
    parameters.chapter: parameters
    for parameters in (TasksParameters, RegularisationParameters, ReleasedCodeParameters)
}
"""Parameters of each notebook, by its name and in the order of the book."""
