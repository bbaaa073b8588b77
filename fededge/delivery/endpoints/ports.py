"""The ports that an endpoint on this machine listens on."""

import re
import socket

from pydantic import BaseModel, ConfigDict

from fededge import settings
from fededge.errors import EndpointError, PortInUse
from fededge.ports import free_port


class Ports(BaseModel):
    """The ports of one server."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    rest: int
    grpc: int
    metrics: int

    @property
    def all(self) -> set[int]:
        """The three of them."""
        return {self.rest, self.grpc, self.metrics}

    @classmethod
    def configured(cls) -> "Ports | None":
        """The ports that FEDEDGE_ENDPOINT_PORTS names; None where it is not set.

        Raises:
            EndpointError: it is not three different port numbers.
        """
        text = settings.endpoint_ports()
        if text is None:
            return None
        numbers = [int(part) for part in re.findall(r"\d+", text)]
        if (
            not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*){2}", text)
            or len({*numbers}) != 3
            or max(numbers) > 65535
        ):
            raise EndpointError(
                f"FEDEDGE_ENDPOINT_PORTS is {text!r}: name REST, gRPC and metrics port, such as 9000,5000,6000"
            )
        return cls(rest=numbers[0], grpc=numbers[1], metrics=numbers[2])

    @classmethod
    def free(cls) -> "Ports":
        """Three ports that nobody uses now."""
        found: set[int] = set()
        while len(found) < 3:
            found.add(free_port())
        rest, grpc, metrics = found
        return cls(rest=rest, grpc=grpc, metrics=metrics)

    def refuse_taken(self) -> None:
        """Check that nobody listens on them.

        Raises:
            PortInUse: somebody does.
        """
        for name, port in self.model_dump().items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("", port))
                except OSError as error:
                    raise PortInUse(
                        f"{name} port {port} cannot be used: {error.strerror}. Stop the process that uses it, "
                        "or change or unset FEDEDGE_ENDPOINT_PORTS"
                    ) from error
