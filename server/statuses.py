"""From errors to what the caller reads: a `google.rpc.Status`."""

from __future__ import annotations

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from server.errors import ServerError

INTERNAL = "the server failed on this request; its log says why"
DETAILS_KEY = "grpc-status-details-bin"
_MAX_MESSAGE = 1500


def status_of(error: BaseException) -> status_pb2.Status:
    """The `google.rpc.Status` of an error, with BadRequest or RetryInfo where the error says so.

    Anything but a `ServerError` is a bug of ours and tells the caller nothing.
    """
    if not isinstance(error, ServerError):
        return status_pb2.Status(code=StatusCode.INTERNAL.value[0], message=INTERNAL)
    message = _shortened(error.message)
    status = status_pb2.Status(code=error.code.value[0], message=message)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field[:256], description=message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.add().Pack(retry)
    return status


def _shortened(message: str) -> str:
    """At most what fits into HTTP/2 trailers, where a character beyond ASCII takes up to twelve bytes; what a caller
    sent and a terminal would obey becomes a question mark."""
    limit = _MAX_MESSAGE if message.isascii() else _MAX_MESSAGE // 10
    cut = message if len(message) <= limit else f"{message[: limit - 3]}..."
    return cut if cut.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in cut)
