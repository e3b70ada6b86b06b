"""One operator process from start to end: leadership first, then the agents' port, the engine, and kopf as its ear.

start -> health port -> unlabelled -> wait for the Lease -> label -> certificates -> lists -> workers, agents, kopf
      -> certificates -> metrics port, whoever leads
SIGTERM  -> no new work, the label goes, the Lease is released, everything stops, exit 0
any part that ends by itself, and a lost Lease -> the same, but exit 1: Kubernetes starts the process afresh

From the moment that the Lease is held, SIGTERM and its loss end whatever is going on, the first lists included.
"""

import asyncio
import dataclasses
import logging
import signal
import ssl
from collections.abc import Callable, Coroutine
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
from diffusion_operator.kube.errors import KubeError, NotFound
from diffusion_operator.kube.fencing import FencedTransport
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
        host = urlsplit(settings.agent_url).hostname or "localhost"
        self._secret = CertificateSecret(self._client, settings.namespace, CERTIFICATE_SECRET, host, SystemClock())
        self._runners: list[web.AppRunner] = []
        self._stop = asyncio.Event()
        self._end_work: Callable[[], None] = lambda: None

    async def run(self) -> int:
        """Run until a signal (0) or until something ended that must not (1)."""
        self._take_signals()
        metrics = asyncio.create_task(self._serve_metrics())
        try:
            await self._open(health_app(self._health), self._settings.health_port, "health")
            await first_to_end(self._stop.wait(), self._as_standby(), _outcome(metrics))
            if self._stop.is_set():
                await self._step_down()  # A claim may have been under way.
            else:
                await self._lead(metrics)
        except (KubeError, PartEnded, OSError) as error:
            _log.error("the operator ends: %s", error)
            return 1
        finally:
            await _cancelled(metrics)
            await self._close()
        return 0

    async def _serve_metrics(self) -> None:
        """The metrics port, of a standby too; over TLS it waits until there are certificates."""
        settings, registry = self._settings, self._metrics.registry
        if not settings.metrics_secure:
            await self._open(metrics_app(registry, None), settings.metrics_port, "metrics")
            await asyncio.Event().wait()
        certificates = await self._secret.await_current(settings.retry_seconds)
        tls = certificates.server_context()
        await self._open(metrics_app(registry, self._client), settings.metrics_port, "metrics", tls)
        while True:
            certificates = await self._secret.keep(tls, certificates)

    async def _as_standby(self) -> None:
        while True:
            # A container that was restarted in the same pod still has the label from before: agents would be sent here.
            if await self._take_label_away():
                return await self._lease.acquire()
            await asyncio.sleep(self._settings.retry_seconds)

    async def _lead(self, metrics: asyncio.Task[None]) -> None:
        """Work under the Lease. The next one may have it before anything here that takes its time has ended."""
        self._health.is_leader = True
        self._metrics.leader.set(1)
        holding, working = asyncio.create_task(self._lease.hold()), asyncio.create_task(self._work())
        try:
            await first_to_end(self._stop.wait(), _outcome(holding), _outcome(working), _outcome(metrics))
        except PartEnded as ended:
            self._health.failure = str(ended)
            raise
        finally:
            await _cancelled(holding)
            if not self._health.is_synced:
                await _cancelled(working)  # It may be about to label this pod. Kopf, which takes its time, is not up.
            self._end_work()
            await self._step_down()
            await _cancelled(working)

    async def _work(self) -> None:
        settings, clock = self._settings, SystemClock()
        await self._label("true")
        certificates = await self._secret.current()
        tls = certificates.server_context()
        engine = self._engine(certificates)
        self._end_work = engine.queue.close
        authentication = Authentication(self._client, [AGENT_AUDIENCE])
        agents = agent_app(authentication, Membership(engine.store), engine.reports, clock)
        async with engine.running(settings.workers) as tasks:
            self._health.is_synced = True
            await self._open(agents, settings.agent_port, "agents", tls)
            await first_to_end(
                *map(_outcome, tasks),
                engine.keep_resyncing(settings.resync_seconds),
                self._keep_certificates(engine, certificates, tls),
                _until_a_namespace_opens(engine),
                self._listen(engine),
            )
        raise PartEnded("a part that should run as long as the process ended by itself")

    async def _listen(self, engine: Engine) -> None:
        """Have kopf hear what is open now. Where all is closed there is nothing to hear until something opens."""
        namespaces = [one for one in self._settings.namespaces if one not in engine.closed]
        if self._settings.namespaces and not namespaces:
            await asyncio.Event().wait()
        await listen(self._connection, engine.store, engine.hearing, namespaces, quiet_settings(), self._take_signals)

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
        fenced = FencedTransport(self._client.transport, lambda: self._lease.is_held)
        engine = Engine(
            ApiClient(fenced, self._metrics.called),
            KINDS,
            facts,
            metrics=self._metrics,
            namespaces=settings.namespaces,
            instance=settings.identity,
        )
        self._health.checks.append(engine.hearing.why_deaf)
        # kopf watches the custom resources; what is seen of them here is the lists.
        for informer in (*engine.child_informers, *engine.custom_resource_informers):
            self._health.watched.append(Watched(informer.resource.plural, informer.last_heard))
        return engine

    async def _keep_certificates(self, engine: Engine, known: AgentCertificates, tls: ssl.SSLContext) -> None:
        while True:
            known = await self._secret.keep(tls, known)
            engine.cluster.facts = dataclasses.replace(engine.cluster.facts, agent_ca=known.trusted)
            engine.enqueue_all()

    def _take_signals(self) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self._stop.set)

    async def _take_label_away(self) -> bool:
        """Take the leader's label from this pod. Returns whether it has none now; a pod that is gone has none."""
        try:
            await self._label(None)
        except NotFound:
            return True
        except KubeError as error:
            _log.warning("this pod may still have the leader's label, and cannot lead: %s", error)
            return False
        return True

    async def _step_down(self) -> None:
        """Send agents elsewhere, then let the next one lead."""
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._take_label_away()
                await self._lease.release()
        except (KubeError, TimeoutError) as error:
            _log.warning("the lease was not released, and will run out: %s", error or "no answer")

    async def _label(self, value: str | None) -> None:
        if self._settings.pod_name:
            patch = {"metadata": {"labels": {LEADER_LABEL: value}}}
            await self._client.merge(POD, self._settings.namespace, self._settings.pod_name, patch)

    async def _open(self, app: web.Application, port: int, what: str, tls: ssl.SSLContext | None = None) -> None:
        runner, bound = await listen_on(app, self._settings.listen_host, port, tls)
        self._runners.append(runner)
        _log.info("%s: port %d", what, bound)

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        await self._client.transport.close()


async def first_to_end(*parts: Coroutine[Any, Any, Any]) -> None:
    """Run the parts until one of them ends, and cancel the others. Raises PartEnded where it failed."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for error in filter(None, (task.exception() for task in done)):
            raise error if isinstance(error, PartEnded) else PartEnded(f"{type(error).__name__}: {error}") from error
    finally:
        await _cancelled(*tasks)


async def _until_a_namespace_opens(engine: Engine) -> None:
    namespace = await engine.closed.until_one_opens()
    raise PartEnded(f"namespace {namespace} can be read again: starting afresh, so that it is heard")


async def _outcome(task: asyncio.Task[None]) -> None:
    """What becomes of a task that somebody else cancels."""
    await asyncio.shield(task)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
