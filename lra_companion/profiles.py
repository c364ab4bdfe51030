"""Profiles: the parameters of each notebook, the runs they ask for, and which of those are stored.

A profile is a file of book/profiles; its tuned settings, where it has any, stand in the file of book/settings of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lra_companion.config import RunConfig, parse
from lra_companion.experiments import (
    NOTEBOOKS,
    ComparisonParameters,
    NotebookParameters,
    TunedSettings,
    TuningPlan,
    UntunedError,
    did_you_mean,
)
from lra_companion.fidelity import MEASURED_FOLDER
from lra_companion.store import ResultStore

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PROFILES = BOOK / "profiles"
SETTINGS = BOOK / "settings"  # of each profile, as ``lra-companion tune`` leaves them
PUBLISHED_PROFILES = ("paper", "quick")  # the better one first

# Parameters that say where and how, not what: never part of a profile.
_PLACE = ("results", "jobs", "profile", "device", "scheduler")
_TUNING = "tuning"  # what a profile holds beside notebooks


def profile_parameters(profile: str) -> dict[str, dict[str, Any]]:
    """Parameters of each notebook under a profile, in the order of the book. Raises ValueError for an unknown profile,
    notebook, name or value.
    """
    document = _profile(profile)
    document.pop(_TUNING, None)
    for name, values in document.items():
        if not isinstance(values, dict):
            raise ValueError(f"profile {profile}: {name} = {values!r}: must map parameters to values")
        if name not in NOTEBOOKS:
            raise ValueError(f"profile {profile}: {name} is no notebook{did_you_mean(name, NOTEBOOKS)}")
    return {name: document[name] for name in NOTEBOOKS if name in document}


def tuning_plan(profile: str) -> TuningPlan:
    """How a profile's settings are searched. Raises ValueError."""
    plan = _profile(profile).get(_TUNING)
    if not isinstance(plan, dict):
        raise ValueError(f"profile {profile}: {_TUNING} = {plan!r}: must say how settings are searched")
    return parse(TuningPlan, plan)


def _profile(profile: str) -> dict[str, Any]:
    profiles = sorted(file.stem for file in PROFILES.glob("*.yaml"))
    if profile not in profiles:
        raise ValueError(f"profile = {profile!r}: unknown{did_you_mean(profile, profiles)}")
    document = read_yaml(f"profile {profile}", (PROFILES / f"{profile}.yaml").read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(
            f"profile {profile} = {str(document)[:60]!r}: must map notebooks to their parameters"
        )
    return document


def read_settings(file: Path) -> list[TunedSettings]:
    """The rows of a file of tuned settings; none where there is no file. Raises ValueError."""
    if not file.exists():
        return []
    rows = read_yaml(file.name, file.read_text(encoding="utf-8")) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file.name} = {str(rows)[:60]!r}: must be a list of settings")
    return [parse(TunedSettings, row) for row in rows]


def parameters_of(
    name: str, profile: str, changes: Mapping[str, Any], results: str, jobs: int
) -> NotebookParameters:
    """Checked parameters of a notebook: the profile's, with changes, and of its tuned settings those that are needed.

    Raises ValueError; UntunedError where settings have still to be searched.
    """
    kind, values = _values(name, profile, changes, results, jobs)
    if issubclass(kind, ComparisonParameters) and "settings" not in values:
        needs = set(kind.untuned(values | {"settings": []}).needs())
        rows = [row for row in read_settings(SETTINGS / f"{profile}.yaml") if row.place in needs]
        values["settings"] = [row.model_dump(exclude_none=True) for row in rows]
    return kind.checked(values)


def comparisons(profile: str) -> list[ComparisonParameters]:
    """Parameters of a profile's comparisons, whether or not their settings have been searched."""
    found = []
    for name in profile_parameters(profile):
        kind, values = _values(name, profile, {}, ".", 1)
        if issubclass(kind, ComparisonParameters):
            found.append(kind.untuned(values | {"settings": []}))
    return found


def _values(
    name: str, profile: str, changes: Mapping[str, Any], results: str, jobs: int
) -> tuple[type[NotebookParameters], dict[str, Any]]:
    if name not in NOTEBOOKS:
        raise ValueError(f"notebook = {name!r}: unknown{did_you_mean(name, NOTEBOOKS)}")
    for place in _PLACE:
        if place in changes:
            raise ValueError(f"{place} = {changes[place]!r}: is an option of the command, not a parameter")
    given = profile_parameters(profile)
    if name not in given:
        raise ValueError(f"profile {profile}: has no parameters for {name}, only for {', '.join(given)}")
    place = {"profile": profile, "results": results, "jobs": jobs}
    return NOTEBOOKS[name], given[name] | dict(changes) | place


class _YamlLoader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as everybody expects, and not a string, as YAML 1.1 has it."""


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(name: str, text: str) -> Any:
    """The value of a YAML text. Raises ValueError naming ``name``."""
    try:
        return yaml.load(text, Loader=_YamlLoader)  # a SafeLoader: it builds plain values only
    except yaml.YAMLError:
        raise ValueError(f"{name} = {text[:60]!r}: is not YAML") from None


def profile_runs(profile: str) -> dict[str, list[RunConfig]]:
    """The runs each notebook of a profile shows."""
    return {name: parameters_of(name, profile, {}, ".", 1).runs() for name in profile_parameters(profile)}


def missing_runs(profile: str, store: ResultStore, chapters: Iterable[str] | None = None) -> list[RunConfig]:
    """Runs of a profile, or of some of its chapters, that the store does not hold, each once; also those that it holds and that
    were to be measured.
    """
    wanted: dict[str, RunConfig] = {}
    closer: set[str] = set()
    for name in profile_parameters(profile) if chapters is None else chapters:
        parameters = parameters_of(name, profile, {}, ".", 1)
        wanted |= {run.key(): run for run in parameters.runs()}
        closer |= {run.key() for run in parameters.measured_runs()}
    measured = ResultStore(store.path / MEASURED_FOLDER)
    return [run for key, run in wanted.items() if run not in store or (key in closer and run not in measured)]


def published_profile(name: str, published: Path) -> str:
    """The profile under which the published book shows a notebook: the first whose runs are all stored, under its name.

    Raises RuntimeError where there is none.
    """
    missing, profile = 0, ""
    for profile in PUBLISHED_PROFILES:
        if name not in profile_parameters(profile):
            continue
        try:
            missing = len(missing_runs(profile, ResultStore(published / profile), [name]))
        except UntunedError:
            continue
        if not missing:
            return profile
    raise RuntimeError(
        f"{missing} runs of {name} are not in {published / profile}; make them with: "
        f"lra-companion notebook {name} --profile {profile} --results {published / profile}"
    )
