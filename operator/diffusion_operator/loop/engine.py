"""The operator without its shell: store, informers, queue and workers, over any client. Tests run it bare."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from diffusion_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from diffusion_operator.agents.reports import Reports
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.cluster import Cluster
from diffusion_operator.kube.errors import ApiRefusal, Conflict, KubeError
from diffusion_operator.kube.informer import Informer
from diffusion_operator.kube.keys import Key, key_of
from diffusion_operator.kube.resources import CHILDREN, CUSTOM_RESOURCES, NODE, POD, Resource
from diffusion_operator.kube.store import Change, Store
from diffusion_operator.loop.clock import SystemClock
from diffusion_operator.loop.closed_namespaces import LOOK_AGAIN, ClosedNamespaces
from diffusion_operator.loop.hearing import LONGEST_DELAY, SOUNDING_SECONDS, Hearing
from diffusion_operator.loop.metrics import LoopMetrics
from diffusion_operator.loop.queue import WorkQueue
from diffusion_operator.loop.reconciler import Reconciler
from diffusion_operator.loop.routing import Router
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.plan.kind import Kind

_log = logging.getLogger(__name__)

URGENT_WORKERS = 4
"""On top of the others: they take nothing but what an agent or a node said that cannot wait."""


class Engine:
    """One operator's memory and its moving parts. Give it up and make a new one, and nothing is lost."""

    def __init__(
        self,
        client: ApiClient,
        kinds: Mapping[str, Kind[Any]],
        facts: OperatorFacts,
        *,
        metrics: LoopMetrics,
        namespaces: Sequence[str] = (),
        instance: str = "diffusion-operator",
    ) -> None:
        self.metrics, self.store = metrics, Store()
        self.queue: WorkQueue[Key] = WorkQueue(self._failed)
        self.reports = Reports(self.queue.add, self.queue.add_urgent, self.queue.add_after)
        self.cluster = Cluster(client, self.store, facts, instance)
        self.reconciler = Reconciler(self.cluster, kinds, self.reports, SystemClock())
        router = Router(self.store, self.cluster.references, self._enqueue, self._enqueue_urgently)
        self.store.listeners.append(router.changed)
        self.store.listeners.append(self._forget_pods)
        self.hearing = Hearing()
        self.store.listeners.append(self.hearing.changed)
        scopes = tuple(namespaces) or ("",)
        selector = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        self.child_informers = [
            self._informer(client, resource, scope, selector) for scope in scopes for resource in CHILDREN
        ] + [self._informer(client, NODE, "", "")]
        self.custom_resource_informers = [
            self._informer(client, resource, scope, "")
            for scope in scopes
            for resource in CUSTOM_RESOURCES
            if resource.kind in kinds
        ]
        self.closed = ClosedNamespaces(self.child_informers)
        self._kinds = kinds
        metrics.queue_depth(lambda: self.queue.depth)
        metrics.agents_connected(lambda: self.reports.connected)
        for informer in (*self.child_informers, *self.custom_resource_informers):
            metrics.watch_silence(informer.resource.kind, informer.last_heard)

    @asynccontextmanager
    async def running(
        self, workers: int = 32, *, hears_itself: bool = False
    ) -> AsyncIterator[list[asyncio.Task[None]]]:
        """Sync, then work on `workers` keys at once. Yields the tasks, none of which ever ends by itself.

        `hears_itself`: watch the custom resources by informers too, where no kopf feeds the store.
        """
        tasks = [asyncio.create_task(informer.run()) for informer in self.child_informers]
        try:
            if hears_itself:
                tasks += [asyncio.create_task(informer.run()) for informer in self.custom_resource_informers]
            await self.closed.first_lists()
            if not hears_itself:
                await self._first_resync()
            tasks += [asyncio.create_task(self.queue.work(self._reconcile)) for _ in range(workers)]
            urgent = (self.queue.work(self._reconcile, only_urgent=True) for _ in range(URGENT_WORKERS))
            tasks += [asyncio.create_task(work) for work in urgent]
            yield tasks
        finally:
            self.queue.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def resync(self) -> None:
        """List the custom resources, drop those that are gone, and look at every one of them. Raises KubeError."""
        await self.sound()
        self.enqueue_all()

    async def sound(self) -> None:
        """List the custom resources: what is new in the lists, kopf must tell before long. Raises KubeError.

        What is forbidden in a named namespace is no concern of the others.
        """
        for informer in self.custom_resource_informers:
            try:
                self.hearing.found(await informer.list())
            except ApiRefusal:
                if not informer.refused_for():
                    raise

    def enqueue_all(self) -> None:
        """Look at every custom resource."""
        for resource in CUSTOM_RESOURCES:
            for custom_resource in self.store.all(resource):
                self._enqueue(key_of(custom_resource))

    async def keep_resyncing(self, seconds: float) -> None:
        """Resync every so many seconds until cancelled, and between them sound whether kopf still hears."""
        due = time.monotonic() + seconds
        while True:
            await asyncio.sleep(min(seconds, LONGEST_DELAY / 2 if self.hearing.is_owed else SOUNDING_SECONDS))
            try:
                await self.sound()
                if time.monotonic() >= due:
                    self.enqueue_all()
                    due = time.monotonic() + seconds
            except KubeError as error:
                self.metrics.failed("resync", error)
                _log.warning("the resync failed: %s", error)

    async def _first_resync(self) -> None:
        while True:
            try:
                return await self.resync()
            except KubeError as error:
                self.metrics.failed("resync", error)
                _log.warning("the custom resources cannot be listed: %s", error)
                await asyncio.sleep(1)

    async def _reconcile(self, key: Key) -> float | None:
        if key.namespace in self.closed:
            return LOOK_AGAIN
        began = time.monotonic()
        try:
            return await self.reconciler.reconcile(key)
        finally:
            self.metrics.reconcile_seconds.labels(key.kind).observe(time.monotonic() - began)

    def _enqueue(self, key: Key) -> None:
        if key.kind in self._kinds:
            self.queue.add(key)

    def _enqueue_urgently(self, key: Key) -> None:
        if key.kind in self._kinds:
            self.queue.add_urgent(key)

    def _forget_pods(self, change: Change) -> None:
        if change.resource == POD and change.new is None:
            self.reports.forget_pod(change.object["metadata"]["uid"])

    def _informer(self, client: ApiClient, resource: Resource, namespace: str, selector: str) -> Informer:
        return Informer(client, self.store, resource, failed=self._watch_failed, namespace=namespace, selector=selector)

    def _watch_failed(self, kind: str, error: Exception) -> None:
        self.metrics.failed(f"watch {kind}", error)
        _log.info("the watch of %s starts again: %s", kind, error)

    def _failed(self, key: Key, error: Exception) -> None:
        self.metrics.failed("reconcile", error)
        if isinstance(error, Conflict):
            _log.info("%s %s/%s changed meanwhile: %s", *key, error)
        elif isinstance(error, KubeError):
            _log.warning("%s %s/%s will be tried again: %s", *key, error)
        else:
            _log.error("%s %s/%s will be tried again", *key, exc_info=error)
