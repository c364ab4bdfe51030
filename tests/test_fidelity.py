"""What is measured of one network: gradients of all variants, and the accuracy with the sequence started in either way."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lra_companion import fidelity
from lra_companion.config import RELEASED_PARTS, LRAConfig, LRAReleasedConfig
from lra_companion.fidelity import (
    MEASURED_FOLDER,
    angle,
    compare_gradients,
    has_nan_gradient,
    measure,
    measure_many,
    predict_as_released,
)
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters, predict
from lra_companion.store import ResultStore
from lra_companion.training import train
from problems import Shape, inputs_of, random_problem, weights_of
from reference import dense
from runs import run_config

SHAPE = Shape(runs=1, steps=5, batch=4, inputs=6, hidden=6, outputs=4, symbols=True)
OMEGA_PARTS = {"diagonal_slope", "omega_on_input", "omega_at_state"}
SETTINGS = LRAConfig(name="lra", inner_steps=2, target_step_size=5.0, regularisation_strength=0.2)


def test_the_released_start_is_the_first_pre_activation_and_the_first_input_again() -> None:
    parameters, batch = random_problem(replace(SHAPE, runs=2), seed=1)
    for run in range(2):
        w, x = weights_of(parameters, run), inputs_of(batch, run)
        x = dense(x, w)
        z = x[0] @ w.w_xh + w.b_h  # no tanh
        for x_t in x:
            z = torch.tanh(x_t @ w.w_xh + z @ w.w_hh + w.b_h)
        torch.testing.assert_close(
            predict_as_released(parameters, batch.inputs)[run], z @ w.w_hy + w.b_y, atol=1e-12, rtol=1e-12
        )
    assert (
        predict_as_released(parameters, batch.inputs) - predict(parameters, batch.inputs)
    ).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("other", "degrees"),
    [([1.0, 0.0], 0.0), ([0.0, 3.0], 90.0), ([-2.0, 0.0], 180.0), ([1.0, 1.0], 45.0), ([1.0, 1e-9], None)],
)
def test_angles(other: list[float], degrees: float | None) -> None:
    found = angle(torch.tensor([5.0, 0.0]).double(), torch.tensor(other).double())
    assert found == pytest.approx(math.degrees(1e-9) if degrees is None else degrees, rel=1e-9)


def test_nothing_has_no_angle() -> None:
    assert angle(torch.zeros(2), torch.ones(2)) is None and angle(torch.ones(2), torch.zeros(2)) is None


def test_gradients_are_compared_over_the_hidden_weights() -> None:
    """Norms and angles of some variants, worked out from the learners themselves."""
    parameters, batch = random_problem(SHAPE, seed=2)
    found = compare_gradients(SETTINGS, parameters, batch)
    names = {f"{sign} {part}" for sign in "+-" for part in RELEASED_PARTS}
    assert set(found) == {"exact", "lra", "lra_released"} | names
    gradients, _ = make_learner([SETTINGS]).gradients(parameters, batch)
    hidden = torch.cat([gradients.w_xh.flatten(), gradients.w_hh.flatten(), gradients.b_h.flatten()])
    assert found["lra"]["norm"] == pytest.approx(float(hidden.norm()), rel=1e-12)
    released = LRAReleasedConfig(
        name="lra_released", inner_steps=2, target_step_size=5.0, regularisation_strength=0.2
    )
    other, _ = make_learner([released]).gradients(parameters, batch)
    flat = torch.cat([other.w_xh.flatten(), other.w_hh.flatten(), other.b_h.flatten()])
    wanted = math.degrees(math.acos(float(hidden @ flat / hidden.norm() / flat.norm())))
    assert found["lra"]["to_lra_released"] == pytest.approx(wanted, rel=1e-9)
    assert found["lra_released"]["to_lra"] == pytest.approx(wanted, rel=1e-9)
    for name in ("exact", "lra", "lra_released"):
        assert found[name][f"to_{name}"] == 0
    for part in RELEASED_PARTS:
        assert found[f"+ {part}"]["to_lra"] != 0 or found[f"+ {part}"]["norm"] != found["lra"]["norm"]


def test_without_omega_its_parts_are_not_shown() -> None:
    parameters, batch = random_problem(SHAPE, seed=2)
    plain = SETTINGS.model_copy(update={"regularisation_strength": 0.0})
    shown = set(compare_gradients(plain, parameters, batch))
    assert {name[2:] for name in shown if name[0] in "+-"} == set(RELEASED_PARTS) - OMEGA_PARTS


def test_the_public_code_s_nan() -> None:
    """Where the output's error is 0; not in a network that has errors, and not without Ω."""
    parameters, batch = random_problem(replace(SHAPE, real_targets=True), seed=3)
    assert not has_nan_gradient(SETTINGS, parameters, batch)
    silent = Parameters(
        parameters.w_xh,
        parameters.w_hh,
        parameters.b_h,
        torch.zeros_like(parameters.w_hy),
        torch.zeros_like(parameters.b_y),
    )
    still = Batch(batch.inputs, torch.zeros_like(batch.targets))
    assert has_nan_gradient(SETTINGS, silent, still)
    plain = SETTINGS.model_copy(update={"regularisation_strength": 0.0})
    assert not has_nan_gradient(plain, silent, still)


@pytest.mark.parametrize("learner", ["lra_omega", "lra_released_omega"])
def test_measuring_a_run(learner: str) -> None:
    result = train(run_config(learner, test_size=60))
    found = measure(result)
    assert set(found) == {"start", "end", "nan", "accuracy"}
    assert found["accuracy"]["described"] == result.test_accuracy
    assert 0 <= found["accuracy"]["released"] <= 1
    assert found["start"] != found["end"] and set(found["start"]) == set(found["end"])
    assert found["nan"] == {"start": False, "end": False}
    again = train(run_config(learner, test_size=60, max_iterations=1))
    assert measure(again)["start"] == found["start"]


def test_what_cannot_be_measured() -> None:
    result = train(run_config("bptt", max_iterations=1))
    with pytest.raises(ValueError, match="'bptt'"):
        measure(result)
    result.parameters = None
    with pytest.raises(ValueError, match="no weights"):
        measure(result)


def test_measured_runs_are_kept_beside_the_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    configs = [run_config(name, seed=seed) for name in ("lra_omega", "lra") for seed in (1, 2)]
    results = measure_many(configs, store)
    assert [result.config for result in results] == configs
    assert len(list(store.load_all())) == len(list(ResultStore(tmp_path / MEASURED_FOLDER).load_all())) == 4
    for config, result in zip(configs, results, strict=True):
        assert "measured" in result.history[-1] and "measured" not in result.history[0]
        plain = store.get(config)
        assert plain is not None and plain.history == train(config).history

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(fidelity, "train_unfinished", refuse)
    assert [r.history for r in measure_many(configs[::-1], store)] == [r.history for r in results[::-1]]
