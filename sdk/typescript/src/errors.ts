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
export class FaasError extends Error {
  override readonly name: string = "FaasError";
  readonly code: ErrorCode = "internal";
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

  constructor(
    readonly detail: string,
    details: ErrorDetails = {},
  ) {
    super(details.remedy ? `${detail} (${details.remedy})` : detail, { cause: details.cause });
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
  override readonly name: string = "InvalidArgumentError";
  override readonly code: ErrorCode = "invalid_argument";
}

/** The key is missing or not known. */
export class UnauthenticatedError extends FaasError {
  override readonly name: string = "UnauthenticatedError";
  override readonly code: ErrorCode = "unauthenticated";
}

/** The key may not do this. */
export class PermissionDeniedError extends FaasError {
  override readonly name: string = "PermissionDeniedError";
  override readonly code: ErrorCode = "permission_denied";
}

/** There is no such thing in the project. */
export class NotFoundError extends FaasError {
  override readonly name: string = "NotFoundError";
  override readonly code: ErrorCode = "not_found";
}

/** It contradicts what is there. */
export class ConflictError extends FaasError {
  override readonly name: string = "ConflictError";
  override readonly code: ErrorCode = "conflict";
}

/** The state of things does not allow it. */
export class FailedPreconditionError extends FaasError {
  override readonly name: string = "FailedPreconditionError";
  override readonly code: ErrorCode = "failed_precondition";
}

/** No runtime of the server can do it; `remedy` says what would help. */
export class CapabilityUnavailableError extends FaasError {
  override readonly name: string = "CapabilityUnavailableError";
  override readonly code: ErrorCode = "capability_unavailable";
}

/** The request is larger than the server takes. */
export class PayloadTooLargeError extends FaasError {
  override readonly name: string = "PayloadTooLargeError";
  override readonly code: ErrorCode = "payload_too_large";
}

/** Something is used up; `retryAfterMs` says when to try again. */
export class ResourceExhaustedError extends FaasError {
  override readonly name: string = "ResourceExhaustedError";
  override readonly code: ErrorCode = "resource_exhausted";
}

/** It took longer than it may. */
export class DeadlineExceededError extends FaasError {
  override readonly name: string = "DeadlineExceededError";
  override readonly code: ErrorCode = "deadline_exceeded";
}

/** The server does not work right now. */
export class UnavailableError extends FaasError {
  override readonly name: string = "UnavailableError";
  override readonly code: ErrorCode = "unavailable";
}

/** The platform failed; the server's log has the cause. */
export class InternalError extends FaasError {
  override readonly name: string = "InternalError";
}

/** The server gave no answer. */
export class ServerUnreachableError extends UnavailableError {
  override readonly name: string = "ServerUnreachableError";
}

/** A stream broke off before its end and could not be continued. */
export class StreamLostError extends UnavailableError {
  override readonly name: string = "StreamLostError";
}

/** The server did not answer within the client's time-out. */
export class RequestTimeoutError extends DeadlineExceededError {
  override readonly name: string = "RequestTimeoutError";
}

/** The server's answer is not one of this API. */
export class MalformedResponseError extends InternalError {
  override readonly name: string = "MalformedResponseError";
}

/** The caller's AbortSignal ended it; `cause` is the signal's reason. */
export class AbortedError extends FaasError {
  override readonly name: string = "AbortedError";
}

const classes: Record<ErrorCode, new (detail: string, details?: ErrorDetails) => FaasError> = {
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
export function fromProblem(value: unknown, status?: number, retryAfterMs?: number): FaasError {
  const problem = typeof value === "object" && value !== null ? (value as Partial<Problem>) : {};
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
