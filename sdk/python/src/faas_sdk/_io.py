"""What differs between asyncio and threads, in pairs: an async form and its sync twin."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Protocol

import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client

from ._errors import FaasError, RequestTimeoutError, ServerUnreachableError, StreamLostError, from_problem
from ._retry import parse_retry_after

# A result with both streams of output, each twice, with escapes.
MAX_FRAME_BYTES = 512 << 20


class Writer(Protocol):
    """Anything that takes bytes: a file, sys.stdout.buffer, io.BytesIO."""

    def write(self, data: bytes, /) -> object: ...


async def async_sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def sync_sleep(seconds: float) -> None:
    time.sleep(seconds)


async def async_pieces(source: bytes | AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces of what is sent."""
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, AsyncIterable):
        async for piece in source:
            yield piece
    else:
        for piece in source:
            yield piece


def sync_pieces(source: bytes | Iterable[bytes]) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
    else:
        yield from source


async def async_counted(
    source: AsyncIterable[bytes] | Iterable[bytes], on_progress: Callable[[int], object] | None
) -> AsyncIterator[bytes]:
    """The pieces of what is sent, counted."""
    size = 0
    async for piece in async_pieces(source):
        yield piece
        size += len(piece)
        if on_progress is not None:
            on_progress(size)


def sync_counted(source: Iterable[bytes], on_progress: Callable[[int], object] | None) -> Iterator[bytes]:
    size = 0
    for piece in sync_pieces(source):
        yield piece
        size += len(piece)
        if on_progress is not None:
            on_progress(size)


def _refused(error: Exception, url: str) -> FaasError:
    if isinstance(error, websockets.exceptions.InvalidStatus):
        retry_after = parse_retry_after(error.response.headers.get("Retry-After"))
        return problem_of(bytes(error.response.body or b""), error.response.status_code, retry_after)
    if isinstance(error, TimeoutError):
        return RequestTimeoutError(f"{url} did not answer in time")
    return unreachable(url, error)


def unreachable(url: str, error: Exception) -> ServerUnreachableError:
    return ServerUnreachableError(
        f"no answer from the server at {url}: {error or type(error).__name__}",
        remedy="start it with `faas serve`, or name another with FAAS_API_URL",
    )


def problem_of(body: bytes, status: int, retry_after: float | None) -> FaasError:
    """The error in the body of a refusal."""
    try:
        return from_problem(json.loads(body), status, retry_after)
    except ValueError:
        return from_problem(None, status, retry_after)


class AsyncSocket:
    """One WebSocket."""

    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str], timeout: float | None) -> AsyncSocket:
        try:
            return cls(
                await websockets.asyncio.client.connect(
                    url,
                    additional_headers=headers,
                    compression=None,
                    max_size=MAX_FRAME_BYTES,
                    open_timeout=timeout,
                    ping_interval=None,
                    proxy=None,
                    user_agent_header=None,
                )
            )
        except (websockets.exceptions.WebSocketException, OSError, EOFError) as error:
            raise _refused(error, url) from error

    async def send(self, data: str | bytes) -> None:
        try:
            await self._connection.send(data)
        except websockets.exceptions.ConnectionClosed as error:
            raise StreamLostError(f"the connection to the server broke off: {error}") from error

    async def receive(self) -> str | bytes | None:
        """The next frame; None when the server closed in order."""
        try:
            return await self._connection.recv()
        except websockets.exceptions.ConnectionClosedOK:
            return None
        except websockets.exceptions.ConnectionClosed as error:
            raise StreamLostError(f"the connection to the server broke off: {error}") from error

    async def close(self) -> None:
        await self._connection.close()


class SyncSocket:
    """One WebSocket."""

    def __init__(self, connection: websockets.sync.client.ClientConnection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, url: str, headers: Mapping[str, str], timeout: float | None) -> SyncSocket:
        try:
            return cls(
                websockets.sync.client.connect(
                    url,
                    additional_headers=headers,
                    compression=None,
                    max_size=MAX_FRAME_BYTES,
                    open_timeout=timeout,
                    ping_interval=None,
                    proxy=None,
                    user_agent_header=None,
                )
            )
        except (websockets.exceptions.WebSocketException, OSError, EOFError) as error:
            raise _refused(error, url) from error

    def send(self, data: str | bytes) -> None:
        try:
            self._connection.send(data)
        except websockets.exceptions.ConnectionClosed as error:
            raise StreamLostError(f"the connection to the server broke off: {error}") from error

    def receive(self) -> str | bytes | None:
        """The next frame; None when the server closed in order."""
        try:
            return self._connection.recv()
        except websockets.exceptions.ConnectionClosedOK:
            return None
        except websockets.exceptions.ConnectionClosed as error:
            raise StreamLostError(f"the connection to the server broke off: {error}") from error

    def close(self) -> None:
        self._connection.close()
