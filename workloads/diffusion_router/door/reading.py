"""Reading a request's body: JSON only, of bounded size, within bounded time."""

import asyncio
import json

from starlette.requests import ClientDisconnect, Request

from diffusion_router.door.errors import ApiError
from diffusion_router.door.limits import BODY_SECONDS, MAX_BODY_BYTES

_REASON_SHOWN, _NAME_SHOWN = 120, 60


async def read_json(request: Request, max_bytes: int = MAX_BODY_BYTES, seconds: float = BODY_SECONDS) -> object:
    """The parsed body; raises ApiError (415, 413, 408 or 400) for one that is not JSON, too long, late, or broken."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError("unsupported_media_type", "send the body as Content-Type: application/json")
    try:
        async with asyncio.timeout(seconds):
            body = await _read_at_most(request, max_bytes)
    except TimeoutError:
        raise ApiError("request_timeout", f"the body did not arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise ApiError("invalid_json", "the client went away before the body was complete") from None
    return _parse(body)


async def _read_at_most(request: Request, max_bytes: int) -> bytes:
    """Stop at the limit, whether the length was announced or the body comes in chunks."""
    too_large = ApiError("body_too_large", f"the body must not be longer than {max_bytes} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _parse(body: bytes) -> object:
    """Strict JSON: UTF-8, no NaN, no name twice (which of the two would count?), no nesting without end."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_no_name_twice, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        reason = "send it in UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as problem:
        reason = str(problem)
    raise ApiError("invalid_json", f"the body is not valid JSON: {reason[:_REASON_SHOWN]}")


def _no_name_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:_NAME_SHOWN]!r} occurs twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
