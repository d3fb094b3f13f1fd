"""When a request is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from datetime import datetime, timezone

from ._errors import FaasError, ResourceExhaustedError, ServerUnreachableError, UnavailableError

BASE_DELAY = 0.1
MAX_DELAY = 8.0
# A server that asks for more patience than this is not waited for.
MAX_RETRY_AFTER = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is sent again, and after which error."""

    max_retries: int = 3

    def delay(self, attempt: int, error: FaasError, safe: bool, reached: bool) -> float | None:
        """Seconds to wait before trial `attempt` + 2, None to give up.

        `safe` says that doing it twice does no harm, `reached` that the server
        may have seen the request.
        """
        if attempt >= self.max_retries or not _worth_it(error, safe, reached):
            return None
        # Half of it is chance, so that those who failed together do not come
        # back together.
        delay = min(MAX_DELAY, BASE_DELAY * 2.0**attempt) * (0.5 + random.random() / 2)
        if error.retry_after is not None:
            if error.retry_after > MAX_RETRY_AFTER:
                return None
            delay += error.retry_after
        return delay


def _worth_it(error: FaasError, safe: bool, reached: bool) -> bool:
    if isinstance(error, ServerUnreachableError):
        return safe or not reached
    if isinstance(error, ResourceExhaustedError):
        return error.retry_after is not None  # refused before anything was done
    return safe and isinstance(error, UnavailableError)


def parse_retry_after(value: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(int(value)))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
