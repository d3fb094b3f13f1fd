"""Errors. There is one root, and one class for each code of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

__all__ = [
    "CapabilityUnavailableError",
    "ConflictError",
    "DeadlineExceededError",
    "FaasError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "MalformedResponseError",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "RequestTimeoutError",
    "ResourceExhaustedError",
    "ServerUnreachableError",
    "StreamLostError",
    "UnauthenticatedError",
    "UnavailableError",
]


class FaasError(Exception):
    """What every error of this package is.

    `code` is the stable class of the API, `detail` what failed on what, `field`
    the field of the input that was refused, `remedy` what can be done about it,
    `request_id` the request's id in the server's log, `status` the HTTP status
    (None where there was no answer) and `retry_after` when to try again, in
    seconds.
    """

    code = "internal"

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        errors: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.remedy = remedy
        self.request_id = request_id
        self.status = status
        self.retry_after = retry_after
        self.errors = list(errors)

    def __str__(self) -> str:
        return f"{self.detail} ({self.remedy})" if self.remedy else self.detail


class InvalidArgumentError(FaasError):
    """The input was refused; `errors` names each field and why."""

    code = "invalid_argument"


class UnauthenticatedError(FaasError):
    """The key is missing or not known."""

    code = "unauthenticated"


class PermissionDeniedError(FaasError):
    """The key may not do this."""

    code = "permission_denied"


class NotFoundError(FaasError):
    """There is no such thing in the project."""

    code = "not_found"


class ConflictError(FaasError):
    """It contradicts what is there."""

    code = "conflict"


class FailedPreconditionError(FaasError):
    """The state of things does not allow it."""

    code = "failed_precondition"


class CapabilityUnavailableError(FaasError):
    """No runtime of the server can do it; `remedy` says what would help."""

    code = "capability_unavailable"


class PayloadTooLargeError(FaasError):
    """The request is larger than the server takes."""

    code = "payload_too_large"


class ResourceExhaustedError(FaasError):
    """Something is used up; `retry_after` says when to try again."""

    code = "resource_exhausted"


class DeadlineExceededError(FaasError):
    """It took longer than it may."""

    code = "deadline_exceeded"


class UnavailableError(FaasError):
    """The server does not work right now."""

    code = "unavailable"


class InternalError(FaasError):
    """The platform failed; the server's log has the cause."""

    code = "internal"


class ServerUnreachableError(UnavailableError):
    """The server gave no answer."""


class StreamLostError(UnavailableError):
    """A stream broke off before its end and could not be continued."""


class RequestTimeoutError(DeadlineExceededError):
    """The server did not answer within the client's time-out."""


class MalformedResponseError(InternalError):
    """The server's answer is not one of this API."""


_classes: dict[str, type[FaasError]] = {
    each.code: each
    for each in (
        InvalidArgumentError,
        UnauthenticatedError,
        PermissionDeniedError,
        NotFoundError,
        ConflictError,
        FailedPreconditionError,
        CapabilityUnavailableError,
        PayloadTooLargeError,
        ResourceExhaustedError,
        DeadlineExceededError,
        UnavailableError,
        InternalError,
    )
}


def from_problem(problem: object, status: int | None, retry_after: float | None) -> FaasError:
    """Make the error that a problem+json body describes."""
    if not isinstance(problem, Mapping):
        return _no_problem(status)
    fields = cast("Mapping[str, Any]", problem)
    code = fields.get("code")
    if not isinstance(code, str) or not code:
        return _no_problem(status)
    errors: list[tuple[str, str]] = []
    refused: Any = fields.get("errors")
    for each in cast("list[object]", refused) if isinstance(refused, list) else []:
        if isinstance(each, Mapping):
            entry = cast("Mapping[str, Any]", each)
            errors.append((str(entry.get("field", "")), str(entry.get("reason", ""))))
    kind = _classes.get(code)
    error = (kind or InternalError)(
        str(fields.get("detail") or fields.get("title") or code),
        field=errors[0][0] if len(errors) == 1 else None,
        remedy=_text(fields.get("remedy")),
        request_id=_text(fields.get("request_id")),
        status=status if status is not None else _number(fields.get("status")),
        retry_after=retry_after,
        errors=errors,
    )
    if kind is None:  # a code of a later version keeps its name
        error.code = code
    return error


def _no_problem(status: int | None) -> FaasError:
    detail = f"the server answered {status}, which is no answer of this API"
    if status is not None and status < 500:
        return MalformedResponseError(detail, status=status)
    return UnavailableError(detail, status=status)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
