"""Pictures of the tasks' sequences: like ``plots``, each function draws given arrays on given Axes and returns the Axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from lra_companion.plots import BLUE, FAINT, INK, PAPER, Names, Spans, size_in_points

_SIGNALS = ("#0a4a7a", "#f0a94e")  # symbols that are to be remembered, and those that are not
_DISTRACTORS = ("#f0ede6", "#e6e2d8", "#eceff0", "#dfe3e5")


def sample_sequences(
    axes: Axes, symbols: ArrayLike, names: Names, relevant: ArrayLike, targets: Names, intervals: Spans
) -> Axes:
    """Sequences (samples, T) of symbol numbers as rows of cells with the symbols' ``names``, the ``relevant`` ones
    (samples, T) strong and outlined. Where cells are too narrow for all names, only the relevant ones are written.
    """
    numbers, important = np.asarray(symbols), np.asarray(relevant, dtype=bool)
    _sample_frame(axes, numbers, targets, intervals)
    room = size_in_points(axes)[0] / numbers.shape[1] >= 7 * max(
        len(names[number]) for number in numbers.flat
    )
    for (row, step), number in np.ndenumerate(numbers):
        strong, odd = important[row, step], number % 2
        face = _SIGNALS[odd] if strong else _DISTRACTORS[number % 4]
        edge = {"edgecolor": INK, "lw": 1.8, "zorder": 3} if strong else {"edgecolor": PAPER, "lw": 1}
        axes.add_patch(Rectangle((step, row + 0.1), 1, 0.8, facecolor=face, **edge))
        if strong or room:
            look = {"color": (PAPER, INK)[odd], "weight": "bold"} if strong else {"color": "#555555"}
            middle = {"ha": "center", "va": "center", "zorder": 4}
            axes.text(step + 0.5, row + 0.5, names[int(number)], size=8.5, **look, **middle)
    return axes


def sample_sums(axes: Axes, values: ArrayLike, marked: ArrayLike, targets: Names, intervals: Spans) -> Axes:
    """Sequences (samples, T) of numbers in [0, 1] as rows of bars, the ``marked`` (samples, T) dark, with their number."""
    heights, important = np.asarray(values), np.asarray(marked, dtype=bool)
    _sample_frame(axes, heights, targets, intervals)
    for (row, step), height in np.ndenumerate(heights):
        face, top = BLUE if important[row, step] else FAINT, row + 0.95 - 0.65 * height
        axes.add_patch(Rectangle((step + 0.15, top), 0.7, 0.65 * height, facecolor=face))
        if important[row, step]:
            axes.text(step + 0.5, top - 0.05, f"{height:.2f}", ha="center", size=8.5, weight="bold")
    return axes


def sample_images(axes: Axes, images: ArrayLike, targets: Names) -> Axes:
    """Pictures (samples, height, width) of brightness in [0, 1] side by side, each with its target."""
    pictures = np.asarray(images)
    _, height, width = pictures.shape
    for column, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
        left = column * (width + 1)
        axes.imshow(picture, cmap="Greys", vmin=0, vmax=1, extent=(left, left + width, height, 0))
        axes.text(left + width / 2, height + 1, target, ha="center", va="center")
    axes.set(xlim=(0, len(pictures) * (width + 1)), ylim=(height + 2, 0))
    axes.set_axis_off()
    return axes


def _sample_frame(axes: Axes, samples: NDArray[Any], targets: Names, intervals: Spans) -> None:
    """A row for each sample, a column for each step, brackets over the marker intervals, targets at the right."""
    count, steps = samples.shape
    for index, (low, high) in enumerate(intervals):
        left, right = low + 0.1, high - 0.1
        axes.plot([left, left, right, right], [0, -0.15, -0.15, 0], color=INK, linewidth=1.2)
        name = f"marker {index + 1}" if len(intervals) > 1 else "marker"
        axes.text((low + high) / 2, -0.25, name, ha="center", size=9)
    axes.text(steps * 1.02, -0.25, "target", size=9)
    for row, target in enumerate(targets):
        axes.text(steps * 1.02, row + 0.5, target, va="center")
    axes.set(xlim=(0, steps), ylim=(count, -0.9), yticks=[], xlabel="position in the sequence")
    axes.set_xticks(np.arange(0, steps, 5) + 0.5, [str(step) for step in range(0, steps, 5)])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
