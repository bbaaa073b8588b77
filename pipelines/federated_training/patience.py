"""How long a step on a cluster tries again where MLflow or the blob store does not answer: by their own clients, and
where those have no setting for it (Google's and Azure's stores) by fededge.away.

Kubeflow's `set_retry` starts only lost pods again, not steps that ended with an error, unless Argo's workflow
controller is told so (docs/guides/kubeflow.md).
"""

MLFLOW_RETRIES = 9
"""MLflow refuses more than 10. They wait for a factor times 1, 2, 4 ..., each at most 120 s."""
LONGEST = 120.0
S3_MEAN_SECONDS = 10.0
"""Between two attempts of botocore's mode `standard`, once it has backed off: up to 20 s, at random."""
S3_FIRST = 5
"""Attempts until then."""


def variables(seconds: float) -> dict[str, str]:
    """Environment variables that let MLflow and the stores be asked again for about `seconds`."""
    return {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(MLFLOW_RETRIES),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": str(_factor(seconds)),
        "FEDEDGE_STORE_RETRY_SECONDS": f"{seconds:g}",
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": str(S3_FIRST + round(seconds / S3_MEAN_SECONDS)),
    }


def _factor(seconds: float) -> int:
    """The smallest factor, at most MLflow's limit of 119, with which its retries take `seconds`."""
    for factor in range(1, int(LONGEST)):
        if sum(min(factor * 2.0**n, LONGEST) for n in range(MLFLOW_RETRIES)) >= seconds:
            return factor
    return int(LONGEST) - 1
