"""An API client with one object behind it and no server: optimistic concurrency as the API server has it."""

from typing import Any

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import Conflict, refusal
from diffusion_operator.kube.resources import Resource
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.plan import Manifest


class OneObjectApi(ApiClient):
    """Whatever is asked for, it is this object; each write gives it the next resourceVersion."""

    def __init__(self, found: dict[str, Any] | None = None) -> None:
        self.found = found
        self.writes: list[Manifest] = []

    @property
    def stored(self) -> dict[str, Any]:
        """The object as it is now; AssertionError where there is none."""
        assert self.found is not None
        return self.found

    async def arrive(self) -> None:
        """What happens to each request on its way to the object."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Raw | None:
        """See ApiClient.get."""
        await self.arrive()
        return self.found

    async def create(self, resource: Resource, manifest: Manifest) -> Raw:
        """See ApiClient.create."""
        await self.arrive()
        if self.found is not None:
            raise refusal(409, "AlreadyExists", "there")
        return self._store(manifest)

    async def replace(self, resource: Resource, manifest: Manifest, subresource: str = "") -> Raw:
        """See ApiClient.replace."""
        await self.arrive()
        if manifest["metadata"].get("resourceVersion") != self.stored["metadata"].get("resourceVersion"):
            raise Conflict(409, "Conflict", "changed")
        return self._store(manifest)

    def _store(self, manifest: Manifest) -> Raw:
        self.writes.append(manifest)
        self.found = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(len(self.writes))}}
        return self.found
