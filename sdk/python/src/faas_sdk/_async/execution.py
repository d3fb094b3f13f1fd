"""Running commands: whole, as events, as raw output, and live."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import json

from .._decode import encode, encode_files
from .._errors import FaasError, MalformedResponseError, StreamLostError, UnavailableError, from_problem
from .._events import Event, parse_event
from .._io import AsyncSocket, Writer, async_pieces
from .._sse import EventDecoder
from ..models import ExecuteResponse, Execution, Problem
from .transport import AsyncTransport, Call

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

# Standard input that may be on its way: the server takes no more in advance.
STDIN_WINDOW = 1 << 20
STDIN_PIECE = 32 << 10
# Output kept while the caller sends and does not read.
MAX_KEPT = 64 << 20


@dataclass(frozen=True)
class Terminal:
    """Size of a terminal, in characters."""

    cols: int = 80
    rows: int = 24


def request_body(command: str | Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an execution; bytes on standard input go as base64."""
    body: dict[str, Any] = {**options, "command": command if isinstance(command, str) else list(command)}
    if isinstance(body.get("stdin"), bytes):
        body["stdin_base64"] = body.pop("stdin")
    if body.get("files") is not None:
        body["files"] = encode_files(body["files"])
    return body


def problem_error(problem: Problem) -> FaasError:
    """The error that a problem inside an answer describes."""
    return from_problem(problem.to_json(), problem.status, None)


def finish(transport: AsyncTransport, mode: object, result: ExecuteResponse) -> ExecuteResponse:
    """Count an execution and tell those who want to know."""
    counter, hooks = transport.counter, transport.hooks
    counter.add("executions")
    if hooks.on_execution is not None:
        hooks.on_execution(result)
    if result.cache_hit:
        counter.add("cache_hits")
        if hooks.on_cache_hit is not None:
            hooks.on_cache_hit(result)
    elif mode == "cached":
        counter.add("cache_misses")
        if hooks.on_cache_miss is not None:
            hooks.on_cache_miss(result)
    return result


class AsyncExecutionStream:
    """An execution as events, while it runs. Closing it ends the command.

    It is an iterator of events and a context manager; `result` is there after
    the last event.
    """

    def __init__(self, transport: AsyncTransport, body: Mapping[str, Any], path: str) -> None:
        self._transport = transport
        self._mode = body.get("mode")
        self._events = self._read(Call("POST", path, body=body, accept="text/event-stream"))
        self.id = ""
        self.result: ExecuteResponse | None = None

    async def _read(self, call: Call) -> AsyncGenerator[Event]:
        decoder = EventDecoder()
        async with self._transport.stream(call) as response:
            self.id = response.headers.get("Faas-Execution-Id", "")
            async for piece in self._transport.lines(response):
                for sent in decoder.feed(piece):
                    event = parse_event(sent.data)
                    if event.error is not None:
                        raise event.error
                    if event.result is not None:
                        self.result = finish(self._transport, self._mode, event.result)
                    yield event
        if self.result is None:
            raise StreamLostError("the stream ended without a result")

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def __anext__(self) -> Event:
        return await self._events.__anext__()

    async def wait(self) -> ExecuteResponse:
        """Read to the end and return the result (without the output)."""
        async for _ in self._events:
            pass
        if self.result is None:
            raise StreamLostError("the stream was closed before its result")
        return self.result

    async def aclose(self) -> None:
        """Stop reading; a command that still runs is ended."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def execute_to(transport: AsyncTransport, body: Mapping[str, Any], to: Writer, path: str) -> ExecuteResponse:
    """Copy raw output, then ask how it ended: trailers are out of httpx's reach."""
    call = Call("POST", path, body=body, accept="application/octet-stream")
    async with transport.stream(call) as response:
        execution_id = response.headers.get("Faas-Execution-Id", "")
        async for piece in transport.lines(response):
            to.write(piece)
    if not execution_id:
        raise MalformedResponseError("the server's answer does not name the execution")
    execution = await transport.model(Execution, Call("GET", f"/api/v1/executions/{execution_id}"))
    if execution.result is None:
        raise UnavailableError(execution.error or f"the execution {execution_id} is {execution.status}")
    value = {**execution.result.to_json(), "stdout": "", "stderr": "", "output": "", "logs": "", "error": execution.error}
    return finish(transport, body.get("mode"), ExecuteResponse.from_json(value))


class AsyncRunningCommand:
    """A command with live input and output, over a WebSocket.

    It is an iterator of events and a context manager; leaving it ends a command
    that still runs.
    """

    def __init__(self, transport: AsyncTransport, socket: AsyncSocket, mode: object) -> None:
        self._transport = transport
        self._socket = socket
        self._mode = mode
        self._kept: deque[Event] = deque()
        self._kept_bytes = 0
        self._sent = 0
        self._taken = 0
        self._refused: FaasError | None = None
        self._done = False
        self.id = ""
        self.result: ExecuteResponse | None = None

    @classmethod
    async def start(
        cls, transport: AsyncTransport, path: str, body: Mapping[str, Any], terminal: Terminal | None
    ) -> AsyncRunningCommand:
        """Open the connection and start the command."""
        process = cls(transport, await transport.socket(path, {"binary": 1}), body.get("mode"))
        frame: dict[str, Any] = {**encode(body), "type": "exec"}
        if terminal is not None:
            frame.update(tty=True, cols=terminal.cols, rows=terminal.rows)
        try:
            await process._send(frame)
        except BaseException:
            await process.aclose()
            raise
        return process

    async def _send(self, frame: Mapping[str, Any]) -> None:
        await self._socket.send(json.dumps(frame, ensure_ascii=False))

    async def send_stdin(self, data: bytes | str) -> None:
        """Send standard input. Waits while the command does not read."""
        content = data.encode() if isinstance(data, str) else data
        for start in range(0, len(content), STDIN_PIECE):
            piece = content[start : start + STDIN_PIECE]
            while self._sent + len(piece) - self._taken > STDIN_WINDOW and not self._done:
                await self._keep_next()
            if self._done:
                return  # it does not read any more
            await self._socket.send(piece)
            self._sent += len(piece)

    async def _keep_next(self) -> None:
        event = await self._next()
        if event is None:
            return
        self._kept.append(event)
        self._kept_bytes += len(event.data)
        if self._kept_bytes > MAX_KEPT:
            raise StreamLostError(f"more than {MAX_KEPT} bytes of output are unread: read events while sending input")

    async def close_stdin(self) -> None:
        """Say that no more input comes."""
        if not self._done:
            await self._send({"type": "close_stdin"})

    async def resize(self, cols: int, rows: int) -> None:
        """Change the size of the terminal."""
        if not self._done:
            await self._send({"type": "resize", "cols": cols, "rows": rows})

    async def signal(self, name: str | int) -> None:
        """Send a signal, by name ("SIGINT") or by Linux's number."""
        if not self._done:
            await self._send({"type": "signal", "signal": str(name)})

    async def _next(self) -> Event | None:
        """The next event from the server; None after the last."""
        if self._done:
            return None
        try:
            frame = await self._socket.receive()
        except StreamLostError:
            self._done = True
            raise (self._refused or StreamLostError("the connection broke off before the command's end")) from None
        if frame is None:
            self._done = True
            raise self._refused or StreamLostError("the server closed the connection before the command's end")
        if isinstance(frame, bytes):
            return Event(type="stdout", data=frame)
        event = parse_event(frame)
        self._note(event)
        return event

    def _note(self, event: Event) -> None:
        if event.type == "started":
            self.id = event.id
        elif event.type == "stdin_ack":
            taken = event.raw.get("bytes", 0)
            self._taken = max(self._taken, taken if isinstance(taken, int) else 0)
        elif event.type == "error":
            self._refused = event.error  # the last word, or about one frame of ours
        elif event.result is not None:
            self._done = True
            self.result = finish(self._transport, self._mode, event.result)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._kept:
                event = self._kept.popleft()
                self._kept_bytes -= len(event.data)
            else:
                latest = await self._next()
                if latest is None:
                    raise StopAsyncIteration
                event = latest
            if event.type not in ("stdin_ack", "heartbeat", "error"):
                return event

    async def wait(self) -> ExecuteResponse:
        """Read to the end and return the result (without the output)."""
        async for _ in self:
            pass
        if self.result is None:
            raise self._refused or StreamLostError("the process was closed before its result")
        return self.result

    async def aclose(self) -> None:
        """Close the connection; a command that still runs is ended."""
        self._done = True
        await self._socket.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def run(
    process: AsyncRunningCommand,
    stdin: bytes | AsyncIterable[bytes] | Iterable[bytes] | None,
    on_stdout: Callable[[bytes], object] | None,
    on_stderr: Callable[[bytes], object] | None,
) -> ExecuteResponse:
    """Join a process to its caller's streams until it ends."""
    async with process:
        if stdin is not None:
            async for piece in async_pieces(stdin):
                await process.send_stdin(piece)
        await process.close_stdin()
        async for event in process:
            if event.type == "stdout" and on_stdout is not None:
                on_stdout(event.data)
            elif event.type == "stderr" and on_stderr is not None:
                on_stderr(event.data)
        return await process.wait()
