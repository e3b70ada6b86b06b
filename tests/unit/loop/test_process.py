"""The process from start to end, with kopf in it, on an API server that fails where the test says so."""

import asyncio
import contextlib
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from diffusion_operator.agents.tls import renewed
from diffusion_operator.kube.connection import Connection
from diffusion_operator.kube.errors import Unreachable
from diffusion_operator.kube.keys import Key
from diffusion_operator.loop.clock import SystemClock
from diffusion_operator.loop.process import OperatorProcess
from diffusion_operator.loop.settings import OperatorSettings
from ear_api import serving
from operator_harness import until
from operator_process import fetch, free_port
from process_api import LEASE, POD, ProcessApi

UNLABEL = f"PATCH {POD}"
TRAININGS = "GET /apis/diffusion.dev/v1alpha1/diffusiontrainings"


@contextlib.asynccontextmanager
async def started(
    *, metrics_secure: bool = False, **faults: Any
) -> AsyncIterator[tuple[ProcessApi, asyncio.Task[int], OperatorSettings]]:
    """A process that lives in the namespace `home`; its API server; its ports."""
    ports: dict[str, Any] = {name: free_port() for name in ("agent_port", "health_port", "metrics_port")}
    settings = OperatorSettings(
        namespace="home",
        agent_url=f"https://localhost:{ports['agent_port']}",
        trainer_image="t",
        server_image="s",
        router_image="r",
        pod_name="op-1",
        identity="me",
        listen_host="127.0.0.1",
        lease_seconds=60,
        renew_seconds=30.0,
        retry_seconds=0.1,
        metrics_secure=metrics_secure,
        **ports,
    )
    server = ProcessApi()
    async with serving(server.serve) as connection:
        server.objects[POD]["metadata"]["labels"]["diffusion.dev/leader"] = "true"
        server.objects.update(faults.pop("objects", {}))
        server.failing.update(faults.pop("failing", {}))
        server.code = faults.pop("code", 500)
        running = asyncio.create_task(OperatorProcess(settings, connection).run())
        try:
            yield server, running, settings
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for name in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().remove_signal_handler(name)


async def ready(settings: OperatorSettings) -> None:
    async def is_ready() -> bool:
        url = f"http://127.0.0.1:{settings.health_port}/readyz"
        return await asyncio.to_thread(fetch, url) == (200, "leader\n")

    deadline = time.monotonic() + 20
    while not await is_ready():
        assert time.monotonic() < deadline, "not ready"
        await asyncio.sleep(0.02)


async def test_a_standby_that_still_has_the_label_of_a_leader_does_not_try_to_lead() -> None:
    async with started(failing={UNLABEL: 3}) as (server, _, settings):
        await ready(settings)
        before = server.asked[: server.asked.index(f"GET {LEASE}")]
        assert before.count(UNLABEL) == 4, "three refusals and a success"


async def test_a_standby_whose_pod_is_gone_has_no_label_to_lose() -> None:
    async with started(failing={UNLABEL: 1}, code=404) as (server, _, settings):
        await ready(settings)
        assert server.asked[0] == UNLABEL


async def test_a_leader_that_waits_for_the_crds_ends_in_order_when_it_is_told_to() -> None:
    async with started(failing={TRAININGS: -1}, code=404) as (server, running, settings):
        await until(lambda: server.asked.count(TRAININGS) > 0, 10, "the first list")
        assert server.label == "true"
        url = f"http://127.0.0.1:{settings.health_port}/readyz"
        assert await asyncio.to_thread(fetch, url) == (503, "the first lists have not come in yet\n")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(running, 60) == 0
        assert server.holder == ""
        assert server.label is None


async def test_a_leader_that_waits_for_the_crds_ends_when_it_loses_the_lease() -> None:
    async with started(failing={TRAININGS: -1}, code=404) as (server, running, _):
        await until(lambda: server.asked.count(TRAININGS) > 0, 10, "the first list")
        server.take_the_lease("another")
        assert await asyncio.wait_for(running, 60) == 1
        assert (server.holder, server.label) == ("another", None)


async def test_failures_are_counted_by_kind_and_place() -> None:
    async with started(failing={"GET /api/v1/pods": 2, TRAININGS: 1}, code=403) as (_, _, settings):
        await ready(settings)
        url = f"http://127.0.0.1:{settings.metrics_port}/metrics"
        _, text = await asyncio.to_thread(fetch, url)
        assert 'diffusion_operator_errors_total{kind="ApiRefusal",where="watch Pod"} 2.0' in text
        assert 'diffusion_operator_errors_total{kind="ApiRefusal",where="resync"} 1.0' in text
        assert 'diffusion_operator_api_calls_total{code="403",verb="GET"} 3.0' in text
        assert 'diffusion_operator_api_calls_total{code="404",verb="GET"}' in text, "no certificates yet"


OTHERS = {
    LEASE: {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "another", "leaseDurationSeconds": 60}}
}
SECRET = "GET /api/v1/namespaces/home/secrets/diffusion-operator-agent-tls"


async def test_a_standby_shows_its_metrics_and_that_it_does_not_lead() -> None:
    async with started(objects=OTHERS) as (_, _, settings):
        url = f"http://127.0.0.1:{settings.metrics_port}/metrics"
        deadline = time.monotonic() + 10
        while (await asyncio.to_thread(fetch, url))[0] != 200:
            assert time.monotonic() < deadline, "no metrics"
            await asyncio.sleep(0.02)
        code, text = await asyncio.to_thread(fetch, url)
        assert (code, "diffusion_operator_leader 0.0" in text.splitlines()) == (200, True)
        health = f"http://127.0.0.1:{settings.health_port}/readyz"
        assert await asyncio.to_thread(fetch, health) == (200, "standby\n")


async def test_a_standby_serves_metrics_over_tls_as_soon_as_there_are_certificates() -> None:
    async with started(objects=OTHERS, metrics_secure=True, failing={SECRET: 2}, code=403) as (server, _, settings):
        url = f"https://127.0.0.1:{settings.metrics_port}/metrics"
        deadline = time.monotonic() + 10
        while (await asyncio.to_thread(fetch, url))[0] != 401:
            assert time.monotonic() < deadline, "no metrics"
            await asyncio.sleep(0.02)
        assert server.asked.count(SECRET) == 3, "two refusals and a success"
        assert server.holder == "another"


async def test_agents_that_hold_a_poll_do_not_hold_up_the_next_leader() -> None:
    async with started() as (server, running, settings):
        await ready(settings)
        await until(lambda: server.watches, 10, "kopf's watch")
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession() as session:
            url, headers = f"{settings.agent_url}/v1/poll", {"Authorization": "Bearer x"}
            agents = [
                asyncio.create_task(session.post(url, data=b"{}", ssl=trusting, headers=headers)) for _ in range(5)
            ]
            await until(lambda: server.reviews, 10, "polls")
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: server.holder == "", 20, "the Lease")
            assert server.label is None
            assert server.watches_at_release == 1, "kopf, which waits for every connection, is ended after that"
            assert await asyncio.wait_for(running, 60) == 0
            for agent in agents:
                agent.cancel()
            await asyncio.gather(*agents, return_exceptions=True)


async def test_a_leader_at_work_ends_when_it_loses_the_lease() -> None:
    async with started() as (server, running, settings):
        await ready(settings)
        server.take_the_lease("another")
        assert await asyncio.wait_for(running, 60) == 1
        assert (server.holder, server.label) == ("another", None)


async def test_what_it_reconciles_is_written_only_while_it_leads() -> None:
    """Between a process that was stopped and its first look at the clock lie whole reconciles."""
    process = OperatorProcess(
        OperatorSettings("home", "https://agents:1", "t", "s", "r"), Connection("http://127.0.0.1:1")
    )
    certificates = renewed(None, "agents", SystemClock().now())
    cluster = process._engine(certificates).cluster
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "ns", "name": "a"}}
    with pytest.raises(Unreachable, match="another may lead"):
        await cluster.apply(Key("DiffusionTraining", "ns", "a"), manifest)
