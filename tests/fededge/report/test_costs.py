"""What rounds took and cost, as the report tells it."""

from typing import Any

from fededge.report import render
from fededge.report.highlights import highlights
from fededge.report.rows import client_rows
from tests.fededge.report.example import RECORDS, report, round_record, rounds
from tests.fededge.report.html_page import Page

TOOK: dict[str, Any] = {"bytes_sent": 1_500_000_000, "bytes_received": 400_000_000, "client_seconds": 90.0}


def test_transfer_time_of_clients_and_cost_are_summed_and_told_of_each_round() -> None:
    found = report(
        rounds(
            round_record(1, ["a"], ["a"], cost=0.5, **TOOK), round_record(2, ["a"], ["a"], cost=1.75, **TOOK)
        )
    )
    told = {each.label: (each.value, each.note) for each in highlights(found)}
    assert told["Transferred"] == ("3.80 GB", "3.00 GB to clients, 800.00 MB back")
    assert told["Cost"] == ("2.25", "by the task's prices; clients worked 3 min 0 s")
    text = Page(render(found).decode()).text
    for words in ("Client time", "Sent", "Received", "Cost", "1.50 GB", "400.00 MB", "1 min 30 s", "1.75"):
        assert words in text


def test_without_prices_there_is_no_cost() -> None:
    found = report(RECORDS)
    assert "Cost" not in {each.label for each in highlights(found)}
    assert "Cost" not in Page(render(found).decode()).text


def test_a_client_that_was_asked_beyond_the_seats_did_not_fail() -> None:
    asked = round_record(1, ["a", "b", "c"], ["a"], failed={"b": "asleep"}, spare=["c"])
    rows = {row.id: row for row in client_rows(report(rounds(asked)).facts, None)}
    assert (rows["a"].selected, rows["a"].failed) == (1, 0)
    assert (rows["b"].selected, rows["b"].failed) == (1, 1)
    assert (rows["c"].selected, rows["c"].failed) == (0, 0)
    assert rows["c"].rounds == [(1, "not needed", "enough others had reported")]
