"""The picture of the verdicts: for each claim its estimates, task by task, against the region in which it holds.

Like ``plots``: colour is never the only cue. A method has its own marker, every row is named, and beside each interval stands
what it says; the region in which a claim holds is hatched and labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lra_companion.claims import METHODS, Answer, Evidence, Judgement, Method, Threshold
from lra_companion.findings.claims import estimate_text
from lra_companion.plots import CONDITION_STYLES, GREEN, INK, QUIET, Look

METHOD_LOOKS: dict[Method, Look] = {
    method: replace(CONDITION_STYLES[method], linestyle="-", filled=True) for method in METHODS
}
"""How the two methods look: as their learners do, always filled, since a row may be a difference."""
_ROW, _ABOVE, _BELOW = 0.42, 0.55, 0.7  # inches: of a row, and of what stands above and below a claim's rows
_LEFT, _WIDTH = (
    0.27,
    0.47,
)  # of the figure's width: where rows begin, whose names are to the left, and how far they go


def draw_claims(found: Sequence[Judgement]) -> None:
    """One panel for each claim, as high as it has rows.

    Panels are placed by hand: solved for by constrained layout, they come out different in the last bits from run to run.
    """
    claims = [list(group) for _, group in groupby(found, key=lambda each: each.claim.number)]
    rows = [_ROW * max(sum(len(each.evidence) for each in group), 1) for group in claims]
    height = sum(rows) + len(rows) * (_ABOVE + _BELOW)
    figure = plt.figure(figsize=(7, height), layout="none")
    top = height
    for group, inches in zip(claims, rows, strict=True):
        bottom = top - _ABOVE - inches
        claim_rows(figure.add_axes((_LEFT, bottom / height, _WIDTH, inches / height)), group)
        top = bottom - _BELOW


def claim_rows(axes: Axes, judgements: Sequence[Judgement]) -> Axes:
    """One claim: a row for each estimate, with its interval and what it says, on the region in which the claim holds."""
    claim = judgements[0].claim
    rows: list[tuple[Method, Evidence, Answer]] = [
        (each.method, piece, answer) for each in judgements for piece, answer in each.evidence
    ]
    verdicts = ", ".join(f"{METHODS[each.method]}: {each.words}" for each in judgements)
    axes.set_title(f"{'Aim' if claim.aim else 'Claim'} {claim.number}. {verdicts}", pad=17)
    axes.set_xlabel(fill(claim.quantity, 96), fontsize=9)
    numbers = [number for _, piece, _ in rows for number in (piece.estimate.low, piece.estimate.high)]
    numbers += [piece.estimate.value for _, piece, _ in rows]
    _region(axes, claim.threshold, [number for number in numbers if np.isfinite(number)])
    for row, (method, piece, answer) in enumerate(rows):
        look, estimate = METHOD_LOOKS[method], piece.estimate
        if estimate.low <= estimate.high:
            axes.plot([estimate.low, estimate.high], [row, row], color=look.color, lw=2)
        axes.plot(estimate.value, row, **look.marks, markersize=8)
        text = f"{estimate_text(estimate)}\n{answer}"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    if not rows:
        axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center", color=QUIET)
    names = [f"{piece.where}\n{METHODS[method]}" for method, piece, _ in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return axes


def _region(axes: Axes, threshold: Threshold, numbers: Sequence[float]) -> None:
    """Limits that show every number and both sides of the threshold, and the region in which the claim holds."""
    bound = threshold.bound
    bounds = [-bound, bound] if threshold.side == "within" else [bound]
    low, high = min([*numbers, *bounds, 0.0]), max([*numbers, *bounds, 0.0])
    margin = 0.14 * (high - low) or 1.0  # a bound of 0, and no estimate
    low, high = low - margin, high + margin
    axes.set_xlim(low, high)
    regions = {
        "above": (bound, high),
        "at least": (bound, high),
        "below": (low, bound),
        "within": (-bound, bound),
    }
    region = regions[threshold.side]
    axes.axvspan(*region, facecolor=GREEN, alpha=0.1, linewidth=0)
    axes.axvspan(*region, facecolor="none", edgecolor=GREEN, hatch="//", alpha=0.25, linewidth=0)
    for edge in bounds:
        axes.axvline(edge, color=INK, linewidth=1)
    axes.text(
        sum(region) / 2,
        1.02,
        f"holds: {threshold}",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="bottom",
        fontsize=9,
        color=GREEN,
    )
