"""A task to deliver, models registered for it, an MLflow store that is set up, and a free port."""

from tests.delivery_task import free_port, task  # noqa: F401
from tests.mlflow_store import empty_store, store  # noqa: F401
from tests.registered_models import register  # noqa: F401
