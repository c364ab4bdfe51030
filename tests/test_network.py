"""The network against torch.nn.RNN and the slow reference; its initial weights and its loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from lra_companion.network import Parameters, forward, initial_parameters, output_loss, readout
from problems import Shape, inputs_of, random_problem, weights_of
from reference import forward as slow_forward
from reference import output_loss as slow_output_loss

MATRICES = ("w_xh", "w_hh", "w_hy")


def assert_orthogonal(matrix: Tensor, tolerance: float) -> None:
    """The shorter of rows and columns are orthonormal, as torch.nn.init.orthogonal_ makes them."""
    rows, columns = matrix.shape
    product = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    torch.testing.assert_close(
        product, torch.eye(min(rows, columns), dtype=matrix.dtype), atol=tolerance, rtol=0
    )


# -------------------------------------------------------------------------------------- initial weights


@pytest.mark.parametrize(("inputs", "hidden", "outputs"), [(6, 100, 4), (100, 20, 100), (2, 7, 1), (5, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initial_weights(inputs: int, hidden: int, outputs: int, dtype: torch.dtype) -> None:
    """Shapes, orthogonal matrices, biases of zero, the dtype asked for."""
    parameters = initial_parameters([3, 11, 4], inputs, hidden, outputs, dtype=dtype)
    shapes = [tuple(tensor.shape) for tensor in parameters]
    assert shapes == [
        (3, inputs, hidden),
        (3, hidden, hidden),
        (3, hidden),
        (3, hidden, outputs),
        (3, outputs),
    ]
    assert all(tensor.dtype == dtype for tensor in parameters)
    for name in MATRICES:
        for matrix in getattr(parameters, name):
            assert_orthogonal(matrix, 1e-5 if dtype == torch.float32 else 1e-12)
    assert torch.count_nonzero(parameters.b_h) == torch.count_nonzero(parameters.b_y) == 0


def test_matrices_of_a_run_and_of_different_seeds_differ() -> None:
    """No matrix is drawn twice, though all have the same shape."""
    parameters = initial_parameters([0, 1, 2**40, 7], 5, 5, 5)
    matrices = [m for name in MATRICES for m in getattr(parameters, name)]
    for i, one in enumerate(matrices):
        assert all((one - other).norm() > 0.5 for other in matrices[i + 1 :])


def test_a_seed_gives_the_same_weights_in_any_company() -> None:
    """Alone, first, last, twice: bit for bit."""
    alone = initial_parameters([5], 6, 30, 4)
    company = initial_parameters([5, 0, 99, 5], 6, 30, 4)
    for name in MATRICES:
        tensor = getattr(company, name)
        assert torch.equal(getattr(alone, name)[0], tensor[0])
        assert torch.equal(tensor[0], tensor[3])
        assert not torch.equal(tensor[0], tensor[1])


def test_threads_and_the_global_generator_do_not_matter() -> None:
    """Weights depend on the seed alone, and drawing them disturbs nobody else's random numbers."""
    threads = torch.get_num_threads()
    try:
        results = []
        for number, global_seed in ((1, 0), (2, 1)):
            torch.set_num_threads(number)
            torch.manual_seed(global_seed)
            before = torch.get_rng_state()
            results.append(initial_parameters([8], 100, 100, 100))
            assert torch.equal(before, torch.get_rng_state())
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    for name in MATRICES:
        assert torch.equal(getattr(results[0], name), getattr(results[1], name))


def test_orthogonal_matrices_are_drawn_uniformly() -> None:
    """Over many seeds each entry has mean 0 and variance 1/H: QR without its sign correction has not."""
    w_hh = initial_parameters(list(range(2000)), 3, 4, 2, dtype=torch.float64).w_hh
    assert w_hh.mean(0).abs().max() < 5 * (1 / 4 / 2000) ** 0.5
    assert (w_hh.square().mean(0) - 1 / 4).abs().max() < 0.03
    assert 0.4 < float((torch.linalg.det(w_hh) > 0).double().mean()) < 0.6


# ----------------------------------------------------------------------------------------------- forward


def torch_rnn(parameters: Parameters, run: int) -> torch.nn.RNN:
    """torch's own RNN with one run's weights."""
    inputs, hidden = parameters.w_xh.shape[1:]
    rnn = torch.nn.RNN(inputs, hidden, nonlinearity="tanh", dtype=parameters.w_xh.dtype)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(parameters.w_xh[run].T)
        rnn.weight_hh_l0.copy_(parameters.w_hh[run].T)
        rnn.bias_ih_l0.copy_(parameters.b_h[run])
        rnn.bias_hh_l0.zero_()
    return rnn


@pytest.mark.parametrize("symbols", [True, False])
def test_states_equal_those_of_torch(symbols: bool) -> None:
    """Every state of every run, and z_0 = 0."""
    parameters, batch = random_problem(Shape(runs=3, steps=7, symbols=symbols), seed=1)
    trajectory = forward(parameters, batch.inputs)
    assert trajectory.h.shape == (7, 3, 3, 5) and trajectory.z.shape == (8, 3, 3, 5)
    assert torch.count_nonzero(trajectory.z[0]) == 0
    torch.testing.assert_close(trajectory.z[1:], torch.tanh(trajectory.h), rtol=0, atol=1e-15)
    x = functional.one_hot(batch.inputs, 4).double() if symbols else batch.inputs
    for run in range(3):
        states, _ = torch_rnn(parameters, run)(x[:, run])
        torch.testing.assert_close(trajectory.z[1:, run], states.detach(), rtol=1e-12, atol=1e-13)


@given(
    shape=st.builds(
        Shape,
        runs=st.integers(1, 3),
        steps=st.integers(1, 6),
        batch=st.integers(1, 4),
        inputs=st.integers(1, 5),
        hidden=st.integers(1, 5),
        outputs=st.integers(1, 4),
        symbols=st.booleans(),
        real_targets=st.booleans(),
    ),
    seed=st.integers(0, 10**6),
)
def test_forward_pass_and_loss_equal_the_reference(shape: Shape, seed: int) -> None:
    """States, logits and loss of any shape, from symbols or real inputs."""
    parameters, batch = random_problem(shape, seed)
    trajectory = forward(parameters, batch.inputs)
    logits = readout(parameters, trajectory.z[-1])
    loss, _ = output_loss(logits, batch.targets)
    for run in range(shape.runs):
        h, z, o = slow_forward(weights_of(parameters, run), inputs_of(batch, run))
        torch.testing.assert_close(trajectory.h[:, run], torch.stack(h), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(trajectory.z[:, run], torch.stack(z), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(logits[run], o, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(loss[run], slow_output_loss(o, batch.targets[run]), rtol=1e-12, atol=1e-13)


def test_symbols_and_one_hot_rows_are_the_same_input() -> None:
    """A look-up is a product with a one-hot row."""
    parameters, batch = random_problem(Shape(runs=3, symbols=True), seed=2)
    rows = functional.one_hot(batch.inputs, 4).double()
    torch.testing.assert_close(
        forward(parameters, batch.inputs).h, forward(parameters, rows).h, rtol=1e-14, atol=1e-15
    )


@pytest.mark.parametrize("symbols", [True, False])
def test_a_run_is_the_same_bits_alone_and_among_others(symbols: bool) -> None:
    """States and logits in float32, at the paper's sizes."""
    shape = Shape(runs=8, steps=5, batch=20, inputs=6, hidden=100, outputs=4, symbols=symbols)
    parameters, batch = random_problem(shape, seed=3, dtype=torch.float32)
    together = forward(parameters, batch.inputs)
    for run in (0, 3, 7):
        one = Parameters(*(tensor[run : run + 1].clone() for tensor in parameters))
        alone = forward(one, batch.inputs[:, run : run + 1].clone())
        assert torch.equal(alone.h[:, 0], together.h[:, run])
        assert torch.equal(readout(one, alone.z[-1])[0], readout(parameters, together.z[-1])[run])


# -------------------------------------------------------------------------------------------------- loss


def test_cross_entropy_equals_torch() -> None:
    """Mean over the batch, and its derivative with respect to the logits."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 5, generator=g, dtype=torch.float64)
    targets = torch.randint(5, (3, 6), generator=g)
    loss, error = output_loss(logits, targets)
    for run in range(3):
        leaf = logits[run].clone().requires_grad_()
        wanted = functional.cross_entropy(leaf, targets[run])
        (slope,) = torch.autograd.grad(wanted, leaf)
        torch.testing.assert_close(loss[run], wanted.detach(), rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(error[run], slope, rtol=1e-12, atol=1e-15)


def test_squared_error_equals_torch() -> None:
    """Mean over batch and outputs, and its derivative."""
    g = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(2, 3, 6, 2, generator=g, dtype=torch.float64)
    loss, error = output_loss(outputs, targets)
    for run in range(3):
        leaf = outputs[run].clone().requires_grad_()
        wanted = functional.mse_loss(leaf, targets[run])
        (slope,) = torch.autograd.grad(wanted, leaf)
        torch.testing.assert_close(loss[run], wanted.detach(), rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(error[run], slope, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_give_a_finite_loss(dtype: torch.dtype) -> None:
    """No overflow in the exponential: a logit 10,000 ahead of the right one costs 10,000."""
    logits = torch.tensor([[[1e4, 0.0, -1e4], [0.0, 1e4, 0.0]]], dtype=dtype)
    loss, error = output_loss(logits, torch.tensor([[1, 1]]))
    assert loss.tolist() == pytest.approx([5e3])
    assert error[0].tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]


def test_the_inputs_of_the_loss_are_not_changed() -> None:
    """Nothing is computed in place."""
    logits, targets = torch.randn(1, 2, 3), torch.tensor([[0, 2]])
    kept = logits.clone()
    output_loss(logits, targets)
    assert torch.equal(logits, kept) and targets.tolist() == [[0, 2]]
