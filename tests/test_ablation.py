"""lra_ablation: its two ends are lra and lra_released, each switch does what is said of it, and runs do not see one another."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lra_companion.config import (
    RELEASED_PARTS,
    LRAAblationConfig,
    LRAConfig,
    LRAReleasedConfig,
    ReleasedPart,
    RunConfig,
    parse,
)
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters
from lra_companion.training import shape_key, train
from problems import Shape, inputs_of, random_problem, select, weights_of
from reference import ReferenceLRA, Settings, Weights
from released_reference import ReleasedReference, ReleasedSettings
from runs import run_config

TOLERANCE = 1e-10
OMEGA_PARTS = {"diagonal_slope", "omega_on_input", "omega_at_state"}
SHAPE = Shape(runs=5, steps=6, batch=4, inputs=6, hidden=6, outputs=4)
VARIETY: list[dict[str, Any]] = [
    {"target_step_size": 1.0, "clip_norm": 0.0, "regularisation_strength": 0.0},
    {"target_step_size": 20.0, "clip_norm": 0.05, "regularisation_strength": 0.0},
    {"target_step_size": 0.5, "clip_norm": 0.0, "regularisation_strength": 0.3},
    {"target_step_size": 5.0, "clip_norm": 0.05, "regularisation_strength": 0.1},
    {"target_step_size": 2.0, "clip_norm": 1.0, "regularisation_strength": 1.0},
]
SHAPES = [
    SHAPE,
    replace(SHAPE, symbols=True),
    replace(SHAPE, real_targets=True),
    replace(SHAPE, batch=1),
    replace(SHAPE, steps=1),
    replace(SHAPE, steps=2),
]


def ablation(released: list[ReleasedPart], settings: list[dict[str, Any]], **shared: Any) -> Any:
    return make_learner(
        [
            LRAAblationConfig.model_validate({"name": "lra_ablation", "released": released} | s | shared)
            for s in settings
        ]
    )


def tensors(gradients: Parameters) -> dict[str, Tensor]:
    return {name: getattr(gradients, name) for name in Weights._fields}


def same(found: Parameters, wanted: Parameters, tolerance: float = TOLERANCE) -> None:
    for name, value in tensors(found).items():
        torch.testing.assert_close(
            value,
            getattr(wanted, name),
            atol=tolerance,
            rtol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def gradients_of(
    released: list[ReleasedPart], parameters: Parameters, batch: Batch, **shared: Any
) -> Parameters:
    return ablation(released, VARIETY, **shared).gradients(parameters, batch)[0]


# ---------------------------------------------------------------------------------------------- the two ends


@pytest.mark.parametrize("loss", ["mse", "log_penalty"])
@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_no_switch_it_is_lra(shape: Shape, inner_steps: int, loss: str) -> None:
    parameters, batch = random_problem(shape, seed=3)
    shared = {"inner_steps": inner_steps, "local_loss": loss}
    lra = make_learner([LRAConfig.model_validate({"name": "lra"} | s | shared) for s in VARIETY])
    wanted, seen = lra.gradients(parameters, batch, diagnose=True)
    found, measured = ablation([], VARIETY, **shared).gradients(parameters, batch, diagnose=True)
    same(found, wanted)
    for name in ("loss", "recurrent_norm", "input_norm", "target_displacement", "local_loss"):
        torch.testing.assert_close(
            getattr(measured, name), getattr(seen, name), atol=TOLERANCE, rtol=1e-6, msg=name
        )


@pytest.mark.parametrize("loss", ["mse", "log_penalty"])
@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_all_switches_it_is_lra_released(shape: Shape, inner_steps: int, loss: str) -> None:
    parameters, batch = random_problem(shape, seed=3)
    shared = {"inner_steps": inner_steps, "local_loss": loss}
    released = make_learner(
        [LRAReleasedConfig.model_validate({"name": "lra_released"} | s | shared) for s in VARIETY]
    )
    wanted, seen = released.gradients(parameters, batch, diagnose=True)
    found, measured = ablation(list(RELEASED_PARTS), VARIETY, **shared).gradients(
        parameters, batch, diagnose=True
    )
    same(found, wanted)
    for name in ("loss", "recurrent_norm", "input_norm", "target_displacement"):
        torch.testing.assert_close(
            getattr(measured, name), getattr(seen, name), atol=TOLERANCE, rtol=1e-6, msg=name
        )


def test_both_ends_equal_the_slow_references() -> None:
    """Not only the package's own learners: autograd, written from the two pages."""
    parameters, batch = random_problem(SHAPE, seed=4)
    shared = {"inner_steps": 2}
    ends = (
        gradients_of([], parameters, batch, **shared),
        gradients_of(list(RELEASED_PARTS), parameters, batch, **shared),
    )
    for run, settings in enumerate(VARIETY):
        weights, inputs, targets = weights_of(parameters, run), inputs_of(batch, run), batch.targets[run]
        described = ReferenceLRA(weights, Settings(**settings, **shared)).gradients(inputs, targets)
        released = ReleasedReference(weights, ReleasedSettings(**settings, **shared)).gradients(
            inputs, targets
        )
        for found, wanted in zip(ends, (described.gradients, released.gradients), strict=True):
            for name in Weights._fields:
                torch.testing.assert_close(
                    getattr(found, name)[run], getattr(wanted, name), atol=TOLERANCE, rtol=TOLERANCE
                )


# -------------------------------------------------------------------------------------------- single switches


@pytest.mark.parametrize("part", RELEASED_PARTS)
def test_each_switch_changes_the_gradient_where_it_should(part: ReleasedPart) -> None:
    """From either end; parts that are about Ω only where there is Ω. Over more steps the first may get too little to see."""
    parameters, batch = random_problem(replace(SHAPE, steps=3), seed=5)
    stronger = [s | {"target_step_size": 10 * s["target_step_size"]} for s in VARIETY]
    others = [other for other in RELEASED_PARTS if other != part]
    for without, having in (([], [part]), (others, list(RELEASED_PARTS))):
        one, other = (
            ablation(r, stronger, inner_steps=2).gradients(parameters, batch)[0] for r in (without, having)
        )
        for run, settings in enumerate(stronger):
            moved = max(
                float((getattr(one, n)[run] - getattr(other, n)[run]).abs().max()) for n in Weights._fields
            )
            if part in OMEGA_PARTS and settings["regularisation_strength"] == 0:
                assert moved == 0
            else:
                assert moved > 1e-9, (part, settings)  # rounding moves it by 1e-17


@pytest.mark.parametrize("part", [part for part in RELEASED_PARTS if part != "diagonal_slope"])
def test_the_readout_s_gradient_feels_only_the_slope(part: ReleasedPart) -> None:
    parameters, batch = random_problem(SHAPE, seed=5)
    one, other = (gradients_of(released, parameters, batch) for released in ([], [part]))
    assert torch.equal(one.w_hy, other.w_hy) and torch.equal(one.b_y, other.b_y)


def test_omega_on_input_alone_is_what_lra_has_a_setting_for() -> None:
    parameters, batch = random_problem(SHAPE, seed=6)
    places = {"regularise_input": True, "regularise_recurrent": False, "inner_steps": 3}
    lra = make_learner([LRAConfig.model_validate({"name": "lra"} | s | places) for s in VARIETY])
    same(
        gradients_of(["omega_on_input"], parameters, batch, inner_steps=3),
        lra.gradients(parameters, batch)[0],
    )


def test_no_first_step_takes_away_what_the_first_step_gives() -> None:
    """With one step there is nothing left of it but the readout; with more, the first step's d_1 is missing in b_h."""
    parameters, batch = random_problem(replace(SHAPE, steps=1), seed=6)
    found = gradients_of(["no_first_step"], parameters, batch)
    assert all((value == 0).all() for value in (found.w_xh, found.w_hh, found.b_h))
    assert (found.w_hy != 0).any()
    parameters, batch = random_problem(SHAPE, seed=6)
    whole, less = (gradients_of(r, parameters, batch) for r in ([], ["no_first_step"]))
    assert torch.equal(whole.w_hh, less.w_hh), "z_0 = 0: it never taught W_hh"
    assert (whole.b_h - less.b_h).abs().amax(1).min() > 1e-9


def test_full_differentiation_alone_is_the_gradient_of_held_targets() -> None:
    """Autograd on sum_t l(z_t, zhat_t) with all zhat constant, targets taken from a run of lra's own inner steps."""
    settings = [{"target_step_size": 20.0, "clip_norm": 0.0}]
    parameters, batch = random_problem(replace(SHAPE, runs=1), seed=7)
    found, _ = ablation(["full_differentiation"], settings, inner_steps=2, local_loss="mse").gradients(
        parameters, batch
    )
    reference = ReferenceLRA(
        weights_of(parameters, 0), Settings("mse", target_step_size=20.0, inner_steps=2, clip_norm=0.0)
    )
    w = weights_of(parameters, 0).leaves()
    x, z, h, loss = inputs_of(batch, 0), torch.zeros(4, 6, dtype=torch.float64), [], torch.zeros(())
    zs = []
    for x_t in x:
        h.append(x_t @ w.w_xh + z @ w.w_hh + w.b_h)
        z = torch.tanh(h[-1])
        zs.append(z)
    zhats = reference.targets_of_states(x, [each.detach() for each in h], batch.targets[0])
    loss = sum(((each - zhat.detach()) ** 2).mean() for each, zhat in zip(zs, zhats, strict=True))
    for name, wanted in zip(("w_xh", "w_hh", "b_h"), torch.autograd.grad(loss, w[:3]), strict=True):
        torch.testing.assert_close(getattr(found, name)[0], wanted, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_moving_target_takes_the_pull_away() -> None:
    """Both sides of l move with h_t: to first order in the target step nothing is left, where a held target leaves a pull."""
    parameters, batch = random_problem(SHAPE, seed=8)
    small = [{"target_step_size": 1e-4, "clip_norm": 0.0}] * SHAPE.runs
    held, moving = (
        ablation(r, small, local_loss="mse").gradients(parameters, batch)[0] for r in ([], ["moving_targets"])
    )
    assert (moving.w_xh.norm() / held.w_xh.norm()) < 1e-3


# ------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("runs", [[0], [2], [4], [1, 3]])
@pytest.mark.parametrize("released", [[], ["full_differentiation"], list(RELEASED_PARTS)], ids=len)
@pytest.mark.parametrize(
    "shape", [SHAPE, replace(SHAPE, hidden=24, batch=7, steps=20, symbols=True)], ids=str
)
def test_runs_side_by_side_are_the_runs_alone(
    shape: Shape, released: list[ReleasedPart], runs: list[int]
) -> None:
    """To the last bit where all runs are regularised or none is, as training groups them."""
    parameters, batch = random_problem(shape, seed=9, dtype=torch.float32)
    for strength in (0.0, 0.3):
        settings = [s | {"regularisation_strength": strength} for s in VARIETY]
        together, _ = ablation(released, settings).gradients(parameters, batch)
        alone, _ = ablation(released, [settings[run] for run in runs]).gradients(
            *select(parameters, batch, runs)
        )
        for name, value in tensors(together).items():
            assert torch.equal(value[runs], getattr(alone, name)), name


@pytest.mark.parametrize("released", [[], ["diagonal_slope"], list(RELEASED_PARTS)], ids=len)
def test_no_nan_at_zero_error_and_in_saturated_units(released: list[ReleasedPart]) -> None:
    parameters, batch = random_problem(replace(SHAPE, real_targets=True), seed=10)
    for scale in (0.0, 1e4):
        extreme = Parameters(*(tensor * scale for tensor in parameters))
        still = Batch(batch.inputs, torch.zeros_like(batch.targets))
        for value in gradients_of(released, extreme, still):
            assert torch.isfinite(value).all()


def test_weights_move_and_the_same_config_gives_the_same_run() -> None:
    config = run_config(
        {"name": "lra_ablation", "released": ["full_differentiation"], "regularisation_strength": 0.1}
    )
    one, again = train(config), train(config)
    assert one.history == again.history
    assert one.parameters is not None and again.parameters is not None
    assert torch.equal(one.parameters.w_hh, again.parameters.w_hh)
    other = train(run_config({"name": "lra_ablation", "regularisation_strength": 0.1}))
    assert other.parameters is not None
    assert not torch.equal(one.parameters.w_hh, other.parameters.w_hh)


def test_runs_with_other_switches_are_not_trained_side_by_side() -> None:
    one, other = (run_config({"name": "lra_ablation", "released": r}) for r in ([], ["full_differentiation"]))
    assert shape_key(one) != shape_key(other)
    with pytest.raises(ValueError, match=r"learner\.released"):
        make_learner([one.learner, other.learner])


# --------------------------------------------------------------------------------------------------- config


def test_the_order_of_the_switches_does_not_matter() -> None:
    one, other = (
        run_config({"name": "lra_ablation", "released": list(order)})
        for order in (RELEASED_PARTS, RELEASED_PARTS[::-1])
    )
    assert one == other and one.key() == other.key()
    assert RunConfig.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize(
    ("released", "word"),
    [(["omega"], "omega"), (["carried_loss"] * 2, "differ"), ("carried_loss", "list"), ([1], "1")],
)
def test_wrong_switches_are_refused(released: Any, word: str) -> None:
    with pytest.raises(ValueError, match=rf"released.*{word}"):
        run_config({"name": "lra_ablation", "released": released})


def test_only_the_diagonal_needs_a_hidden_layer_as_large_as_the_batch() -> None:
    """And says so in one line; without Ω, or with one slope per unit, a batch may be of any size."""
    data = run_config(
        {"name": "lra_ablation", "regularisation_strength": 0.1, "released": ["diagonal_slope"]}
    ).model_dump()
    data["protocol"]["batch_size"] = data["network"]["hidden_size"] + 1
    with pytest.raises(ValueError, match=r"^protocol\.batch_size = 9: lra_ablation .* at most"):
        parse(RunConfig, data)
    for change in ({"regularisation_strength": 0.0}, {"released": ["carried_loss"]}):
        parse(RunConfig, data | {"learner": data["learner"] | change})
