"""The figures that comparisons share: each function takes panels and the labels to show, and leaves a drawn figure.

A label looks the same in every figure and chapter: a rule's own colour and marker, hollow and broken without Ω, filled and
solid with it. The control is in every picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log, nan

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from lra_companion import plots
from lra_companion.findings.comparison import Panel
from lra_companion.findings.outcomes import Outcome
from lra_companion.plots import BLUE, BROWN, CONDITION_STYLES, GREEN, PURPLE, RED, Cell, Look, Looks
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import Estimate

OMEGA = " + Ω"
Pairs = Mapping[str, tuple[str, str]]
Series = Mapping[str, Sequence[str]]
_RULES = CONDITION_STYLES | {
    "bptt, clipped": Look(GREEN, "-.", "H"),
}
_FURTHER = [
    *((BLUE, "^"), (RED, "v"), (GREEN, "d"), (PURPLE, "p"), (BROWN, "h")),
    *((RED, "s"), (GREEN, "*"), (PURPLE, "<"), (BROWN, ">"), (BLUE, "D")),
]


def looks_of(labels: Sequence[str]) -> dict[str, Look]:
    """A look for each label: that of its rule, or where it names none the next free colour and marker."""
    further = [name for name in dict.fromkeys(map(_plain, labels)) if name not in _RULES]
    found = {}
    for label in labels:
        name = _plain(label)
        if name in CONDITION_STYLES:
            plain = CONDITION_STYLES[name]
            omega = replace(plots.condition_look(name, 1.0), marker=plain.marker)
        elif name in _RULES:
            plain = _RULES[name]
            omega = replace(plain, linestyle="-", filled=True)
        else:
            color, marker = _FURTHER[further.index(name) % len(_FURTHER)]
            plain = Look(color, "--", marker)
            omega = replace(plain, linestyle="-", filled=True)
        found[label] = plain if label == name else omega
    return found


def _plain(label: str) -> str:
    return label.removesuffix(OMEGA)


def _rows(panels: Sequence[Panel], height: float) -> list[Axes]:
    """One row of Axes for each panel, titled, with one x axis."""
    _, axes = plt.subplots(
        len(panels), 1, figsize=(7, height * len(panels) + 0.4), squeeze=False, sharex=True
    )
    for axis, panel in zip(axes.flat, panels, strict=True):
        axis.set_title(panel.title)
    return list(axes.flat)


def draw_curves(panels: Sequence[Panel], labels: Sequence[str], looks: Looks) -> None:
    """Validation accuracy while training: every seed, interquartile mean and range, and chance."""
    rows = _rows(panels, 3.1)
    for axes, panel in zip(rows, panels, strict=True):
        for label, outcome in _shown(panel, labels).items():
            curves = outcome.curves
            plots.accuracy_curves(axes, curves.iterations, curves.matrix, label, looks[label], curves.flagged)
        plots.reference_line(axes, panel.chance)
        axes.label_outer()
    for axes in rows:
        plots.label_ends(axes)


def draw_test_accuracy(panels: Sequence[Panel], labels: Sequence[str], looks: Looks) -> None:
    """A row for each condition: its test accuracy, with interval and seeds."""
    most = max(len(_shown(panel, labels)) for panel in panels)
    rows = _rows(panels, 0.5 + 0.42 * most)
    for axes, panel in zip(rows, panels, strict=True):
        shown = _shown(panel, labels)
        plots.estimate_dots(
            axes,
            {label: outcome.accuracy for label, outcome in shown.items()},
            looks,
            {label: list(outcome.scores.values()) for label, outcome in shown.items()},
        )
    rows[-1].set_xlabel("test accuracy")


def draw_differences(panels: Sequence[Panel], pairs: Callable[[Panel], Pairs], looks: Looks) -> None:
    """A row for each pair (treated, control): differences in test accuracy within seeds, in the look of the treated, or, where
    the control is the readout, in the readout's.
    """
    rows = _rows(panels, 2.2)
    for axes, panel in zip(rows, panels, strict=True):
        compared = {name: panel.difference(*pair) for name, pair in pairs(panel).items()}
        row_looks = {
            name: looks["readout" if control == "readout" else treated]
            for name, (treated, control) in pairs(panel).items()
        }
        plots.paired_differences(axes, compared, row_looks)
    rows[-1].set_xlabel("difference in test accuracy")


def draw_solving(panels: Sequence[Panel], labels: Sequence[str], looks: Looks) -> None:
    """Share of runs not solved yet (Kaplan-Meier)."""
    rows = _rows(panels, 2.6)
    for axes, panel in zip(rows, panels, strict=True):
        for label, outcome in _shown(panel, labels).items():
            plots.survival_curve(axes, outcome.solving, label, looks[label], band=False)
        axes.label_outer()
    for axes in rows:
        plots.label_ends(axes)


def draw_against(
    panels: Sequence[Panel], series: Series, levels: Sequence[str], xlabel: str, looks: Looks
) -> None:
    """Test accuracy against a setting: each of the ``series`` names a condition for every level; the readout as a band."""
    rows = _rows(panels, 2.5)
    for axes, panel in zip(rows, panels, strict=True):
        readout = panel.outcomes["readout"].accuracy
        plots.level_series(axes, range(len(levels)), [readout] * len(levels), "readout", looks["readout"])
        for name, labels in series.items():
            estimates = [panel.outcomes[label].accuracy for label in labels]
            plots.level_series(axes, range(len(levels)), estimates, name, looks[name])
        axes.set(ylabel="test accuracy", ylim=(0, 1.03), xticks=range(len(levels)), xticklabels=levels)
        axes.label_outer()
    rows[-1].set_xlabel(xlabel)
    for axes in rows:
        plots.label_ends(axes)


def draw_clipped(panels: Sequence[Panel], series: Series, levels: Sequence[str], looks: Looks) -> None:
    """Share of steps that eq. 3 rescaled, against c; the control has no such steps."""
    rows = _rows(panels, 2.2)
    for axes, panel in zip(rows, panels, strict=True):
        for name, labels in series.items():
            shares = [panel.outcomes[label].clipped for label in labels]
            known = [nan if share is None else share for share in shares]
            plots.level_series(
                axes, range(len(levels)), [_point(share) for share in known], name, looks[name]
            )
        axes.set(ylabel="steps rescaled", ylim=(-0.03, 1.05), xticks=range(len(levels)), xticklabels=levels)
        axes.label_outer()
    rows[-1].set_xlabel("c")
    for axes in rows:
        plots.label_ends(axes)


def draw_against_length(tasks: Sequence[Sequence[Panel]], labels: Sequence[str], looks: Looks) -> None:
    """Test accuracy against the sequence length: ``tasks`` are the panels of each task by length."""
    lengths = sorted({panel.sequence_length for panels in tasks for panel in panels})
    _, grid = plt.subplots(len(tasks), 1, figsize=(7, 2.8 * len(tasks) + 0.4), squeeze=False, sharex=True)
    for axes, panels in zip(grid.flat, tasks, strict=True):
        for label in labels:
            there = [panel for panel in panels if label in panel.outcomes]
            places = [lengths.index(panel.sequence_length) for panel in there]
            estimates = [panel.outcomes[label].accuracy for panel in there]
            if there:
                plots.level_series(axes, places, estimates, label, looks[label])
        axes.set(ylabel="test accuracy", ylim=(0, 1.03), xlim=(-0.2, len(lengths) - 0.8))
        axes.set(xticks=range(len(lengths)), xticklabels=lengths, title=TASK_TITLES[panels[0].task])
        plots.reference_line(axes, panels[0].chance)
    grid.flat[-1].set_xlabel("sequence length T")
    for axes in grid.flat:
        plots.label_ends(axes)


def draw_cells(
    tasks: Sequence[Sequence[Panel]], labels: Sequence[str], cell: Callable[[Panel, Outcome], Cell]
) -> None:
    """What each rule (rows) came to at each length (columns): one panel for each task's panels by length."""
    height = (0.26 * len(labels) + 0.75) * len(tasks)
    _, grid = plt.subplots(len(tasks), 1, figsize=(7, height), squeeze=False)
    for axes, panels in zip(grid.flat, tasks, strict=True):
        cells = [
            [cell(panel, panel.outcomes[label]) if label in panel.outcomes else None for panel in panels]
            for label in labels
        ]
        plots.shaded_cells(axes, labels, [str(panel.sequence_length) for panel in panels], cells)
        axes.set(title=TASK_TITLES[panels[0].task], xlabel="sequence length T")


def solved(_: Panel, outcome: Outcome) -> Cell:
    """How many of the seeds solved the task: the more, the darker."""
    return outcome.solved.value, f"{outcome.solved.count}/{outcome.solved.n}"


def accuracy(panel: Panel, outcome: Outcome) -> Cell:
    """Test accuracy, from pale at chance to dark at 1."""
    value = outcome.accuracy.value
    return max(0.0, (value - panel.chance) / (1 - panel.chance)), f"{value:.2f}"


def soon(_: Panel, outcome: Outcome) -> Cell:
    """Iterations until half of the seeds had solved the task: the fewer, the darker, on a logarithmic scale that is pale where
    they had not.
    """
    half, protocol = outcome.half_solved, outcome.config.protocol
    if half is None:
        return 0.0, "-"
    checks = log(protocol.max_iterations / protocol.validate_every)
    # the first check is as soon as it can be known, and a run that was solved is not quite pale
    return 1 - 0.9 * log(half / protocol.validate_every) / checks if checks else 1.0, str(half)


def _shown(panel: Panel, labels: Sequence[str]) -> dict[str, Outcome]:
    return {label: panel.outcomes[label] for label in labels if label in panel.outcomes}


def _point(value: float) -> Estimate:
    """A value without an interval."""
    return Estimate(value, nan, nan, 0.95, 1)
