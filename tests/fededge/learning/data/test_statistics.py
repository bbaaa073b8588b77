"""Means and deviations from each client's own sums."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.learning.data import statistics

pytestmark = pytest.mark.environment("worker")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 99), st.floats(0, 1e8))
def test_merged_moments_are_those_of_all_rows(sizes: list[int], seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [offset + rng.normal(size=(size, 3)) for size in [*sizes, 2]]
    pooled = np.concatenate(parts)
    merged = statistics.merge(map(statistics.moments, parts), 3)
    assert merged.count[0] == len(pooled)
    assert np.allclose(merged.mean, pooled.mean(axis=0), rtol=1e-12)
    assert np.allclose(
        merged.squares, ((pooled - pooled.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-5, atol=1e-6
    )


def test_large_means_do_not_swallow_small_deviations() -> None:
    values = 1e9 + np.array([[4.0], [7.0], [13.0], [16.0]])
    found = statistics.merge([statistics.moments(values[:1]), statistics.moments(values[1:])], 1)
    assert found.squares[0] / 3 == pytest.approx(30)


def test_missing_values_count_for_nothing_and_a_constant_deviates_by_one() -> None:
    found = statistics.moments(np.array([[1.0, 5], [np.nan, 5], [3.0, 5]], np.float32))
    assert found.mean.tolist() == [2, 5]
    assert found.count.tolist() == [2, 3]
    assert found.deviation.tolist() == [1, 1]


def test_they_are_of_what_clients_learn_from_and_in_every_folder(prepare: Any) -> None:
    done = prepare({"source": "sklearn", "name": "diabetes"}, partition={"kind": "quantity", "alpha": 1.0})
    train = [done.clients / client.id / "train" for client in done.population.clients]
    x, y = (np.concatenate(parts) for parts in zip(*map(done.read, train), strict=True))
    features, label = done.population.example.features, done.population.example.label
    assert np.allclose([feature.mean for feature in features], x.mean(axis=0), atol=1e-6)
    assert np.allclose([feature.std for feature in features], x.std(axis=0), rtol=1e-6)
    assert np.allclose([*label.mean, *label.std], [y.mean(), y.std()], rtol=1e-6)
    assert len({(folder / "schema.json").read_bytes() for folder in done.folders()}) == 1


def test_images_words_truth_and_tokens_are_left_as_they_are(prepare: Any, tmp_path: Path) -> None:
    images = prepare({"source": "digits"}).population.example.features
    np.save(tmp_path / "x.npy", np.arange(600).reshape(60, 10) % 7)
    np.save(tmp_path / "y.npy", np.arange(60) % 2)
    files = {"source": "npy", "x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy")}
    tokens = prepare({**files, "tokens": True}, partition={"kind": "iid"}).population.example.features
    numbers = prepare(files, partition={"kind": "iid"}).population.example.features
    assert [each.mean for each in [*images, *tokens]] == [None, None]
    assert all(each.mean is not None for each in numbers)
