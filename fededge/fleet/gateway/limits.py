"""How often something may be done: a token bucket a caller.

Only rates live here, in the memory of one gateway. The number of callers that are remembered is bounded: the one that
was idle for longest is forgotten first, and starts again with a full bucket.
"""

import ipaddress
from collections import OrderedDict

from fededge.fleet.gateway.settings import Rate

CALLERS = 65_536


class Buckets:
    """A bucket for each caller.

    Args:
        rate: of each.
        callers: most that are remembered.
    """

    def __init__(self, rate: Rate, callers: int = CALLERS) -> None:
        self._rate = rate
        self._callers = callers
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now: float) -> float:
        """Take one token; 0.0 where there was one, else after how many seconds to come again.

        Args:
            caller: who asks.
            now: seconds of a clock that never goes back.
        """
        level, at = self._levels.pop(caller, (self._rate.burst, now))
        level = min(self._rate.burst, level + (now - at) * self._rate.per_second)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate.per_second
        self._levels[caller] = (level - 1 if not wait else level, now)
        if len(self._levels) > self._callers:
            self._levels.popitem(last=False)
        return wait


def address_of(peer: tuple[str, int] | None) -> str:
    """By what a caller is known at the address and port `peer`: an IPv6 network of 64 bits is one household."""
    try:
        address = ipaddress.ip_address(peer[0] if peer else "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
