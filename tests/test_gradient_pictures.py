"""The pictures of gradients draw what they are given: values, what is lost, and words beside colours."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from numpy.testing import assert_allclose, assert_array_equal

from lra_companion import gradient_pictures, plots
from lra_companion.statistics import Estimate

LOOK = plots.CONDITION_STYLES["lra"]
BOTTOM = 1e-17


@pytest.fixture(autouse=True)
def _book_style():
    with matplotlib.rc_context():
        plots.style()
        yield
    plt.close("all")


@pytest.fixture
def axes():
    return plt.subplots()[1]


def estimate(value, low=None, high=None):
    return Estimate(value, low or value * 0.9, high or value * 1.1, 0.95, 4)


def test_norms_run_from_the_end_and_drop_where_half_the_seeds_are_lost(axes):
    norms = np.array([[1e-9, 1e-4, 1e-2, 1.0], [1e-9, 1e-6, 1e-2, 1.0]])  # t = 1..4
    used = np.array([[False, True, True, True], [False, False, True, True]])
    assert gradient_pictures.norms_by_distance(axes, norms, used, "lra", LOOK, BOTTOM) is axes
    (line,) = axes.get_lines()
    assert_array_equal(line.get_xdata(), [0, 1, 2, 3])
    assert_allclose(line.get_ydata(), [1.0, 1e-2, BOTTOM, BOTTOM])
    assert line.get_label() == "lra" and axes.get_yscale() == "log"


def test_the_mean_is_geometric_over_the_seeds_that_count(axes):
    norms, used = (
        np.array([[1.0, 1.0], [100.0, 1.0], [5.0, 1.0]]),
        np.array([[True, True]] * 2 + [[False, True]]),
    )
    gradient_pictures.norms_by_distance(axes, norms, used, "lra", LOOK, BOTTOM)
    assert_allclose(axes.get_lines()[0].get_ydata(), [1.0, 10.0])


def test_the_region_of_rounding_holds_what_dropped_and_says_so(axes):
    gradient_pictures.rounding_region(axes, BOTTOM, 10.0)
    low, high = axes.get_ylim()
    assert low < BOTTOM < high == 10.0
    assert [text.get_text() for text in axes.texts] == ["lost in rounding"]
    (span,) = axes.patches
    assert span.get_hatch()


def test_a_heat_map_shows_the_end_at_the_bottom_and_hatches_what_is_lost(axes):
    logs = np.array([[-np.inf, -np.inf, -7.0], [-3.0, -4.0, -5.0], [0.0, -1.0, -2.0]])  # (T, checks)
    mesh = gradient_pictures.heat_map(axes, [0, 10, 20], logs, (-8, 0), [-4, -2])
    values = np.ma.getdata(mesh.get_array())
    mask = np.ma.getmaskarray(mesh.get_array())
    assert_array_equal(values[0], [0.0, -1.0, -2.0])
    assert_array_equal(mask, [[False] * 3, [False] * 3, [True, True, False]])
    (behind,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert behind.get_hatch() and behind.get_zorder() < mesh.get_zorder()
    assert_allclose(behind.get_bbox().extents, [-5, -0.5, 25, 2.5])
    assert {text.get_text() for text in axes.texts} <= {"$10^{-4}$", "$10^{-2}$"}


def test_a_heat_map_of_nothing_or_of_one_check(axes):
    gradient_pictures.heat_map(axes, [0, 10], np.full((3, 2), -np.inf), (-8, 0), [-4])
    gradient_pictures.heat_map(axes, [0], np.zeros((3, 1)), (-8, 0), [-4])
    axes.figure.draw_without_rendering()


def test_factors_are_marks_and_words(axes):
    rows = {
        "lra": [(estimate(0.1), LOOK, "before"), (None, LOOK, "after")],
        "bptt": [(estimate(0.9, np.nan, np.nan), LOOK, "before")],
    }
    assert gradient_pictures.factor_dots(axes, rows) is axes
    assert [text.get_text() for text in axes.texts] == [
        "before: 0.1",
        "after: nothing left to fit",
        "before: 0.9",
    ]
    marks = [line for line in axes.get_lines() if line.get_marker() == LOOK.marker]
    assert_allclose([line.get_xdata()[0] for line in marks], [0.1, 0.9])
    spans = [line.get_xdata() for line in axes.get_lines() if line.get_linewidth() == 2]
    assert_allclose(spans, [[0.09, 0.11]])


def test_angles_stand_beside_the_right_angle(axes):
    gradient_pictures.angle_dots(
        axes, {"lra": estimate(70.0), "bptt": estimate(2.0)}, {"lra": LOOK, "bptt": LOOK}
    )
    assert axes.get_lines()[0].get_xdata()[0] == 90
    assert [text.get_text() for text in axes.texts] == ["70 [63, 77]", "2 [2, 2]"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lra", "bptt"]


def test_measured_marks_and_predicted_lines(axes):
    gradient_pictures.predicted_curve(axes, [1, 10], [0.1, 0.5], "linear theory", LOOK)
    gradient_pictures.measured_points(axes, [1, 10], [estimate(0.2), None], LOOK)
    line, marks = axes.get_lines()
    assert line.get_label() == "linear theory" and line.get_linestyle() != "None"
    assert marks.get_linestyle() == "None"
    assert_allclose(marks.get_xydata(), [[1, 0.2]])
    gradient_pictures.measured_points(axes, [1], [None], LOOK)


def test_a_profile_marks_what_all_seeds_can_be_believed_in(axes):
    norms = np.array([[1e-3, 1e-2, 1.0], [1e-3, 1e-2, 100.0]])
    used = np.array([[False, True, True], [True, True, True]])
    gradient_pictures.profile(axes, norms, used, 2 * norms, LOOK)
    line, marks = axes.get_lines()
    assert_allclose(line.get_ydata(), [20.0, 2e-2, 2e-3])
    assert_allclose(marks.get_xydata(), [[0, 10.0], [1, 1e-2]])


def test_ticks_are_the_values_that_were_measured(axes):
    axes.set_xscale("log")
    gradient_pictures.plain_ticks(axes, [5, 20])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "20"]


@pytest.mark.parametrize("learner", ["lra", "lra_released", "bptt"])
def test_with_and_without_omega_differ_in_more_than_colour(learner):
    plain, omega = gradient_pictures.trace_look(learner, 0.0), gradient_pictures.trace_look(learner, 0.3)
    assert plain.linestyle != omega.linestyle and plain.filled != omega.filled


def test_learners_with_omega_differ_in_more_than_colour():
    looks = [gradient_pictures.trace_look(name, 0.3) for name in ("lra", "lra_released", "bptt")]
    assert len({look.marker for look in looks}) == 3
