"""The documents that steps, servers and devices hand to each other: frozen, typed, each with a format version.

A document is a JSON object whose `format` is `fededge-<kind>-<version>`. Whoever needs one reads it with
`read`, `from_bytes` or `from_content` of its class here, and nobody types its fields again.
docs/formats.md lists them all.
"""

from fededge.documents.base import Document, Part
from fededge.documents.data import (
    CalibrationRanges,
    ClientCounts,
    Feature,
    Label,
    Population,
    Schema,
    Selection,
    TensorRange,
)
from fededge.documents.delivery import (
    Champion,
    Endpoint,
    EndpointCheck,
    GateDecision,
    Measurement,
    ModelVersion,
    PublishedVariant,
    TransportCheck,
    VariantFile,
)
from fededge.documents.fleet import (
    DeviceReport,
    Release,
    check_model,
    release_url,
    reports_url,
)
from fededge.documents.learning import (
    ClassScore,
    ClientScore,
    Evaluation,
    Pass,
    RoundRecord,
    Rounds,
    Score,
)
from fededge.documents.run import Ending, StepRecord

__all__ = [
    "CalibrationRanges",
    "Champion",
    "ClassScore",
    "ClientCounts",
    "ClientScore",
    "DeviceReport",
    "Document",
    "Ending",
    "Endpoint",
    "EndpointCheck",
    "Evaluation",
    "Feature",
    "GateDecision",
    "Label",
    "Measurement",
    "ModelVersion",
    "Part",
    "Pass",
    "Population",
    "PublishedVariant",
    "Release",
    "RoundRecord",
    "Rounds",
    "Schema",
    "Score",
    "Selection",
    "StepRecord",
    "TensorRange",
    "TransportCheck",
    "VariantFile",
    "check_model",
    "release_url",
    "reports_url",
]
