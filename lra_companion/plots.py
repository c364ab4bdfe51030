"""The book's figures: each function draws given arrays or estimates on given Axes, and returns the Axes.

One visual language. Colour is never the only cue: conditions differ in line style and marker too, and every colour is dark
enough to be read as text. Call ``style`` once before drawing, and ``label_ends`` last on Axes with curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from lra_companion.statistics import Estimate, PairedDifference, SolvingCurve, interquartile_band

PAPER, INK, QUIET, FAINT = "#fbfaf7", "#222222", "#666666", "#d9d5cb"
BLUE, RED, GREEN, PURPLE, BROWN = "#0072b2", "#b84a00", "#00735a", "#8f3f77", "#7a5c00"  # Okabe-Ito, darkened


SHARES = LinearSegmentedColormap.from_list("shares", [PAPER, "#d6e4ee", "#5b9ac4", "#0b4a75"])
"""From none to all."""


@dataclass(frozen=True)
class Look:
    """How a condition looks in every figure. Hollow markers stand for learners without regularisation."""

    color: str
    linestyle: str
    marker: str
    filled: bool = False

    @property
    def marks(self) -> dict[str, Any]:
        """Keywords for a line's colour and markers."""
        return {"color": self.color, "marker": self.marker, "mfc": self.color if self.filled else PAPER}


Looks = Mapping[str, Look]
Estimates = Mapping[str, Estimate]
Scores = Mapping[str, ArrayLike]
Names = Sequence[str]
Cell = tuple[float, str]
"""A shade between 0, pale, and 1, dark; and a text."""
Spans = Sequence[tuple[int, int]]  # [low, high)

CONDITION_STYLES = {
    "readout": Look("#6b6b6b", ":", "X", filled=True),
    "lra": Look(RED, "--", "o"),
    "lra_released": Look(PURPLE, "--", "P"),
    "bptt": Look(GREEN, "-.", "D"),
    "tptt": Look(BROWN, "-.", "<"),
}
"""Each learner without regularisation."""
_SHADES = {"lra": ("#2878b8", "#061f45")}  # weakest to strongest Ω; other learners darken their own colour
_STRENGTH_MARKERS = "os^Dvph"


def style() -> None:
    """Set matplotlib up for the book: opaque paper, readable at column width, an SVG that is the same at every run."""
    mpl.rc("figure", figsize=(7, 4), facecolor=PAPER)
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("savefig", facecolor=PAPER)
    mpl.rc("font", family="DejaVu Sans", size=10)  # comes with matplotlib
    mpl.rc("axes", facecolor=PAPER, edgecolor=QUIET, labelcolor=INK, axisbelow=True, grid=True)
    mpl.rc("axes", titlesize=11, titlelocation="left", prop_cycle=cycler(color=[BLUE, RED, GREEN, PURPLE]))
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color=FAINT, linewidth=0.6)
    mpl.rc("text", color=INK)
    mpl.rc("xtick", color=QUIET, labelcolor=INK)
    mpl.rc("ytick", color=QUIET, labelcolor=INK)
    mpl.rc("svg", hashsalt="lra-companion", fonttype="path")


def show_whole() -> None:
    """Let a notebook show its figures as SVG, without a date in them, and its tables with all their rows."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats  # wants IPython, which a notebook has

    set_matplotlib_formats("svg", metadata={"Date": None})
    pd.set_option("display.max_rows", None)


def condition_look(learner: str, strength: float = 0.0, strengths: Sequence[float] = ()) -> Look:
    """The look of a learner at one of the regularisation strengths a figure compares: the stronger, the darker."""
    plain = CONDITION_STYLES[learner]
    if strength == 0:
        return plain
    ranked = sorted({*strengths, strength} - {0})
    rank = ranked.index(strength)
    shades = LinearSegmentedColormap.from_list("Ω", _SHADES.get(learner, (plain.color, INK)))
    color = to_hex(shades(rank / max(len(ranked) - 1, 1)))
    return Look(color, "-", _STRENGTH_MARKERS[rank % len(_STRENGTH_MARKERS)], filled=True)


def accuracy_curves(
    axes: Axes, iterations: ArrayLike, matrix: ArrayLike, label: str, look: Look, flagged: ArrayLike = False
) -> Axes:
    """Accuracy of every seed (thin), interquartile mean (thick) and range (band); matrix (seeds, checks).

    A seed's line stops at a cross where ``flagged`` (seeds, checks) says that its run was given up unsolved.
    """
    x, rows = np.asarray(iterations), np.asarray(matrix)
    hidden = np.broadcast_to(flagged, rows.shape)
    for row, gone in zip(rows, hidden, strict=True):
        axes.plot(x, np.where(gone, np.nan, row), color=look.color, alpha=0.3, linewidth=0.7)
        if gone.any():
            last = int(gone.argmax()) - 1
            axes.plot(x[last], row[last], "x", color=look.color, markersize=5)
    centre, low, high = interquartile_band(rows)
    axes.fill_between(x, low, high, color=look.color, alpha=0.15, linewidth=0)
    every = {
        "markevery": (0.06, 0.12),
        "markersize": 5.5,
        "lw": 2.2,
    }  # markers at equal distances on the page
    axes.plot(x, centre, label=label, ls=look.linestyle, **look.marks, **every)
    axes.set(xlabel="iteration", ylabel="validation accuracy", ylim=(0, 1.03))
    axes.margins(x=0)
    return axes


def survival_curve(axes: Axes, curve: SolvingCurve, label: str, look: Look, band: bool = True) -> Axes:
    """Share of runs not solved yet, as steps: a marker where runs are solved, a tick where one was given up.

    ``band`` shows the interval: leave it out where more than about three curves would pile theirs up.
    """
    x, y = curve.iteration, curve.survival
    if band:
        axes.fill_between(x, curve.low, curve.high, step="post", color=look.color, alpha=0.1, linewidth=0)
    events = np.flatnonzero(np.diff(y, prepend=1) < 0).tolist()
    steps = {"drawstyle": "steps-post", "markevery": events, "markersize": 5, "lw": 2}
    axes.plot(x, y, label=label, ls=look.linestyle, **look.marks, **steps)
    if curve.censored.size:
        at = y[np.searchsorted(x, curve.censored, "right") - 1]
        axes.plot(curve.censored, at, "|", color=look.color, markersize=9, clip_on=False)
    axes.set(xlabel="iteration", ylabel="share not solved yet", ylim=(-0.03, 1.03))
    axes.margins(x=0)
    return axes


def level_series(
    axes: Axes, places: Sequence[int], estimates: Sequence[Estimate], label: str, look: Look
) -> Axes:
    """Estimates with intervals at places along the x axis, joined by a line; labelled by ``label_ends``."""
    for place, estimate in zip(places, estimates, strict=True):
        if estimate.low <= estimate.high:
            axes.plot([place, place], [estimate.low, estimate.high], color=look.color, lw=1.5, alpha=0.6)
    values = [estimate.value for estimate in estimates]
    axes.plot(places, values, label=label, ls=look.linestyle, lw=2, markersize=6.5, **look.marks)
    return axes


def reference_line(axes: Axes, level: float, label: str = "chance") -> Axes:
    """A thin level across the Axes, labelled by ``label_ends`` like a curve."""
    axes.axhline(level, color=INK, linewidth=0.8, label=label)
    return axes


def label_ends(axes: Axes) -> Axes:
    """Write each curve's label right of the Axes, level with the curve's end, moved as little as keeps labels apart.

    Call it when everything else is drawn.
    """
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    figure = axes.get_figure(root=True)
    if figure is None or not lines:
        return axes
    figure.draw_without_rendering()  # settles the layout
    gap = 1.3 * mpl.rcParams["font.size"] / size_in_points(axes)[1]
    pixels = [line.get_transform().transform(line.get_xydata())[-1] for line in lines]
    ends = axes.transAxes.inverted().transform(pixels)
    order = np.argsort(ends[:, 1], kind="stable")
    ladder = gap * np.arange(len(lines))
    nearest = isotonic_regression(ends[order, 1] - ladder).x  # in this order, at least the gap apart
    heights = np.clip(nearest, 0, max(1 - ladder[-1], 0)) + ladder
    right = offset_copy(axes.transAxes, figure, x=14, units="points")
    for line, end, height in zip([lines[i] for i in order], ends[order], heights, strict=True):
        color, label = line.get_color(), str(line.get_label())
        arrow = {"arrowstyle": "-", "color": color, "lw": 0.8, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        place = {"xycoords": "axes fraction", "textcoords": right, "va": "center", "annotation_clip": False}
        axes.annotate(label, end, (1, height), arrowprops=arrow, color=color, **place)
    return axes


def estimate_dots(axes: Axes, estimates: Estimates, looks: Looks, scores: Scores | None = None) -> Axes:
    """A row per condition: estimate (large), interval (line), scores of its seeds (small), the numbers at the right."""
    return _rows(axes, estimates, looks, scores or {}, [f"{estimate:.2f}" for estimate in estimates.values()])


def shaded_cells(axes: Axes, rows: Names, columns: Names, cells: Sequence[Sequence[Cell | None]]) -> Axes:
    """A table of cells, the first row on top: each with its text, and the darker the nearer its shade is to 1. None: not run,
    hatched.
    """
    shades = np.array([[np.nan if cell is None else cell[0] for cell in row] for row in cells])
    axes.pcolormesh(shades, cmap=SHARES, norm=Normalize(0, 1), edgecolors=PAPER, linewidth=2)
    for row, column in np.ndindex(*shades.shape):
        cell = cells[row][column]
        if cell is None:
            hatched = {"facecolor": PAPER, "edgecolor": FAINT, "hatch": "///", "linewidth": 0}
            axes.add_patch(Rectangle((column, row), 1, 1, **hatched))
        else:
            shade, text = cell
            color = ink_on(shade)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color, fontsize=9)
    axes.set(ylim=(len(rows), 0), yticks=np.arange(len(rows)) + 0.5, yticklabels=rows)
    axes.set(xlim=(0, len(columns)), xticks=np.arange(len(columns)) + 0.5, xticklabels=columns)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return axes


def ink_on(shade: float) -> str:
    """The colour of text on a shade of SHARES: dark as long as that is the easier to read."""
    return PAPER if shade > 0.75 else INK


def paired_differences(axes: Axes, comparisons: Mapping[str, PairedDifference], looks: Looks) -> Axes:
    """A row per comparison: each seed's difference, their interquartile mean with interval, how many seeds improved."""
    axes.axvline(0, color=INK, linewidth=1)
    better = [pair.improved for pair in comparisons.values()]
    texts = [f"{share.tally} better" for share in better]
    differences = {label: pair.differences for label, pair in comparisons.items()}
    return _rows(axes, {label: pair.iqm for label, pair in comparisons.items()}, looks, differences, texts)


def iterations_needed(
    axes: Axes, estimates: Estimates, needed: Scores, solved: Estimates, looks: Looks
) -> Axes:
    """A row per condition: estimate (large), interval (line), iterations of its seeds (small), how many solved the task."""
    return _rows(axes, estimates, looks, needed, [f"{solved[label].tally} solved" for label in estimates])


def _rows(axes: Axes, estimates: Estimates, looks: Looks, scores: Scores, texts: Names) -> Axes:
    for row, ((label, estimate), text) in enumerate(zip(estimates.items(), texts, strict=True)):
        look = looks[label]
        if label in scores:
            x = np.asarray(scores[label])
            y = row + np.linspace(0.17, 0.37, len(x))  # one beneath the other, below the estimate
            axes.plot(x, y, "o", color=look.color, alpha=0.6, markersize=3.5, mew=0, clip_on=False)
        if estimate.low <= estimate.high:  # not where there is no interval
            axes.plot([estimate.low, estimate.high], [row, row], color=look.color, lw=2, clip_on=False)
        axes.plot(estimate.value, row, **look.marks, markersize=8, mew=1.8, clip_on=False)
        axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center")
    return _named_rows(axes, list(estimates))


def _named_rows(axes: Axes, names: Names) -> Axes:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(visible=False, axis="y")
    return axes


def level_bars(axes: Axes, tasks: Names, chance: Sequence[float], readout: Sequence[Estimate]) -> Axes:
    """Two bars per task: what guessing reaches, and what a trained readout on an untrained network reaches."""
    for row, (guess, trained) in enumerate(zip(chance, readout, strict=True)):
        axes.barh(row - 0.19, guess, 0.34, color=FAINT, edgecolor=QUIET, hatch="///", linewidth=0.8)
        axes.barh(row + 0.19, trained.value, 0.34, color="#9c9c9c")
        axes.plot([trained.low, trained.high], [row + 0.19] * 2, color=INK, linewidth=2)
        end = np.nanmax([trained.value, trained.high])
        axes.text(guess + 0.01, row - 0.19, f"chance {guess:.3g}", va="center")
        axes.text(end + 0.01, row + 0.19, f"readout {trained.value:.2f}", va="center")
    axes.set(xlim=(0, 1), xlabel="accuracy")
    return _named_rows(axes, tasks)


def size_in_points(axes: Axes) -> tuple[float, float]:
    """Width and height of the Axes in points."""
    figure = axes.get_figure(root=True)
    scale = 72 / figure.dpi if figure else 1
    return axes.bbox.width * scale, axes.bbox.height * scale
