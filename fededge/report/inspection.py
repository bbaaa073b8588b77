"""The page that `fededge inspect` writes: one HTML file without script and network."""

from pathlib import Path

import jinja2
from markupsafe import Markup

from fededge.documents import Inspection
from fededge.report import formatting

FOLDER = Path(__file__).parent


def render(found: Inspection) -> bytes:
    """The page in UTF-8. Whatever comes from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = formatting.count
    text = environment.get_template("inspection.html").render(
        found=found, style=Markup((FOLDER / "report.css").read_text(encoding="utf-8"))
    )
    return text.encode("utf-8", errors="replace")
