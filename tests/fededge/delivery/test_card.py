"""The model card: what it tells of a version, and that names from data and tasks stay text."""

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fededge.delivery import card
from fededge.delivery.card_pages import Section, Table, html, markdown
from fededge.documents import (
    ClassScore,
    ClientCounts,
    ClientScore,
    Evaluation,
    Feature,
    GateDecision,
    HeldOut,
    Label,
    ModelVersion,
    Population,
    RoundRecord,
    Schema,
)
from fededge.task import FederatedTask, parse
from tests.registered_models import measured

DIGEST = "sha256:" + "a" * 64
TASK = parse(
    """
name: churn
data: {source: digits}
partition: {clients: 3}
learning: {rounds: 2, cohort: {size: 2}}
card: {license: CC-BY-4.0, authors: [Ann, Bob], intended_use: Calls at noon., limits: Not for credit.}
"""
)


@pytest.fixture
def facts(register: Callable[..., ModelVersion], task: FederatedTask) -> tuple[ModelVersion, card.Facts]:
    schema = Schema(
        features=[
            Feature(name="age", dtype="float32", shape=[], unit="years"),
            Feature(name="job", dtype="int64", shape=[], categories=["cook", "smith"]),
        ],
        label=Label(kind="class", classes=2, names=["stays", "leaves"], name="churn"),
    )
    counts = [ClientCounts(id=f"site-{n}", train=10 * n, test=5, labels=[4 * n, 6 * n]) for n in (1, 2, 3)]
    evaluation = Evaluation(
        round=2,
        score=0.9,
        loss=0.25,
        metrics={"roc_auc": 0.95},
        examples=15,
        samples=60,
        test_digest=DIGEST,
        per_class=[
            ClassScore(label=name, examples=n, precision=0.5, recall=0.75, f1=0.6)
            for name, n in (("stays", 12), ("leaves", 3))
        ],
        clients=[
            ClientScore(id=f"site-{n}", score=s, loss=0.1, examples=5) for n, s in ((1, 0.6), (2, 0.95))
        ],
        worst_tenth=0.6,
        spread=0.175,
        failed={"site-3": "no answer"},
    )
    history = [
        RoundRecord(
            round=n,
            cohort=["site-1", "site-2"],
            reported=["site-1", "site-2"],
            examples=30,
            loss=0.4,
            score=0.8,
            seconds=1,
            at=1,
        )
        for n in (1, 2)
    ]
    return register(), card.Facts(
        population=Population(
            clients=counts,
            example=schema,
            examples=75,
            simulated=False,
            held_out=HeldOut(by="time", seed=0, test=15),
        ),
        history=history,
        evaluation=evaluation,
        decision=GateDecision(decision="pass", reasons=[], score=0.9),
        measured=[measured(), measured("int8", passed=False, reasons=["too large"])],
        parents={"state": DIGEST},
    )


def test_tells_people_what_the_run_knows(facts: Any) -> None:
    text = markdown("churn, version 1", card.model_card(TASK, *facts))
    for line in (
        "- **Authors**: Ann, Bob",
        "- **License**: CC-BY-4.0",
        "- **Takes**: age, job, as \\[2\\]",
        "Calls at noon.",
        "- Not for credit.",
        "| roc\\_auc | 0.95 |",
        "15 held-out examples. Tested on examples later than those that it learned from.",
        "| age | float32 |  | years |  |",
        "| leaves | 36 |",
        "| leaves | 3 | 0.5 | 0.75 | 0.6 |",
        "- **Mean of the worst tenth**: 0.6",
        "- **Spread (standard deviation)**: 0.175",
        "- **Training examples a client**: 10 to 30, median 20",
        "- 1 of 3 clients had no update that counts.",
        "- It could not be tested at 1 of the clients.",
        "- Fewer than 10 held-out examples, so hardly tested: leaves.",
        f"- **From state**: {DIGEST}",
    ):
        assert f"{line}\n" in text
    assert "| int8 | 0.97 | 10 | 0.1 | too large |" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        f"## {title}"
        for title in (
            *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data"),
            *("Quantitative analyses", "Variants", "Ethical considerations", "Caveats and recommendations"),
            "Lineage",
        )
    ]


def test_names_no_client(facts: Any) -> None:
    sections = card.model_card(TASK, *facts)
    assert "site-" not in markdown("a", sections) + html("a", sections)


def test_a_card_without_a_word_of_people_says_so(facts: Any) -> None:
    text = markdown("a", card.model_card(TASK.model_copy(update={"card": type(TASK.card)()}), *facts))
    assert "- **License**: not stated\n" in text
    assert "Not stated by its authors." in text


def test_the_card_is_no_part_of_what_is_learned() -> None:
    other = TASK.model_copy(update={"card": type(TASK.card)()})
    assert other.identity == TASK.identity
    assert other.digest != TASK.digest


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "https://evil.example and www.evil.example or a@evil.example",
    "a | b\n\n# heading\n- item",
    "`code` **bold** _it_ ~~gone~~ $x$",
    "# heading",
    "1. first",
    "---",
    "&lt;b&gt;",
    "\\| \\",
    "a\x00b\u202ec",
]


class Seen(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def rendered(text: str) -> str:
    """Markdown as a page, with tables and links without brackets, as GitHub's dialect has them."""
    page: str = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    return page


def sections(name: str) -> list[Section]:
    return [Section(name, [(name, name)], [Table([name, "b"], [[name, name]])], [name], [name])]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", [html, lambda *card: rendered(markdown(*card))], ids=["html", "markdown"])
def test_a_hostile_name_is_shown_as_text(name: str, form: Callable[..., str]) -> None:
    plain, hostile = (Seen(form(title, sections(title))) for title in ("name", name))
    assert hostile.tags == plain.tags
    shown = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    assert hostile.words.count(shown) >= 7


@given(st.text(max_size=60))
def test_any_name_leaves_the_page_as_it_is(name: str) -> None:
    plain, hostile = (Seen(rendered(markdown(t, sections(t)))) for t in ("name", f"x{name}"))
    assert hostile.tags == plain.tags


def test_addresses_become_no_links() -> None:
    text = markdown("a", sections(HOSTILE[4]))
    assert "https://" not in text
    assert "www.evil" not in text
    assert "a@" not in text


def test_a_long_card_is_cut_for_the_description_and_says_where_the_rest_is(facts: Any) -> None:
    version, made = facts
    classes = [
        ClassScore(label=f"class {n} of many", examples=3, precision=1, recall=1, f1=1) for n in range(400)
    ]
    evaluation = made.evaluation.model_copy(update={"per_class": classes})
    text = markdown("a", card.model_card(TASK, version, replace(made, evaluation=evaluation)))
    assert "class 49 of many" in text
    assert "class 50 of many" not in text
    cut = card.shortened(text * 3)
    assert len(cut) <= card.DESCRIPTION
    assert cut.endswith("\n\nThe whole card is README.md among the version's files.\n")
    assert card.shortened("short\n") == "short\n"
