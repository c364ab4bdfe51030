"""Pictures of the tasks: a few sequences drawn from the same generators that training uses."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lra_companion import task_pictures
from lra_companion.config import TaskConfig, TaskName
from lra_companion.experiments import TasksParameters
from lra_companion.tasks import make_task

_LETTERS = ("A", "B", "c", "d", "e", "f")


def draw_samples(name: TaskName, parameters: TasksParameters) -> Axes:
    """Draw the first training sequences of a task's first seed on new Axes."""
    task = make_task(TaskConfig(name=name, sequence_length=parameters.sequence_length))
    batch = task.batch(parameters.seeds[:1], 0, parameters.shown_samples)
    inputs, targets = batch.inputs[:, 0].numpy(), batch.targets[0].numpy()  # (T, B[, I]), (B[, O])
    _, axes = plt.subplots(figsize=(7, 0.45 * parameters.shown_samples + 1.1))
    if name == "sequential_digits":
        return task_pictures.sample_images(
            axes, inputs.swapaxes(0, 1).reshape(-1, 8, 8), [str(digit) for digit in targets]
        )
    if not task.symbols:
        marked = inputs[..., 1].T == 1
        sums = [f"{target:.2f}" for target in targets[:, 0]]
        return task_pictures.sample_sums(axes, inputs[..., 0].T, marked, sums, task.marker_intervals)
    relevant = _relevant(inputs.T, task.marker_intervals)
    names = (
        _LETTERS if task.input_size == len(_LETTERS) else [str(symbol) for symbol in range(task.input_size)]
    )
    answers = [
        "".join(names[symbol] for symbol in row[keep]) for row, keep in zip(inputs.T, relevant, strict=True)
    ]
    return task_pictures.sample_sequences(axes, inputs.T, names, relevant, answers, task.marker_intervals)


def _relevant(symbols: NDArray[np.int64], intervals: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Where, in sequences (B, T), the answer stands: symbols 0 and 1 within the marker intervals."""
    steps = np.arange(symbols.shape[1])
    inside = np.any([(low <= steps) & (steps < high) for low, high in intervals], axis=0)
    return (symbols < 2) & inside
