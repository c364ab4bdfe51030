"""The book's figures: each function draws given arrays or estimates on given Axes, and returns the Axes.

One visual language. Colour is never the only cue: conditions differ in line style and marker too, and every colour is dark
enough to be read as text. Call ``style`` once before drawing, and ``label_ends`` last on Axes with curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import offset_copy
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from lra_companion.statistics import Estimate, PairedDifference, SolvingCurve, interquartile_band

PAPER, INK, QUIET, FAINT = "#fbfaf7", "#222222", "#666666", "#d9d5cb"
BLUE, RED, GREEN, PURPLE, BROWN = "#0072b2", "#b84a00", "#00735a", "#8f3f77", "#7a5c00"  # Okabe-Ito, darkened for text


@dataclass(frozen=True)
class Look:
    """How a condition looks in every figure. ``filled`` markers stand for regularised runs."""

    color: str
    linestyle: str
    marker: str
    filled: bool = False

    @property
    def marks(self) -> dict[str, str]:
        """Keywords for a line's colour and markers."""
        return {
            "color": self.color,
            "marker": self.marker,
            "markerfacecolor": self.color if self.filled else PAPER,
            "markeredgecolor": self.color,
        }


CONDITION_STYLES = {
    "readout": Look("#6b6b6b", ":", "X"),
    "lra": Look(RED, "--", "o"),
    "lra_released": Look(PURPLE, "--", "P"),
    "bptt": Look(GREEN, "-.", "D"),
    "tptt": Look(BROWN, "-.", "<"),
}
"""Each learner without regularisation."""
_SHADES = {"lra": ("#2878b8", "#061f45")}  # from the weakest to the strongest Ω; others darken their own colour
_STRENGTH_MARKERS = "os^Dvph"


def style() -> None:
    """Set matplotlib up for the book: opaque paper, readable at column width, an SVG that is the same at every run."""
    mpl.rc("figure", figsize=(7, 4), facecolor=PAPER)
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("savefig", facecolor=PAPER)
    mpl.rc("font", family="DejaVu Sans", size=10)  # comes with matplotlib
    mpl.rc("axes", facecolor=PAPER, edgecolor=QUIET, labelcolor=INK, axisbelow=True, grid=True)
    mpl.rc("axes", titlesize=11, titlelocation="left", prop_cycle=mpl.cycler(color=[BLUE, RED, GREEN, PURPLE, BROWN]))
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color=FAINT, linewidth=0.6)
    mpl.rc("text", color=INK)
    mpl.rc("xtick", color=QUIET, labelcolor=INK)
    mpl.rc("ytick", color=QUIET, labelcolor=INK)
    mpl.rc("svg", hashsalt="lra-companion", fonttype="path")


def show_as_svg() -> None:
    """Let a notebook show its figures as SVG without a date in them."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats  # it needs IPython: a notebook has it

    set_matplotlib_formats("svg", metadata={"Date": None})


def condition_look(learner: str, strength: float = 0.0, strengths: Sequence[float] = ()) -> Look:
    """The look of a learner at one of the regularisation strengths a figure compares: the stronger, the darker."""
    plain = CONDITION_STYLES[learner]
    if strength == 0:
        return plain
    ranked = sorted({*strengths, strength} - {0})
    rank = ranked.index(strength)
    weak, strong = (np.array(to_rgb(shade)) for shade in _SHADES.get(learner, (plain.color, "#111111")))
    color = to_hex(weak + (strong - weak) * rank / max(len(ranked) - 1, 1))
    return Look(color, "-", _STRENGTH_MARKERS[rank % len(_STRENGTH_MARKERS)], filled=True)


def accuracy_curves(
    axes: Axes, iterations: ArrayLike, matrix: ArrayLike, label: str, look: Look, flagged: ArrayLike | None = None
) -> Axes:
    """Accuracy of every seed (thin), interquartile mean (thick) and range (band); matrix (seeds, checks).

    A seed's line stops at a cross where ``flagged`` (seeds, checks) says that its run was given up unsolved.
    """
    x, rows = np.asarray(iterations), np.asarray(matrix)
    hidden = np.zeros(rows.shape, dtype=bool) if flagged is None else np.asarray(flagged)
    for row, gone in zip(rows, hidden, strict=True):
        axes.plot(x, np.where(gone, np.nan, row), color=look.color, alpha=0.35, linewidth=0.7)
        if gone.any():
            last = int(gone.argmax()) - 1
            axes.plot(x[last], row[last], "x", color=look.color, markersize=5, alpha=0.8)
    centre, low, high = interquartile_band(rows)
    axes.fill_between(x, low, high, color=look.color, alpha=0.15, linewidth=0)
    axes.plot(x, centre, look.linestyle, label=label, **look.marks, linewidth=2.2, markevery=0.12, markersize=5.5)
    axes.set(xlabel="iteration", ylabel="validation accuracy", ylim=(0, 1.03))
    axes.margins(x=0)
    return axes


def survival_curve(axes: Axes, curve: SolvingCurve, label: str, look: Look) -> Axes:
    """Share of runs not solved yet as steps with a marker where runs are solved, a tick where runs were given up."""
    events = np.flatnonzero(np.diff(curve.survival, prepend=1) < 0).tolist()
    axes.fill_between(curve.iteration, curve.low, curve.high, step="post", color=look.color, alpha=0.1, linewidth=0)
    axes.plot(
        curve.iteration, curve.survival, look.linestyle, label=label, **look.marks,
        linewidth=2, drawstyle="steps-post", markevery=events, markersize=5,
    )
    at = curve.survival[np.searchsorted(curve.iteration, curve.censored, "right") - 1]
    axes.plot(curve.censored, at, "|", color=look.color, markersize=9)
    axes.set(xlabel="iteration", ylabel="share not solved yet", ylim=(0, 1.03))
    axes.margins(x=0)
    return axes


def reference_line(axes: Axes, level: float, label: str = "chance") -> Axes:
    """A thin level across the Axes, labelled by ``label_ends`` like a curve."""
    axes.axhline(level, color=INK, linewidth=0.8, label=label)
    return axes


def label_ends(axes: Axes) -> Axes:
    """Write each curve's label right of the Axes, level with the curve's end, moved as little as keeps labels apart.

    Call it when the Axes have their final size and limits.
    """
    axes.figure.draw_without_rendering()  # so that the layout is known
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    ...
