"""LRA against the slow reference of reference.py, and the properties that method.md promises."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lra_companion import compiled
from lra_companion.config import BPTTConfig, LRAConfig
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters, forward, output_loss, readout
from problems import Shape, inputs_of, random_problem, select, weights_of
from reference import ReferenceLRA, Settings, Weights

TOLERANCE = 1e-10
LOSSES = ["log_penalty", "mse", "huber", "l1", "cosine"]
JITTER = 2e-15  # about ten roundings of float64
WELL_CONDITIONED = 2e-11  # a problem that ten roundings move further than this cannot show 1e-10
PER_STEP = ("recurrent_norm", "input_norm", "target_displacement", "local_loss", "regulariser")
# one of each kind of setting; used where the test is about something else than the settings
VARIETY = [
    Settings("log_penalty", "mean", 5.0, 3, 1.0, "clip", None, None, 0.0, "batch"),
    Settings("log_penalty", "mean", 2.0, 3, 0.3, "clip", None, None, 0.5, "batch"),
    Settings("log_penalty", "per_example", 0.5, 3, 0.2, "clip", 1.0, "normalise", 0.1, "example"),
    Settings("log_penalty", "per_example", 1.0, 3, 0.0, "clip", None, None, 0.0, "batch"),
    Settings("log_penalty", "mean", 1.0, 3, 0.5, "normalise", None, None, 1.0, "example"),
    Settings("log_penalty", "per_example", 0.3, 3, 0.5, "normalise", 0.0, "clip", 0.0, "example"),
    Settings("log_penalty", "mean", 10.0, 3, 0.0, "normalise", 0.7, "clip", 0.2, "batch"),
    Settings("log_penalty", "per_example", 0.2, 3, 5.0, "clip", None, "normalise", 0.02, "example"),
]


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything here must hold for the machine code and for what stands in where there is no compiler."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "available", lambda like: False)
    elif compiled.made_by() is None:
        pytest.skip("no C compiler here")
    return str(request.param)


def lra(settings: list[Settings]) -> Any:
    """The package's learner for one run per setting."""
    return make_learner([LRAConfig(name="lra", **asdict(s)) for s in settings])


def tensors(gradients: Parameters) -> dict[str, Tensor]:
    """The five gradients by name, in the order of the reference."""
    return {name: getattr(gradients, name) for name in Weights._fields}


def disturbance(weights: Weights, settings: Settings, inputs: Tensor, targets: Tensor) -> float:
    """How far a few roundings move the reference's gradients, absolutely or relatively."""
    exact = ReferenceLRA(weights, settings).gradients(inputs, targets).gradients
    moved = ReferenceLRA(weights, settings, JITTER).gradients(inputs, targets).gradients
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1.0)) for a, b in zip(exact, moved, strict=True)
    )


@dataclass(frozen=True)
class Drawn:
    """A drawn problem: its sizes, its tensors' seed and the settings of each run."""

    shape: Shape
    seed: int
    settings: tuple[Settings, ...]


def settings_of_a_run(loss: str, steps: int) -> st.SearchStrategy[Settings]:
    """Settings that may differ between runs of one group."""
    return st.builds(
        Settings,
        local_loss=st.just(loss),
        reduction=st.sampled_from(["mean", "per_example"]),
        target_step_size=st.sampled_from([0.3, 1.0, 2.5, 10.0]),
        inner_steps=st.just(steps),
        clip_norm=st.sampled_from([0.0, 0.05, 0.3, 1.0, 5.0]),
        clip_mode=st.sampled_from(["clip", "normalise"]),
        target_clip_norm=st.sampled_from([None, 0.0, 0.1, 1.0]),
        target_clip_mode=st.sampled_from([None, "clip", "normalise"]),
        regularisation_strength=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
        regularisation_scope=st.sampled_from(["batch", "example"]),
        regularise_targets=st.booleans(),
        regularise_recurrent=st.booleans(),
        regularise_readout=st.booleans(),
        regularise_input=st.booleans(),
    )


@st.composite
def drawn_problems(draw: st.DrawFn) -> Drawn:
    """Shapes and settings; K and the local loss are one for all runs, everything else is each run's own."""
    shape = Shape(
        runs=draw(st.integers(1, 4)),
        steps=draw(st.integers(2, 6)),
        batch=draw(st.integers(1, 5)),
        inputs=draw(st.integers(2, 6)),
        hidden=draw(st.integers(2, 6)),
        outputs=draw(st.integers(2, 5)),
        symbols=draw(st.booleans()),
        real_targets=draw(st.booleans()),
    )
    one = settings_of_a_run(draw(st.sampled_from(LOSSES)), draw(st.integers(1, 5)))
    settings = draw(st.lists(one, min_size=shape.runs, max_size=shape.runs))
    return Drawn(shape, draw(st.integers(0, 10**6)), tuple(settings))


def test_gradients_and_diagnostics_equal_the_reference() -> None:
    """All five gradients and every diagnostic, to 1e-10, wherever ten roundings move less than that."""
    compared, skipped = [], []

    @given(drawn_problems())
    def check(drawn: Drawn) -> None:
        parameters, batch = random_problem(drawn.shape, drawn.seed)
        gradients, diagnostics = lra(list(drawn.settings)).gradients(parameters, batch, diagnose=True)
        plain, _ = lra(list(drawn.settings)).gradients(parameters, batch)
        for run, settings in enumerate(drawn.settings):
            problem = weights_of(parameters, run), settings, inputs_of(batch, run), batch.targets[run]
            if disturbance(*problem) > WELL_CONDITIONED:
                skipped.append(settings)
                assert all(g[run].isfinite().all() for g in tensors(gradients).values())
                continue
            compared.append(settings)
            for name, value in tensors(gradients).items():
                assert torch.equal(value[run], getattr(plain, name)[run]), name
            compare_run(run, ReferenceLRA(*problem[:2]).gradients(*problem[2:]), gradients, diagnostics)

    check()
    assert len(compared) > 10 * len(skipped), f"only {len(compared)} compared, {len(skipped)} skipped"
    assert {s.reduction for s in compared} == {"mean", "per_example"}


def compare_run(run: int, expected: Any, gradients: Parameters, diagnostics: Any) -> None:
    """One run of the batch against its own reference."""
    close = {"atol": TOLERANCE, "rtol": TOLERANCE}
    for name, value in tensors(gradients).items():
        wanted = getattr(expected.gradients, name)
        torch.testing.assert_close(value[run], wanted, **close, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(diagnostics.loss[run], expected.loss, **close)
    for name in PER_STEP:
        wanted = torch.stack(getattr(expected, name))
        value = getattr(diagnostics, name)[:, run]
        torch.testing.assert_close(value, wanted, **close, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("inner_steps", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_kind_of_setting_equals_the_reference(loss: str, inner_steps: int, batch_size: int) -> None:
    """The same comparison on a fixed list of settings, so that no kind depends on the luck of a draw."""
    settings = [replace(s, local_loss=loss, inner_steps=inner_steps) for s in VARIETY]
    parameters, batch = random_problem(Shape(runs=len(settings), batch=batch_size), seed=3)
    gradients, diagnostics = lra(settings).gradients(parameters, batch, diagnose=True)
    for run, s in enumerate(settings):
        problem = weights_of(parameters, run), s, inputs_of(batch, run), batch.targets[run]
        fading = batch_size == 1 or loss == "cosine"
        if fading and s.clip_mode == "normalise" and s.regularisation_strength == 0:
            continue  # without Ω the targets fade within four steps to what rounding hides, and rescaling shows it
        assert disturbance(*problem) < WELL_CONDITIONED
        compare_run(run, ReferenceLRA(*problem[:2]).gradients(*problem[2:]), gradients, diagnostics)


@pytest.mark.parametrize("place", ["targets", "recurrent", "readout", "input"])
def test_each_place_of_omega_by_itself(place: str) -> None:
    """Ω on one place only equals the reference, and differs from none and from Ω on all of them."""
    places = {f"regularise_{p}": p == place for p in ("targets", "recurrent", "readout", "input")}
    base = Settings("log_penalty", "per_example", 0.7, 2, 0.5, regularisation_strength=0.4)
    settings = [replace(base, **places), replace(base, regularisation_scope="example", **places)]
    settings += [replace(base, regularisation_strength=0.0), replace(base, regularise_input=True)]
    parameters, batch = random_problem(Shape(runs=1), seed=4)
    parameters, batch = select(parameters, batch, [0, 0, 0, 0])
    gradients, diagnostics = lra(settings).gradients(parameters, batch, diagnose=True)
    for run, s in enumerate(settings):
        expected = ReferenceLRA(weights_of(parameters, run), s).gradients(
            inputs_of(batch, run), batch.targets[run]
        )
        compare_run(run, expected, gradients, diagnostics)
    moved = {"targets": "b_h", "recurrent": "w_hh", "readout": "w_hy", "input": "w_xh"}[place]
    found = getattr(gradients, moved)
    assert (found[0] - found[1]).norm() > 1e-3 and (found[0] - found[2]).norm() > 1e-3
    assert all((v[0] - v[3]).norm() > 1e-3 for v in (gradients.w_hh, gradients.w_xh))


@pytest.mark.parametrize("symbols", [True, False])
def test_one_time_step(symbols: bool) -> None:
    """T = 1: only eq. 4 gives a target, and the recurrent weights are not moved."""
    parameters, batch = random_problem(Shape(runs=8, steps=1, symbols=symbols), seed=5)
    gradients, diagnostics = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    assert torch.equal(gradients.w_hh, torch.zeros_like(gradients.w_hh))
    assert all(gradients.w_xh[run].norm() > 0 for run in range(8))
    for run, s in enumerate(VARIETY):
        reference = ReferenceLRA(weights_of(parameters, run), s)
        compare_run(
            run, reference.gradients(inputs_of(batch, run), batch.targets[run]), gradients, diagnostics
        )


def test_symbols_and_one_hot_rows_give_the_same_gradients() -> None:
    """A symbol is a short way to write a one-hot row, for every setting."""
    parameters, batch = random_problem(Shape(runs=8, symbols=True, batch=5, inputs=3), seed=7)
    rows = torch.nn.functional.one_hot(batch.inputs, 3).double()
    from_symbols, _ = lra(VARIETY).gradients(parameters, batch)
    from_rows, _ = lra(VARIETY).gradients(parameters, Batch(rows, batch.targets))
    for name, value in tensors(from_symbols).items():
        torch.testing.assert_close(value, getattr(from_rows, name), atol=1e-11, rtol=1e-11)


def test_diagnosing_changes_no_gradient() -> None:
    """The gradients are the same bits whether or not somebody looks."""
    parameters, batch = random_problem(Shape(runs=8), seed=8, dtype=torch.float32)
    plain, diagnostics = lra(VARIETY).gradients(parameters, batch)
    looked_at, _ = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    for name, value in tensors(plain).items():
        assert torch.equal(value, getattr(looked_at, name)), name
    error_free = output_loss(readout(parameters, forward(parameters, batch.inputs).z[-1]), batch.targets)[0]
    torch.testing.assert_close(diagnostics.loss, error_free)


def test_gradients_leave_the_weights_and_the_batch_alone() -> None:
    """The learner works on buffers of its own."""
    parameters, batch = random_problem(Shape(runs=8), seed=9)
    before = {name: value.clone() for name, value in tensors(parameters).items()}
    inputs, targets = batch.inputs.clone(), batch.targets.clone()
    learner = lra(VARIETY)
    first, _ = learner.gradients(parameters, batch)
    kept = {name: value.clone() for name, value in tensors(first).items()}
    learner.gradients(*random_problem(Shape(runs=8), seed=10))
    again, _ = learner.gradients(parameters, batch)
    assert all(torch.equal(value, getattr(parameters, name)) for name, value in before.items())
    assert torch.equal(inputs, batch.inputs) and torch.equal(targets, batch.targets)
    assert all(torch.equal(value, getattr(again, name)) for name, value in kept.items())


@pytest.mark.parametrize("real_targets", [True, False])
def test_output_layer_equals_bptt_without_alpha_and_clipping(real_targets: bool) -> None:
    """W_hy and b_y sit directly under the loss: their local gradient is the exact one."""
    shape = Shape(runs=3, real_targets=real_targets)
    parameters, batch = random_problem(shape, seed=11)
    settings = [Settings(inner_steps=2, reduction=r) for r in ("mean", "per_example", "mean")]
    local, _ = lra(settings).gradients(parameters, batch)
    exact, _ = make_learner([BPTTConfig(name="bptt")] * 3).gradients(parameters, batch)
    torch.testing.assert_close(local.w_hy, exact.w_hy, atol=1e-13, rtol=1e-12)
    torch.testing.assert_close(local.b_y, exact.b_y, atol=1e-13, rtol=1e-12)
    assert not torch.allclose(local.w_hh, exact.w_hh, rtol=0.01)


# ---------------------------------------------------------------------------------------------- locality


def with_another_history(parameters: Parameters, batch: Batch, step: int) -> Batch:
    """Other inputs before `step` (1-based) that nevertheless lead to the same h_{step-1}.

    x_1..x_{step-2} are drawn anew, and x_{step-1} is chosen so that its drive makes up for the other z_{step-2}.
    """
    inputs = batch.inputs.clone()
    early = inputs[: step - 2]
    generator = torch.Generator().manual_seed(99)
    inputs[: step - 2] = early + torch.randn(early.shape, generator=generator, dtype=early.dtype)
    old = forward(parameters, batch.inputs).z[step - 2]
    new = forward(parameters, inputs).z[step - 2]
    missing = (old - new) @ parameters.w_hh
    inputs[step - 2] += missing @ torch.linalg.pinv(parameters.w_xh)
    return Batch(inputs, batch.targets)


@pytest.mark.parametrize("step", [3, 5, 6])
def test_a_step_knows_the_past_only_through_its_lower_state(step: int) -> None:
    """With h_{t-1} and x_t..x_T kept, another history changes nothing from t on, and everything before.

    The steps before t use input channels of their own, so that the gradient of the others' rows of W_xh is the
    sum over the steps from t on alone.
    """
    hidden, late = 4, 3
    shape = Shape(runs=8, steps=6, batch=3, inputs=hidden + late, hidden=hidden)
    parameters, batch = random_problem(shape, seed=13)
    batch.inputs[: step - 1, ..., hidden:] = 0.0
    batch.inputs[step - 1 :, ..., :hidden] = 0.0
    early = Parameters(*(v.clone() for v in tensors(parameters).values()))
    early.w_xh[:, hidden:] = 0.0
    other = with_another_history(early, batch, step)
    other.inputs[: step - 1, ..., hidden:] = 0.0
    before, seen = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    after, seen_again = lra(VARIETY).gradients(parameters, other, diagnose=True)
    torch.testing.assert_close(after.w_xh[:, hidden:], before.w_xh[:, hidden:], atol=1e-9, rtol=1e-9)
    assert not torch.allclose(after.w_xh[:, :hidden], before.w_xh[:, :hidden], rtol=1e-2)
    for name in PER_STEP:
        old, new = getattr(seen, name), getattr(seen_again, name)
        torch.testing.assert_close(new[step - 1 :], old[step - 1 :], atol=1e-9, rtol=1e-9)
    assert not torch.allclose(seen_again.input_norm[0], seen.input_norm[0], rtol=1e-2)


@pytest.mark.parametrize("loss", ["mse", "log_penalty"])
def test_a_step_knows_the_future_only_through_its_target(loss: str) -> None:
    """One unit, one example, a channel per step: each gradient follows from the step's own state and target.

    With |zhat_t - z_t| given, |dl_t/dh_t| is a formula of z_t alone; a loss that reaches back through z_{t-1} adds
    the later steps' losses to it.
    """
    steps = 5
    parameters, batch = random_problem(
        Shape(runs=2, steps=steps, batch=1, inputs=steps, hidden=1, outputs=3), seed=17
    )
    parameters.w_hh[:], parameters.w_xh[:], parameters.b_h[:] = 1.2, 0.1, 0.1
    inputs = torch.eye(steps, dtype=torch.float64)[:, None, None, :].expand(steps, 2, 1, steps).contiguous()
    settings = [Settings(loss, r, 2.0, 2, 0.0) for r in ("mean", "per_example")]
    gradients, seen = lra(settings).gradients(parameters, Batch(inputs, batch.targets), diagnose=True)
    z = forward(parameters, inputs).z[1:, :, 0, 0]
    distance = seen.target_displacement
    slope = 2 * distance if loss == "mse" else 2 * distance / (1 + distance**2)
    wanted = slope * (1 - z**2)
    assert (wanted > 1e-6).all()
    torch.testing.assert_close(gradients.w_xh[..., 0].abs().T, wanted, atol=1e-14, rtol=1e-9)


# ---------------------------------------------------------------------------------------------- never NaN

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def finite(gradients: Parameters, diagnostics: Any) -> bool:
    """Whether nothing in gradients or diagnostics is NaN or infinite."""
    found = [*tensors(gradients).values(), diagnostics.loss, *(getattr(diagnostics, n) for n in PER_STEP)]
    return all(bool(value.isfinite().all()) for value in found)


@DTYPES
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_at_its_worst(loss: str, dtype: torch.dtype) -> None:
    """States of exact zeros, saturated units, and an error of exp(-200) at the top: nothing is NaN."""
    settings = [replace(s, local_loss=loss) for s in VARIETY]
    for weights in (0.0, 1.0, 50.0):
        for gap in (0.0, 200.0):
            parameters, batch = random_problem(Shape(runs=8), seed=18, dtype=dtype)
            for weight in (parameters.w_xh, parameters.w_hh, parameters.b_h):
                weight *= weights
            parameters.b_y[:, 0] += gap
            batch.targets.zero_()
            assert finite(*lra(settings).gradients(parameters, batch, diagnose=True)), (weights, gap)


@DTYPES
def test_zero_loss_gives_zero_gradients(dtype: torch.dtype) -> None:
    """Outputs that equal the targets: no error, so no Ω and no step, at any alpha and in both modes."""
    parameters, batch = random_problem(Shape(runs=8, real_targets=True), seed=19, dtype=dtype)
    reached = readout(parameters, forward(parameters, batch.inputs).z[-1])
    gradients, diagnostics = lra(VARIETY).gradients(parameters, Batch(batch.inputs, reached), diagnose=True)
    assert finite(gradients, diagnostics)
    assert torch.equal(diagnostics.loss, torch.zeros(8, dtype=dtype))
    assert torch.equal(diagnostics.clipped_share, torch.zeros(8, dtype=dtype))
    for name, value in tensors(gradients).items():
        assert torch.equal(value, torch.zeros_like(value)), name


@DTYPES
def test_saturated_units_give_zero_hidden_gradients(dtype: torch.dtype) -> None:
    """Every unit at 1 exactly: phi' = 0, nothing passes, and only the readout learns."""
    parameters, batch = random_problem(Shape(runs=8), seed=23, dtype=dtype)
    parameters.b_h[:] = 60.0
    gradients, diagnostics = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    assert finite(gradients, diagnostics)
    for value in (gradients.w_xh, gradients.w_hh, gradients.b_h):
        assert torch.equal(value, torch.zeros_like(value))
    assert (gradients.w_hy.flatten(1).norm(dim=1) > 0).all()


@DTYPES
@pytest.mark.parametrize("scope", ["batch", "example"])
def test_an_error_that_a_saturated_state_lets_through_to_no_unit(dtype: torch.dtype, scope: str) -> None:
    """|s phi'| = 0 where |d| is not: Ω is not defined there, so it and its gradients are 0, not (0 - 1)^2."""
    parameters, batch = random_problem(Shape(runs=1, steps=3, inputs=2, symbols=True), seed=23, dtype=dtype)
    parameters.w_xh[:, 0], parameters.w_xh[:, 1] = 50.0, 0.1
    batch.inputs[:] = torch.tensor([1, 0, 1])[
        :, None, None
    ]  # the second state is saturated, the third is not
    learner = lra([replace(VARIETY[1], regularisation_scope=scope, clip_norm=0.0)])
    gradients, diagnostics = learner.gradients(parameters, batch, diagnose=True)
    assert finite(gradients, diagnostics)
    assert float(diagnostics.local_loss[2, 0]) > 0
    assert float(diagnostics.regulariser[2, 0]) == 0


@DTYPES
def test_some_units_saturated(dtype: torch.dtype) -> None:
    """Saturated units get no gradient, the others do, nothing is NaN."""
    parameters, batch = random_problem(Shape(runs=8), seed=29, dtype=dtype)
    parameters.b_h[:, :2] = torch.tensor([60.0, -60.0])
    gradients, diagnostics = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    assert finite(gradients, diagnostics)
    assert torch.equal(gradients.b_h[:, :2], torch.zeros(8, 2, dtype=dtype))
    assert (gradients.b_h[:, 2:].norm(dim=1) > 0).all()


@DTYPES
@pytest.mark.parametrize("bias", [3.0, 6.0, 8.5, 9.0, 12.0, 18.0])
def test_nearly_saturated_units(dtype: torch.dtype, bias: float) -> None:
    """phi' at and around the smallest that the dtype can hold next to 1."""
    parameters, batch = random_problem(Shape(runs=8), seed=31, dtype=dtype)
    parameters.b_h[:] = bias
    assert finite(*lra(VARIETY).gradients(parameters, batch, diagnose=True))


@DTYPES
def test_targets_equal_to_the_states(dtype: torch.dtype) -> None:
    """W_hy = 0: there is an error, but none of it comes down, so zhat_t = z_t and only the readout learns."""
    parameters, batch = random_problem(Shape(runs=8), seed=37, dtype=dtype)
    parameters.w_hy[:] = 0.0
    gradients, diagnostics = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    assert finite(gradients, diagnostics)
    assert torch.equal(diagnostics.target_displacement, torch.zeros(4, 8, dtype=dtype))
    for value in (gradients.w_xh, gradients.w_hh, gradients.b_h):
        assert torch.equal(value, torch.zeros_like(value))
    assert (gradients.w_hy.flatten(1).norm(dim=1) > 0).all()


@DTYPES
@pytest.mark.parametrize("symbols", [True, False])
def test_zero_weights(dtype: torch.dtype, symbols: bool) -> None:
    """All weights and biases 0: every state is 0, only the output bias has a gradient."""
    parameters, batch = random_problem(Shape(runs=8, symbols=symbols), seed=41, dtype=dtype)
    zero = Parameters(*(torch.zeros_like(v) for v in tensors(parameters).values()))
    gradients, diagnostics = lra(VARIETY).gradients(zero, batch, diagnose=True)
    assert finite(gradients, diagnostics)
    for name, value in tensors(gradients).items():
        assert torch.equal(value, torch.zeros_like(value)) == (name != "b_y"), name


@DTYPES
def test_no_recurrence_cuts_the_targets(dtype: torch.dtype) -> None:
    """W_hh = 0: the last step has a target, the earlier ones keep their states."""
    parameters, batch = random_problem(Shape(runs=8), seed=43, dtype=dtype)
    parameters.w_hh[:] = 0.0
    gradients, diagnostics = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    assert finite(gradients, diagnostics)
    assert (diagnostics.target_displacement[-1] > 0).all()
    assert torch.equal(diagnostics.target_displacement[:-1], torch.zeros(3, 8, dtype=dtype))


@DTYPES
@pytest.mark.parametrize(
    "gap", [10.0, 40.0, 80.0, 88.0, 92.0, 95.0, 98.0, 100.0, 103.0, 200.0, 720.0, 740.0, 1e4]
)
def test_vanishing_error(dtype: torch.dtype, gap: float) -> None:
    """A loss of about exp(-gap), down through the subnormal numbers to 0: finite at every size, in small and large steps.

    One example's error is smaller than the others' by exp(-8), and one unit is saturated: exact zeros beside tiny numbers.
    """
    parameters, batch = random_problem(Shape(runs=8), seed=47, dtype=dtype)
    parameters.b_h[:, 1] = 60.0
    parameters.b_y[:, 0] += gap
    parameters.b_y[:, 1] -= 8.0
    batch.targets.zero_()
    for factor in (1.0, 30.0):
        settings = [replace(s, target_step_size=factor * s.target_step_size) for s in VARIETY]
        assert finite(*lra(settings).gradients(parameters, batch, diagnose=True))


@DTYPES
@pytest.mark.parametrize("reduction", ["mean", "per_example"])
def test_errors_that_fade_through_the_subnormal_numbers(dtype: torch.dtype, reduction: str) -> None:
    """With `mean` a target step shrinks by 1 / (B H) at every step back: long before t = 1 nothing is left of it."""
    shape = Shape(
        runs=8, steps=60 if dtype == torch.float32 else 250, batch=20, inputs=5, hidden=50, symbols=True
    )
    parameters, batch = random_problem(shape, seed=48, dtype=dtype)
    settings = [replace(s, reduction=reduction, inner_steps=1) for s in VARIETY]
    settings[6] = replace(settings[6], target_clip_norm=0.0, clip_norm=1.0, regularisation_strength=0.0)
    assert finite(*lra(settings).gradients(parameters, batch, diagnose=True))


@pytest.mark.parametrize("symbols", [True, False])
def test_tiny_errors_keep_their_norm_in_float32(symbols: bool) -> None:
    """Errors of 1e-25 have squares that float32 cannot hold; their norms, and what is rescaled by them, must be right.

    All states are 0 here, so that targets can come that close to them.
    """
    shape = Shape(runs=2, steps=5, batch=4, symbols=symbols)
    base = Settings("mse", "mean", target_step_size=1e-4, target_clip_norm=0.0)
    settings = [base, replace(base, clip_norm=0.5, clip_mode="normalise")]
    results = []
    for dtype in (torch.float64, torch.float32):
        parameters, batch = random_problem(shape, seed=49, dtype=dtype)
        parameters.w_xh[:], parameters.b_h[:] = 0.0, 0.0
        results.append(lra(settings).gradients(parameters, batch, diagnose=True))
    (exact, seen_exactly), (low, seen) = results
    assert seen_exactly.input_norm[0].max() < 1e-24 and seen_exactly.input_norm[0].min() > 1e-35
    torch.testing.assert_close(seen.input_norm.double(), seen_exactly.input_norm, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        seen.target_displacement.double(), seen_exactly.target_displacement, rtol=1e-4, atol=0
    )
    torch.testing.assert_close(low.w_xh[1].double(), exact.w_xh[1], rtol=1e-3, atol=1e-5)


@DTYPES
def test_one_example_without_an_error(dtype: torch.dtype) -> None:
    """One example is already right, the others are not: its norms of its own are 0 in scope "example"."""
    parameters, batch = random_problem(Shape(runs=8, real_targets=True), seed=53, dtype=dtype)
    batch.targets[:, 0] = readout(parameters, forward(parameters, batch.inputs).z[-1])[:, 0]
    gradients, diagnostics = lra(VARIETY).gradients(parameters, batch, diagnose=True)
    assert finite(gradients, diagnostics)
    assert (gradients.w_hh.flatten(1).norm(dim=1) > 0).all()


@DTYPES
def test_identical_examples(dtype: torch.dtype) -> None:
    """A batch of copies: rank one everywhere, and with `per_example` and no clip the gradient of one copy."""
    parameters, batch = random_problem(Shape(runs=8, batch=5), seed=59, dtype=dtype)
    copies = Batch(
        batch.inputs[:, :, :1].expand(-1, -1, 5, -1).contiguous(), batch.targets[:, :1].expand(-1, 5)
    )
    assert finite(*lra(VARIETY).gradients(parameters, copies, diagnose=True))
    single = Batch(batch.inputs[:, :, :1].contiguous(), batch.targets[:, :1].contiguous())
    settings = [
        Settings("mse", "per_example", 0.5, 2, 0.0, regularisation_strength=a) for a in [0.0, 0.1] * 4
    ]
    settings = [replace(s, regularisation_scope="example") for s in settings]
    many, _ = lra(settings).gradients(parameters, copies)
    one, _ = lra(settings).gradients(parameters, single)
    plain = slice(0, None, 2)  # alpha = 0: target steps do not depend on the batch size
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for name, value in tensors(many).items():
        torch.testing.assert_close(value[plain], getattr(one, name)[plain], atol=tolerance, rtol=tolerance)


# ---------------------------------------------------------------------------------- precision and runs


@pytest.mark.parametrize("symbols", [True, False])
def test_float32_agrees_with_float64(symbols: bool) -> None:
    """Single precision is the same computation: the gradients agree to its rounding, magnified by the steps."""
    settings = [replace(s, inner_steps=2, target_step_size=min(s.target_step_size, 2.0)) for s in VARIETY]
    shape = Shape(runs=8, steps=4, batch=4, hidden=8, symbols=symbols)
    parameters, batch = random_problem(shape, seed=61)
    low_parameters, low_batch = random_problem(shape, seed=61, dtype=torch.float32)
    exact, _ = lra(settings).gradients(parameters, batch)
    low, _ = lra(settings).gradients(low_parameters, low_batch)
    for name, value in tensors(low).items():
        assert value.dtype == torch.float32
        wanted = getattr(exact, name)
        error = (value.double() - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
        assert (error < 2e-3).all(), f"{name}: {error}"


@pytest.mark.parametrize("symbols", [True, False])
@pytest.mark.parametrize("loss", ["log_penalty", "cosine"])
@pytest.mark.parametrize("runs", [[0], [1], [2], [3], [4], [5], [6], [7], [2, 7], [1, 3, 4, 6]])
def test_a_run_is_the_same_bits_alone_and_among_others(symbols: bool, loss: str, runs: list[int]) -> None:
    """Gradients and diagnostics of a run do not depend on what it is batched with."""
    shape = Shape(runs=8, steps=8, batch=7, inputs=6, hidden=24, outputs=4, symbols=symbols)
    parameters, batch = random_problem(shape, seed=67, dtype=torch.float32)
    settings = [replace(s, local_loss=loss) for s in VARIETY]
    together, seen = lra(settings).gradients(parameters, batch, diagnose=True)
    alone, seen_alone = lra([settings[run] for run in runs]).gradients(
        *select(parameters, batch, runs), diagnose=True
    )
    for name, value in tensors(together).items():
        assert torch.equal(value[runs], getattr(alone, name)), name
    assert torch.equal(seen.loss[runs], seen_alone.loss)
    for name in PER_STEP:
        assert torch.equal(getattr(seen, name)[:, runs], getattr(seen_alone, name)), name


def test_the_number_of_threads_changes_no_bit() -> None:
    """One thread or two: the same gradients, at the sizes of the paper."""
    shape = Shape(runs=8, steps=6, batch=20, inputs=100, hidden=100, outputs=100, symbols=True)
    parameters, batch = random_problem(shape, seed=71, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(lra(VARIETY).gradients(parameters, batch)[0])
    finally:
        torch.set_num_threads(threads)
    for name, value in tensors(results[0]).items():
        assert torch.equal(value, getattr(results[1], name)), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("symbols", [True, False])
def test_cuda_agrees_with_the_cpu(symbols: bool) -> None:
    """The same gradients from the other device, to rounding."""
    parameters, batch = random_problem(Shape(runs=8, batch=4, symbols=symbols), seed=69)
    here, _ = lra(VARIETY).gradients(parameters, batch)
    moved = Parameters(*(tensor.cuda() for tensor in parameters))
    there, _ = lra(VARIETY).gradients(moved, Batch(batch.inputs.cuda(), batch.targets.cuda()), diagnose=True)
    for name, value in tensors(there).items():
        assert value.is_cuda
        torch.testing.assert_close(value.cpu(), getattr(here, name), atol=TOLERANCE, rtol=TOLERANCE)


# ------------------------------------------------------------------------------------------- clipped share


def test_clipped_share() -> None:
    """None without clipping or under a norm that nothing reaches; half where every weight gradient and no step is cut.

    K = 2, T = 6: 12 target steps beside 6 gradients of W_xh, 5 of W_hh (z_0 = 0 has none) and 1 of W_hy.
    """
    parameters, batch = random_problem(Shape(runs=4, steps=6), seed=73)
    base = Settings(reduction="per_example", target_step_size=1.0, inner_steps=2, target_clip_norm=0.0)
    settings = [replace(base, clip_norm=c) for c in (0.0, 1e6, 1e-12)]
    settings.append(replace(base, target_clip_norm=1e-3, target_clip_mode="normalise"))
    _, seen = lra(settings).gradients(parameters, batch, diagnose=True)
    assert seen.clipped_share.tolist() == pytest.approx([0.0, 0.0, 0.5, 0.5], abs=0.03)


def test_wrong_lists_of_settings_are_refused() -> None:
    """Runs of one group share the inner steps and the local loss."""
    with pytest.raises(ValueError, match="inner_steps"):
        lra([Settings(inner_steps=1), Settings(inner_steps=2)])
    with pytest.raises(ValueError, match="local_loss"):
        lra([Settings("mse"), Settings("log_penalty")])
