"""Every refusal that a client can get: one table of codes, in the error shape of the OpenAI API."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from starlette.responses import JSONResponse

ErrorCode = Literal[
    "invalid_json",
    "invalid_value",
    "unknown_parameter",
    "missing_api_key",
    "invalid_api_key",
    "not_found",
    "model_not_found",
    "method_not_allowed",
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
    "too_many_requests",
    "internal_error",
    "engine_failed",
    "no_engine_ready",
    "draining",
    "timeout",
]
"""Machine-readable codes. A code is never renamed and never changes its HTTP status: programs depend on it."""

STATUS_OF: Mapping[ErrorCode, int] = {
    "invalid_json": 400,
    "invalid_value": 400,
    "unknown_parameter": 400,
    "missing_api_key": 401,
    "invalid_api_key": 401,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "too_many_requests": 429,
    "internal_error": 500,
    "engine_failed": 502,
    "no_engine_ready": 503,
    "draining": 503,
    "timeout": 504,
}


@dataclass(eq=False)
class ApiError(Exception):
    """A refusal with its code, a sentence for people, and the request's parameter that is at fault, if one is."""

    code: ErrorCode
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status that belongs to the code."""
        return STATUS_OF[self.code]

    @property
    def type(self) -> str:
        """The coarse kind that OpenAI's clients look at: whose fault it is."""
        return _type_of(self.status)


def _type_of(status: int) -> str:
    special = {401: "authentication_error", 429: "rate_limit_error"}
    return special.get(status, "invalid_request_error" if status < 500 else "server_error")


def error_response(error: ApiError) -> JSONResponse:
    """`error` as the HTTP answer `{"error": {"code", "message", "type", "param"}}`."""
    body = {"code": error.code, "message": error.message, "type": error.type, "param": error.param}
    return JSONResponse({"error": body}, status_code=error.status, headers=error.headers)


PassingCode = Literal["too_many_requests", "no_engine_ready", "draining"]


def retry_later(code: PassingCode, message: str, seconds: float) -> ApiError:
    """A refusal that will pass: `Retry-After` says in how many whole seconds (1 to 600) it is worth asking again."""
    return ApiError(code, message, headers={"Retry-After": str(min(600, max(1, math.ceil(seconds))))})
