"""The results that come with the repository: complete, of this method, and what the code still computes."""

from __future__ import annotations

import pytest

from lra_companion import ResultStore, notebooks, train
from lra_companion.experiments import RegularisationParameters
from lra_companion.fidelity import MEASURED_FOLDER
from lra_companion.tuning import TRIALS, TUNING_SEED, chosen, trials

STORE = ResultStore(notebooks.BOOK / "results" / "quick")


def test_the_published_book_needs_no_training() -> None:
    assert notebooks.missing_runs("quick", STORE) == []


def test_no_file_is_damaged_or_of_another_method() -> None:
    for folder in (STORE.path, STORE.path / MEASURED_FOLDER, TRIALS):
        files = [file for file in folder.iterdir() if file.is_file()]
        assert len(list(ResultStore(folder).load_all())) == len(files) > 0


def test_settings_of_the_quick_profile_are_those_the_trials_chose() -> None:
    parameters = notebooks.parameters_of("05_regularisation", "quick", {}, ".", 1)
    assert isinstance(parameters, RegularisationParameters)
    assert TUNING_SEED not in parameters.seeds
    store = ResultStore(TRIALS)
    for task in parameters.tasks:
        found = {
            kind: [result for run in runs if (result := store.get(run)) is not None]
            for kind, runs in trials(parameters, task, 30, 16).items()
        }
        assert [len(results) for results in found.values()] == [16, 16, 16]
        assert chosen(found) == parameters.settings[task]


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
