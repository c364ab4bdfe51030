"""Value and derivative of each local loss against autograd and the formulas of method.md."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lra_companion.local_losses import LOCAL_LOSSES, reduction_scale
from reference import distance

ELEMENTWISE = ["mse", "log_penalty", "huber", "l1"]
EACH_ELEMENT = pytest.mark.parametrize("name", ELEMENTWISE)
EVERY = pytest.mark.parametrize("name", [*ELEMENTWISE, "cosine"])
GRID = torch.linspace(-2, 2, 81, dtype=torch.float64)  # with the kinks of huber and l1 in it
SHIFT = torch.linspace(-0.9, 0.7, 81, dtype=torch.float64)


def by_hand(name: str, difference: torch.Tensor) -> torch.Tensor:
    """The elementwise losses of eq. 5."""
    size = difference.abs()
    return {
        "mse": size**2,
        "log_penalty": torch.log(1 + size**2),
        "huber": torch.where(size <= 1, size**2 / 2, size - 0.5),
        "l1": size,
    }[name]


def states_and_targets(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random states (..., H) in (-1, 1), and targets that may lie outside."""
    g = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(2)]
    return torch.tanh(draw[0]), draw[1]


def test_all_losses_are_there() -> None:
    """The two of the paper and the further ones are offered by name."""
    assert set(LOCAL_LOSSES) == {*ELEMENTWISE, "cosine"}


@EACH_ELEMENT
def test_value(name: str) -> None:
    """Each element of z - zhat is mapped by the loss's formula."""
    value = LOCAL_LOSSES[name].value(GRID + SHIFT, SHIFT)
    torch.testing.assert_close(value, by_hand(name, GRID), atol=1e-15, rtol=1e-13)


@EACH_ELEMENT
def test_derivative_is_that_of_the_value(name: str) -> None:
    """The closed derivative against autograd through the formula, kinks included."""
    d = GRID.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(by_hand(name, d).sum(), d)
    zero = torch.zeros_like(GRID)
    torch.testing.assert_close(LOCAL_LOSSES[name].derivative(GRID, zero), wanted, atol=1e-15, rtol=1e-13)


@EACH_ELEMENT
@given(x=st.floats(-2, 2, allow_subnormal=False))
def test_derivative_by_finite_differences(name: str, x: float) -> None:
    """A central difference of the package's value is the package's derivative, away from the kink of l1."""
    loss, step = LOCAL_LOSSES[name], 1e-5
    if name == "l1" and abs(x) <= step:
        return
    zero = torch.zeros((), dtype=torch.float64)
    around = [loss.value(torch.tensor(y, dtype=torch.float64), zero) for y in (x - step, x + step)]
    slope = float(around[1] - around[0]) / (2 * step)
    at = loss.derivative(torch.tensor(x, dtype=torch.float64), zero)
    kink = name == "huber" and abs(abs(x) - 1) <= step  # there the second derivative jumps
    assert float(at) == pytest.approx(slope, abs=step if kink else 1e-8)


@EVERY
@given(seed=st.integers(0, 10**6), examples=st.integers(1, 4), units=st.integers(1, 6))
def test_value_and_derivative_equal_autograd_through_the_reference(
    name: str, seed: int, examples: int, units: int
) -> None:
    """The value summed over the units is the example's distance, and the derivative that of its sum."""
    state, target = states_and_targets(examples, units, seed=seed)
    z = state.clone().requires_grad_()
    distances = distance(name, z, target)
    (wanted,) = torch.autograd.grad(distances.sum(), z)
    loss = LOCAL_LOSSES[name]
    torch.testing.assert_close(loss.value(state, target).sum(-1), distances.detach(), atol=1e-13, rtol=1e-12)
    size = float(1 + 1 / state.norm(dim=1).min())  # the cosine's derivative grows as 1 / |z|
    torch.testing.assert_close(loss.derivative(state, target), wanted, atol=1e-13 * size, rtol=1e-12)


def test_known_points() -> None:
    """By hand: at 1 the log-penalty is log 2 with slope 1, at 2 it is log 5 with slope 4/5."""
    points = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64)
    known = {
        "log_penalty": ([0, math.log(2), math.log(2), math.log(5)], [0, 1, -1, 0.8]),
        "mse": ([0, 1, 1, 4], [0, 2, -2, 4]),
        "huber": ([0, 0.5, 0.5, 1.5], [0, 1, -1, 1]),
        "l1": ([0, 1, 1, 2], [0, 1, -1, 1]),
    }
    for name, (values, slopes) in known.items():
        zero = torch.zeros_like(points)
        assert LOCAL_LOSSES[name].value(points, zero).tolist() == pytest.approx(values)
        assert LOCAL_LOSSES[name].derivative(points, zero).tolist() == pytest.approx(slopes)


@EACH_ELEMENT
def test_small_differences_keep_their_digits(name: str) -> None:
    """Near 0 the smooth losses are parabolas: targets of early steps are that close."""
    tiny = torch.tensor([1e-6, 1e-9, -1e-12], dtype=torch.float64)
    loss, zero = LOCAL_LOSSES[name], torch.zeros(3, dtype=torch.float64)
    value = {"huber": tiny**2 / 2, "l1": tiny.abs()}.get(name, tiny**2)
    slope = {"huber": tiny, "l1": tiny.sign()}.get(name, 2 * tiny)
    torch.testing.assert_close(loss.value(tiny, zero), value, rtol=1e-9, atol=0)
    torch.testing.assert_close(loss.derivative(tiny, zero), slope, rtol=1e-9, atol=0)


# ------------------------------------------------------------------------------------------ cosine distance


def test_cosine_known_points() -> None:
    """By hand: 0 in the same direction, 1 at right angles, 2 in the opposite one, 1 - 1/sqrt(2) at 45 degrees."""
    state = torch.tensor([[3.0, 0.0], [0.5, 0.0], [0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)
    target = torch.tensor([[0.2, 0.0], [0.0, 0.7], [-2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    loss = LOCAL_LOSSES["cosine"]
    assert loss.value(state, target).sum(-1).tolist() == pytest.approx([0, 1, 2, 1 - 0.5**0.5])
    wanted = [[0, 0], [0, -2], [0, 0], [0, -(2**0.5)]]
    assert loss.derivative(state, target).tolist() == [pytest.approx(row, abs=1e-15) for row in wanted]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosine_of_close_vectors_keeps_its_digits(dtype: torch.dtype) -> None:
    """1 - cos is below rounding here; the derivative is what of z - zhat is at right angles to z, over |z| |zhat|."""
    state = torch.tensor([[0.75, 0.0, 1.0]], dtype=torch.float64)
    moved = (
        torch.tensor([[0.25, 1.0, -0.5]], dtype=torch.float64) * 2.0**-20
    )  # exact in float32 beside the state
    target = state - moved
    across = moved - (moved * state).sum() / (state * state).sum() * state
    found = LOCAL_LOSSES["cosine"].derivative(state.to(dtype), target.to(dtype)).double()
    torch.testing.assert_close(found, across / state.norm() / target.norm(), rtol=1e-5, atol=0)
    value = float(LOCAL_LOSSES["cosine"].value(state.to(dtype), target.to(dtype)).sum())
    assert value == pytest.approx(float((across / state.norm()).square().sum() / 2), rel=0.1)
    assert not LOCAL_LOSSES["cosine"].derivative(state, state).any()


@pytest.mark.parametrize("ratio", [1e-30, 1e-12, 1.0, 1e12, 1e18])
def test_cosine_of_vectors_of_unequal_length(ratio: float) -> None:
    """The distance does not feel |zhat|, nor does its derivative, however different the lengths are."""
    state, target = states_and_targets(5, 4, seed=3)
    loss = LOCAL_LOSSES["cosine"]
    for function in (loss.value, loss.derivative):
        wanted, found = function(state, target), function(state.float(), (target * ratio).float())
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosine_is_zero_where_a_vector_is(dtype: torch.dtype) -> None:
    """Neither NaN nor infinity: a zero vector, or one below the normal numbers, has no direction."""
    least = torch.finfo(dtype).tiny * 0.25
    rows = torch.tensor([[0.0, 0.0], [least, 0.0], [0.5, -0.5], [1.0, 1.0]], dtype=dtype)
    state, target = rows.repeat_interleave(4, 0), rows.repeat(4, 1)
    loss = LOCAL_LOSSES["cosine"]
    for function in (loss.value, loss.derivative):
        found = function(state, target).unflatten(0, (4, 4))
        assert found.isfinite().all()
        assert not found[:2].any() and not found[:, :2].any()
    assert found[2, 3].any()


# --------------------------------------------------------------------------------------------------- shapes


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept_and_the_input_is_not_changed(name: str, dtype: torch.dtype) -> None:
    """Any shape (..., H), in the dtype of the states."""
    state, target = (tensor.to(dtype) for tensor in states_and_targets(2, 3, 4))
    kept = state.clone(), target.clone()
    for function in (LOCAL_LOSSES[name].value, LOCAL_LOSSES[name].derivative):
        result = function(state, target)
        assert result.shape == state.shape and result.dtype == dtype
        result += 1  # the caller may work in place
    assert torch.equal(state, kept[0]) and torch.equal(target, kept[1])


@EVERY
def test_examples_are_apart(name: str) -> None:
    """An example's value and derivative do not depend on its neighbours."""
    state, target = states_and_targets(3, 4, 5)
    for function in (LOCAL_LOSSES[name].value, LOCAL_LOSSES[name].derivative):
        assert torch.equal(function(state, target)[1, 2], function(state[1, 2], target[1, 2]))


@pytest.mark.parametrize(("batch", "hidden"), [(1, 1), (3, 5), (20, 100)])
def test_reductions(batch: int, hidden: int) -> None:
    """`mean` is torch's mean over (B, H); `per_example` sums the units and averages the examples."""
    elements = torch.rand(batch, hidden, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = float(elements.sum())
    assert reduction_scale("mean", batch, hidden) * total == pytest.approx(float(elements.mean()))
    assert reduction_scale("per_example", batch, hidden) * total == pytest.approx(
        float(elements.sum(1).mean())
    )
