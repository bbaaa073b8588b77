"""The pod of a model server on a cluster: container, probes, resources, and how many there are.

How it stops: `preStop` lets the cluster's services forget the pod while it still answers; then SIGTERM, and
the server finishes what is under way over REST, then over gRPC.
"""

from typing import Any

from fededge.task import Autoscale, Endpoint

CONTAINER = "model"
SERVER = "serving.model_server.ModelServer"
ENVIRONMENT = {
    "INCLUDE_METRICS_IN_CLIENT_RESPONSE": "false",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),  # give the memory of large requests back to the system
    "SETUPTOOLS_USE_DISTUTILS": "stdlib",  # Seldon imports distutils; setuptools' own takes much longer
}
POD_ENVIRONMENT = {**ENVIRONMENT, "FEDEDGE_ENDPOINT_HOST": "0.0.0.0"}
STORAGE_SECRET = "fededge-storage"
FORGET_SECONDS = 10
"""Until no service sends a pod that ends anything new."""
FINISH_SECONDS = 10
"""For the requests under way, over REST and then over gRPC."""
GRACE_SECONDS = FORGET_SECONDS + 2 * FINISH_SECONDS + 5
"""From the decision to end a pod until it is killed."""
SPREAD = {"node": "kubernetes.io/hostname", "zone": "topology.kubernetes.io/zone"}


def component(endpoint: Endpoint, replicas: int, image: str, deployment: str) -> dict[str, Any]:
    """A predictor's component, in Seldon's form.

    Args:
        endpoint: the task's section.
        replicas: servers; the fewest, where they are scaled.
        image: of the model server.
        deployment: name that Seldon will give the Deployment.
    """
    made: dict[str, Any] = {"spec": _pod(endpoint, image, deployment)}
    if endpoint.min_available:
        made["pdbSpec"] = {"minAvailable": endpoint.min_available}
    if endpoint.autoscale:
        made |= _scaled(endpoint.autoscale, replicas)
    return made


def _scaled(autoscale: Autoscale, replicas: int) -> dict[str, Any]:
    query = autoscale.prometheus
    if query:
        metadata = {
            "serverAddress": query.server,
            "query": query.query,
            "threshold": f"{query.threshold:g}",
        }
        triggers = [{"type": "prometheus", "metadata": metadata}]
        return {
            "kedaSpec": {
                "minReplicaCount": replicas,
                "maxReplicaCount": autoscale.max_replicas,
                "triggers": triggers,
            }
        }
    target = {"type": "Utilization", "averageUtilization": autoscale.cpu_percent}
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    return {"hpaSpec": {"minReplicas": replicas, "maxReplicas": autoscale.max_replicas, "metricsv2": metrics}}


def _pod(endpoint: Endpoint, image: str, deployment: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(endpoint, image)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }
    if endpoint.spread:
        made["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": SPREAD[endpoint.spread],
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": deployment}},
                "matchLabelKeys": ["pod-template-hash"],
            }
        ]
    return made


def _container(endpoint: Endpoint, image: str) -> dict[str, Any]:
    def probe(path: str, **times: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2, **times}

    asked = endpoint.resources
    limits = {"memory": asked.memory_limit}
    if asked.cpu_limit:
        limits["cpu"] = asked.cpu_limit
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["seldon-core-microservice", SERVER, "--service-type", "MODEL"],
        "env": [{"name": key, "value": value} for key, value in POD_ENVIRONMENT.items()],
        "envFrom": [{"secretRef": {"name": STORAGE_SECRET, "optional": True}}],
        "startupProbe": probe("/ready", periodSeconds=1, failureThreshold=endpoint.start_seconds),
        "readinessProbe": probe("/ready", periodSeconds=2, failureThreshold=3),
        "livenessProbe": probe("/live", periodSeconds=10, failureThreshold=3),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(FORGET_SECONDS)]}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",  # its last words, for whoever waits for it
        "resources": {"requests": {"cpu": asked.cpu, "memory": asked.memory}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
