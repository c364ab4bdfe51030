"""What a run is: task, network, optimiser, learner, protocol and seed, as strict pydantic models.

Every model refuses unknown fields, wrong types, NaN and infinity, is frozen, and survives a JSON round trip unchanged.
``RunConfig.key()`` names a run's result file: two runs share a key exactly if they would compute the same thing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from lra_companion.complaints import in_one_line

Model = TypeVar("Model", bound=BaseModel)

METHOD_VERSION = 1
"""Raised whenever a change makes the same config compute something else; stored results of other versions are ignored."""

TaskName = Literal[
    "temporal_order", "temporal_order_3bit", "random_permutation", "adding", "sequential_digits"
]
OptimiserName = Literal["sgd", "nesterov", "adam", "rmsprop", "adagrad"]
LocalLossName = Literal["mse", "log_penalty", "huber", "l1", "cosine"]
ReleasedLossName = Literal["mse", "log_penalty"]
ReleasedPart = Literal[
    "full_differentiation",
    "moving_targets",
    "pull_to_state",
    "diagonal_slope",
    "omega_on_input",
    "carried_loss",
    "omega_at_state",
    "no_first_step",
]
Reduction = Literal["mean", "per_example"]
ClipMode = Literal["clip", "normalise"]
Scope = Literal["batch", "example"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Adding 0 turns -0.0 into 0.0: equal configs must have equal keys.
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]
Count = Annotated[int, Field(ge=1)]
SetSize = Annotated[int, Field(ge=1, le=1_000_000)]


class StrictModel(BaseModel):
    """Base of all configuration models: strict types, no unknown fields, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TaskConfig(StrictModel):
    """Which task, and T, the number of time steps (method.md, "Tasks").

    Markers need T >= 10. ``sequential_digits`` comes pixel by pixel (T = 64) or row by row (T = 8), and in no other length.
    """

    name: TaskName
    sequence_length: Annotated[int, Field(le=10_000)]

    @field_validator("sequence_length")
    @classmethod
    def _fits_the_task(cls, value: int, info: ValidationInfo) -> int:
        name = info.data.get("name")  # absent where it is wrong itself
        if name == "sequential_digits" and value not in (64, 8):
            raise PydanticCustomError(
                "sequence_length",
                "Input should be 64 (pixel by pixel) or 8 (row by row) for sequential_digits",
            )
        if name != "sequential_digits" and value < 10:
            raise PydanticKnownError("greater_than_equal", {"ge": 10})
        return value


class NetworkConfig(StrictModel):
    """H, the number of hidden units."""

    hidden_size: Annotated[int, Field(ge=1, le=10_000)] = 100


class OptimiserConfig(StrictModel):
    """Which torch.optim rule, and its learning rate. Nesterov uses momentum 0.9; the others their torch defaults."""

    name: OptimiserName = "sgd"
    learning_rate: Positive = 0.1


class LRAConfig(StrictModel):
    """Strictly local LRA (eqs. 3-8). The paper's letters: beta = target_step_size, K = inner_steps, c = clip_norm,
    alpha = regularisation_strength.

    ``clip_norm`` 0 switches clipping off in both modes. ``target_clip_norm`` and ``target_clip_mode`` apply to target steps
    (eqs. 4, 7) and default to what the weight gradients (eq. 6) use. The switches ``regularise_*`` say where Ω acts: on target
    steps, and on the gradients of W_hh, of W_hy, and of W_xh (one step, through h_t).
    """

    name: Literal["lra"]
    local_loss: LocalLossName = "log_penalty"
    reduction: Reduction = "mean"
    target_step_size: Positive = 1.0
    inner_steps: Annotated[int, Field(ge=1, le=1000)] = 10
    clip_norm: NonNegative = 1.0
    clip_mode: ClipMode = "clip"
    target_clip_norm: NonNegative | None = None
    target_clip_mode: ClipMode | None = None
    regularisation_strength: NonNegative = 0.0
    regularisation_scope: Scope = "batch"
    regularise_targets: bool = True
    regularise_recurrent: bool = True
    regularise_readout: bool = True
    regularise_input: bool = False


class BPTTConfig(StrictModel):
    """Backpropagation through time. ``clip_norm`` bounds the global norm of all five gradients (0: off)."""

    name: Literal["bptt"]
    clip_norm: NonNegative = 0.0
    regularisation_strength: NonNegative = 0.0
    regularisation_scope: Scope = "batch"


class ReadoutConfig(StrictModel):
    """The control: hidden weights stay as initialised, only the output layer is trained."""

    name: Literal["readout"]


class LRAReleasedConfig(StrictModel):
    """What the paper's public code computes. The letters: beta = target_step_size, K = inner_steps, c = clip_norm (0: off),
    alpha = regularisation_strength.

    With alpha > 0 a batch may not be larger than the hidden layer, as there. Where |d| = 0 the code's Ω is NaN and ends the
    run; here it contributes nothing, unless ``released_nan`` asks for the NaN.
    """

    name: Literal["lra_released"]
    local_loss: ReleasedLossName = "log_penalty"
    target_step_size: Positive = 1.0
    inner_steps: Annotated[int, Field(ge=1, le=1000)] = 10
    clip_norm: NonNegative = 1.0
    regularisation_strength: NonNegative = 0.0
    released_nan: bool = False
    needs_diagonal: ClassVar[bool] = True


RELEASED_PARTS: tuple[ReleasedPart, ...] = get_args(ReleasedPart)
"""Differences between the described method and the public code that change gradients, in the order of the book's table."""


def _each_once(parts: list[ReleasedPart]) -> list[ReleasedPart]:
    if len(set(parts)) < len(parts):
        raise ValueError("entries must differ from one another")
    return sorted(parts, key=RELEASED_PARTS.index)  # equal configs must have equal keys


class LRAAblationConfig(StrictModel):
    """LRA with some of the public code's differences: ``released`` names them (``learners.ablation``). The letters: beta =
    target_step_size, K = inner_steps, c = clip_norm (0: off), alpha = regularisation_strength.
    """

    name: Literal["lra_ablation"]
    released: Annotated[list[ReleasedPart], AfterValidator(_each_once)] = []
    local_loss: ReleasedLossName = "log_penalty"
    target_step_size: Positive = 1.0
    inner_steps: Annotated[int, Field(ge=1, le=1000)] = 10
    clip_norm: NonNegative = 1.0
    regularisation_strength: NonNegative = 0.0

    @property
    def needs_diagonal(self) -> bool:
        """Whether Ω reads the diagonal of (B, H)."""
        return "diagonal_slope" in self.released


class TPTTConfig(StrictModel):
    """Target propagation through time (eqs. 9-12). The letters: a = target_step_size, c of eq. 3 = clip_norm (0: off).

    ``inverse_learning_rate`` is the step size of the inverse's own parameters, and ``inverse_noise`` the standard deviation of
    the Gaussian noise around each state at which the inverse is trained.
    """

    name: Literal["tptt"]
    target_step_size: Positive = 1.0
    inverse_learning_rate: NonNegative = 0.002
    inverse_noise: NonNegative = 0.5
    clip_norm: NonNegative = 0.0


LearnerConfig = Annotated[
    LRAConfig | BPTTConfig | ReadoutConfig | LRAReleasedConfig | LRAAblationConfig | TPTTConfig,
    Field(discriminator="name"),
]


class ProtocolConfig(StrictModel):
    """How a run is trained, validated and stopped (method.md, "Protocol"). Sizes are numbers of sequences.

    A task with a fixed stock of sequences uses all of a set where ``validation_size`` or ``test_size`` asks for more.
    ``diagnostics`` and ``exact_angle`` let every check record what a gradient is made of, and its angle in degrees to the exact
    one; both only look.
    """

    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 20
    max_iterations: Count = 100_000
    validate_every: Count = 100
    patience: Count = 30
    validation_size: SetSize = 10_000
    test_size: SetSize = 10_000
    solved_error: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 1e-4
    diagnostics: bool = False
    exact_angle: bool = False


class RunConfig(StrictModel):
    """One training run, complete: the same RunConfig always computes the same history."""

    task: TaskConfig
    network: NetworkConfig = NetworkConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    learner: LearnerConfig
    protocol: ProtocolConfig = ProtocolConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @model_validator(mode="after")
    def _batch_fits_the_diagonal(self) -> Self:
        learner, size, hidden = self.learner, self.protocol.batch_size, self.network.hidden_size
        if not isinstance(learner, LRAReleasedConfig | LRAAblationConfig):
            return self
        if learner.needs_diagonal and learner.regularisation_strength > 0 and size > hidden:
            raise ValueError(
                f"protocol.batch_size = {size}: {learner.name} with regularisation needs at most network.hidden_size = {hidden}"
            )
        return self

    def key(self) -> str:
        """Stable name of this run: 16 hexadecimal digits of SHA-256 over METHOD_VERSION and the canonical JSON.

        Fields at their default are left out, so that a new field with a neutral default renames no stored run.
        """
        content = [METHOD_VERSION, self.model_dump(mode="json", exclude_defaults=True)]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def parse(model: type[Model], data: dict[str, Any]) -> Model:
    """Validate ``data``; a ValueError's one line names each wrong field, its value and what is allowed, and the nearest name to
    an unknown one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ValueError(in_one_line(error, model)) from None
