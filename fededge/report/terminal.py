"""The report as a terminal shows it: the outcome, the figures, the variants and the devices."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fededge.report.content import Report
from fededge.report.formatting import milliseconds, score, short, size, titled
from fededge.report.highlights import highlights

COLORS = {"good": "green", "warn": "yellow", "bad": "red", "plain": "default"}
MAX_DEVICES = 20
MAX_UNREADABLE = 5


def summary(report: Report) -> RenderableType:
    """What a rich console prints of the report. Text from records is shown as it is, never as markup."""
    outcome, gate, unreadable = report.outcome, report.facts.gate, report.facts.unreadable
    title = Text.assemble(
        (f"{outcome.title}: ", f"bold {COLORS[outcome.severity]}"),
        _plain(outcome.text),
        no_wrap=False,
        overflow="fold",
    )
    parts: list[RenderableType] = [title]
    if outcome.detail:
        parts.append(_wrapped(outcome.detail, "red"))
    if gate and gate.decision != "pass":
        parts += [_wrapped(f"  {reason}") for reason in gate.reasons]
    for name, reason in list(unreadable.items())[:MAX_UNREADABLE]:
        parts.append(_wrapped(f"not read: {name}: {reason}", "yellow"))
    if len(unreadable) > MAX_UNREADABLE:
        parts.append(Text(f"and {len(unreadable) - MAX_UNREADABLE:,} more, on the page", style="yellow"))
    figures = highlights(report)
    if figures:
        grid = Table.grid(padding=(0, 2))
        for figure in figures:
            value = Text(figure.value, style=f"bold {COLORS[figure.severity]}")
            grid.add_row(Text(figure.label, style="dim"), value, Text(figure.note, style="dim"))
        parts += [Text(), grid]
    if report.variants:
        parts += [Text(), _variants(report)]
    if report.devices:
        parts += [Text(), _devices(report)]
    return Panel(Group(*parts), title=Text(f"{report.task.name} · {report.run}"), title_align="left")


def _variants(report: Report) -> Table:
    table = _table("Variant", "Size", titled(report.metric), "1 example", "500", "Gate", right={1, 2, 3, 4})
    for found in report.variants:
        table.add_row(
            Text(_plain(found.kind)),
            size(found.bytes),
            score(found.score, found.metric),
            milliseconds(found.latency_ms_1),
            milliseconds(found.latency_ms_500),
            Text("passed", "green") if found.passed else Text("not passed", "red"),
        )
    return table


def _devices(report: Report) -> Table:
    table = _table("Device", "Class", "Runs", "Version", "Digest", "Status", right={3})
    for device in report.devices[:MAX_DEVICES]:
        table.add_row(
            *(
                Text(_plain(text))
                for text in (device.device, device.device_class, device.kind, device.version)
            ),
            Text(_plain(short(device.digest))),
            Text(_plain(device.status), style=COLORS[device.severity]),
        )
    if len(report.devices) > MAX_DEVICES:
        table.caption = f"and {len(report.devices) - MAX_DEVICES:,} more"
    return table


def _table(*names: str, right: set[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index in right else "left")
    return table


def _wrapped(text: str, style: str = "") -> Text:
    """`text` over as many lines as it takes, also where a console otherwise lets lines run on, as into a file."""
    return Text(_plain(text), style=style, no_wrap=False, overflow="fold")


def _plain(text: str) -> str:
    """`text` without the control characters that could drive a terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
