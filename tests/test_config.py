"""Configurations: strict, frozen, the same after a JSON round trip, and named by a stable hash."""

import copy
import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from lra_companion import config as config_module
from lra_companion.config import (
    BPTTConfig,
    LRAAblationConfig,
    LRAConfig,
    LRAReleasedConfig,
    NetworkConfig,
    OptimiserConfig,
    ProtocolConfig,
    ReadoutConfig,
    RunConfig,
    TaskConfig,
    TPTTConfig,
    parse,
)
from lra_companion.learners import LEARNERS

BASE: dict[str, Any] = {
    "task": {"name": "random_permutation", "sequence_length": 20},
    "network": {"hidden_size": 50},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "learner": {
        "name": "lra",
        "local_loss": "log_penalty",
        "reduction": "mean",
        "target_step_size": 10.0,
        "inner_steps": 5,
        "clip_norm": 1.5,
        "clip_mode": "clip",
        "target_clip_norm": 2.0,
        "target_clip_mode": "normalise",
        "regularisation_strength": 0.1,
        "regularisation_scope": "batch",
    },
    "protocol": {"batch_size": 10, "max_iterations": 3000, "validate_every": 50, "patience": 7},
    "seed": 3,
}
RELEASED = {
    "name": "lra_released",
    "local_loss": "log_penalty",
    "target_step_size": 10.0,
    "inner_steps": 5,
    "clip_norm": 1.5,
    "regularisation_strength": 0.1,
    "released_nan": False,
}
BPTT = {"name": "bptt", "clip_norm": 0.5, "regularisation_strength": 0.2, "regularisation_scope": "batch"}
TPTT = {
    "name": "tptt",
    "target_step_size": 5.0,
    "inverse_learning_rate": 0.01,
    "inverse_noise": 0.1,
    "clip_norm": 1.5,
}
TASKS = ["temporal_order", "temporal_order_3bit", "random_permutation", "adding", "sequential_digits"]
OUTSIDE_FLOATS = (math.nan, math.inf, -math.inf, -0.5)
NOT_NUMBERS = (True, "1", None, [1.0], {})
NOT_WHOLE = (True, "1", None, 2.5, math.nan, math.inf, [3])


def changed(path: str, value: Any, base: dict[str, Any] = BASE) -> dict[str, Any]:
    """A copy of the base configuration with one field set, by dotted path."""
    data = copy.deepcopy(base)
    *sections, name = path.split(".")
    section = data
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = value
    return data


def with_learner(learner: dict[str, Any]) -> dict[str, Any]:
    """The base configuration with another learner."""
    return changed("learner", learner)


def error_of(data: dict[str, Any]) -> str:
    """The message with which `data` is refused."""
    with pytest.raises(ValueError, match=r"\w") as caught:  # pydantic's own error is a ValueError
        RunConfig.model_validate(data)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------- accepted


def test_the_documented_example_is_accepted() -> None:
    """design.md's example, word for word."""
    found = RunConfig.model_validate(
        {
            "task": {"name": "random_permutation", "sequence_length": 20},
            "network": {"hidden_size": 100},
            "optimiser": {"name": "sgd", "learning_rate": 0.1},
            "learner": {
                "name": "lra",
                "local_loss": "log_penalty",
                "reduction": "mean",
                "target_step_size": 10.0,
                "inner_steps": 10,
                "clip_norm": 1.0,
                "clip_mode": "clip",
                "regularisation_strength": 0.1,
                "regularisation_scope": "batch",
            },
            "protocol": {"batch_size": 20, "max_iterations": 3000, "validate_every": 100, "patience": 30},
            "seed": 0,
        }
    )
    assert isinstance(found.learner, LRAConfig)
    assert found.learner.inner_steps == 10 and found.learner.target_clip_norm is None
    assert found.protocol.patience == 30 and found.task.sequence_length == 20


def test_protocol_defaults_are_those_of_the_method() -> None:
    """method.md, Protocol: B, H, checks, sizes, when a run counts as solved or stalled."""
    protocol = ProtocolConfig()
    assert NetworkConfig().hidden_size == 100
    assert (protocol.batch_size, protocol.validate_every, protocol.patience) == (20, 100, 30)
    assert (protocol.validation_size, protocol.test_size) == (10_000, 10_000)
    assert (protocol.max_iterations, protocol.solved_error) == (100_000, 1e-4)


@pytest.mark.parametrize("name", TASKS[:4])
def test_every_synthetic_task_is_accepted(name: str) -> None:
    """The four synthetic tasks, from the shortest sequence on."""
    assert RunConfig.model_validate(changed("task", {"name": name, "sequence_length": 10})).task.name == name


@pytest.mark.parametrize("length", [64, 8])
def test_the_digits_are_accepted_in_both_variants(length: int) -> None:
    """Pixel by pixel and row by row."""
    task = {"name": "sequential_digits", "sequence_length": length}
    assert RunConfig.model_validate(changed("task", task)).task.sequence_length == length


@pytest.mark.parametrize("length", [20, 10, 7, 9, 63, 65, 0, -8, 784])
def test_the_digits_come_in_no_other_length(length: int) -> None:
    """The message names the field, the value and both variants."""
    message = error_of(changed("task", {"name": "sequential_digits", "sequence_length": length}))
    assert "task.sequence_length" in message and f"input_value={length}" in message
    assert "64 (pixel by pixel) or 8 (row by row)" in message


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "rmsprop", "adagrad"])
def test_every_optimiser_is_accepted(name: str) -> None:
    """The optimisers of the issue."""
    assert RunConfig.model_validate(changed("optimiser.name", name)).optimiser.name == name


@pytest.mark.parametrize(
    ("learner", "kind"),
    [
        (BPTT, BPTTConfig),
        ({"name": "readout"}, ReadoutConfig),
        ({"name": "lra"}, LRAConfig),
        ({"name": "lra_released"}, LRAReleasedConfig),
        ({"name": "tptt"}, TPTTConfig),
        ({"name": "lra_ablation"}, LRAAblationConfig),
    ],
)
def test_the_learner_s_name_decides_its_model(learner: dict[str, Any], kind: type) -> None:
    """One model per learning rule."""
    assert type(RunConfig.model_validate(with_learner(learner)).learner) is kind


@pytest.mark.parametrize(
    "path", ["learner.clip_norm", "learner.regularisation_strength", "learner.target_clip_norm"]
)
def test_zero_is_allowed_where_it_means_off(path: str) -> None:
    """c = 0 and alpha = 0."""
    RunConfig.model_validate(changed(path, 0.0))


def test_a_whole_number_is_a_number() -> None:
    """`1` where a float is asked for is not a wrong type, and not another configuration than `1.0`."""
    whole, fraction = (RunConfig.model_validate(changed("learner.clip_norm", v)) for v in (1, 1.0))
    assert whole == fraction and whole.key() == fraction.key()


# ----------------------------------------------------------------------------------------------- refused

FLOATS = [
    "optimiser.learning_rate",
    "learner.target_step_size",
    "learner.clip_norm",
    "learner.target_clip_norm",
    "learner.regularisation_strength",
    "protocol.solved_error",
]
COUNTS = [
    "network.hidden_size",
    "learner.inner_steps",
    "protocol.batch_size",
    "protocol.max_iterations",
    "protocol.validate_every",
    "protocol.patience",
    "protocol.validation_size",
    "protocol.test_size",
]
POSITIVE = ["optimiser.learning_rate", "learner.target_step_size", "protocol.solved_error"]
CHOICES = [
    "task.name",
    "optimiser.name",
    "learner.local_loss",
    "learner.reduction",
    "learner.clip_mode",
    "learner.target_clip_mode",
    "learner.regularisation_scope",
]


def assert_refused(path: str, value: Any) -> None:
    """Refused with an error that names the field and shows the value."""
    message = error_of(changed(path, value))
    assert path.split(".")[-1] in message, message
    assert repr(value) in message or str(value) in message, message


@pytest.mark.parametrize("path", FLOATS)
@pytest.mark.parametrize("value", [*OUTSIDE_FLOATS, *NOT_NUMBERS], ids=repr)
def test_not_a_finite_number(path: str, value: Any) -> None:
    """NaN, infinity, negative, bool, string, None, containers; None means "as clip_norm" for target_clip_norm."""
    if value is None and path == "learner.target_clip_norm":
        pytest.skip("None is its default")
    assert_refused(path, value)


@pytest.mark.parametrize("path", POSITIVE)
def test_zero_where_a_positive_number_is_needed(path: str) -> None:
    """A step of size 0 is not a step; the message says what is allowed."""
    assert "greater than 0" in error_of(changed(path, 0.0))
    assert_refused(path, 0.0)


@pytest.mark.parametrize("path", [*COUNTS, "task.sequence_length", "seed"])
@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_not_a_whole_number(path: str, value: Any) -> None:
    """Counts, lengths and seeds are integers, and True is not 1."""
    assert_refused(path, value)


@pytest.mark.parametrize("path", COUNTS)
@pytest.mark.parametrize("value", [0, -3])
def test_counts_start_at_one(path: str, value: int) -> None:
    """No empty batch, no network without units, no check every 0 iterations."""
    message = error_of(changed(path, value))
    assert "greater than" in message and "1" in message
    assert_refused(path, value)


@pytest.mark.parametrize("value", [9, 1, 0, -20])
def test_sequences_have_at_least_ten_steps(value: int) -> None:
    """Below, the marker intervals are empty; the message names the limit."""
    assert "equal to 10" in error_of(changed("task.sequence_length", value))
    assert_refused("task.sequence_length", value)


@pytest.mark.parametrize("path", CHOICES)
@pytest.mark.parametrize("value", ["no_such_name", "", "SGD", 1, True, ["mse"]], ids=repr)
def test_unknown_choices(path: str, value: Any) -> None:
    """A misspelt or mistyped name is refused."""
    assert_refused(path, value)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("task.name", TASKS),
        ("optimiser.name", ["sgd", "nesterov", "adam", "rmsprop", "adagrad"]),
        ("learner.name", list(LEARNERS)),
        ("learner.local_loss", ["mse", "log_penalty", "huber", "l1", "cosine"]),
        ("learner.reduction", ["mean", "per_example"]),
        ("learner.clip_mode", ["clip", "normalise"]),
        ("learner.regularisation_scope", ["batch", "example"]),
    ],
)
def test_a_refused_choice_names_the_allowed_ones(path: str, allowed: list[str]) -> None:
    """Field, value and what is allowed, in one message."""
    message = error_of(changed(path, "no_such_name"))
    assert "no_such_name" in message
    assert all(f"'{name}'" in message for name in allowed)


@pytest.mark.parametrize(
    "path", ["momentum", "task.length", "network.layers", "optimiser.momentum", "protocol.seed"]
)
def test_unknown_fields(path: str) -> None:
    """A misspelt field is not silently ignored."""
    assert_refused(path, 0.9)


@pytest.mark.parametrize(
    "learner", [{"name": "lra"}, BPTT, {"name": "readout"}, RELEASED, TPTT], ids=lambda s: s["name"]
)
def test_unknown_fields_of_learners(learner: dict[str, Any]) -> None:
    """A setting of another learner is not silently ignored either."""
    message = error_of(with_learner({**learner, "momentum": 0.25}))
    assert "momentum" in message and "0.25" in message


@pytest.mark.parametrize("name", ["inner_steps", "target_step_size"])
def test_lra_settings_are_unknown_to_bptt(name: str) -> None:
    """bptt has no targets."""
    assert name in error_of(with_learner({**BPTT, name: 3}))


@pytest.mark.parametrize(
    "name", ["reduction", "clip_mode", "target_clip_norm", "regularisation_scope", "regularise_targets"]
)
def test_lra_settings_are_unknown_to_lra_released(name: str) -> None:
    """The public code has one reduction, one clipping and one place for each Ω."""
    message = error_of(with_learner({**RELEASED, name: BASE["learner"].get(name, True)}))
    assert name in message and "not permitted" in message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("local_loss", ["no_such_name", "", 1, None]),
        ("target_step_size", [0.0, -1.0, math.nan, True, "1", None]),
        ("inner_steps", [0, -1, 2.5, True, None, 1001]),
        ("clip_norm", [*OUTSIDE_FLOATS, *NOT_NUMBERS]),
        ("regularisation_strength", [*OUTSIDE_FLOATS, *NOT_NUMBERS]),
        ("released_nan", [0, 1, "yes", None]),
    ],
)
def test_wrong_settings_of_lra_released(name: str, values: list[Any]) -> None:
    """Refused with the field's name and the value, as those of the other learners."""
    for value in values:
        message = error_of(with_learner({**RELEASED, name: value}))
        assert name in message and (repr(value) in message or str(value) in message), message


@pytest.mark.parametrize("name", list(TPTT)[1:])
@pytest.mark.parametrize("value", [*OUTSIDE_FLOATS, *NOT_NUMBERS], ids=repr)
def test_wrong_settings_of_tptt(name: str, value: Any) -> None:
    """Refused with the field's name and the value; 0 only where it means something."""
    message = error_of(with_learner({**TPTT, name: value}))
    assert name in message and (repr(value) in message or str(value) in message), message
    zero = with_learner({**TPTT, name: 0.0})
    if name == "target_step_size":
        assert "greater than 0" in error_of(zero)
    else:
        RunConfig.model_validate(zero)


@pytest.mark.parametrize("name", ["inner_steps", "local_loss", "reduction", "regularisation_strength"])
def test_lra_settings_are_unknown_to_tptt(name: str) -> None:
    """It has targets, but neither inner steps nor a choice of losses nor Ω."""
    message = error_of(with_learner({**TPTT, name: BASE["learner"][name]}))
    assert name in message and "not permitted" in message


def test_regularised_lra_released_needs_a_hidden_layer_as_large_as_its_batch() -> None:
    """Its Ω reads the diagonal of (B, H); what is wrong is said in one line, with both fields."""
    data = with_learner(RELEASED)
    data["protocol"]["batch_size"] = data["network"]["hidden_size"]
    RunConfig.model_validate(data)
    data["protocol"]["batch_size"] += 1
    with pytest.raises(
        ValueError, match=r"^protocol\.batch_size = 51: .* at most network\.hidden_size = 50$"
    ):
        parse(RunConfig, data)
    RunConfig.model_validate(data | {"learner": RELEASED | {"regularisation_strength": 0.0}})


@pytest.mark.parametrize("path", ["task", "learner", "seed", "task.name", "task.sequence_length"])
def test_missing_fields(path: str) -> None:
    """What has no default must be given, by name."""
    data = copy.deepcopy(BASE)
    *sections, name = path.split(".")
    section = data[sections[0]] if sections else data
    del section[name]
    assert name in error_of(data)


@pytest.mark.parametrize("path", ["task", "network", "optimiser", "learner", "protocol"])
@pytest.mark.parametrize("value", ["lra", 1, [], None], ids=repr)
def test_sections_are_mappings(path: str, value: Any) -> None:
    """A name alone is not a section."""
    assert path in error_of(changed(path, value))


@pytest.mark.parametrize("value", [1, 0, "yes", None, 1.0], ids=repr)
def test_switches_are_booleans(value: Any) -> None:
    """1 is not True."""
    assert_refused("protocol.diagnostics", value)
    assert_refused("protocol.exact_angle", value)


def test_negative_seeds_are_refused() -> None:
    """A seed names a generator; there is none below 0."""
    assert_refused("seed", -1)


# ---------------------------------------------------------------------------------------- frozen, JSON, key


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("task", "sequence_length"),
        ("network", "hidden_size"),
        ("optimiser", "learning_rate"),
        ("learner", "clip_norm"),
        ("protocol", "patience"),
    ],
)
def test_configurations_are_frozen(section: str, name: str) -> None:
    """Neither a run's fields nor those of its sections can be set."""
    run = RunConfig.model_validate(BASE)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(getattr(run, section), name, 50)
    with pytest.raises(ValidationError, match="frozen"):
        run.seed = 4
    assert run == RunConfig.model_validate(BASE)


@pytest.mark.parametrize(
    "learner", [BASE["learner"], {"name": "lra"}, BPTT, {"name": "readout"}, RELEASED, TPTT]
)
@pytest.mark.parametrize("rate", [0.1, 1e-7, 0.1 + 0.2, 3.0, 1 / 3])
def test_json_round_trip(learner: dict[str, Any], rate: float) -> None:
    """The same configuration, types and key come back, through pydantic's JSON and through plain JSON."""
    run = RunConfig.model_validate({**with_learner(learner), "optimiser": {"learning_rate": rate}})
    again = RunConfig.model_validate_json(run.model_dump_json())
    plain = RunConfig.model_validate(json.loads(json.dumps(run.model_dump(mode="json"))))
    assert run == again == plain
    assert type(again.learner) is type(run.learner)
    assert again.optimiser.learning_rate == rate
    assert run.key() == again.key() == plain.key()


OTHER_VALUES: dict[str, Any] = {
    "task.name": "adding",
    "task.sequence_length": 21,
    "network.hidden_size": 51,
    "optimiser.name": "adam",
    "optimiser.learning_rate": 0.1000001,
    "learner.local_loss": "mse",
    "learner.reduction": "per_example",
    "learner.target_step_size": 10.5,
    "learner.inner_steps": 6,
    "learner.clip_norm": 1.25,
    "learner.clip_mode": "normalise",
    "learner.target_clip_norm": None,
    "learner.target_clip_mode": None,
    "learner.regularisation_strength": 0.0,
    "learner.regularisation_scope": "example",
    "learner.regularise_targets": False,
    "learner.regularise_recurrent": False,
    "learner.regularise_readout": False,
    "learner.regularise_input": True,
    "protocol.batch_size": 11,
    "protocol.max_iterations": 3001,
    "protocol.validate_every": 51,
    "protocol.patience": 8,
    "protocol.validation_size": 9_999,
    "protocol.test_size": 9_999,
    "protocol.solved_error": 1e-3,
    "protocol.diagnostics": True,
    "protocol.exact_angle": True,
    "seed": 4,
}
RELEASED_VALUES: dict[str, Any] = {
    "local_loss": "mse",
    "target_step_size": 10.5,
    "inner_steps": 6,
    "clip_norm": 1.25,
    "regularisation_strength": 0.0,
    "released_nan": True,
}
TPTT_VALUES = {
    "target_step_size": 5.5,
    "inverse_learning_rate": 0.0,
    "inverse_noise": 0.2,
    "clip_norm": 0.0,
}
ABLATION_VALUES: dict[str, Any] = {
    **{name: value for name, value in RELEASED_VALUES.items() if name != "released_nan"},
    "released": ["carried_loss", "diagonal_slope"],
}


def fields_of(model: type[BaseModel], prefix: str) -> set[str]:
    """Dotted names of a section's fields."""
    return {f"{prefix}.{name}" for name in model.model_fields}


def test_the_table_of_changes_is_complete() -> None:
    """A field that is added to a configuration must be added to the test of the key as well."""
    sections = [
        (TaskConfig, "task"),
        (NetworkConfig, "network"),
        (OptimiserConfig, "optimiser"),
        (LRAConfig, "learner"),
        (ProtocolConfig, "protocol"),
    ]
    wanted = {"seed"}.union(*(fields_of(model, prefix) for model, prefix in sections))
    assert set(OTHER_VALUES) | {"learner.name"} == wanted
    assert set(RunConfig.model_fields) == {"seed"} | {prefix for _, prefix in sections}


def test_every_changed_field_changes_the_key() -> None:
    """No two of the configurations that differ in one field share a file."""
    keys = {"": RunConfig.model_validate(BASE).key()}
    for path, value in OTHER_VALUES.items():
        keys[path] = RunConfig.model_validate(changed(path, value)).key()
    for name, value in (
        ("clip_norm", 0.25),
        ("regularisation_strength", 0.5),
        ("regularisation_scope", "example"),
    ):
        keys[f"bptt.{name}"] = RunConfig.model_validate(with_learner({**BPTT, name: value})).key()
    assert set(RELEASED_VALUES) | {"name"} == set(LRAReleasedConfig.model_fields)
    for name, value in RELEASED_VALUES.items():
        keys[f"lra_released.{name}"] = RunConfig.model_validate(with_learner({**RELEASED, name: value})).key()
    assert set(TPTT_VALUES) | {"name"} == set(TPTTConfig.model_fields)
    for name, value in TPTT_VALUES.items():
        keys[f"tptt.{name}"] = RunConfig.model_validate(with_learner({**TPTT, name: value})).key()
    keys["tptt"] = RunConfig.model_validate(with_learner(TPTT)).key()
    assert set(ABLATION_VALUES) | {"name"} == set(LRAAblationConfig.model_fields)
    ablation = {name: value for name, value in RELEASED.items() if name != "released_nan"} | {
        "name": "lra_ablation",
        "released": ["carried_loss"],
    }
    for name, value in ABLATION_VALUES.items():
        keys[f"lra_ablation.{name}"] = RunConfig.model_validate(with_learner({**ablation, name: value})).key()
    keys["lra_ablation"] = RunConfig.model_validate(with_learner(ablation)).key()
    keys["lra_released"] = RunConfig.model_validate(with_learner(RELEASED)).key()
    keys["bptt"] = RunConfig.model_validate(with_learner(BPTT)).key()
    keys["readout"] = RunConfig.model_validate(with_learner({"name": "readout"})).key()
    assert len(set(keys.values())) == len(keys), keys


def test_equal_configurations_have_equal_keys() -> None:
    """Whatever the order of the fields, and whether a default is written out or left out."""
    backwards = {
        name: dict(reversed(part.items())) if isinstance(part, dict) else part
        for name, part in reversed(BASE.items())
    }
    one, other = RunConfig.model_validate(BASE), RunConfig.model_validate(backwards)
    assert one == other and one.key() == other.key() == one.key()
    short = {"task": BASE["task"], "learner": {"name": "lra"}, "seed": 1}
    implicit = RunConfig.model_validate(short)
    explicit = RunConfig.model_validate(implicit.model_dump())
    assert implicit == explicit and implicit.key() == explicit.key()


@pytest.mark.parametrize("path", ["learner.clip_norm", "learner.regularisation_strength"])
def test_the_two_zeros_are_one_configuration(path: str) -> None:
    """-0.0 == 0.0, so the configurations are equal, so the keys must be."""
    one, other = (RunConfig.model_validate(changed(path, zero)) for zero in (0.0, -0.0))
    assert one == other and one.key() == other.key()


def test_the_method_s_version_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older version computed is not what this one would."""
    run = RunConfig.model_validate(BASE)
    before = run.key()
    monkeypatch.setattr(config_module, "METHOD_VERSION", config_module.METHOD_VERSION + 1)
    assert run.key() != before


def test_the_key_can_name_a_file_and_is_the_same_in_every_process() -> None:
    """It does not depend on Python's randomised hashes."""
    script = "import json, sys; from lra_companion.config import RunConfig as R; "
    script += "print(R.model_validate(json.load(sys.stdin)).key())"
    keys = {RunConfig.model_validate(BASE).key()}
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(BASE),
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        keys.add(done.stdout.strip())
    (key,) = keys
    assert key.isalnum() and len(key) >= 12
