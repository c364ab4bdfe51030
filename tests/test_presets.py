"""Presets: whole settings under a name, in Python and in the shell."""

from typing import Any

import pytest

from lra_companion.config import LRAConfig, RunConfig
from lra_companion.presets import PRESETS, preset

PLACE: dict[str, Any] = {"task": {"name": "temporal_order", "sequence_length": 20}, "seed": 3}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_all_that_a_run_needs_but_task_and_seed(name: str) -> None:
    config = RunConfig.model_validate(preset(name, PLACE))
    assert isinstance(config.learner, LRAConfig)
    assert (config.task.sequence_length, config.seed) == (20, 3)


def test_the_paper_s_settings_are_values_of_the_public_code_s_grid() -> None:
    config = RunConfig.model_validate(preset("paper", PLACE))
    learner = config.learner
    assert isinstance(learner, LRAConfig)
    assert config.optimiser.name == "sgd" and config.optimiser.learning_rate in (0.1, 0.01, 0.001)
    assert learner.target_step_size in (10, 1, 0.1, 0.01) and learner.regularisation_strength in (2, 1, 0.1)
    assert (learner.inner_steps, learner.clip_norm, learner.reduction) == (10, 1.0, "mean")


def test_what_is_given_goes_before_the_preset() -> None:
    changes = PLACE | {"learner": {"inner_steps": 4}, "protocol": {"batch_size": 5}}
    config = RunConfig.model_validate(preset("recommended", changes))
    plain = RunConfig.model_validate(preset("recommended", PLACE))
    assert isinstance(config.learner, LRAConfig) and isinstance(plain.learner, LRAConfig)
    assert config.learner == plain.learner.model_copy(update={"inner_steps": 4})
    assert config.protocol.batch_size == 5 and config.optimiser == plain.optimiser
    assert PRESETS["recommended"]["learner"]["inner_steps"] == plain.learner.inner_steps, "left as it was"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("papr", {}, "preset = 'papr': must be one of paper, recommended; did you mean paper"),
        ("paper", {"learner": {"name": "bptt"}}, "preset = 'paper'.*learner = 'bptt'"),
    ],
)
def test_refused(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        preset(name, PLACE | changes)
