"""The documents that steps, servers and devices hand to each other: frozen, typed, each with a format version.

A document is a JSON object whose `format` is `fededge-<kind>-<version>`. Whoever needs one reads it with
`read`, `from_bytes` or `from_content` of its class here, and nobody types its fields again.
docs/formats.md lists them all.
"""

from fededge.documents.base import Document, Part
from fededge.documents.data import (
    CalibrationRanges,
    ClientCounts,
    Elsewhere,
    Feature,
    HeldOut,
    Label,
    Population,
    Schema,
    Selection,
    TensorRange,
)
from fededge.documents.delivery import (
    Champion,
    Comparison,
    Endpoint,
    EndpointCheck,
    GateDecision,
    Measurement,
    ModelVersion,
    PublishedVariant,
    Rollback,
    TransportCheck,
    VariantFile,
)
from fededge.documents.fleet import (
    DeviceReport,
    DeviceReports,
    Release,
    check_model,
    read_reports,
    release_url,
    reports_url,
)
from fededge.documents.functions import FunctionOrder
from fededge.documents.images import ImageDigests
from fededge.documents.inspection import Bar, ColumnFinding, Finding, Inspection
from fededge.documents.learning import (
    Alone,
    ClassScore,
    ClientScore,
    Dropout,
    Evaluation,
    ExampleErrors,
    LiteRTProgram,
    Pass,
    Plan,
    Quantile,
    RoundRecord,
    Rounds,
    Score,
    Variable,
)
from fededge.documents.program import PROGRAM, ProgramBundle, ProgramRelease
from fededge.documents.replicas import ReplicaOrder, ReplicaReport, Shards
from fededge.documents.run import Ending, RunRecord, StepOutcome, StepRecord, Steps

__all__ = [
    "PROGRAM",
    "Alone",
    "Bar",
    "CalibrationRanges",
    "Champion",
    "ClassScore",
    "ClientCounts",
    "ClientScore",
    "ColumnFinding",
    "Comparison",
    "DeviceReport",
    "DeviceReports",
    "Document",
    "Dropout",
    "Elsewhere",
    "Ending",
    "Endpoint",
    "EndpointCheck",
    "Evaluation",
    "ExampleErrors",
    "Feature",
    "Finding",
    "FunctionOrder",
    "GateDecision",
    "HeldOut",
    "ImageDigests",
    "Inspection",
    "Label",
    "LiteRTProgram",
    "Measurement",
    "ModelVersion",
    "Part",
    "Pass",
    "Plan",
    "Population",
    "ProgramBundle",
    "ProgramRelease",
    "PublishedVariant",
    "Quantile",
    "Release",
    "ReplicaOrder",
    "ReplicaReport",
    "Rollback",
    "RoundRecord",
    "Rounds",
    "RunRecord",
    "Schema",
    "Score",
    "Selection",
    "Shards",
    "StepOutcome",
    "StepRecord",
    "Steps",
    "TensorRange",
    "TransportCheck",
    "Variable",
    "VariantFile",
    "check_model",
    "read_reports",
    "release_url",
    "reports_url",
]
