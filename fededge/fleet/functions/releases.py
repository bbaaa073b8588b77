"""Releases: the newest of each task, which clients follow it, and what they say that they run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.functions.blobs import needed
from fededge.fleet.functions.quotas import tenant_of
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry, add
from fededge.fleet.registry.pages import page
from fededge.fleet.registry.tables import release_blobs, releases, running
from fededge.protocol import Following, Page, ReleaseInfo, ReleaseRequest


@dataclass(frozen=True)
class Newer:
    """A release that a client does not have: digest and bytes of its manifest, and of the model of the client's class."""

    task: str
    manifest: tuple[str, int]
    model: tuple[str, int] | None


def publish(
    registry: Registry, tenant: str, task: str, request: ReleaseRequest, actor: str, now: float
) -> ReleaseInfo:
    """Make a release its task's; the same once more changes nothing.

    Raises:
        GatewayError: a digest is not stored, or the release was issued no later than the one that is there.
    """

    def published(connection: Connection) -> None:
        tenant_of(connection, tenant)  # one at a time
        key = (releases.c.tenant == tenant, releases.c.task == task)
        there = connection.execute(select(releases).where(*key)).one_or_none()
        if there is not None and there.manifest == request.manifest:
            return
        if there is not None and request.issued <= there.issued:
            raise GatewayError(
                f"the release of {task} that is there was issued later: release again", "OLDER", 409
            )
        digests = {request.manifest, *request.models.values()}
        sizes = needed(connection, tenant, digests, now)
        values = {
            "manifest": request.manifest,
            "manifest_bytes": sizes[request.manifest],
            "issued": request.issued,
            "models": {name: [digest, sizes[digest]] for name, digest in request.models.items()},
            "published": now,
        }
        if there is None:
            add(connection, releases, {"tenant": tenant, "task": task, **values})
        else:
            connection.execute(update(releases).where(*key).values(values))
        of_task = (release_blobs.c.tenant == tenant, release_blobs.c.task == task)
        connection.execute(delete(release_blobs).where(*of_task))
        connection.execute(
            insert(release_blobs), [{"tenant": tenant, "task": task, "digest": digest} for digest in sizes]
        )
        audit.append(connection, tenant, actor, "release.publish", task, {"manifest": request.manifest}, now)

    registry.run(published)
    return get(registry, tenant, task)


def get(registry: Registry, tenant: str, task: str) -> ReleaseInfo:
    """The release of a task.

    Raises:
        GatewayError: there is none.
    """
    query = select(releases).where(releases.c.tenant == tenant, releases.c.task == task)
    row = registry.read(lambda connection: connection.execute(query).one_or_none())
    if row is None:
        raise GatewayError(f"no release of {shown(task)}: list them", "NO_RELEASE", 404)
    return _info(row)


def listing(registry: Registry, tenant: str, after: str = "", limit: int = 100) -> Page[ReleaseInfo]:
    """Releases in the order of their tasks."""
    query = select(releases).where(releases.c.tenant == tenant)
    rows, following = registry.read(lambda connection: page(connection, query, releases.c.task, after, limit))
    return Page[ReleaseInfo](items=[_info(row) for row in rows], next=following)


def follow(
    registry: Registry, tenant: str, client: str, following: Sequence[Following], now: float
) -> list[Newer]:
    """Keep what a client says that it runs; the releases that it follows and does not have."""
    told = {each.task: each.running for each in following if each.running is not None}

    def kept(connection: Connection) -> None:
        for task, report in sorted(told.items()):
            key = (running.c.tenant == tenant, running.c.client == client, running.c.task == task)
            values = {"report": report.to_content(), "at": now}
            if not connection.execute(update(running).where(*key).values(values)).rowcount:
                add(connection, running, {"tenant": tenant, "client": client, "task": task, **values})

    if told:
        registry.run(kept)
    query = select(releases).where(
        releases.c.tenant == tenant, releases.c.task.in_(sorted({each.task for each in following}))
    )
    rows = {row.task: row for row in registry.read(lambda connection: connection.execute(query).all())}
    found = []
    for each in following:
        row = rows.get(each.task)
        if row is not None and row.manifest != each.manifest:
            model = row.models.get(each.device_class)
            found.append(Newer(each.task, (row.manifest, row.manifest_bytes), model and tuple(model)))
    return found


def _info(row: Row[Any]) -> ReleaseInfo:
    content = dict(row._mapping)
    models = {name: digest for name, (digest, _) in content["models"].items()}
    return ReleaseInfo(
        **{name: content[name] for name in ("task", "manifest", "issued", "published")}, models=models
    )
