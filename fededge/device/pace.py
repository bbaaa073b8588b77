"""How long to wait between tries."""

import random


class Pace:
    """Exponential back-off with full jitter: many clients that failed together do not come back together.

    Source: M. Brooker 2015, Exponential Backoff And Jitter, AWS Architecture Blog.

    Args:
        first: seconds, at most, before the first try.
        longest: seconds, at most, before any.
    """

    def __init__(self, first: float = 1.0, longest: float = 300.0) -> None:
        self._first, self._longest = first, longest
        self._tries = 0

    def next(self) -> float:
        """Seconds to wait now."""
        most = min(self._longest, self._first * 2.0 ** min(self._tries, 60))
        self._tries += 1
        return random.uniform(0, most)

    def reset(self) -> None:
        """It went well: begin with short times again."""
        self._tries = 0
