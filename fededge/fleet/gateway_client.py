"""The gateway's HTTP API (docs/protocol.md) as typed calls, for pipelines and the command line."""

from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from fededge import settings, storage
from fededge.errors import GatewayError
from fededge.fleet.gateway_connection import PATIENCE, Connection
from fededge.protocol import (
    Accepted,
    AuditEntry,
    BlobOffer,
    BlobPlace,
    Caller,
    ClientChange,
    ClientInfo,
    CloseRequest,
    EnrollmentRequest,
    EnrollmentToken,
    LookupRequest,
    Operator,
    OperatorRequest,
    OperatorToken,
    Page,
    QueueItem,
    ReleaseInfo,
    ReleaseRequest,
    Reports,
    RoundRequest,
    RoundStatus,
    SelectionRequest,
    SelectionResult,
    Tenant,
    TriggerInfo,
    TriggerRequest,
)

Item = TypeVar("Item", bound=BaseModel)
SELECTION = 120.0
"""Seconds that a policy may take that looks at each of a million clients."""
LOOKED_UP = 1000
"""Clients that are asked about at once."""
PAGE = 500
"""Entries that are asked for at once."""


class GatewayClient(Connection):
    """Calls of the gateway at `url`; use it with `with`. Each raises GatewayError where it is refused."""

    @classmethod
    def from_settings(cls, patience: float = PATIENCE) -> Self:
        """The gateway that the environment names (fededge.settings).

        Raises:
            GatewayError: it names none.
        """
        url = settings.gateway()
        if url is None:
            raise GatewayError("no gateway is named: set FEDEDGE_GATEWAY to its URL", "NO_GATEWAY")
        return cls(url, settings.gateway_token_file(), settings.gateway_ca_file(), patience)

    def caller(self) -> Caller:
        """Whose token is sent."""
        return self.ask(Caller, "GET", "/v1/caller")

    def clients(
        self,
        dataset: str | None = None,
        region: str | None = None,
        connected: bool | None = None,
        state: str | None = None,
    ) -> Iterator[ClientInfo]:
        """The clients of which all that is given holds, in the order of their ids."""
        query = {"dataset": dataset, "region": region, "connected": connected, "state": state}
        return self._all(ClientInfo, "/v1/clients", query)

    def client(self, client: str) -> ClientInfo:
        """What the registry holds of a client."""
        return self.ask(ClientInfo, "GET", f"/v1/clients/{_part(client)}")

    def clients_of(self, ids: Sequence[str]) -> list[ClientInfo]:
        """What the registry holds of these clients, in their order."""
        found: list[ClientInfo] = []
        for start in range(0, len(ids), LOOKED_UP):
            request = LookupRequest(clients=list(ids[start : start + LOOKED_UP]))
            found += self.ask(Page[ClientInfo], "POST", "/v1/lookups", request).items
        return found

    def change_client(self, client: str, change: ClientChange) -> ClientInfo:
        """Say something else of a client."""
        return self.ask(ClientInfo, "PATCH", f"/v1/clients/{_part(client)}", change)

    def revoke_client(self, client: str) -> Accepted:
        """Let a client in no more, and end its connection."""
        return self.ask(Accepted, "POST", f"/v1/clients/{_part(client)}/revoke")

    def enroll(self, request: EnrollmentRequest) -> list[EnrollmentToken]:
        """New one-time tokens, each shown this once."""
        return self.ask(Page[EnrollmentToken], "POST", "/v1/enrollments", request, repeatable=False).items

    def select(self, request: SelectionRequest) -> SelectionResult:
        """Who takes part in a round."""
        return self.ask(SelectionResult, "POST", "/v1/selections", request, wait=SELECTION)

    def store(self, data: bytes) -> str:
        """Store `data` under its digest, unless it is there; the digest."""
        offer = BlobOffer(digest=storage.digest(data), bytes=len(data))
        for last in (False, True):
            place = self.ask(BlobPlace, "POST", "/v1/blobs", offer)
            try:
                if place.url is not None:
                    self.put(place.url, data, place.offset if place.resumable else 0)
                break
            except GatewayError as error:
                # The URL is too old, or a broken try left other bytes there than the gateway said: ask where to go on.
                if last or not 400 <= error.status < 500:
                    raise
        return offer.digest

    def open_round(self, round_id: str, request: RoundRequest) -> RoundStatus:
        """Open a round; one of this id that is there already is answered as it stands."""
        return self.ask(RoundStatus, "PUT", f"/v1/rounds/{_part(round_id)}", request)

    def round(self, round_id: str) -> RoundStatus:
        """How a round stands."""
        return self.ask(RoundStatus, "GET", f"/v1/rounds/{_part(round_id)}")

    def rounds(self, task: str | None = None, state: str | None = None) -> Iterator[RoundStatus]:
        """The rounds of which all that is given holds."""
        return self._all(RoundStatus, "/v1/rounds", {"task": task, "state": state})

    def reports(self, round_id: str, after: int, wait: float) -> Reports:
        """Reports of a round after the ordinal `after`; where there are none, within `wait` seconds."""
        query = {"after": after, "wait": wait}
        return self.ask(Reports, "GET", f"/v1/rounds/{_part(round_id)}/reports", query=query, wait=wait)

    def close_round(self, round_id: str, request: CloseRequest) -> RoundStatus:
        """Take no more reports of a round, or tell what came of it."""
        return self.ask(RoundStatus, "POST", f"/v1/rounds/{_part(round_id)}/close", request)

    def queue(self, round_id: str) -> Iterator[QueueItem]:
        """Each client's part in a round."""
        return self._all(QueueItem, f"/v1/rounds/{_part(round_id)}/queue", {})

    def releases(self) -> Iterator[ReleaseInfo]:
        """The release of each task."""
        return self._all(ReleaseInfo, "/v1/releases", {})

    def put_release(self, task: str, request: ReleaseRequest) -> ReleaseInfo:
        """Make a release the task's."""
        return self.ask(ReleaseInfo, "PUT", f"/v1/releases/{_part(task)}", request)

    def tokens(self) -> Iterator[Operator]:
        """The tokens of programs and people, without their secrets."""
        return self._all(Operator, "/v1/tokens", {})

    def make_token(self, request: OperatorRequest) -> OperatorToken:
        """A new token, shown this once."""
        return self.ask(OperatorToken, "POST", "/v1/tokens", request, repeatable=False)

    def revoke_token(self, token: str) -> Accepted:
        """End a token, by its id."""
        return self.ask(Accepted, "DELETE", f"/v1/tokens/{_part(token)}")

    def tenants(self) -> Iterator[Tenant]:
        """All tenants that the caller may see."""
        return self._all(Tenant, "/v1/tenants", {})

    def put_tenant(self, tenant: Tenant) -> Tenant:
        """Make a tenant, or change its quotas."""
        return self.ask(Tenant, "PUT", f"/v1/tenants/{_part(tenant.name)}", tenant)

    def audit(self) -> Iterator[AuditEntry]:
        """The audit log, the oldest entry first."""
        return self._all(AuditEntry, "/v1/audit", {})

    def triggers(self) -> Iterator[TriggerInfo]:
        """All triggers."""
        return self._all(TriggerInfo, "/v1/triggers", {})

    def trigger(self, name: str) -> TriggerInfo:
        """A trigger."""
        return self.ask(TriggerInfo, "GET", f"/v1/triggers/{_part(name)}")

    def put_trigger(self, name: str, request: TriggerRequest) -> TriggerInfo:
        """Make or change a trigger."""
        return self.ask(TriggerInfo, "PUT", f"/v1/triggers/{_part(name)}", request)

    def delete_trigger(self, name: str) -> Accepted:
        """Remove a trigger."""
        return self.ask(Accepted, "DELETE", f"/v1/triggers/{_part(name)}")

    def fire_trigger(self, name: str) -> TriggerInfo:
        """Start what a trigger starts, now."""
        return self.ask(TriggerInfo, "POST", f"/v1/triggers/{_part(name)}/fire", repeatable=False)

    def _all(self, kind: type[Item], path: str, query: dict[str, Any]) -> Iterator[Item]:
        """Every entry of a list, page after page."""
        after: str | None = None
        while True:
            page = self.ask(Page[kind], "GET", path, query={**query, "after": after, "limit": PAGE})  # type: ignore[valid-type]
            yield from page.items
            if page.next is None:
                return
            after = page.next


def _part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")
