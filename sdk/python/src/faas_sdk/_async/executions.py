"""Executions on record, and their output."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, List

from ..models import Execution, ExecutionList, ForkedExecution, ForkOptions
from .execution import request_body
from .streams import AsyncLogStream
from .transport import AsyncTransport, Call, path_of

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

EXECUTIONS = "/api/v1/executions"


class AsyncExecutions:
    """Executions on record: `client.executions`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None) -> AsyncIterator[Execution]:
        """Every execution, newest first; `limit` is the size of a page."""
        return self._transport.pages(ExecutionList, EXECUTIONS, {"limit": limit}, "executions")

    async def get(self, execution_id: str) -> Execution:
        """One execution; NotFoundError when the project has none of that id."""
        return await self._transport.model(Execution, Call("GET", path_of(EXECUTIONS, execution_id)))

    async def cancel(self, execution_id: str) -> Execution:
        """End a running execution; returns when its processes are gone."""
        call = Call("POST", path_of(EXECUTIONS, execution_id, "/cancel"), creates=True)
        return await self._transport.model(Execution, call)

    async def fork(
        self, execution_id: str, line: str | Sequence[str] | None = None, /, **options: Unpack[ForkOptions]
    ) -> List[ForkedExecution]:
        """Run a command `count` times, or the `variants`, beside each other, each in a copy of what it left."""
        call = Call("POST", path_of(EXECUTIONS, execution_id, "/fork"), body=fork_body(line, options), creates=True)
        return await self._transport.list_of(ForkedExecution, call)

    def stream_logs(self, execution_id: str, *, since: str = "") -> AsyncLogStream:
        """Output from the start, or from after the event `since`, and on until the end."""
        return AsyncLogStream(self._transport, path_of("/api/v1/logs", execution_id, "/stream"), since)


def fork_body(command: str | Sequence[str] | None, options: Mapping[str, Any]) -> dict[str, object]:
    """The body of a fork: an execution's, and what differs in each copy."""
    body = request_body(command if command is not None else options.get("command", ""), options)
    if not body["command"]:
        del body["command"]
    variants: Sequence[dict[str, object]] = body.get("variants") or []
    if variants:
        body["variants"] = [{**request_body("", each), "command": each.get("command")} for each in variants]
    return body
