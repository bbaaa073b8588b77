"""A model card as Markdown and as an HTML page. Names in it come from data and tasks: both forms show them as text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MARKUP = re.compile(r"[\\`*_\[\]|~$@]|:(?=//)|(?<=www)\.|^[#+=-]|(?<=^\d)[.)](?= )")
"""What Markdown reads as more than itself: links without brackets, and what begins a heading or a list, too."""
LONGEST = 500
"""Characters of a cell or a fact."""
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b2430}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #cbd3dc;padding:.25rem .6rem;text-align:left}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}dt{font-weight:600}dd{margin:0}"
    "dd,td{overflow-wrap:anywhere}"
)


@dataclass(frozen=True)
class Table:
    """A head, and rows as long."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of a card: facts by name, tables, paragraphs (`notes`), and a list (`items`)."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    items: Sequence[str] = ()


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The card as Markdown with tables, as GitHub and MLflow show it."""
    blocks = [f"# {_text(title)}"]
    for section in sections:
        blocks.append(f"## {_text(section.title)}")
        if section.facts:
            blocks.append("\n".join(f"- **{_text(name)}**: {_text(value)}" for name, value in section.facts))
        for table in section.tables:
            rows = [table.head, ["---"] * len(table.head), *table.rows]
            lines = [[cell if row is rows[1] else _text(cell) for cell in row] for row in rows]
            blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        blocks += [_text(note, None) for note in section.notes]
        if section.items:
            blocks.append("\n".join(f"- {_text(item, None)}" for item in section.items))
    return "\n\n".join(blocks) + "\n"


def html(title: str, sections: Sequence[Section]) -> str:
    """The card as an HTML page that loads nothing."""
    body = [f"<h1>{_escaped(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{_escaped(section.title)}</h2>")
        if section.facts:
            facts = (f"<dt>{_escaped(n)}</dt><dd>{_escaped(value)}</dd>" for n, value in section.facts)
            body.append(f"<dl>{''.join(facts)}</dl>")
        for table in section.tables:
            head = "".join(f"<th>{_escaped(cell)}</th>" for cell in table.head)
            rows = ("".join(f"<td>{_escaped(cell)}</td>" for cell in row) for row in table.rows)
            body.append(f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
        body += [f"<p>{_escaped(note, None)}</p>" for note in section.notes]
        if section.items:
            body.append(f"<ul>{''.join(f'<li>{_escaped(item, None)}</li>' for item in section.items)}</ul>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escaped(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _plain(text: str, most: int | None) -> str:
    """`text` in one line, without what does not print."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    shown = " ".join(shown.split())
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"


def _text(text: str, most: int | None = LONGEST) -> str:
    """`text` so that Markdown shows it as it is."""
    return MARKUP.sub(r"\\\g<0>", escape(_plain(text, most), quote=False))


def _escaped(text: str, most: int | None = LONGEST) -> str:
    return escape(_plain(text, most))
