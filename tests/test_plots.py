"""The figures draw what they are given, legibly, and are the same bytes at every run."""

import io
from itertools import pairwise

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal

from lra_companion import plots, task_pictures
from lra_companion.statistics import (
    Estimate,
    curves_on_common_grid,
    interquartile_band,
    iqm_interval,
    paired_difference,
    solving_curve,
    wilson_interval,
)

STRENGTHS = [0.01, 0.1, 1.0, 2.0]
CONDITIONS = {"readout": ("readout", 0.0), "LRA without Ω": ("lra", 0.0)} | {
    f"LRA, α = {strength:g}": ("lra", strength) for strength in STRENGTHS
}
LOOKS = {
    label: plots.condition_look(learner, strength, STRENGTHS)
    for label, (learner, strength) in CONDITIONS.items()
}
LOOK = LOOKS["LRA without Ω"]


@pytest.fixture(autouse=True)
def _book_style():
    with matplotlib.rc_context():
        plots.style()
        yield
    plt.close("all")


@pytest.fixture
def axes():
    return plt.subplots()[1]


@pytest.fixture
def generator():
    return np.random.default_rng(5)


def luminance(color):
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


def contrast(color, ground):
    dark, light = sorted([luminance(color), luminance(ground)])
    return (light + 0.05) / (dark + 0.05)


def labelled(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def written(axes):
    return [text.get_text() for text in axes.texts]


def draw_everything(generator):
    """One figure of each kind, as the notebooks draw them."""
    iterations = np.arange(0, 3100, 100)
    figure, panels = plt.subplots(2, 1, figsize=(7, 7))
    runs = [iterations[:12], iterations[:20], iterations, iterations]
    for place, (label, look) in enumerate(LOOKS.items()):
        values = [
            np.clip(0.5 + 0.1 * place * run / 1500 + generator.normal(0, 0.01, run.size), 0, 1)
            for run in runs
        ]
        solved = [place > 2, place > 3, place > 4, False]
        curves = curves_on_common_grid(runs, values, solved)
        plots.accuracy_curves(panels[0], curves.iterations, curves.matrix, label, look, curves.flagged)
        plots.survival_curve(panels[1], solving_curve([run[-1] for run in runs], solved), label, look)
    plots.label_ends(plots.reference_line(panels[0], 0.5))
    plots.label_ends(panels[1])
    yield figure

    figure, panels = plt.subplots(3, 1, figsize=(7, 9))
    scores = {label: generator.random(10) for label in LOOKS}
    plots.estimate_dots(
        panels[0], {label: iqm_interval(x, generator) for label, x in scores.items()}, LOOKS, scores
    )
    plots.shaded_cells(
        panels[1], list(LOOKS), ["20", "30"], [[(n / 10, f"{n}/10"), None] for n in range(len(LOOKS))]
    )
    control = dict(enumerate(scores["readout"]))
    paired = {label: paired_difference(dict(enumerate(x)), control, generator) for label, x in scores.items()}
    plots.paired_differences(panels[2], paired, LOOKS)
    yield figure

    figure, panels = plt.subplots(4, 1, figsize=(7, 9))
    symbols = generator.integers(2, 6, (3, 20))
    symbols[:, 2], symbols[:, 11] = 0, 1
    spans = [(2, 4), (10, 12)]
    task_pictures.sample_sequences(panels[0], symbols, "ABcdef", symbols < 2, ["AB"] * 3, spans)
    numbers = generator.integers(2, 100, (3, 50))
    numbers[:, 0] = 1
    task_pictures.sample_sequences(
        panels[1], numbers, [str(n) for n in range(100)], numbers < 2, ["1"] * 3, [(0, 1)]
    )
    marked = np.zeros((2, 20), dtype=bool)
    marked[:, [0, 9]] = True
    task_pictures.sample_sums(panels[2], generator.random((2, 20)), marked, ["0.4", "0.6"], [(0, 2), (2, 10)])
    readout = [wilson_interval(9, 10), Estimate(0.8, np.nan, np.nan, 0.95, 1)]
    plots.level_bars(panels[3], ["temporal order", "adding"], [0.25, 0.64], readout)
    yield figure


# Looks


def test_colour_is_never_the_only_cue():
    looks = [*plots.CONDITION_STYLES.values(), *LOOKS.values()]
    cues = {(look.linestyle, look.marker, look.filled) for look in looks}
    assert len(cues) == len(set(looks))


def test_every_colour_can_be_read_as_text():
    looks = [*LOOKS.values(), *(plots.condition_look(name, 1.0) for name in plots.CONDITION_STYLES)]
    for look in [*looks, *plots.CONDITION_STYLES.values()]:
        assert contrast(look.color, plots.PAPER) >= 4.5, look
    assert all(contrast(color, plots.PAPER) >= 4.5 for color in (plots.INK, plots.QUIET))


@pytest.mark.parametrize("learner", ["lra", "bptt", "lra_released"])
def test_stronger_is_darker_in_greyscale_too(learner):
    looks = [plots.condition_look(learner, strength, STRENGTHS) for strength in STRENGTHS]
    shades = [luminance(look.color) for look in looks]
    assert shades == sorted(shades, reverse=True) and len(set(shades)) == len(shades)
    assert {look.linestyle for look in looks} == {"-"} != {plots.CONDITION_STYLES[learner].linestyle}


def test_without_regularisation_the_look_does_not_depend_on_the_strengths():
    assert plots.condition_look("lra", 0.0, STRENGTHS) == plots.CONDITION_STYLES["lra"]
    assert plots.condition_look("readout") == plots.CONDITION_STYLES["readout"]
    assert plots.condition_look("lra", 1, [0, 1, 2]) == plots.condition_look("lra", 1, [2, 1])


# What is drawn


def test_curves_show_every_seed_and_the_summary(axes, generator):
    iterations, matrix = np.arange(0, 500, 100), generator.random((4, 5))
    assert plots.accuracy_curves(axes, iterations, matrix, "name", LOOK) is axes
    centre, low, high = interquartile_band(matrix)
    assert_array_equal(labelled(axes, "name").get_ydata(), centre)
    thin = [line.get_ydata() for line in axes.get_lines() if line.get_label() != "name"]
    assert_array_equal(thin, matrix)
    corners = axes.collections[0].get_paths()[0].vertices
    for check, iteration in enumerate(iterations):
        heights = corners[corners[:, 0] == iteration, 1]
        assert_allclose([heights.min(), heights.max()], [low[check], high[check]])


def test_a_run_given_up_ends_in_a_cross(axes):
    curves = curves_on_common_grid([[0, 1, 2], [0, 1]], [[0.1, 0.2, 0.3], [0.4, 0.5]], [False, False])
    plots.accuracy_curves(axes, curves.iterations, curves.matrix, "name", LOOK, curves.flagged)
    (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert_array_equal(cross.get_xydata(), [[1, 0.5]])
    assert_array_equal(axes.get_lines()[1].get_ydata(), [0.4, 0.5, np.nan])


@pytest.mark.parametrize("band", [True, False])
def test_survival_is_drawn_as_steps(axes, band):
    curve = solving_curve([100, 200, 200, 300, 400], [1, 0, 1, 1, 0])
    assert plots.survival_curve(axes, curve, "name", LOOK, band) is axes
    line = labelled(axes, "name")
    assert line.get_drawstyle() == "steps-post"
    assert_array_equal(line.get_xydata(), np.stack([curve.iteration, curve.survival], axis=1))
    assert list(line.get_markevery()) == [1, 2, 3]
    (ticks,) = [line for line in axes.get_lines() if line.get_marker() == "|"]
    assert_allclose(ticks.get_xydata(), [[200, curve.survival[2]], [400, curve.survival[4]]])
    assert len(axes.collections) == band


def test_dots_show_estimate_interval_and_seeds(axes):
    estimates = {
        "readout": Estimate(0.8, 0.7, 0.85, 0.95, 3),
        "LRA without Ω": Estimate(0.5, 0.4, 0.6, 0.95, 3),
    }
    scores = {"readout": [0.7, 0.8, 0.85]}
    assert plots.estimate_dots(axes, estimates, LOOKS, scores) is axes
    seeds, interval, dot, interval_2, dot_2 = axes.get_lines()
    assert_array_equal(seeds.get_xdata(), scores["readout"])
    assert_array_equal([interval.get_xdata(), interval_2.get_xdata()], [[0.7, 0.85], [0.4, 0.6]])
    assert_array_equal([*dot.get_xdata(), *dot_2.get_xdata()], [0.8, 0.5])
    assert [text.get_text() for text in axes.get_yticklabels()] == list(estimates)
    assert written(axes) == ["0.80 [0.70, 0.85]", "0.50 [0.40, 0.60]"]
    assert axes.yaxis_inverted()  # the first condition on top


def test_text_on_a_shade_is_as_legible_as_it_can_be():
    """Paper on ink has a contrast of about 15, so that on the worst of grounds the better of the two has its root."""
    for shade in np.linspace(0, 1, 41):
        ground = plots.SHARES(shade)[:3]
        assert contrast(plots.ink_on(shade), ground) > 3.8, shade


def test_an_estimate_without_interval_is_a_dot(axes):
    plots.estimate_dots(axes, {"readout": Estimate(0.8, np.nan, np.nan, 0.95, 1)}, LOOKS)
    assert len(axes.get_lines()) == 1
    assert written(axes) == ["0.80 (n = 1)"]


def test_cells_have_their_texts_and_what_was_not_run_is_hatched(axes):
    cells = [[(0.0, "0/7"), None], [(3 / 7, "3/7"), (1.0, "7/7")]]
    assert plots.shaded_cells(axes, ["lra", "bptt"], ["20", "30"], cells) is axes
    assert {text.get_text(): text.get_position() for text in axes.texts} == {
        "0/7": (0.5, 0.5),
        "3/7": (0.5, 1.5),
        "7/7": (1.5, 1.5),
    }
    (hatched,) = [patch for patch in axes.patches if patch.get_hatch()]
    assert hatched.get_xy() == (1, 0)
    low, high = axes.get_ylim()
    assert low > high, "the first row is on top"
    (mesh,) = axes.collections
    assert mesh.get_clim() == (0, 1), "one scale in all panels"


def test_differences_show_zero_and_every_seed(axes, generator):
    paired = paired_difference({0: 0.9, 1: 0.5, 2: 0.7}, {0: 0.4, 1: 0.6, 2: 0.6}, generator)
    assert plots.paired_differences(axes, {"readout": paired}, LOOKS) is axes
    zero, seeds, interval, dot = axes.get_lines()
    assert_array_equal(zero.get_xdata(), [0, 0])
    assert_array_equal(seeds.get_xdata(), paired.differences)
    assert_array_equal(interval.get_xdata(), [paired.iqm.low, paired.iqm.high])
    assert dot.get_xdata()[0] == paired.iqm.value
    assert written(axes) == ["2 of 3 better"]


def test_bars_are_as_long_as_their_levels(axes):
    readout = [Estimate(0.9, 0.8, 0.95, 0.95, 5), Estimate(0.7, np.nan, np.nan, 0.95, 1)]
    assert plots.level_bars(axes, ["one", "two"], [0.125, 0.64], readout) is axes
    assert [bar.get_width() for bar in axes.patches] == [0.125, 0.9, 0.64, 0.7]
    assert written(axes) == ["chance 0.125", "readout 0.90", "chance 0.64", "readout 0.70"]


def test_sequences_are_lettered_and_the_relevant_outlined(axes):
    symbols = np.array([[2, 0, 3, 1], [1, 4, 0, 5]])
    drawn = task_pictures.sample_sequences(
        axes, symbols, "ABcdef", symbols < 2, ["AB", "BA"], [(0, 2), (2, 4)]
    )
    assert drawn is axes
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(cells) == symbols.size
    outlined = [to_hex(cell.get_edgecolor()) == plots.INK for cell in cells]
    assert_array_equal(np.reshape(outlined, symbols.shape), symbols < 2)
    words = written(axes)
    assert "".join(word for word in words if len(word) == 1) == "cAdBBeAf"
    assert words[:5] == ["marker 1", "marker 2", "target", "AB", "BA"]
    assert [line.get_xdata().tolist() for line in axes.get_lines()] == [
        [0.1, 0.1, 1.9, 1.9],
        [2.1, 2.1, 3.9, 3.9],
    ]


def test_narrow_cells_name_only_what_is_relevant(axes):
    symbols = np.full((1, 60), 57)
    symbols[0, 0] = 1
    task_pictures.sample_sequences(axes, symbols, [str(n) for n in range(100)], symbols < 2, ["1"], [(0, 1)])
    assert written(axes) == ["marker", "target", "1", "1"]


def test_sums_are_bars_of_their_values(axes):
    values, marked = np.array([[0.25, 0.5, 1.0]]), np.array([[0, 1, 1]])
    assert task_pictures.sample_sums(axes, values, marked, ["0.75"], [(0, 2), (2, 3)]) is axes
    heights = np.array([patch.get_height() for patch in axes.patches])
    assert_allclose(heights / heights[-1], values[0])
    dark = [to_hex(patch.get_facecolor()) == plots.BLUE for patch in axes.patches]
    assert dark == [False, True, True]
    assert {"0.50", "1.00", "0.75"} < set(written(axes))


def test_images_stand_side_by_side_with_their_targets(axes):
    images = np.random.default_rng(0).random((3, 8, 8))
    assert task_pictures.sample_images(axes, images, ["7", "0", "3"]) is axes
    assert_allclose([image.get_array() for image in axes.images], images)
    edges = [image.get_extent()[:2] for image in axes.images]
    assert all(left < right <= other for (left, right), (other, _) in pairwise(edges))
    assert written(axes) == ["7", "0", "3"]


# Labels


def boxes(figure, texts):
    figure.draw_without_rendering()
    return [Text.get_window_extent(text) for text in texts]  # the words, without the line that leads to them


@pytest.mark.parametrize(
    "ends",
    [
        [1.0, 1.0, 1.0, 1.0, 0.99, 0.5],
        [0.0, 0.01, 0.02, 0.5],
        [0.5, 0.51, 0.505, 0.9, 0.52],
        [0.1, 0.9],
        [0.7],
        list(np.linspace(0, 1, 12)),
    ],
)
def test_end_labels_never_collide_and_keep_their_order(axes, ends):
    for index, end in enumerate(ends):
        axes.plot([0, 1], [0.5, end], label=f"condition {index}")
    axes.plot([0, 1], [0.2, 0.3])  # without a label: stays without
    axes.set(ylim=(0, 1), xlabel="x")
    assert plots.label_ends(axes) is axes
    labels = axes.texts
    assert sorted(text.get_text() for text in labels) == sorted(f"condition {i}" for i in range(len(ends)))
    figure = axes.figure
    extents = sorted(boxes(figure, labels), key=lambda box: box.y0)
    for below, above in pairwise(extents):
        assert below.y1 <= above.y0
    frame = axes.get_window_extent()
    for box in extents:
        assert box.x0 >= frame.x1 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    by_height = [ends[int(text.get_text().split()[-1])] for text in sorted(labels, key=lambda t: t.xyann[1])]
    assert by_height == sorted(by_height)


def test_a_label_with_room_stands_level_with_its_curve(axes):
    axes.plot([0, 1], [0.1, 0.3], label="low")
    axes.plot([0, 1], [0.1, 0.8], label="high")
    plots.label_ends(plots.reference_line(axes, 0.5))
    for text, level in zip(axes.texts, [0.3, 0.5, 0.8], strict=True):
        (box,) = boxes(axes.figure, [text])
        middle = axes.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))[1]
        assert middle == pytest.approx(level, abs=0.02)
        assert text.get_color() == labelled(axes, text.get_text()).get_color()


def test_no_curves_no_labels(axes):
    assert plots.label_ends(axes) is axes
    assert not axes.texts


# The whole figures


def beyond_the_axis(figure, text):
    """Whether this labels a tick that is out of view: it exists, but is not drawn."""
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True):
            if label is text:
                return not low <= place <= high
    return False


def test_no_text_is_small_cut_or_covers_another(generator):
    for figure in draw_everything(generator):
        figure.draw_without_rendering()
        visible = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        texts = [text for text in visible if not beyond_the_axis(figure, text)]
        assert min(text.get_fontsize() for text in texts) >= 8
        shown = []
        for text in texts:
            box = Text.get_window_extent(text).padded(-1)
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
            assert not [other for other, there in shown if box.overlaps(there)], text
            shown.append((text, box))


def test_figures_stand_on_opaque_paper(generator):
    for figure in draw_everything(generator):
        assert to_hex(figure.get_facecolor(), keep_alpha=True) == plots.PAPER + "ff"
        for axes in figure.axes:
            assert to_hex(axes.get_facecolor(), keep_alpha=True) == plots.PAPER + "ff"
        assert figure.get_figwidth() <= 7


def test_svg_is_the_same_twice():
    def render():
        pictures = []
        for figure in draw_everything(np.random.default_rng(1)):
            file = io.BytesIO()
            figure.savefig(file, format="svg", metadata={"Date": None})
            pictures.append(file.getvalue())
        return pictures

    first, again = render(), render()
    assert first == again
    assert all(b"<text" not in picture and b"dc:date" not in picture for picture in first)


def test_notebooks_get_svg_without_a_date_and_tables_with_all_rows(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "matplotlib_inline.backend_inline.set_matplotlib_formats",
        lambda *formats, **settings: asked.append((formats, settings)),
    )
    table = pd.DataFrame({"row": range(200)})
    with pd.option_context("display.max_rows", 60):
        assert "200 rows" in table._repr_html_()
        plots.show_whole()
        shown = table._repr_html_()
    assert asked == [(("svg",), {"metadata": {"Date": None}})]
    assert "200 rows" not in shown and "<td>100</td>" in shown
