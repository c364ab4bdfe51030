"""Value and derivative of each local loss against autograd and the formulas of method.md."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lra_companion.local_losses import LOCAL_LOSSES, reduction_scale

NAMES = pytest.mark.parametrize("name", ["mse", "log_penalty"])
GRID = torch.linspace(-2, 2, 81, dtype=torch.float64)


def by_hand(name: str, difference: torch.Tensor) -> torch.Tensor:
    """The elementwise losses of eq. 5."""
    return difference**2 if name == "mse" else torch.log(1 + difference**2)


def test_there_are_the_two_losses_of_the_paper() -> None:
    """Both are offered by name."""
    assert {"mse", "log_penalty"} <= set(LOCAL_LOSSES)


@NAMES
def test_value(name: str) -> None:
    """Each element of z - zhat is mapped by the loss's formula."""
    torch.testing.assert_close(LOCAL_LOSSES[name].value(GRID), by_hand(name, GRID), atol=1e-15, rtol=1e-13)


@NAMES
def test_derivative_is_that_of_the_value(name: str) -> None:
    """The closed derivative against autograd through the formula."""
    d = GRID.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(by_hand(name, d).sum(), d)
    torch.testing.assert_close(LOCAL_LOSSES[name].derivative(GRID), wanted, atol=1e-15, rtol=1e-13)


@NAMES
@given(x=st.floats(-2, 2, allow_subnormal=False))
def test_derivative_by_finite_differences(name: str, x: float) -> None:
    """A central difference of the package's value is the package's derivative."""
    loss, step = LOCAL_LOSSES[name], 1e-5
    around = loss.value(torch.tensor([x - step, x + step], dtype=torch.float64))
    slope = float(around[1] - around[0]) / (2 * step)
    assert float(loss.derivative(torch.tensor(x, dtype=torch.float64))) == pytest.approx(slope, abs=1e-8)


def test_known_points() -> None:
    """By hand: at 1 the log-penalty is log 2 with slope 1, at 2 it is log 5 with slope 4/5."""
    points = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64)
    log_penalty, mse = LOCAL_LOSSES["log_penalty"], LOCAL_LOSSES["mse"]
    assert log_penalty.value(points).tolist() == pytest.approx([0, math.log(2), math.log(2), math.log(5)])
    assert log_penalty.derivative(points).tolist() == pytest.approx([0, 1, -1, 0.8])
    assert mse.value(points).tolist() == pytest.approx([0, 1, 1, 4])
    assert mse.derivative(points).tolist() == pytest.approx([0, 2, -2, 4])


def test_small_differences_keep_their_digits() -> None:
    """log(1 + d^2) is d^2 for tiny d: targets of early steps are that close."""
    tiny = torch.tensor([1e-6, 1e-9, -1e-12], dtype=torch.float64)
    torch.testing.assert_close(LOCAL_LOSSES["log_penalty"].value(tiny), tiny**2, rtol=1e-9, atol=0)
    torch.testing.assert_close(LOCAL_LOSSES["log_penalty"].derivative(tiny), 2 * tiny, rtol=1e-9, atol=0)


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept_and_the_input_is_not_changed(name: str, dtype: torch.dtype) -> None:
    """Elementwise on any shape, in the dtype of the states."""
    d = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    kept = d.clone()
    for function in (LOCAL_LOSSES[name].value, LOCAL_LOSSES[name].derivative):
        result = function(d)
        assert result.shape == d.shape and result.dtype == dtype
    assert torch.equal(d, kept)


@pytest.mark.parametrize(("batch", "hidden"), [(1, 1), (3, 5), (20, 100)])
def test_reductions(batch: int, hidden: int) -> None:
    """`mean` is torch's mean over (B, H); `per_example` sums the units and averages the examples."""
    elements = torch.rand(batch, hidden, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = float(elements.sum())
    assert reduction_scale("mean", batch, hidden) * total == pytest.approx(float(elements.mean()))
    assert reduction_scale("per_example", batch, hidden) * total == pytest.approx(
        float(elements.sum(1).mean())
    )
