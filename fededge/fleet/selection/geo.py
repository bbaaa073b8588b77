"""Selection across regions: each region gets as many seats as any other, as far as it has clients.

A stratified sample of equal allocation (Cochran 1977, Sampling Techniques, third edition, chapter 5): small regions are
heard as often as large ones. Clients without a region are a region of their own.
"""

from collections import defaultdict
from collections.abc import Sequence

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.uniform import uniform


class Geo:
    """Stratified by region: one client at random out of each region in turn, the regions in a random order."""

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""

        def chance(name: str) -> tuple[float, str]:
            return (uniform(seed, round_number, name), name)

        regions: dict[str, list[str]] = defaultdict(list)
        for client in pool:
            regions[client.region or ""].append(client.id)
        order = sorted(regions, key=lambda region: chance(f"region {region}"))
        ranked = [
            (place, number, client)
            for number, region in enumerate(order)
            for place, client in enumerate(sorted(regions[region], key=chance))
        ]
        return [client for _, _, client in sorted(ranked)[:size]]
