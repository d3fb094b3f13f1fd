"""Sandboxes that live until told otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, List

from .. import models
from .._decode import table
from ..models import (
    ExecOptions,
    ExecuteResponse,
    InstanceForkOptions,
    InstanceList,
    InstanceOptions,
    InstanceSSH,
    InstanceStats,
    InstanceUpdateOptions,
    PauseOptions,
    ProcessList,
    Snapshot,
    SnapshotSettingsOptions,
)
from . import execution as executing
from .execution import AsyncExecutionStream, AsyncRunningCommand, Terminal, request_body
from .transport import AsyncTransport, Call, path_of

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Self, Unpack
    else:
        from typing_extensions import Self, Unpack

INSTANCES = "/api/v1/instances"


class AsyncInstance:
    """One instance. As a context manager it is deleted at the end.

    `info` is what the server said of it last; `refresh` asks again.
    """

    def __init__(self, transport: AsyncTransport, info: models.Instance) -> None:
        self._transport = transport
        self.info = info

    @property
    def id(self) -> str:
        """Its id."""
        return self.info.id

    @property
    def name(self) -> str:
        """Its name; empty when it has none."""
        return self.info.name

    @property
    def status(self) -> str:
        """Its status when the server spoke of it last."""
        return self.info.status

    def to_json(self) -> dict[str, object]:
        """What the server said of it last."""
        return self.info.to_json()

    def _path(self, rest: str = "") -> str:
        return path_of(INSTANCES, self.info.id, rest)

    async def _change(self, call: Call) -> Self:
        self.info = await self._transport.model(models.Instance, call)
        return self

    async def refresh(self) -> Self:
        """Ask the server how it is."""
        return await self._change(Call("GET", self._path()))

    async def update(self, **options: Unpack[InstanceUpdateOptions]) -> Self:
        """Change its name, labels or time to live."""
        return await self._change(Call("PATCH", self._path(), body=options))

    async def exec(self, command: str | Sequence[str], **options: Unpack[ExecOptions]) -> ExecuteResponse:
        """Run a command in it and return its result."""
        call = Call("POST", self._path("/exec"), body=request_body(command, options), creates=True)
        return executing.finish(self._transport, None, await self._transport.model(ExecuteResponse, call))

    def exec_stream(self, command: str | Sequence[str], **options: Unpack[ExecOptions]) -> AsyncExecutionStream:
        """Run a command in it and see its output as it comes."""
        return AsyncExecutionStream(self._transport, request_body(command, options), self._path("/exec"))

    async def spawn(
        self, command: str | Sequence[str], *, terminal: Terminal | None = None, **options: Unpack[ExecOptions]
    ) -> AsyncRunningCommand:
        """Start a command in it with live input and output."""
        body = request_body(command, options)
        return await AsyncRunningCommand.start(self._transport, self._path("/exec/ws"), body, terminal)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | AsyncIterable[bytes] | Iterable[bytes] | None = None,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        terminal: Terminal | None = None,
        **options: Unpack[ExecOptions],
    ) -> ExecuteResponse:
        """Run a command in it with `input`, its output given to callbacks as it comes."""
        command_ = await self.spawn(command, terminal=terminal, **options)
        return await executing.run(command_, input, on_stdout, on_stderr)

    async def terminal(
        self, command: str | Sequence[str] = "exec ${SHELL:-sh}", *, cols: int = 80, rows: int = 24
    ) -> AsyncRunningCommand:
        """Open a terminal in it, with a shell unless another command is given."""
        return await self.spawn(command, terminal=Terminal(cols, rows))

    async def fork(self, copies: int | None = None, /, **options: Unpack[InstanceForkOptions]) -> List[AsyncInstance]:
        """Copies that continue from its present state; it goes on. The first failure is raised when there is no copy."""
        body: dict[str, object] = dict(options)
        if copies is not None:
            body["count"] = copies
        made = await self._transport.model(
            models.InstanceFork, Call("POST", self._path("/fork"), body=body, creates=True)
        )
        if not made.instances and made.failures:
            raise executing.problem_error(made.failures[0].problem)
        return [AsyncInstance(self._transport, each) for each in made.instances]

    async def snapshot(self, **options: Unpack[SnapshotSettingsOptions]) -> Snapshot:
        """Save its state; it goes on."""
        return await self._transport.model(Snapshot, Call("POST", self._path("/snapshot"), body=options, creates=True))

    async def pause(self, **options: Unpack[PauseOptions]) -> Self:
        """Let it stand still; `info.checkpoint_id` is the snapshot that was taken."""
        return await self._change(Call("POST", self._path("/pause"), body=options, creates=True))

    async def resume(self) -> Self:
        """Let it go on."""
        return await self._change(Call("POST", self._path("/resume"), creates=True))

    async def stop(self) -> Self:
        """End its processes; its files stay."""
        return await self._change(Call("POST", self._path("/stop"), creates=True))

    async def start(self) -> Self:
        """Start it again after a stop."""
        return await self._change(Call("POST", self._path("/start"), creates=True))

    async def delete(self) -> None:
        """Remove it and its files."""
        await self._transport.nothing(Call("DELETE", self._path()))

    async def stats(self) -> InstanceStats:
        """What it consumes."""
        return await self._transport.model(InstanceStats, Call("GET", self._path("/stats")))

    async def ssh(self) -> InstanceSSH:
        """How to log in to it: host, port, user, keys, and a command line."""
        return await self._transport.model(InstanceSSH, Call("GET", self._path("/ssh")))

    async def processes(self) -> List[models.Process]:
        """What runs in it."""
        return (await self._transport.model(ProcessList, Call("GET", self._path("/processes")))).processes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.delete()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, name={self.name!r}, status={self.status!r})"

    def _repr_html_(self) -> str:
        shown = {name: str(value) for name, value in self.info.to_json().items()}
        return table(type(self).__name__, list(shown.items()))


class AsyncInstances:
    """Instances: `client.instances`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def start(self, **options: Unpack[InstanceOptions]) -> AsyncInstance:
        """Start an instance of an image, or from a saved state.

            async with await client.instances.start(image="host") as instance:
                await instance.exec("echo hello > /tmp/greeting")
        """
        info = await self._transport.model(models.Instance, Call("POST", INSTANCES, body=options, creates=True))
        return AsyncInstance(self._transport, info)

    async def get(self, instance_id: str) -> AsyncInstance:
        """One instance, by id or name."""
        info = await self._transport.model(models.Instance, Call("GET", path_of(INSTANCES, instance_id)))
        return AsyncInstance(self._transport, info)

    async def list(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        label: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AsyncInstance]:
        """Every instance, newest first; `limit` is the size of a page, `label` is name=value."""
        query = {"status": status, "name": name, "label": label, "limit": limit}
        async for info in self._transport.pages(InstanceList, INSTANCES, query, "instances"):
            yield AsyncInstance(self._transport, info)
