"""The audit log: nothing is changed, taken out or put in without notice."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from fededge.errors import FedEdgeError
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import audit as lines
from fededge.fleet.registry.tables import chains
from tests.registries import NOW, at_once


def write(registry: Registry, tenant: str | None = "a", subject: str = "s", **details: object) -> None:
    registry.run(
        lambda connection: audit.append(connection, tenant, "ada", "test.done", subject, details, NOW)
    )


def change(registry: Registry, statement: Any) -> None:
    registry.run(lambda connection: connection.execute(statement))


def line(tenant: str, number: int) -> Any:
    return (lines.c.tenant == tenant) & (lines.c.number == number)


def test_lines_are_numbered_and_linked_each_tenant_by_itself(registry: Registry) -> None:
    for number in range(3):
        write(registry, "a", f"s{number}", size=number, at=0.1, none=None, nested={"é": [1, 2]})
    write(registry, "b")
    write(registry, None, "unprintable \0 \ud800")
    assert audit.verify(registry) is None
    found = audit.listing(registry, "a").items
    assert [(each.number, each.subject, each.details["size"]) for each in found] == [
        (1, "s0", 0),
        (2, "s1", 1),
        (3, "s2", 2),
    ]
    assert len({each.digest for each in found}) == 3
    assert [each.number for each in audit.listing(registry, "a", after=1, limit=1).items] == [2]
    assert audit.listing(registry, "a", limit=2).next == "2"
    (nobodys,) = audit.listing(registry, None).items
    assert nobodys.tenant is None


def test_nothing_is_logged_of_what_did_not_happen(registry: Registry) -> None:
    write(registry)

    def fails(connection: Connection) -> None:
        audit.append(connection, "a", "ada", "test.done", "s", {}, NOW)
        raise FedEdgeError("no")

    with pytest.raises(FedEdgeError):
        registry.run(fails)
    write(registry)
    assert [each.number for each in audit.listing(registry, "a").items] == [1, 2]
    assert audit.verify(registry) is None


def test_many_writers_at_once_keep_one_chain_a_tenant(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened(), opened()]
    works = [lambda n=n: write(registries[n % 3], "ab"[n % 2], str(n)) for n in range(24)]
    assert at_once(works) == [None] * 24
    for tenant in "ab":
        found = audit.listing(registries[0], tenant).items
        assert [each.number for each in found] == list(range(1, 13))
        assert len({each.subject for each in found}) == 12
    assert audit.verify(registries[0]) is None


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        (update(lines).where(line("b", 2)).values(actor="eve"), "b/2: its digest does not fit"),
        (update(lines).where(line("b", 2)).values(details={"x": 2}), "b/2: its digest does not fit"),
        (update(lines).where(line("b", 2)).values(at=NOW + 1e-6), "b/2: its digest does not fit"),
        (delete(lines).where(line("b", 2)), "b/2: it is missing"),
        (delete(lines).where(line("b", 1)), "b/1: it is missing"),
        (delete(lines).where(line("b", 3)), "b/2: it is not the last line that was written"),
        (delete(lines).where(lines.c.tenant == "b"), "b/1: it is missing"),
        (delete(chains).where(chains.c.tenant == "b"), "b/3: it is not the last line that was written"),
        (update(lines).where(line("c", 1)).values(tenant="d"), "c/1: it is missing"),
    ],
)
def test_a_line_that_was_tampered_with_shows(registry: Registry, statement: object, broken: str) -> None:
    for tenant in "abc":
        for number in range(3):
            write(registry, tenant, x=number)
    assert audit.verify(registry) is None
    change(registry, statement)
    assert audit.verify(registry) == broken


def test_a_line_that_was_put_in_shows(registry: Registry) -> None:
    write(registry)
    kept = registry.read(lambda connection: connection.execute(select(lines)).one())
    change(registry, insert(lines).values({**kept._mapping, "number": 2}))
    assert audit.verify(registry) == "a/2: its digest does not fit"


def test_lines_that_were_swapped_show(registry: Registry) -> None:
    write(registry, subject="first")
    write(registry, subject="second")
    for old, new in ((1, 3), (2, 1), (3, 2)):
        change(registry, update(lines).where(line("a", old)).values(number=new))
    assert audit.verify(registry) == "a/1: its digest does not fit"
