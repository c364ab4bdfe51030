"""The results that come with the repository: complete, of this method, and what the code still computes."""

from __future__ import annotations

import pytest

from lra_companion import ResultStore, notebooks, train
from lra_companion.tuning import TRIALS, candidates, chosen, searches, trial

STORE = ResultStore(notebooks.BOOK / "results" / "quick")


def test_the_published_book_needs_no_training() -> None:
    assert notebooks.missing_runs("quick", STORE) == []
    for name in notebooks.NOTEBOOKS:
        assert notebooks.published_profile(name, STORE.path.parent) in notebooks.PUBLISHED_PROFILES


def test_no_file_is_damaged_or_of_another_method() -> None:
    for folder in (STORE.path, TRIALS):
        files = list(folder.iterdir())
        assert len(list(ResultStore(folder).load_all())) == len(files) > 0


@pytest.mark.parametrize("profile", notebooks.PUBLISHED_PROFILES)
def test_settings_of_a_profile_are_those_the_trials_chose(profile: str) -> None:
    rows = notebooks.read_settings(notebooks.SETTINGS / f"{profile}.yaml")
    chapters, store = searches(notebooks.comparisons(profile)), ResultStore(TRIALS)
    for row in rows:
        plan = notebooks.tuning_plan(profile).model_copy(update={"trials": row.trials})
        tried = candidates(plan, *row.place)
        found = [store.get(trial(chapters[row.place], settings, plan)) for settings in tried]
        results = [result for result in found if result is not None]
        assert len(results) == row.trials, row
        assert chosen(tried, results) == row


@pytest.mark.slow
def test_a_published_run_again() -> None:
    """The control's first run: to the last bit on like hardware, and elsewhere close at every check."""
    (run,) = [run for run in notebooks.profile_runs("quick")["01_tasks"] if run.seed == 1][:1]
    stored, again = STORE.get(run), train(run)
    assert stored is not None and again.status == stored.status and again.iterations == stored.iterations
    for old, new in zip(stored.history, again.history, strict=True):
        assert old["iteration"] == new["iteration"]
        assert new["validation_accuracy"] == pytest.approx(old["validation_accuracy"], abs=0.02)
    assert again.test_accuracy == pytest.approx(stored.test_accuracy, abs=0.02)
