"""Clipping (eq. 3) and the regulariser Ω (eq. 8) against their definitions, autograd and finite differences."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lra_companion.stability import clip, regulariser
from reference import omega, omega_gradients

SCOPES = pytest.mark.parametrize("scope", ["batch", "example"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flags(*values: bool) -> Tensor:
    """A boolean per run."""
    return torch.tensor(values)


# ------------------------------------------------------------------------------------------------- eq. 3


def test_clip_each_run_by_its_own_norm_and_mode() -> None:
    """Off, longer than c, shorter than c, and the two again where the norm is always set to c."""
    gradient = normal(6, 3, 4)
    gradient /= gradient.flatten(1).norm(dim=1)[:, None, None]
    gradient *= torch.tensor([5.0, 5.0, 0.5, 5.0, 0.5, 5.0], dtype=torch.float64)[:, None, None]
    clip_norm = torch.tensor([0.0, 2.0, 2.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    result = clip(gradient, clip_norm, flags(False, False, False, True, True, True))
    wanted = gradient * torch.tensor([1.0, 0.4, 1.0, 0.4, 4.0, 1.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(result, wanted, rtol=1e-14, atol=0)


@DTYPES
def test_zero_stays_zero(dtype: torch.dtype) -> None:
    """No direction to rescale, in no mode."""
    zero = torch.zeros(4, 2, 3, dtype=dtype)
    clip_norm = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=dtype)
    assert torch.equal(clip(zero, clip_norm, flags(False, False, True, True)), zero)


def test_a_short_gradient_is_left_bit_for_bit() -> None:
    """Below c, eq. 3 is the identity; with c = 0 always."""
    gradient = 1e-3 * normal(2, 4, 4).float()
    assert torch.equal(clip(gradient, torch.tensor([1.0, 0.0]), flags(False, False)), gradient)


@DTYPES
@pytest.mark.parametrize("size", [1e-35, 1e-25, 1e-18, 1e-3, 1.0, 1e12])
def test_normalise_reaches_the_norm_from_any_size(dtype: torch.dtype, size: float) -> None:
    """Squares of tiny gradients underflow in float32; the rescaled norm must be c all the same."""
    gradient = (size * normal(1, 5, 6)).to(dtype)
    result = clip(gradient, torch.tensor([0.7], dtype=dtype), flags(True))
    assert float(result.double().norm()) == pytest.approx(0.7, rel=1e-5)
    torch.testing.assert_close(
        result / 0.7, gradient / size / normal(1, 5, 6).norm().to(dtype), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e-40), (torch.float64, 1e-310)])
def test_normalise_of_a_subnormal_gradient_is_finite(dtype: torch.dtype, size: float) -> None:
    """c / |g| is beyond the dtype's range there: whatever is left of the direction, never infinite or NaN."""
    gradient = (size * normal(1, 3, 4).abs()).to(dtype)
    assert 0 < float(gradient.max()) < torch.finfo(dtype).tiny
    result = clip(gradient, torch.tensor([0.7], dtype=dtype), flags(True))
    assert result.isfinite().all() and float(result.double().norm()) < 0.71


@given(
    st.floats(0.01, 10),
    st.floats(0.01, 10),
    st.booleans(),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_clip_against_the_formula(size: float, norm: float, normalise: bool, trailing: list[int]) -> None:
    """The direction is kept; the length becomes c, or min(c, length) where only long ones are cut."""
    gradient = normal(1, *trailing, seed=4)
    gradient = size * gradient / gradient.norm()
    result = clip(gradient, torch.tensor([norm], dtype=torch.float64), flags(normalise))
    length = norm if normalise else min(norm, size)
    torch.testing.assert_close(result, gradient * (length / size), rtol=1e-12, atol=1e-14)


def test_clipping_one_run_does_not_touch_another() -> None:
    """Each run's result is the same bits alone and among others."""
    gradient, clip_norm = normal(5, 7, 9).float(), torch.tensor([0.1, 1.0, 50.0, 0.0, 2.0])
    normalise = flags(True, False, False, True, True)
    together = clip(gradient, clip_norm, normalise)
    for run in range(5):
        one = slice(run, run + 1)
        assert torch.equal(clip(gradient[one], clip_norm[one], normalise[one])[0], together[run])


# ------------------------------------------------------------------------------------------------- eq. 8


def through_package(error: Tensor, weight: Tensor, u: Tensor, scope: str) -> tuple[Tensor, Tensor, Tensor]:
    """Ω, dΩ/dW, dΩ/du of one run from the package: error (B, M), weight (H, M), u (B, H)."""
    found = regulariser(error[None], (error @ weight.T)[None], torch.tanh(u)[None], flags(scope == "example"))
    return found.value[0], found.weight_factor[0].T @ error, found.preactivation[0]


def finite_difference(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar function, entry by entry."""
    slopes = torch.zeros_like(at)
    for index in range(at.numel()):
        shift = torch.zeros_like(at)
        shift.view(-1)[index] = step
        slopes.view(-1)[index] = (function(at + shift) - function(at - shift)) / (2 * step)
    return slopes


@SCOPES
@given(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), st.integers(0, 10**6))
def test_omega_against_autograd_of_its_definition(scope: str, sizes: tuple[int, int, int], seed: int) -> None:
    """Value and both gradients, for any shape."""
    batch, hidden, upper = sizes
    error, weight, u = (
        normal(batch, upper, seed=seed),
        normal(hidden, upper, seed=seed + 1),
        normal(batch, hidden),
    )
    for found, wanted in zip(
        through_package(error, weight, u, scope), omega_gradients(error, weight, u, scope), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@SCOPES
def test_omega_against_finite_differences(scope: str) -> None:
    """No autograd on either side; the error d is held still while W and u move."""
    error, weight, u = normal(3, 4, seed=1), normal(5, 4, seed=2), 0.7 * normal(3, 5, seed=3)
    value, by_weight, by_preactivation = through_package(error, weight, u, scope)
    assert float(value) == pytest.approx(float(omega(error, weight, u, scope)), rel=1e-12)
    slopes = finite_difference(lambda w: omega(error, w, u, scope), weight)
    torch.testing.assert_close(by_weight, slopes, rtol=1e-6, atol=1e-8)
    slopes = finite_difference(lambda v: omega(error, weight, v, scope), u)
    torch.testing.assert_close(by_preactivation, slopes, rtol=1e-6, atol=1e-8)
    assert by_weight.norm() > 1e-2 and by_preactivation.norm() > 1e-2


def test_omega_by_hand() -> None:
    """One unit, one example: d = 3, W = 2, u = 0 gives r = 2, Ω = 1, dΩ/dW = 2, dΩ/du = 0."""
    one = torch.ones(1, 1, dtype=torch.float64)
    value, by_weight, by_preactivation = through_package(3 * one, 2 * one, 0 * one, "batch")
    assert (float(value), float(by_weight), float(by_preactivation)) == pytest.approx((1.0, 2.0, 0.0))


@SCOPES
def test_omega_is_zero_where_the_norm_is_kept(scope: str) -> None:
    """An orthogonal W at u = 0 keeps every error's norm: nothing to regularise."""
    weight = torch.linalg.qr(normal(4, 4))[0]
    value, by_weight, by_preactivation = through_package(
        normal(3, 4, seed=5), weight, torch.zeros(3, 4).double(), scope
    )
    assert float(value) < 1e-28 and by_weight.norm() < 1e-13 and by_preactivation.norm() < 1e-13


def test_the_scope_belongs_to_the_run_and_leading_axes_are_allowed() -> None:
    """(T, R, B, .): each step and each run by itself, with the run's own scope."""
    steps, runs, batch, hidden, upper = 3, 4, 5, 6, 2
    error, weight = normal(steps, runs, batch, upper, seed=1), normal(runs, hidden, upper, seed=2)
    u = normal(steps, runs, batch, hidden, seed=3)
    scopes = ["batch", "example", "example", "batch"]
    pulled_back = error @ weight.mT
    found = regulariser(error, pulled_back, torch.tanh(u), flags(*(s == "example" for s in scopes)))
    assert found.value.shape == (steps, runs)
    assert found.weight_factor.shape == found.preactivation.shape == (steps, runs, batch, hidden)
    for t in range(steps):
        for run, scope in enumerate(scopes):
            d = error[t, run]
            value, by_weight, by_u = omega_gradients(d, weight[run], u[t, run], scope)
            torch.testing.assert_close(found.value[t, run], value, rtol=1e-12, atol=1e-13)
            torch.testing.assert_close(found.weight_factor[t, run].T @ d, by_weight, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(found.preactivation[t, run], by_u, rtol=1e-11, atol=1e-12)


def test_the_scopes_coincide_for_one_example_and_differ_for_several() -> None:
    """One r per example is one r per batch where the batch is one example."""
    error, weight, u = normal(3, 4, seed=1), normal(5, 4, seed=2), normal(3, 5, seed=3)
    for found, wanted in zip(
        through_package(error[:1], weight, u[:1], "example"),
        through_package(error[:1], weight, u[:1], "batch"),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-14)
    assert (
        abs(through_package(error, weight, u, "example")[0] - through_package(error, weight, u, "batch")[0])
        > 1e-3
    )


@SCOPES
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [
        (torch.float32, -116),
        (torch.float32, -83),
        (torch.float32, -20),
        (torch.float32, 40),
        (torch.float64, -1000),
        (torch.float64, -600),
        (torch.float64, 300),
    ],
)
def test_the_size_of_the_error_does_not_matter(scope: str, dtype: torch.dtype, exponent: int) -> None:
    """d times a power of two, down to 1e-25 in float32, whose square is 0: the same Ω and gradients."""
    error, weight, u = (
        v.to(dtype) for v in (normal(3, 4, seed=1), normal(5, 4, seed=2), normal(3, 5, seed=3))
    )
    scaled = error * torch.tensor(2.0, dtype=torch.float64).pow(exponent).to(dtype)
    assert (scaled.abs() > torch.finfo(dtype).tiny).all() and scaled.isfinite().all()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for found, wanted in zip(
        through_package(scaled, weight, u, scope),
        omega_gradients(error.double(), weight.double(), u.double(), scope),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted.to(dtype), rtol=tolerance, atol=tolerance)


def is_nothing(result: tuple[Tensor, Tensor, Tensor]) -> bool:
    """Whether Ω and both of its gradients are exactly zero (so not NaN)."""
    return all(bool((part == 0).all()) for part in result)


@SCOPES
@DTYPES
def test_guards(scope: str, dtype: torch.dtype) -> None:
    """No error, no weight, no slope: Ω and its gradients are 0."""
    error, weight, u = (
        v.to(dtype) for v in (normal(3, 4, seed=1), normal(5, 4, seed=2), normal(3, 5, seed=3))
    )
    assert is_nothing(through_package(0 * error, weight, u, scope))
    assert is_nothing(through_package(error, 0 * weight, u, scope))
    assert is_nothing(through_package(error, weight, 60 * u.sign(), scope))
    assert not is_nothing(through_package(error, weight, u, scope))


@SCOPES
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e-40), (torch.float64, 1e-310)])
def test_below_the_smallest_normal_number(scope: str, dtype: torch.dtype, size: float) -> None:
    """A subnormal error has lost its direction: it counts as none."""
    one = torch.ones(1, 1, dtype=dtype)
    assert float(size * one) > 0
    assert is_nothing(through_package(size * one, 2 * one, 0.3 * one, scope))
    assert is_nothing(through_package(one, size * one, 0.3 * one, scope))


@DTYPES
def test_an_example_without_an_error_counts_as_zero_in_the_mean(dtype: torch.dtype) -> None:
    """Scope "example": the others keep their 1/B."""
    error, weight, u = (
        v.to(dtype) for v in (normal(4, 4, seed=1), normal(5, 4, seed=2), normal(4, 5, seed=3))
    )
    error[2] = 0
    others = [0, 1, 3]
    value, by_weight, by_u = through_package(error, weight, u, "example")
    value_3, by_weight_3, by_u_3 = through_package(error[others], weight, u[others], "example")
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(value, 0.75 * value_3, **close)
    torch.testing.assert_close(by_weight, 0.75 * by_weight_3, **close)
    torch.testing.assert_close(by_u[others], 0.75 * by_u_3, **close)
    assert torch.equal(by_u[2], torch.zeros(5, dtype=dtype))


def test_a_saturated_example_counts_as_zero_in_the_mean() -> None:
    """The same where the slope, not the error, is zero."""
    error, weight, u = normal(4, 4, seed=1), normal(5, 4, seed=2), normal(4, 5, seed=3)
    u[0] = 60.0
    for found, wanted in zip(
        through_package(error, weight, u, "example"),
        omega_gradients(error, weight, u, "example"),
        strict=True,
    ):
        assert found.isfinite().all()
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


def test_a_run_is_the_same_bits_alone_and_among_others() -> None:
    """Ω of a run does not depend on the runs beside it."""
    error, weight, u = (
        normal(6, 7, 9, seed=1).float(),
        normal(6, 8, 9, seed=2).float(),
        normal(6, 7, 8, seed=3).float(),
    )
    scopes = flags(True, False, True, True, False, False)
    pulled_back, z = error @ weight.mT, torch.tanh(u)
    together = regulariser(error, pulled_back, z, scopes)
    for run in range(6):
        one = slice(run, run + 1)
        alone = regulariser(error[one], pulled_back[one], z[one], scopes[one])
        for name in ("value", "weight_factor", "preactivation"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[run]), name
