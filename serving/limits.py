"""How much, how many and how long: what a sender may take of a server, over REST and gRPC alike."""

import threading

BODY_BYTES = 16 << 20
"""Largest request."""

CONNECTIONS = 512
"""Connections of one HTTP server. One more waits, or ends the one that has been idle for longest."""

THREADS = 128
"""Requests that one server receives at the same time."""

WORKING = 4
"""Requests that one process decodes and answers at the same time; the others wait for their turn."""

HELD_BYTES = 96 << 20
"""Bytes of all requests that one process holds together; what would go beyond is refused."""

DECODE_BYTES = 192 << 20
"""Memory that one process takes to decode and answer requests; one that alone would cost more is refused."""

RECEIVE_SECONDS = 10
"""From the first byte of a request to its last."""

SEND_SECONDS = 30
"""For an answer."""

IDLE_SECONDS = 100
"""A connection without a request. Seldon's executor keeps its own for 90 seconds; so it closes first."""

GRPC_CONNECTION_SECONDS = 8
"""Age at which a gRPC connection is replaced, less than a pod is given to be forgotten; so at its end none is left.

Clients connect anew without losing a call, where they would lose those that meet a server as it ends.
"""

GRPC_CALL_SECONDS = 30
"""For the calls that are under way when their connection is replaced."""

HUNG_SECONDS = 120
"""A worker process that gives no sign of life for so long is replaced."""

turns = threading.BoundedSemaphore(WORKING)
"""Taken to decode and answer a request."""
