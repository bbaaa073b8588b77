"""Clients that are functions: an order is posted to the URL of each, where its folder lies, and it starts for that.

Plan and weights lie in a store that coordinator and functions reach; the answer holds the update
(serving.functions.train).
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from fededge import archives, settings, storage
from fededge.client_reports import EvaluationReport, RangesReport, TrainingReport, Usage
from fededge.documents import FunctionOrder, Plan
from fededge.documents.functions import place
from fededge.errors import FedEdgeError, GatewayError, TaskError, UpdateError, shown
from fededge.task import FederatedTask
from fededge.update import UpdateFormat
from fededge.weights import Weights, to_bytes

Answer = TypeVar("Answer")
AT_ONCE = 32
"""Functions that are asked at the same time."""
LARGEST_COUNTS = 1 << 16
CONNECT_SECONDS = 10.0
LARGEST_TOKEN = 4096


def open_functions(task: FederatedTask, plan: Path) -> "FunctionClients | None":
    """The functions that the task names; None where it names none.

    They share the folder `functions` of the blob store with this step.

    Raises:
        TaskError: the model has no plan for LiteRT.
        StorageError: the plan cannot be read or stored, or the token not be read.
    """
    functions = task.learning.functions
    if functions is None:
        return None
    document = Plan.read(plan / "plan.json")
    if document.litert is None:
        raise TaskError(
            f"learning.functions train by LiteRT, and this model cannot ({document.litert_refused or 'no plan'}): "
            "remove it, or take another model"
        )
    file = settings.functions_token_file()
    token = None if file is None else storage.read(str(file), LARGEST_TOKEN).decode().strip()
    return FunctionClients(plan, functions.urls, storage.join(settings.storage(), "functions"), token)


class FunctionClients:
    """Functions that train, one for each client; see `fededge.learning.interfaces.ClientRuntime`.

    Args:
        plan: folder of the exported plan, which has a LiteRT file.
        urls: of the functions, by client.
        store: URL of the store that the functions were started with.
        token: that they ask for; None: none.

    Raises:
        StorageError: the plan cannot be read or stored.
    """

    def __init__(self, plan: Path, urls: Mapping[str, str], store: str, token: str | None = None) -> None:
        self._size = UpdateFormat.of(Plan.read(plan / "plan.json")).size
        self._urls, self._store = urls, store
        self._plan = self._stored(archives.packed(plan))
        self._weights = ""
        self._usage = Usage()
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-functions-")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        limits = httpx.Limits(max_connections=AT_ONCE)
        self._http = httpx.Client(headers=headers, limits=limits, timeout=None, trust_env=False)

    def __enter__(self) -> Self:
        """See ClientRuntime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget what was stored."""
        self._http.close()
        self._folder.cleanup()
        for digest in filter(None, (self._plan, self._weights)):
            storage.remove(place(self._store, digest))

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        """See ClientRuntime."""
        self._usage = Usage()

        def kept(client: str, answer: bytes) -> Path:
            if len(answer) != self._size:
                raise UpdateError(
                    f"an update of {len(answer):,} bytes, where this model's have {self._size:,}"
                )
            file = Path(self._folder.name) / storage.digest(client.encode()).removeprefix("sha256:")
            file.write_bytes(answer)
            return file

        for client, update, failure in self._each(
            "train", weights, seed, round_number, cohort, deadline_seconds, kept
        ):
            yield TrainingReport(client, update, failure)

    def enough(self) -> Usage:
        """See ClientRuntime: what still works is not waited for."""
        return self._usage

    def evaluate(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """See ClientRuntime."""

        def counted(client: str, answer: bytes) -> Mapping[str, float]:
            try:
                return {str(name): float(value) for name, value in json.loads(answer)["counts"].items()}
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                raise UpdateError("the function's answer holds no counts") from error

        for client, counts, failure in self._each(
            "evaluate", weights, 0, round_number, clients, deadline_seconds, counted
        ):
            yield EvaluationReport(client, counts, failure)

    def ranges(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """See ClientRuntime: functions on LiteRT measure none."""
        for client in clients:
            yield RangesReport(client, None, "a function on LiteRT measures no ranges")

    def _each(
        self,
        do: str,
        weights: Weights,
        seed: int,
        round_number: int,
        clients: Sequence[str],
        deadline_seconds: float,
        read: Callable[[str, bytes], Answer],
    ) -> Iterator[tuple[str, Answer | None, str | None]]:
        """What `read` makes of each function's answer, or why there is none, as they come."""
        end = time.monotonic() + deadline_seconds
        data = to_bytes(weights)
        self._store_weights(data)
        most = self._size if do == "train" else LARGEST_COUNTS
        threads = ThreadPoolExecutor(AT_ONCE)
        working: dict[Future[tuple[bytes, float]], str] = {}
        try:
            for client in clients:
                order = FunctionOrder(
                    plan=self._plan, weights=self._weights, seed=seed, round=round_number, client=client
                )
                working[threads.submit(self._ask, client, do, order.to_bytes(), most, end)] = client
            while working:
                done, _ = wait(working, max(0.0, end - time.monotonic()), FIRST_COMPLETED)
                if not done:
                    break
                for future in done:
                    client = working.pop(future)
                    try:
                        answer, seconds = future.result()
                        found = read(client, answer)
                    except FedEdgeError as error:
                        yield client, None, str(error)
                    else:
                        self._usage = self._usage.plus(len(data), len(answer), seconds)
                        yield client, found, None
            for client in working.values():
                yield client, None, f"no report within {deadline_seconds:g} s"
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, client: str, do: str, order: bytes, most: int, end: float) -> tuple[bytes, float]:
        """A function's answer, and the seconds that it took.

        Raises:
            GatewayError: it cannot be reached, refuses, or answers with more than `most` bytes.
        """
        url = self._urls.get(client)
        if url is None:
            raise GatewayError("it has no function: name its URL")
        begun = time.monotonic()
        left = max(0.1, end - begun)
        timeout = httpx.Timeout(left, connect=min(CONNECT_SECONDS, left))
        body = bytearray()
        try:
            with self._http.stream("POST", f"{url}/{do}", content=order, timeout=timeout) as response:
                for block in response.iter_raw():
                    body += block
                    if len(body) > max(most, LARGEST_COUNTS):
                        raise GatewayError(f"the function answers with more than {most:,} bytes")
                    if time.monotonic() > end:
                        raise GatewayError("the function did not answer in time")
        except (
            httpx.HTTPError,
            RuntimeError,
        ) as error:  # a client that is closed meanwhile is a RuntimeError
            told = shown(str(error) or type(error).__name__, 200)
            raise GatewayError(f"the function does not answer: {told}") from error
        if response.status_code != 200:
            told = shown(body.decode(errors="replace"), 300)
            raise GatewayError(f"the function refuses ({response.status_code}): {told}")
        return bytes(body), time.monotonic() - begun

    def _store_weights(self, data: bytes) -> None:
        digest = storage.digest(data)
        if digest != self._weights:
            if self._weights:
                storage.remove(place(self._store, self._weights))
            self._weights = self._stored(data)

    def _stored(self, data: bytes) -> str:
        """The digest of `data`, once it lies in the store."""
        digest = storage.digest(data)
        storage.write(place(self._store, digest), data)
        return digest
