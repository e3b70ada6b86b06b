"""One operator process from start to end: leadership first, then the agents' port, the engine, and kopf as its ear.

start -> health port -> wait for the Lease -> label this pod -> certificates -> lists -> workers, agents, kopf
SIGTERM  -> everything stops, the label goes, the Lease is released, exit 0
any part that ends by itself, and a lost Lease -> exit 1: Kubernetes starts the process afresh
"""

import asyncio
import contextlib
import dataclasses
import logging
import signal
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from diffusion_contract.names import AGENT_AUDIENCE
from diffusion_operator.agents.authentication import Authentication
from diffusion_operator.agents.certificate_secret import CertificateSecret
from diffusion_operator.agents.server import Membership, agent_app
from diffusion_operator.agents.tls import AgentCertificates
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.connection import Connection
from diffusion_operator.kube.errors import KubeError
from diffusion_operator.kube.lease import Leadership
from diffusion_operator.kube.resources import POD
from diffusion_operator.kube.transport import HttpTransport
from diffusion_operator.loop.bindings import listen, quiet_settings
from diffusion_operator.loop.clock import SystemClock
from diffusion_operator.loop.engine import Engine
from diffusion_operator.loop.health import Health, Watched, health_app
from diffusion_operator.loop.kinds import KINDS
from diffusion_operator.loop.listening import listen_on
from diffusion_operator.loop.metrics import LoopMetrics
from diffusion_operator.loop.metrics_server import metrics_app
from diffusion_operator.loop.settings import CERTIFICATE_SECRET, LEADER_LABEL, LEASE_NAME, OperatorSettings
from diffusion_operator.observe.operator_facts import OperatorFacts

_log = logging.getLogger(__name__)


_FAREWELL_SECONDS = 5.0


class PartEnded(Exception):
    """Something that should run as long as the process ended by itself."""


class OperatorProcess:
    """Wires everything together. `run` returns the exit code."""

    def __init__(self, settings: OperatorSettings, connection: Connection) -> None:
        self._settings, self._connection = settings, connection
        self._metrics, self._health = LoopMetrics(), Health()
        self._client = ApiClient(HttpTransport(connection), self._metrics.called)
        self._lease = Leadership(
            self._client,
            settings.namespace,
            LEASE_NAME,
            settings.identity,
            settings.lease_seconds,
            settings.renew_seconds,
            settings.retry_seconds,
        )
        self._runners: list[web.AppRunner] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal (0) or until something ended that must not (1)."""
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self._stop.set)
        try:
            await self._open(health_app(self._health), self._settings.health_port, "health")
            await self._until_stopped([self._as_standby()])
            if not self._stop.is_set():
                await self._lead()
        except (KubeError, PartEnded, OSError) as error:
            _log.error("the operator ends: %s", error)
            return 1
        finally:
            await self._close()
        return 0

    async def _as_standby(self) -> None:
        with contextlib.suppress(KubeError):
            # A container that was restarted in the same pod still has the label from before.
            await self._label(None)
        await self._lease.acquire()

    async def _lead(self) -> None:
        settings, clock = self._settings, SystemClock()
        self._health.is_leader = True
        self._metrics.leader.set(1)
        await self._label("true")
        host = urlsplit(settings.agent_url).hostname or "localhost"
        secret = CertificateSecret(self._client, settings.namespace, CERTIFICATE_SECRET, host, clock)
        certificates = await secret.current()
        tls = certificates.server_context()
        engine = self._engine(certificates)
        authentication = Authentication(self._client, [AGENT_AUDIENCE])
        agents = agent_app(authentication, Membership(engine.store), engine.reports, clock)
        reviewer = self._client if settings.metrics_secure else None
        async with engine.running(settings.workers) as tasks:
            self._health.is_synced = True
            await self._open(agents, settings.agent_port, "agents", tls)
            metrics = metrics_app(self._metrics.registry, reviewer)
            await self._open(metrics, settings.metrics_port, "metrics", tls if reviewer else None)
            await self._until_stopped(
                [
                    *map(_endless, tasks),
                    self._lease.hold(),
                    engine.keep_resyncing(settings.resync_seconds),
                    self._keep_certificates(engine, secret, certificates, tls),
                    self._hear(engine),
                ]
            )

    def _engine(self, certificates: AgentCertificates) -> Engine:
        settings = self._settings
        facts = OperatorFacts(
            namespace=settings.namespace,
            agent_url=settings.agent_url,
            agent_ca=certificates.trusted,
            trainer_image=settings.trainer_image,
            server_image=settings.server_image,
            router_image=settings.router_image,
            listening_since=SystemClock().now(),
        )
        engine = Engine(
            self._client,
            KINDS,
            facts,
            metrics=self._metrics,
            namespaces=settings.namespaces,
            instance=settings.identity,
        )
        for informer in engine.child_informers:
            self._health.watched.append(Watched(informer.resource.plural, lambda informer=informer: informer.heard_at))  # type: ignore[misc]
        for informer in engine.custom_resource_informers:
            # kopf watches these; what is seen here is the resync.
            longest = settings.resync_seconds * 2.5
            self._health.watched.append(
                Watched(informer.resource.plural, lambda informer=informer: informer.heard_at, longest)  # type: ignore[misc]
            )
        return engine

    async def _hear(self, engine: Engine) -> None:
        await listen(self._connection, engine.store, self._settings.namespaces, quiet_settings())
        self._stop.set()  # kopf takes over the signals, and returns in order when one has come.

    async def _keep_certificates(
        self, engine: Engine, secret: CertificateSecret, known: AgentCertificates, tls: Any
    ) -> None:
        while True:
            known = await secret.keep(tls, known)
            engine.cluster.facts = dataclasses.replace(engine.cluster.facts, agent_ca=known.trusted)
            engine.enqueue_all()

    async def _until_stopped(self, parts: list[Coroutine[Any, Any, None]]) -> None:
        """Run the parts until the stop flag is set; the end of a lone part is in order, of one of many it is not."""
        stop = asyncio.create_task(self._stop.wait())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                if (error := task.exception()) is not None:
                    self._health.failure = f"{type(error).__name__}: {error}"
                    raise PartEnded(self._health.failure) from error
        finally:
            for task in (stop, *tasks):
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)

    async def _label(self, value: str | None) -> None:
        if self._settings.pod_name:
            patch = {"metadata": {"labels": {LEADER_LABEL: value}}}
            await self._client.merge(POD, self._settings.namespace, self._settings.pod_name, patch)

    async def _open(self, app: web.Application, port: int, what: str, tls: Any = None) -> None:
        runner, bound = await listen_on(app, self._settings.listen_host, port, tls)
        self._runners.append(runner)
        _log.info("%s: port %d", what, bound)

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        if self._health.is_leader:
            with contextlib.suppress(KubeError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await self._label(None)
                    await self._lease.release()
        await self._client.transport.close()


async def _endless(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)
    raise PartEnded(f"{task.get_name()} ended by itself")
