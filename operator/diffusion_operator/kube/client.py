"""Requests to the API server as dicts, with the retries that are always safe, and every call counted."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Literal

import orjson

from diffusion_operator.kube.errors import ApiRefusal, Conflict, NotFound, Unreachable, refusal
from diffusion_operator.kube.resources import Resource
from diffusion_operator.kube.transport import APPLY, JSON, MERGE_PATCH, STRATEGIC_PATCH, Reply, Transport
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.plan import Manifest, ObjectReference

FIELD_MANAGER = "diffusion-operator"
_TRIES = 4
_LONGEST_PAUSE = 5.0

CallObserver = Callable[[str, str, float], None]
"""Told of each answered or failed try: HTTP method or WATCH, code (or "unreachable"), seconds."""

Propagation = Literal["Background", "Foreground"]

Sleep = Callable[[float], Awaitable[None]]
"""Pauses for so many seconds; tests only note it."""


def _nobody(_verb: str, _code: str, _seconds: float) -> None:
    return None


class ApiClient:
    """Typed errors and dicts over a Transport.

    429 is retried after the pause that the server asked for, since a refused request was not carried out. A read is
    also retried when no answer came or the server failed. A write is not: the reconcile starts afresh instead.
    """

    def __init__(self, transport: Transport, observed: CallObserver = _nobody, sleep: Sleep = asyncio.sleep) -> None:
        self.transport = transport
        self._observed, self._sleep = observed, sleep

    async def get(self, resource: Resource, namespace: str, name: str) -> Raw | None:
        """The object, or None where there is none."""
        try:
            return await self.call("GET", resource.path(namespace, name))
        except NotFound:
            return None

    async def page(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> Raw:
        """One page of a list; never from the server's cache, so it holds all that we have written before."""
        return await self.call("GET", resource.path(namespace), query)

    async def create(self, resource: Resource, manifest: Manifest) -> Raw:
        """Create the object; raises Conflict where it exists."""
        namespace = manifest.get("metadata", {}).get("namespace", "")
        return await self.call("POST", resource.path(namespace), {"fieldManager": FIELD_MANAGER}, manifest)

    async def apply(self, resource: Resource, manifest: Manifest, *, dry_run: bool = False) -> Raw:
        """Server-side apply: afterwards we own exactly the manifest's fields of the object.

        `dry_run`: the server answers as it would, with all admission, and stores nothing.
        """
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return await self.call("PATCH", path, query, manifest, APPLY)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Manifest) -> Raw:
        """JSON merge patch."""
        path = resource.path(namespace, name)
        return await self.call("PATCH", path, {"fieldManager": FIELD_MANAGER}, patch, MERGE_PATCH)

    async def replace_spec(self, resource: Resource, manifest: Manifest) -> Raw:
        """Make the manifest's `spec` the whole spec, whatever others had put into it; the server adds its defaults."""
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        patch = {"spec": {**manifest["spec"], "$patch": "replace"}}
        return await self.call("PATCH", path, {"fieldManager": FIELD_MANAGER}, patch, STRATEGIC_PATCH)

    async def replace(self, resource: Resource, manifest: Manifest, subresource: str = "") -> Raw:
        """PUT; raises Conflict where `metadata.resourceVersion` is not the stored one."""
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        return await self.call("PUT", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def delete(
        self, resource: Resource, reference: ObjectReference, propagation: Propagation = "Background"
    ) -> bool:
        """Delete exactly this version of this object, its dependents after it (Foreground: before it).

        Absence is success. False where something by that name is there, but not as it was seen.
        """
        options = {
            "propagationPolicy": propagation,
            "preconditions": {"uid": reference.uid, "resourceVersion": reference.resource_version},
        }
        try:
            await self.call("DELETE", resource.path(reference.namespace, reference.name), {}, options)
        except NotFound:
            return True
        except Conflict:
            return False
        return True

    async def watch(
        self, resource: Resource, namespace: str, query: Mapping[str, str], silence: float
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a watch, counted as one call when it first says something or ends; see Transport.lines."""
        began, code = time.monotonic(), "200"
        path = resource.path(namespace)
        is_counted = False
        try:
            async with contextlib.aclosing(self.transport.lines(path, query, silence)) as lines:
                async for line in lines:
                    if not is_counted:
                        is_counted = True
                        self._observed("WATCH", code, time.monotonic() - began)
                    yield line
        except ApiRefusal as refused:
            code = str(refused.code)
            raise
        except Unreachable:
            code = "unreachable"
            raise
        finally:
            if not is_counted:
                self._observed("WATCH", code, time.monotonic() - began)

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
    ) -> Raw:
        """One request with its safe retries; raises KubeError."""
        payload = None if body is None else orjson.dumps(body)
        for attempt in range(1, _TRIES + 1):
            try:
                reply = await self._timed(method, path, query or {}, payload, content_type)
            except Unreachable:
                if method != "GET" or attempt == _TRIES:
                    raise
                await self._sleep(0.1 * 2**attempt)
                continue
            again = reply.code == 429 or (reply.code >= 500 and method == "GET")
            if not again or attempt == _TRIES:
                return _understood(reply, f"{method} {path}")
            await self._sleep(min(_LONGEST_PAUSE, reply.retry_after or 0.1 * 2**attempt))
        raise AssertionError("the loop returns or raises in its last round")

    async def _timed(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> Reply:
        began, code = time.monotonic(), "unreachable"
        try:
            reply = await self.transport.request(method, path, query, body, content_type)
            code = str(reply.code)
            return reply
        finally:
            self._observed(method, code, time.monotonic() - began)


def _understood(reply: Reply, request: str) -> Raw:
    try:
        body: Any = orjson.loads(reply.body or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):  # A proxy or a captive portal between us and the API server answers like this.
        said = reply.body[:500].decode(errors="replace")
        if reply.code < 400:
            raise Unreachable(f"{request}: the answer is no JSON object: {said}")
        body = {"message": said}
    if reply.code < 400:
        return dict(body)
    message = f"{request}: {body.get('message', '')}"
    causes = [cause.get("reason", "") for cause in (body.get("details") or {}).get("causes") or ()]
    raise refusal(reply.code, body.get("reason", ""), message, causes)
