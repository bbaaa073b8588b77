"""Asking a blob store again that is away, where its client gives up sooner than wanted.

Google's client (gcsfs) tries for about half a minute, Azure's (adlfs) four times, and neither can be told otherwise; that
of S3 has settings of its own (pipelines/federated_training/patience.py).
"""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from fededge import settings

GOOGLE = ("gs://", "gcs://")
AZURE = ("abfs://", "abfss://", "az://", "adl://")
PAUSE = 1.0
"""Seconds between two tries, each of which is several of the client's with pauses of its own."""
PASSING = {408, 429, *range(500, 505)}
"""HTTP status of what may go better a little later."""
Answer = TypeVar("Answer")


def until_there(url: str, ask: Callable[[], Answer]) -> Answer:
    """What `ask` answers, asked again for FEDEDGE_STORE_RETRY_SECONDS while the store of `url` is away.

    Raises:
        Exception: the client's own, of its last try or of one that another would not mend.
    """
    failures: tuple[type[Exception], ...] = (Exception,) if url.startswith((*GOOGLE, *AZURE)) else ()
    end = time.monotonic() + settings.store_retry_seconds()
    while True:
        try:
            return ask()
        except failures as error:
            if time.monotonic() + PAUSE > end or not any(map(_passes, _causes(error))):
                raise
        time.sleep(PAUSE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what led to it: adlfs wraps what Azure's client raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _passes(error: BaseException) -> bool:
    """Whether a store that is away, or asks for patience, answers so."""
    status = getattr(error, "status_code", None) or getattr(
        error, "code", None
    )  # of Azure's and Google's errors
    if status is not None:
        return str(status) in {str(each) for each in PASSING}
    origin, name = type(error).__module__.partition(".")[0], type(error).__name__
    return (origin == "aiohttp" and isinstance(error, OSError | TimeoutError)) or (
        origin == "azure" and name.startswith(("ServiceRequest", "ServiceResponse"))
    )
