"""Training on a real Dask cluster on the loopback address: the same results, whatever becomes of workers and scheduler."""

import contextlib
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_of_two import LocalCluster, deadly, slow, wait_for
from lra_companion import cli, cluster, places
from lra_companion.cluster import WorkersError, connect
from lra_companion.config import RunConfig
from lra_companion.store import ResultStore
from lra_companion.sweep import SweepError, train_many
from runs import outcome, run_config, watched

distributed = pytest.importorskip("distributed", reason="needs the extra cluster")

MIXED = [
    *(run_config("lra", seed=seed) for seed in range(3)),
    *(run_config("bptt", seed=seed, length=12) for seed in range(3)),
    run_config("readout", task="adding"),
    run_config("lra_omega", rate=1e39),
    run_config("tptt"),
]
LONG = [run_config("lra_omega", seed=seed, max_iterations=700, patience=1000) for seed in range(4)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A scheduler with two workers, for tests that leave them well."""
    running = LocalCluster(tmp_path_factory.mktemp("cluster"))
    for name in ("one", "two"):
        running.worker(name)
    yield with_workers(running, 2)
    running.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[LocalCluster]:
    """A scheduler without workers."""
    running = LocalCluster(tmp_path)
    yield running
    running.close()


def client(address: str) -> Any:
    return distributed.Client(address, set_as_default=False)


def with_workers(running: LocalCluster, count: int) -> LocalCluster:
    with client(running.address) as looking:
        looking.wait_for_workers(count, timeout=90)
    return running


def at_work(looking: Any) -> dict[str, Any]:
    """The address of each worker that has a task, by its name."""
    info = looking.scheduler_info(n_workers=-1)["workers"]
    busy = looking.processing()
    return {info[worker]["name"]: worker for worker in info if busy.get(worker)}


def test_results_equal_local_ones_bit_for_bit_and_are_stored_here(two: LocalCluster, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "store")
    found = train_many(MIXED, store, scheduler=two.address)
    assert [outcome(result) for result in found] == [outcome(result) for result in train_many(MIXED)]
    assert [outcome(store.get(config)) for config in MIXED] == [outcome(result) for result in found]
    assert not list(two.folder.rglob(f"{MIXED[0].key()}*")), "workers write no results"
    made_with = store.made_with(MIXED[0])
    assert made_with is not None and made_with["device"] == "cpu"
    trained = two.folder / "worker1" / "log"
    before = trained.stat().st_mtime_ns
    assert [outcome(each) for each in train_many(MIXED, store, scheduler="tcp://192.0.2.1:1")] == [
        outcome(result) for result in found
    ], "what is stored needs no cluster"
    assert trained.stat().st_mtime_ns == before


def test_a_worker_killed_in_mid_sweep_costs_nothing_but_time(fresh: LocalCluster, tmp_path: Path) -> None:
    workers = {name: fresh.worker(name) for name in ("one", "two")}
    with_workers(fresh, 2)
    killed: list[str] = []

    def kill() -> None:
        with client(fresh.address) as looking:
            wait_for(lambda: set(at_work(looking)) == {"one", "two"})
            workers["two"].kill()
            killed.append(wait_for(lambda: workers["two"].wait()) and "two")

    killer = threading.Thread(target=kill)
    killer.start()
    store = ResultStore(tmp_path / "store")
    found = train_many(LONG, store, scheduler=fresh.address)
    killer.join()
    assert killed == ["two"] and workers["one"].poll() is None
    assert [outcome(result) for result in found] == [outcome(result) for result in train_many(LONG)]
    assert {result.config.key() for result in store.load_all()} == {config.key() for config in LONG}


def test_a_chunk_that_takes_its_workers_down_is_an_error_and_the_rest_goes_on(fresh: LocalCluster) -> None:
    for name in ("one", "two", "three"):
        fresh.worker(name)
    with_workers(fresh, 3)
    pieces = [[run_config(seed=seed)] for seed in (1, 13, 2, 3)]
    with connect(fresh.address, "cpu") as workers:
        answers = dict(workers.each(deadly, pieces))
    assert isinstance(answers.pop(1), distributed.KilledWorker)
    assert {place: answer[0] for place, answer in answers.items()} == {0: "done", 2: "done", 3: "done"}


def test_an_error_of_dask_fails_the_runs_of_its_chunk_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Workers:
        count, memory, device = 2, 1e12, "cpu"
        iterations = staticmethod(lambda: 0)

        def each(self, train: Any, pieces: Any) -> Iterator[Any]:
            yield 0, RuntimeError("four workers died")
            for place in range(1, len(pieces)):
                yield place, (train(pieces[place], None, cluster_counter(), "cpu"), {"method": 1})

    class cluster_counter:
        def add(self, count: int) -> None:
            pass

    monkeypatch.setattr(cluster, "connect", lambda *_: nothing_around(Workers()))
    configs = [run_config("bptt", seed=seed) for seed in range(2)]
    with pytest.raises(SweepError, match=r"1 of 2 runs failed.*four workers died") as caught:
        train_many(configs, scheduler="tcp://192.0.2.1:1")
    assert set(caught.value.failures) == {configs[0].key()}


class nothing_around:
    """A context that is what it was given."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def __enter__(self) -> Any:
        return self.inside

    def __exit__(self, *_: Any) -> None:
        pass


def test_workers_of_another_version_are_named_and_nothing_is_trained(
    fresh: LocalCluster, tmp_path: Path
) -> None:
    fresh.worker("same")
    fresh.worker("other", method=99)
    with_workers(fresh, 2)
    with client(fresh.address) as looking:
        info = looking.scheduler_info(n_workers=-1)["workers"]
    (other,) = (address for address in info if info[address]["name"] == "other")
    with pytest.raises(WorkersError) as caught:
        train_many(MIXED, ResultStore(tmp_path / "store"), scheduler=fresh.address)
    assert str(caught.value) == f"scheduler = '{fresh.address}': {other} has method 99 (here 1)"
    assert not (tmp_path / "store").exists()


def test_a_late_worker_of_another_version_ends_the_sweep(two: LocalCluster) -> None:
    with connect(two.address, "cpu") as workers:
        workers._expected["torch"] = "1.0"
        with pytest.raises(WorkersError, match=r"tcp://127\.0\.0\.1:\d+ has torch .* \(here 1\.0\)"):
            list(workers.each(deadly, [[MIXED[0]]]))


def test_workers_with_several_threads_are_refused(fresh: LocalCluster) -> None:
    fresh.worker("wide", "--nthreads", "2")
    with_workers(fresh, 1)
    with pytest.raises(WorkersError, match="has 2 threads, where one is needed"):
        train_many(MIXED, scheduler=fresh.address)


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_workers_without_the_device_are_named(two: LocalCluster) -> None:
    with pytest.raises(WorkersError, match=r"tcp://\S+ says device = 'cuda'.*; tcp://\S+ says device"):
        train_many(MIXED, scheduler=two.address, device="cuda")


def test_a_cluster_without_workers(fresh: LocalCluster) -> None:
    with pytest.raises(WorkersError, match=f"'{fresh.address}': has no workers"):
        train_many(MIXED, scheduler=fresh.address)


def test_a_lost_scheduler_ends_the_sweep_and_keeps_what_was_finished(
    fresh: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.worker("one")
    with_workers(fresh, 1)
    with connect(fresh.address, "cpu") as workers:
        arriving = workers.each(lambda piece, *_: piece[0].seed == 1 or slow(piece, *_), [[MIXED[1]], LONG])
        assert next(arriving)[0] == 0
        fresh.scheduler.kill()
        with pytest.raises(ConnectionError, match="lost; finished runs are kept"):
            next(arriving)


def test_all_workers_gone_for_long_ends_the_sweep(
    fresh: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_ALONE_SECONDS", 0.5)
    monkeypatch.setattr(cluster, "_REPORT_SECONDS", 0.2)
    only = fresh.worker("one")
    with_workers(fresh, 1)
    with connect(fresh.address, "cpu") as workers:
        only.kill()
        with pytest.raises(WorkersError, match="no workers left"):
            list(workers.each(slow, [LONG]))


def test_a_chunk_tells_how_far_it_is_and_stops_when_nobody_waits_for_it(
    two: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(two.address) as looking:
        with connect(two.address, "cpu") as workers:
            arriving = workers.each(slow, [LONG] * 5)

            def wait() -> None:
                with contextlib.suppress(ConnectionError):  # when the client closes
                    next(arriving)

            threading.Thread(target=wait, daemon=True).start()
            assert 0 < wait_for(workers.iterations) < 1200
            given = [len(tasks) for tasks in looking.processing().values()]
            assert given == [1, 1], "who dies with one chunk must not take others along"
        names = set(looking.run(lambda: None))
        assert len(names) == 2

        def running() -> int:
            return sum(
                looking.run(
                    lambda dask_worker: sum(
                        task.state in ("executing", "cancelled") for task in dask_worker.state.tasks.values()
                    )
                ).values()
            )

        wait_for(lambda: running() == 0)  # without being told it would go on for two minutes


# From the shell


def shell(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["lra-companion", *shlex.split(line)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
    return int(caught.value.code or 0)


@pytest.mark.slow
def test_a_notebook_trains_on_the_cluster_that_the_command_names(
    two: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def tasks_done() -> int:
        with client(two.address) as looking:
            return looking.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)

    before = tasks_done()
    code = shell(f"notebook 01_tasks --profile smoke --results store --scheduler {two.address}", monkeypatch)
    assert (code, capsys.readouterr().err) == (0, "")
    assert tasks_done() > before
    results = list(ResultStore("store").load_all())
    assert [outcome(each) for each in results] == [
        outcome(each) for each in train_many([each.config for each in results])
    ]
    assert two.address not in (tmp_path / "build" / "notebooks" / "01_tasks.ipynb").read_text()


def test_an_unreachable_scheduler_is_one_line_and_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    code = shell("sweep --profile smoke --notebook 01_tasks --scheduler tcp://127.0.0.1:1", monkeypatch)
    done = capsys.readouterr()
    assert code == 1 and done.err.count("\n") == 1
    assert "scheduler = 'tcp://127.0.0.1:1': cannot be reached" in done.err
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_option_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"scheduler = 'tcp://.*lra-companion\[cluster\]"):
        train_many([MIXED[0]], scheduler="tcp://127.0.0.1:1")


def test_progress_of_a_cluster_reaches_its_total(two: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    configs: list[RunConfig] = [run_config(rate=rate, max_iterations=40) for rate in (0.1, 1e39)]
    train_many(configs, scheduler=two.address)
    assert seen == [(80, 0), (80, 80)]


def test_the_environment_names_the_scheduler_where_no_argument_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(ConnectionError, match="cannot be reached"),
        places.trained_at(None, "tcp://127.0.0.1:1"),
    ):
        train_many(MIXED)
    assert places.scheduler_address() is None
