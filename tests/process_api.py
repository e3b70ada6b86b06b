"""The API server of a whole operator process, with nothing behind it: discovery, leases, secrets, pods, and faults."""

import asyncio
import json
from typing import Any

from aiohttp import web

from ear_api import EarApi

LEASE = "/apis/coordination.k8s.io/v1/namespaces/home/leases/diffusion-operator"
POD = "/api/v1/namespaces/home/pods/op-1"


class ProcessApi(EarApi):
    """Keeps whatever is stored by its path. `failing` says how often `METHOD PATH` fails; -1 is for good."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, dict[str, Any]] = {POD: {"metadata": {"name": "op-1", "labels": {}}}}
        self.failing: dict[str, int] = {}
        self.code = 500
        self.asked: list[str] = []
        self.reviews = 0
        self.watches_at_release = -1
        """How many watches of kopf's were open when the Lease was given back."""

    @property
    def holder(self) -> str:
        """Who holds the Lease."""
        return str(self.objects.get(LEASE, {}).get("spec", {}).get("holderIdentity", ""))

    @property
    def label(self) -> str | None:
        """The leader label of the operator's pod."""
        label: str | None = self.objects[POD]["metadata"]["labels"].get("diffusion.dev/leader")
        return label

    def take_the_lease(self, who: str) -> None:
        """Another process takes over."""
        self.version += 1
        spec = {**self.objects[LEASE]["spec"], "holderIdentity": who}
        self.objects[LEASE] = {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        said = f"{request.method} {request.path}"
        self.asked.append(said)
        if left := self.failing.get(said, 0):
            self.failing[said] = left - 1
            return web.json_response({"message": "a fault of the test"}, status=self.code)
        if request.path.endswith("tokenreviews"):
            self.reviews += 1
            await asyncio.Event().wait()
        named = request.path in self.objects or any(part in request.path for part in ("/leases/", "/secrets/"))
        if request.method == "GET" and not named:
            return await super().serve(request)
        return await self._store(request)

    async def _store(self, request: web.Request) -> web.Response:
        known = self.objects.get(request.path)
        if request.method == "GET":
            return web.json_response(known or {}, status=200 if known else 404)
        body = json.loads(await request.read())
        path = request.path if request.method != "POST" else f"{request.path}/{body['metadata']['name']}"
        if request.method == "PATCH":
            given = {**self.objects[path]["metadata"]["labels"], **body["metadata"]["labels"]}
            labels = {name: value for name, value in given.items() if value is not None}
            body = {"metadata": {**self.objects[path]["metadata"], "labels": labels}}
        elif known is not None and body["metadata"].get("resourceVersion") != known["metadata"]["resourceVersion"]:
            return web.json_response({"reason": "Conflict"}, status=409)
        if path == LEASE and not body["spec"].get("holderIdentity"):
            self.watches_at_release = self.open_watches
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = body
        return web.json_response(body)
