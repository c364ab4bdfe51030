"""Per-run learning rates against torch.optim itself, one optimiser per run."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lra_companion.config import OptimiserConfig
from lra_companion.network import Parameters
from lra_companion.optimisers import Optimiser

RATES = [0.5, 0.003, 0.02, 0.1]
SHAPES = {"w_xh": (3, 5), "w_hh": (5, 5), "b_h": (5,), "w_hy": (5, 2), "b_y": (2,)}
RULES: dict[str, Callable[[list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "sgd": lambda weights, rate: torch.optim.SGD(weights, lr=rate),
    "nesterov": lambda weights, rate: torch.optim.SGD(weights, lr=rate, momentum=0.9, nesterov=True),
    "adam": lambda weights, rate: torch.optim.Adam(weights, lr=rate),
    "rmsprop": lambda weights, rate: torch.optim.RMSprop(weights, lr=rate),
    "adagrad": lambda weights, rate: torch.optim.Adagrad(weights, lr=rate),
}


def drawn(seed: int, runs: int = len(RATES)) -> Parameters:
    """Anything of the parameters' shapes, other numbers for every seed."""
    g = torch.Generator().manual_seed(seed)
    return Parameters(
        **{
            name: torch.randn(runs, *shape, generator=g, dtype=torch.float64)
            for name, shape in SHAPES.items()
        }
    )


def configs(rule: str) -> list[OptimiserConfig]:
    return [OptimiserConfig(name=rule, learning_rate=rate) for rate in RATES]  # pyright: ignore


def gradients_at(step: int) -> Parameters:
    """Gradients that change in size and sign from step to step, and are zero in places."""
    gradients = drawn(100 + step)
    for tensor in gradients:
        tensor *= 10.0 ** (step % 3 - 1)
        tensor[tensor.abs() < 0.05] = 0.0
    return gradients


@pytest.mark.parametrize("rule", RULES)
def test_each_run_moves_as_under_an_optimiser_of_its_own(rule: str) -> None:
    parameters = drawn(0)
    alone = [[nn.Parameter(tensor[run].clone()) for tensor in parameters] for run in range(len(RATES))]
    rules = [RULES[rule](weights, rate) for weights, rate in zip(alone, RATES, strict=True)]
    optimiser = Optimiser(configs(rule), parameters)
    for step in range(7):
        gradients = gradients_at(step)
        parameters = optimiser.step(parameters, gradients)
        for run, weights in enumerate(alone):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient[run].clone()
            rules[run].step()
            for mine, expected in zip(parameters, weights, strict=True):
                torch.testing.assert_close(mine[run], expected.detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rule", RULES)
def test_the_given_parameters_and_gradients_stay_as_they_are(rule: str) -> None:
    parameters, gradients = drawn(0), gradients_at(1)
    optimiser = Optimiser(configs(rule), parameters)
    for _ in range(2):
        moved = optimiser.step(parameters, gradients)
    for tensor, before in zip(parameters, drawn(0), strict=True):
        assert torch.equal(tensor, before)
    for tensor, before in zip(gradients, gradients_at(1), strict=True):
        assert torch.equal(tensor, before)
    assert not any(torch.equal(tensor, before) for tensor, before in zip(moved, parameters, strict=True))


@pytest.mark.parametrize("kept", [[0, 1, 2, 3], [1, 3], [2], [3, 0]], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_runs_that_stay_keep_their_running_averages(rule: str, kept: list[int]) -> None:
    batched = Optimiser(configs(rule), drawn(0))
    alone = Optimiser([configs(rule)[run] for run in kept], drawn(0).select(torch.tensor(kept)))
    parameters, expected = drawn(0), drawn(0).select(torch.tensor(kept))
    for step in range(9):
        if step == 4:
            batched, parameters = batched.select(torch.tensor(kept)), parameters.select(torch.tensor(kept))
        gradients = gradients_at(step)
        chosen = gradients.select(torch.tensor(kept))
        parameters = batched.step(parameters, gradients if step < 4 else chosen)
        expected = alone.step(expected, chosen)
    for mine, other in zip(parameters, expected, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("rule", RULES)
def test_selecting_before_the_first_step_and_twice(rule: str) -> None:
    optimiser = Optimiser(configs(rule), drawn(0)).select(torch.tensor([3, 1, 0]))
    parameters = drawn(0).select(torch.tensor([3, 1, 0]))
    parameters = optimiser.step(parameters, gradients_at(0).select(torch.tensor([3, 1, 0])))
    optimiser, parameters = optimiser.select(torch.tensor([1])), parameters.select(torch.tensor([1]))
    parameters = optimiser.step(parameters, gradients_at(1).select(torch.tensor([1])))
    alone = Optimiser(configs(rule)[1:2], drawn(0).select(torch.tensor([1])))
    expected = drawn(0).select(torch.tensor([1]))
    for step in range(2):
        expected = alone.step(expected, gradients_at(step).select(torch.tensor([1])))
    for mine, other in zip(parameters, expected, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("rule", ["adam", "nesterov", "rmsprop", "adagrad"])
def test_what_left_the_batch_leaves_no_trace_in_what_stays(rule: str) -> None:
    spoilt = gradients_at(0)
    for tensor in spoilt:
        tensor[1] = torch.nan
    optimiser = Optimiser(configs(rule), drawn(0))
    kept = torch.tensor([0, 2, 3])
    parameters = optimiser.step(drawn(0), spoilt).select(kept)
    parameters = optimiser.select(kept).step(parameters, gradients_at(1).select(kept))
    assert all(torch.isfinite(tensor).all() for tensor in parameters)
