"""08_released_code: its tables, the one at a glance first, and the runs of the public code beside ours."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np
import pandas as pd

from lra_companion.config import RELEASED_PARTS, TaskName
from lra_companion.experiments import ReleasedCodeParameters
from lra_companion.findings.outcomes import Outcome
from lra_companion.findings.released_code import DIFFERENCES, PART_TITLES, Difference, Fidelity
from lra_companion.findings.released_gradients import Comparison, Turn, turn
from lra_companion.reporting import TASK_TITLES, condition
from lra_companion.statistics import (
    Estimate,
)


def at_a_glance(
    parameters: ReleasedCodeParameters, found: Sequence[Fidelity], compared: Sequence[Comparison]
) -> pd.DataFrame:
    """The chapter's table: a row per difference, between the two ends."""
    alpha = parameters.regularisation_strength
    rows = [_end_row("as described", "lra", turn(compared, "lra", "lra", alpha), found)]
    rows[0]["left out: angle to released"] = degrees(turn(compared, "lra", "lra_released", alpha).to_base)
    for difference in DIFFERENCES:
        row = {"": difference.label, "described → released": difference.words}
        if difference.part is not None:
            row |= _gradient_cells(turn(compared, f"+ {difference.part}", "lra", alpha))
            back = turn(compared, f"- {difference.part}", "lra_released", alpha)
            row["left out: angle to released"] = degrees(back.to_base)
        else:
            row |= dict.fromkeys([*_GRADIENT_COLUMNS, "left out: angle to released"], _NOTHING)
        rows.append(row | {_accuracy_column(each): _accuracy_cell(difference, each) for each in found})
    rows.append(_end_row("as released", "lra_released", turn(compared, "lra_released", "lra", alpha), found))
    rows[-1]["left out: angle to released"] = degrees(0.0)
    return pd.DataFrame(rows).set_index("")


_GRADIENT_COLUMNS = ("angle to lra", "angle to exact", "norm / lra's")
_NOTHING = "–"


def _gradient_cells(found: Turn) -> dict[str, str]:
    values = (degrees(found.to_base), degrees(found.to_exact), _number(found.ratio))
    return dict(zip(_GRADIENT_COLUMNS, values, strict=True))


def _end_row(label: str, learner: str, found: Turn, tasks: Sequence[Fidelity]) -> dict[str, str]:
    row = {"": label, "described → released": learner} | _gradient_cells(found)
    row["left out: angle to released"] = _NOTHING
    return row | {_accuracy_column(each): f"{with_omega(each, learner).accuracy:.2f}" for each in tasks}


def with_omega(found: Fidelity, learner: str) -> Outcome:
    """The outcome of a learner with Ω."""
    (outcome,) = (o for o in found.outcomes.values() if o.learner == learner and o.strength > 0)
    return outcome


def _accuracy_column(found: Fidelity) -> str:
    return f"accuracy, {found.title}"


def _accuracy_cell(difference: Difference, found: Fidelity) -> str:
    """Lone effect on the accuracy of ``lra``; for (viii), which needs the public code's Ω, how many of its runs end."""
    if difference.label == "(vi)":
        return signed(found.start["lra"].iqm)
    if difference.label == "(vii)":
        return signed(found.selection["lra"].iqm)
    if difference.label == "(viii)":
        ended = sum(at is not None for at in found.nan.values())
        return f"{ended} of {len(found.nan)} runs end{ended_after(found)}"
    pair = found.added.get(difference.part) if difference.part else None
    return _NOTHING if pair is None else signed(pair.iqm)


def ended_after(found: Fidelity) -> str:
    """Within how many iterations NaN ended half of the runs it ended, in brackets; empty where it ended none."""
    ended = [at for at in found.nan.values() if at is not None]
    return f" (half of them within {np.median(ended):.0f} iterations)" if ended else ""


def signed(estimate: Estimate, digits: int = 2) -> str:
    """A difference with its sign and interval, for tables and prose."""
    spec = f"+z.{digits}f"
    if np.isnan(estimate.low):
        return f"{estimate.value:{spec}} (n = {estimate.n})"
    return f"{estimate.value:{spec}} [{estimate.low:{spec}}, {estimate.high:{spec}}]"


def degrees(value: float) -> str:
    """An angle, for tables and prose."""
    if np.isnan(value):
        return _NOTHING
    return f"{value:.0f}°" if value >= 10 else f"{value:.1f}°" if value >= 0.05 else "0°"


def _number(value: float) -> str:
    return _NOTHING if np.isnan(value) else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def gradient_table(parameters: ReleasedCodeParameters, compared: Sequence[Comparison]) -> pd.DataFrame:
    """How the two ends stand to the exact gradient and to one another, through training: medians over seeds."""
    rows = []
    for task in parameters.tasks:
        for alpha in (0.0, parameters.regularisation_strength):
            for point in [0, *sorted(parameters.early_iterations), parameters.max_iterations]:
                own, other = (
                    turn(compared, name, name, alpha, "exact", point, task)
                    for name in ("lra", "lra_released")
                )
                between = turn(compared, "lra_released", "lra", alpha, None, point, task)
                rows.append(
                    {
                        "task": TASK_TITLES[task],
                        "α": f"{alpha:g}",
                        "iterations": point,
                        "lra: angle to exact": degrees(own.to_exact),
                        "norm / exact": _number(own.ratio),
                        "released: angle to exact": degrees(other.to_exact),
                        "norm / exact ": _number(other.ratio),
                        "between the two": degrees(between.to_base),
                    }
                )
    return pd.DataFrame(rows).set_index(["task", "α", "iterations"])


def accuracy_table(found: Sequence[Fidelity]) -> pd.DataFrame:
    """In numbers: each part added to LRA, and each taken out of the public code, where any was."""
    rows = []
    for each in found:
        for part in RELEASED_PARTS:
            if part not in each.added and part not in each.removed:
                continue
            row = {"task": each.title, "difference": PART_TITLES[part]}
            both = [("lra + it", each.added), ("released − it", each.removed)]
            for label, pairs in both[: 1 + bool(each.removed)]:
                pair = pairs.get(part)
                row[label] = signed(pair.iqm) if pair else _NOTHING
                row[f"{label}: better"] = _share(pair.improved) if pair else _NOTHING
            row["lra + it: solved"] = (
                _share(each.added_solved[part]) if part in each.added_solved else _NOTHING
            )
            rows.append(row)
        row = {
            "task": each.title,
            "difference": "none: lra",
            "lra + it: solved": _share(with_omega(each, "lra").solved),
        }
        rows.append(dict.fromkeys(rows[-1], _NOTHING) | row)
    return pd.DataFrame(rows).set_index(["task", "difference"])


def _share(estimate: Estimate) -> str:
    return estimate.tally


REFERENCE = resources.files("lra_companion") / "data" / "released_measurements.csv"
"""Runs of the public code itself, once and with one seed: outcome, iterations and best accuracy on the set that stops.

nan_guard: run with the one mend that Ω contributes nothing where its error is 0.
"""

_OUTCOMES = {"solved": "solved", "ran on": "unsolved", "nan": "ended in NaN"}


def reference_table(parameters: ReleasedCodeParameters, found: Sequence[Fidelity]) -> pd.DataFrame:
    """Runs of the public code at the chapter's settings, beside this book's ``lra_released``: both their best validation
    accuracy, which each measures from its own start (vi). Rows where nothing was run with the public code are left out.
    """
    with REFERENCE.open(encoding="utf-8") as file:
        measured = list(csv.DictReader(file))
    rows = []
    for each in found:
        for row in measured:
            alpha = float(row["regularisation_strength"])
            if not _same_settings(parameters, each.task, row) or alpha not in (
                0.0,
                parameters.regularisation_strength,
            ):
                continue
            ours = each.outcomes[condition("lra_released", alpha)].curves.matrix.max(1)
            # rounded as they are shown, or a row might contradict itself
            best, low, high = (
                round(float(value), 2) for value in (row["best_validation_accuracy"], min(ours), max(ours))
            )
            side = "below" if best < low else "above" if best > high else "within"
            at = row["first_at_9999"] or row["iterations"]
            rows.append(
                {
                    "task": each.title,
                    "α": f"{alpha:g}",
                    "Ω guarded": row["nan_guard"],
                    "public code": f"{_OUTCOMES[row['outcome']]}, {at} iterations",
                    "its best accuracy, and where in our range": f"{best:.2f}, {side}",
                    f"lra_released, guarded, {parameters.max_iterations} iterations": f"{low:.2f} to {high:.2f}",
                }
            )
    return pd.DataFrame(rows)


def _same_settings(parameters: ReleasedCodeParameters, task: TaskName, row: Mapping[str, str]) -> bool:
    settings = parameters.settings[task]
    return (
        row["task"] == task
        and row["local_loss"] == parameters.local_loss
        and [int(row["sequence_length"]), int(row["inner_steps"])]
        == [parameters.sequence_length, parameters.inner_steps]
        and [float(row[name]) for name in ("learning_rate", "target_step_size", "clip_norm")]
        == [settings.learning_rate, settings.target_step_size, parameters.clip_norm]
    )
