"""All that can be set of a gateway, with defaults for one machine."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fededge import settings


@dataclass(frozen=True)
class Oidc:
    """An identity provider whose access tokens operators may use (OpenID Connect Core 1.0).

    Attributes:
        issuer: its URL, exactly as `iss` has it; its keys are found by OpenID Connect Discovery 1.0.
        audience: that `aud` must hold.
        tenant_claim: claim with the name of the tenant; `scope_claim`: claim with reader, operator or admin, alone, in a
            list or between spaces.
        algorithms: signatures that are taken.
        keys_seconds: how long the provider's keys are kept before they are fetched again.
        ca_file: PEM file of the CA that the provider's certificate is checked with; None: the system's.
        accounts: tenant by `sub`, of programs whose tokens have no such claims, as a broker's service account in
            Kubernetes: each is an operator of its tenant.
    """

    issuer: str
    audience: str
    tenant_claim: str = "fededge_tenant"
    scope_claim: str = "fededge_scope"
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    keys_seconds: float = 3600.0
    ca_file: Path | None = None
    accounts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rate:
    """A token bucket: `burst` at once, and `per_second` from then on."""

    per_second: float
    burst: float


def _new_id() -> str:
    return f"gateway-{secrets.token_hex(6)}"


@dataclass(frozen=True)
class GatewaySettings:
    """What a gateway is told when it starts. Times are in seconds, sizes in bytes.

    Attributes:
        host, port: where it listens; port 0: a free one.
        url: under which it is reached from outside, and under which objects are fetched and sent; None: where it listens,
            and where the asker is already.
        id: told to clients, which sign it; a new one each start, so that what an earlier process held is given up once
            its lease ends.
        database: URL of the registry; `storage`: of the blob store; `key_file`: secret that
            signs its URLs; None: the one in the home folder, made there first.
        redis: URL of the Redis by which gateways wake each other; None: each looks for work by itself alone.
        certificate_file, private_key_file: PEM, for TLS; `client_ca_file`: only who has a certificate of this CA is
            served at all (mTLS). `certificate_seconds`: how often it is looked whether these files changed.
        insecure: serve plain HTTP on other addresses than this machine's own, as behind a proxy that does TLS.
        trusted_proxies: addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
        oidc: an identity provider beside the gateway's own tokens.

        heartbeat_seconds: how often clients send one; a session without a message for `idle_heartbeats` of them ends.
        poll_seconds: how often the registry is asked for work.
        wait_seconds: for which a request for reports waits at most.
        lease_seconds: without a sign of this gateway for so long, the others end its sessions.
        hello_seconds: for a client to say hello; `head_seconds`: for the head of an HTTP request to arrive;
            `body_seconds`: for a JSON body; `stall_seconds`: for the next bytes of an upload, and for a receiver that
            does not read.
        url_seconds: for which a URL is good.
        partial_seconds: after which an upload that nobody goes on with is removed.
        keep_seconds: for which plans, weights and updates are kept that no open round needs.
        history_seconds: for which closed rounds are kept, with their reports, after their deadline; None: for good.
        drain_seconds: for requests to finish after SIGTERM.

        connections: most clients at a time; `requests`: most other connections.
        welcomes: most clients that are let in at a time: of more, each would wait longer, and so would those that are in.
        lag_seconds: of the event loop, from which on the gateway is overloaded; `pending`: so is it with so many
            database calls waiting.
        connects_per_second: of clients that were turned away or sent off, when they come back.
        outgoing: most messages that wait for one client.
        body_bytes: of a JSON body; `round_bytes`: of one that opens a round, which names its cohort.
        enrolls, connects, requests_rate: of one address; `operations`: of one operator's token;
            `messages`: of one client.
        database_threads: that call the registry at a time; SQLite has one writer whatever this says.
        trace_endpoint: OTLP over HTTP, such as http://collector:4318/v1/traces; None: no traces.
        log_level: of its log, on standard error.
    """

    host: str = "127.0.0.1"
    port: int = 8470
    url: str | None = field(default_factory=settings.gateway_url)
    id: str = field(default_factory=_new_id)
    database: str = field(default_factory=settings.fleet_database)
    storage: str = field(default_factory=settings.storage)
    key_file: Path | None = field(default_factory=settings.gateway_key_file)
    redis: str | None = field(default_factory=settings.gateway_redis)
    certificate_file: Path | None = None
    private_key_file: Path | None = None
    client_ca_file: Path | None = None
    certificate_seconds: float = 10.0
    insecure: bool = False
    trusted_proxies: tuple[str, ...] = ()
    oidc: Oidc | None = None

    heartbeat_seconds: float = 30.0
    idle_heartbeats: float = 2.5
    poll_seconds: float = 0.25
    wait_seconds: float = 60.0
    lease_seconds: float = 15.0
    hello_seconds: float = 10.0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    stall_seconds: float = 60.0
    url_seconds: float = 3600.0
    partial_seconds: float = 86_400.0
    keep_seconds: float = 7 * 86_400.0
    history_seconds: float | None = None
    drain_seconds: float = 20.0

    connections: int = 15_000
    requests: int = 2_000
    welcomes: int = 64
    lag_seconds: float = 2.0
    pending: int = 5_000
    connects_per_second: float = 200.0
    outgoing: int = 16
    body_bytes: int = 4 << 20
    round_bytes: int = 80 << 20
    enrolls: Rate = Rate(0.5, 20)
    connects: Rate = Rate(20, 200)
    requests_rate: Rate = Rate(200, 1000)
    operations: Rate = Rate(50, 500)
    messages: Rate = Rate(10, 50)
    database_threads: int = 8
    trace_endpoint: str | None = None
    log_level: str = "INFO"
