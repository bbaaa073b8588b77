"""Files over HTTP, fetched (fededge.device.fetching) and handed in (fededge.device.uploading).

The HTTP library is loaded with the first of them: a client that idles does without its memory.
"""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from fededge.device.journal import Journal
from fededge.protocol import Object, UploadPlace

if TYPE_CHECKING:
    import httpx

IDLE_SECONDS, CONNECT_SECONDS = 60.0, 30.0
"""For which a server may say nothing, and take to be reached."""


class Transfers:
    """Those of one client; no redirect is followed.

    Args:
        tls: how to prove certificates.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._opened: httpx.AsyncClient | None = None

    async def fetch(self, url: str, wanted: Object, target: Path) -> None:
        """As `fededge.device.fetching.fetch`."""
        from fededge.device import fetching

        await fetching.fetch(self._http, url, wanted, target)

    async def upload(
        self, url: str, file: Path, digest: str, place: UploadPlace, journal: Journal, round: str
    ) -> None:
        """As `fededge.device.uploading.upload`."""
        from fededge.device import uploading

        await uploading.upload(self._http, url, file, digest, place, journal, round)

    async def close(self) -> None:
        """Close its connections."""
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def _http(self) -> "httpx.AsyncClient":
        if self._opened is None:
            import httpx

            times = httpx.Timeout(IDLE_SECONDS, connect=CONNECT_SECONDS)
            self._opened = httpx.AsyncClient(verify=self._tls, timeout=times, follow_redirects=False)
        return self._opened
