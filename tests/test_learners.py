"""A learning rule is in every place where one looks for it."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from lra_companion import memory
from lra_companion.config import LearnerConfig
from lra_companion.learners import LEARNERS, SHARED_SETTINGS
from lra_companion.runs import PER_RUN_SETTINGS
from lra_companion.train_command import train
from runs import LEARNERS as SMALL_RUNS

ROOT = Path(__file__).parents[1]
CONFIGS: dict[str, Any] = {
    config.model_fields["name"].annotation.__args__[0]: config
    for config in LearnerConfig.__args__[0].__args__  # type: ignore[attr-defined]
}


def test_rules_with_settings_are_the_rules_with_a_class() -> None:
    assert set(CONFIGS) == set(LEARNERS)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_rule_is_trained_by_the_tests_of_all_rules(name: str) -> None:
    assert name in {fields["name"] for fields in SMALL_RUNS.values()}, "tests/runs.py has no run of it"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_rule_s_memory_is_estimated(name: str) -> None:
    """lra_ablation holds more the longer the sequence is, and has a number of its own."""
    assert name in memory._ARRAYS or name == "lra_ablation", "memory.py has no estimate for it"


@pytest.mark.parametrize("name", CONFIGS)
def test_each_setting_is_an_option_of_the_shell(name: str) -> None:
    options = inspect.signature(train, eval_str=True).parameters
    assert [field for field in CONFIGS[name].model_fields if field not in {*options, "name"}] == []
    (help_of_learner,) = (item.help for item in options["learner"].annotation.__metadata__)
    assert name in re.findall(r"\w+", help_of_learner), "the help of --learner does not name it"


@pytest.mark.parametrize("name", CONFIGS)
def test_each_setting_is_shared_or_each_run_s_own(name: str) -> None:
    """One in neither set would keep runs that could train side by side apart; one in both would fail once they met."""
    for field in CONFIGS[name].model_fields:
        assert (field in PER_RUN_SETTINGS) != (field in SHARED_SETTINGS), (
            f"{field} must be in one of PER_RUN_SETTINGS (runs.py) and SHARED_SETTINGS (learners/__init__.py)"
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_rule_is_in_the_book_and_the_readme(name: str) -> None:
    rule = LEARNERS[name]
    row = f"| `{name}` | `{CONFIGS[name].__name__}` | `{rule.__name__}` |"  # type: ignore[attr-defined]
    rows = (ROOT / "book" / "notation.md").read_text().splitlines()
    assert rows.count(row) == 1, f"notation.md lacks {row}"
    for page in ("book/method.md", "README.md"):
        assert f"`{name}`" in (ROOT / page).read_text(), page
