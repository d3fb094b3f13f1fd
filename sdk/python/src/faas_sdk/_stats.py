"""What a client counts about itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ._decode import Model


@dataclass(frozen=True, repr=False)
class ClientMetrics(Model):
    """Counters of one client since it was made, or since `reset_client_metrics`."""

    requests: int = 0
    """Calls, however often each was sent."""
    retries: int = 0
    errors: int = 0
    executions: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    total_ms: float = 0.0
    """Time spent waiting for answers, retries included."""


class Counter:
    """Counts; safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {}

    def add(self, name: str, n: float = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + n

    def reset(self) -> None:
        with self._lock:
            self._counts.clear()

    def snapshot(self) -> ClientMetrics:
        with self._lock:
            counts = dict(self._counts)
        total = counts.pop("total_ms", 0.0)
        return ClientMetrics(total_ms=total, **{name: int(n) for name, n in counts.items()})
