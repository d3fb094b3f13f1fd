"""One way for every request: authentication, retries, errors."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast
from urllib.parse import quote

import httpx

from .._config import Config
from .._decode import Model, encode
from .._errors import (
    FaasError,
    MalformedResponseError,
    NotFoundError,
    RequestTimeoutError,
    ServerUnreachableError,
    StreamLostError,
)
from .._hooks import Hooks, Retry
from .._io import AsyncSocket, async_pieces, async_sleep, problem_of, unreachable
from .._retry import RetryPolicy, parse_retry_after
from .._stats import Counter
from .._version import VERSION

M = TypeVar("M", bound=Model)

# Bounds what is read of an answer that is kept whole.
MAX_ANSWER = 512 << 20
MAX_PROBLEM = 1 << 20
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True)
class RequestOptions:
    """What `with_options` sets."""

    timeout: float | None = None
    idempotency_key: str | None = None
    retry: RetryPolicy = RetryPolicy()


@dataclass(frozen=True)
class Call:
    """One request, as often as it is sent.

    `creates` asks for an Idempotency-Key, which makes repeating it safe.
    """

    method: str
    path: str
    query: Mapping[str, object] | None = None
    body: object = None
    content: Any = None
    content_type: str = "application/octet-stream"
    accept: str = "application/json"
    creates: bool = False
    headers: Mapping[str, str] | None = None
    untimed: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent a second time."""
        return self.content is None or isinstance(self.content, bytes)


class AsyncTransport:
    """Sends requests to one server."""

    def __init__(
        self,
        config: Config,
        options: RequestOptions,
        hooks: Hooks,
        http: httpx.AsyncClient | None,
    ) -> None:
        self.config = config
        self.options = options
        self.hooks = hooks
        self.counter = Counter()
        self._owned = http is None
        self.http = http or httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=30),
            trust_env=False,
        )

    def with_options(self, options: RequestOptions) -> AsyncTransport:
        """The same transport, connections and counters with other options."""
        other = AsyncTransport(self.config, options, self.hooks, self.http)
        other.counter = self.counter
        return other

    async def aclose(self) -> None:
        if self._owned:
            await self.http.aclose()

    def auth_headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"faas-python/{VERSION}"}
        if self.config.key:
            headers["Authorization"] = f"Bearer {self.config.key}"
        return headers

    async def model(self, to: type[M], call: Call) -> M:
        """Send, and read the answer as `to`."""
        return to.from_json(await self.json(call))

    async def list_of(self, to: type[M], call: Call) -> list[M]:
        """Send, and read the answer as an array."""
        value = await self.json(call)
        if not isinstance(value, list):
            raise MalformedResponseError(f"{call.method} {call.path}: the server's answer is no array")
        return [to.from_json(each) for each in cast("list[object]", value)]

    async def pages(self, to: type[M], path: str, query: Mapping[str, object], of: str) -> AsyncGenerator[Any]:
        """Entries of a list, page by page; `of` is the field that holds them."""
        cursor: str | None = None
        while True:
            page = await self.model(to, Call("GET", path, query={**query, "cursor": cursor}))
            for each in getattr(page, of):
                yield each
            cursor = getattr(page, "next_cursor", "") or None
            if cursor is None:
                return

    async def json(self, call: Call) -> Any:
        body = await self.content(call)
        try:
            return json.loads(body)
        except ValueError as error:
            raise MalformedResponseError(
                f"{call.method} {call.path}: the server's answer is not JSON: {body[:80]!r}"
            ) from error

    async def nothing(self, call: Call) -> None:
        """Send; the answer's body does not matter."""
        await self.content(call)

    async def content(self, call: Call) -> bytes:
        """Send, and return the answer's body."""
        content: bytes = await self._counted(call, self._read_whole)
        return content

    async def _read_whole(self, call: Call, response: httpx.Response) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.aiter_bytes():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_ANSWER:
                raise MalformedResponseError(f"the server's answer is larger than {MAX_ANSWER} bytes")
        return b"".join(pieces)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncGenerator[httpx.Response]:
        """Send, and hand out the answer with its body still to come."""
        response = await self._counted(replace(call, untimed=True), None)
        try:
            yield response
        finally:
            await response.aclose()

    async def _counted(self, call: Call, read: Any) -> Any:
        self.counter.add("requests")
        started = time.monotonic()
        try:
            return await self._send_until_done(call, read)
        except FaasError as error:
            self.counter.add("errors")
            if self.hooks.on_error is not None:
                self.hooks.on_error(error)
            raise
        finally:
            self.counter.add("total_ms", (time.monotonic() - started) * 1000)

    async def _send_until_done(self, call: Call, read: Any) -> Any:
        headers = self._headers(call)
        safe = call.repeatable and (call.method in ("GET", "HEAD", "PUT", "DELETE") or "Idempotency-Key" in headers)
        lost = False
        attempt = 0
        while True:
            reached = True
            try:
                return await self._send_once(call, headers, read)
            except NotFoundError:
                if call.method == "DELETE" and lost and read is not None:
                    return b"{}"  # the trial that got no answer did it
                raise
            except httpx.TimeoutException as error:
                failure: FaasError = RequestTimeoutError(
                    f"{call.method} {call.path}: no answer within the time-out of {self.options.timeout} s"
                )
                if isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout)):
                    failure, reached = unreachable(self.config.url, error), False
                cause: Exception = error
            except httpx.TransportError as error:
                failure = unreachable(self.config.url, error)
                reached = not isinstance(error, httpx.ConnectError)
                cause = error
            except FaasError as error:
                failure, cause = error, error
            lost = lost or reached
            delay = self.options.retry.delay(attempt, failure, safe, reached) if call.repeatable else None
            if delay is None:
                if failure is cause:
                    raise failure
                raise failure from cause
            self.announce_retry(Retry(call.method, call.path, attempt + 1, delay, failure))
            await async_sleep(delay)
            attempt += 1

    def announce_retry(self, retry: Retry) -> None:
        """Count a retry and tell those who want to know."""
        self.counter.add("retries")
        if self.hooks.on_retry is not None:
            self.hooks.on_retry(retry)

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {**self.auth_headers(), "Accept": call.accept}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        elif call.content is not None:
            headers["Content-Type"] = call.content_type
        if call.creates:
            headers["Idempotency-Key"] = self.options.idempotency_key or uuid.uuid4().hex
        headers.update(call.headers or {})
        return headers

    def _build(self, call: Call, headers: Mapping[str, str]) -> httpx.Request:
        query = {name: _query_value(value) for name, value in (call.query or {}).items() if value is not None}
        content = call.content
        if call.body is not None:
            content = json.dumps(encode(call.body), ensure_ascii=False, separators=(",", ":")).encode()
        elif content is not None and not isinstance(content, bytes):
            content = async_pieces(content)
        # Until the whole answer is there: a stream may go on for hours.
        limit = None if call.untimed else self.options.timeout
        return self.http.build_request(
            call.method,
            self.config.url + call.path,
            params=query or None,
            headers=dict(headers),
            content=content,
            timeout=httpx.Timeout(limit, connect=min(CONNECT_TIMEOUT, limit or CONNECT_TIMEOUT), pool=None),
        )

    async def _send_once(self, call: Call, headers: Mapping[str, str], read: Any) -> Any:
        response = await self.http.send(self._build(call, headers), stream=True)
        try:
            if not response.is_success:
                raise await _problem(response)
            if read is not None:
                return await read(call, response)
        except BaseException:
            await response.aclose()
            raise
        if read is not None:
            await response.aclose()
        return response

    async def lines(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Pieces of a stream; a broken one is a StreamLostError."""
        try:
            async for piece in response.aiter_bytes():
                yield piece
        except httpx.TransportError as error:
            raise StreamLostError(f"the stream from the server broke off: {error or type(error).__name__}") from error

    async def socket(self, path: str, query: Mapping[str, object]) -> AsyncSocket:
        """Open a WebSocket."""
        url = httpx.URL(self.config.url + path, params={k: _query_value(v) for k, v in query.items() if v is not None})
        address = str(url).replace("http", "ws", 1)
        self.counter.add("requests")
        attempt = 0
        while True:
            try:
                return await AsyncSocket.open(address, self.auth_headers(), self.options.timeout or CONNECT_TIMEOUT)
            except FaasError as error:
                reached = not isinstance(error, ServerUnreachableError)
                delay = self.options.retry.delay(attempt, error, True, reached)
                if delay is None:
                    self.counter.add("errors")
                    if self.hooks.on_error is not None:
                        self.hooks.on_error(error)
                    raise
                self.announce_retry(Retry("GET", path, attempt + 1, delay, error))
                await async_sleep(delay)
                attempt += 1


def path_of(collection: str, id: str, rest: str = "") -> str:
    """The path of one thing; ids are opaque and may hold anything."""
    if not id:
        raise NotFoundError(f"{collection} has nothing without an id")
    return f"{collection}/{quote(id, safe='')}{rest}"


def _query_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


async def _problem(response: httpx.Response) -> FaasError:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_PROBLEM:
            break
    return problem_of(body, response.status_code, parse_retry_after(response.headers.get("Retry-After")))
