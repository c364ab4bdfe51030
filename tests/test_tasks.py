"""The tasks against the table of method.md, decoded again here from their inputs alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from lra_companion import tasks as tasks_module
from lra_companion.config import TaskConfig
from lra_companion.network import Batch
from lra_companion.tasks import make_task

SYMBOL_TASKS = ["temporal_order", "temporal_order_3bit", "random_permutation"]
TASKS = [*SYMBOL_TASKS, "adding"]
# task: T: half-open intervals of the markers, worked out by hand from method.md
INTERVALS = {
    "temporal_order": {
        10: [(1, 2), (5, 6)],
        20: [(2, 4), (10, 12)],
        35: [(3, 6), (17, 20)],
        47: [(4, 8), (23, 27)],
        100: [(10, 20), (50, 60)],
        200: [(20, 40), (100, 120)],
    },
    "temporal_order_3bit": {
        10: [(1, 2), (3, 4), (6, 7)],
        20: [(2, 4), (6, 8), (12, 14)],
        35: [(3, 6), (10, 13), (21, 24)],
        47: [(4, 8), (14, 18), (28, 32)],
        100: [(10, 20), (30, 40), (60, 70)],
        200: [(20, 40), (60, 80), (120, 140)],
    },
    "adding": {
        10: [(0, 1), (1, 5)],
        20: [(0, 2), (2, 10)],
        35: [(0, 3), (3, 17)],
        47: [(0, 4), (4, 22)],
        100: [(0, 10), (10, 50)],
        200: [(0, 20), (20, 100)],
    },
}
TABLE = [(name, length, rows) for name, table in INTERVALS.items() for length, rows in table.items()]
MARKERS = {"temporal_order": 2, "temporal_order_3bit": 3, "adding": 2}
CLASSES = {"temporal_order": 4, "temporal_order_3bit": 8, "random_permutation": 100}


def task(name: str, length: int = 20) -> Any:
    """The package's task."""
    return make_task(TaskConfig(name=name, sequence_length=length))  # pyright: ignore[reportArgumentType]


def large_batch(name: str, length: int = 20, size: int = 4000) -> tuple[Tensor, Tensor]:
    """One run's inputs (T, B[, 2]) and targets of a fixed large draw."""
    batch = task(name, length).batch([7], 3, size)
    return batch.inputs[:, 0], batch.targets[0]


def same(one: Batch, other: Batch) -> bool:
    """Bit for bit."""
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


# ------------------------------------------------------------------------------------- decoding, independent


def marked_positions(name: str, inputs: Tensor) -> Tensor:
    """Where the markers are, (B, number of markers), from the inputs alone; every example must have all of them."""
    marked = (inputs < 2) if name in SYMBOL_TASKS else (channels(inputs)[0] == 1)
    assert (marked.sum(0) == MARKERS[name]).all()
    _, positions = marked.T.nonzero(as_tuple=True)
    return positions.view(inputs.shape[1], MARKERS[name])


def channels(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The marker channel of the adding task, which holds 0 and 1 only, and the channel of values."""
    binary = [bool(((inputs[..., c] == 0) | (inputs[..., c] == 1)).all()) for c in range(2)]
    assert sum(binary) == 1
    marker = binary.index(True)
    return inputs[..., marker], inputs[..., 1 - marker]


def decode_order(name: str, inputs: Tensor) -> Tensor:
    """v0 + 2 v1 (+ 4 v2), one sequence at a time."""
    classes = []
    for sequence in inputs.T.tolist():
        values = [symbol for symbol in sequence if symbol in (0, 1)]
        assert len(values) == MARKERS[name]
        classes.append(sum(value << place for place, value in enumerate(values)))
    return torch.tensor(classes)


def decode_adding(inputs: Tensor) -> Tensor:
    """Half the sum of the two marked values, (B, 1)."""
    markers, values = channels(inputs)
    return (markers * values).sum(0)[:, None] / 2


DECODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "temporal_order": lambda inputs: decode_order("temporal_order", inputs),
    "temporal_order_3bit": lambda inputs: decode_order("temporal_order_3bit", inputs),
    "random_permutation": lambda inputs: inputs[0],
    "adding": decode_adding,
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("length", [10, 20, 35, 100])
def test_targets_follow_from_the_inputs(name: str, length: int) -> None:
    """In training batches of several runs and in both evaluation splits."""
    made = task(name, length)
    batches = [made.batch([0, 5, 2], 4, 50), made.evaluation_batch(0, "validation", 60)]
    batches.append(made.evaluation_batch(3, "test", 60))
    for batch in batches:
        for run in range(batch.inputs.shape[1]):
            wanted = DECODERS[name](batch.inputs[:, run])
            torch.testing.assert_close(batch.targets[run], wanted, rtol=1e-6, atol=1e-7)


# ------------------------------------------------------------------------------------------------- markers


@pytest.mark.parametrize(("name", "length", "rows"), TABLE)
def test_the_table_of_intervals(name: str, length: int, rows: list[tuple[int, int]]) -> None:
    """The one table says what was worked out by hand."""
    assert [tuple(row) for row in tasks_module.MARKER_INTERVALS[name](length)] == rows


@pytest.mark.parametrize("name", list(INTERVALS))
def test_intervals_fit_and_do_not_overlap_at_any_length(name: str) -> None:
    """From T = 10 on they are not empty, in order, disjoint and inside the sequence."""
    for length in range(10, 1001):
        edges = [edge for row in tasks_module.MARKER_INTERVALS[name](length) for edge in row]
        lows, highs = edges[::2], edges[1::2]
        assert all(low < high for low, high in zip(lows, highs, strict=True)), (length, edges)
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= length, (length, edges)


@pytest.mark.parametrize(("name", "length", "rows"), TABLE)
def test_markers_fall_into_their_intervals_and_everywhere_in_them(
    name: str, length: int, rows: list[tuple[int, int]]
) -> None:
    """Every position of an interval occurs about equally often, and no other ever."""
    inputs, _ = large_batch(name, length)
    positions = marked_positions(name, inputs)
    for marker, (low, high) in enumerate(rows):
        counts = torch.bincount(positions[:, marker], minlength=length)
        assert counts.sum() == counts[low:high].sum() == inputs.shape[1]
        assert_even(counts[low:high])


def test_markers_are_drawn_independently_of_each_other() -> None:
    """Each pair of positions occurs, about equally often."""
    for name, rows in (("temporal_order", (2, 2)), ("adding", (2, 8))):
        positions = marked_positions(name, large_batch(name)[0])
        first = INTERVALS[name][20][0][0], INTERVALS[name][20][1][0]
        pairs = (positions[:, 0] - first[0]) * rows[1] + positions[:, 1] - first[1]
        assert_even(torch.bincount(pairs, minlength=rows[0] * rows[1]))


def assert_even(counts: Tensor) -> None:
    """Chi-square below its mean by more than six standard deviations would be bad luck of one in a billion."""
    expected = counts.sum().item() / len(counts)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    assert chi_square < freedom + 6 * (2 * freedom) ** 0.5 + 12, counts


# ---------------------------------------------------------------------------------------- values and balance


@pytest.mark.parametrize("name", ["temporal_order", "temporal_order_3bit"])
def test_classes_of_the_order_tasks_are_balanced(name: str) -> None:
    """4 or 8 classes, equally likely."""
    _, targets = large_batch(name)
    assert set(targets.tolist()) == set(range(CLASSES[name]))
    assert_even(torch.bincount(targets))


@pytest.mark.parametrize("name", ["temporal_order", "temporal_order_3bit"])
def test_distractors_of_the_order_tasks(name: str) -> None:
    """c, d, e, f everywhere else, equally likely, and none tells anything about the class."""
    inputs, targets = large_batch(name, 35)
    assert set(inputs.unique().tolist()) == set(range(6))
    counts = torch.bincount(inputs.flatten(), minlength=6)
    assert_even(counts[2:])
    for position in (0, 8, 34):
        assert inputs[position].min() >= 2
        for label in range(CLASSES[name]):
            assert_even(torch.bincount(inputs[position, targets == label] - 2, minlength=4))


def test_random_permutation() -> None:
    """0 or 1 first and equally likely; 2..99 afterwards, all of them, equally likely at every step."""
    inputs, targets = large_batch("random_permutation", 20)
    assert torch.equal(inputs[0], targets)
    assert_even(torch.bincount(targets))
    assert len(torch.bincount(targets)) == 2
    assert int(inputs[1:].min()) == 2 and int(inputs[1:].max()) == 99
    assert_even(torch.bincount(inputs[1:].flatten(), minlength=100)[2:])
    assert_even(torch.bincount(inputs[1], minlength=100)[2:])
    assert_even(torch.bincount(inputs[19, targets == 1], minlength=100)[2:])


def test_adding_values() -> None:
    """Values uniform in [0, 1) at every step, targets their mean over the two marked steps: 1/2 on average."""
    inputs, targets = large_batch("adding", 20)
    assert inputs.dtype == targets.dtype == torch.float32
    assert inputs.shape == (20, 4000, 2) and targets.shape == (4000, 1)
    _, values = channels(inputs)
    assert values.min() >= 0 and values.max() < 1
    assert_even(torch.bincount((values.flatten() * 20).long(), minlength=20))
    assert float(targets.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(targets.var()) == pytest.approx(1 / 24, abs=0.005)  # of the mean of two uniform numbers


# ------------------------------------------------------------------------------------------ shapes and sizes


@pytest.mark.parametrize("name", SYMBOL_TASKS)
@pytest.mark.parametrize("length", [10, 33])
def test_shapes_of_the_symbol_tasks(name: str, length: int) -> None:
    """Symbols (T, R, B), classes (R, B), both int64, in range of the sizes the task announces."""
    made = task(name, length)
    batch = made.batch([3, 1], 0, 13)
    assert made.symbols is True
    assert batch.inputs.shape == (length, 2, 13) and batch.targets.shape == (2, 13)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert made.input_size == (100 if name == "random_permutation" else 6)
    assert made.output_size == CLASSES[name]
    assert int(batch.inputs.min()) >= 0 and int(batch.inputs.max()) < made.input_size
    rows = torch.nn.functional.one_hot(batch.inputs, made.input_size)
    assert (rows.sum(-1) == 1).all() and rows.shape[-1] == made.input_size


def test_shapes_of_the_adding_task() -> None:
    """Two real channels in, one real number out."""
    made = task("adding", 33)
    batch = made.batch([3, 1], 0, 13)
    assert (made.symbols, made.input_size, made.output_size) == (False, 2, 1)
    assert batch.inputs.shape == (33, 2, 13, 2) and batch.targets.shape == (2, 13, 1)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_shapes_of_evaluation_batches(name: str, split: str) -> None:
    """One run, as many sequences as asked for, the kinds of a training batch."""
    made = task(name)
    batch, training = made.evaluation_batch(0, split, 31), made.batch([0], 0, 31)
    assert batch.inputs.shape == training.inputs.shape and batch.targets.shape == training.targets.shape
    assert batch.inputs.dtype == training.inputs.dtype and batch.targets.dtype == training.targets.dtype


# ------------------------------------------------------------------------------------- determinism, seeds


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_depends_on_seed_and_iteration_alone(name: str) -> None:
    """Not on the seeds beside it, the order of asking, the task object, or torch's global generator."""
    made = task(name)
    torch.manual_seed(1)
    together = made.batch([4, 9, 0, 9], 17, 20)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    other = task(name)
    other.batch([9], 3, 20)
    for run, seed in enumerate([4, 9, 0, 9]):
        alone = other.batch([seed], 17, 20)
        assert torch.equal(alone.inputs[:, 0], together.inputs[:, run])
        assert torch.equal(alone.targets[0], together.targets[run])
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", TASKS)
def test_the_number_of_threads_does_not_matter(name: str) -> None:
    """One or two: the same numbers."""
    threads = torch.get_num_threads()
    try:
        batches = []
        for number in (1, 2):
            torch.set_num_threads(number)
            batches.append(task(name).evaluation_batch(1, "validation", 10_000))
    finally:
        torch.set_num_threads(threads)
    assert same(*batches)


@pytest.mark.parametrize("name", TASKS)
def test_all_seeds_iterations_and_splits_differ(name: str) -> None:
    """(0, 1) is not (1, 0), a big seed not a small one, and the validation set of a seed none of its batches."""
    made = task(name)
    seeds, iterations = [0, 1, 2, 3, 17, 2**31, 2**32, 2**32 + 1, 2**40], [0, 1, 2, 3, 17, 1000, 2**20]
    found = {}
    for iteration in iterations:
        batch = made.batch(seeds, iteration, 20)
        found.update({(s, iteration): batch.inputs[:, run].numpy().tobytes() for run, s in enumerate(seeds)})
    for seed in seeds:
        for split in ("validation", "test"):
            found[seed, split] = made.evaluation_batch(seed, split, 20).inputs[:, 0].numpy().tobytes()
    assert len(set(found.values())) == len(found) == len(seeds) * (len(iterations) + 2)


@pytest.mark.parametrize("name", TASKS)
def test_evaluation_sets_are_fixed(name: str) -> None:
    """The same set at every check of a run, and the same whoever asks."""
    for split in ("validation", "test"):
        assert same(task(name).evaluation_batch(6, split, 100), task(name).evaluation_batch(6, split, 100))


@pytest.mark.parametrize("name", TASKS)
def test_no_sequence_is_in_two_of_training_validation_and_test(name: str) -> None:
    """What is reported was not trained on, nor used to decide when to stop; 20 symbols leave room for that."""
    made = task(name)
    groups = [made.evaluation_batch(5, "validation", 2000), made.evaluation_batch(5, "test", 2000)]
    groups += [made.batch([5], iteration, 500) for iteration in range(4)]
    sequences = [{row.numpy().tobytes() for row in group.inputs[:, 0].transpose(0, 1)} for group in groups]
    assert sum(len(group) for group in sequences) == 6000
    assert len(set().union(*sequences)) == 6000


def test_unknown_splits_are_refused() -> None:
    """Neither a third split nor a silent default."""
    with pytest.raises((ValueError, KeyError)):
        task("temporal_order").evaluation_batch(0, "train", 10)


# ------------------------------------------------------------------------------------ correctness and chance


@pytest.mark.parametrize("name", SYMBOL_TASKS)
def test_correct_is_the_largest_logit(name: str) -> None:
    """Per run and example."""
    made = task(name)
    batch = made.batch([0, 1], 0, 40)
    logits = torch.randn(2, 40, made.output_size, generator=torch.Generator().manual_seed(0))
    logits[:, ::2] = 0.1 * logits[:, ::2]
    logits[:, ::2].scatter_(-1, batch.targets[:, ::2, None], 5.0)
    wanted = [[max(range(made.output_size), key=row.__getitem__) for row in run] for run in logits.tolist()]
    correct = made.correct(logits, batch.targets)
    assert correct.shape == (2, 40) and correct.dtype == torch.bool
    assert torch.equal(correct, torch.tensor(wanted) == batch.targets)
    assert correct[:, ::2].all() and not correct.all()


def test_correct_within_the_tolerance_of_the_adding_task() -> None:
    """|error|^2 <= 0.04: up to 0.2 on either side."""
    targets = torch.full((1, 6, 1), 0.5)
    outputs = targets + torch.tensor([0.0, 0.19, -0.19, 0.21, -0.21, 5.0])[:, None]
    assert task("adding").correct(outputs, targets).tolist() == [[True, True, True, False, False, False]]


@pytest.mark.parametrize(
    ("name", "chance"),
    [
        ("temporal_order", 1 / 4),
        ("temporal_order_3bit", 1 / 8),
        ("random_permutation", 1 / 2),
        ("adding", 0.64),
    ],
)
def test_chance_is_what_the_best_constant_guess_reaches(name: str, chance: float) -> None:
    """For adding the guess 1/2: P(|mean of two uniform numbers - 1/2| <= 0.2) = 1 - 0.6^2."""
    made = task(name)
    _, targets = large_batch(name)
    if name == "adding":
        share = float(made.correct(torch.full((1, *targets.shape), 0.5), targets[None]).double().mean())
    else:
        share = float(torch.bincount(targets).max() / len(targets))
    assert share == pytest.approx(chance, abs=0.03)
    assert made.chance == pytest.approx(chance, abs=1e-9)


# ------------------------------------------------------------------------------------------------- real digits

DIGITS = load_digits()
EVERYTHING = 10**4  # more than there is
VARIANTS = pytest.mark.parametrize("steps", [64, 8])


def digits(steps: int = 64) -> Any:
    """The task in one of its variants."""
    return task("sequential_digits", steps)


def pictures(inputs: Tensor) -> np.ndarray[Any, Any]:
    """Sequences (T, B, I) put together again, step after step: (B, 8, 8) in 0..16."""
    return np.stack(
        [torch.cat(list(inputs[:, b])).reshape(8, 8).numpy() * 16 for b in range(inputs.shape[1])]
    )


def keys(images: np.ndarray[Any, Any]) -> list[bytes]:
    """One name for each picture."""
    return [image.astype(np.uint8).tobytes() for image in images]


NUMBER = {key: place for place, key in enumerate(keys(DIGITS.images))}


def places(inputs: Tensor) -> list[int]:
    """Which pictures of scikit-learn's these are."""
    return [NUMBER[key] for key in keys(pictures(inputs))]


def parts(seed: int, steps: int = 64) -> dict[str, set[int]]:
    """The pictures of each part, the training part as seen in many batches."""
    made = digits(steps)
    found = {
        split: set(places(made.evaluation_batch(seed, split, EVERYTHING).inputs[:, 0]))
        for split in ("validation", "test")
    }
    found["training"] = set().union(*(places(made.batch([seed], i, 2000).inputs[:, 0]) for i in range(8)))
    return found


def test_all_pictures_differ() -> None:
    """Or else they could not be told apart here, and one might be both trained on and tested on."""
    assert len(NUMBER) == len(DIGITS.images) == 1797


@VARIANTS
def test_digits_are_those_of_the_picture(steps: int) -> None:
    """Inputs are scikit-learn's pixels over 16, targets its labels, in training batches and both sets."""
    made = digits(steps)
    batches = [made.batch([4, 0], 3, 30)]
    batches += [made.evaluation_batch(4, split, EVERYTHING) for split in ("validation", "test")]
    for batch in batches:
        assert batch.inputs.dtype == torch.float32 and batch.targets.dtype == torch.int64
        assert batch.inputs.min() == 0 and batch.inputs.max() == 1
        for run in range(batch.inputs.shape[1]):
            found = places(batch.inputs[:, run])
            assert batch.targets[run].tolist() == DIGITS.target[found].tolist()


def test_the_order_of_pixels_and_rows() -> None:
    """From the top left, along the rows: step t is pixel (t // 8, t % 8), or row t with its 8 pixels as inputs."""
    by_pixel = digits(64).batch([5], 0, 6)
    by_row = digits(8).batch([5], 0, 6)
    assert by_pixel.inputs.shape == (64, 1, 6, 1) and by_row.inputs.shape == (8, 1, 6, 8)
    for b, place in enumerate(places(by_pixel.inputs[:, 0])):
        image = DIGITS.images[place] / 16
        for t in range(64):
            assert by_pixel.inputs[t, 0, b, 0] == image[t // 8, t % 8]
        for t in range(8):
            assert by_row.inputs[t, 0, b].tolist() == image[t].tolist()
    assert torch.equal(by_pixel.targets, by_row.targets)  # one seed: the same pictures in both variants


@VARIANTS
def test_sizes_of_the_digits(steps: int) -> None:
    """Real inputs, ten classes, guessing reaches a tenth."""
    made = digits(steps)
    assert (made.symbols, made.input_size, made.output_size) == (False, 64 // steps, 10)
    assert made.chance == pytest.approx(1 / 10)
    assert float(np.bincount(DIGITS.target).max()) / 1797 == pytest.approx(made.chance, abs=0.003)


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_the_three_parts_share_no_picture(seed: int) -> None:
    """60, 20 and 20 % of all 1797 pictures, none left over."""
    found = parts(seed)
    assert {name: len(part) for name, part in found.items()} == {
        "training": 1078,
        "validation": 359,
        "test": 360,
    }
    assert len(set().union(*found.values())) == 1797


def test_parts_are_fixed_by_the_seed_alone() -> None:
    """The same in both variants; another seed deals otherwise, by chance and not by a shift."""
    first, rows, other = parts(3), parts(3, steps=8), parts(4)
    assert first == rows
    common = len(first["test"] & other["test"])
    assert 72 - 40 < common < 72 + 40  # a fifth of 360


@VARIANTS
def test_a_batch_of_digits_depends_on_seed_and_iteration_alone(steps: int) -> None:
    """Not on the seeds beside it, nor on what was asked before."""
    made = digits(steps)
    together = made.batch([4, 9, 0, 9], 17, 20)
    other = digits(steps)
    other.batch([9], 3, 20)
    for run, seed in enumerate([4, 9, 0, 9]):
        alone = other.batch([seed], 17, 20)
        assert torch.equal(alone.inputs[:, 0], together.inputs[:, run])
        assert torch.equal(alone.targets[0], together.targets[run])
    seen = {made.batch([s], i, 20).inputs.numpy().tobytes() for s in (0, 1, 2**32) for i in (0, 1, 2)}
    assert len(seen) == 9


def test_batches_of_digits_are_drawn_evenly() -> None:
    """Every picture of the training part comes about equally often."""
    drawn = [place for i in range(100) for place in places(digits().batch([2], i, 200).inputs[:, 0])]
    counts = torch.bincount(torch.tensor(drawn), minlength=1797)
    assert_even(counts[counts > 0])


def test_sets_of_digits_are_fixed_and_as_large_as_can_be() -> None:
    """Asking for more than there is gives all, asking for less the first of them."""
    for split, size in (("validation", 359), ("test", 360)):
        everything = digits().evaluation_batch(6, split, EVERYTHING)
        assert everything.targets.shape == (1, size)
        assert same(everything, digits().evaluation_batch(6, split, EVERYTHING))
        first = digits().evaluation_batch(6, split, 50)
        assert torch.equal(first.inputs, everything.inputs[:, :, :50])
        assert torch.equal(first.targets, everything.targets[:, :50])


def test_unknown_splits_of_the_digits_are_refused() -> None:
    """As for the other tasks."""
    with pytest.raises((ValueError, KeyError)):
        digits().evaluation_batch(0, "train", 10)
