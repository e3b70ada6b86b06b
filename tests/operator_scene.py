"""A namespace of a real API server with an operator at work, pods that play a script, and a witness."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from crash_scenarios import status_of
from custom_resource_tables import install_crds
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import Resource
from diffusion_operator.kube.transport import MERGE_PATCH
from diffusion_operator.loop.engine import Engine
from diffusion_operator.loop.kinds import KINDS
from diffusion_operator.observe.snapshot import Raw
from faulty_transport import FaultyTransport
from operator_harness import Bench, Witness, client_for
from scripted_pods import Script, Stage, serve


class Scene:
    """A namespace with an operator at work, seen by a witness."""

    def __init__(
        self, client: ApiClient, witness: Witness, engine: Engine, transport: FaultyTransport, namespace: str
    ) -> None:
        self.client, self.witness, self.engine = client, witness, engine
        self.transport, self.namespace = transport, namespace

    def objects(self, kind: str) -> list[Raw]:
        """The namespace's objects of a kind."""
        return [item for item in self.witness.objects(self.namespace) if item["kind"] == kind]

    def status(self, kind: str) -> Mapping[str, Any]:
        """The status of the namespace's one custom resource of a kind."""
        return status_of(self.witness.objects(self.namespace), kind)

    def reason(self, kind: str) -> str | None:
        """The reason of its condition Ready."""
        return {one["type"]: one["reason"] for one in self.status(kind).get("conditions", ())}.get("Ready")

    async def create(self, resource: Resource, item: Raw) -> None:
        """Create an object in the namespace."""
        await self.client.create(resource, {**item, "metadata": {**item["metadata"], "namespace": self.namespace}})

    async def settled(self, seconds: float = 30) -> None:
        """Wait until nothing has been written for a moment."""
        for _ in range(int(seconds / 0.5)):
            before = len(self.transport.writes)
            await asyncio.sleep(0.5)
            if self.engine.queue.is_quiet and len(self.transport.writes) == before:
                return
        raise AssertionError(f"still writing after {seconds} s: {self.transport.writes[-5:]}")

    async def edit(self, resource: Resource, item: Raw, patch: Mapping[str, Any]) -> None:
        """Change an object as somebody else would."""
        metadata = item["metadata"]
        path = resource.path(self.namespace, metadata["name"])
        await self.client.call("PATCH", path, {"fieldManager": "someone"}, patch, MERGE_PATCH)


@contextlib.asynccontextmanager
async def scene(cluster: Cluster, namespace: str, script: Script = serve) -> AsyncIterator[Scene]:
    """An operator at work in `namespace`, whose pods play `script`, until left."""
    install_crds(cluster)
    client = client_for(cluster.kubeconfig)
    try:
        async with (
            Witness(client_for(cluster.kubeconfig)).watching() as witness,
            Bench(cluster.kubeconfig, KINDS, namespace).operator() as (engine, transport),
        ):
            stage = Stage(client, witness.store, namespace, script, engine)
            playing = asyncio.create_task(stage.play())
            try:
                yield Scene(client, witness, engine, transport, namespace)
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
    finally:
        await client.transport.close()
