"""What can go wrong in a call: one exception a gRPC status, with the server's own sentence."""

from __future__ import annotations

import re
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


class GlimpseError(Exception):
    """A call that the server refused or could not answer.

    Attributes:
        code: name of the gRPC status, for example ``"NOT_FOUND"``.
        message: what the server said.
        retry_after: seconds after which the same call may succeed, when the server said so.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[GlimpseError], tuple[str, str, float | None]]:
        return type(self), (self.code, self.message, self.retry_after)


class InvalidArgument(GlimpseError):
    """The request is wrong whatever the state of the server."""


class NotFound(GlimpseError):
    """No such gallery or item."""


class AlreadyExists(GlimpseError):
    """The name is taken."""


class FailedPrecondition(GlimpseError):
    """Right in itself, but not for this gallery or model."""


class ResourceExhausted(GlimpseError):
    """A queue, a size limit or the disk is full."""


class Unavailable(GlimpseError):
    """No server answers, or it is starting or draining."""


class DeadlineExceeded(GlimpseError):
    """The timeout of the call passed."""


class Unauthenticated(GlimpseError):
    """No or wrong credentials."""


class PermissionDenied(GlimpseError):
    """The credentials do not allow this call."""


_BY_CODE: dict[str, type[GlimpseError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "FAILED_PRECONDITION": FailedPrecondition,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
}
_CONNECTING = re.compile(r"^failed to connect to all addresses; last error: \w+: ")
_NAMES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


def error(code: str, message: str, retry_after: float | None = None) -> GlimpseError:
    """The exception of the class that belongs to ``code``."""
    return _BY_CODE.get(code, GlimpseError)(code, message, retry_after)


def from_status(status: status_pb2.Status) -> GlimpseError:
    """The exception for a `google.rpc.Status` inside a response."""
    return error(code_name(status), status.message, _retry_after(status))


def from_call(call: grpc.RpcError, address: str) -> GlimpseError:
    """The exception for a call to ``address`` that ended with an error."""
    ended = cast(grpc.Call, call)  # every error that a sync call raises is the call itself
    name, details = ended.code().name, ended.details() or ""
    if name == "UNAVAILABLE" and _never_reached_a_server(details):
        return error(name, f"no Glimpse server answers at {address} ({_CONNECTING.sub('', details)})")
    if name == "DEADLINE_EXCEEDED":
        # gRPC's own sentence is "Deadline Exceeded"; it does not say whose deadline.
        return error(name, f"the server at {address} did not answer within the timeout of the call")
    try:
        status = rpc_status.from_call(ended)
    except ValueError:  # details that contradict the status line: keep the status line
        status = None
    return error(name, details or name, None if status is None else _retry_after(status))


def code_name(status: status_pb2.Status) -> str:
    """``"OK"``, ``"INVALID_ARGUMENT"``, ..."""
    return _NAMES.get(status.code, "UNKNOWN")


def _never_reached_a_server(details: str) -> bool:
    return details.startswith(("failed to connect", "DNS resolution failed", "name resolution"))


def _retry_after(status: status_pb2.Status) -> float | None:
    hint = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Is(hint.DESCRIPTOR) and detail.Unpack(hint):
            return float(hint.retry_delay.seconds + hint.retry_delay.nanos / 1e9)
    return None
