"""Schemas of custom resources, closed: fields that they do not name are refused."""

from pathlib import Path
from typing import Any

import yaml

Schemas = dict[tuple[str, str], dict[str, Any]]
"""By apiVersion and kind."""


def closed_schemas(file: Path) -> Schemas:
    """The schemas of the CustomResourceDefinitions in `file`."""
    schemas: Schemas = {}
    for document in filter(None, yaml.load_all(file.read_text(), yaml.CSafeLoader)):
        spec = document["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            named = {"apiVersion", "kind", "metadata"} - schema["properties"].keys()
            schema["properties"] |= {key: {} for key in named}
            schema["properties"]["metadata"] = {"type": "object"}  # the API server's own, open in every CRD
            schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = _closed(schema)
    return schemas


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema["type"] = ["integer", "string"]
    return schema


def broken_rules(schema: dict[str, Any], value: Any) -> list[str]:
    """The rules in CEL (x-kubernetes-validations) that `value`, which fits `schema`, breaks: as the API server says.

    Rules on how an object may change are passed over.
    """
    import celpy
    from celpy.adapter import json_to_cel

    environment = celpy.Environment()
    broken = []
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"]:
            continue
        program = environment.program(environment.compile(rule["rule"]))
        if not program.evaluate({"self": json_to_cel(value)}):
            broken.append(rule.get("message") or rule["rule"])
    if isinstance(value, dict):
        for key, each in value.items():
            below = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
            broken += broken_rules(below, each) if isinstance(below, dict) else []
    if isinstance(value, list):
        for each in value:
            broken += broken_rules(schema.get("items", {}), each)
    return broken
