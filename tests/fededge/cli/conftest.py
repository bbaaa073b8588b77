"""An MLflow store that is set up."""

from tests.mlflow_store import empty_store, store  # noqa: F401
