"""The server: federated averaging over all clients; it writes how long each round took."""

import json
import time
from typing import Any

import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg


class Timed(FedAvg):
    """FedAvg with a watch."""

    def __init__(self, results: str, **options: Any) -> None:
        super().__init__(**options)
        self._results = results
        self._begun = 0.0

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        """See FedAvg."""
        self._begun = time.time()
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """See FedAvg."""
        aggregated = super().aggregate_fit(server_round, results, failures)
        with open(self._results, "a") as file:
            file.write(json.dumps([len(results), time.time() - self._begun]) + "\n")
        return aggregated


def components(context: Any) -> ServerAppComponents:
    """What the server runs."""
    config = context.run_config
    clients = int(config["clients"])
    strategy = Timed(
        str(config["results"]),
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        initial_parameters=ndarrays_to_parameters([np.zeros(int(config["numbers"]), np.float32)]),
    )
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=int(config["rounds"])))


app = ServerApp(server_fn=components)
