"""Tokens of identity providers: of one that the test plays, right and wrong, and of a real one, npm's oidc-provider."""

import asyncio
import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from fededge.errors import GatewayError
from fededge.fleet.gateway.oidc import Provider
from fededge.fleet.gateway.settings import Oidc
from fededge.ports import free_port
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token

SERVER = """
import Provider from 'oidc-provider';
const port = Number(process.argv[2]);
const resource = {
  scope: 'api', audience: 'fededge', accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: {sign: {alg: 'RS256'}},
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'pipeline', client_secret: 'word-of-a-test', grant_types: ['client_credentials'],
    redirect_uris: [], response_types: [],
  }],
  features: {
    clientCredentials: {enabled: true},
    devInteractions: {enabled: false},
    resourceIndicators: {
      enabled: true, defaultResource: () => 'urn:fededge', getResourceServerInfo: () => resource,
      useGrantedResource: () => true,
    },
  },
  extraTokenClaims: async () => ({fededge_tenant: 'default', fededge_scope: 'operator'}),
});
provider.listen(port, '127.0.0.1', () => console.log('ready'));
"""


class Issuer:
    """A provider that the test plays: it serves its keys, and signs what it is told to sign."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "first"}, auto_kid=True)
        self.keys = [self.key]
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                about: Any = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                if self.path == "/keys":
                    about = {"keys": [key.as_dict(private=False) for key in issuer.keys]}
                body = json.dumps(about).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        good = {
            "iss": self.url,
            "aud": "fededge",
            "sub": "someone\nelse",
            "exp": now + 600,
            "iat": now,
            "fededge_tenant": "default",
            "fededge_scope": "openid operator reader",
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def sign(self, key: Any = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        told = {"alg": "RS256", "kid": (key or self.key).kid} | (header or {})
        return jwt.encode(told, self.claims(**changes), key or self.key, algorithms=[str(told["alg"])])


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer, database: str) -> Iterator[Gateway]:
    oidc = {"issuer": issuer.url, "audience": "fededge", "accounts": {"system:broker": "default"}}
    with Gateway.start(tmp_path_factory.mktemp("oidc"), database=database, oidc=oidc) as started:
        yield started


def call(gateway: Gateway, secret: str, path: str = "/v1/caller") -> httpx.Response:
    return httpx.get(f"{gateway.url}{path}", headers={"authorization": f"Bearer {secret}"}, trust_env=False)


def test_a_token_of_the_provider_is_a_caller_with_its_best_scope(gateway: Gateway, issuer: Issuer) -> None:
    assert call(gateway, issuer.sign()).json() == {
        "tenant": "default",
        "name": "oidc:someone\nelse",
        "scope": "operator",
    }
    assert call(gateway, issuer.sign(aud=["other", "fededge"])).status_code == 200
    listed = issuer.sign(fededge_scope=["admin"])
    assert call(gateway, listed, "/v1/tokens").status_code == 200
    assert call(gateway, issuer.sign(), "/v1/tokens").status_code == 403


def test_an_account_that_is_named_needs_no_claims_and_is_an_operator(
    gateway: Gateway, issuer: Issuer
) -> None:
    bare = {"fededge_tenant": None, "fededge_scope": None}
    told = call(gateway, issuer.sign(sub="system:broker", **bare)).json()
    assert told == {"tenant": "default", "name": "oidc:system:broker", "scope": "operator"}
    assert call(gateway, issuer.sign(sub="system:other", **bare)).status_code == 403


def test_tokens_of_the_gateway_are_good_beside_it(gateway: Gateway, registry: Any) -> None:
    assert call(gateway, token(registry)).json()["scope"] == "admin"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://127.0.0.1:1"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"nbf": 4_000_000_000},
        {"sub": None},
    ],
    ids=str,
)
def test_a_token_for_another_time_or_place_is_refused_and_not_shown(
    gateway: Gateway, issuer: Issuer, changes: Any
) -> None:
    secret = issuer.sign(**changes)
    answer = call(gateway, secret)
    assert (answer.status_code, answer.json()["reason"]) == (401, "UNAUTHORIZED")
    assert secret not in answer.text
    assert not [line for line in gateway.log if secret in json.dumps(line)]


@pytest.mark.parametrize(
    "changes",
    [
        {"fededge_tenant": None},
        {"fededge_tenant": "../x"},
        {"fededge_tenant": 7},
        {"fededge_scope": None},
        {"fededge_scope": "administrator"},
        {"fededge_scope": {"admin": True}},
        {"fededge_scope": [["admin"]]},
    ],
    ids=str,
)
def test_a_token_without_tenant_or_scope_may_do_nothing(
    gateway: Gateway, issuer: Issuer, changes: Any
) -> None:
    answer = call(gateway, issuer.sign(**changes))
    assert (answer.status_code, answer.json()["reason"]) == (403, "FORBIDDEN")


def test_a_tenant_that_is_not_there_is_nobodys(gateway: Gateway, issuer: Issuer) -> None:
    made = Operator(gateway.url, issuer.sign(fededge_tenant="invented"))
    assert made("GET", "/v1/clients")["items"] == []
    assert made.refused("POST", "/v1/enrollments", {}) == (404, "NO_TENANT")
    made.close()


def test_signatures_that_prove_nothing_are_refused(gateway: Gateway, issuer: Issuer) -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "first"}, auto_kid=True)
    head, body, signature = issuer.sign().split(".")
    other = issuer.sign(fededge_scope="admin").split(".")[1]
    # Signed with the public key, as if it were a secret.
    told = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"first"}').rstrip(b"=").decode()
    mac = hmac.digest(issuer.key.as_pem(private=False), f"{told}.{body}".encode(), hashlib.sha256)
    secrets = [
        issuer.sign(stranger),
        f"{told}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}",
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        "eyJhbGciOiJub25lIn0." + body + ".",
        "a.b.c",
        "..",
    ]
    assert [call(gateway, secret).status_code for secret in secrets] == [401] * len(secrets)


def test_keys_are_kept_and_fetched_anew_for_one_that_nobody_knows() -> None:
    issuer = Issuer()
    at = 0.0
    provider = Provider(Oidc(issuer.url, "fededge"), lambda: at)
    rotated = RSAKey.generate_key(2048, {"kid": "second"}, auto_kid=True)

    async def story() -> None:
        nonlocal at
        for _ in range(3):
            assert (await provider.claims(issuer.sign()))["sub"] == "someone\nelse"
        assert issuer.asked == 2  # its document, and its keys
        issuer.keys.append(rotated)
        with pytest.raises(GatewayError):  # not again so soon, or anybody could make it ask
            await provider.claims(issuer.sign(rotated))
        assert issuer.asked == 2
        at = 61.0
        assert (await provider.claims(issuer.sign(rotated)))["sub"] == "someone\nelse"
        issuer.server.shutdown()
        issuer.server.server_close()
        assert (await provider.claims(issuer.sign()))["sub"] == "someone\nelse"
        at = 61.0 + 3601.0
        with pytest.raises(GatewayError, match="cannot be asked for its keys") as refused:
            await provider.claims(issuer.sign())
        assert refused.value.status == 503
        await provider.close()

    asyncio.run(story())


def test_a_provider_without_https_is_refused() -> None:
    with pytest.raises(GatewayError, match="is not HTTPS"):
        Provider(Oidc("http://provider.example", "fededge"))


@pytest.mark.slow
def test_a_real_provider_opens_the_gateway_to_its_clients(tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not on this machine")
    install = [
        npm,
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(tmp_path),
        "oidc-provider@8",
    ]
    installed = subprocess.run(install, capture_output=True, text=True, cwd=tmp_path)
    if installed.returncode:
        pytest.skip(f"npm cannot install oidc-provider: {installed.stderr[-200:]}")
    port = free_port()
    (tmp_path / "provider.mjs").write_text(SERVER)
    server = subprocess.Popen(
        [node, "provider.mjs", str(port)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        url = f"http://127.0.0.1:{port}"
        grant = {"grant_type": "client_credentials"}
        answer = httpx.post(f"{url}/token", data=grant, auth=("pipeline", "word-of-a-test"), trust_env=False)
        secret = answer.raise_for_status().json()["access_token"]
        with Gateway.start(tmp_path, oidc={"issuer": url, "audience": "fededge"}) as gateway:
            assert call(gateway, secret).json() == {
                "tenant": "default",
                "name": "oidc:pipeline",
                "scope": "operator",
            }
        with Gateway.start(tmp_path, oidc={"issuer": url, "audience": "another"}) as gateway:
            assert call(gateway, secret).status_code == 401
    finally:
        server.kill()
        server.wait()
