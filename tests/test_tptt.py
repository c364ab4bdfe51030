"""tptt against autograd on one squared error at a time, against exact inverses where there are some, and on a task."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lra_companion.config import BPTTConfig, TPTTConfig
from lra_companion.learners import make_learner
from lra_companion.learners.tptt import Inverse, change_of_tanh, displacements
from lra_companion.network import Batch, Parameters, forward, initial_parameters, readout
from lra_companion.randomness import run_generator
from lra_companion.training import RunResult, run_group, shape_key, train
from problems import Shape, inputs_of, random_problem, select, weights_of
from reference import TPTTResult, Weights, tptt_gradients
from runs import assert_same, run_config

CLOSE = {"atol": 1e-10, "rtol": 1e-10}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"target_step_size": 30.0, "inverse_noise": 0.0},
    {"target_step_size": 0.01, "inverse_noise": 2.0, "inverse_learning_rate": 0.5},
    {"target_step_size": 5.0, "clip_norm": 0.05},
    {"clip_norm": 1e6},
]
SEEDS = [10, 11, 12, 13, 14]
SHAPES = st.builds(
    Shape,
    runs=st.just(len(SETTINGS)),
    steps=st.integers(1, 6),
    batch=st.integers(1, 5),
    inputs=st.integers(2, 6),
    hidden=st.integers(2, 6),
    outputs=st.integers(2, 5),
    symbols=st.booleans(),
    real_targets=st.booleans(),
)


def config_of(run: int) -> TPTTConfig:
    return TPTTConfig(name="tptt", **SETTINGS[run])


def tptt(runs: list[int], inverse: Inverse | None = None) -> Any:
    """The package's learner for some of the runs of SETTINGS and SEEDS, with an inverse drawn or given."""
    learner: Any = make_learner([config_of(run) for run in runs], [SEEDS[run] for run in runs])
    learner.inverse = inverse
    return learner


def random_inverse(like: Parameters, seed: int = 0) -> Inverse:
    """V and c that undo nothing."""
    g = torch.Generator().manual_seed(seed)
    v, c = (torch.randn(t.shape, generator=g, dtype=torch.float64).to(t.dtype) for t in (like.w_hh, like.b_h))
    return Inverse(v * like.b_h.shape[1] ** -0.5, 0.3 * c)


def wanted_of(
    run: int, parameters: Parameters, inverse: Inverse, batch: Batch, iteration: int = 0
) -> TPTTResult:
    """What the reference finds for one of SETTINGS, with the noise of that run's seed."""
    config = config_of(run)
    shape = (len(batch.inputs) - 1, batch.inputs.shape[2], parameters.b_h.shape[1])
    noise = torch.from_numpy(run_generator(SEEDS[run], "inverse_noise", iteration).standard_normal(shape))
    return tptt_gradients(
        weights_of(parameters, run),
        (inverse.v[run], inverse.c[run]),
        inputs_of(batch, run),
        batch.targets[run],
        config.inverse_noise * noise,
        config.target_step_size,
        config.clip_norm,
    )


def assert_equal(one: Parameters, other: Parameters) -> None:
    """Two sets of gradients are the same to the last bit."""
    for name in Weights._fields:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


# ---------------------------------------------------------------------------------- the equations, by autograd


@given(shape=SHAPES, seed=st.integers(0, 10**6))
def test_gradients_and_measurements_equal_the_reference(shape: Shape, seed: int) -> None:
    """Each run with settings of its own, and an inverse that is wrong."""
    parameters, batch = random_problem(shape, seed)
    inverse = random_inverse(parameters, seed)
    gradients, seen = tptt([0, 1, 2, 3, 4], inverse).gradients(parameters, batch, diagnose=True)
    output_gradient = make_learner([BPTTConfig(name="bptt")] * 5).gradients(parameters, batch)[0].w_hy
    for run in range(5):
        wanted = wanted_of(run, parameters, inverse, batch)
        for name in Weights._fields:
            torch.testing.assert_close(
                getattr(gradients, name)[run], getattr(wanted.gradients, name), **CLOSE
            )
        for name in ("recurrent_norm", "input_norm", "target_displacement", "local_loss"):
            torch.testing.assert_close(
                getattr(seen, name)[:, run], torch.stack(getattr(wanted, name)), **CLOSE
            )
        inverse_loss = torch.stack([torch.zeros((), dtype=torch.float64), *wanted.inverse_loss])
        torch.testing.assert_close(seen.inverse_loss[:, run], inverse_loss, **CLOSE)
        norms = [*wanted.recurrent_norm, *wanted.input_norm, output_gradient[run].norm()]
        clipped = sum(bool(size > config_of(run).clip_norm > 0) for size in norms)
        assert seen.clipped_share[run] == pytest.approx(clipped / (2 * shape.steps))


@given(shape=SHAPES, seed=st.integers(0, 10**6))
def test_the_inverse_descends_its_own_loss_at_its_own_rate(shape: Shape, seed: int) -> None:
    """V and c move by the reference's gradient times the run's rate, with fresh noise at every call."""
    parameters, batch = random_problem(shape, seed)
    before = random_inverse(parameters, seed)
    learner = tptt([0, 1, 2, 3, 4], before)
    for iteration in range(3):
        learner.gradients(parameters, batch)
        for run in range(5):
            wanted = wanted_of(run, parameters, before, batch, iteration)
            rate = config_of(run).inverse_learning_rate
            torch.testing.assert_close(learner.inverse.v[run], before.v[run] - rate * wanted.v, **CLOSE)
            torch.testing.assert_close(learner.inverse.c[run], before.c[run] - rate * wanted.c, **CLOSE)
        before = learner.inverse


def test_symbols_and_one_hot_rows_give_the_same_gradients() -> None:
    """A symbol is a short way to write a one-hot row, for the inverse too."""
    parameters, batch = random_problem(Shape(runs=2, symbols=True, inputs=3), seed=8)
    rows = Batch(torch.nn.functional.one_hot(batch.inputs, 3).double(), batch.targets)
    learners = [tptt([0, 3]), tptt([0, 3])]
    for _ in range(2):
        one, other = (
            learner.gradients(parameters, b)[0] for learner, b in zip(learners, (batch, rows), strict=True)
        )
        for name in Weights._fields:
            torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(learners[0].inverse.v, learners[1].inverse.v, atol=1e-12, rtol=1e-12)


# ------------------------------------------------------------------------------------------- exact inverses


def test_targets_of_a_linear_orthogonal_network_are_those_of_its_exact_inverse() -> None:
    """z_{t-1} = (z_t - x_t W_xh - b_h) W_hh^-1, applied to the targets themselves from the last step to the first."""
    parameters, batch = random_problem(Shape(runs=2, steps=30, hidden=6), seed=1)
    w_hh = torch.linalg.qr(parameters.w_hh).Q
    driven = (batch.inputs @ parameters.w_xh + parameters.b_h[:, None, :]).transpose(0, 1)  # (R, T, B, H)
    z = [torch.zeros_like(driven[:, 0])]
    for t in range(30):
        z.append(driven[:, t] + z[-1] @ w_hh)
    top = torch.randn(z[-1].shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    zhat = [z[-1] + top]
    for t in range(29, 0, -1):
        zhat.insert(0, torch.linalg.solve(w_hh, zhat[0] - driven[:, t], left=False))
    assert min((target - state).norm() for target, state in zip(zhat, z[1:], strict=True)) > 1

    preactivations = driven[:, 1:] + torch.stack(z[2:], dim=1) @ w_hh.transpose(1, 2)[:, None]
    found = displacements(top, preactivations, w_hh.transpose(1, 2), lambda u, change: change)
    torch.testing.assert_close(torch.stack(z[1:], dim=1) + found, torch.stack(zhat, dim=1), **CLOSE)


def near_zero(steps: int, seed: int) -> tuple[Parameters, Batch]:
    """A network with orthogonal W_hh whose states are so small that tanh is linear and its slope 1."""
    parameters, batch = random_problem(Shape(runs=2, steps=steps, hidden=6), seed)
    parameters.w_hh = torch.linalg.qr(parameters.w_hh).Q.contiguous()
    parameters.w_xh *= 1e-7
    parameters.b_h *= 1e-7
    return parameters, batch


def test_with_the_exact_inverse_of_a_linear_network_it_is_backpropagation() -> None:
    """W^-1 = W^T, so targets are moved along exact gradients: the two agree but for the factor 2 a / B."""
    parameters, batch = near_zero(steps=12, seed=3)
    exact = Inverse(parameters.w_hh.transpose(1, 2).contiguous(), torch.zeros_like(parameters.b_h))
    learner: Any = make_learner([TPTTConfig(name="tptt", target_step_size=1e-6)] * 2, [1, 2])
    learner.inverse = exact
    mine, seen = learner.gradients(parameters, batch, diagnose=True)
    wanted, _ = make_learner([BPTTConfig(name="bptt")] * 2).gradients(parameters, batch)
    for name in ("w_xh", "w_hh", "b_h"):
        scaled = getattr(mine, name) * (3 / 2e-6)  # B = 3
        torch.testing.assert_close(scaled, getattr(wanted, name), rtol=1e-8, atol=1e-12)
    for name in ("w_hy", "b_y"):
        torch.testing.assert_close(getattr(mine, name), getattr(wanted, name), **CLOSE)
    torch.testing.assert_close(
        seen.target_displacement, seen.target_displacement[-1].expand(12, 2), rtol=1e-8, atol=0
    )


def test_the_inverse_of_a_linear_network_is_learnt() -> None:
    """Without inputs, noise is all there is to undo: V goes from a drawn orthogonal matrix to W_hh^T, and c stays 0."""
    parameters, batch = near_zero(steps=12, seed=4)
    parameters.w_xh *= 0
    parameters.b_h *= 0
    config = TPTTConfig(name="tptt", inverse_noise=0.1, inverse_learning_rate=0.05)
    learner: Any = make_learner([config] * 2, [1, 2])
    distances = []
    for _ in range(500):
        learner.gradients(parameters, batch)
        distances.append((learner.inverse.v - parameters.w_hh.transpose(1, 2)).norm())
    assert distances[0] > 2
    assert distances[-1] < 0.1  # tanh of the noise is not quite linear
    assert learner.inverse.c.norm() < 0.01


@pytest.mark.parametrize("start", [0.0, 0.3, -1.5, 4.0, -20.0, 60.0])
@pytest.mark.parametrize("change", [0.0, 1e-30, -1e-9, 1e-3, -0.4, 2.0, -9.0, 41.0, -80.0])
def test_the_change_of_tanh_keeps_its_digits(start: float, change: float) -> None:
    """float32 against float64: all digits of a small change, the right limits where both ends are saturated, never NaN."""
    found = float(change_of_tanh(torch.tensor([start]), torch.tensor([change])))
    u, e = torch.tensor(start, dtype=torch.float64), torch.tensor(change).double()
    wanted = float(torch.tanh(u + e) - torch.tanh(u) if abs(change) > 1e-6 else e * (1 - torch.tanh(u) ** 2))
    assert found == pytest.approx(
        wanted, rel=2e-4 if abs(start) > 3 else 2e-6, abs=1.2e-7 * min(1, abs(change))
    )


# ------------------------------------------------------------------------- runs side by side, and looking on


@pytest.mark.parametrize("symbols", [True, False])
@pytest.mark.parametrize("runs", [[0], [2], [3], [1, 4]])
@pytest.mark.parametrize(("batch", "hidden"), [(7, 24), (1, 8), (20, 100), (4, 1)])
def test_a_run_is_the_same_bits_alone_and_among_others(
    symbols: bool, runs: list[int], batch: int, hidden: int
) -> None:
    """Gradients, V and c over three calls, whatever it is batched with."""
    shape = Shape(runs=5, steps=8, batch=batch, inputs=6, hidden=hidden, outputs=4, symbols=symbols)
    parameters, data = random_problem(shape, seed=7, dtype=torch.float32)
    together, alone = tptt([0, 1, 2, 3, 4]), tptt(runs)
    for _ in range(3):
        many, _ = together.gradients(parameters, data)
        few, _ = alone.gradients(*select(parameters, data, runs))
        assert_equal(many.select(torch.tensor(runs)), few)
        assert torch.equal(together.inverse.v[runs], alone.inverse.v)
        assert torch.equal(together.inverse.c[runs], alone.inverse.c)


@pytest.mark.parametrize("calls", [0, 2])
def test_runs_that_stay_take_their_inverse_and_their_noise_along(calls: int) -> None:
    """After two of five have left, the others go on as if those had never been there; the old learner is not touched."""
    shape = Shape(runs=5, steps=6, batch=7, hidden=24, symbols=True)
    parameters, data = random_problem(shape, seed=8, dtype=torch.float32)
    runs = [1, 2, 4]
    learner, alone = tptt([0, 1, 2, 3, 4]), tptt(runs)
    for _ in range(calls):
        learner.gradients(parameters, data)
        alone.gradients(*select(parameters, data, runs))
    kept = learner.select(torch.tensor(runs))
    for _ in range(2):
        few, _ = alone.gradients(*select(parameters, data, runs))
        assert_equal(kept.gradients(*select(parameters, data, runs))[0], few)
    assert torch.equal(kept.inverse.v, alone.inverse.v)
    assert learner.iteration == calls and (learner.inverse is None) == (calls == 0)


def test_learners_without_a_state_keep_the_settings_of_those_that_stay() -> None:
    """The default: the same rule made anew."""
    parameters, batch = random_problem(Shape(runs=3), seed=9)
    configs = [BPTTConfig(name="bptt", clip_norm=c) for c in (0.0, 0.01, 0.1)]
    kept = make_learner(configs).select(torch.tensor([2, 1]))
    wanted, _ = make_learner([configs[2], configs[1]]).gradients(*select(parameters, batch, [2, 1]))
    assert_equal(kept.gradients(*select(parameters, batch, [2, 1]))[0], wanted)


def test_diagnosing_only_looks() -> None:
    """It shows the gradients of the next call, and changes neither the inverse, nor the noise, nor torch's generator."""
    parameters, batch = random_problem(Shape(runs=5, steps=6), seed=10)
    looked_at, left_alone = tptt([0, 1, 2, 3, 4]), tptt([0, 1, 2, 3, 4])
    before = parameters.select(torch.arange(5))
    state = torch.get_rng_state()
    for _ in range(3):
        shown, seen = looked_at.gradients(parameters, batch, diagnose=True)
        again, seen_again = looked_at.gradients(parameters, batch, diagnose=True)
        assert torch.equal(seen.inverse_loss, seen_again.inverse_loss)
        one, _ = looked_at.gradients(parameters, batch)
        other, _ = left_alone.gradients(parameters, batch)
        for gradients in (shown, again, other):
            assert_equal(one, gradients)
        assert torch.equal(looked_at.inverse.v, left_alone.inverse.v)
        assert torch.equal(looked_at.inverse.c, left_alone.inverse.c)
    assert_equal(before, parameters)
    assert torch.equal(state, torch.get_rng_state())


def test_the_first_inverse() -> None:
    """V orthogonal, from the run's own seed, and no copy of W_hh; c = 0; both in the network's dtype."""
    parameters = initial_parameters([3, 4], 5, 30, 2)
    inverse = Inverse.initial([3, 4], parameters.w_hh)
    eye = torch.eye(30).expand(2, 30, 30)
    torch.testing.assert_close(inverse.v @ inverse.v.transpose(1, 2), eye, atol=1e-5, rtol=0)
    assert inverse.v.dtype == torch.float32 and torch.count_nonzero(inverse.c) == 0
    assert (inverse.v[0] - inverse.v[1]).norm() > 3
    assert (inverse.v - parameters.w_hh).norm() > 3 and (inverse.v - parameters.w_hh.mT).norm() > 3
    assert torch.equal(Inverse.initial([4], parameters.w_hh[1:]).v[0], inverse.v[1])


def test_a_seed_for_every_run() -> None:
    """Without seeds there is no noise to draw, with too few it would be someone else's."""
    config = TPTTConfig(name="tptt")
    with pytest.raises(ValueError, match=r"^seeds = \[\]: .*tptt"):
        make_learner([config])
    with pytest.raises(ValueError, match="1 seeds for 2 configs"):
        make_learner([config, config], [1])


# -------------------------------------------------------------------------------- what is not a usual number


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_never_nan(dtype: torch.dtype) -> None:
    """No error moves nothing but the inverse; saturated units, no recurrence, no readout, a wild inverse: finite."""
    shape = Shape(runs=5, steps=6, real_targets=True)
    parameters, batch = random_problem(shape, seed=5, dtype=dtype)
    reached = readout(parameters, forward(parameters, batch.inputs).z[-1])
    learner = tptt([0, 1, 2, 3, 4], random_inverse(parameters))
    before = learner.inverse.v
    gradients, _ = learner.gradients(parameters, Batch(batch.inputs, reached))
    assert all(torch.equal(v, torch.zeros_like(v)) for v in gradients)
    assert (learner.inverse.v - before).abs().amax((1, 2)).min() > 0
    for name, value in (("b_h", 60.0), ("w_hh", 0.0), ("w_hy", 0.0), ("w_xh", 0.0), ("v", 1e4), ("c", -60.0)):
        changed, _ = random_problem(shape, seed=5, dtype=dtype)
        inverse = random_inverse(changed)
        getattr(inverse if name in ("v", "c") else changed, name)[:] = value
        learner = tptt([0, 1, 2, 3, 4], inverse)
        for _ in range(2):
            gradients, seen = learner.gradients(changed, batch)
        _, seen = learner.gradients(changed, batch, diagnose=True)
        assert all(v.isfinite().all() for v in gradients), name
        assert all(v.isfinite().all() for v in (learner.inverse.v, learner.inverse.c)), name
        assert all(v.isfinite().all() for v in vars(seen).values() if v is not None), name
        assert (gradients.b_y.norm(dim=1) > 0).all()


def test_displacements_vanish_over_many_steps_without_losing_their_digits() -> None:
    """float32, an inverse that shrinks targets: far back they are smaller than what 1 + x would keep, and still exact."""
    shape = Shape(runs=1, steps=60, batch=5, hidden=20, symbols=True)
    parameters, batch = random_problem(shape, seed=6, dtype=torch.float32)
    doubles = Parameters(*(tensor.double() for tensor in parameters))
    inverse = random_inverse(parameters)
    inverse.v *= 0.5
    exact = Inverse(inverse.v.double(), inverse.c.double())
    _, single = tptt([0], inverse).gradients(parameters, batch, diagnose=True)
    _, double = tptt([0], exact).gradients(doubles, batch, diagnose=True)
    assert 0 < single.target_displacement[0] < 1e-12
    torch.testing.assert_close(
        single.target_displacement.double(), double.target_displacement, rtol=1e-3, atol=0
    )
    torch.testing.assert_close(single.recurrent_norm.double(), double.recurrent_norm, rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["v", "c"])
def test_an_inverse_that_is_not_finite_shows_in_its_own_run_alone(part: str, value: float) -> None:
    """Even an infinity that tanh would have made a number of."""
    parameters, batch = random_problem(Shape(runs=5, steps=6, hidden=24), seed=11, dtype=torch.float32)
    spoilt, well = random_inverse(parameters), random_inverse(parameters)
    getattr(spoilt, part)[3].view(-1)[5] = value
    learner, other = tptt([0, 1, 2, 3, 4], spoilt), tptt([0, 1, 2, 3, 4], well)
    rest = torch.tensor([0, 1, 2, 4])
    for _ in range(2):
        found, wanted = learner.gradients(parameters, batch)[0], other.gradients(parameters, batch)[0]
        assert_equal(found.select(rest), wanted.select(rest))
        for name in ("w_xh", "w_hh", "b_h"):
            assert not getattr(found, name)[3].isfinite().any(), name
    assert torch.equal(learner.inverse.v[rest], other.inverse.v[rest])


def results(configs: list[Any]) -> list[RunResult]:
    """Results of runs trained side by side, in the order of their configs."""
    found = dict(run_group(configs))
    return [found[index] for index in range(len(configs))]


def test_an_inverse_that_diverges_ends_its_run_alone() -> None:
    """Its rate overflows: recorded at the first iteration that uses the spoilt inverse, with the last finite weights."""
    good = run_config({"name": "tptt"}, seed=3)
    bad = run_config({"name": "tptt", "inverse_learning_rate": 1e39}, seed=4)
    assert shape_key(good) == shape_key(bad)
    spoilt, well = results([bad, good])
    assert (spoilt.status, spoilt.iterations) == ("diverged", 1)
    assert spoilt.parameters is not None and all(t.isfinite().all() for t in spoilt.parameters)
    assert well.status == "max_iterations"
    assert_same(well, train(good))


# ---------------------------------------------------------------------------------------------- it learns


def temporal_order(seed: int, **learner: Any) -> Any:
    """T = 20 at a rate at which the readout alone is far from solving it in as many iterations."""
    fields: dict[str, Any] = {"length": 20, "hidden": 100, "batch_size": 20, "validation_size": 1000}
    return run_config(
        learner, seed, "temporal_order", rate=0.1, max_iterations=200, validate_every=25, **fields
    )


def moved(result: RunResult, name: str) -> Tensor:
    """How far a weight matrix is from where it began."""
    assert result.parameters is not None
    start = initial_parameters([result.config.seed], 6, 100, 4)
    return (getattr(result.parameters, name) - getattr(start, name)).norm()


def test_solves_temporal_order_with_the_inverse_it_has_learnt() -> None:
    """Three seeds; neither the readout alone nor targets from an inverse left as it was drawn get there."""
    rule = {"name": "tptt", "inverse_learning_rate": 0.005}
    solved = results([temporal_order(seed, **rule) for seed in range(3)])
    frozen = results([temporal_order(seed, **rule | {"inverse_learning_rate": 0.0}) for seed in range(3)])
    control = results([temporal_order(seed, name="readout") for seed in range(3)])
    assert [result.status for result in solved] == ["solved"] * 3
    assert min(moved(result, "w_hh") for result in solved) > 0.3
    assert {result.status for result in [*frozen, *control]} == {"max_iterations"}
    assert max(result.validation_accuracy for result in control) < 0.85
