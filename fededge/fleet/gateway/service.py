"""What a gateway holds while it runs: its registry, objects, keys and limits, and the open connections. Nothing of it has
to outlive the process.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from fededge.fleet.gateway import objects
from fededge.fleet.gateway.auth import Authentication
from fededge.fleet.gateway.bell import Bells
from fededge.fleet.gateway.database import Database
from fededge.fleet.gateway.grants import Keys
from fededge.fleet.gateway.limits import Buckets
from fededge.fleet.gateway.observing import Metrics
from fededge.fleet.gateway.oidc import Provider
from fededge.fleet.gateway.overload import Load
from fededge.fleet.gateway.sessions import Sessions
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.gateway.wakeup import WakeUps
from fededge.fleet.registry.database import Registry

FILE_THREADS = 16
ENDS = "this gateway ends"


class Service:
    """One gateway.

    Args:
        settings: of this gateway.
        url: under which it is reached.

    Attributes:
        draining: whether it ends, and takes no more clients.
        failed: whether a part of it ended by mistake.
        reported: rung for tenant and round when a report of it is kept here.

    Raises:
        FedEdgeError: its registry, store or keys cannot be opened.
    """

    def __init__(self, settings: GatewaySettings, url: str) -> None:
        self.settings = settings
        self.url = url
        self.draining = False
        self.failed = False
        self.metrics = Metrics()
        self.load = Load(settings)
        self.keys = Keys.load(settings.key_file) if settings.key_file else Keys.of_home()
        self.objects = objects.opened(settings.storage, self.keys, settings.url or "", settings.url_seconds)
        self.provider = Provider(settings.oidc) if settings.oidc else None
        self.registry = Registry.open(settings.database)
        self.database = Database(self.registry, settings.database_threads, self.load, self.metrics)
        self.authentication = Authentication(self.database, self.provider, settings.oidc)
        self.sessions = Sessions(settings, self.metrics)
        self.files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="objects")
        self.reported = Bells()
        self.wake_ups = WakeUps(settings.redis)
        self.enrolls = Buckets(settings.enrolls)
        self.connects = Buckets(settings.connects)
        self.requests = Buckets(settings.requests_rate)
        self.operations = Buckets(settings.operations)
        self.messages = Buckets(settings.messages)

    def full(self) -> str | None:
        """Why no client can be taken now, None where one can."""
        self.load.connections = len(self.sessions)
        return ENDS if self.draining else self.load.full()

    def overloaded(self) -> str | None:
        """Why no request can be answered now, None where it can: also where no more clients can be taken."""
        return ENDS if self.draining else self.load.behind()

    async def close(self) -> None:
        """Give up what it holds."""
        await self.database.close()
        self.registry.close()
        self.files.shutdown()
        await self.wake_ups.close()
        if self.provider is not None:
            await self.provider.close()


def now() -> float:
    """Seconds since the epoch."""
    return time.time()
