import type { FieldError, Problem } from "./types.js";
/** Every class of error of the API. */
export type ErrorCode = Problem["code"];
/** What is known of an error besides its text. */
export interface ErrorDetails {
    readonly field?: string | undefined;
    readonly remedy?: string | undefined;
    readonly requestId?: string | undefined;
    readonly status?: number | undefined;
    readonly retryAfterMs?: number | undefined;
    readonly errors?: readonly FieldError[] | undefined;
    readonly cause?: unknown;
}
/**
 * What every error of this package is. `code` is the stable class of the API;
 * `status` is undefined where there was no answer.
 */
export declare class FaasError extends Error {
    readonly detail: string;
    readonly name: string;
    readonly code: ErrorCode;
    /** The field of the input that was refused. */
    readonly field: string | undefined;
    /** What can be done about it. */
    readonly remedy: string | undefined;
    /** The request's id in the server's log. */
    readonly requestId: string | undefined;
    readonly status: number | undefined;
    /** When to try again. */
    readonly retryAfterMs: number | undefined;
    /** For invalid input: each field and why. */
    readonly errors: readonly FieldError[];
    constructor(detail: string, details?: ErrorDetails);
}
/** The input was refused; `errors` names each field and why. */
export declare class InvalidArgumentError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** The key is missing or not known. */
export declare class UnauthenticatedError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** The key may not do this. */
export declare class PermissionDeniedError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** There is no such thing in the project. */
export declare class NotFoundError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** It contradicts what is there. */
export declare class ConflictError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** The state of things does not allow it. */
export declare class FailedPreconditionError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** No runtime of the server can do it; `remedy` says what would help. */
export declare class CapabilityUnavailableError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** The request is larger than the server takes. */
export declare class PayloadTooLargeError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** Something is used up; `retryAfterMs` says when to try again. */
export declare class ResourceExhaustedError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** It took longer than it may. */
export declare class DeadlineExceededError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** The server does not work right now. */
export declare class UnavailableError extends FaasError {
    readonly name: string;
    readonly code: ErrorCode;
}
/** The platform failed; the server's log has the cause. */
export declare class InternalError extends FaasError {
    readonly name: string;
}
/** The server gave no answer. */
export declare class ServerUnreachableError extends UnavailableError {
    readonly name: string;
}
/** A stream broke off before its end and could not be continued. */
export declare class StreamLostError extends UnavailableError {
    readonly name: string;
}
/** The server did not answer within the client's time-out. */
export declare class RequestTimeoutError extends DeadlineExceededError {
    readonly name: string;
}
/** The server's answer is not one of this API. */
export declare class MalformedResponseError extends InternalError {
    readonly name: string;
}
/** The caller's AbortSignal ended it; `cause` is the signal's reason. */
export declare class AbortedError extends FaasError {
    readonly name: string;
}
/** Makes the error that a problem+json body describes. */
export declare function fromProblem(value: unknown, status?: number, retryAfterMs?: number): FaasError;
