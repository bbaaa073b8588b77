"""The document about a data set that nobody has learned from yet: what is in it, and a task that fits it."""

from typing import ClassVar, Literal

from pydantic import Field

from fededge.documents.base import Count, Document, Part
from fededge.documents.data import Schema


class Bar(Part):
    """How many examples hold a value, or lie in a range of values."""

    name: str
    count: Count


class ColumnFinding(Part):
    """What one feature or label holds.

    Attributes:
        role: what it is used for; `left out` says why in `note`.
        kind: number, words, truth or array.
        missing: examples that have none.
        distinct: different words; of numbers None.
        low: least number, and so on; None of words.
        bars: the most frequent words, or ranges of numbers from low to high.
    """

    name: str
    role: Literal["feature", "label", "owner", "time", "left out"]
    kind: str
    missing: Count = 0
    distinct: Count | None = None
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    bars: list[Bar] = []
    note: str = ""


class Finding(Part):
    """Something that a person should know: `severity` warn where it may do harm."""

    severity: Literal["info", "warn"]
    text: str


class Inspection(Document):
    """What was found in a data set.

    Attributes:
        data: its path or name.
        examples: in all.
        example: what an example looks like, without statistics.
        columns: of a table each column; else each array.
        owners: examples of each owner, the largest first; empty where none are named.
        duplicates: examples that are the same as one before them.
        chance: score of always giving the same answer; `reached`: of scikit-learn's trees on a held-out part. Both None
            where labels are sequences or there are none.
        metric: of the two.
        findings: what a person should know.
        task: a task file that runs as it stands.
    """

    KIND: ClassVar = "inspection"
    REMEDY: ClassVar = "Inspect the data again"

    data: str
    examples: Count
    example: Schema
    columns: list[ColumnFinding]
    owners: list[Bar] = []
    owner_count: Count = 0
    duplicates: Count = 0
    metric: str = ""
    chance: float | None = None
    reached: float | None = None
    findings: list[Finding] = []
    task: str = Field(max_length=1 << 20)
