"""What every benchmark does with its rows: a plain table, and a JSON file beside the scripts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """`rows` as an aligned text table, columns in the order of the first row."""
    columns = list(rows[0])
    cells = [columns, *[[str(row[column]) for column in columns] for row in rows]]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    )


def save(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write `rows` to benchmarks/results/<name>.json, and say so."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(list(rows), indent=1) + "\n")
    return f"wrote {path}"
