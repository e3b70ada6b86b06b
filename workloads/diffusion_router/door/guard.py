"""The ASGI application around the routes: key guard, error shape, counting, and a line for each refusal.

Health is the only open part.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffusion_router.door.api_keys import ApiKeys
from diffusion_router.door.disconnect import CLIENT_GONE_STATUS, ClientGoneError
from diffusion_router.door.errors import ApiError, error_response

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
CountRequest = Callable[[str, int], None]
Handler = Callable[[Request], Awaitable[Response]]

_LOGGER = logging.getLogger(__name__)


def guarded_app(routes: Sequence[BaseRoute], keys: ApiKeys, count: CountRequest) -> ASGIApp:
    """`routes` behind the key guard. `count(path, status)` is called once per answer; the rest is "other"."""
    app = Starlette(
        routes=list(routes),
        exception_handlers={
            ApiError: _api_error,
            ClientGoneError: _client_gone,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False  # a path that is not ours is refused with its code, and sent nowhere
    known = frozenset(getattr(route, "path", "") for route in routes)
    return _Counted(_KeyGuard(app, keys), known, count)


def _refusal(scope: Scope, error: ApiError) -> Response:
    """`error` as an answer, and its line in the log: of what the client sent it holds nothing."""
    state = scope["state"]
    owner, path = state.get("key_owner", "-"), state["known_path"]
    _LOGGER.info("refused key=%s path=%s code=%d error=%s", owner, path, error.status, error.code)
    return error_response(error)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _refusal(request.scope, error)


async def _client_gone(request: Request, _error: Exception) -> Response:
    """Nobody reads this answer: it is for the metrics and the log."""
    state = request.scope["state"]
    _LOGGER.info("gone key=%s path=%s code=%d", state["key_owner"], state["known_path"], CLIENT_GONE_STATUS)
    return Response(status_code=CLIENT_GONE_STATUS)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        message = f"{request.method} is not served here"
        return _refusal(request.scope, ApiError("method_not_allowed", message, headers=dict(error.headers or {})))
    return _refusal(request.scope, ApiError("not_found", "there is nothing at this path; see docs/http-api.md"))


async def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours. Starlette raises it again after this answer, so that the server logs where it came from."""
    _LOGGER.error("a request failed unexpectedly: %s", type(error).__name__)
    return _refusal(request.scope, ApiError("internal_error", "the server made a mistake; its log says which"))


class _KeyGuard:
    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                scope["state"]["key_owner"] = self._owner(Headers(scope=scope))
            except ApiError as refusal:
                await _refusal(scope, refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _owner(self, headers: Headers) -> str:
        shown = headers.getlist("authorization")
        challenge = {"WWW-Authenticate": "Bearer"}
        if not shown:
            message = "send an API key in the header Authorization: Bearer <key>"
            raise ApiError("missing_api_key", message, headers=challenge)
        scheme, _, key = shown[0].partition(" ")
        owner = self._keys.owner_of(key.strip()) if len(shown) == 1 and scheme.lower() == "bearer" else None
        if owner is None:
            raise ApiError("invalid_api_key", "this API key is not known to this service", headers=challenge)
        return owner


class _Counted:
    def __init__(self, app: ASGIApp, known_paths: frozenset[str], count: CountRequest) -> None:
        self._app = app
        self._known_paths = known_paths
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._known_paths else "other"
        scope.setdefault("state", {})["known_path"] = path

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(path, message["status"])
            await send(message)

        await self._app(scope, receive, send_and_count)
