"""Callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ._errors import FaasError
from .models import ExecuteResponse


@dataclass(frozen=True)
class Retry:
    """A request is about to be sent again."""

    method: str
    path: str
    attempt: int
    """The trial that failed, from 1."""
    delay: float
    """Seconds until the next."""
    error: FaasError


@dataclass(frozen=True)
class Hooks:
    """What a client calls; every one may be left out. An exception in one is the caller's."""

    on_execution: Callable[[ExecuteResponse], None] | None = None
    on_retry: Callable[[Retry], None] | None = None
    on_error: Callable[[FaasError], None] | None = None
    on_cache_hit: Callable[[ExecuteResponse], None] | None = None
    on_cache_miss: Callable[[ExecuteResponse], None] | None = None
