"""The report as a terminal shows it: the outcome, the figures, the variants and the devices."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fededge.report.content import Report
from fededge.report.page import highlights, milliseconds, percent, short, size

COLORS = {"good": "green", "warn": "yellow", "bad": "red", "plain": "default"}
MOST_DEVICES = 20


def summary(report: Report) -> RenderableType:
    """What a rich console prints of the report. Text from records is shown as it is, never as markup."""
    outcome = report.outcome
    title = Text.assemble((f"{outcome.title}: ", f"bold {COLORS[outcome.mood]}"), _plain(outcome.text))
    parts: list[RenderableType] = [title]
    if outcome.detail:
        parts.append(Text(_plain(outcome.detail), style="red"))
    if report.facts.gate and not report.facts.gate.open:
        parts += [Text(f"  {_plain(reason)}") for reason in report.facts.gate.reasons]
    figures = highlights(report)
    if figures:
        grid = Table.grid(padding=(0, 2))
        for figure in figures:
            value = Text(figure.value, style=f"bold {COLORS[figure.mood]}")
            grid.add_row(Text(figure.label, style="dim"), value, Text(figure.note, style="dim"))
        parts += [Text(), grid]
    if report.variants:
        parts += [Text(), _variants(report)]
    if report.devices:
        parts += [Text(), _devices(report)]
    return Panel(Group(*parts), title=Text(f"{report.task.name} · {report.run}"), title_align="left")


def _variants(report: Report) -> Table:
    table = _table("Variant", "Size", "Accuracy", "1 example", "500", "Gate", right={1, 2, 3, 4})
    for found in report.variants:
        verdict = {True: Text("passed", "green"), False: Text("not passed", "red"), None: Text("–")}
        table.add_row(
            Text(_plain(found.kind)),
            size(found.bytes),
            percent(found.accuracy),
            milliseconds(found.latency_ms_1),
            milliseconds(found.latency_ms_500),
            verdict[found.passed],
        )
    return table


def _devices(report: Report) -> Table:
    table = _table("Device", "Class", "Runs", "Version", "Digest", "Status", right={3})
    for device in report.devices[:MOST_DEVICES]:
        table.add_row(
            *(
                Text(_plain(text))
                for text in (device.device, device.device_class, device.kind, device.version)
            ),
            Text(_plain(short(device.digest))),
            Text(_plain(device.verdict), style=COLORS[device.mood]),
        )
    if len(report.devices) > MOST_DEVICES:
        table.caption = f"and {len(report.devices) - MOST_DEVICES:,} more"
    return table


def _table(*names: str, right: set[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index in right else "left")
    return table


def _plain(text: str) -> str:
    """`text` without the control characters that could drive a terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
