"""The training loop: the protocol of method.md, and that a run is the same whatever trains beside it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from joblib import Parallel, delayed
from torch import Tensor, nn

from lra_companion import training
from lra_companion.config import LRAConfig, RunConfig, TPTTConfig
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters, initial_parameters
from lra_companion.tasks import Task, make_task
from lra_companion.training import RunResult, run_group, shape_key, train
from problems import inputs_of, weights_of
from reference import bptt_gradients
from runs import LEARNERS, OPTIMISERS, assert_same, outcome, run_config

LRA_EASY = {"name": "lra", "reduction": "per_example", "inner_steps": 1, "clip_norm": 1.0}


def group(configs: list[RunConfig]) -> list[RunResult]:
    """Results of runs trained side by side, in the order of their configs."""
    results = dict(run_group(configs))
    return [results[index] for index in range(len(configs))]


def variants(config: RunConfig, count: int) -> list[RunConfig]:
    """Neighbours of a run in one batch: other seeds, rates and, for LRA and TPTT, other settings of each kind."""
    found = []
    for index in range(count):
        learner: dict[str, Any] = {}
        if isinstance(config.learner, LRAConfig):
            learner = {
                "target_step_size": 0.5 + index,
                "clip_norm": [0.0, 1e-4, 3.0][index % 3],
                "clip_mode": ["clip", "normalise"][index % 2],
                "reduction": ["per_example", "mean"][index % 2],
            }
        if isinstance(config.learner, TPTTConfig):
            learner = {
                "target_step_size": 0.5 + index,
                "inverse_learning_rate": [0.0, 0.01, 0.03][index % 3],
                "inverse_noise": [0.3, 0.0, 1.0, 0.1][index % 4],
                "clip_norm": [0.0, 1e-4, 3.0][index % 3],
            }
        if getattr(config.learner, "regularisation_strength", 0.0) > 0:
            learner["regularisation_strength"] = 0.1 * (index + 1)
            learner["regularisation_scope"] = ["batch", "example"][index % 2]
        found.append(
            config.model_copy(
                update={
                    "seed": 100 + index,
                    "optimiser": config.optimiser.model_copy(
                        update={"learning_rate": 0.01 * (index + 1) ** 2}
                    ),
                    "learner": config.learner.model_copy(update=learner),
                }
            )
        )
    return found


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two torch threads for one test; conftest sets one."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


# The same run, whatever trains beside it


@pytest.mark.parametrize("task", ["random_permutation", "adding"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_run_is_the_same_alone_and_anywhere_among_seven_others(learner: str, task: str) -> None:
    config = run_config(learner, task=task, max_iterations=9)
    others = variants(config, 7)
    alone = train(config)
    assert alone.history[-1] != alone.history[0]
    for place in (0, 3, 7):
        together = group([*others[:place], config, *others[place:]])
        assert_same(together[place], alone)
        for other in others[:place]:
            assert any(outcome(result)["config"] == other for result in together)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_keeps_runs_apart(optimiser: str) -> None:
    config = run_config("lra_omega", optimiser=optimiser, rate=0.01, max_iterations=9)
    others = variants(config, 7)
    assert_same(group([*others[:2], config, *others[2:]])[2], train(config))


@pytest.mark.parametrize(
    ("learner", "optimiser"),
    [*[(learner, "sgd") for learner in LEARNERS], *[("lra_omega", rule) for rule in OPTIMISERS[1:]]],
)
def test_a_run_is_the_same_after_others_left_the_batch(learner: str, optimiser: str) -> None:
    def config(rate: float, seed: int = 3) -> RunConfig:
        return run_config(
            learner,
            seed,
            rate=rate,
            optimiser=optimiser,
            hidden=16,
            batch_size=8,
            max_iterations=60 if optimiser == "sgd" else 24,
            validate_every=3,
            patience=5,
            solved_error=0.3,
        )

    subject = config({"sgd": 0.02, "nesterov": 0.01, "adagrad": 0.01}.get(optimiser, 0.003))
    others = [config(1e39), config(1e-12), config(0.3), config(1.0), config(1.0, seed=4), config(0.05)]
    results = group([*others[:3], subject, *others[3:]])
    result = results[3]
    left_before = {other.status for other in results if other.iterations < result.iterations}
    assert left_before >= {"diverged", "stalled"}
    if LEARNERS[learner]["name"] in ("lra", "lra_released", "lra_ablation") and optimiser == "sgd":
        assert "solved" in left_before
    assert_same(result, train(subject))


@pytest.mark.parametrize("runs", [2, 8, 32])
@pytest.mark.parametrize(
    ("learner", "task"),
    [*[(learner, "random_permutation") for learner in LEARNERS], ("lra_omega", "adding"), ("bptt", "adding")],
)
def test_a_run_of_the_paper_s_size_is_the_same_in_batches_of_any_size(
    learner: str, task: str, runs: int
) -> None:
    config = run_config(learner, task=task, length=20, hidden=100, batch_size=20, max_iterations=3)
    others = variants(config, runs - 1)
    place = runs // 2
    assert_same(group([*others[:place], config, *others[place:]])[place], train(config))


@pytest.mark.parametrize(
    ("learner", "task"),
    [("lra_omega", "temporal_order"), ("lra_clip", "adding"), ("bptt_omega", "random_permutation")],
)
def test_two_threads_change_nothing(learner: str, task: str, two_threads: None) -> None:
    config = run_config(learner, task=task, length=20, hidden=100, batch_size=20, max_iterations=2)
    alone = train(config)
    together = group([*variants(config, 7), config])[-1]
    torch.set_num_threads(1)
    one_thread = train(config)
    assert_same(alone, one_thread)
    assert_same(together, one_thread)


def test_a_run_is_the_same_in_another_process() -> None:
    configs = [run_config(learner, optimiser="adam", rate=0.01) for learner in LEARNERS]
    elsewhere = Parallel(n_jobs=2)(delayed(train)(config) for config in configs)
    for config, result in zip(configs, elsewhere, strict=True):
        assert_same(result, train(config))


def test_two_seeds_differ_in_everything_they_should() -> None:
    one, other = train(run_config(seed=1)), train(run_config(seed=2))
    assert one.parameters is not None and other.parameters is not None
    assert one.history[1]["training_loss"] != other.history[1]["training_loss"]
    for name in ("w_xh", "w_hh", "b_h", "w_hy", "b_y"):
        assert not torch.equal(getattr(one.parameters, name), getattr(other.parameters, name))


def test_one_seed_is_one_start_for_every_learner() -> None:
    first_rows = [train(run_config(learner, max_iterations=1)).history[0] for learner in LEARNERS]
    assert all(row == first_rows[0] for row in first_rows)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "temporal_order"},
        {"length": 11},
        {"hidden": 9},
        {"optimiser": "adam"},
        {"batch_size": 5},
        {"patience": 3},
        {"learner": "bptt"},
        {"learner": LEARNERS["lra"] | {"inner_steps": 3}},
        {"learner": LEARNERS["lra"] | {"local_loss": "mse"}},
    ],
    ids=str,
)
def test_runs_of_different_shape_are_not_trained_side_by_side(change: dict[str, Any]) -> None:
    one, other = run_config("lra"), run_config(**({"learner": "lra"} | change))
    assert shape_key(one) != shape_key(other)
    with pytest.raises(ValueError, match="shape"):
        list(run_group([one, other]))


# Against a slow loop


RULES: dict[str, Callable[[list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "sgd": lambda weights, rate: torch.optim.SGD(weights, lr=rate),
    "nesterov": lambda weights, rate: torch.optim.SGD(weights, lr=rate, momentum=0.9, nesterov=True),
    "adam": lambda weights, rate: torch.optim.Adam(weights, lr=rate),
    "rmsprop": lambda weights, rate: torch.optim.RMSprop(weights, lr=rate),
    "adagrad": lambda weights, rate: torch.optim.Adagrad(weights, lr=rate),
}


def outputs(weights: list[Tensor], inputs: Tensor) -> Tensor:
    """Eqs. 1 and 2 for one network: inputs (T, B) symbols or (T, B, I)."""
    w_xh, w_hh, b_h, w_hy, b_y = weights
    z = torch.zeros(inputs.shape[1], w_hh.shape[0])
    for x in inputs:
        one_hot = x if x.is_floating_point() else nn.functional.one_hot(x, w_xh.shape[0]).float()
        z = torch.tanh(one_hot @ w_xh + z @ w_hh + b_h)
    return z @ w_hy + b_y


def loss_of(weights: list[Tensor], batch: Batch) -> float:
    """The loss of one network on its batch (R = 1)."""
    found, wanted = outputs(weights, batch.inputs[:, 0]), batch.targets[0]
    if wanted.is_floating_point():
        return nn.functional.mse_loss(found, wanted).item()
    return nn.functional.cross_entropy(found, wanted).item()


def share_right(weights: list[Tensor], batch: Batch) -> float:
    """The accuracy of one network on a set (R = 1)."""
    found, wanted = outputs(weights, batch.inputs[:, 0]), batch.targets[0]
    real = wanted.is_floating_point()
    right = (found - wanted)[:, 0] ** 2 <= 0.04 if real else found.argmax(1) == wanted
    return right.double().mean().item()


def slow_training(config: RunConfig) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """One run without a runs axis and without ever ending early: final weights and history."""
    task, protocol = make_task(config.task), config.protocol
    start = initial_parameters([config.seed], task.input_size, config.network.hidden_size, task.output_size)
    weights = [nn.Parameter(tensor[0].clone()) for tensor in start]
    rule = RULES[config.optimiser.name](weights, config.optimiser.learning_rate)
    validation = task.evaluation_batch(config.seed, "validation", protocol.validation_size)
    learner = make_learner([config.learner], [config.seed])
    history: list[dict[str, Any]] = []
    losses: list[float] = []
    for iteration in range(protocol.max_iterations + 1):
        plain = [weight.detach().clone() for weight in weights]
        if iteration % protocol.validate_every == 0 or iteration == protocol.max_iterations:
            mean = math.fsum(losses) / len(losses) if losses else None
            accuracy = share_right(plain, validation)
            history.append({"iteration": iteration, "training_loss": mean, "validation_accuracy": accuracy})
            losses = []
        if iteration < protocol.max_iterations:
            batch = task.batch([config.seed], iteration, protocol.batch_size)
            losses.append(loss_of(plain, batch))
            stacked = Parameters(*(tensor[None] for tensor in plain))
            gradients, _ = learner.gradients(stacked, batch)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient[0]
            rule.step()
    return [weight.detach() for weight in weights], history


# Adaptive rules blow the last bit of a vanishing gradient up to a whole step: they get learners whose gradients do not vanish.
@pytest.mark.parametrize("task", ["temporal_order", "adding"])
@pytest.mark.parametrize(
    ("learner", "optimiser"),
    [
        *[(learner, "sgd") for learner in LEARNERS],
        *[(learner, rule) for learner in ("bptt", "readout") for rule in OPTIMISERS[1:]],
    ],
)
def test_training_equals_a_slow_loop(learner: str, task: str, optimiser: str) -> None:
    rate = 0.1 if optimiser == "sgd" else 0.01
    config = run_config(
        learner, seed=5, task=task, optimiser=optimiser, rate=rate, max_iterations=11, validate_every=4
    )
    results = [train(config), group([*variants(config, 2), config])[-1]]
    weights, history = slow_training(config)
    for result in results:
        assert result.status == "max_iterations" and result.iterations == 11
        assert [row["iteration"] for row in result.history] == [0, 4, 8, 11]
        assert result.parameters is not None
        for mine, slow in zip(result.parameters, weights, strict=True):
            torch.testing.assert_close(mine[0], slow, rtol=1e-3, atol=1e-4)
        for row, expected in zip(result.history, history, strict=True):
            assert row.keys() == expected.keys()
            assert row["iteration"] == expected["iteration"]
            if expected["training_loss"] is None:
                assert row["training_loss"] is None
            else:
                assert row["training_loss"] == pytest.approx(expected["training_loss"], rel=1e-3)
            # A sequence may lie on the boundary: one of 50 may differ by rounding.
            assert row["validation_accuracy"] == pytest.approx(expected["validation_accuracy"], abs=0.021)
        assert result.history[-1]["validation_accuracy"] == result.validation_accuracy
        test_set = make_task(config.task).evaluation_batch(config.seed, "test", config.protocol.test_size)
        assert result.test_accuracy == pytest.approx(share_right(weights, test_set), abs=0.021)


# Why a run ends


def scripted_accuracies(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let the checks measure these, one after the other; the last one again and again."""
    left = list(values)
    monkeypatch.setattr(training, "accuracy", lambda *_: left.pop(0) if len(left) > 1 else left[0])


def test_solved() -> None:
    config = run_config(optimiser="adam", rate=0.01, hidden=16, batch_size=20, max_iterations=300)
    result = train(config)
    assert result.status == "solved" and result.solved
    assert 0 < result.iterations < 300 and result.iterations % 3 == 0
    assert result.validation_accuracy == 1.0
    assert all(row["validation_accuracy"] < 1 for row in result.history[:-1])


@pytest.mark.parametrize(("accuracy", "solved"), [(0.9999, True), (0.9998, False)])
def test_solved_means_one_error_in_ten_thousand(
    accuracy: float, solved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_accuracies(monkeypatch, [0.5, accuracy])
    result = train(run_config(validation_size=10_000, solved_error=1e-4))
    assert result.solved is solved
    assert result.iterations == (3 if solved else 6)


@pytest.mark.parametrize(
    ("values", "checks"),
    [
        ([0.1], 4),  # the first check is the one to be beaten
        ([0.1, 0.2, 0.2, 0.2, 0.2], 5),
        ([0.1, 0.1, 0.2, 0.1, 0.1, 0.1], 6),  # a gain starts the count anew
        ([0.1, 0.1, 0.1, 0.2, 0.1, 0.3, 0.2, 0.3, 0.3], 9),  # falling and rising again is no gain
    ],
)
def test_stalled_after_as_many_checks_without_gain_as_patience(
    values: list[float], checks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_accuracies(monkeypatch, values)
    result = train(run_config(max_iterations=1000, validate_every=2, patience=3))
    assert result.status == "stalled"
    assert len(result.history) == checks
    assert result.iterations == 2 * (checks - 1)


def test_stalled_for_real() -> None:
    result = train(run_config(rate=1e-12, max_iterations=1000, validate_every=3, patience=4))
    assert (result.status, result.iterations, len(result.history)) == ("stalled", 12, 5)


def test_max_iterations_even_between_two_checks() -> None:
    result = train(run_config(max_iterations=7, validate_every=3))
    assert (result.status, result.iterations) == ("max_iterations", 7)
    assert [row["iteration"] for row in result.history] == [0, 3, 6, 7]


def diverging(**protocol: Any) -> RunConfig:
    """Squared error and a rate far too large: the weights grow from step to step until float32 ends."""
    fields: dict[str, Any] = {"max_iterations": 500, "validate_every": 7, "patience": 500}
    return run_config("readout", seed=2, task="adding", rate=20.0, **(fields | protocol))


def test_diverged_keeps_the_last_finite_state() -> None:
    result = train(diverging())
    assert result.status == "diverged"
    assert result.parameters is not None
    assert all(torch.isfinite(tensor).all() for tensor in result.parameters)
    assert result.iterations > 7 and result.iterations % 7, "the test wants an end between two checks"
    # The same run stopped just before has the same weights ...
    before = train(diverging(max_iterations=result.iterations))
    assert before.status == "max_iterations" and before.parameters is not None
    for mine, expected in zip(result.parameters, before.parameters, strict=True):
        assert torch.equal(mine, expected)
    # ... and one update more is what diverges.
    after = train(diverging(max_iterations=result.iterations + 1))
    assert (after.status, after.iterations) == ("diverged", result.iterations)


class Scripted:
    """A learner that leaves the network as it is, but for what ``spoil`` does at one iteration of one run."""

    def __init__(self, at: int, place: int, loss: float = 0.0, gradient: float = 0.0) -> None:
        self.at, self.place, self.loss, self.gradient = at, place, loss, gradient
        self.calls = 0

    def gradients(self, parameters: Parameters, batch: Batch, diagnose: bool = False) -> Any:
        slopes = Parameters(*(torch.full_like(tensor, 1e-3) for tensor in parameters))
        loss = torch.ones(len(parameters.b_h))
        if self.calls == self.at:
            loss[self.place] += self.loss
            slopes.b_y[self.place, 0] += self.gradient
        self.calls += 1
        return slopes, training.make_learner([]) if diagnose else type("D", (), {"loss": loss})()

    def select(self, runs: Tensor) -> "Scripted":
        return self


@pytest.mark.parametrize(
    "spoil",
    [
        {"loss": math.nan},
        {"loss": math.inf},
        {"gradient": math.nan},
        {"gradient": math.inf},
        {"gradient": -math.inf},
    ],
    ids=str,
)
def test_a_loss_or_weight_that_is_not_finite_ends_that_run_alone(
    spoil: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [run_config(seed=seed, max_iterations=6) for seed in (1, 2, 3)]
    learner = Scripted(at=4, place=1, **spoil)
    monkeypatch.setattr(training, "make_learner", lambda *_: learner)
    one, spoilt, other = group(configs)
    assert (spoilt.status, spoilt.iterations) == ("diverged", 4)
    assert [row["iteration"] for row in spoilt.history] == [0, 3]
    assert (one.status, one.iterations) == (other.status, other.iterations) == ("max_iterations", 6)
    start = initial_parameters([2], 100, 8, 100)
    assert spoilt.parameters is not None
    for mine, first in zip(spoilt.parameters, start, strict=True):
        torch.testing.assert_close(mine, first - 4 * 0.1 * 1e-3)  # four updates, none of them the spoilt one


def test_after_divergence_both_accuracies_are_of_the_last_finite_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With sets of all tests alike, both accuracies measure the same network, so they must be the same number.
    original = Task.evaluation_batch
    monkeypatch.setattr(
        Task,
        "evaluation_batch",
        lambda self, seed, split, size: original(self, seed, "validation", size),
    )
    learner = Scripted(at=5, place=0, loss=math.nan)
    monkeypatch.setattr(training, "make_learner", lambda *_: learner)
    result = train(run_config(task="adding", rate=200.0, max_iterations=10, validate_every=10))
    assert (result.status, result.iterations) == ("diverged", 5)
    assert result.history[0]["validation_accuracy"] != result.test_accuracy, "the network must have moved"
    assert result.validation_accuracy == result.test_accuracy


# The three splits


@pytest.mark.parametrize(("errors", "solved"), [(3, True), (4, False)])
def test_a_set_smaller_than_asked_for_is_judged_by_its_share(
    errors: int, solved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_accuracies(monkeypatch, [0.5, 1 - errors / 359])
    fields: dict[str, Any] = {"validation_size": 10_000, "solved_error": 0.01}
    assert train(run_config(task="sequential_digits", length=8, **fields)).solved is solved


@pytest.mark.parametrize(("length", "learner"), [(64, "bptt"), (8, "bptt"), (8, "lra_clip")])
def test_digits_are_the_same_alone_and_among_others(length: int, learner: str) -> None:
    config = run_config(learner, task="sequential_digits", length=length, validation_size=10_000)
    alone = train(config)
    assert round(alone.validation_accuracy * 359) == pytest.approx(alone.validation_accuracy * 359, abs=1e-9)
    others = variants(config, 3)
    assert_same(group([*others[:2], config, *others[2:]])[2], alone)


def test_digits_row_by_row_can_be_learnt() -> None:
    fields: dict[str, Any] = {"optimiser": "adam", "rate": 0.01, "hidden": 32, "batch_size": 50}
    sizes: dict[str, Any] = {"validation_size": 359, "test_size": 360, "validate_every": 100}
    result = train(run_config(task="sequential_digits", length=8, max_iterations=400, **fields, **sizes))
    assert result.test_accuracy > 0.85


@pytest.mark.parametrize("task", ["random_permutation", "adding"])
def test_training_validation_and_test_sequences_are_different_draws(task: str) -> None:
    made = make_task(run_config(task=task).task)
    sets = {
        "validation": made.evaluation_batch(1, "validation", 200).inputs,
        "test": made.evaluation_batch(1, "test", 200).inputs,
        **{f"batch {i}": made.batch([1], i, 50).inputs for i in range(4)},
    }
    seen: dict[bytes, str] = {}
    for name, inputs in sets.items():
        for sequence in inputs[:, 0].transpose(0, 1).contiguous():
            assert seen.setdefault(sequence.numpy().tobytes(), name) == name, name
    assert len(seen) == 600


def test_the_test_split_is_drawn_once_at_the_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, str, int]] = []
    original = Task.evaluation_batch

    def spy(self: Task, seed: int, split: Any, size: int) -> Batch:
        calls.append((seed, split, size))
        return original(self, seed, split, size)

    monkeypatch.setattr(Task, "evaluation_batch", spy)
    configs = [
        run_config(seed=1, test_size=30),
        run_config(seed=2, rate=1e39, test_size=30),
        run_config(seed=3, test_size=30),
    ]
    results = group(configs)
    assert [result.status for result in results] == ["max_iterations", "diverged", "max_iterations"]
    for result in results:
        mine = [call for call in calls if call[0] == result.config.seed]
        assert mine[-1] == (result.config.seed, "test", 30)
        assert {call[1:] for call in mine[:-1]} == {("validation", 50)}


def test_nothing_but_the_reported_accuracy_depends_on_the_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config(max_iterations=30, validate_every=2, patience=3, solved_error=0.3)
    normal = train(config)
    original = Task.evaluation_batch

    def wrong_test_set(self: Task, seed: int, split: Any, size: int) -> Batch:
        batch = original(self, seed, split, size)
        return Batch(batch.inputs, batch.targets + 50) if split == "test" else batch

    monkeypatch.setattr(Task, "evaluation_batch", wrong_test_set)
    changed = train(config)
    assert normal.test_accuracy > 0 == changed.test_accuracy
    assert outcome(changed) | {"test_accuracy": None} == outcome(normal) | {"test_accuracy": None}


# History


def test_history_holds_nothing_that_was_not_asked_for() -> None:
    (config,) = [run_config("lra_omega")]
    for row in train(config).history:
        assert row.keys() == {"iteration", "training_loss", "validation_accuracy"}
    assert train(config).history[0]["training_loss"] is None


MEASURED = {
    "lra_omega": {
        "recurrent_norm": 10,
        "input_norm": 10,
        "target_displacement": 10,
        "local_loss": 10,
        "regulariser": 10,
        "clipped_share": None,
    },
    "lra": {
        "recurrent_norm": 10,
        "input_norm": 10,
        "target_displacement": 10,
        "local_loss": 10,
        "regulariser": 10,
        "clipped_share": None,
    },
    "bptt": {"recurrent_norm": 10, "input_norm": 10, "regulariser": 10, "clipped_share": None},
    "readout": {},
    "tptt_clip": {
        "recurrent_norm": 10,
        "input_norm": 10,
        "target_displacement": 10,
        "local_loss": 10,
        "clipped_share": None,
    },
}


@pytest.mark.parametrize("learner", MEASURED)
def test_diagnostics_are_lists_over_time_and_change_nothing_else(learner: str) -> None:
    plain = train(run_config(learner))
    config = run_config(learner, diagnostics=True)
    results = group([run_config(learner, seed=7, diagnostics=True), config])
    result = results[1]
    assert_same(result, train(config))
    fields = MEASURED[learner]
    for row, bare in zip(result.history, plain.history, strict=True):
        assert row.keys() == bare.keys() | fields.keys()
        assert {name: row[name] for name in bare} == bare
        for name, length in fields.items():
            if length is None:
                assert isinstance(row[name], float)
                assert 0 <= row[name] <= 1
            else:
                assert len(row[name]) == length
                assert all(isinstance(value, float) and math.isfinite(value) for value in row[name])
    if fields:
        assert results[0].history[0]["recurrent_norm"] != result.history[0]["recurrent_norm"]
    assert plain.parameters is not None and result.parameters is not None
    assert torch.equal(plain.parameters.w_hh, result.parameters.w_hh)


def test_diagnostics_are_of_the_network_and_batch_of_their_row() -> None:
    config = run_config("lra_omega", diagnostics=True, max_iterations=3, validate_every=2)
    row = train(config).history[1]
    halfway = train(run_config("lra_omega", max_iterations=2, validate_every=2)).parameters
    assert row["iteration"] == 2 and halfway is not None
    batch = make_task(config.task).batch([config.seed], 2, config.protocol.batch_size)
    _, measured = make_learner([config.learner]).gradients(halfway, batch, diagnose=True)
    for name in MEASURED["lra_omega"]:
        assert row[name] == pytest.approx(getattr(measured, name)[..., 0].tolist(), rel=1e-5), name


@pytest.mark.parametrize("learner", sorted(MEASURED))
def test_angles_to_the_exact_gradient_are_those_of_autograd_and_change_nothing_else(learner: str) -> None:
    common: dict[str, Any] = {"max_iterations": 4, "validate_every": 2}
    plain = train(run_config(learner, **common))
    config = run_config(learner, exact_angle=True, **common)
    result = group([run_config(learner, seed=7, exact_angle=True, **common), config])[1]
    assert_same(result, train(config))
    for row, bare in zip(result.history, plain.history, strict=True):
        assert row.keys() == bare.keys() | {"exact_angle"}
        assert {name: row[name] for name in bare} == bare
    halfway = train(run_config(learner, max_iterations=2, validate_every=2)).parameters
    assert halfway is not None
    batch = make_task(config.task).batch([config.seed], 2, config.protocol.batch_size)
    exact = bptt_gradients(weights_of(halfway, 0), inputs_of(batch, 0), batch.targets[0]).w_hh.double()
    if learner == "readout":
        assert result.history[1]["exact_angle"] is None, "it has no gradient of W_hh"
        return
    if learner.startswith("tptt"):
        return  # its targets come from an inverse that training has moved
    ours = make_learner([config.learner]).gradients(halfway, batch)[0].w_hh[0].double()
    cosine = (ours * exact).sum() / (ours.norm() * exact.norm())
    assert result.history[1]["exact_angle"] == pytest.approx(
        math.degrees(math.acos(cosine.clamp(-1, 1))), abs=0.05
    )


def test_on_iteration_counts_every_update_once() -> None:
    common: dict[str, Any] = {
        "hidden": 16,
        "batch_size": 8,
        "max_iterations": 31,
        "validate_every": 3,
        "patience": 4,
        "solved_error": 0.3,
    }
    configs = [run_config("lra_normalise", rate=rate, **common) for rate in (1e39, 1e-12, 0.3, 1e38, 0.01)]
    counts: list[int] = []
    results = [result for _, result in run_group(configs, counts.append)]
    assert {result.status for result in results} >= {"diverged", "stalled", "solved"}
    assert sum(counts) == sum(result.iterations for result in results)
    for iteration, count in enumerate(counts):
        assert count == sum(result.iterations > iteration for result in results)


def test_the_groups_time_is_shared_out_among_its_runs() -> None:
    results = group([run_config(seed=seed) for seed in range(4)])
    assert all(0 < result.duration_seconds < 10 for result in results)


# It learns


@pytest.mark.parametrize(
    ("learner", "fields"),
    [("bptt", {"optimiser": "adam", "rate": 0.01}), (LRA_EASY, {"rate": 0.1})],
    ids=["bptt", "lra"],
)
def test_recurrent_learning_beats_chance_and_the_control(learner: Any, fields: dict[str, Any]) -> None:
    protocol: dict[str, Any] = {
        "hidden": 16,
        "batch_size": 20,
        "max_iterations": 200,
        "validate_every": 20,
        "validation_size": 200,
        "test_size": 200,
    }
    result = train(run_config(learner, **fields, **protocol))
    control = train(run_config("readout", rate=0.3, **protocol))
    assert result.status == "solved"
    assert result.test_accuracy > 0.97
    assert 0.5 < control.test_accuracy < 0.92


def test_the_control_leaves_the_hidden_weights_alone() -> None:
    result = train(run_config("readout", rate=0.3, max_iterations=20))
    start = initial_parameters([1], 100, 8, 100)
    assert result.parameters is not None
    for name in ("w_xh", "w_hh", "b_h"):
        assert torch.equal(getattr(result.parameters, name), getattr(start, name))
    for name in ("w_hy", "b_y"):
        assert (getattr(result.parameters, name) - getattr(start, name)).abs().max() > 1e-3


@pytest.mark.parametrize("learner", ["lra", "bptt", "tptt"])
def test_the_learners_move_every_weight_matrix(learner: str) -> None:
    result = train(run_config(learner, max_iterations=20))
    start = initial_parameters([1], 100, 8, 100)
    assert result.parameters is not None
    for mine, first in zip(result.parameters, start, strict=True):
        assert not torch.equal(mine, first)
