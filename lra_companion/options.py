"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RESULTS = Path("build/results")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Profile = Annotated[str, typer.Option(help="Which parameters: a file of book/profiles (smoke, quick, ...).")]
Results = Annotated[Path, typer.Option(help="Folder of the result store.")]
Jobs = Annotated[int, typer.Option(help="Processes that share the training; 0: one per core.")]
