"""A port for a server that is told which one to take."""

import random
import socket
from contextlib import suppress

RANGE = range(20_000, 32_768)
"""Below those that Linux gives to connections as they are made, any of which could be taken before the server starts."""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    numbers = random.SystemRandom()
    while True:
        port = numbers.choice(RANGE)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
