"""Run commands in sandboxes; snapshot, fork, branch and merge them.

    from faas_sdk import Client

    with Client() as client:
        print(client.execute("echo hello").stdout)

`AsyncClient` is the same for asyncio. Errors are `FaasError` and its
subclasses, one for each code of the API.
"""

from . import models
from ._async.client import AsyncClient
from ._async.execution import AsyncExecutionStream, AsyncRunningCommand
from ._async.instances import AsyncInstance
from ._async.streams import AsyncEventStream, AsyncLogStream
from ._errors import *  # noqa: F403
from ._errors import __all__ as _errors
from ._events import Event
from ._hooks import Retry
from ._stats import ClientMetrics
from ._sync.client import Client
from ._sync.execution import ExecutionStream, RunningCommand, Terminal
from ._sync.instances import Instance
from ._sync.streams import EventStream, LogStream
from ._version import VERSION as __version__
from .models import Branch, ExecuteResponse, Execution, ForkedExecution, Health, Metrics, Snapshot

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "AsyncClient",
    "AsyncEventStream",
    "AsyncExecutionStream",
    "AsyncInstance",
    "AsyncLogStream",
    "AsyncRunningCommand",
    "Client",
    "ClientMetrics",
    "Branch",
    "Event",
    "EventStream",
    "ExecuteResponse",
    "Execution",
    "ExecutionStream",
    "ForkedExecution",
    "Health",
    "Instance",
    "LogStream",
    "Metrics",
    "RunningCommand",
    "Retry",
    "Snapshot",
    "Terminal",
    "__version__",
    "models",
    *_errors,
]
