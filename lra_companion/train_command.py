"""``lra-companion train``: one network from the shell, every setting an option."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lra_companion.config import RunConfig, parse
from lra_companion.endings import interruptible
from lra_companion.options import AsJson, Device, KeptIn
from lra_companion.presets import preset as with_preset
from lra_companion.store import ResultStore
from lra_companion.sweep import train_many


def train(
    task: Annotated[
        str,
        typer.Option(
            help="temporal_order, temporal_order_3bit, random_permutation, adding or sequential_digits."
        ),
    ],
    learner: Annotated[
        str, typer.Option(help="lra, bptt, readout, lra_released, lra_ablation or tptt.")
    ] = "lra",
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings of lra under a name: paper or recommended; other options go before them."
        ),
    ] = None,
    sequence_length: Annotated[int, typer.Option(help="T, time steps; 64 or 8 for sequential_digits.")] = 20,
    hidden_size: Annotated[int | None, typer.Option(help="H, hidden units.")] = None,
    optimiser: Annotated[str | None, typer.Option(help="sgd, nesterov, adam, rmsprop or adagrad.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The optimiser's step size.")] = None,
    local_loss: Annotated[str | None, typer.Option(help="log_penalty, mse, huber, l1 or cosine.")] = None,
    reduction: Annotated[str | None, typer.Option(help="mean or per_example.")] = None,
    target_step_size: Annotated[float | None, typer.Option(help="beta of eqs. 4 and 7; a of eq. 10.")] = None,
    inner_steps: Annotated[int | None, typer.Option(help="K of eqs. 4 and 7.")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="c of eq. 3; 0: off.")] = None,
    clip_mode: Annotated[str | None, typer.Option(help="clip or normalise.")] = None,
    target_clip_norm: Annotated[float | None, typer.Option(help="c of target steps, if it differs.")] = None,
    target_clip_mode: Annotated[str | None, typer.Option(help="Mode of target steps, if it differs.")] = None,
    regularisation_strength: Annotated[
        float | None, typer.Option(help="alpha of eqs. 4, 6 and 7; 0: off.")
    ] = None,
    regularisation_scope: Annotated[str | None, typer.Option(help="batch or example (eq. 8).")] = None,
    regularise_targets: Annotated[bool | None, typer.Option(help="Whether Ω acts on target steps.")] = None,
    regularise_recurrent: Annotated[bool | None, typer.Option(help="Whether it acts on W_hh.")] = None,
    regularise_readout: Annotated[bool | None, typer.Option(help="Whether it acts on W_hy.")] = None,
    regularise_input: Annotated[bool | None, typer.Option(help="Whether it acts on W_xh.")] = None,
    released_nan: Annotated[
        bool | None,
        typer.Option("--released-nan", help="lra_released: NaN where |d| = 0, as in the public code."),
    ] = None,
    released: Annotated[
        list[str] | None,
        typer.Option(help="lra_ablation: a difference that is as released; any number of times."),
    ] = None,
    inverse_learning_rate: Annotated[
        float | None, typer.Option(help="tptt: step size of the inverse, eq. 12.")
    ] = None,
    inverse_noise: Annotated[
        float | None, typer.Option(help="tptt: standard deviation of the noise n in eq. 12.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="B, sequences per iteration.")] = None,
    max_iterations: Annotated[int | None, typer.Option(help="Updates at most.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Updates between two checks.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Checks without improvement before a run is stalled.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Weights, batches and sets follow from it.")] = 0,
    results: KeptIn = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option(help="No progress, no table.")] = False,
) -> None:
    """Train one network and print what became of it. What is not given is as in the preset, or else has the default of the
    configuration.
    """
    learner_fields = {
        "local_loss": local_loss,
        "reduction": reduction,
        "target_step_size": target_step_size,
        "inner_steps": inner_steps,
        "clip_norm": clip_norm,
        "clip_mode": clip_mode,
        "target_clip_norm": target_clip_norm,
        "target_clip_mode": target_clip_mode,
        "regularisation_strength": regularisation_strength,
        "regularisation_scope": regularisation_scope,
        "regularise_targets": regularise_targets,
        "regularise_recurrent": regularise_recurrent,
        "regularise_readout": regularise_readout,
        "regularise_input": regularise_input,
        "released_nan": released_nan,
        "released": released or None,
        "inverse_learning_rate": inverse_learning_rate,
        "inverse_noise": inverse_noise,
    }
    protocol = {
        "batch_size": batch_size,
        "max_iterations": max_iterations,
        "validate_every": validate_every,
        "patience": patience,
    }
    given = {
        "task": {"name": task, "sequence_length": sequence_length},
        "network": _given(hidden_size=hidden_size),
        "optimiser": _given(name=optimiser, learning_rate=learning_rate),
        "learner": {"name": learner} | _given(**learner_fields),
        "protocol": _given(**protocol),
        "seed": seed,
    }
    config = parse(RunConfig, given if preset is None else with_preset(preset, given))
    store = None if results is None else ResultStore(results)
    with interruptible(results):
        (result,) = train_many([config], store, progress=not quiet, device=device)
    if as_json:
        print(
            json.dumps(
                {
                    "config": config.model_dump(mode="json"),
                    "key": config.key(),
                    "status": result.status,
                    "iterations": result.iterations,
                    "validation_accuracy": result.validation_accuracy,
                    "test_accuracy": result.test_accuracy,
                    "duration_seconds": result.duration_seconds,
                    "history": result.history,
                }
            )
        )
    elif not quiet:
        table = Table("iteration", "training loss", "validation accuracy")
        for row in result.history:
            loss = "" if row["training_loss"] is None else f"{row['training_loss']:.4f}"
            table.add_row(str(row["iteration"]), loss, f"{row['validation_accuracy']:.4f}")
        Console().print(table)
        print(
            f"{result.status} after {result.iterations} iterations; test accuracy {result.test_accuracy:.4f}"
        )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
