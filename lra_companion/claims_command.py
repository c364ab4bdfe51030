"""The command ``claims``: the verdicts on the paper's claims, from stored results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lra_companion import profiles
from lra_companion.claims import CLAIMS, Judgement
from lra_companion.findings.claims import Source, claims_caution, claims_origin, judged, verdict_rows
from lra_companion.judging import document, sources
from lra_companion.options import AsJson, folder_to_read

_WIDTH = 200  # of the table where no terminal says how wide it is
_COLUMNS = (
    "claim",
    "method",
    "verdict",
    "where",
    "estimate",
    "says",
    "must lie",
    "seeds",
    "chapter",
    "profile",
)
_OF_A_VERDICT = ("claim", "method", "verdict", "must lie", "chapter", "profile")  # not repeated beneath it


def claims(
    results: Annotated[
        Path,
        typer.Option(
            help="A result store, or a folder that holds one for each profile.",
            show_default="book/results",
            callback=folder_to_read,
        ),
    ] = profiles.BOOK / "results",
    profile: Annotated[
        str | None,
        typer.Option(
            help="Judge by this profile's runs alone; default: by those that the published book shows."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge the paper's claims from stored results, training nothing.

    Each chapter is judged under the first profile of which all its runs are stored: paper, else quick, unless one is named.
    """
    judged_by = sources(results, profiles.PUBLISHED_PROFILES if profile is None else [profile])
    found = judged(judged_by)
    if as_json:
        print(json.dumps(document(found, judged_by), allow_nan=False))
    else:
        _print_table(found, judged_by)


def _print_table(found: Sequence[Judgement], judged_by: Sequence[Source]) -> None:
    table = Table(*_COLUMNS)
    before: tuple[str, ...] = ()
    for row in verdict_rows(found, judged_by):
        verdict = tuple(row[name] for name in _OF_A_VERDICT)
        if verdict == before:
            row |= dict.fromkeys(_OF_A_VERDICT, "")
        elif before and verdict[0] != before[0]:
            table.add_section()
        before = verdict
        table.add_row(*(row[name] for name in _COLUMNS))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    console.print(table)
    for claim in CLAIMS:
        print(f"{claim.number:>2}  {claim.statement}\n    By: {claim.quantity}.")
    print(f"\n{claims_caution(found, judged_by)}\n{claims_origin(judged_by)}")
