"""The figures that comparisons share: what is drawn where, and that a label looks the same everywhere."""

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes

from lra_companion import figures, plots
from lra_companion.findings import by_task, regularisation_differences, strength_series
from test_findings import HIGH, LOW, MIDDLE, SEEDS, clipped_panels, clipping, found, parameters

mpl.use("agg")
RULES = ["readout", "lra", "lra + Ω"]
SCORES = {"readout": MIDDLE, "lra": LOW, "omega": HIGH, "lra, α = 0": LOW, "lra, α = 0.5": MIDDLE}
ASKED = parameters(
    SEEDS,
    tasks=["temporal_order", "random_permutation"],
    sequence_lengths=[20, 30],
    regularisation_strengths=[0.0, 0.5],
)
PANELS = found(ASKED, SCORES)
LOOKS = figures.looks_of(RULES)


@pytest.fixture(autouse=True)
def _clean_figures() -> Iterator[None]:
    plots.style()
    yield
    plt.close("all")


def drawn() -> list[Axes]:
    return plt.gcf().axes


def written(axes: Axes) -> list[str]:
    """What stands on the Axes, labels of curves included."""
    return [text.get_text() for text in axes.texts]


def line(axes: Axes, label: str) -> list[float]:
    (found_line,) = [each for each in axes.get_lines() if each.get_label() == label]
    return [float(y) for y in found_line.get_ydata()]  # pyright: ignore


def test_a_rule_looks_the_same_whatever_it_stands_beside() -> None:
    alone, among = figures.looks_of(["lra + Ω"]), figures.looks_of(["l1", "lra", "lra + Ω", "readout"])
    assert alone["lra + Ω"] == among["lra + Ω"]
    assert among["readout"] == plots.CONDITION_STYLES["readout"]


def test_no_two_labels_look_alike_and_omega_is_the_filled_solid_one() -> None:
    names = ["mse", "log_penalty", "huber", "l1", "cosine", "bptt", "bptt, clipped", "tptt", "lra_released"]
    labels = [label for name in names for label in (name, f"{name} + Ω")]
    looks = figures.looks_of(["readout", "lra", "lra + Ω", *labels])
    assert len({(look.color, look.linestyle, look.marker, look.filled) for look in looks.values()}) == len(
        looks
    )
    grey = {(look.linestyle, look.marker, look.filled) for look in looks.values()}
    assert len(grey) == len(looks), "colour is never the only cue"
    for name in names:
        assert not looks[name].filled and looks[name].linestyle != "-"
        assert looks[f"{name} + Ω"].filled and looks[f"{name} + Ω"].linestyle == "-"
        assert looks[f"{name} + Ω"].marker == looks[name].marker


def test_curves_of_every_condition_with_chance() -> None:
    figures.draw_curves(PANELS, RULES, LOOKS)
    assert [axes.get_title("left") for axes in drawn()] == [panel.title for panel in PANELS]
    for axes in drawn():
        assert sorted(written(axes)) == sorted([*RULES, "chance"])


def test_conditions_that_were_not_run_are_left_out() -> None:
    labels = [*RULES, "tptt"]
    figures.draw_curves(PANELS[:1], labels, figures.looks_of(labels))
    assert "tptt" not in written(drawn()[0])


def test_test_accuracy_has_a_row_for_each_condition() -> None:
    figures.draw_test_accuracy(PANELS, RULES, LOOKS)
    for axes in drawn():
        assert [label.get_text() for label in axes.get_yticklabels()] == RULES
        assert written(axes)[0] == "0.50 [0.50, 0.50]"


def test_differences_have_the_look_of_what_was_treated() -> None:
    figures.draw_differences(PANELS, regularisation_differences, LOOKS)
    axes = drawn()[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "with Ω − without",
        "with Ω − readout",
        "without Ω − readout",
    ]
    large = [each.get_color() for each in axes.get_lines() if each.get_markersize() == 8]
    assert large == [LOOKS["lra + Ω"].color, LOOKS["readout"].color, LOOKS["readout"].color]


def test_solving_has_a_curve_for_each_condition() -> None:
    figures.draw_solving(PANELS, RULES, LOOKS)
    for axes in drawn():
        assert sorted(written(axes)) == sorted(RULES)


def test_accuracy_against_a_setting_beside_the_readout() -> None:
    levels, series = strength_series(ASKED, PANELS)
    figures.draw_against(PANELS, series, levels, "α", LOOKS)
    axes = drawn()[-1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.5", "tuned"]
    assert line(axes, "lra + Ω") == pytest.approx([0.21, 0.5, 0.82], abs=1e-3)
    assert line(axes, "readout") == [0.5] * 3 and axes.get_xlabel() == "α"


def test_accuracy_against_length_has_a_row_of_axes_for_each_task() -> None:
    figures.draw_against_length(by_task(PANELS), RULES, LOOKS)
    assert [axes.get_title("left") for axes in drawn()] == ["temporal order", "random permutation"]
    for axes in drawn():
        assert line(axes, "lra") == pytest.approx([0.21, 0.21], abs=1e-3)
        assert sorted(written(axes)) == sorted([*RULES, "chance"])


def test_a_rule_that_was_not_run_at_a_length_has_no_point_there() -> None:
    asked = parameters(SEEDS, sequence_lengths=[20, 30], only_lengths={"lra": [20]})
    figures.draw_against_length(by_task(found(asked, SCORES)), RULES, LOOKS)
    assert len(line(drawn()[0], "lra")) == 1 and len(line(drawn()[0], "readout")) == 2


def test_the_share_of_clipped_steps() -> None:
    asked = clipping()
    panels = clipped_panels(asked, {}, {"lra, clip, c = 0.1": 0.49})
    levels = ["off", "0.1", "1"]
    series = {"clip": ["lra, not clipped", "lra, clip, c = 0.1", "lra, clip, c = 1"]}
    figures.draw_clipped(panels, series, levels, figures.looks_of(list(series)))
    assert line(drawn()[0], "clip") == pytest.approx([0.01, 0.5, 0.01])


def test_solved_shares_stand_at_their_rule_and_length() -> None:
    asked = parameters(SEEDS, sequence_lengths=[20, 30], only_lengths={"lra": [20]})
    solved = {"omega_1": ("solved", 20), "omega_2": ("solved", 30), "lra_5": ("solved", 10)}
    figures.draw_cells(by_task(found(asked, SCORES, **solved)), RULES, figures.solved)
    (axes,) = drawn()
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert rows == RULES and columns == ["20", "30"]
    assert cells == {
        (0.5, 0.5): "0/5",
        (1.5, 0.5): "0/5",
        (0.5, 1.5): "1/5",
        (0.5, 2.5): "2/5",
        (1.5, 2.5): "2/5",
    }


def test_cells_are_shaded_by_how_well_and_how_soon() -> None:
    asked = parameters(SEEDS)
    soon = {f"omega_{seed}": ("solved", 20) for seed in SEEDS} | {
        f"lra_{seed}": ("solved", 10) for seed in SEEDS
    }
    (panel,) = found(asked, SCORES, **soon)
    cells = {label: figures.accuracy(panel, panel.outcomes[label]) for label in RULES}
    assert {label: text for label, (_, text) in cells.items()} == {
        "readout": "0.50",
        "lra": "0.21",
        "lra + Ω": "0.82",
    }
    assert cells["lra"][0] == 0, "chance is 0.25"
    assert cells["lra + Ω"][0] == pytest.approx((0.82 - 0.25) / 0.75, abs=2e-3)
    sooner, later, never = (
        figures.soon(panel, panel.outcomes[label]) for label in ("lra", "lra + Ω", "readout")
    )
    assert (sooner, later[1], never) == ((1.0, "10"), "20", (0.0, "-")), "checks are 10 iterations apart"
    assert later[0] == pytest.approx(1 - 0.9 / 2), (
        "the second of four checks is half way on a logarithmic scale"
    )
