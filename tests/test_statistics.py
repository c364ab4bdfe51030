"""The statistics against independent references: sorting, closed formulas, small examples by hand, simulation."""

import warnings
from itertools import product
from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binomtest

from lra_companion.statistics import (
    Estimate,
    curves_on_common_grid,
    interquartile_band,
    interquartile_mean,
    iqm_interval,
    paired_difference,
    solving_curve,
    wilson_interval,
)


def iqm_by_sorting(values):
    ordered = sorted(values)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


@pytest.fixture
def generator():
    return np.random.default_rng(7)


# Interquartile mean and its interval


@given(hnp.arrays(float, st.integers(1, 30), elements=st.floats(-10, 10)))
def test_iqm_is_the_mean_of_the_sorted_middle(values):
    assert_allclose(interquartile_mean(values), iqm_by_sorting(values), atol=1e-12)


def test_iqm_of_several_tasks_pools_their_scores(generator):
    scores = generator.random((6, 3))
    assert_allclose(interquartile_mean(scores), iqm_by_sorting(scores.ravel()))
    assert iqm_interval(scores, generator).value == pytest.approx(iqm_by_sorting(scores.ravel()))


def test_interval_is_a_function_of_scores_and_generator():
    scores = np.random.default_rng(0).random((10, 2))
    first, again, other = (iqm_interval(scores, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other and first.value == other.value


def test_interval_is_the_percentiles_of_resampled_iqms():
    scores = np.random.default_rng(0).random(9)
    estimate = iqm_interval(scores, np.random.default_rng(3), level=0.8, resamples=500)
    drawn = np.random.default_rng(3).integers(0, 9, (500, 9, 1))[..., 0]
    resampled = [iqm_by_sorting(scores[row]) for row in drawn]
    assert_allclose([estimate.low, estimate.high], np.quantile(resampled, [0.1, 0.9]))
    assert (estimate.level, estimate.n) == (0.8, 9)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_covers_the_truth_about_as_often_as_it_says(level, generator):
    simulations = 400
    covered = 0
    for _ in range(simulations):
        estimate = iqm_interval(generator.normal(1.5, 1, 40), generator, level, resamples=300)
        covered += estimate.low <= 1.5 <= estimate.high
    # Three standard errors of the simulation, and two points for the bootstrap's known optimism.
    slack = 3 * sqrt(level * (1 - level) / simulations)
    assert level - slack - 0.02 <= covered / simulations <= level + slack


def test_seeds_are_resampled_within_tasks(generator):
    # Each task is constant: any resampling within tasks leaves the pool unchanged, any across tasks would not.
    scores = np.tile([0.0, 0.5, 1.0, 1.0], (10, 1))
    estimate = iqm_interval(scores, generator)
    assert estimate.low == estimate.value == estimate.high == 0.75


def test_tasks_are_resampled_independently(generator):
    # Two opposite tasks: drawn with the same seeds their sum would never vary.
    ramp = np.linspace(0, 1, 12)
    estimate = iqm_interval(np.stack([ramp, 1 - ramp], axis=1), generator)
    assert estimate.low < 0.5 < estimate.high


def test_more_seeds_narrow_the_interval(generator):
    few, many = (iqm_interval(generator.normal(size=n), generator) for n in (10, 1000))
    assert many.high - many.low < (few.high - few.low) / 4


def test_one_seed_has_no_interval(generator):
    for scores in ([0.7], [[0.7, 0.7]]):
        estimate = iqm_interval(scores, generator)
        assert estimate.value == pytest.approx(0.7) and estimate.n == 1
        assert isnan(estimate.low) and isnan(estimate.high)


@pytest.mark.parametrize(
    ("scores", "level", "message"),
    [
        ([], 0.95, "scores: empty"),
        ([0.1, float("nan")], 0.95, "scores: NaN"),
        ([0.1, float("inf")], 0.95, "scores: NaN or infinity"),
        (0.5, 0.95, r"scores: shape \(\)"),
        (np.zeros((2, 2, 2)), 0.95, r"scores: shape \(2, 2, 2\)"),
        ([0.1, 0.2], 0.0, "level = 0.0"),
        ([0.1, 0.2], 1.0, "level = 1.0"),
        ([0.1, 0.2], 95, "level = 95"),
        ([0.1, 0.2], float("nan"), "level = nan"),
    ],
)
def test_scores_that_make_no_sense_are_refused(scores, level, message, generator):
    with pytest.raises(ValueError, match=message):
        iqm_interval(scores, generator, level)


def test_the_plain_iqm_refuses_them_too():
    with pytest.raises(ValueError, match="values: empty"):
        interquartile_mean([])
    with pytest.raises(ValueError, match="values: NaN"):
        interquartile_mean([1, np.nan])


def test_an_estimate_formats_itself():
    assert f"{Estimate(0.934, 0.881, 0.972, 0.95, 10):.2f}" == "0.93 [0.88, 0.97]"
    assert f"{Estimate(0.934, float('nan'), float('nan'), 0.95, 1):.2f}" == "0.93 (n = 1)"


# Wilson's interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(successes, trials, low, high):
    estimate = wilson_interval(successes, trials)
    assert_allclose([estimate.low, estimate.high], [low, high], atol=5e-5)


@given(st.integers(1, 200), st.data(), st.floats(0.5, 0.999))
def test_wilson_solves_its_equation(trials, data, level):
    successes = data.draw(st.integers(0, trials))
    estimate = wilson_interval(successes, trials, level)
    reference = binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert_allclose([estimate.low, estimate.high], [reference.low, reference.high], atol=1e-12)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert (estimate.value, estimate.n) == (successes / trials, trials)


def test_wilson_keeps_a_width_at_the_ends():
    z = 1.959963984540054
    assert wilson_interval(10, 10).high == 1
    assert wilson_interval(10, 10).low == pytest.approx(10 / (10 + z**2))
    assert wilson_interval(0, 10).low == 0


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match=f"successes = {successes}, trials = {trials}"):
        wilson_interval(successes, trials)
    with pytest.raises(ValueError, match="level"):
        wilson_interval(1, 2, level=1.5)


# Paired differences


def test_differences_are_matched_by_seed_not_by_order(generator):
    paired = paired_difference({3: 0.9, 1: 0.5, 2: 0.6}, {1: 0.4, 2: 0.7, 3: 0.4}, generator)
    assert paired.seeds == (1, 2, 3)
    assert_allclose(paired.differences, [0.1, -0.1, 0.5])
    assert paired.mean.value == pytest.approx(0.5 / 3)
    assert paired.iqm.value == pytest.approx(iqm_by_sorting([0.1, -0.1, 0.5]))
    assert paired.improved == wilson_interval(2, 3)


def test_pairing_sees_what_two_separate_intervals_would_not(generator):
    level_of_seed = generator.normal(0, 5, 12)
    control = dict(enumerate(level_of_seed))
    treated = dict(enumerate(level_of_seed + generator.normal(1, 0.2, 12)))
    paired = paired_difference(treated, control, generator)
    assert paired.iqm.low > 0.5 and paired.mean.low > 0.5 and paired.p_value == pytest.approx(2 / 2**12)


def test_p_value_counts_every_flip_of_signs(generator):
    differences = np.array([0.3, -0.1, 0.2, 0.0, 0.4, 0.1])
    sums = [abs(np.dot(signs, differences)) for signs in product([1, -1], repeat=6)]
    expected = np.mean([total >= differences.sum() - 1e-9 for total in sums])
    paired = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(6), 0.0), generator)
    assert paired.p_value == pytest.approx(expected)


def test_p_value_beyond_the_exact_range_agrees_with_it(generator):
    differences = generator.normal(0.4, 1, 17)
    signs = 1 - 2 * (np.arange(2**17)[:, None] >> np.arange(17) & 1)
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    paired = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(17), 0.0), generator)
    assert paired.p_value == pytest.approx(expected, abs=0.015)
    assert (
        paired_difference(dict.fromkeys(range(60), 1.0), dict.fromkeys(range(60), 0.0), generator).p_value > 0
    )


def test_no_difference_at_all(generator):
    same = dict.fromkeys(range(5), 1.0)
    paired = paired_difference(same, same, generator)
    assert paired.p_value == 1 and paired.improved.value == 0
    assert paired.mean.value == paired.mean.low == paired.mean.high == 0


def test_seeds_without_a_partner_are_named(generator):
    with pytest.raises(ValueError, match="seeds without a partner: 2, 9"):
        paired_difference({1: 0.5, 2: 0.5}, {1: 0.5, 9: 0.5}, generator)
    with pytest.raises(ValueError, match="scores: empty"):
        paired_difference({}, {}, generator)
    with pytest.raises(ValueError, match="scores: NaN"):
        paired_difference({1: np.nan}, {1: 0.0}, generator)


# Times until solved


def test_survival_by_hand():
    # Freireich's remission times (6-MP arm), the textbook example: 21 patients, 9 events.
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    events = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    curve = solving_curve(times, events)
    at = dict(zip(curve.iteration.tolist(), curve.survival.tolist(), strict=True))
    expected = {
        0: 1,
        6: 0.8571,
        7: 0.8067,
        9: 0.8067,
        10: 0.7529,
        13: 0.6902,
        16: 0.6275,
        22: 0.5378,
        23: 0.4482,
    }
    for iteration, survival in expected.items():
        assert at[iteration] == pytest.approx(survival, abs=5e-5)
    assert at[35] == at[23]
    assert curve.n == 21 and len(curve.censored) == 12
    # Greenwood's standard error at 23 is 0.1346; Wilson's interval for as many runs as give it.
    survival, error = at[23], 0.1346
    z, n = 1.959964, survival * (1 - survival) / error**2
    middle, half = survival + z**2 / (2 * n), z * sqrt(error**2 + z**2 / (4 * n**2))
    place = curve.iteration.tolist().index(23)
    assert_allclose(curve.low[place], (middle - half) / (1 + z**2 / n), atol=1e-4)
    assert_allclose(curve.high[place], (middle + half) / (1 + z**2 / n), atol=1e-4)


def test_survival_without_censoring_is_the_share_itself():
    curve = solving_curve([100, 300, 300, 700, 900, 900], [1, 1, 1, 1, 0, 0])
    assert_allclose(curve.iteration, [0, 100, 300, 700, 900])
    assert_allclose(curve.survival, [1, 5 / 6, 3 / 6, 2 / 6, 2 / 6])
    for place, left in enumerate([6, 5, 3, 2, 2]):
        share = wilson_interval(left, 6)
        assert_allclose([curve.low[place], curve.high[place]], [share.low, share.high], atol=1e-12)
    assert_array_equal(curve.censored, [900, 900])
    all_solved, share = solving_curve([100, 200, 300], [1, 1, 1]), wilson_interval(0, 3)
    assert_allclose([all_solved.low[-1], all_solved.high[-1]], [share.low, share.high], atol=1e-12)


@pytest.mark.parametrize(
    ("iterations", "solved", "last"),
    [
        ([3000] * 5, [0] * 5, 1),
        ([400, 3000, 3000], [0, 0, 0], 1),
        ([300] * 4, [1] * 4, 0),
        ([100, 200, 300], [1, 1, 1], 0),
        ([100, 200, 300], [0, 0, 1], 0),
        ([0, 0], [1, 1], 0),
        ([0, 500], [1, 0], 0.5),
        ([7], [1], 0),
        ([7], [0], 1),
    ],
)
def test_none_or_all_solved_is_no_special_case(iterations, solved, last):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = solving_curve(iterations, solved)
    assert curve.survival[-1] == pytest.approx(last)
    assert curve.iteration[0] == 0
    assert (np.diff(curve.survival) <= 0).all() and (np.diff(curve.iteration) > 0).all()
    for array in (curve.low, curve.high):
        assert np.isfinite(array).all()
    assert (curve.low <= curve.survival).all() and (curve.survival <= curve.high).all()
    assert curve.high[-1] - curve.low[-1] > 0.1  # so few runs are never certain


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=25))
def test_survival_follows_the_product_formula(runs):
    times, solved = zip(*runs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = solving_curve(times, solved)
    survival = 1.0
    for iteration, estimated in zip(curve.iteration, curve.survival, strict=True):
        at_risk = sum(time >= iteration for time in times)
        survival *= 1 - sum(done and time == iteration for time, done in runs) / at_risk
        assert estimated == pytest.approx(survival, abs=1e-12)
    assert ((curve.low >= 0) & (curve.low <= curve.survival)).all()
    assert ((curve.high <= 1) & (curve.high >= curve.survival)).all()


def test_failed_runs_stay_in_the_count():
    iterations, solved = [10, 500, 500, 900], [0, 1, 1, 0]
    dropped = solving_curve(iterations, solved)
    counted = solving_curve(iterations, solved, failed=[1, 0, 0, 0])
    assert dropped.survival[-1] == pytest.approx(1 / 3)
    assert counted.survival[-1] == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "iterations: empty"),
        (([np.nan], [1]), "iterations: NaN"),
        (([1, 2], [1]), "one entry per run"),
        (([[1, 2]], [[1, 0]]), r"iterations: shape \(1, 2\)"),
        (([-1], [1]), "not negative"),
        (([1], [1], [1]), "never both"),
        (([1], [1], None, 2), "level = 2"),
    ],
)
def test_times_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        solving_curve(*arguments)


# Curves


def test_ended_runs_are_carried_forward_and_told_apart():
    curves = curves_on_common_grid(
        [[0, 100, 200, 300], [0, 100], [0, 100, 200]],
        [[0.1, 0.2, 0.3, 0.4], [0.5, 1.0], [0.2, 0.3, 0.25]],
        solved=[False, True, False],
    )
    assert_array_equal(curves.iterations, [0, 100, 200, 300])
    assert_array_equal(curves.matrix, [[0.1, 0.2, 0.3, 0.4], [0.5, 1, 1, 1], [0.2, 0.3, 0.25, 0.25]])
    assert_array_equal(curves.flagged, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])


def test_curves_can_be_carried_to_a_common_end():
    curves = curves_on_common_grid([[0, 100]], [[0.5, 1.0]], [True], end=1000)
    assert_array_equal(curves.iterations, [0, 100, 1000])
    assert_array_equal(curves.matrix, [[0.5, 1.0, 1.0]])
    unchanged = curves_on_common_grid([[0, 100]], [[0.5, 0.6]], [False], end=50)
    assert_array_equal(unchanged.iterations, [0, 100])
    assert not unchanged.flagged.any()


def test_checks_of_different_spacing_are_merged():
    curves = curves_on_common_grid([[0, 10, 20], [0, 15]], [[1, 2, 3], [4, 5]], [False, False])
    assert_array_equal(curves.iterations, [0, 10, 15, 20])
    assert_array_equal(curves.matrix, [[1, 2, 2, 3], [4, 4, 5, 5]])


@pytest.mark.parametrize(
    ("iterations", "values", "solved", "message"),
    [
        ([], [], [], "at least one run"),
        ([[0, 1]], [[1, 2]], [True, False], "one entry per run"),
        ([[0, 1]], [[1]], [True], "run 0"),
        ([[0, 1], [0, 0]], [[1, 2], [1, 2]], [True, True], "run 1"),
        ([[0, 1], [5, 6]], [[1, 2], [1, 2]], [True, True], "run 1"),
        ([[0, 1]], [[1, np.nan]], [True], "values: NaN"),
        ([[]], [[]], [True], "iterations: empty"),
    ],
)
def test_histories_that_make_no_sense_are_refused(iterations, values, solved, message):
    with pytest.raises(ValueError, match=message):
        curves_on_common_grid(iterations, values, solved)


def test_band_is_iqm_and_quartiles_of_each_check(generator):
    matrix = generator.random((9, 4))
    centre, low, high = interquartile_band(matrix)
    for check in range(4):
        ordered = np.sort(matrix[:, check])
        assert centre[check] == pytest.approx(iqm_by_sorting(ordered))
        assert (low[check], high[check]) == pytest.approx(
            (ordered[2], ordered[6])
        )  # of nine: third and seventh
    with pytest.raises(ValueError, match="matrix: shape"):
        interquartile_band([1.0, 2.0])
