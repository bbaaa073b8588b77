"""The client: its work takes next to no time, so that the framework's own shows."""

from typing import Any

import numpy as np
from flwr.client import ClientApp, NumPyClient


class Adding(NumPyClient):
    """Adds 0.001 to each weight."""

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> Any:
        """The next weights, over 100 examples."""
        return [value + np.float32(0.001) for value in parameters], 100, {}


app = ClientApp(client_fn=lambda context: Adding().to_client())
