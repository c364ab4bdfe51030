"""The table of the status page: what it says of each notebook."""

from dataclasses import replace
from pathlib import Path

from lra_companion import profiles
from lra_companion.status_page import status_table
from lra_companion.store import ResultStore
from lra_companion.training import train
from runs import run_config


def test_each_notebook_has_its_profile_runs_hours_and_seconds(tmp_path: Path) -> None:
    wanted = profiles.parameters_of("01_tasks", "smoke", {}, ".", 1).runs()
    some = train(run_config())
    for config in wanted[1:]:
        ResultStore(tmp_path).put(replace(some, config=config, duration_seconds=7200.0))
    chapters = dict.fromkeys(("01_tasks", "02_vanishing_gradients", "10_claims"), ("smoke", tmp_path))
    table = status_table(chapters, {"01_tasks": 12.4, "10_claims": 3.6})
    assert [row.split(" | ")[1:] for row in table.splitlines()[2:5]] == [
        ["smoke", f"{len(wanted) - 1} of {len(wanted)}", f"{2 * (len(wanted) - 1)}", "12 s |"],
        [
            "smoke",
            f"0 of {len(profiles.parameters_of('02_vanishing_gradients', 'smoke', {}, '.', 1).runs())}",
            "0",
            "failed |",
        ],
        ["smoke", "those of other notebooks", "", "4 s |"],
    ]
    assert "{doc}`notebooks/01_tasks`" in table


def test_the_same_runs_make_the_same_table_but_for_the_seconds(tmp_path: Path) -> None:
    chapters = {"01_tasks": ("smoke", tmp_path)}
    one, other = (status_table(chapters, {"01_tasks": seconds}) for seconds in (12.0, 99.0))
    assert one != other
    assert one.replace("12 s", "99 s") == other
