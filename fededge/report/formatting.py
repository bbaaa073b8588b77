"""Figures as a person reads them: shares, sizes, times and digests, and an en dash where there is none."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

NONE = "–"
PERCENTAGES = frozenset({"accuracy", "balanced_accuracy"})
"""Metrics that are shown as percent."""
INITIALS = frozenset({"r2", "auc", "mae", "mse", "rmse"})


def percent(value: float | None, digits: int = 2) -> str:
    """A share as percent: 0.9806 -> 98.06 %."""
    return NONE if value is None else f"{value * 100:.{digits}f} %"


def points(value: float | None, signed: bool = True) -> str:
    """A difference of two shares in percentage points: -0.0055 -> −0.55 pp."""
    if value is None:
        return NONE
    return f"{value * 100:{'+' if signed else ''}z.2f} pp".replace("-", "−").replace("+0.00 ", "0.00 ")


def score(value: float | None, metric: str) -> str:
    """A value of `metric`: accuracies as percent, others with four digits."""
    return percent(value) if metric in PERCENTAGES else number(value)


def difference(value: float | None, metric: str, signed: bool = True) -> str:
    """A difference of two values of `metric`: of accuracies in percentage points."""
    if value is None or metric in PERCENTAGES:
        return points(value, signed)
    return f"{value:{'+' if signed else ''}z,.4f}".replace("-", "−").replace("+0.0000", "0.0000")


def titled(metric: str) -> str:
    """The name of a metric as a heading: balanced_accuracy -> Balanced accuracy, r2 -> R2."""
    words = metric.replace("_", " ")
    return words.upper() if metric in INITIALS else words[:1].upper() + words[1:]


def number(value: float | None, digits: int = 4) -> str:
    """A figure with `digits` decimals."""
    return NONE if value is None else f"{value:,.{digits}f}"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return NONE if value is None else f"{value:,.0f}"


def size(value: int | None) -> str:
    """Bytes in decimal units: 324400 -> 324 kB."""
    if value is None:
        return NONE
    if value < 1000:
        return f"{value} B"
    if value < 999_995_000:
        return f"{value / 1000:,.0f} kB" if value < 999_500 else f"{value / 1e6:,.2f} MB"
    return f"{value / 1e9:,.2f} GB"


def money(value: float | None) -> str:
    """A cost to four significant digits; of which currency, the task's author knows."""
    if value is None:
        return NONE
    return f"{value:,.2f}" if value >= 100 else f"{value:.4g}"


def milliseconds(value: float | None) -> str:
    """A latency in ms to about three significant digits."""
    if value is None:
        return NONE
    return f"{value:.3f} ms" if value < 1 else f"{value:.2f} ms" if value < 10 else f"{value:,.1f} ms"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 0.42 s, 13.5 s, 3 min 12 s, 2 h 5 min."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short(digest: str | None) -> str:
    """The first twelve characters of a digest, without its algorithm."""
    return (digest or "").removeprefix("sha256:")[:12] or NONE


def timestamp(value: datetime | float | None) -> str:
    """A time in UTC to the second; a number counts seconds since the epoch."""
    if value is None:
        return NONE
    if not isinstance(value, datetime):
        try:
            value = datetime.fromtimestamp(value, UTC)
        except (OverflowError, OSError, ValueError):  # beyond the calendar
            return NONE
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def share(part: float, whole: Sequence[int]) -> float:
    """`part` of the sum of `whole`, for shading; 0 where there is nothing."""
    return part / max(sum(whole), 1)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending whole numbers in short: 1, 2, 3, 5 -> 1–3, 5."""
    parts: list[list[int]] = []
    for value in numbers:
        if parts and value == parts[-1][-1] + 1:
            parts[-1][1:] = [value]
        else:
            parts.append([value])
    return ", ".join("–".join(map(str, part)) for part in parts)
