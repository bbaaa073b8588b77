"""What devices said about themselves."""

import logging

from fededge.documents import DeviceReport, read_reports

log = logging.getLogger(__name__)


def collect(root: str, task: str) -> list[DeviceReport]:
    """The last report of every device of `task`, sorted by device id.

    A report that is too large, malformed or under another device's name is left out and logged: one
    bad device must not hide the others.
    """
    reports, refused = read_reports(root, task)
    for name, reason in refused.items():
        log.warning("ignoring the device report %s: %s", name, reason[:500])
    return reports
