"""Figures as a person reads them."""

import math
from datetime import UTC, datetime

import pytest

from fededge.report import formatting


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formatting.percent(0.98061), "98.06 %"),
        (formatting.percent(None), "–"),
        (formatting.points(-0.0055), "−0.55 pp"),
        (formatting.points(0.0249), "+2.49 pp"),
        (formatting.points(-0.0), "0.00 pp"),
        (formatting.points(0.0249, signed=False), "2.49 pp"),
        (formatting.count(3879.0), "3,879"),
        (formatting.size(999), "999 B"),
        (formatting.size(324_400), "324 kB"),
        (formatting.size(999_499), "999 kB"),
        (formatting.size(999_500), "1.00 MB"),
        (formatting.size(999_990_000), "999.99 MB"),
        (formatting.size(999_995_000), "1.00 GB"),
        (formatting.size(None), "–"),
        (formatting.money(0.01234567), "0.01235"),
        (formatting.money(1234.567), "1,234.57"),
        (formatting.money(None), "–"),
        (formatting.milliseconds(0.0451), "0.045 ms"),
        (formatting.milliseconds(9.1), "9.10 ms"),
        (formatting.milliseconds(1944.2), "1,944.2 ms"),
        (formatting.duration(0.42), "0.42 s"),
        (formatting.duration(13.52), "13.5 s"),
        (formatting.duration(59.96), "1 min 0 s"),
        (formatting.duration(192), "3 min 12 s"),
        (formatting.duration(3599.7), "1 h 0 min"),
        (formatting.duration(7500), "2 h 5 min"),
        (formatting.duration(math.inf), "–"),
        (formatting.short("sha256:0123456789abcdef"), "0123456789ab"),
        (formatting.short(None), "–"),
        (formatting.timestamp(0.0), "1970-01-01 00:00:00"),
        (formatting.timestamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)), "2026-01-02 03:04:05"),
        (formatting.timestamp(1e300), "–"),
        (formatting.ranges([1, 2, 3, 5, 7, 8]), "1–3, 5, 7–8"),
        (formatting.ranges([]), ""),
    ],
)
def test_figures_are_shown_as_a_person_would_say_them(shown: str, expected: str) -> None:
    assert shown == expected
