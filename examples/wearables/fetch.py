"""Write basic_motions.npz beside this file: movements that a watch measured, out of aeon's wheel, which is not installed.

.venvs/worker/bin/python examples/wearables/fetch.py
"""

import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from fededge.host.layout import VENVS

PACKAGE = "aeon==1.6.0"
FOLDER = "aeon/datasets/data/BasicMotions/"


def main() -> None:
    """Download the wheel with pip, and write x_train, y_train, x_test and y_test."""
    arrays: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        pip = [VENVS / "uv" / "bin" / "python", "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for part in ("train", "test"):
                text = archive.read(f"{FOLDER}BasicMotions_{part.upper()}.ts").decode()
                arrays[f"x_{part}"], arrays[f"y_{part}"] = read(text)
    np.savez_compressed(Path(__file__).with_name("basic_motions.npz"), **arrays)


def read(text: str) -> tuple[np.ndarray, np.ndarray]:
    """x float32 [n, steps, channels] and y int64 [n] of a .ts file: channels by colons, then the class."""
    names = next(line.split()[2:] for line in text.splitlines() if line.lower().startswith("@classlabel"))
    rows = text[text.lower().index("@data") :].splitlines()[1:]
    series, classes = [], []
    for row in filter(str.strip, rows):
        *channels, name = row.strip().split(":")
        series.append(np.array([[float(value) for value in channel.split(",")] for channel in channels]).T)
        classes.append(names.index(name))
    return np.array(series, np.float32), np.array(classes, np.int64)


if __name__ == "__main__":
    main()
