"""The pictures of when LRA works: maps of learning rate by target step size, angles in training, what robustness there is.

Like ``figures``: each function leaves a drawn figure. Colour is never the only cue: cells carry their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MultipleLocator

from lra_companion import plots
from lra_companion.experiments.when_it_works import RECOMMENDED, TargetSteps, Variant
from lra_companion.findings.decay import DecayComparison
from lra_companion.findings.when_it_works import RIGHT_ANGLE, Angles, Map, Results, iterations_needed
from lra_companion.gradient_pictures import profile
from lra_companion.plots import BLUE, GREEN, PAPER, RED, SHARES, Look, ink_on
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import interquartile_band

STEP_LOOKS: dict[TargetSteps, Look] = {
    "as they are": Look(RED, "--", "o"),
    "clipped": Look(GREEN, "-.", "D", filled=True),
    "normalised": Look(BLUE, "-", "s", filled=True),
}
"""How each way of bounding target steps looks."""
SOLVED = "●"
"""What stands in a cell in place of a number where all seeds solved the task."""


def draw_maps(found: Results) -> None:
    """For each task one panel for each variant: a row for each reduction without and with Ω, a column for each bound."""
    asked = found.parameters
    columns = len(asked.target_steps)
    rows = len(asked.variants()) // columns
    height = (0.26 * len(asked.learning_rates) + 0.5) * rows + 0.8
    figure = plt.figure(figsize=(7, height * len(asked.tasks)))
    parts = figure.subfigures(len(asked.tasks), 1, squeeze=False)
    for part, task in zip(parts.flat, asked.tasks, strict=True):
        part.suptitle(TASK_TITLES[task], x=0.01, ha="left")
        grid = part.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, variant in zip(grid.flat, asked.variants(), strict=True):
            cells = found.map(task, variant)
            phase_map(axes, cells, found.chance(task), asked.learning_rates, asked.target_step_sizes)
            axes.label_outer()
        for axes in grid[-1]:
            axes.set_xlabel("target step size β")
        for axes in grid[:, 0]:
            axes.set_ylabel("learning rate")


def phase_map(
    axes: Axes, cells: Map, chance: float, learning_rates: Sequence[float], step_sizes: Sequence[float]
) -> Axes:
    """Accuracy in per cent at each learning rate (rows, the smallest below) and target step size; a dot: all solved."""
    norm = Normalize(chance, 1)
    axes.pcolormesh(cells.accuracy, cmap=SHARES, norm=norm, edgecolors=PAPER, linewidth=1)
    for row, column in np.ndindex(*cells.accuracy.shape):
        value = cells.accuracy[row, column]
        text = SOLVED if cells.solved[row, column] else f"{100 * value:.0f}"
        color = ink_on(float(norm(value)))
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_title(cells.variant.label, fontsize=9)
    axes.set_xticks(np.arange(len(step_sizes)) + 0.5, [f"{size:g}" for size in step_sizes], fontsize=8)
    axes.set_yticks(
        np.arange(len(learning_rates)) + 0.5, [f"{rate:g}" for rate in learning_rates], fontsize=8
    )
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return axes


def draw_angles(found: Results) -> None:
    """The angle to the exact gradient over iterations: a panel for each task, reduction, and Ω or none."""
    asked = found.parameters
    panels: dict[str, list[Angles]] = {}
    for task in asked.tasks:
        for variant in asked.variants():
            name = f"{TASK_TITLES[task]}, {variant.reduction.replace('_', ' ')}{' + Ω' * variant.regularised}"
            panels.setdefault(name, []).append(found.angles(task, variant))
    _, grid = plt.subplots(len(panels), 1, figsize=(7, 1.9 * len(panels) + 0.4), squeeze=False, sharex=True)
    for axes, (name, every) in zip(grid.flat, panels.items(), strict=True):
        for angles in every:
            angle_curve(axes, angles, STEP_LOOKS[angles.variant.target_steps])
        plots.reference_line(axes, RIGHT_ANGLE, "right angle")
        axes.set(ylabel="degrees", ylim=(0, 125), title=name)
        axes.yaxis.set_major_locator(MultipleLocator(30))
        axes.margins(x=0)
    grid.flat[-1].set_xlabel("iteration")
    for axes in grid.flat:
        plots.label_ends(axes)


def angle_curve(axes: Axes, angles: Angles, look: Look) -> Axes:
    """Interquartile mean over seeds (line) and range (band)."""
    curves = angles.curves()
    centre, low, high = interquartile_band(curves.matrix)
    axes.fill_between(curves.iterations, low, high, color=look.color, alpha=0.15, linewidth=0)
    axes.plot(
        curves.iterations,
        centre,
        label=angles.variant.target_steps,
        ls=look.linestyle,
        lw=2,
        markevery=3,
        **look.marks,
    )
    return axes


def draw_displacements(found: Mapping[Variant, DecayComparison]) -> None:
    """Displacement by distance from the end, measured marks on predicted lines: a row for each reduction, a column for each
    bound, all on one scale. What falls below it rounding has eaten.
    """
    columns = len({variant.target_steps for variant in found})
    rows = len(found) // columns
    size = (7, 2.2 * rows + 0.4)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    for axes, (variant, comparison) in zip(grid.flat, found.items(), strict=True):
        look = STEP_LOOKS[variant.target_steps]
        profile(axes, comparison.norms, comparison.used, comparison.predicted, look)
        axes.set_title(variant.label, fontsize=9)
        axes.set_ylim(*_DISPLACEMENTS)
        axes.label_outer()
    figure.supylabel("target displacement")


_DISPLACEMENTS = (1e-18, 1e4)


def draw_variations(found: Results) -> None:
    """Iterations that each seed needs with the preset and one thing changed, a panel for each task."""
    asked = found.parameters
    names = list(asked.variations())
    height = (0.42 * len(names) + 0.5) * len(asked.tasks) + 0.4
    _, grid = plt.subplots(
        len(asked.tasks),
        1,
        figsize=(7, height),
        squeeze=False,
        sharex=True,
    )
    for axes, task in zip(grid.flat, asked.tasks, strict=True):
        outcomes = found.variations(task)
        looks = {name: STEP_LOOKS["normalised" if name == RECOMMENDED else "clipped"] for name in names}
        needed = {name: list(outcome.needed.values()) for name, outcome in outcomes.items()}
        solved = {name: outcome.solved for name, outcome in outcomes.items()}
        plots.iterations_needed(axes, iterations_needed(outcomes), needed, solved, looks)
        axes.set(title=TASK_TITLES[task], xlim=(0, asked.max_iterations * 1.02))
    grid.flat[-1].set_xlabel("iterations until solved")
