"""gRPC around the model: status codes for mistakes, and the same size limit as REST.

Seldon's servicer answers UNKNOWN to every exception and takes at most 4 MiB. It offers no place to
change either, so two names in `seldon_core.wrapper` are replaced; a test says when they move.
"""

from typing import Any

import grpc
from seldon_core import wrapper
from seldon_core.flask_utils import ANNOTATION_GRPC_MAX_MSG_SIZE

from fededge.errors import RequestError

STOCK_SERVER = wrapper.get_grpc_server


class PredictionService(wrapper.SeldonModelGRPC):
    """Seldon's service, answering INVALID_ARGUMENT with the message of a RequestError."""

    def Predict(self, request_grpc: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 (gRPC's name)
        """Answer one request."""
        try:
            return super().Predict(request_grpc, context)
        except RequestError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{error.reason}: {error}")


def install(limit: int) -> None:
    """Let the servers that Seldon starts use our service and take messages of `limit` bytes."""

    def get_grpc_server(*args: Any, annotations: dict[str, str], **kwargs: Any) -> grpc.Server:
        sized = {ANNOTATION_GRPC_MAX_MSG_SIZE: str(limit), **annotations}
        return STOCK_SERVER(*args, annotations=sized, **kwargs)

    wrapper.SeldonModelGRPC = PredictionService
    wrapper.get_grpc_server = get_grpc_server
