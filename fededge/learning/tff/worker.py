"""The TensorFlow Federated worker process: it ends when its owner does, and never hangs it.

TFF runs computations in a C++ worker process that it reaches by gRPC. The stock context leaks that
process and retries a dead one for ever. Here the worker dies with its owner (also by SIGKILL), and every
request has a deadline.

TFF gives the worker no option to listen on the loopback interface alone, nor any authentication: for the
time of a step, whoever reaches its port can run computations as its user. Keep it behind a firewall, on a
cluster behind a NetworkPolicy (manifests/base/steps).
"""

import os
import subprocess
import tempfile
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ["WRAPT_DISABLE_EXTENSIONS"] = "true"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2_grpc
from tensorflow_federated.python.core.backends.native import compiler, mergeable_comp_compiler
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation
from tensorflow_federated.python.core.impl.context_stack import context_stack_impl
from tensorflow_federated.python.core.impl.execution_contexts import (
    async_execution_context,
    mergeable_comp_execution_context,
    sync_execution_context,
)
from tensorflow_federated.python.core.impl.executor_stacks import python_executor_stacks
from tensorflow_federated.python.core.impl.executors import remote_executor, remote_executor_stub
from tensorflow_federated.python.core.impl.types import placements

from fededge.errors import WorkerDied, WorkerError, WorkerStuck
from fededge.ports import free_port
from fededge.processes import ended_with_parent

START_SECONDS = 60.0
MESSAGE_BYTES = 2_000_000_000
SUBROUND_CLIENTS = 100


class Worker:
    """A worker process and the contexts that run computations on it; use it with `with`.

    Args:
        timeout_seconds: longest time one request to the worker may take.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.process: subprocess.Popen[bytes] | None = None
        self._contexts: dict[int, Any] = {}

    def __enter__(self) -> Self:
        binary = os.path.join(os.path.dirname(tff.__file__), "data", "worker_binary")
        self._log = tempfile.TemporaryFile()
        port = free_port()
        self.process = subprocess.Popen(
            ended_with_parent([binary, f"--port={port}"]),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            [
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
            ],
        )
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and close the channel."""
        self._channel.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def context(self, clients: int = 1) -> AbstractContextManager[Any]:
        """Make this worker the place where computations run, for the time of a `with`.

        More than SUBROUND_CLIENTS clients are aggregated in groups, so that memory does not grow with
        their number. Contexts are kept, since each compiles a computation once.
        """
        subrounds = -(-max(clients, 1) // SUBROUND_CLIENTS)
        if subrounds not in self._contexts:
            self._contexts[subrounds] = (
                sync_execution_context.SyncExecutionContext(**self._parts())
                if subrounds == 1
                else mergeable_comp_execution_context.MergeableCompExecutionContext(
                    async_contexts=[async_execution_context.AsyncExecutionContext(**self._parts())],
                    compiler_fn=mergeable_comp_compiler.compile_to_mergeable_comp_form,
                    num_subrounds=subrounds,
                )
            )
        installed: AbstractContextManager[Any] = context_stack_impl.context_stack.install(
            self._contexts[subrounds]
        )
        return installed

    def explain(self, error: grpc.RpcError) -> WorkerError:
        """The named error behind a failed request."""
        code = error.code() if isinstance(error, grpc.Call) else None
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            if self.process:
                self.process.kill()  # else TFF's own clean-up would wait for it again and again
            return WorkerStuck(
                f"the TFF worker gave no answer within {self.timeout_seconds:g} s: raise "
                "operation.worker_timeout_seconds or give the step more CPU, then run the same command again: it goes "
                "on after the last round"
            )
        if code == grpc.StatusCode.UNAVAILABLE or (self.process and self.process.poll() is not None):
            status = self.process.poll() if self.process else None
            return WorkerDied(
                f"the TFF worker process ended (exit status {status}), perhaps for lack of memory: "
                f"run again from the last round. Its last words: {self._last_words()}"
            )
        details = error.details() if isinstance(error, grpc.Call) else str(error)
        return WorkerError(f"the TFF worker refused a request: {' '.join(str(details).split())[:2000]}")

    def _parts(self) -> dict[str, Any]:
        def stack(cardinalities: dict[Any, int]) -> remote_executor.RemoteExecutor:
            executor = remote_executor.RemoteExecutor(_Stub(self, self._channel))
            executor.set_cardinalities({placements.CLIENTS: 0} | dict(cardinalities))
            return executor

        return {
            "executor_fn": python_executor_stacks.ResourceManagingExecutorFactory(executor_stack_fn=stack),
            "compiler_fn": compiler.desugar_and_transform_to_native,
            "transform_args": tensorflow_computation.transform_args,
            "transform_result": tensorflow_computation.transform_result,
        }

    def _await_ready(self) -> None:
        assert self.process is not None
        ready = grpc.channel_ready_future(self._channel)
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                ready.result(timeout=0.2)
                return
            except grpc.FutureTimeoutError:
                if self.process.poll() is not None:
                    raise WorkerDied(
                        f"the TFF worker process did not start (exit status {self.process.returncode}): "
                        f"{self._last_words()}"
                    ) from None
                if time.monotonic() > end:
                    raise WorkerStuck(f"the TFF worker was not ready within {START_SECONDS:g} s") from None

    def _last_words(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 500))
        return " ".join(self._log.read().decode(errors="replace").split()) or "(none)"


class _Stub(remote_executor_stub.RemoteExecutorStub):
    """Requests with a deadline; a failure is a named error, which TFF does not retry."""

    def __init__(self, worker: Worker, channel: grpc.Channel) -> None:
        self._worker = worker
        self._stub = executor_pb2_grpc.ExecutorGroupStub(channel)

    def _call(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=self._worker.timeout_seconds)
        except grpc.RpcError as error:
            raise self._worker.explain(error) from error

    def get_executor(self, request: Any) -> Any:
        return self._call("GetExecutor", request)

    def create_value(self, request: Any) -> Any:
        return self._call("CreateValue", request)

    def create_struct(self, request: Any) -> Any:
        return self._call("CreateStruct", request)

    def create_call(self, request: Any) -> Any:
        return self._call("CreateCall", request)

    def create_selection(self, request: Any) -> Any:
        return self._call("CreateSelection", request)

    def compute(self, request: Any) -> Any:
        return self._call("Compute", request)

    def dispose(self, request: Any) -> None:
        self._discard("Dispose", request)

    def dispose_executor(self, request: Any) -> None:
        self._discard("DisposeExecutor", request)

    def _discard(self, method: str, request: Any) -> None:
        """Free something in the worker; a worker that is gone has freed it already."""
        try:
            getattr(self._stub, method)(request, timeout=self._worker.timeout_seconds)
        except (grpc.RpcError, ValueError):  # ValueError: the channel is closed
            return

    @property
    def is_ready(self) -> bool:
        return True
