"""What goes wrong around training: two processes on one store, interruptions, killed workers, failing runs and notebooks."""

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from lra_companion import cli, notebooks, profiles, sweep
from lra_companion.config import RunConfig
from lra_companion.locks import acquire, release
from lra_companion.notebooks import NotebookFailedError
from lra_companion.store import ResultStore
from lra_companion.sweep import SweepError, train_many
from lra_companion.training import train
from lra_companion.unfinished import FOLDER, Unfinished
from processes import DEADLY_SEED, started, train_chunk_or_die, train_into
from runs import outcome, run_config

COMMAND = Path(sys.executable).with_name("lra-companion")


def soon(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)
    return found


def files(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / FOLDER).glob(f"*.{kind}"))


def all_free(folder: Path) -> bool:
    """Whether no process holds a lock."""
    for file in files(folder, "lock"):
        handle = acquire(file)
        if handle is None:
            return False
        os.close(handle)
    return True


def slow(seed: int, **fields: Any) -> RunConfig:
    """A run of about a second."""
    return run_config("lra_omega", seed, hidden=16, max_iterations=1000, validate_every=100, **fields)


# Locks


def test_one_holds_a_lock_and_the_next_gets_it(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "lock"
    handle = acquire(file)
    assert handle is not None and acquire(file) is None
    release(file, handle)
    assert not file.exists()
    handle = acquire(file)
    assert handle is not None
    release(file, handle)


def test_a_lock_on_a_file_that_was_removed_meanwhile_keeps_nobody_out_and_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real, calls = tmp_path / "lock", fcntl.flock, []

    def removed_just_before(handle: int, how: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            file.unlink()  # its holder was done
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", removed_just_before)
    handle = acquire(file)
    assert len(calls) == 2 and handle is not None
    monkeypatch.undo()
    assert acquire(file) is None


def test_a_file_system_without_locks_is_used_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    config = run_config()
    assert outcome(train_many([config], ResultStore(tmp_path))[0]) == outcome(train(config))


def test_a_store_that_cannot_be_written_stops_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    monkeypatch.setattr(sweep, "run_group", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(SweepError, match=FOLDER):
        train_many([run_config()], ResultStore(tmp_path))


def test_a_thousand_locks_leave_nothing_behind(tmp_path: Path) -> None:
    configs = [run_config(seed=seed) for seed in range(1000)]
    unfinished = Unfinished(ResultStore(tmp_path))
    for first in range(0, 1000, 32):
        with unfinished.claimed(configs[first : first + 32]) as mine:
            assert mine == configs[first : first + 32]
    assert not (tmp_path / FOLDER).exists()


# Two processes on one store


def trained(log: Path) -> dict[str, int]:
    """Keys of the runs that a process trained, each from which iteration on."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    assert len({key for key, _ in lines}) == len(lines), "none twice"
    return {key: int(iteration) for key, iteration in lines}


def test_two_processes_share_a_sweep_and_no_run_is_done_twice(tmp_path: Path) -> None:
    learners = ("lra", "bptt", "tptt", "readout", "lra_clip", "lra_omega")
    configs = [run_config(learner, seed, max_iterations=60) for learner in learners for seed in range(4)]
    logs = [tmp_path / "one", tmp_path / "other"]
    both = [
        started(train_into, tmp_path / "store", order, 0.01, 1, log)
        for order, log in zip((configs, configs[::-1]), logs, strict=True)
    ]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    one, other = map(trained, logs)
    assert not one.keys() & other.keys()
    assert one.keys() | other.keys() == {config.key() for config in configs}
    assert one and other, "the second had its share"
    store = ResultStore(tmp_path / "store")
    for config in configs:
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))
    assert [file.suffix for file in store.path.iterdir()] == [".json"] * len(configs)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Any]:
    """A process that trains slow runs into the store of ``tmp_path``, and holds their locks."""
    process = started(train_into, tmp_path / "store", [slow(1), slow(2)], 0.05, 1, tmp_path / "first")
    soon(lambda: len(files(tmp_path / "store", "safetensors")) == 2)
    yield process
    process.kill()
    process.join()


def test_what_another_process_trains_is_waited_for(tmp_path: Path, busy: Any) -> None:
    late = started(train_into, tmp_path / "store", [slow(1), slow(3), slow(2)], 0.05, 1, tmp_path / "second")
    late.join(60)
    busy.join(60)
    assert (busy.exitcode, late.exitcode) == (0, 0)
    assert trained(tmp_path / "second") == {slow(3).key(): 0}
    assert len(list(ResultStore(tmp_path / "store").load_all())) == 3


def test_what_a_killed_process_leaves_is_taken_over_from_its_checkpoint(tmp_path: Path, busy: Any) -> None:
    late = started(train_into, tmp_path / "store", [slow(1), slow(2)], 0.05, 1, tmp_path / "second")
    time.sleep(0.1)
    busy.kill()
    late.join(60)
    assert late.exitcode == 0
    taken = trained(tmp_path / "second")
    assert taken.keys() == {slow(1).key(), slow(2).key()} and min(taken.values()) > 0
    store = ResultStore(tmp_path / "store")
    for config in (slow(1), slow(2)):
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))
    assert not (store.path / FOLDER).exists()


# Ctrl-C and other signals


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        pytest.param("sweep --notebook 05_regularisation --jobs 1", signal.SIGINT, id="sweep, 1 job, Ctrl-C"),
        pytest.param(
            "sweep --notebook 05_regularisation --jobs 2", signal.SIGINT, id="sweep, 2 jobs, Ctrl-C"
        ),
        pytest.param("notebook 05_regularisation --jobs 2", signal.SIGTERM, id="notebook, 2 jobs, SIGTERM"),
    ],
)
def test_an_interrupted_command_ends_at_once_and_says_how_to_go_on(
    line: str, sent: signal.Signals, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    process = subprocess.Popen(
        [COMMAND, *line.split(), "--profile", "quick", "--results", store],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is heard by all processes of a terminal's foreground
    )
    soon(lambda: files(store, "lock"))
    time.sleep(0.3)
    os.killpg(process.pid, sent)
    _, said = process.communicate(timeout=30)  # two seconds, where nothing else is to be done
    assert process.returncode == 1 and said.count("\n") == 1, said
    assert "interrupted" in said and str(store) in said and "same command" in said
    soon(lambda: all_free(store), 5)  # and so no process trains on


def test_an_interrupted_training_says_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run_group", interrupt)
    for option, words in (([], "nothing is kept"), (["--results", str(tmp_path)], str(tmp_path))):
        monkeypatch.setattr(sys, "argv", ["lra-companion", "train", "--task", "adding", *option])
        with pytest.raises(SystemExit, match="1"):
            cli.main()
        said = capsys.readouterr().err
        assert "interrupted" in said and words in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Workers


def workers_of(process: Any) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("popen_loky" in word for word in child.cmdline())
    ]


def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    configs = [slow(seed) for seed in range(2)] + [slow(seed, task="adding") for seed in range(2)]
    process = started(train_into, tmp_path, configs, 30.0, 2)
    soon(lambda: len(files(tmp_path, "lock")) == 4)
    workers_of(process)[0].kill()
    process.join(60)
    assert process.exitcode == 0
    store = ResultStore(tmp_path)
    for config in configs:
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))
    assert not (tmp_path / FOLDER).exists()


def test_workers_do_not_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    endless = [
        run_config(seed=seed, task=task, max_iterations=10**6, patience=10**6)
        for seed in (1, 2)
        for task in ("adding", "temporal_order")
    ]
    process = started(train_into, tmp_path, endless, 30.0, 2)
    soon(lambda: len(files(tmp_path, "lock")) == 4)
    left = workers_of(process)
    process.kill()
    assert len(left) == 2
    soon(
        lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in left),
        10,
    )
    assert all_free(tmp_path)


def test_a_run_that_has_its_process_killed_is_listed_and_all_others_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_train_chunk", train_chunk_or_die)
    configs = [run_config(learner, seed) for learner in ("bptt", "lra") for seed in (DEADLY_SEED, 14, 15)]
    configs = configs[1:]  # of lra alone, in a chunk with others
    store = ResultStore(tmp_path)
    with pytest.raises(SweepError, match=r"1 of 5 runs.*killed") as caught:
        train_many(configs, store, jobs=2)
    (bad,) = (config for config in configs if config.seed == DEADLY_SEED)
    assert set(caught.value.failures) == {bad.key()}
    assert "killed" in str(Unfinished(store).failure(bad))
    for config in set(configs) - {bad}:
        result = store.get(config)
        assert result is not None and outcome(result) == outcome(train(config))


# Failures are listed


def failing(*seeds: int) -> Callable[..., Any]:
    """A ``run_group`` that cannot do runs with these seeds."""
    real = sweep.run_group

    def run_group(configs: list[RunConfig], **how: Any) -> Any:
        if any(config.seed in seeds for config in configs):
            raise ArithmeticError("out of sorts")
        return real(configs, **how)

    return run_group


def test_a_failure_is_recorded_and_forgotten_when_the_run_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, configs = ResultStore(tmp_path), [run_config(seed=seed) for seed in (1, 2, 3)]
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "run_group", failing(2))
        with pytest.raises(SweepError, match="out of sorts"):
            train_many(configs, store)
    found = [Unfinished(store).failure(config) for config in configs]
    assert found == [None, "ArithmeticError: out of sorts", None]
    train_many(configs, store)
    assert Unfinished(store).failure(configs[1]) is None
    assert not (tmp_path / FOLDER).exists()


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
        patch.setattr(sweep, "run_group", failing(2, 3))
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


def test_the_book_is_built_without_a_notebook_that_fails(
    small_profile: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[bool] = []

    def run_notebook(name: str, *arguments: Any) -> Path:
        if name == "01_tasks":
            raise NotebookFailedError("01_tasks: SweepError: 1 of 2 runs failed in /some/where", "SweepError")
        return Path(f"{name}.ipynb")

    monkeypatch.setattr(notebooks, "run_notebook", run_notebook)
    monkeypatch.setattr(notebooks, "build_site", lambda _, strict: built.append(strict))
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
    with pytest.raises(RuntimeError, match="jupyter-book failed"):
        notebooks.build_site(tmp_path)
    page = notebooks.build_site(tmp_path, strict=False).with_name("notebooks") / f"{name}.html"
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
