"""The supervisor's own small client of the API server: requests, and a store that list-and-watch keeps current."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson

from diffusion_local.certificates import KeyPair

LOG = logging.getLogger(__name__)
Object = dict[str, Any]
RETRY_SECONDS = 0.5
WATCH_SECONDS = 300
REQUEST_SECONDS = 15.0
POLL_SECONDS = 0.1


class ApiError(Exception):
    """The API server refused a request; `code` is the HTTP status and the text its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ApiClient:
    """JSON requests to the API server at `url`, as the client `identity`; to be closed after use."""

    def __init__(self, url: str, authority: str, identity: KeyPair) -> None:
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(identity.certificate, identity.key)
        self._url = url
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def request(self, method: str, path: str, body: object = None, content: str = "application/json") -> Object:
        """Send one request and return the JSON answer ({} for another answer); ApiError for a status from 400 on."""
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with self._session.request(
            method, self._url + path, data=data, headers={"Content-Type": content}, timeout=timeout
        ) as answer:
            raw = await answer.read()
            if answer.status >= 400:
                raise ApiError(answer.status, _message(raw))
            return orjson.loads(raw) if answer.content_type == "application/json" else {}

    async def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            await self.request("GET", "/readyz")
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError):
            return False
        return True

    async def until_ready(self) -> None:
        """Return when the API server is ready, however long that takes."""
        while not await self.ready():  # noqa: ASYNC110  (nobody tells; it must be asked)
            await asyncio.sleep(POLL_SECONDS)

    async def watch(self, path: str, version: str) -> "aiohttp.ClientResponse":
        """Open a watch from resource version `version` on; the caller reads its lines and closes it."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        query["allowWatchBookmarks"] = "true"
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WATCH_SECONDS + 30)
        return await self._session.get(self._url + path, params=query, timeout=timeout)


class Store:
    """All objects under `path`, by (namespace, name); `changed` is called after the first list and each change."""

    def __init__(self, client: ApiClient, path: str, changed: Callable[[], None]) -> None:
        self._client = client
        self._path = path
        self._changed = changed
        self.objects: dict[tuple[str, str], Object] = {}

    async def run(self) -> None:
        """Follow the API server until cancelled; an outage keeps what is known and tries again."""
        while True:
            try:
                await self._follow()
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError) as error:
                LOG.debug("watch of %s broke: %s", self._path, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        listed = await self._client.request("GET", self._path)
        self.objects = {_key(item): item for item in listed["items"]}
        self._changed()
        version = listed["metadata"]["resourceVersion"]
        while True:
            async with await self._client.watch(self._path, version) as answer:
                if answer.status >= 400:
                    raise ApiError(answer.status, answer.reason or "")
                async for line in answer.content:
                    version = self._take(orjson.loads(line))

    def _take(self, event: Object) -> str:
        item: Object = event["object"]
        if event["type"] == "ERROR":
            raise ApiError(int(item.get("code", 500)), str(item.get("message", "")))
        if event["type"] == "DELETED":
            self.objects.pop(_key(item), None)
        elif event["type"] != "BOOKMARK":
            self.objects[_key(item)] = item
        if event["type"] != "BOOKMARK":
            self._changed()
        return str(item["metadata"]["resourceVersion"])


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _message(raw: bytes) -> str:
    try:
        return str(orjson.loads(raw)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return raw.decode(errors="replace")[:500]
