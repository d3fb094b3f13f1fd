"""Executions on record, and their output."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote

from .._errors import FaasError, NotFoundError, ServerUnreachableError, StreamLostError
from .._events import Event, parse_event
from .._io import async_sleep
from .._hooks import Retry
from .._sse import EventDecoder
from ..models import Execution, ExecutionList
from .transport import AsyncTransport, Call

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self


class AsyncEventStream:
    """A stream of server-sent events that continues where it was when its connection is lost."""

    # An event of one of these types is the last.
    ends: tuple[str, ...] = ()

    def __init__(self, transport: AsyncTransport, path: str, since: str = "", query: dict[str, object] | None = None) -> None:
        self._transport = transport
        self._path = path
        self._query = query
        self.last_id = since
        """Where to continue from: `since` of another stream."""
        self._events = self._read()

    async def _read(self) -> AsyncGenerator[Event]:
        attempt = 0
        while True:
            try:
                async for event in self._connection():
                    attempt = 0
                    yield event
                    if event.type in self.ends:
                        return
                if not self.ends:
                    return
                failure: FaasError = StreamLostError("the stream ended before its last event")
            except (StreamLostError, ServerUnreachableError) as error:
                failure = error
            delay = self._transport.options.retry.delay(attempt, ServerUnreachableError(str(failure)), True, True)
            if delay is None:
                raise failure
            self._transport.counter.add("retries")
            if self._transport.hooks.on_retry is not None:
                self._transport.hooks.on_retry(Retry("GET", self._path, attempt + 1, delay, failure))
            await async_sleep(delay)
            attempt += 1

    async def _connection(self) -> AsyncGenerator[Event]:
        decoder = EventDecoder(self.last_id)
        headers = {"Last-Event-ID": self.last_id} if self.last_id else None
        call = Call("GET", self._path, query=self._query, accept="text/event-stream", headers=headers)
        async with self._transport.stream(call) as response:
            async for piece in self._transport.lines(response):
                for sent in decoder.feed(piece):
                    self.last_id = sent.id
                    yield parse_event(sent.data)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def __anext__(self) -> Event:
        return await self._events.__anext__()

    async def aclose(self) -> None:
        """Stop reading."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncLogStream(AsyncEventStream):
    """Output of one execution, until its end."""

    ends = ("result", "error", "exit")


class AsyncExecutions:
    """Executions on record: `client.executions`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, limit: int | None = None) -> AsyncIterator[Execution]:
        """Every execution, newest first, page by page; `limit` is the size of a page."""
        cursor: str | None = None
        while True:
            query = {"limit": limit, "cursor": cursor or None}
            page = await self._transport.model(ExecutionList, Call("GET", "/api/v1/executions", query=query))
            for each in page.executions:
                yield each
            cursor = page.next_cursor
            if not cursor:
                return

    async def get(self, execution_id: str) -> Execution:
        """One execution; NotFoundError when the project has none of that id."""
        return await self._transport.model(Execution, Call("GET", _path(execution_id)))

    async def cancel(self, execution_id: str) -> Execution:
        """End a running execution; returns when its processes are gone."""
        return await self._transport.model(Execution, Call("POST", _path(execution_id) + "/cancel", creates=True))

    def stream_logs(self, execution_id: str, *, since: str = "") -> AsyncLogStream:
        """Output from the start, or from after the event `since`, and on until the end."""
        return AsyncLogStream(self._transport, f"/api/v1/logs/{quote(execution_id, safe='')}/stream", since)


def _path(execution_id: str) -> str:
    if not execution_id:
        raise NotFoundError("an execution without an id does not exist")
    return f"/api/v1/executions/{quote(execution_id, safe='')}"
