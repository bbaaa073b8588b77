"""The API as an OpenAPI 3.1 document, made from its table of operations and the models of its bodies."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fededge import __version__
from fededge.fleet.gateway.operations import Operation, Path
from fededge.protocol import Problem

REFERENCE = "#/components/schemas/{model}"
PARAMETER = re.compile(r"\{(\w+)\}")
PROBLEMS = {
    "400": "The request is malformed.",
    "401": "No token, or none that is good here.",
    "403": "The token does not allow it.",
    "404": "There is no such thing.",
    "408": "The body did not arrive in time.",
    "409": "It does not go with what is there.",
    "413": "The body is too large, or a quota is used up.",
    "415": "The body is no JSON, or compressed.",
    "429": "Too many requests, or a quota is used up.",
    "500": "A mistake in the gateway; its log tells more.",
    "503": "The gateway, its registry or its store is overloaded or away.",
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document of `operations`."""
    operations = list(operations)
    said: list[type[BaseModel]] = [Problem, *(op.answer for op in operations)]
    said += [op.body for op in operations if op.body is not None]
    references, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(said)], ref_template=REFERENCE
    )
    schemas = {model: reference for (model, _), reference in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schemas)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "FedEdge gateway", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    answers = {str(operation.status): _content(schemas[operation.answer], "Done.")}
    answers |= {status: _content(schemas[Problem], text) for status, text in PROBLEMS.items()}
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__.strip("_"),
        "summary": operation.summary,
        "parameters": [*_path(operation.path), *_query(operation.query)],
        "responses": answers,
        "security": [] if operation.scope is None else [{"token": []}],
    }
    if operation.scope is not None:
        described["description"] = f"Needs a token of scope {operation.scope}."
    if operation.body is not None:
        content = _content(schemas[operation.body], "")["content"]
        described["requestBody"] = {"required": True, "content": content}
    return described


def _content(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _path(path: str) -> list[dict[str, Any]]:
    fields = Path.model_json_schema()["properties"]
    return [
        {"name": name, "in": "path", "required": True, "schema": _bare(fields[name])}
        for name in PARAMETER.findall(path)
    ]


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    fields = model.model_json_schema().get("properties", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _bare(schema)}
        for name, schema in fields.items()
    ]


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that is there."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    kept = options[0] if options else schema
    return {key: value for key, value in kept.items() if key not in ("title", "default")}
