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
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import offset_copy
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from lra_companion.statistics import Estimate, PairedDifference, SolvingCurve, interquartile_band

PAPER, INK, QUIET, FAINT = "#fbfaf7", "#222222", "#666666", "#d9d5cb"
BLUE, RED, GREEN, PURPLE, BROWN = "#0072b2", "#b84a00", "#00735a", "#8f3f77", "#7a5c00"  # Okabe-Ito, darkened
_SIGNALS = ("#0a4a7a", "#f0a94e")  # symbols that are to be remembered, and those that are not
_DISTRACTORS = ("#f0ede6", "#e6e2d8", "#eceff0", "#dfe3e5")


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


def show_as_svg() -> None:
    """Let a notebook show its figures as SVG without a date in them."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats  # wants IPython, which a notebook has

    set_matplotlib_formats("svg", metadata={"Date": None})


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
    gap = 1.3 * mpl.rcParams["font.size"] / _points(axes)[1]
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


def share_solved(axes: Axes, shares: Estimates, looks: Looks) -> Axes:
    """A row per condition: share of runs that solved the task, with interval and counts."""
    _rows(axes, shares, looks, {}, [f"{share.value * share.n:.0f} of {share.n}" for share in shares.values()])
    axes.set(xlim=(-0.03, 1.03), xlabel="share of runs that solved the task")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return axes


def paired_differences(axes: Axes, comparisons: Mapping[str, PairedDifference], looks: Looks) -> Axes:
    """A row per comparison: each seed's difference, their interquartile mean with interval, how many seeds improved."""
    axes.axvline(0, color=INK, linewidth=1)
    better = [pair.improved for pair in comparisons.values()]
    texts = [f"{share.value * share.n:.0f} of {share.n} better" for share in better]
    differences = {label: pair.differences for label, pair in comparisons.items()}
    return _rows(axes, {label: pair.iqm for label, pair in comparisons.items()}, looks, differences, texts)


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


def sample_sequences(
    axes: Axes, symbols: ArrayLike, names: Names, relevant: ArrayLike, targets: Names, intervals: Spans
) -> Axes:
    """Sequences (samples, T) of symbol numbers as rows of cells with the symbols' ``names``, the ``relevant`` ones
    (samples, T) strong and outlined. Where cells are too narrow for all names, only the relevant ones are written.
    """
    numbers, important = np.asarray(symbols), np.asarray(relevant, dtype=bool)
    _sample_frame(axes, numbers, targets, intervals)
    room = _points(axes)[0] / numbers.shape[1] >= 7 * max(len(names[number]) for number in numbers.flat)
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


def _points(axes: Axes) -> tuple[float, float]:
    """Width and height of the Axes in points."""
    figure = axes.get_figure(root=True)
    scale = 72 / figure.dpi if figure else 1
    return axes.bbox.width * scale, axes.bbox.height * scale
