"""The API does what its OpenAPI document says, whatever it is asked: schemathesis asks."""

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.specs.openapi.checks import positive_data_acceptance

from fededge.fleet.gateway.openapi import document
from fededge.fleet.gateway.operators import OPERATIONS
from tests.gateway_client import Operator
from tests.gateway_process import Gateway

schema = schemathesis.openapi.from_dict(document(OPERATIONS))


@schema.parametrize()
@hypothesis.settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_operation_answers_as_the_document_says(
    case: schemathesis.Case, gateway: Gateway, secret: str
) -> None:
    if case.operation.path == "/v1/rounds/{round}/reports" and isinstance(case.query, dict):
        case.query.pop("wait", None)
    headers = {} if case.operation.path == "/v1/enroll" else {"Authorization": f"Bearer {secret}"}
    # A request may be well-formed and ask for what cannot be, such as a cohort of nobody.
    left_out: list[Any] = [positive_data_acceptance]
    case.call_and_validate(base_url=gateway.url, headers=headers, excluded_checks=left_out)


@pytest.fixture(scope="module")
def secret(admin: Operator) -> str:
    return str(admin.http.headers["authorization"]).removeprefix("Bearer ")
