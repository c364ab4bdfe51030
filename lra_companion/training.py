"""The training loop, blind to the learning rule: R runs of one shape, side by side (method.md, "Protocol").

Fresh batches at every iteration; at every check the accuracy on a fixed validation set, and from it the decision to go on; at
the end, once, the accuracy on a test set that no decision has seen. Runs that are solved, stalled or diverged leave the batch.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from lra_companion.config import RunConfig
from lra_companion.diagnostics import recurrent_angles
from lra_companion.learners import Diagnostics, make_learner
from lra_companion.memory import device_memory, runs_that_fit
from lra_companion.network import Batch, Parameters, initial_parameters, predict
from lra_companion.optimisers import Optimiser
from lra_companion.places import usable_device
from lra_companion.randomness import Split
from lra_companion.runs import Keeper, RunResult, RunState, Status, shape_key
from lra_companion.tasks import Task, make_task

_EVALUATION_CHUNK = 500  # sequences at a time: their states stay in a core's cache


def train(config: RunConfig, device: str | None = None) -> RunResult:
    """Train one network; on one device the same config always gives the same history.

    device: auto, cpu or cuda, by default what ``places`` says. Raises ValueError where there is no such device, or not enough
    memory.
    """
    ((_, result),) = run_group([config], device=usable_device(device))
    return result


def run_group(
    configs: Sequence[RunConfig],
    on_iteration: Callable[[int], None] | None = None,
    device: str = "cpu",
    keeper: Keeper | None = None,
) -> Iterator[tuple[int, RunResult]]:
    """Train runs of one shape side by side on ``cpu`` or ``cuda``; yield (index, result) as each ends.

    ``keeper``: what it holds of the runs is gone on with. Those furthest behind train by themselves until they have caught up
    with the next. ``on_iteration`` is told how many runs made a step, and first of all how many steps were made earlier.

    Raises ValueError where configs differ in anything but the seed, the learning rate and the settings that a learner takes per
    run, and where one run alone would not fit in memory; OSError where the keeper cannot write.
    """
    if len({shape_key(config) for config in configs}) != 1:
        raise ValueError("configs: runs trained side by side must have one shape; train_many groups them")
    runs_that_fit(configs[0], device_memory(device))
    groups = _begin(configs, device, keeper)
    earlier = sum(group.iteration * len(group.runs) for group in groups)
    if on_iteration is not None and earlier:
        on_iteration(earlier)
    while groups:
        group = groups[0]
        ended = group.advance()
        if on_iteration is not None:
            on_iteration(len(group.runs))
        yield from ended
        if not group.runs:
            del groups[0]
        elif len(groups) > 1 and group.iteration == groups[1].iteration:
            groups[:2] = [_Group(group.states() + groups[1].states(), device)]
        if keeper is not None and keeper.due():
            keeper.save([state for group in groups for _, state in group.states()])


def _begin(configs: Sequence[RunConfig], device: str, keeper: Keeper | None) -> list[_Group]:
    """Runs that have come equally far in one group each, those furthest behind first."""
    reached: dict[int, list[tuple[int, RunState]]] = defaultdict(list)
    for index, config in enumerate(configs):
        kept = keeper.load(config) if keeper is not None else None
        state = kept or RunState(config)
        reached[state.iteration].append((index, state))
    return [_Group(reached[iteration], device) for iteration in sorted(reached)]


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """Compute on one thread: two cut long sums up differently. Several cores are used by several processes (``sweep``)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Group:
    """Runs still training that have come equally far, each with its index, and their stacked state."""

    def __init__(self, states: Sequence[tuple[int, RunState]], device: str = "cpu") -> None:
        self.indices = [index for index, _ in states]
        self.runs = [replace(state, tensors={}) for _, state in states]  # stacked below
        configs = [run.config for run in self.runs]
        first = configs[0]
        self.task = make_task(first.task)
        self.protocol = first.protocol
        self.device = device
        self.iteration = self.runs[0].iteration
        self.parameters = initial_parameters(
            [config.seed for config in configs],
            self.task.input_size,
            first.network.hidden_size,
            self.task.output_size,
            device=device,
        )
        self.learner = make_learner(
            [config.learner for config in configs], [config.seed for config in configs]
        )
        self.optimiser = Optimiser([config.optimiser for config in configs], self.parameters)
        if self.iteration:
            self._restore([state.tensors for _, state in states])

    def states(self) -> list[tuple[int, RunState]]:
        """Each run on its own, with its index."""
        parts = {
            "parameters": vars(self.parameters),
            "learner": self.learner.state(),
            "optimiser": self.optimiser.state(),
        }
        stacked = {f"{part}.{name}": tensor for part in parts for name, tensor in parts[part].items()}
        return [
            (
                index,
                replace(
                    run,
                    iteration=self.iteration,
                    tensors={name: tensor[place : place + 1] for name, tensor in stacked.items()},
                ),
            )
            for place, (index, run) in enumerate(zip(self.indices, self.runs, strict=True))
        ]

    def _restore(self, tensors: Sequence[dict[str, Tensor]]) -> None:
        """What ``states`` took apart, together again."""
        parts: dict[str, dict[str, Tensor]] = {"parameters": {}, "learner": {}, "optimiser": {}}
        for key in tensors[0]:
            part, name = key.split(".", 1)
            parts[part][name] = torch.cat([each[key] for each in tensors]).to(self.device)
        self.parameters = Parameters(**parts["parameters"])
        self.learner.restore(parts["learner"])
        self.optimiser.restore(parts["optimiser"])

    def advance(self) -> list[tuple[int, RunResult]]:
        """One iteration: a check where one is due, then an update. Returns the runs that ended."""
        with one_thread():
            start = time.process_time()
            ended: dict[int, Status] = {}
            last = self.iteration >= self.protocol.max_iterations
            if last or self.iteration % self.protocol.validate_every == 0:
                ended = self._check()
            if len(ended) < len(self.runs):
                ended |= self._update(skip=set(ended))
            share = (time.process_time() - start) / len(self.runs)
            for run in self.runs:
                run.seconds += share
            results = [(self.indices[place], self._result(place, status)) for place, status in ended.items()]
            if ended:
                self._keep([place for place in range(len(self.runs)) if place not in ended])
            self.iteration += 1
            return results

    def _check(self) -> dict[int, Status]:
        """Validate every run; which of them end here, and why."""
        measured = self._diagnose()
        ended: dict[int, Status] = {}
        for place, run in enumerate(self.runs):
            accuracy = self._accuracy(place, "validation", self.protocol.validation_size)
            loss = run.loss_sum / run.loss_count if run.loss_count else None
            run.loss_sum, run.loss_count = 0.0, 0
            row = {"iteration": self.iteration, "training_loss": loss, "validation_accuracy": accuracy}
            run.history.append(row | {name: values[place] for name, values in measured.items()})
            if accuracy > run.best:
                run.best, run.checks_without_gain = accuracy, 0
            else:
                run.checks_without_gain += 1
            wrong = round((1 - accuracy) * self.protocol.validation_size)
            if wrong <= self.protocol.solved_error * self.protocol.validation_size:
                ended[place] = "solved"
            elif self.iteration >= self.protocol.max_iterations:
                ended[place] = "max_iterations"
            elif run.checks_without_gain >= self.protocol.patience:
                ended[place] = "stalled"
        return ended

    def _update(self, skip: set[int]) -> dict[int, Status]:
        """One step of every run. A run whose loss or weights would not be finite keeps its last finite weights and ends."""
        gradients, diagnostics = self.learner.gradients(self.parameters, self._batch())
        moved = self.optimiser.step(self.parameters, gradients)
        finite = (torch.isfinite(diagnostics.loss) & _finite(moved)).tolist()
        for run, loss in zip(self.runs, diagnostics.loss.tolist(), strict=True):
            run.loss_sum, run.loss_count = run.loss_sum + loss, run.loss_count + 1
        diverged: dict[int, Status] = {
            place: "diverged" for place, well in enumerate(finite) if not well and place not in skip
        }
        stay = sorted(skip | set(diverged))
        for new, old in zip(moved, self.parameters, strict=True):
            new[stay] = old[stay]
        self.parameters = moved
        return diverged

    def _batch(self) -> Batch:
        batch = self.task.batch(
            [run.config.seed for run in self.runs], self.iteration, self.protocol.batch_size
        )
        return batch.to(self.device)

    def _diagnose(self) -> dict[str, list[Any]]:
        """What the protocol wants measured on the coming batch, run by run: per-step lists or single numbers.

        Only what all learners' diagnostics have: a rule may hand more to who asks it, too much to store at each check.
        """
        if not (self.protocol.diagnostics or self.protocol.exact_angle):
            return {}
        batch = self._batch()
        gradients, diagnostics = self.learner.gradients(self.parameters, batch, diagnose=True)
        measured: dict[str, list[Any]] = {}
        if self.protocol.diagnostics:
            found = {
                item.name: getattr(diagnostics, item.name)
                for item in fields(Diagnostics)
                if item.name != "loss"
            }
            measured = {name: value.t().tolist() for name, value in found.items() if value is not None}
        if self.protocol.exact_angle:
            measured["exact_angle"] = recurrent_angles(gradients, self.parameters, batch)
        return measured

    def _accuracy(self, place: int, split: Split, size: int) -> float:
        """Share of a run's validation or test set that its network gets right. One run at a time: its result must not
        depend on its neighbours.
        """
        weights = self.parameters.select(torch.tensor([place]))
        batch = self.task.evaluation_batch(self.runs[place].config.seed, split, size)
        return accuracy(self.task, weights, batch.to(self.device))

    def _result(self, place: int, status: Status) -> RunResult:
        run = self.runs[place]
        return RunResult(
            config=run.config,
            status=status,
            iterations=self.iteration,
            validation_accuracy=self._accuracy(place, "validation", self.protocol.validation_size)
            if status == "diverged"  # since the last check
            else run.history[-1]["validation_accuracy"],
            test_accuracy=self._accuracy(place, "test", self.protocol.test_size),
            history=run.history,
            duration_seconds=run.seconds,
            parameters=self.parameters.select(torch.tensor([place])),
        )

    def _keep(self, places: list[int]) -> None:
        self.runs = [self.runs[place] for place in places]
        self.indices = [self.indices[place] for place in places]
        if not places:
            return
        chosen = torch.tensor(places)
        self.parameters = self.parameters.select(chosen)
        self.optimiser = self.optimiser.select(chosen)
        self.learner = self.learner.select(chosen)


def accuracy(
    task: Task,
    parameters: Parameters,
    batch: Batch,
    outputs_of: Callable[[Parameters, Tensor], Tensor] = predict,
) -> float:
    """Share of a batch (R = 1) that a network gets right. outputs_of: how its outputs come from weights and inputs."""
    chunks = zip(
        batch.inputs.split(_EVALUATION_CHUNK, dim=2),
        batch.targets.split(_EVALUATION_CHUNK, dim=1),
        strict=True,
    )
    right = sum(
        int(task.correct(outputs_of(parameters, inputs), targets).sum()) for inputs, targets in chunks
    )
    return right / batch.targets.shape[1]


def _finite(parameters: Parameters) -> Tensor:
    """Which runs (R,) have only finite weights."""
    sums = torch.stack([tensor.flatten(1).sum(1) for tensor in parameters])  # NaN and infinity survive a sum
    finite = torch.isfinite(sums).all(0)
    if finite.all():
        return finite
    return torch.stack([torch.isfinite(tensor).flatten(1).all(1) for tensor in parameters]).all(0)
