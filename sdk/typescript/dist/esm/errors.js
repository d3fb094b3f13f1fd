/**
 * What every error of this package is. `code` is the stable class of the API;
 * `status` is undefined where there was no answer.
 */
export class FaasError extends Error {
    detail;
    name = "FaasError";
    code = "internal";
    /** The field of the input that was refused. */
    field;
    /** What can be done about it. */
    remedy;
    /** The request's id in the server's log. */
    requestId;
    status;
    /** When to try again. */
    retryAfterMs;
    /** For invalid input: each field and why. */
    errors;
    constructor(detail, details = {}) {
        super(details.remedy ? `${detail} (${details.remedy})` : detail, { cause: details.cause });
        this.detail = detail;
        this.field = details.field;
        this.remedy = details.remedy;
        this.requestId = details.requestId;
        this.status = details.status;
        this.retryAfterMs = details.retryAfterMs;
        this.errors = details.errors ?? [];
    }
}
/** The input was refused; `errors` names each field and why. */
export class InvalidArgumentError extends FaasError {
    name = "InvalidArgumentError";
    code = "invalid_argument";
}
/** The key is missing or not known. */
export class UnauthenticatedError extends FaasError {
    name = "UnauthenticatedError";
    code = "unauthenticated";
}
/** The key may not do this. */
export class PermissionDeniedError extends FaasError {
    name = "PermissionDeniedError";
    code = "permission_denied";
}
/** There is no such thing in the project. */
export class NotFoundError extends FaasError {
    name = "NotFoundError";
    code = "not_found";
}
/** It contradicts what is there. */
export class ConflictError extends FaasError {
    name = "ConflictError";
    code = "conflict";
}
/** The state of things does not allow it. */
export class FailedPreconditionError extends FaasError {
    name = "FailedPreconditionError";
    code = "failed_precondition";
}
/** No runtime of the server can do it; `remedy` says what would help. */
export class CapabilityUnavailableError extends FaasError {
    name = "CapabilityUnavailableError";
    code = "capability_unavailable";
}
/** The request is larger than the server takes. */
export class PayloadTooLargeError extends FaasError {
    name = "PayloadTooLargeError";
    code = "payload_too_large";
}
/** Something is used up; `retryAfterMs` says when to try again. */
export class ResourceExhaustedError extends FaasError {
    name = "ResourceExhaustedError";
    code = "resource_exhausted";
}
/** It took longer than it may. */
export class DeadlineExceededError extends FaasError {
    name = "DeadlineExceededError";
    code = "deadline_exceeded";
}
/** The server does not work right now. */
export class UnavailableError extends FaasError {
    name = "UnavailableError";
    code = "unavailable";
}
/** The platform failed; the server's log has the cause. */
export class InternalError extends FaasError {
    name = "InternalError";
}
/** The server gave no answer. */
export class ServerUnreachableError extends UnavailableError {
    name = "ServerUnreachableError";
}
/** A stream broke off before its end and could not be continued. */
export class StreamLostError extends UnavailableError {
    name = "StreamLostError";
}
/** The server did not answer within the client's time-out. */
export class RequestTimeoutError extends DeadlineExceededError {
    name = "RequestTimeoutError";
}
/** The server's answer is not one of this API. */
export class MalformedResponseError extends InternalError {
    name = "MalformedResponseError";
}
/** The caller's AbortSignal ended it; `cause` is the signal's reason. */
export class AbortedError extends FaasError {
    name = "AbortedError";
}
const classes = {
    invalid_argument: InvalidArgumentError,
    unauthenticated: UnauthenticatedError,
    permission_denied: PermissionDeniedError,
    not_found: NotFoundError,
    conflict: ConflictError,
    failed_precondition: FailedPreconditionError,
    capability_unavailable: CapabilityUnavailableError,
    payload_too_large: PayloadTooLargeError,
    resource_exhausted: ResourceExhaustedError,
    deadline_exceeded: DeadlineExceededError,
    unavailable: UnavailableError,
    internal: InternalError,
};
/** Makes the error that a problem+json body describes. */
export function fromProblem(value, status, retryAfterMs) {
    const problem = typeof value === "object" && value !== null ? value : {};
    if (typeof problem.code !== "string" || !problem.code) {
        const detail = `the server answered ${status}, which is no answer of this API`;
        return status !== undefined && status < 500
            ? new MalformedResponseError(detail, { status })
            : new UnavailableError(detail, { status });
    }
    const errors = Array.isArray(problem.errors) ? problem.errors : [];
    const kind = classes[problem.code] ?? InternalError; // a later server may know more codes
    return new kind(String(problem.detail ?? problem.title ?? problem.code), {
        field: errors.length === 1 ? errors[0]?.field : undefined,
        remedy: problem.remedy,
        requestId: problem.request_id,
        status: status ?? problem.status,
        retryAfterMs,
        errors,
    });
}
