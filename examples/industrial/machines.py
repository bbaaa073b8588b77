"""Vibration of machines, made by a generator: no real machine's data is in it.

A machine turns at a frequency of its own; its vibration has that frequency, two harmonics and noise. A faulty bearing
adds short bursts at a rate that does not fit the turning.
"""

import numpy as np

STEPS = 64
"""Of a window."""
RATE = 400.0
"""Samples a second."""


def healthy(machines: int = 6, windows: int = 300, seed: int = 0) -> tuple[np.ndarray, None, np.ndarray]:
    """x float32 [machines * windows, 64], no labels, and the machine of each window."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([_windows(rng, 20.0 + 2 * machine, windows) for machine in range(machines)])
    owners = np.repeat([f"machine-{number}" for number in range(machines)], windows)
    return x, None, owners


def faulty(windows: int = 100, seed: int = 1) -> np.ndarray:
    """Windows float32 [windows, 64] of machines whose bearing is damaged."""
    rng = np.random.default_rng(seed)
    x = _windows(rng, 24.0, windows)
    for window in x:
        for start in range(int(rng.integers(0, 12)), STEPS - 4, 13):
            window[start : start + 4] += 1.5 * np.array([1, -0.8, 0.5, -0.2], np.float32)
    return x


def _windows(rng: np.random.Generator, frequency: float, count: int) -> np.ndarray:
    time = np.arange(STEPS) / RATE
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    turning = 2 * np.pi * frequency * rng.normal(1, 0.01, (count, 1)) * time + phase
    x = np.sin(turning) + 0.4 * np.sin(2 * turning + 0.5) + 0.2 * np.sin(3 * turning + 1.0)
    return (x + rng.normal(0, 0.05, x.shape)).astype(np.float32)
