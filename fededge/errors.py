"""Every mistake a user can make has a name here.

    FedEdgeError
    ├── TaskError              the task file, or the file of a cluster, is wrong
    ├── DataError              a data set is missing, malformed or not finite
    ├── IntegrityError         bytes do not match their digest or signature
    ├── DocumentError          a document is malformed, or of a format that is not read here
    ├── StorageError           a blob cannot be read or written
    ├── UpdateError            a client's update is malformed, not finite or out of bounds
    ├── RoundError             a round did not commit
    │   ├── QuorumError        too few clients reported before the deadline
    │   └── DivergedError      training left the finite numbers
    ├── WorkerError            the TensorFlow Federated worker process failed
    │   ├── WorkerDied         it ended while work was under way
    │   └── WorkerStuck        it gave no answer within the deadline
    ├── VariantError           a variant cannot be built or measured
    ├── EndpointError          the inference endpoint failed its check
    │   └── PortInUse          its port is taken
    ├── RequestError           a request to an endpoint is malformed, too large or not finite
    ├── ReleaseError           no variant fits a device class, or a release is not usable
    ├── TrackingError          MLflow cannot be reached or refused
    ├── ReportError            a report would lose what it shows
    ├── RunError               a run of this machine is not there, or not in the state that is asked for
    ├── GatewayError           the gateway cannot be reached, or refused a request
    ├── RegistryError          the gateway's database cannot be reached, or is not of this version
    ├── ProtocolError          a message between client and gateway is malformed, too large or out of order
    ├── SiteError              a site is not enrolled, or its policy file is wrong
    ├── RelayError             the file of a relay is wrong, or does not fit what it has stored
    ├── KubeflowError          Kubeflow Pipelines cannot be reached or refused
    ├── EnvironmentMissing     the interpreter of an image is not set up on this machine
    └── SetupError             an environment, a lock file, an image or manifests could not be made

The command line prints the message of a FedEdgeError and ends with status 2. A message is one
line: what was wrong, with the offending value, and what to do.
"""

SHOWN = 80
"""Most characters of a value that a message shows."""


class FedEdgeError(Exception):
    """Base of all errors that FedEdge raises on purpose; what does not print in a message is escaped."""

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(_escaped, message.split("\n"))))


class TaskError(FedEdgeError):
    """The task file, or the file of a cluster's defaults, is wrong."""


class DataError(FedEdgeError):
    """A data set is missing, malformed or not finite."""


class IntegrityError(FedEdgeError):
    """Bytes do not match their digest or signature."""


class DocumentError(FedEdgeError):
    """A document is malformed, or of a format that is not read here."""


class StorageError(FedEdgeError):
    """A blob cannot be read or written."""


class UpdateError(FedEdgeError):
    """A client's update is malformed, not finite or out of bounds."""


class RoundError(FedEdgeError):
    """A round did not commit."""


class QuorumError(RoundError):
    """Too few clients reported before the deadline."""


class DivergedError(RoundError):
    """Training left the finite numbers."""


class WorkerError(FedEdgeError):
    """The TensorFlow Federated worker process failed."""


class WorkerDied(WorkerError):
    """The worker process ended while work was under way."""


class WorkerStuck(WorkerError):
    """The worker process gave no answer within the deadline."""


class VariantError(FedEdgeError):
    """A variant cannot be built or measured."""


class EndpointError(FedEdgeError):
    """The inference endpoint failed its check."""


class PortInUse(EndpointError):
    """The port of an endpoint is taken by another process."""


class RequestError(FedEdgeError):
    """A request to an endpoint is malformed, too large or not finite.

    Attributes:
        reason: the mistake as a constant, such as WRONG_SHAPE, for programs to read.
        status: HTTP status, 4xx.
    """

    def __init__(self, message: str, reason: str, status: int = 400) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


class ReleaseError(FedEdgeError):
    """No variant fits a device class, or a release is not usable."""


class TrackingError(FedEdgeError):
    """MLflow cannot be reached or refused a request."""


class RunError(FedEdgeError):
    """A run of this machine is not there, or not in the state that is asked for."""


class ReportError(FedEdgeError):
    """A report is not written: it would lose what it shows, or there is nothing to show."""


class GatewayError(FedEdgeError):
    """The gateway cannot be reached, or refused a request.

    Attributes:
        reason: the mistake as a constant, such as FORBIDDEN, for programs to read.
        status: HTTP status; 0 where the gateway gave none.
    """

    def __init__(self, message: str, reason: str = "UNREACHABLE", status: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


class RegistryError(FedEdgeError):
    """The gateway's database cannot be reached, or is not of this version."""


class ProtocolError(FedEdgeError):
    """A message between client and gateway is malformed, too large or out of order.

    Attributes:
        reason: the mistake as a constant, such as MALFORMED, for programs to read and to count.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class SiteError(FedEdgeError):
    """A site is not enrolled, or its policy file is wrong."""


class RelayError(FedEdgeError):
    """The file of a relay is wrong, or it does not fit what the relay has stored."""


class KubeflowError(FedEdgeError):
    """Kubeflow Pipelines cannot be reached or refused a request."""


class EnvironmentMissing(FedEdgeError):
    """The interpreter of an image is not set up on this machine."""


class SetupError(FedEdgeError):
    """An environment, a lock file, an image or manifests could not be made."""


def shown(text: str, most: int = SHOWN) -> str:
    """`text` as an error may show it: one line, at most so long, with what does not print escaped."""
    cut = text if len(text) <= most else f"{text[: most - 3]}..."
    return _escaped(cut)


def _escaped(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
