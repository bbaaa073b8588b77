"""One round of many clients: FedEdge's gateway and sites beside Flower's SuperLink and SuperNodes."""
