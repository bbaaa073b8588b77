"""The report of a run: one self-contained HTML page and a summary for the terminal."""

from fededge.delivery.report.content import Outcome, Report, report_of
from fededge.delivery.report.page import render
from fededge.delivery.report.records import Facts, device_reports, read
from fededge.delivery.report.terminal import summary
from fededge.delivery.report.writing import end_run, write_report

__all__ = [
    "Facts",
    "Outcome",
    "Report",
    "device_reports",
    "end_run",
    "read",
    "render",
    "report_of",
    "summary",
    "write_report",
]
