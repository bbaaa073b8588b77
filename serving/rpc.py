"""gRPC around the model: named errors as over REST, and limits.

Seldon's server answers UNKNOWN to every exception, takes at most 4 MiB and waits without end for a
message that was begun. It offers no place to change that, so the function that makes it,
`seldon_core.wrapper.get_grpc_server`, is replaced; a test says when it moves. The details of an error
are its reason and its message: `WRONG_SHAPE: the examples have ...`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from seldon_core import wrapper
from seldon_core.proto import prediction_pb2

from fededge import settings
from fededge.delivery.endpoints.pod import FINISH_SECONDS
from fededge.errors import FedEdgeError, RequestError
from serving import cost, feedback, lifetime, limits

SERVICES = [service.full_name for service in prediction_pb2.DESCRIPTOR.services_by_name.values()]
OPTIONS = [
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", 2 * limits.BODY_BYTES),  # what is beyond is refused without a name
    ("grpc.max_send_message_length", -1),
    ("grpc.server_handshake_timeout_ms", 1000 * limits.RECEIVE_SECONDS),
    ("grpc.max_connection_age_ms", 1000 * limits.GRPC_CONNECTION_SECONDS),
    ("grpc.max_connection_age_grace_ms", 1000 * limits.GRPC_CALL_SECONDS),
]
CODES = {
    404: grpc.StatusCode.UNIMPLEMENTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

Method = Callable[[Any, grpc.ServicerContext], Message]


def install() -> None:
    """Let Seldon start our gRPC server, which listens on `FEDEDGE_ENDPOINT_HOST`."""
    wrapper.get_grpc_server = _server


class Calls(grpc.GenericRpcHandler):
    """The methods that are served, by their names in all of Seldon's services."""

    def __init__(self, methods: dict[str, tuple[type[Message], Method]]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """What answers a call; None where it is not one to Seldon."""
        service, _, method = handler_call_details.method.removeprefix("/").partition("/")
        if service not in SERVICES:
            return None
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, method), response_serializer=lambda answer: answer.SerializeToString()
        )

    def _answer(self, method: str, data: bytes, context: grpc.ServicerContext) -> Message:
        try:
            if method not in self._methods:
                raise RequestError(f"{method} is not served here: use Predict", "NOT_FOUND", 404)
            message, answer = self._methods[method]
            with cost.received.taken(len(data), wait=False) as held:
                if not held:
                    raise RequestError("too many calls are under way: try again", "BUSY", 503)
                needed = _needed(message, data)
                with limits.turns, cost.decoding.taken(needed):
                    return answer(_parsed(message, data), context)
        except RequestError as error:
            code = CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
            context.abort(code, f"{error.reason}: {error}")
        except FedEdgeError as error:
            context.abort(grpc.StatusCode.INTERNAL, f"MODEL_ERROR: {error}")
        raise AssertionError("abort raises")


def _needed(message: type[Message], data: bytes) -> int:
    """Bytes of memory that it takes to parse `data`."""
    fewer = "send fewer examples at a time, as uint8 binData"
    if len(data) > limits.BODY_BYTES:
        raise RequestError(
            f"the message has {len(data):,} bytes, more than {limits.BODY_BYTES:,}: {fewer}", "TOO_LARGE", 413
        )
    needed = cost.of_feedback(data) if message is prediction_pb2.Feedback else cost.of_message(data)
    if needed > limits.DECODE_BYTES:
        raise RequestError(
            f"the message has {len(data):,} bytes and too many values: {fewer}", "TOO_LARGE", 413
        )
    return needed


def _parsed(message: type[Message], data: bytes) -> Message:
    try:
        return message.FromString(data)
    except (DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError(
            f"the message is not a {message.DESCRIPTOR.full_name}: {' '.join(str(error).split())[:200]}",
            "MALFORMED_PROTOBUF",
        ) from error


def _server(user_model: Any, seldon_metrics: Any, **_: Any) -> grpc.Server:
    seldon = wrapper.SeldonModelGRPC(user_model, seldon_metrics)
    calls = Calls(
        {
            "Predict": (prediction_pb2.SeldonMessage, seldon.Predict),
            "SendFeedback": (
                prediction_pb2.Feedback,
                lambda message, context: seldon.SendFeedback(feedback.checked(message), context),
            ),
            "Metadata": (Empty, seldon.Metadata),
            "ModelMetadata": (prediction_pb2.SeldonModelMetadataRequest, seldon.ModelMetadata),
        }
    )
    server = grpc.server(ThreadPoolExecutor(limits.THREADS), [calls], options=OPTIONS)
    wrapper.reflection.enable_server_reflection((*SERVICES, wrapper.reflection.SERVICE_NAME), server)
    listen = server.add_insecure_port
    server.add_insecure_port = lambda address: listen(address.replace("0.0.0.0", settings.endpoint_host(), 1))
    lifetime.finish_first(lambda: server.stop(FINISH_SECONDS).wait())
    return server
