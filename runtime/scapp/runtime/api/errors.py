"""Errors of the local API: what a caller gets for each failure inside; `server.py` applies it.

Every error is `{"error": {"code", "message", "hint"}}`. The codes are stable; docs/reference/http-api.md lists
them.
"""

from __future__ import annotations

import errno

from scapp.channels.admission import AdmissionError
from scapp.channels.errors import CorruptionError, LocalError, PeerError
from scapp.channels.log.port import LogClosed, LogReadFailed
from scapp.runtime.documents import ErrorBody, ErrorDocument

_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EMFILE, errno.EFBIG}
)
STORAGE_HINT = "make room on the disk, or mend it, then start the node again; what was signed is not lost"

STATUS_OF_CODE = {
    "bad_request": 400,
    "bad_json": 400,
    "bad_payload": 400,
    "bad_module": 422,
    "unauthorized": 401,
    "forbidden": 403,
    "bad_host": 403,
    "bad_origin": 403,
    "not_found": 404,
    "unknown_channel": 404,
    "unknown_app": 404,
    "unknown_peer": 404,
    "unknown_projection": 404,
    "ambiguous": 409,
    "method_not_allowed": 405,
    "refused": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "bad_sql": 422,
    "corrupt": 500,
    "internal": 500,
    "database_down": 503,
    "storage_failed": 503,
    "timeout": 504,
}


class ApiError(Exception):
    """An answer other than success: `code` from `STATUS_OF_CODE`, a message, and what to do about it."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def status(self) -> int:
        return STATUS_OF_CODE[self.code]

    def document(self) -> ErrorDocument:
        return ErrorDocument(error=ErrorBody(code=self.code, message=self.message, hint=self.hint))


def as_api_error(error: BaseException) -> ApiError | None:
    """The answer for an expected error of the rooms below; None for a bug."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AdmissionError):
        return ApiError("refused", str(error), "`scapp deploy MODULE.wasm` makes an app known to this node")
    if isinstance(error, LocalError):
        return ApiError("refused", str(error))
    if isinstance(error, PeerError):
        return ApiError("refused", f"the peer did not follow the protocol: {error}")
    if isinstance(error, CorruptionError):
        return ApiError("corrupt", str(error), "restore the node's log from a copy; see docs/reference/event-log.md")
    if isinstance(error, LogClosed | LogReadFailed):
        return ApiError("storage_failed", str(error), STORAGE_HINT)
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        where = f"{error.filename}: " if error.filename else ""
        return ApiError(
            "storage_failed", f"{where}{error.strerror}", "make room on the disk, or mend it, then try again"
        )
    if isinstance(error, TimeoutError):
        return ApiError("timeout", str(error) or "not done in time", "ask again, or wait longer with --timeout")
    return None
