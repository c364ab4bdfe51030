"""Pictures of what fades going back in time: norms by distance from the end, heat maps through training, factors per step.

Like ``plots``: each function draws given arrays on given Axes and returns the Axes. Norms span many powers of ten, so axes are
logarithmic; what rounding has eaten is shown as a region of its own, not left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from lra_companion.plots import CONDITION_STYLES, FAINT, INK, PAPER, QUIET, Look, Looks, condition_look
from lra_companion.statistics import Estimate

HEAT = "cividis"  # its lightness rises evenly: it reads the same in grey and to colour-blind eyes
_GONE = "lost in rounding"


def trace_look(learner: str, strength: float) -> Look:
    """Look of a learner without or with Ω, where several learners with Ω share a figure: each keeps its own marker."""
    if strength == 0:
        return CONDITION_STYLES[learner]
    return replace(condition_look(learner, strength), marker=CONDITION_STYLES[learner].marker)


def norms_by_distance(
    axes: Axes, norms: ArrayLike, used: ArrayLike, label: str, look: Look, bottom: float
) -> Axes:
    """Geometric mean of norms (seeds, T) against distance from the end, with a band from the least to the largest seed.

    Where a seed's norm is not ``used`` it counts as ``bottom``, the level of the region "lost in rounding"
    (``rounding_region``); the mean drops there once half of the seeds have.
    """
    values = np.flip(np.asarray(norms, dtype=np.float64), -1)
    keep = np.flip(np.asarray(used, dtype=bool), -1)
    logs = np.where(keep, np.log(np.where(keep, values, 1.0)), np.log(bottom))
    distance = np.arange(logs.shape[1])
    lost = keep.mean(0) <= 0.5
    kept = np.where(keep, logs, np.nan)[:, ~lost]
    centre = np.full(logs.shape[1], bottom)
    centre[~lost] = np.exp(np.nanmean(kept, axis=0))
    axes.fill_between(
        distance[~lost],
        np.exp(np.nanmin(kept, axis=0)),
        np.exp(np.nanmax(kept, axis=0)),
        color=look.color,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(
        distance, centre, label=label, ls=look.linestyle, lw=2, markevery=(0, 3), markersize=5, **look.marks
    )
    axes.set_yscale("log")
    axes.set_xlabel("steps before the end")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    return axes


def rounding_region(axes: Axes, bottom: float, top: float) -> Axes:
    """Mark the region around ``bottom`` as what single precision has lost, and set the limits of a norm axis."""
    axes.axhspan(
        bottom / 30, bottom * 30, facecolor=FAINT, edgecolor=QUIET, hatch="///", alpha=0.5, linewidth=0
    )
    axes.text(
        0.98, bottom * 30, _GONE, transform=axes.get_yaxis_transform(), ha="right", va="bottom", color=QUIET
    )
    axes.set_ylim(bottom / 30, top)
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return axes


def heat_map(
    axes: Axes, iterations: ArrayLike, logs: ArrayLike, limits: tuple[float, float], levels: Sequence[float]
) -> QuadMesh:
    """log10 of a norm, (T, checks), over iterations (checks,) and distance from the end; -inf is hatched: lost in rounding.

    ``levels`` are drawn as labelled contour lines where they lie within what is shown, so that colour is not the only cue.
    Returns the mesh, for a colour bar.
    """
    x, values = np.asarray(iterations, dtype=np.float64), np.flip(np.asarray(logs, dtype=np.float64), 0)
    y, shown = np.arange(len(values)), np.ma.masked_invalid(values)
    left, right = (x[0], x[-1]) if len(x) < 2 else (1.5 * x[0] - x[1] / 2, 1.5 * x[-1] - x[-2] / 2)
    hatched = {"facecolor": FAINT, "edgecolor": QUIET, "hatch": "///", "linewidth": 0}
    axes.add_patch(Rectangle((left, -0.5), right - left, len(y), zorder=0, **hatched))
    mesh = axes.pcolormesh(
        x, y, shown, cmap=HEAT, norm=Normalize(*limits), shading="nearest", edgecolors="face"
    )
    lines = [level for level in levels if shown.count() and shown.min() < level < shown.max()]
    if lines and min(shown.shape) > 1:
        contours = axes.contour(x, y, shown, levels=lines, colors=PAPER, linewidths=0.8, linestyles="-")
        for text in axes.clabel(contours, fmt=lambda level: f"$10^{{{level:.0f}}}$", fontsize=9):
            text.set_path_effects([withStroke(linewidth=2, foreground=INK)])
    axes.set(xlabel="iteration", ylabel="steps before the end", ylim=(-0.5, len(y) - 0.5))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=False)
    return mesh


def factor_dots(axes: Axes, rows: Mapping[str, Sequence[tuple[Estimate | None, Look, str]]]) -> Axes:
    """A row per condition with its factors per step on a logarithmic axis, one below the other, each named at the right.

    None, where nothing could be fitted, leaves the words only. A line marks 1: no fading.
    """
    axes.axvline(1, color=INK, linewidth=1)
    for row, entries in enumerate(rows.values()):
        offsets = np.linspace(-0.2, 0.2, len(entries)) if len(entries) > 1 else [0.0]
        for (estimate, look, word), offset in zip(entries, offsets, strict=True):
            y, text = row + offset, f"{word}: nothing left to fit"
            if estimate is not None:
                text = f"{word}: {estimate.value:.2g}"
                if estimate.low <= estimate.high:
                    axes.plot([estimate.low, estimate.high], [y, y], color=look.color, lw=2)
                axes.plot(estimate.value, y, **look.marks, markersize=7, mew=1.6, clip_on=False)
            axes.text(1.03, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("factor per step back")
    return axes


def angle_dots(axes: Axes, angles: Mapping[str, Estimate], looks: Looks) -> Axes:
    """A row per condition: angle to the exact gradient in degrees, with interval; a line marks the right angle."""
    axes.axvline(90, color=INK, linewidth=1)
    for row, (label, estimate) in enumerate(angles.items()):
        look = looks[label]
        if estimate.low <= estimate.high:
            axes.plot([estimate.low, estimate.high], [row, row], color=look.color, lw=2)
        axes.plot(estimate.value, row, **look.marks, markersize=7, mew=1.6, clip_on=False)
        axes.text(1.03, row, f"{estimate:.0f}", transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_yticks(range(len(angles)), list(angles))
    axes.set_ylim(len(angles) - 0.5, -0.5)
    axes.set_xlim(-5, 120)
    axes.xaxis.set_major_locator(FixedLocator([0, 30, 60, 90, 120]))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    return axes


def predicted_curve(axes: Axes, x: ArrayLike, predicted: ArrayLike, label: str, look: Look) -> Axes:
    """A prediction as a line without markers, on logarithmic axes."""
    axes.plot(x, predicted, label=label, color=look.color, ls=look.linestyle, lw=2)
    axes.set(xscale="log", yscale="log")
    return axes


def measured_points(axes: Axes, x: ArrayLike, estimates: Sequence[Estimate | None], look: Look) -> Axes:
    """Measured factors with intervals, as markers without a line."""
    known = [
        (place, value) for place, value in zip(np.asarray(x), estimates, strict=True) if value is not None
    ]
    places = [place for place, _ in known]
    values: NDArray[np.float64] = np.array([[value.low, value.value, value.high] for _, value in known])
    if known:
        axes.vlines(places, values[:, 0], values[:, 2], color=look.color, lw=2)
        axes.plot(places, values[:, 1], ls="", **look.marks, markersize=7, mew=1.6, zorder=3)
    return axes


def profile(axes: Axes, norms: ArrayLike, used: ArrayLike, predicted: ArrayLike, look: Look) -> Axes:
    """Norms (seeds, T) by distance from the end, geometric means over seeds: measured marks, where all seeds are ``used``, on
    the line predicted.
    """
    believed = np.flip(np.asarray(used, dtype=bool).all(0))
    values, line = (np.flip(np.asarray(rows, dtype=np.float64), -1) for rows in (norms, predicted))
    distance = np.arange(line.shape[1])
    axes.plot(distance, np.exp(np.log(line).mean(0)), color=look.color, ls=look.linestyle, lw=1.6)
    marks = np.exp(np.log(values[:, believed]).mean(0))
    axes.plot(distance[believed], marks, ls="", **look.marks, markersize=5)
    axes.set(yscale="log", xlabel="steps before the end")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return axes


def plain_ticks(axes: Axes, values: Sequence[float]) -> Axes:
    """Label a logarithmic x axis with just these values, as plain numbers."""
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    axes.minorticks_off()
    return axes
