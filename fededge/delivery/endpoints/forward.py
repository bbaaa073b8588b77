"""An endpoint on a cluster, reached from this machine through the Kubernetes API.

As `kubectl port-forward` does it: connections to a port of this machine go to one of the endpoint's pods.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from fededge.delivery.endpoints.cluster import Cluster
from fededge.delivery.endpoints.seldon import MAIN, deployment_name, ports
from fededge.errors import EndpointError

CHUNK = 1 << 16


@contextlib.contextmanager
def forwarded(namespace: str, name: str) -> Iterator[str]:
    """URL on this machine that leads to the main predictor of an endpoint, while this lasts.

    Args:
        namespace: of the endpoint.
        name: of the endpoint.

    Raises:
        EndpointError: there is none, none of its pods is ready, or the cluster cannot be reached or refuses.
    """
    cluster = Cluster()
    found = cluster.get(namespace, name)
    predictors = found["spec"]["predictors"] if found else []
    main = next((each for each in predictors if each["name"] == MAIN), None)
    if main is None:
        raise EndpointError(
            f"no endpoint {name} in namespace {namespace} of the cluster: see `kubectl get sdep --all-namespaces`"
        )
    port, _ = ports(main)

    def dial() -> socket.socket:
        return cluster.tunnel(namespace, deployment_name(name, MAIN), port)

    dial().close()  # what is wrong is told here
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, dial), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, dial: Callable[[], socket.socket]) -> None:
    with contextlib.suppress(OSError, EndpointError):  # the listener is closed in the end
        while True:
            near, _ = listener.accept()
            with contextlib.ExitStack() as stack:
                stack.callback(near.close)
                far = dial()
                stack.pop_all()
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
