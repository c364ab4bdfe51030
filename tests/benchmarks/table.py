"""The table of book/speed_table.txt from the measurements of `make bench`: python tests/benchmarks/table.py build/bench.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def table(measured: dict[str, Any]) -> str:
    """Markdown: one row per measurement, and what it was made with."""
    rows = [f"| {row['what']} | {row['measured']} | {row['target']} |" for row in measured["rows"]]
    made_with = ", ".join(f"{name} {value}" for name, value in measured["made_with"].items())
    return "\n".join(["| what | measured | aim |", "|---|---|---|", *rows, "", f"Made with {made_with}.", ""])


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
