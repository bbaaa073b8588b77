"""Kinds of variant: what executes each, and how its file is called."""

from typing import Literal, get_args

Kind = Literal[
    "float32",
    "float16",
    "dynamic-int8",
    "int8",
    "onnx-float32",
    "onnx-dynamic-int8",
]
Runtime = Literal["litert", "onnx"]
TITLES = {"litert": "LiteRT", "onnx": "ONNX Runtime"}
MODEL_LIMIT = 256 << 20
"""Bytes of the largest model file."""
SUFFIXES = {"litert": "tflite", "onnx": "onnx"}


def runtime_of(kind: str) -> Runtime:
    """The runtime that executes variants of `kind`; all were LiteRT's before there were others."""
    return "onnx" if kind.startswith("onnx-") else "litert"


def kinds_of(runtime: Runtime) -> list[str]:
    """The kinds that `runtime` executes."""
    return [kind for kind in get_args(Kind) if runtime_of(kind) == runtime]


def file_name(kind: str) -> str:
    """Name of the file that holds a variant of `kind`, such as int8.tflite."""
    return f"{kind}.{SUFFIXES[runtime_of(kind)]}"
