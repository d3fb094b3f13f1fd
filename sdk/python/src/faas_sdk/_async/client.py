"""The client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from .._code import program
from .._config import discover
from .._decode import table
from .._errors import FaasError
from .._hooks import Hooks, Retry
from .._io import Writer
from .._retry import RetryPolicy
from .._stats import ClientMetrics
from ..models import (
    Capabilities,
    ExecuteOptions,
    ExecuteResponse,
    ForkedExecution,
    ForkOptions,
    Health,
    Metrics,
    Pool,
    PrewarmOptions,
    RuntimeList,
    Snapshot,
    SnapshotOptions,
)
from . import execution as executing
from .execution import AsyncExecutionStream, AsyncRunningCommand, Terminal, request_body
from .executions import AsyncExecutions, fork_body
from .images import AsyncImages, AsyncSSHKeys
from .instances import AsyncInstances
from .keys import AsyncKeys
from .pools import AsyncPools
from .snapshots import AsyncBranches, AsyncSnapshots
from .streams import AsyncLogStream
from .transport import AsyncTransport, Call, RequestOptions

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Self, Unpack
    else:
        from typing_extensions import Self, Unpack

EXECUTE = "/api/v1/execute"


class AsyncClient:
    """A client of one server.

    Without arguments the server is `FAAS_API_URL` or http://127.0.0.1:8080, and
    the key `FAAS_API_KEY` or the key file of the user who runs the server here.

        async with AsyncClient() as client:
            result = await client.execute("echo hello")
            print(result.stdout)

    `timeout` bounds, in seconds, how long the server may be silent before and
    within an answer (streams excepted); None leaves it to the caller.
    `max_retries` bounds how often a request is sent again where that is safe.
    Errors are FaasError and its subclasses; a command that fails is a result
    with an exit code.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        key_file: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        max_retries: int = 3,
        http_client: httpx.AsyncClient | None = None,
        on_execution: Callable[[ExecuteResponse], None] | None = None,
        on_retry: Callable[[Retry], None] | None = None,
        on_error: Callable[[FaasError], None] | None = None,
        on_cache_hit: Callable[[ExecuteResponse], None] | None = None,
        on_cache_miss: Callable[[ExecuteResponse], None] | None = None,
    ) -> None:
        config = discover(url, api_key, key_file)
        options = RequestOptions(timeout, None, RetryPolicy(max_retries))
        hooks = Hooks(on_execution, on_retry, on_error, on_cache_hit, on_cache_miss)
        self._bind(AsyncTransport(config, options, hooks, http_client))

    def _bind(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self.executions = AsyncExecutions(transport)
        """Executions on record."""
        self.instances = AsyncInstances(transport)
        """Sandboxes that live until told otherwise."""
        self.snapshots = AsyncSnapshots(transport)
        """Saved states."""
        self.branches = AsyncBranches(transport)
        """Named heads in the tree of snapshots."""
        self.pools = AsyncPools(transport)
        """Warm sandboxes."""
        self.keys = AsyncKeys(transport)
        """API keys."""
        self.images = AsyncImages(transport)
        """Images."""
        self.ssh_keys = AsyncSSHKeys(transport)
        """SSH keys."""

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._transport.config.url

    def with_options(
        self, *, timeout: float | None = None, max_retries: int | None = None, idempotency_key: str | None = None
    ) -> AsyncClient:
        """The same client with other options; connections and counters are shared.

        With an `idempotency_key` a request that creates something and is made
        twice is done once.
        """
        now = self._transport.options
        if timeout is not None:
            now = replace(now, timeout=timeout)
        if max_retries is not None:
            now = replace(now, retry=RetryPolicy(max_retries))
        if idempotency_key is not None:
            now = replace(now, idempotency_key=idempotency_key)
        other = object.__new__(AsyncClient)
        other._bind(self._transport.with_options(now))
        return other

    # Executions

    async def execute(self, command: str | Sequence[str], **options: Unpack[ExecuteOptions]) -> ExecuteResponse:
        """Run a command and return its result.

        A string is run by `sh -c`, a sequence as it is. Up to 10 MiB of each
        output stream come with the result.

            result = await client.execute("echo $NAME", env_vars={"NAME": "you"}, timeout_ms=5000)
        """
        body = request_body(command, options)
        result = await self._transport.model(ExecuteResponse, Call("POST", EXECUTE, body=body, creates=True))
        return executing.finish(self._transport, body.get("mode"), result)

    def execute_stream(self, command: str | Sequence[str], **options: Unpack[ExecuteOptions]) -> AsyncExecutionStream:
        """Run a command and see its output as it comes.

            async for event in client.execute_stream("make"):
                if event.type == "stdout":
                    print(event.text, end="")
        """
        return AsyncExecutionStream(self._transport, request_body(command, options), EXECUTE)

    async def execute_to(
        self, command: str | Sequence[str], to: Writer, **options: Unpack[ExecuteOptions]
    ) -> ExecuteResponse:
        """Run a command and write its raw standard output to `to`, without a limit of size."""
        return await executing.execute_to(self._transport, request_body(command, options), to, EXECUTE)

    async def spawn(
        self, command: str | Sequence[str], *, terminal: Terminal | None = None, **options: Unpack[ExecuteOptions]
    ) -> AsyncRunningCommand:
        """Start a command with live input and output, in a terminal if one is given."""
        body = request_body(command, options)
        return await AsyncRunningCommand.start(self._transport, EXECUTE + "/ws", body, terminal)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | AsyncIterable[bytes] | Iterable[bytes] | None = None,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        terminal: Terminal | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> ExecuteResponse:
        """Run a command with `input` on its standard input and its output given to callbacks as it comes."""
        process = await self.spawn(command, terminal=terminal, **options)
        return await executing.run(process, input, on_stdout, on_stderr)

    async def _program(self, language: str, code: str, args: Sequence[str], options: Any) -> ExecuteResponse:
        command, files = program(language, code, args)
        given: ExecuteOptions = dict(options)  # type: ignore[assignment]  # pyright: ignore
        given["files"] = {**files, **(given.get("files") or {})}
        return await self.execute(command, **given)

    async def run_python(
        self, code: str, args: Sequence[str] = (), **options: Unpack[ExecuteOptions]
    ) -> ExecuteResponse:
        """Run a Python program given as text; nothing in it needs quoting."""
        return await self._program("python", code, args, options)

    async def run_javascript(
        self, code: str, args: Sequence[str] = (), **options: Unpack[ExecuteOptions]
    ) -> ExecuteResponse:
        """Run a JavaScript program (a module) given as text, with Node."""
        return await self._program("javascript", code, args, options)

    async def run_typescript(
        self, code: str, args: Sequence[str] = (), **options: Unpack[ExecuteOptions]
    ) -> ExecuteResponse:
        """Run a TypeScript program given as text, with the image's deno, bun, tsx or Node 22.6 and newer."""
        return await self._program("typescript", code, args, options)

    async def run_bash(self, code: str, args: Sequence[str] = (), **options: Unpack[ExecuteOptions]) -> ExecuteResponse:
        """Run a bash script given as text."""
        return await self._program("bash", code, args, options)

    def stream_logs(self, execution_id: str, *, since: str = "") -> AsyncLogStream:
        """Output of an execution, from the start and on until its end; continues after a lost connection."""
        return self.executions.stream_logs(execution_id, since=since)

    async def fork_execution(
        self, execution_id: str, line: str | Sequence[str] | None = None, /, **options: Unpack[ForkOptions]
    ) -> list[ForkedExecution]:
        """Run a command `count` times, or the `variants`, each in a copy of what an execution left."""
        return await self.executions.fork(execution_id, line, **options)

    async def fork(
        self, line: str | Sequence[str] | None = None, /, **options: Unpack[ForkOptions]
    ) -> list[ForkedExecution]:
        """Run a command `count` times, or the `variants`, each in a copy of one state.

        The state is an instance (`instance_id`), an execution (`execution_id`),
        a snapshot (`snapshot_id`) or a branch (`branch_from`).
        """
        call = Call("POST", "/api/v1/fork", body=fork_body(line, options), creates=True)
        return await self._transport.list_of(ForkedExecution, call)

    async def create_snapshot(self, **options: Unpack[SnapshotOptions]) -> Snapshot:
        """Save an instance (`instance_id`), or an image as it is (`image`)."""
        return await self.snapshots.create(**options)

    async def prewarm(self, count: int, **options: Unpack[PrewarmOptions]) -> Pool:
        """Have sandboxes made ahead of requests."""
        return await self.pools.prewarm(count, **options)

    # The server

    async def health_check(self) -> Health:
        """Whether the server works; needs no key."""
        return await self._transport.model(Health, Call("GET", "/health"))

    async def runtimes(self, *, refresh: bool = False) -> list[Capabilities]:
        """What every runtime of the server can do, and why not what it cannot."""
        query = {"refresh": True} if refresh else None
        return (await self._transport.model(RuntimeList, Call("GET", "/api/v1/runtimes", query=query))).runtimes

    async def get_metrics(self) -> Metrics:
        """What the project did since the server started."""
        return await self._transport.model(Metrics, Call("GET", "/api/v1/metrics"))

    def client_metrics(self) -> ClientMetrics:
        """What this client counted about itself."""
        return self._transport.counter.snapshot()

    def reset_client_metrics(self) -> None:
        """Count from zero."""
        self._transport.counter.reset()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _repr_html_(self) -> str:
        return table(type(self).__name__, [("url", self.url), *self.client_metrics().to_json().items()])
