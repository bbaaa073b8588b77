"""A page as its tests see it: elements, attributes, text, headings and tables."""

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input", "hr"}


@dataclass
class Table:
    """A table: its caption, and the scope of each header cell."""

    caption: str = ""
    scopes: list[str | None] = field(default_factory=list)


class Page(HTMLParser):
    """Reads a page; fails on an element that is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[int] = []
        self.tables: list[Table] = []
        self._words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self.tables.append(Table())
        if tag == "th":
            self.tables[-1].scopes.append(dict(attributes).get("scope"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "caption":
            self.tables[-1].caption += data
        if self.open and self.open[-1] != "style":
            self._words.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, in one line."""
        return " ".join(" ".join(self._words).split())

    def values(self, attribute: str) -> list[str]:
        """Values of an attribute, in the order of the page."""
        return [value for _, name, value in self.attributes if name == attribute]
