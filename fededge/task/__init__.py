"""FederatedTask: the one typed, validated description of a learning task, a module a section.

A task is a YAML file. `load` reads and validates it; every mistake names its path in the file and
its line. `json_schema` is what editors use to complete it.
"""

from fededge.task.card import Card
from fededge.task.data import (
    Column,
    CsvData,
    Data,
    DigitsData,
    FileData,
    FleetData,
    FoldersData,
    FunctionData,
    HuggingFaceData,
    ImagesData,
    KerasData,
    KerasMnist,
    LocalData,
    NpyData,
    ParquetData,
    SklearnData,
    Split,
    SyntheticData,
    Table,
)
from fededge.task.delivery import (
    Autoscale,
    Compare,
    DeviceClass,
    Endpoint,
    Evaluation,
    Gate,
    Prometheus,
    Resources,
    Variant,
)
from fededge.task.federated_task import FederatedTask, json_schema
from fededge.task.learning import ClientOptimizer, Cohort, Learning, Privacy, ServerOptimizer
from fededge.task.model import Model
from fededge.task.operation import Operation, Prices
from fededge.task.partition import Partition
from fededge.task.reading import load, load_cluster_settings, parse
from fededge.task.steps import ClusterSettings

__all__ = [
    "Autoscale",
    "Card",
    "ClientOptimizer",
    "ClusterSettings",
    "Cohort",
    "Column",
    "Compare",
    "CsvData",
    "Data",
    "DeviceClass",
    "DigitsData",
    "Endpoint",
    "Evaluation",
    "FederatedTask",
    "FileData",
    "FleetData",
    "FoldersData",
    "FunctionData",
    "Gate",
    "HuggingFaceData",
    "ImagesData",
    "KerasData",
    "KerasMnist",
    "Learning",
    "LocalData",
    "Model",
    "NpyData",
    "Operation",
    "ParquetData",
    "Partition",
    "Prices",
    "Privacy",
    "Prometheus",
    "Resources",
    "ServerOptimizer",
    "SklearnData",
    "Split",
    "SyntheticData",
    "Table",
    "Variant",
    "json_schema",
    "load",
    "load_cluster_settings",
    "parse",
]
