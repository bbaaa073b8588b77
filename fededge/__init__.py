"""FedEdge: federated learning for edge fleets as Kubeflow pipelines."""

__version__ = "0.1.0"
