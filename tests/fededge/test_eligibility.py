"""Conditions over what a client says of itself: met, unmet, unknown; windows over midnight; what is told in steps."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from fededge.eligibility import Conditions, Window, coarse

pytestmark = pytest.mark.environment("platform", "edge")
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()
"""Of a Wednesday."""


def unmet(said: dict[str, str], now: float = NOON, **conditions: Any) -> str | None:
    return Conditions(**conditions).unmet(said, now)


def test_nothing_asked_for_is_met_by_who_says_nothing() -> None:
    assert not Conditions().stated
    assert unmet({}) is None


@pytest.mark.parametrize(
    ("condition", "name", "good", "bad"),
    [
        ({"charging": True}, "charging", "true", "false"),
        ({"unmetered": True}, "metered", "false", "true"),
        ({"idle": True}, "idle", "true", "false"),
        ({"manual": True}, "manual", "true", "false"),
        ({"min_battery": 0.5}, "battery", "0.5", "0.49"),
        ({"max_temperature_celsius": 40.0}, "temperature_celsius", "40", "40.1"),
        ({"min_free_memory_bytes": 1000}, "free_memory_bytes", "1000", "999"),
        ({"min_free_storage_bytes": 1000}, "free_storage_bytes", "2000", "0"),
        ({"min_new_examples": 3}, "new_examples", "3", "2"),
        ({"regions": ["eu", "us"]}, "region", "us", "asia"),
    ],
)
def test_a_condition_is_met_or_not_and_what_is_not_known_meets_none(
    condition: dict[str, Any], name: str, good: str, bad: str
) -> None:
    assert unmet({name: good}, **condition) is None
    assert str(unmet({name: bad}, **condition)).startswith(f"{name} is {bad}, where ")
    assert str(unmet({}, **condition)).startswith(f"{name} is not known, where ")
    assert unmet({name: "nonsense"}, **condition) is not None
    assert unmet({name: "nan"}, **condition) is not None


def at(day: int, hour: int, minute: int = 0) -> float:
    """Of the week of Monday, the second of March 2026, in UTC."""
    return datetime(2026, 3, 2 + day, hour, minute, tzinfo=UTC).timestamp()


def test_a_window_over_midnight_is_of_the_day_it_begins_on() -> None:
    window = {"windows": [Window(days=["fri"], begin="22:00", end="06:00")]}
    inside = [at(4, 22), at(4, 23, 59), at(5, 0), at(5, 5, 59)]
    outside = [at(4, 5), at(4, 21, 59), at(5, 6), at(5, 23), at(3, 23)]
    said = {"utc_offset_minutes": "0"}
    assert [unmet(said, now, **window) for now in inside] == [None] * 4
    assert all(unmet(said, now, **window) for now in outside)


def test_a_window_is_in_the_clients_own_time_zone() -> None:
    window = {"windows": [Window(begin="01:00", end="03:00")]}
    assert unmet({"utc_offset_minutes": "-660"}, at(2, 13), **window) is None
    assert unmet({"utc_offset_minutes": "0"}, at(2, 13), **window) is not None
    assert "not known" in str(unmet({}, at(2, 13), **window))
    assert unmet({"utc_offset_minutes": "1e9"}, at(2, 13), **window) is not None


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 7 * 1440 - 1))
def test_a_window_holds_for_as_long_as_it_says_from_each_of_its_beginnings(
    begin: int, length: int, now: int
) -> None:
    def text(minutes: int) -> str:
        return f"{minutes // 60 % 24:02}:{minutes % 60:02}"

    window = Window(days=["tue"], begin=text(begin), end=text(begin + length))
    since = (now - 1440 - begin) % (7 * 1440)
    moment = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(minutes=now)
    assert window.holds(moment) == (since < (length or 1440))


def test_a_clock_ten_years_off_changes_nothing_but_windows() -> None:
    decade = 10 * 365 * 86_400.0
    said = {"charging": "true", "battery": "0.9", "new_examples": "8"}
    for now in (NOON - decade, NOON, NOON + decade):
        assert unmet(said, now, charging=True, min_battery=0.5, min_new_examples=3) is None
        assert unmet(said, now, charging=True, idle=True) == "idle is not known, where true is asked for"


@given(st.floats(0, 1), st.floats(-50, 150), st.integers(0, 1 << 50))
@example(0.0, 0.0, 1 << 46)
def test_what_is_told_in_steps_never_meets_more_than_what_was_measured(
    battery: float, temperature: float, memory: int
) -> None:
    told = coarse(
        {"battery": str(battery), "temperature_celsius": str(temperature), "free_memory_bytes": str(memory)}
    )
    assert battery - 0.0500001 <= float(told["battery"]) <= battery + 1e-9
    assert temperature - 1e-9 <= float(told["temperature_celsius"]) <= temperature + 5
    assert memory * 7 / 8 - 1 <= float(told["free_memory_bytes"]) <= memory


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_battery": 2.0},
        {"charging": "yes"},
        {"windows": [{"begin": "24:00", "end": "01:00"}]},
        {"windows": [{"days": [], "begin": "01:00", "end": "02:00"}]},
        {"min_free_memory_bytes": 0},
        {"sunny": True},
    ],
)
def test_what_is_no_condition_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Conditions.model_validate(wrong)


def test_only_training_needs_new_examples() -> None:
    asked = Conditions(charging=True, min_new_examples=5)
    assert asked.for_kind("train") == asked
    assert asked.for_kind("evaluate") == Conditions(charging=True)
