"""TensorFlow's random choices in numpy: the same order of examples, and the same units left out by dropout.

Both come from Philox4x32-10, a function of a counter and a key: John K. Salmon, Mark A. Moraes, Ron O. Dror and
David E. Shaw 2011, Parallel Random Numbers: As Easy as 1, 2, 3, section 3.3.
"""

from collections.abc import Iterator, Sequence

import numpy as np

FACTORS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
STEPS = (0x9E3779B9, 0xBB67AE85)
"""What each of the ten rounds adds to the key."""
ROUNDS = 10
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
SCRAMBLE = (0x3EC8F720, 0x02461E29)
"""The key by which TensorFlow makes key and counter of a stateless operation out of its seed."""
GRAPH_SEED = 87654321
"""TensorFlow's, where a program sets none."""
LARGEST_SEED = 2**31 - 1
FRACTION = 23
"""Bits of a float32 between 1 and 2, of which TensorFlow makes a uniform number."""
BLOCK = 8192
"""Counters at a time: what they take stays in a processor's cache."""


def kept(shape: Sequence[int], seed: tuple[int, int], rate: float) -> np.ndarray:
    """Which units dropout keeps, float32 of `shape`: 1 where tf.random.stateless_uniform(shape, seed) >= rate, else 0."""
    halves = [part & 0xFFFFFFFF for number in seed for part in (number, number >> 32)]
    first = np.array([[halves[0]], [halves[2]]], np.uint64)
    second = np.array([[halves[3]], [halves[1]]], np.uint64)
    key_low, key_high, low, high = (int(word[0]) for word in _mixed(first, second, SCRAMBLE))
    mask = np.uint64((1 << FRACTION) - 1)
    least = np.uint64(np.ceil(np.ldexp(np.float32(rate), FRACTION)))
    count = int(np.prod(shape))
    made = np.empty((-(-count // 4), 4), np.float32)
    for at, words in _blocks(len(made), (key_low, key_high), (low, high)):
        for place, word in enumerate(words):
            np.bitwise_and(word, mask, out=word)
            made[at : at + len(word), place] = word >= least
    return made.ravel()[:count].reshape(shape)


def shuffled(count: int, seed: int, buffer: int) -> np.ndarray:
    """The order of tf.data.Dataset.range(count).shuffle(buffer, seed, reshuffle_each_iteration=False), int64 [count]."""
    seed %= LARGEST_SEED
    draws = np.empty((-(-count // 4), 4), np.int64)
    for at, words in _blocks(len(draws), (GRAPH_SEED, 0), (seed, 0)):
        draws[at : at + BLOCK] = np.stack(words, axis=1)
    slots = np.full(buffer, -1).tolist() if count >= buffer else []
    ahead = min(count, buffer)
    slots[:ahead] = range(ahead)
    order = []
    for start, draw in enumerate(draws.ravel()[:count].tolist()):
        at = (start + draw % (ahead - start)) % len(slots)
        order.append(slots[at])
        slots[at] = slots[start % len(slots)]
        if ahead < count:
            slots[ahead % len(slots)] = ahead
            ahead += 1
    return np.array(order, np.int64)


def _blocks(
    count: int, key: tuple[int, int], high: tuple[int, int]
) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """The four words of each of the first `count` counters whose upper half is `high`: a block, and where it begins.

    The words are overwritten by those of the next block.
    """
    memory = np.empty((3, 2, min(count, BLOCK)), np.uint64)
    for at in range(0, count, BLOCK):
        first, second, product = memory[:, :, : count - at]
        first[0], first[1] = np.arange(at, at + first.shape[1]), high[0]
        second[0], second[1] = high[1], 0
        yield at, _mixed(first, second, key, product)


def _mixed(
    first: np.ndarray, second: np.ndarray, key: tuple[int, int], product: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """The four words of each counter after all rounds.

    Args:
        first: its words 0 and 2, uint64 [2, n], which is overwritten.
        second: its words 3 and 1, likewise.
        key: that they are mixed by.
        product: overwritten, too; None takes new memory.
    """
    product = np.empty_like(first) if product is None else product
    for number in range(ROUNDS):
        low, high = ((word + number * step) & 0xFFFFFFFF for word, step in zip(key, STEPS, strict=True))
        np.multiply(first, FACTORS, out=product)
        np.right_shift(product, HALF, out=first)
        np.bitwise_xor(first, second, out=first)
        np.bitwise_xor(first, np.array([[high], [low]], np.uint64), out=first)
        np.bitwise_and(product, LOW, out=second)
        first = first[::-1]
    return first[0], second[1], first[1], second[0]
