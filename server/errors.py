"""Errors with a gRPC status: raised anywhere in the server, turned into a status by the interceptor.

The message goes to the caller as it is: it says what was received and what is allowed, and never holds a path or a
stack trace. Any other exception is a bug and becomes INTERNAL with a fixed sentence.
"""

from __future__ import annotations

import grpc


class ServerError(Exception):
    """Base of every refusal; `code` is the gRPC status it becomes."""

    code = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, *, field: str = "", retry_after: float | None = None) -> None:
        """
        Args:
            message: the sentence the caller reads.
            field: the request field at fault, reported as `google.rpc.BadRequest`.
            retry_after: seconds after which a retry may succeed, reported as `google.rpc.RetryInfo`.
        """
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after


class InvalidArgument(ServerError):
    """The request is wrong whatever the state of the server."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(ServerError):
    """No such gallery or item."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(ServerError):
    """The name is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(ServerError):
    """Right in itself, but not for this gallery or model."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class ResourceExhausted(ServerError):
    """A queue, a size limit or the disk is full."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(ServerError):
    """Starting, draining, or the worker died."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(ServerError):
    """The caller's deadline passed before the work began."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unauthenticated(ServerError):
    """No credentials, or none that are valid."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(ServerError):
    """The caller is known, and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Cancelled(ServerError):
    """The caller went away before the work began."""

    code = grpc.StatusCode.CANCELLED


def forget_traceback(error: BaseException) -> None:
    """Lets go of where an error came from, once that is of no use any more.

    A traceback holds every frame's variables, so the request with its images, and often the error itself: many large
    requests would stay in memory until the garbage collector runs.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
