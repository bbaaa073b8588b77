"""What a part measured, as a JSON file that the page is made of, with the conditions it was measured under."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(folder: Path, part: str, rows: Sequence[dict[str, Any]], **told: Any) -> None:
    """Write `folder`/<part>.json: rows, what else is told, and the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    machine = {"processor": model, "processors": os.cpu_count(), "load": round(os.getloadavg()[1], 1)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").write_text(json.dumps({**told, **machine, "rows": list(rows)}, indent=1) + "\n")


def read(folder: Path, part: str) -> dict[str, Any] | None:
    """What `write` wrote; None where the part was not measured."""
    file = folder / f"{part}.json"
    return json.loads(file.read_text()) if file.exists() else None
