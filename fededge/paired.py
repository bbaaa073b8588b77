"""Two models on the same examples: the errors that each made, and whether one is better than chance explains.

Right and wrong answers are compared by McNemar's test: Dietterich 1998, Approximate statistical tests for comparing
supervised classification learning algorithms, Neural Computation 10(7), section 3.1; here exact, by the binomial
distribution, as in McNemar 1947, Note on the sampling error of the difference between correlated proportions,
Psychometrika 12(2). Errors of other sizes are compared by random changes of the signs of their differences: Fisher
1935, The design of experiments, section 21.
"""

import base64
import binascii
import math

import numpy as np

from fededge.documents import ExampleErrors
from fededge.errors import DocumentError

MOST = 200_000
"""Examples whose errors are kept; the first ones of more."""
LEVEL = 0.05
"""Probability of a difference at least so large by chance, below which a difference counts."""
FLIPS = 1999
EXACT = 1000
"""Examples on which two models differ, up to which McNemar's test is exact; beyond, the normal distribution is close."""
CHUNK = 1 << 22


def pack(errors: np.ndarray) -> ExampleErrors:
    """The errors [n] of a model by example, a bit or two bytes each.

    Args:
        errors: bool, whether an answer was wrong; or float, 0 where it was right and the larger the worse.
    """
    kept = errors[:MOST]
    if kept.dtype == np.bool_:
        return ExampleErrors(kind="wrong", count=len(kept), data=_text(np.packbits(kept)))
    largest = float(np.finfo(np.float16).max)
    return ExampleErrors(kind="size", count=len(kept), data=_text(np.clip(kept, 0, largest).astype("<f2")))


def unpack(packed: ExampleErrors) -> np.ndarray:
    """What `pack` was given: bool [n], or float64 [n] to the precision of float16.

    Raises:
        DocumentError: the bytes are not those of so many examples.
    """
    try:
        data = base64.b64decode(packed.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError("errors by example are damaged: evaluate the model again") from error
    wanted = -(-packed.count // 8) if packed.kind == "wrong" else 2 * packed.count
    if len(data) != wanted:
        raise DocumentError(
            f"errors by example have {len(data):,} bytes where {packed.count:,} examples have {wanted:,}: evaluate "
            "the model again"
        )
    if packed.kind == "wrong":
        return np.unpackbits(np.frombuffer(data, np.uint8), count=packed.count).astype(bool)
    found = np.frombuffer(data, "<f2").astype(np.float64)
    if not np.isfinite(found).all():
        raise DocumentError("errors by example are not finite: evaluate the model again")
    return found


def p_value(new: np.ndarray, old: np.ndarray) -> float:
    """How probable errors that differ so much are by chance, in either direction; of the same examples, in order."""
    if new.dtype == np.bool_ and old.dtype == np.bool_:
        return _mcnemar(int((new & ~old).sum()), int((old & ~new).sum()))
    return _signs(old.astype(np.float64) - new.astype(np.float64))


def _mcnemar(one: int, other: int) -> float:
    """Two-sided: `one` and `other` are counts of the examples on which one model alone was wrong."""
    total, most = one + other, max(one, other)
    if total <= EXACT:
        tail = sum(math.comb(total, k) for k in range(most, total + 1))
        return min(1.0, 2 * tail / 2**total)
    return math.erfc((most - total / 2 - 0.5) / math.sqrt(total / 2))


def _signs(differences: np.ndarray) -> float:
    found = abs(differences.sum())
    rng = np.random.default_rng(0)
    step = max(1, CHUNK // max(1, len(differences)))
    reached = 0
    for start in range(0, FLIPS, step):
        signs = rng.integers(0, 2, (min(step, FLIPS - start), len(differences)), np.int8) * 2.0 - 1
        reached += int((abs(signs @ differences) >= found * (1 - 1e-12)).sum())
    return (reached + 1) / (FLIPS + 1)


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
