"""Errors by example, and paired tests, held against SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge import paired
from fededge.documents import ExampleErrors
from fededge.errors import DocumentError

pytestmark = pytest.mark.environment("platform", "worker")
RNG = np.random.default_rng(11)


@given(st.lists(st.booleans(), max_size=40))
def test_right_and_wrong_are_a_bit_each(wrong: list[bool]) -> None:
    errors = np.array(wrong, bool)
    packed = paired.pack(errors)
    assert len(packed.data) <= 4 * (len(wrong) / 8 / 3 + 2)
    assert (paired.unpack(packed) == errors).all()


def test_errors_of_any_size_are_two_bytes_each() -> None:
    packed = paired.pack(np.array([0.0, 0.3333, 1e9]))
    assert paired.unpack(packed) == pytest.approx([0.0, 0.3333, 65504], rel=1e-3)


def test_no_more_errors_than_the_most_are_kept() -> None:
    assert paired.pack(np.zeros(paired.MOST + 5, bool)).count == paired.MOST


@pytest.mark.parametrize(
    "packed",
    [
        ExampleErrors(kind="size", count=3, data="AAAA"),
        ExampleErrors(kind="size", count=1, data="AHw="),
        ExampleErrors(kind="wrong", count=3, data="?"),
        ExampleErrors(kind="wrong", count=10**15, data="AA=="),
        ExampleErrors(kind="wrong", count=0, data="AA=="),
    ],
)
def test_damaged_errors_are_refused(packed: ExampleErrors) -> None:
    with pytest.raises(DocumentError, match="evaluate the model again"):
        paired.unpack(packed)


def wrong(alone: int, other: int, both: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Errors of two models: each is wrong alone so often, and both together."""
    one = [True] * alone + [False] * other + [True] * both
    return np.array(one), np.array([False] * alone + [True] * other + [True] * both)


def test_mcnemars_test_is_exact_for_few_and_close_for_many() -> None:
    assert paired.p_value(*wrong(1, 9)) == pytest.approx(22 / 1024)
    assert paired.p_value(*wrong(5, 5)) == 1.0
    assert paired.p_value(*wrong(0, 0)) == 1.0
    assert paired.p_value(*wrong(480, 520)) == pytest.approx(0.2175, abs=1e-3)
    assert paired.p_value(*wrong(481, 521)) == pytest.approx(0.2180, abs=2e-3)


def test_the_test_knows_no_side() -> None:
    one, other = wrong(3, 11)
    assert paired.p_value(one, other) == paired.p_value(other, one)


def test_errors_of_other_sizes_are_told_apart_by_signs() -> None:
    old = RNG.random(200)
    assert paired.p_value(old * 0.9, old) < 0.01
    assert paired.p_value(old + RNG.normal(0, 0.1, 200), old) > 0.05
    assert paired.p_value(old, old) == 1.0


def test_scipy_agrees_on_few_signs() -> None:
    stats = pytest.importorskip("scipy.stats")
    differences = RNG.normal(0.3, 1.0, 12)
    found = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert paired.p_value(np.zeros(12), differences) == pytest.approx(found.pvalue, abs=0.03)


def test_scipy_agrees_on_right_and_wrong() -> None:
    stats = pytest.importorskip("scipy.stats")
    assert paired.p_value(*wrong(30, 51)) == pytest.approx(stats.binomtest(30, 81).pvalue)
