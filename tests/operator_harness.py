"""Runs operators without their shell against a real API server, and keeps an independent record of what they did."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deadline import PATIENCE
from diffusion_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.connection import connect
from diffusion_operator.kube.informer import Informer, synced
from diffusion_operator.kube.resources import CHILDREN, CUSTOM_RESOURCES
from diffusion_operator.kube.store import Change, Store
from diffusion_operator.kube.transport import HttpTransport
from diffusion_operator.loop.engine import Engine
from diffusion_operator.loop.metrics import LoopMetrics
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.kind import Kind
from end_state import masked_name
from faulty_transport import FaultPlan, FaultyTransport

FACTS = OperatorFacts(
    namespace="diffusion-system",
    agent_url="https://diffusion-operator-agents.diffusion-system.svc:8443",
    agent_ca="-----BEGIN CERTIFICATE-----\nnot a real one\n-----END CERTIFICATE-----\n",
    trainer_image="diffusion-operator/trainer:test",
    server_image="diffusion-operator/server:test",
    router_image="diffusion-operator/router:test",
)


async def until(predicate: Callable[[], object], seconds: float, what: str) -> None:
    """Wait in the event loop until `predicate` is true; AssertionError names `what`."""
    deadline = time.monotonic() + PATIENCE * seconds
    while not predicate():
        assert time.monotonic() < deadline, f"not within {PATIENCE * seconds:g} s: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Witness:
    """Sees every object of the test's namespaces come and go, independently of any operator."""

    client: ApiClient
    store: Store = field(default_factory=Store)
    created: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    deleted: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    changes: int = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Witness"]:
        """Watch until left."""
        self.store.listeners.append(self._seen)
        selector = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        informers = [
            Informer(self.client, self.store, resource, failed=lambda *_: None, selector=chosen)
            for resources, chosen in ((CHILDREN, selector), (CUSTOM_RESOURCES, ""))
            for resource in resources
        ]
        try:
            async with synced(informers):
                yield self
        finally:
            await self.client.transport.close()

    def objects(self, namespace: str) -> list[Raw]:
        """Everything in a namespace, by kind and name."""
        found = [
            item
            for resource in (*CHILDREN, *CUSTOM_RESOURCES)
            for item in self.store.all(resource)
            if item["metadata"].get("namespace") == namespace
        ]
        return sorted(found, key=lambda item: (item["kind"], item["metadata"]["name"]))

    def counts(self, namespace: str) -> tuple[dict[str, int], dict[str, int]]:
        """How often each object was created and deleted, by kind and masked name."""
        found: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for total, counter in zip(found, (self.created, self.deleted), strict=True):
            for (kind, place, name), number in counter.items():
                if place == namespace:
                    total[f"{kind} {masked_name(name, kind)}"] += number
        return dict(found[0]), dict(found[1])

    def _seen(self, change: Change) -> None:
        self.changes += 1
        metadata = change.object["metadata"]
        key = (change.resource.kind, metadata.get("namespace", ""), metadata["name"])
        if change.old is None:
            self.created[key] += 1
        elif change.new is None:
            self.deleted[key] += 1
        elif change.old["metadata"]["uid"] != change.new["metadata"]["uid"]:
            self.created[key] += 1
            self.deleted[key] += 1


def client_for(kubeconfig: Path) -> ApiClient:
    """An administrator's client of its own."""
    return ApiClient(HttpTransport(connect(str(kubeconfig))))


@dataclass
class Bench:
    """Makes operators for one namespace, one after the other."""

    kubeconfig: Path
    kinds: Mapping[str, Kind[Any]]
    namespace: str

    @asynccontextmanager
    async def operator(self, plan: FaultPlan | None = None) -> AsyncIterator[tuple[Engine, FaultyTransport]]:
        """A new operator with no memory, at work until left."""
        transport = FaultyTransport(HttpTransport(connect(str(self.kubeconfig))), plan)
        engine = Engine(ApiClient(transport), self.kinds, FACTS, metrics=LoopMetrics(), namespaces=(self.namespace,))
        try:
            async with engine.running(4, hears_itself=True):
                yield engine, transport
        finally:
            await transport.close()


async def quiet(engine: Engine, witness: Witness, done: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `done`, and until neither the operator nor the cluster has moved for a moment."""
    deadline = time.monotonic() + PATIENCE * seconds
    still_since, last = time.monotonic(), -1
    while time.monotonic() - still_since < 0.25:
        assert time.monotonic() < deadline, f"not quiet within {PATIENCE * seconds:g} s"
        if witness.changes != last or not engine.queue.is_quiet or not done():
            still_since, last = time.monotonic(), witness.changes
        await asyncio.sleep(0.02)
