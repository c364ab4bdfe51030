"""What one network shows of the differences between the described method and the public code: the gradients of each variant
at the same weights and batch, and the accuracy with the sequence started in either way.

Measurements need weights, which stored results do not hold: ``measure_many`` trains, measures, and keeps both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lra_companion.chunks import chunks, train_unfinished
from lra_companion.config import (
    RELEASED_PARTS,
    BPTTConfig,
    LRAAblationConfig,
    LRAConfig,
    LRAReleasedConfig,
    ReleasedPart,
    RunConfig,
)
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters, drive, initial_parameters, next_state, readout
from lra_companion.store import ResultStore
from lra_companion.tasks import make_task
from lra_companion.training import RunResult, accuracy, one_thread
from lra_companion.unfinished import Unfinished

MEASURED_FOLDER = "measured"
"""Where, in a folder of results, those lie whose last check carries what was measured on the network."""
_OMEGA_PARTS: tuple[ReleasedPart, ...] = ("diagonal_slope", "omega_on_input", "omega_at_state")


def measure_many(configs: Sequence[RunConfig], store: ResultStore) -> list[RunResult]:
    """Results of these runs, in their order; the last row of each history holds ``measured`` (see ``measure``).

    They are kept in the store's folder ``measured``, and the plain results in the store itself. One process, one thread.
    Runs that another process measures are waited for.
    """
    measured = ResultStore(store.path / MEASURED_FOLDER)
    found: dict[str, RunResult] = {}
    while True:
        found |= {config.key(): result for config in configs if (result := measured.get(config)) is not None}
        left = [config for config in configs if config.key() not in found]
        if not left:
            return [found[config.key()] for config in configs]
        for config in left:
            Unfinished(measured).wait_for(config)
        for chunk in chunks(left, 1):
            for result in train_unfinished(chunk, measured):
                if result.config not in store:
                    store.put(result)
                result.history[-1]["measured"] = measure(result)
                measured.put(result)


def measure(result: RunResult) -> dict[str, Any]:
    """``start`` and ``end``: gradients before and after the run; ``nan``: whether the public code's would have NaN there;
    ``accuracy``: on the test set, with the sequence started in either way.
    """
    if result.parameters is None:
        raise ValueError("result: holds no weights; train_many drops them")
    config = result.config
    task = make_task(config.task)
    learner = config.learner
    if not isinstance(learner, LRAConfig | LRAReleasedConfig):
        raise ValueError(f"learner = {learner.name!r}: lra and lra_released are the ends that are measured")
    start = initial_parameters([config.seed], task.input_size, config.network.hidden_size, task.output_size)
    size, test = config.protocol.batch_size, config.protocol.test_size
    first, last = (task.batch([config.seed], at, size) for at in (0, result.iterations))
    with one_thread():
        held_out = task.evaluation_batch(config.seed, "test", test)
        return {
            "start": compare_gradients(learner, start, first),
            "end": compare_gradients(learner, result.parameters, last),
            "nan": {
                "start": has_nan_gradient(learner, start, first),
                "end": has_nan_gradient(learner, result.parameters, last),
            },
            "accuracy": {
                "described": accuracy(task, result.parameters, held_out),
                "released": accuracy(task, result.parameters, held_out, predict_as_released),
            },
        }


def compare_gradients(
    settings: LRAConfig | LRAReleasedConfig, parameters: Parameters, batch: Batch
) -> dict[str, dict[str, float | None]]:
    """Of each variant, by name: the norm of its gradient of the hidden weights, and its angle in degrees to that of BPTT (the
    exact gradient of L), of ``lra`` and of ``lra_released``, at one network (R = 1), in double precision.

    Variants are named "exact", "lra", "lra_released", "+ part" (lra with one part as released) and "- part" (released with one
    part as described). An angle to or from a gradient of 0 is None.
    """
    weights = Parameters(*(tensor.double() for tensor in parameters))
    inputs = batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    vectors = {
        name: _hidden(make_learner([learner]).gradients(weights, Batch(inputs, targets))[0])
        for name, learner in variants(settings)
    }
    return {
        name: {"norm": float(vector.norm())}
        | {f"to_{other}": angle(vector, vectors[other]) for other in ("exact", "lra", "lra_released")}
        for name, vector in vectors.items()
    }


def variants(settings: LRAConfig | LRAReleasedConfig) -> Iterator[tuple[str, Any]]:
    """Name and learner config of everything that is compared. Without Ω the parts that are about Ω change nothing."""
    shared = _shared(settings)
    yield "exact", BPTTConfig(name="bptt")
    yield "lra", LRAConfig.model_validate({"name": "lra"} | shared)
    yield "lra_released", LRAReleasedConfig.model_validate({"name": "lra_released"} | shared)
    for part in RELEASED_PARTS:
        if part in _OMEGA_PARTS and settings.regularisation_strength == 0:
            continue
        others = [other for other in RELEASED_PARTS if other != part]
        for name, released in ((f"+ {part}", [part]), (f"- {part}", others)):
            yield (
                name,
                LRAAblationConfig.model_validate({"name": "lra_ablation", "released": released} | shared),
            )


def has_nan_gradient(settings: LRAConfig | LRAReleasedConfig, parameters: Parameters, batch: Batch) -> bool:
    """Whether the public code's gradient has NaN at this network (R = 1), in the precision of training."""
    learner = LRAReleasedConfig.model_validate(
        {"name": "lra_released", "released_nan": True} | _shared(settings)
    )
    gradients, _ = make_learner([learner]).gradients(parameters, batch)
    return any(bool(tensor.isnan().any()) for tensor in gradients)


def _shared(settings: LRAConfig | LRAReleasedConfig) -> dict[str, Any]:
    """The settings that every rule here has."""
    names = ("local_loss", "target_step_size", "inner_steps", "clip_norm", "regularisation_strength")
    return {name: getattr(settings, name) for name in names}


def angle(one: Tensor, other: Tensor) -> float | None:
    """Angle in degrees between two vectors; None where one is 0."""
    norms = one.norm(), other.norm()
    if min(norms) == 0:
        return None
    a, b = one / norms[0], other / norms[1]
    return math.degrees(2 * math.atan2(float((a - b).norm()), float((a + b).norm())))  # exact for small ones


def _hidden(gradients: Parameters) -> Tensor:
    return torch.cat([gradients.w_xh.flatten(), gradients.w_hh.flatten(), gradients.b_h.flatten()])


def predict_as_released(parameters: Parameters, inputs: Tensor) -> Tensor:
    """Outputs (R, B, O) as the public code validates: x_1 W_xh + b_h, before any tanh, stands for z_0; x_1 is fed again."""
    driven = drive(parameters, inputs)
    z = driven[0]
    for part in driven:
        z = next_state(part, z, parameters.w_hh)
    return readout(parameters, z)
