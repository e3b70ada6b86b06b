"""A very small API server for kopf's ear and our lists: custom resources with versions, watches, and a short memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from diffusion_contract.names import GROUP, VERSION
from diffusion_operator.kube.connection import Connection
from diffusion_operator.kube.resources import CUSTOM_RESOURCES, Resource
from diffusion_operator.loop.listening import listen_on

NAMESPACE = Resource("v1", "Namespace", "namespaces", namespaced=False)
TRAININGS = "diffusiontrainings"
_OURS = "diffusion-operator"
"""How our own client calls itself; kopf calls itself otherwise."""


class EarApi:
    """Trainings of one namespace. Watches can be shut, cut off, and told that they are too late (410)."""

    def __init__(self) -> None:
        self.version = 10
        self.items: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.forgotten = 0
        """Watches from a version below this one are told 410."""
        self.our_lists_wait = asyncio.Event()
        self.our_lists_wait.set()
        self.kopf_is_deaf = False
        self.watches = 0
        """Watches of trainings that were begun."""
        self.open_watches = 0
        """And those of them that nobody has ended yet."""
        self._moved = asyncio.Event()
        self._cuts = 0

    def put(self, name: str, uid: str = "", **spec: Any) -> None:
        """Create or change a training; another UID is another object."""
        known = self.items.get(name)
        metadata = {"name": name, "namespace": "ns", "uid": uid or name, "generation": 1}
        self._happen("MODIFIED" if known else "ADDED", name, {"metadata": metadata, "spec": spec})

    def delete(self, name: str) -> None:
        """Delete a training."""
        self._happen("DELETED", name, self.items[name])

    def cut(self, *, forget: bool = False) -> None:
        """End all watches; with `forget`, nobody can go on from where it was."""
        self._cuts += 1
        if forget:
            self.forgotten = self.version + 1
        self._wake()

    def _happen(self, kind: str, name: str, item: dict[str, Any]) -> None:
        self.version += 1
        metadata = {**item["metadata"], "resourceVersion": str(self.version)}
        item = {**item, "apiVersion": f"{GROUP}/{VERSION}", "kind": "DiffusionTraining", "metadata": metadata}
        self.items.pop(name, None)
        if kind != "DELETED":
            self.items[name] = item
        self.events.append((self.version, {"type": kind, "object": item}))
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request: discovery, a list, or a watch."""
        path = request.path.strip("/").split("/")
        if path == ["api"]:
            return web.json_response({"versions": ["v1"]})
        if path == ["api", "v1"]:
            return web.json_response({"resources": [_described(NAMESPACE)]})
        if path == ["apis"]:
            version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
            groups = [{"name": GROUP, "versions": [version], "preferredVersion": version}]
            return web.json_response({"groups": groups})
        if path == ["apis", GROUP, VERSION]:
            return web.json_response({"resources": [_described(resource) for resource in CUSTOM_RESOURCES]})
        is_training = path[-1] == TRAININGS
        if request.query.get("watch"):
            return await self._watch(request, is_training)
        answer = {
            "metadata": {"resourceVersion": str(self.version)},
            "items": list(self.items.values()) if is_training else [],
        }
        if request.headers.get("User-Agent", "").startswith(_OURS):
            await self.our_lists_wait.wait()
        return web.json_response(answer)

    async def _watch(self, request: web.Request, is_training: bool) -> web.StreamResponse:
        answer, cuts = web.StreamResponse(), self._cuts
        await answer.prepare(request)
        since = int(request.query["resourceVersion"])
        if since < self.forgotten - 1:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await answer.write(orjson.dumps({"type": "ERROR", "object": status}) + b"\n")
            return answer
        self.watches += is_training
        self.open_watches += is_training
        try:
            while cuts == self._cuts:
                moved = self._moved
                news = [(version, event) for version, event in self.events if version > since and is_training]
                if news and not self.kopf_is_deaf:
                    since = news[-1][0]
                    await answer.write(b"".join(orjson.dumps(event) + b"\n" for _, event in news))
                await moved.wait()
        finally:
            self.open_watches -= is_training
        return answer


def _described(resource: Resource) -> dict[str, Any]:
    verbs, name = ["list", "watch", "get", "patch", "update"], resource.plural
    return {"name": name, "singularName": "", "kind": resource.kind, "namespaced": resource.namespaced, "verbs": verbs}


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Connection]:
    """Have all requests to a port of this machine answered; yields where it is."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner, port = await listen_on(application, "127.0.0.1", 0)
    try:
        yield Connection(f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()
