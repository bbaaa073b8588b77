"""The line from work to the gateway: it may be cut at any time, and whoever asks is answered once it is there again."""

import asyncio

from fededge.device.connection import Connection
from fededge.device.pace import Pace
from fededge.errors import GatewayError, StorageError
from fededge.protocol import Received, ReportMessage, UploadPlace, UploadRequest

Question = UploadRequest | ReportMessage
Answer = UploadPlace | Received

ANSWER_SECONDS = 60.0
"""After which a question is asked again."""


class Line:
    """What asks over it belongs to an assignment, which asks one question at a time."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._open = asyncio.Event()
        self._waiting: dict[str, tuple[Question, asyncio.Future[Answer]]] = {}

    def connect(self, connection: Connection) -> None:
        """From now on it leads over `connection`."""
        self._connection = connection
        self._open.set()

    def disconnect(self) -> None:
        """It leads nowhere for now; what was asked is asked again."""
        self._connection = None
        self._open.clear()
        self._fail(GatewayError("the connection was lost"))

    async def ask(self, message: Question, round: str) -> Answer:
        """The gateway's answer to `message`, which is sent as often as it takes: a place, or what came of a report.

        A round that is over has the latter for an answer to both.
        """
        pace = Pace()
        while True:
            await self._open.wait()
            assert self._connection
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting[message.assignment] = (message, answer)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._connection.send(message, round)
                    return await answer
            except (GatewayError, StorageError, TimeoutError):
                await asyncio.sleep(pace.next())
            finally:
                self._waiting.pop(message.assignment, None)

    def answer(self, message: Answer) -> None:
        """Hand an answer to who waits for it, if anybody does."""
        question, waiting = self._waiting.get(message.assignment, (None, None))
        asked = (
            isinstance(question, UploadRequest)
            if isinstance(message, UploadPlace)
            else message.of == "report"
        )
        if waiting is not None and asked and not waiting.done():
            waiting.set_result(message)

    def refuse(self, assignment: str | None) -> None:
        """The gateway refused what was asked for an assignment (None: it does not say which): it is asked again."""
        self._fail(GatewayError("the gateway refused"), assignment)

    def _fail(self, error: GatewayError, assignment: str | None = None) -> None:
        for asked, (_, waiting) in self._waiting.items():
            if assignment in (None, asked) and not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # who asked may have failed otherwise, and not look at it
