"""The way to the API server, of agents and supervisor: one request, a list that is kept up to date, and persistence."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiohttp
import orjson

from diffusion_local.node.back_off import delay_before_retry
from diffusion_local.node.configuration import Manifest

MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
REQUEST_SECONDS = 15.0
WATCH_SECONDS = 240
NOT_FOUND, CONFLICT = 404, 409
NOTED_ATTEMPT = 3
"""The first failures of a watch are ordinary: a server that restarts, an authorizer that has not heard of a pod yet."""
FORBIDDEN = (401, 403)
FORBIDDEN_SECONDS = 30.0
T = TypeVar("T")
log = logging.getLogger(__name__)


class ApiError(Exception):
    """The server refused a request: HTTP status and the server's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class ApiUnavailable(Exception):
    """The server could not be reached, is overloaded, or is not ready; worth another try."""


@dataclass(frozen=True)
class Change:
    """One step of `follow`. A `Listed` carries everything that exists, the others one object."""

    kind: Literal["Listed", "Put", "Gone"]
    items: list[Manifest]


def client_ssl(ca_file: Path, cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS with a client certificate."""
    context = ssl.create_default_context(cafile=str(ca_file))
    context.load_cert_chain(cert_file, key_file)
    return context


class ApiClient:
    """JSON over HTTPS with a client certificate. Use as an async context manager."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        self.server = server
        self.context = context

    async def __aenter__(self) -> "ApiClient":
        connector = aiohttp.TCPConnector(ssl=self.context, limit=0)
        self.session = aiohttp.ClientSession(
            connector=connector, json_serialize=lambda body: orjson.dumps(body).decode()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded answer. Raises ApiError when refused and ApiUnavailable when it is worth trying again."""
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with self.session.request(
                method,
                self.server + path,
                data=data,
                headers={"Content-Type": content_type},
                params=params,
                timeout=timeout,
            ) as answer:
                return decoded(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailable(f"{method} {path}: {str(error) or type(error).__name__}") from error

    async def follow(self, path: str, field_selector: str = "") -> AsyncIterator[Change]:
        """List, then watch, for ever: every connection that ends is taken up again, from a new list where needed."""
        attempts = 0
        while True:
            try:
                listed = await self.request("GET", path, params={"fieldSelector": field_selector})
                yield Change("Listed", listed["items"])
                version = listed["metadata"]["resourceVersion"]
                while version:
                    attempts = 0
                    watch = self.watch_once(path, field_selector, version)
                    version = ""
                    async for kind, manifest in watch:
                        version = manifest["metadata"]["resourceVersion"]
                        if kind != "BOOKMARK":
                            yield Change("Gone" if kind == "DELETED" else "Put", [manifest])
                await asyncio.sleep(delay_before_retry(0))  # it told nothing: a server may end watches at once
            except (ApiError, ApiUnavailable) as error:
                attempts += 1
                log.log(logging.WARNING if attempts == NOTED_ATTEMPT else logging.DEBUG, "watch of %s: %s", path, error)
                await asyncio.sleep(delay_before_retry(attempts))

    async def watch_once(self, path: str, field_selector: str, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        """The events of one watch connection; ApiError when the server ends it with an error."""
        params = {
            "watch": "true",
            "fieldSelector": field_selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=WATCH_SECONDS + 30)
        try:
            async with self.session.get(self.server + path, params=params, timeout=timeout) as answer:
                if answer.status != 200:
                    decoded(answer.status, await answer.read())
                async for line in lines(answer.content):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailable(f"watch {path}: {str(error) or type(error).__name__}") from error


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (aiohttp's own iteration refuses long ones)."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def decoded(status: int, raw: bytes) -> Any:
    """The body of an answer, or the exception that its status stands for."""
    try:
        body = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        body = {"message": raw[:300].decode(errors="replace")}
    if status < 300:
        return body
    message = str(body.get("message", ""))
    if status == 429 or status >= 500:
        raise ApiUnavailable(f"{status}: {message}")
    raise ApiError(status, message)


async def persistently(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Repeat `call` until the server answers; a refusal (ApiError) is passed on.

    A server that has just started may forbid what it will allow a moment later, so that is believed after a while only.
    """
    attempts, begun = 0, time.monotonic()
    while True:
        try:
            return await call()
        except ApiError as error:
            if error.status not in FORBIDDEN or time.monotonic() > begun + FORBIDDEN_SECONDS:
                raise
            attempts += 1
            await asyncio.sleep(delay_before_retry(attempts))
        except ApiUnavailable as error:
            log.log(logging.WARNING if attempts == 0 else logging.DEBUG, "%s: %s; trying again", what, error)
            attempts += 1
            await asyncio.sleep(delay_before_retry(attempts))
