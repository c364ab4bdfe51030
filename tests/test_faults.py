"""What goes wrong around training: two processes on one store, interruptions, killed workers, failing runs and notebooks."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from lra_companion import cli, locks, notebooks, profiles, workers
from lra_companion.config import RunConfig
from lra_companion.notebooks import NotebookFailedError
from lra_companion.store import ResultStore
from lra_companion.sweep import SweepError, train_many
from lra_companion.training import run_group, train
from lra_companion.unfinished import FOLDER, Unfinished
from lra_companion.workers import KilledError
from processes import started, train_into, unfinished_files
from runs import outcome, run_config


def soon(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)
    return found


def training(folder: Path) -> bool:
    """Whether another process holds a lock of this store."""
    file = folder / FOLDER / "locks"
    if not file.exists():
        return False
    with file.open("rb+") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def slow(seed: int, **fields: Any) -> RunConfig:
    """A run of half a second."""
    return run_config("lra_omega", seed, hidden=16, max_iterations=400, validate_every=100, **fields)


# Locks


def hold(file: Path, place: int) -> None:
    """Lock a place, say so in a file beside it, and never end."""
    assert locks.take(file, place)
    file.with_name("held").touch()
    time.sleep(1000)


def test_one_process_holds_a_lock_until_it_ends_however_it_does(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "locks"
    process = started(hold, file, 7)
    soon(file.with_name("held").exists)
    assert not locks.take(file, 7)
    assert locks.take(file, 8), "each place is a lock of its own"
    assert not locks.take(file, 7), "trying it changed nothing"
    process.kill()
    assert locks.take(file, 7, wait=True)
    locks.release(file, 7)


def test_locks_in_a_file_that_was_removed_are_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "locks"
    assert locks.take(file, 1)
    shutil.rmtree(file.parent)
    assert locks.take(file, 1) and file.exists()
    process = started(hold, file, 2)
    soon(file.with_name("held").exists)
    assert not locks.take(file, 2)
    process.kill()
    process.join()


def test_a_file_system_without_locks_is_used_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", unknown)
    config = run_config()
    assert outcome(train_many([config], ResultStore(tmp_path))[0]) == outcome(train(config))


def test_a_store_that_cannot_be_written_stops_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    monkeypatch.setattr("lra_companion.chunks.run_group", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(SweepError, match=FOLDER):
        train_many([run_config()], ResultStore(tmp_path))


def test_a_process_may_hold_more_locks_than_files(tmp_path: Path) -> None:
    configs = [run_config(seed=seed) for seed in range(3000)]
    with Unfinished(ResultStore(tmp_path)).claimed(configs) as mine:
        assert mine == configs
    assert unfinished_files(tmp_path) == []


# Two processes on one store


def trained(log: Path) -> dict[str, int]:
    """Keys of the runs that a process trained, each from which iteration on."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    assert len({key for key, _ in lines}) == len(lines), "none twice"
    return {key: int(iteration) for key, iteration in lines}


def test_two_processes_share_a_sweep_and_no_run_is_done_twice(tmp_path: Path) -> None:
    learners = ("lra", "bptt", "tptt", "readout", "lra_clip", "lra_omega")
    configs = [run_config(learner, seed, max_iterations=60) for learner in learners for seed in range(2)]
    logs = [tmp_path / "one", tmp_path / "other"]
    both = [
        started(train_into, tmp_path / "store", order, 0.01, 1, log)
        for order, log in zip((configs, configs[::-1]), logs, strict=True)
    ]
    for process in both:
        process.join(300)
        assert process.exitcode == 0
    one, other = map(trained, logs)
    assert not one.keys() & other.keys()
    assert one.keys() | other.keys() == {config.key() for config in configs}
    assert one and other, "the second had its share"
    store = ResultStore(tmp_path / "store")
    for config in configs:
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))
    assert {file.suffix for file in store.path.iterdir() if file.is_file()} == {".json"}


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Any]:
    """A process that trains slow runs into the store of ``tmp_path``, and holds their locks."""
    process = started(train_into, tmp_path / "store", [slow(1), slow(2)], 0.05, 1, tmp_path / "first")
    soon(lambda: len(unfinished_files(tmp_path / "store", "safetensors")) == 2)
    yield process
    process.kill()
    process.join()


def test_what_another_process_trains_is_waited_for(tmp_path: Path, busy: Any) -> None:
    late = started(train_into, tmp_path / "store", [slow(1), slow(3), slow(2)], 0.05, 1, tmp_path / "second")
    late.join(300)
    busy.join(300)
    assert (busy.exitcode, late.exitcode) == (0, 0)
    assert trained(tmp_path / "second") == {slow(3).key(): 0}
    assert len(list(ResultStore(tmp_path / "store").load_all())) == 3


def test_what_a_killed_process_leaves_is_taken_over_from_its_checkpoint(tmp_path: Path, busy: Any) -> None:
    late = started(train_into, tmp_path / "store", [slow(1), slow(2)], 0.05, 1, tmp_path / "second")
    time.sleep(0.1)
    busy.kill()
    late.join(300)
    assert late.exitcode == 0
    taken = trained(tmp_path / "second")
    assert taken.keys() == {slow(1).key(), slow(2).key()} and min(taken.values()) > 0
    store = ResultStore(tmp_path / "store")
    for config in (slow(1), slow(2)):
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))
    assert unfinished_files(store.path) == []


# Ctrl-C and other signals


def run_shell(line: str, folder: Path) -> None:
    """What the command of this line does in a folder; its stderr goes to a file there."""
    os.chdir(folder)
    os.setsid()  # a terminal of its own: its Ctrl-C is heard by all that the command starts
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tests run in the background may have been told to ignore it
    sys.argv = ["lra-companion", *line.split(), "--profile", "quick", "--results", "store"]
    with Path("stderr").open("w") as file:
        os.dup2(file.fileno(), 2)
        cli.main()


@pytest.mark.parametrize(
    ("line", "sent", "to_all"),
    [
        pytest.param(
            "sweep --notebook 05_regularisation --jobs 1", signal.SIGTERM, False, id="1 job, SIGTERM"
        ),
        pytest.param("sweep --notebook 05_regularisation --jobs 2", signal.SIGINT, True, id="2 jobs, Ctrl-C"),
        pytest.param("notebook 05_regularisation --jobs 2", signal.SIGTERM, False, id="notebook, SIGTERM"),
    ],
)
def test_an_interrupted_command_ends_at_once_and_says_how_to_go_on(
    line: str, sent: signal.Signals, to_all: bool, tmp_path: Path
) -> None:
    process = started(run_shell, line, tmp_path)
    soon(lambda: training(tmp_path / "store"))
    offspring = psutil.Process(process.pid).children(recursive=True)
    (os.killpg if to_all else os.kill)(process.pid, sent)
    process.join(30)  # two seconds, where the machine has nothing else to do
    said = (tmp_path / "stderr").read_text()
    assert process.exitcode == 1 and said.count("\n") == 1, said
    assert "interrupted" in said and "kept in store" in said and "same command" in said
    soon(lambda: not any(map(alive, offspring)))


def test_an_interrupted_training_says_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("lra_companion.chunks.run_group", interrupt)
    monkeypatch.setattr(os, "_exit", sys.exit)
    for option, words in (([], "nothing is kept"), (["--results", str(tmp_path)], str(tmp_path))):
        monkeypatch.setattr(sys, "argv", ["lra-companion", "train", "--task", "adding", *option])
        with pytest.raises(SystemExit, match="1"):
            cli.main()
        said = capsys.readouterr().err
        assert "interrupted" in said and words in said and said.count("\n") == 1
    assert unfinished_files(tmp_path) == []


# Workers


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def workers_of(process: Any) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("popen_loky" in word for word in child.cmdline())
    ]


def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    configs = [slow(1), slow(2), slow(3, task="adding")]
    process = started(train_into, tmp_path, configs, 30.0, 2)
    soon(lambda: training(tmp_path))
    workers_of(process)[0].kill()
    process.join(300)
    assert process.exitcode == 0
    store = ResultStore(tmp_path)
    for config in configs:
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))
    assert unfinished_files(tmp_path) == []


def test_a_killed_process_is_replaced_and_takes_no_other_task_along() -> None:
    harmless, deadly = signal.SIGCHLD, signal.SIGKILL
    tasks = [(harmless,), (deadly,), (harmless,), (harmless,)]
    answers = dict(workers.each(signal.raise_signal, tasks, 2))
    assert [type(answers[place]) for place in range(4)] == [type(None), KilledError, type(None), type(None)]


def test_an_interruption_waits_until_a_process_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no longer: nothing is waited for, and the process is ended."""
    steps = []

    class Pool:
        def submit(self, *_: Any) -> Future[Any]:
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("started")
            return Future()  # never done

        def shutdown(self, **_: Any) -> None:
            steps.append("ended")

    monkeypatch.setattr(workers, "_process", Pool)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(workers.each(print, [()], 2))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["started", "ended"]


def test_workers_do_not_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    endless = [
        run_config(seed=seed, task=task, max_iterations=10**6, patience=10**6)
        for seed in (1, 2)
        for task in ("adding", "temporal_order")
    ]
    process = started(train_into, tmp_path, endless, 30.0, 2)
    soon(lambda: training(tmp_path))
    left = workers_of(process)
    process.kill()
    assert len(left) == 2
    soon(lambda: not any(map(alive, left)), 10)
    assert not training(tmp_path)


def test_a_run_that_has_its_process_killed_is_listed_and_all_others_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[tuple[int, int]] = []

    def each(function: Callable[..., Any], tasks: list[Any], jobs: int) -> Iterator[tuple[int, Any]]:
        """``workers.each`` in this process, which would not survive the thirteenth seed, nor the fourteenth at first."""
        rounds.append((jobs, len(tasks)))
        deadly = {13, 14} if len(rounds) < 3 else {13}
        for place, task in enumerate(tasks):
            seeds = {config.seed for config in task[0]}
            yield place, KilledError() if seeds & deadly else function(*task)

    monkeypatch.setattr(workers, "each", each)
    configs = [run_config("lra", seed) for seed in (12, 13, 14, 15)] + [run_config("bptt")]
    store = ResultStore(tmp_path)
    with pytest.raises(SweepError, match=r"1 of 5 runs.*killed") as caught:
        train_many(configs, store, jobs=2)
    assert set(caught.value.failures) == {configs[1].key()}
    assert "killed" in str(Unfinished(store).failure(configs[1]))
    assert rounds[0][0] == 2 and rounds[2] == (1, 2), "at last alone"
    for config in (*configs[:1], *configs[2:]):
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))


# Failures are listed


def failing(*seeds: int) -> Callable[..., Any]:
    """A ``run_group`` that cannot do runs with these seeds."""

    def one_that_fails(configs: list[RunConfig], **how: Any) -> Any:
        if any(config.seed in seeds for config in configs):
            raise ArithmeticError("out of sorts")
        return run_group(configs, **how)

    return one_that_fails


def test_a_failure_is_recorded_and_forgotten_when_the_run_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, configs = ResultStore(tmp_path), [run_config(seed=seed) for seed in (1, 2, 3)]
    with monkeypatch.context() as patch:
        patch.setattr("lra_companion.chunks.run_group", failing(2))
        with pytest.raises(SweepError, match="out of sorts"):
            train_many(configs, store)
    found = [Unfinished(store).failure(config) for config in configs]
    assert found == [None, "ArithmeticError: out of sorts", None]
    train_many(configs, store)
    assert Unfinished(store).failure(configs[1]) is None
    assert unfinished_files(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"{}", b"\xff\x00", b'{"config": {}}'])
def test_a_damaged_record_of_a_failure_is_none(content: bytes, tmp_path: Path) -> None:
    config = run_config()
    file = tmp_path / FOLDER / f"{config.key()}.failed"
    file.parent.mkdir()
    file.write_bytes(content)
    assert Unfinished(ResultStore(tmp_path)).failure(config) is None


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lra-companion", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return 0 if caught.value.code is None else int(caught.value.code)


TWO_CHAPTERS = {
    "01_tasks": [run_config(seed=seed) for seed in (1, 2)],
    "03_clipping": [run_config("lra", seed=seed) for seed in (3, 4)]
    + [run_config("readout", task="adding", rate=1e39)],
}


class Chapter:
    """Parameters of a chapter with runs of a few milliseconds."""

    def __init__(self, name: str) -> None:
        self.name = name

    def runs(self) -> list[RunConfig]:
        return TWO_CHAPTERS[self.name]


@pytest.fixture
def small_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A profile of two chapters, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(profiles, "profile_parameters", lambda _: {name: {} for name in TWO_CHAPTERS})
    monkeypatch.setattr(profiles, "parameters_of", lambda name, *_: Chapter(name))
    monkeypatch.setattr(profiles, "NOTEBOOKS", dict.fromkeys(TWO_CHAPTERS))


def test_a_sweep_goes_on_after_a_failure_and_lists_it_at_the_end(
    small_profile: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lra_companion.chunks.run_group", failing(2, 3))
        assert run_command(patch, "sweep", "--results", "store", "--jobs", "1") == 1
    lines = capsys.readouterr().err.splitlines()
    bad, worse = TWO_CHAPTERS["01_tasks"][1], TWO_CHAPTERS["03_clipping"][0]
    diverged = TWO_CHAPTERS["03_clipping"][2]
    assert len(lines) == 4 and lines[-1].startswith("lra-companion: 2 runs failed")
    for line, config in zip(lines, (bad, worse, diverged), strict=False):
        assert config.key() in line and json.dumps(config.task.name) in line
    assert all("ArithmeticError: out of sorts" in line for line in lines[:2])
    assert lines[2].startswith("diverged")
    assert len(list(ResultStore("store").load_all())) == 3
    assert run_command(monkeypatch, "sweep", "--results", "store", "--jobs", "1") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and diverged.key() in lines[0], "that a run diverges is its result, and no failure"


def test_a_sweep_on_a_full_disk_lists_what_it_could_not_keep(
    small_profile: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert run_command(patch, "sweep", "--results", "store", "--jobs", "1") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and all("No space left" in line for line in lines[:-1])
    assert lines[-1].startswith("lra-companion: 5 runs failed")
    assert list(ResultStore("store").load_all()) == [] and unfinished_files(Path("store")) == []
    assert run_command(monkeypatch, "sweep", "--results", "store", "--jobs", "1") == 0


def test_a_damaged_result_is_named_and_its_run_done_again(
    small_profile: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TWO_CHAPTERS["01_tasks"][0]
    store = ResultStore("store")
    store.put(train(config))
    file = Path("store", f"{config.key()}.json")
    file.write_text(file.read_text().replace('"iterations":6', '"iterations":5'))
    assert run_command(monkeypatch, "sweep", "--results", "store", "--jobs", "1") == 0
    assert f"damaged: store/{config.key()}.damaged" in capsys.readouterr().err
    result = store.get(config)
    assert result is not None and outcome(result) == outcome(train(config))


def test_the_book_is_built_without_a_notebook_that_fails(
    small_profile: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[bool] = []

    def run_notebook(name: str, *arguments: Any) -> Path:
        if name == "01_tasks":
            raise NotebookFailedError("01_tasks: SweepError: 1 of 2 runs failed in /some/where", "SweepError")
        return Path(f"{name}.ipynb")

    monkeypatch.setattr(notebooks, "run_notebook", run_notebook)
    monkeypatch.setattr(notebooks, "build_site", lambda _, complete: built.append(complete))
    Unfinished(ResultStore("store")).fail(TWO_CHAPTERS["01_tasks"][0], "ArithmeticError: out of sorts")
    assert run_command(monkeypatch, "reproduce", "--results", "store", "--build", "site", "--jobs", "1") == 1
    assert built == [False]
    told = capsys.readouterr().err
    assert "failed: 01_tasks: SweepError: 1 of 2 runs failed" in told and "out of sorts" in told
    assert told.splitlines()[-1].startswith("lra-companion: 1 run and 1 notebook failed")
    page = nbformat.read("site/notebooks/01_tasks.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in page.cells)
    title = nbformat.read(profiles.BOOK / "notebooks" / "01_tasks.ipynb", as_version=4).cells[0].source
    assert text.startswith(title.splitlines()[0]) and "SweepError" in text and "/some" not in text
    assert [file.name for file in Path("site/notebooks").iterdir()] == ["01_tasks.ipynb"]


def test_the_note_on_a_page_that_could_not_be_made_is_seen_in_the_site(tmp_path: Path) -> None:
    name = "05_regularisation"
    notebooks.copy_book(tmp_path)
    notebooks.write_excuse(
        name, NotebookFailedError(f"{name}: ValueError: no", "ValueError"), tmp_path / "notebooks"
    )
    (tmp_path / "_toc.yml").write_text(f"format: jb-book\nroot: start\nchapters:\n- file: notebooks/{name}\n")
    pointing = f"{{glue:text}}`notebooks/{name}.ipynb::regularisation_finding:s` and [figure](fig-accuracy)"
    (tmp_path / "start.md").write_text(f"# Start\n\n{pointing}\n")
    page = notebooks.build_site(tmp_path, complete=False).with_name("notebooks") / f"{name}.html"
    html = page.read_text(encoding="utf-8")
    assert "could not be made" in html and re.search(r'class="[^"]*\badmonition\b', html)


def test_a_kernel_that_dies_is_a_failed_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = nbformat.read(profiles.BOOK / "notebooks" / "01_tasks.ipynb", as_version=4)
    source.cells[2:] = [nbformat.v4.new_code_cell("import os\nos.kill(os.getpid(), 9)")]
    (tmp_path / "book" / "notebooks").mkdir(parents=True)
    nbformat.write(source, tmp_path / "book" / "notebooks" / "01_tasks.ipynb")
    monkeypatch.setattr(notebooks, "BOOK", tmp_path / "book")
    with pytest.raises(NotebookFailedError, match=r"01_tasks: DeadKernelError") as caught:
        notebooks.run_notebook("01_tasks", "smoke", {}, tmp_path / "out", tmp_path / "store", 1)
    assert caught.value.kind == "DeadKernelError"
    assert list((tmp_path / "out").iterdir()) == []
