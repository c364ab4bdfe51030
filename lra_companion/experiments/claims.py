"""10_claims: the verdicts on the paper's claims."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from lra_companion.config import RunConfig
from lra_companion.experiments.base import NotebookParameters


class ClaimsParameters(NotebookParameters):
    """10_claims: what other chapters' stored runs say about each claim; nothing is trained.

    profiles: a chapter is judged under the first of them of which all its runs are stored, and not at all where there is
    none. results may be a store, or a folder that holds one for each profile.
    """

    chapter: ClassVar[str] = "10_claims"

    profiles: Annotated[list[str], Field(min_length=1)]

    def runs(self) -> list[RunConfig]:
        """None: the runs are those of the chapters that are judged."""
        return []
