"""Run commands in sandboxes; snapshot, fork, branch and merge them.

    from faas_sdk import Client

    with Client() as client:
        print(client.execute("echo hello").stdout)

`AsyncClient` is the same for asyncio. Errors are `FaasError` and its
subclasses, one for each code of the API.
"""

from . import models
from ._async.client import AsyncClient
from ._async.execution import AsyncExecutionStream, AsyncProcess
from ._async.executions import AsyncEventStream, AsyncLogStream
from ._errors import *  # noqa: F403
from ._errors import __all__ as _errors
from ._events import Event
from ._hooks import Retry
from ._stats import ClientMetrics
from ._sync.client import Client
from ._sync.execution import ExecutionStream, Process, Terminal
from ._sync.executions import EventStream, LogStream
from ._version import VERSION as __version__
from .models import *  # noqa: F403
from .models import __all__ as _models

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "AsyncClient",
    "AsyncEventStream",
    "AsyncExecutionStream",
    "AsyncLogStream",
    "AsyncProcess",
    "Client",
    "ClientMetrics",
    "Event",
    "EventStream",
    "ExecutionStream",
    "LogStream",
    "Process",
    "Retry",
    "Terminal",
    "__version__",
    "models",
    *_errors,
    *_models,
]
