"""The table of the book's status page: under which profile each notebook was made, from what, and how long it ran."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lra_companion import profiles
from lra_companion.reporting import core_hours
from lra_companion.store import ResultStore

TABLE = "status_table.txt"
"""The file in a book's folder that the page includes."""


def status_table(chapters: Mapping[str, tuple[str, Path]], seconds: Mapping[str, float]) -> str:
    """Markdown, one row per notebook. chapters: each one's profile and folder of results; seconds: how long each ran, without
    those that did not get to their end.
    """
    rows = [
        "| notebook | profile | runs shown | their training, core-hours | run time |",
        "|---|---|---|---|---|",
    ]
    for name, (profile, results) in chapters.items():
        runs = profiles.parameters_of(name, profile, {}, ".", 1).runs()
        store = ResultStore(results)
        stored = [result for result in map(store.get, runs) if result is not None]
        cells = [
            f"{{doc}}`notebooks/{name}`",
            profile,
            f"{len(stored)} of {len(runs)}" if runs else "those of other notebooks",
            f"{core_hours(stored):.2g}" if runs else "",
            f"{seconds[name]:.0f} s" if name in seconds else "failed",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", "A run that several notebooks show is counted in each.", ""])
