"""What the verbs that ask the gateway share: how they reach it, and how they read what a person typed."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import typer

from fededge.errors import shown

if TYPE_CHECKING:
    from fededge.fleet.gateway_client import GatewayClient

Item = TypeVar("Item")
LIMIT: int = typer.Option(100, min=1, max=1_000_000, help="How many to list.")
YES: bool = typer.Option(False, "--yes", "-y", help="Do not ask first.")


def gateway() -> "GatewayClient":
    """The gateway that FEDEDGE_GATEWAY names, with the token in FEDEDGE_GATEWAY_TOKEN_FILE; use it with `with`."""
    from fededge.fleet.gateway_client import GatewayClient

    return GatewayClient.from_settings()


def first(items: Iterable[Item], limit: int) -> Iterator[Item]:
    """The first `limit` of `items`."""
    return islice(items, limit)


def facts(pairs: list[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` pairs as a mapping."""
    found = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{shown(pair)!r} is no NAME=VALUE", param_hint=option)
        found[name] = value
    return found


def when(seconds: float | None) -> datetime | None:
    """A time of the gateway, for a table."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
