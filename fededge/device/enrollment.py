"""A new client: its key, made here and never sent, and who it is from now on, in `identity.json`
(fededge.device.identity).

The key is written before anybody hears of it, so whatever interrupts an enrollment, the same command goes on with it.
"""

import base64
import random
import ssl
import time
from pathlib import Path

import httpx
from pydantic import ValidationError

from fededge.device.addresses import Address
from fededge.device.clock import Clock
from fededge.device.fetching import unreachable
from fededge.device.identity import IDENTITY, KEY, Identity, identity_in
from fededge.device.journal import Journal
from fededge.documents.base import first_mistake
from fededge.errors import GatewayError, SiteError, shown
from fededge.protocol import Enrolled, Enrollment, Problem, enrollment_bytes
from fededge.signing import SigningKey

LARGEST_ANSWER = 1 << 16
SECONDS = 60.0
BUSY = (429, 503)
"""How a gateway says that it has no time now."""
PATIENCE, AGAIN = 300.0, 2.0
"""Seconds for which a busy gateway is asked again, and about how long from one time to the next."""


def enroll(
    folder: Path, gateway: str, token: str, authorities: Path | None = None, plain: bool = False
) -> Identity:
    """Make the client in `folder` one of the gateway's; the same call again goes on where it was interrupted.

    Args:
        folder: of the client, made where it is missing.
        gateway: its URL.
        token: one-time, from an operator.
        authorities: PEM file of the CAs that prove the gateway; None: the system's.
        plain: whether plain HTTP to another machine is allowed.

    Raises:
        SiteError: the address is wrong, or the folder is enrolled at another gateway.
        GatewayError: the gateway cannot be reached, or does not take it in.
        StorageError: the folder cannot be written.
    """
    address = Address.of(gateway, plain)
    if (folder / IDENTITY).exists():
        known = identity_in(folder)
        if known.gateway != address.url:
            raise SiteError(f"{folder} is enrolled at {known.gateway} as {known.client}: name another folder")
        return known
    tls = address.tls(authorities)
    key = SigningKey.load_or_create(folder / KEY)
    request = Enrollment(
        token=token,
        public_key=base64.b64encode(key.public.raw).decode(),
        signature=key.proof(enrollment_bytes(token, key.public.raw)),
    )
    body = request.model_dump_json().encode()
    Journal(folder / "journal.jsonl", Clock()).write("enroll", body, content=False)
    told = _taken_in(f"{address.url}/v1/enroll", body, tls)
    identity = Identity(
        gateway=address.url,
        plain=plain,
        key=key.public.id,
        authorities=str(authorities.resolve()) if authorities else None,
        **told.model_dump(),
    )
    identity.write(folder / IDENTITY)
    return identity


def _taken_in(url: str, body: bytes, tls: ssl.SSLContext) -> Enrolled:
    """Ask until the gateway has time for it: many may enroll from one address at a time."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return _post(url, body, tls)
        except GatewayError as error:
            if error.status not in BUSY or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0.5, 1.5) * AGAIN)


def _post(url: str, body: bytes, tls: ssl.SSLContext) -> Enrolled:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    try:
        with (
            httpx.Client(verify=tls, timeout=SECONDS) as http,
            http.stream("POST", url, content=body, headers=headers) as answer,
        ):
            data = b""
            for block in answer.iter_raw():
                data += block
                if len(data) > LARGEST_ANSWER:
                    raise GatewayError(
                        f"{url} answers with more than {LARGEST_ANSWER:,} bytes: is it a gateway?"
                    )
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(error) from error
    try:
        if status == 201:
            return Enrolled.model_validate_json(data)
        problem = Problem.model_validate_json(data)
    except ValidationError as error:
        raise GatewayError(
            f"{url} answers with status {status} and no word of a gateway ({first_mistake(error)}): check the address",
            "MALFORMED",
            status,
        ) from error
    remedy = "Try again later" if status in BUSY else "Ask its operator for a new token"
    raise GatewayError(
        f"the gateway does not take this client in: {shown(problem.message, 500)}. {remedy}",
        problem.reason,
        status,
    )
