"""Result files: there whole or not at all; whatever is wrong with one is noticed and never raises."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_companion import config as config_module
from lra_companion import store as store_module
from lra_companion.store import ResultStore
from lra_companion.training import train
from runs import outcome, run_config

RESULT = train(run_config("lra_omega", diagnostics=True))
DIVERGED = train(run_config("readout", task="adding", rate=1e39))


def file_of(store: ResultStore) -> Path:
    (file,) = store.path.glob("*.json")
    return file


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """A store that holds one result."""
    store = ResultStore(tmp_path / "deep" / "results")
    store.put(RESULT)
    return store


@pytest.mark.parametrize("result", [RESULT, DIVERGED], ids=["finished", "diverged"])
def test_round_trip(result: Any, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    assert result.config not in store and store.get(result.config) is None
    store.put(result)
    found = ResultStore(str(tmp_path)).get(result.config)
    assert found is not None and result.config in store
    assert outcome(found) == outcome(result)
    assert found.duration_seconds == result.duration_seconds
    assert found.parameters is None
    assert [outcome(each) for each in store.load_all()] == [outcome(result)]


def test_one_file_named_by_the_key_and_readable_as_json(store: ResultStore) -> None:
    assert [file.name for file in store.path.iterdir()] == [f"{RESULT.config.key()}.json"]
    content = json.loads(file_of(store).read_text(encoding="utf-8"))["content"]
    assert content["config"]["learner"]["regularisation_strength"] == 0.3
    assert content["status"] == "max_iterations"


def test_other_configs_are_not_found(store: ResultStore) -> None:
    assert run_config("lra_omega", diagnostics=True, seed=2) not in store
    assert run_config("lra_omega") not in store


def test_load_all_gives_every_result_in_the_order_of_keys(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    results = [train(run_config(seed=seed, max_iterations=1)) for seed in range(5)]
    for result in results:
        store.put(result)
    keys = [result.config.key() for result in store.load_all()]
    assert keys == sorted(result.config.key() for result in results) and len(keys) == 5


def test_an_absent_folder_is_an_empty_store(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "nowhere")
    assert store.get(RESULT.config) is None and list(store.load_all()) == []
    assert not (tmp_path / "nowhere").exists()


def test_putting_again_replaces(store: ResultStore) -> None:
    other = train(RESULT.config)
    other.duration_seconds = 123.0
    store.put(other)
    found = store.get(RESULT.config)
    assert found is not None and found.duration_seconds == 123.0
    assert len(list(store.path.iterdir())) == 1


# A write that fails


def disk_full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["fsync", "replace", "write"])
def test_a_failed_write_leaves_what_was_there(
    where: str, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_of(store).read_bytes()
    again = train(RESULT.config)
    again.duration_seconds = 99.0
    new = train(run_config(seed=77, max_iterations=1))
    for result in (again, new):
        with monkeypatch.context() as patch:
            if where == "fsync":
                patch.setattr(os, "fsync", disk_full)
            elif where == "replace":
                patch.setattr(os, "replace", disk_full)
                patch.setattr(Path, "replace", disk_full)
            else:
                real = os.fdopen

                def opened(*args: Any, real: Any = real, **kwargs: Any) -> Any:
                    file = real(*args, **kwargs)
                    half = file.write
                    file_write = lambda text: (half(text[: len(text) // 2]), file.flush(), disk_full())  # noqa: E731
                    return _Full(file, file_write)

                patch.setattr(os, "fdopen", opened)
            with pytest.raises(OSError, match="No space left"):
                store.put(result)
    assert [file.name for file in store.path.iterdir()] == [f"{RESULT.config.key()}.json"]
    assert file_of(store).read_bytes() == before
    assert new.config not in store


class _Full:
    """A file whose disk is full after half of what is written."""

    def __init__(self, file: Any, write: Any) -> None:
        self._file, self.write = file, write

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        ResultStore(tmp_path / "file").put(RESULT)
    with pytest.raises(OSError, match="file"):
        ResultStore(tmp_path / "file" / "below").put(RESULT)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_an_oserror(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OSError, match="denied"):
        ResultStore(tmp_path).put(RESULT)
    tmp_path.chmod(0o755)


# A file that is damaged


def altered(text: str, path: list[str], value: Any) -> str:
    """The document with one entry changed, its checksum left as it was."""
    document = json.loads(text)
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(document)


DAMAGE: dict[str, Any] = {
    "truncated": lambda text: text[: len(text) // 2],
    "last character lost": lambda text: text[:-1],
    "empty": lambda text: "",
    "foreign object": lambda text: '{"a": 1}',
    "foreign list": lambda text: "[1, 2]",
    "foreign number": lambda text: "7",
    "null": lambda text: "null",
    "not JSON": lambda text: "status: solved",
    "deep nesting": lambda text: "[" * 100_000,
    "huge number": lambda text: '{"format": ' + "9" * 5000 + "}",
    "other accuracy": lambda text: altered(text, ["content", "test_accuracy"], 1.0),
    "other status": lambda text: altered(text, ["content", "status"], "solved"),
    "other checksum": lambda text: altered(text, ["sha256"], "0" * 64),
    "other format": lambda text: altered(text, ["format"], 99),
    "other seed": lambda text: altered(text, ["content", "config", "seed"], 5),
    "no history": lambda text: altered(text, ["content", "history"], None),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_set_aside_and_counts_as_missing(damage: str, store: ResultStore) -> None:
    file = file_of(store)
    spoilt = DAMAGE[damage](file.read_text(encoding="utf-8"))
    file.write_text(spoilt, encoding="utf-8")
    assert RESULT.config not in store
    assert list(store.load_all()) == []
    assert [each.suffix for each in store.path.iterdir()] == [".damaged"]
    (aside,) = store.path.iterdir()
    assert aside.read_text(encoding="utf-8") == spoilt
    store.put(RESULT)  # its run is done again
    found = store.get(RESULT.config)
    assert found is not None and outcome(found) == outcome(RESULT)


def test_every_flipped_bit_is_noticed(store: ResultStore) -> None:
    file = file_of(store)
    sound = file.read_bytes()
    for position in range(0, len(sound), max(1, len(sound) // 150)):
        spoilt = bytearray(sound)
        spoilt[position] ^= 1 << (position % 7)
        file.write_bytes(bytes(spoilt))
        found = store.get(RESULT.config)
        # White space between tokens would be no damage, but there is none.
        if (
            found is not None
        ):  # 1E-5 is 1e-5, and another last digit may be the same float64: then nothing is damaged
            assert outcome(found) == outcome(RESULT)
            assert found.duration_seconds == RESULT.duration_seconds
        assert (found is None) != file.exists()


def test_bytes_that_are_no_text(store: ResultStore) -> None:
    file_of(store).write_bytes(b"\xff\xfe\x00\x81")
    assert store.get(RESULT.config) is None
    assert [each.suffix for each in store.path.iterdir()] == [".damaged"]


def test_a_renamed_file_is_damage(store: ResultStore) -> None:
    other = run_config(seed=9)
    file_of(store).rename(store.path / f"{other.key()}.json")
    assert store.get(other) is None
    assert list(store.load_all()) == [] and RESULT.config not in store
    assert [each.name for each in store.path.iterdir()] == [f"{other.key()}.damaged"]


def test_load_all_passes_over_damage(store: ResultStore) -> None:
    (store.path / "0000000000000000.json").write_text("{")
    (store.path / "ffffffffffffffff.json").write_text("[]")
    (store.path / "notes.txt").write_text("not ours")
    assert [outcome(result) for result in store.load_all()] == [outcome(RESULT)]
    assert (store.path / "notes.txt").read_text() == "not ours"


def test_damage_that_another_process_has_set_aside_meanwhile(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(store)
    real = Path.read_text

    def read_and_vanish(self: Path, *args: Any, **kwargs: Any) -> str:
        text = real(self, *args, **kwargs)
        self.unlink()  # what the other process's renaming looks like from here
        return text[:-5]

    monkeypatch.setattr(Path, "read_text", read_and_vanish)
    assert store.get(RESULT.config) is None
    assert not file.exists()


def test_a_result_of_another_method_is_ignored_and_kept(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [file.name for file in store.path.iterdir()]
    for module in (config_module, store_module):
        monkeypatch.setattr(module, "METHOD_VERSION", config_module.METHOD_VERSION + 1)
    assert RESULT.config not in store
    assert list(store.load_all()) == []
    assert [file.name for file in store.path.iterdir()] == names


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["format", "sha256", "content", "config", "made_with", "method", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=60), json_values.map(lambda value: json.dumps(value).encode())))
def test_no_content_whatever_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    store = ResultStore(tmp_path_factory.mktemp("store"))
    (store.path / f"{RESULT.config.key()}.json").write_bytes(content)
    (store.path / "other.json").write_bytes(content)
    assert store.get(RESULT.config) is None
    assert list(store.load_all()) == []
    assert sorted(file.name for file in store.path.iterdir()) == [
        f"{RESULT.config.key()}.damaged",
        "other.damaged",
    ]


@settings(max_examples=60)
@given(st.sampled_from(["status", "iterations", "history", "config", "made_with"]), json_values)
def test_nonsense_under_a_valid_checksum_never_raises(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    store = ResultStore(tmp_path_factory.mktemp("store"))
    store.put(RESULT)
    document = json.loads(file_of(store).read_text())
    content = document["content"] | {name: value}
    text = store_module._canonical(content)
    document |= {"content": content, "sha256": store_module._checksum(text)}
    file_of(store).write_text(json.dumps(document))
    store.get(RESULT.config)
    list(store.load_all())


def test_no_machine_path_in_a_result(store: ResultStore) -> None:
    text = file_of(store).read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|work|Users)\b", text)
    assert os.uname().nodename not in text
