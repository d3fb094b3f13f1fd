"""Streams of events that continue where they were when their connection is lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from .._errors import FaasError, ServerUnreachableError, StreamLostError
from .._events import Event, parse_event
from .._hooks import Retry
from .._io import async_sleep
from .._sse import EventDecoder
from .transport import AsyncTransport, Call

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self


class AsyncEventStream:
    """Server-sent events: an iterator and a context manager."""

    # An event of one of these types is the last.
    ends: tuple[str, ...] = ()

    def __init__(
        self, transport: AsyncTransport, path: str, since: str = "", query: Mapping[str, object] | None = None
    ) -> None:
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
                if self._ended():
                    return
                failure: FaasError = StreamLostError("the stream ended before its last event")
            except (StreamLostError, ServerUnreachableError) as error:
                failure = error
            lost = ServerUnreachableError(failure.detail)
            delay = self._transport.options.retry.delay(attempt, lost, True, True)
            if delay is None:
                raise failure
            self._transport.announce_retry(Retry("GET", self._path, attempt + 1, delay, failure))
            await async_sleep(delay)
            attempt += 1

    def _ended(self) -> bool:
        """Whether an end in order, without a last event, is one."""
        return False

    async def _connection(self) -> AsyncGenerator[Event]:
        decoder = EventDecoder(self.last_id)
        headers = {"Last-Event-ID": self.last_id} if self.last_id else None
        call = Call("GET", self._path, query=self._query, accept="text/event-stream", headers=headers)
        async with self._transport.stream(call) as response:
            async for piece in self._transport.lines(response):
                for sent in decoder.feed(piece):
                    self.last_id = sent.id
                    event = parse_event(sent.data, sent.event)
                    if event.error is not None:
                        raise event.error
                    yield event

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

    ends = ("result", "exit")


class AsyncProgressStream(AsyncEventStream):
    """Progress of one long operation, until its end."""

    ends = ("done", "result")
