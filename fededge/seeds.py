"""Seeds of random choices, each derived from the task's seed and what it is for."""

from fededge.storage import digest


def seed_for(task_seed: int, round_number: int, client: str) -> int:
    """The seed of a client's work in a round, in [0, 2**62)."""
    text = f"{task_seed}/{round_number}/{client}"
    return int(digest(text.encode()).removeprefix("sha256:")[:16], 16) >> 2
