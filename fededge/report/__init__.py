"""The report of a run: one self-contained HTML page and a summary for the terminal."""

from fededge.report.content import Report, RunOutcome, report_of
from fededge.report.page import render
from fededge.report.records import Facts, device_reports, read
from fededge.report.terminal import summary
from fededge.report.writing import end_run, replace_page, write_report

__all__ = [
    "Facts",
    "Report",
    "RunOutcome",
    "device_reports",
    "end_run",
    "read",
    "render",
    "replace_page",
    "report_of",
    "summary",
    "write_report",
]
