"""A quota that allows no pod, on a real API server: said in its own words, once, and by both kinds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from crash_scenarios import ROLLED_OUT, training
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.resources import TRAINING, Resource
from diffusion_operator.observe.snapshot import Raw
from operator_harness import until
from operator_scene import Scene, scene

QUOTA = Resource("v1", "ResourceQuota", "resourcequotas")
NO_PODS = "exceeded quota: nothing, requested: pods=1, used: pods=0, limited: pods=0"
REMEDY = "raise the ResourceQuota or ask for less"


@contextlib.asynccontextmanager
async def poor(control_plane: Cluster, namespace: str) -> AsyncIterator[Scene]:
    """A namespace whose quota allows no pod."""
    async with scene(control_plane, namespace) as stage:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "nothing"}}
        await stage.create(QUOTA, {**quota, "spec": {"hard": {"pods": "0"}}})
        found: Raw = {}
        async with asyncio.timeout(60):
            while "hard" not in found.get("status", {}):
                await asyncio.sleep(0.1)
                found = await stage.client.get(QUOTA, namespace, "nothing") or {}
        yield stage


async def test_a_training_says_which_quota_refuses_its_workers_and_goes_on_when_it_is_gone(
    control_plane: Cluster, namespace: str
) -> None:
    async with poor(control_plane, namespace) as stage:
        await stage.create(TRAINING, training("run"))
        await until(lambda: stage.reason("DiffusionTraining") == "QuotaExceeded", 60, "the quota in the status")
        status, jobs = stage.status("DiffusionTraining"), [job["metadata"]["name"] for job in stage.objects("Job")]
        assert status["message"] in [f"Job {job} cannot make its pods: {NO_PODS}; {REMEDY}" for job in jobs]
        assert status["attempt"] == 1
        await stage.client.call("DELETE", QUOTA.path(namespace, "nothing"))
        await until(lambda: len(stage.objects("Pod")) == 2, 120, "two workers")
        await until(lambda: stage.reason("DiffusionTraining") == "Unschedulable", 60, "that the quota is forgotten")


async def test_a_service_says_which_quota_refuses_its_engines_and_writes_it_once(
    control_plane: Cluster, namespace: str
) -> None:
    async with poor(control_plane, namespace) as stage:
        for resource, item in ROLLED_OUT.objects:
            await stage.create(resource, item)
        await until(lambda: stage.reason("DiffusionService") == "QuotaExceeded", 60, "the quota in the status")
        assert stage.status("DiffusionService")["conditions"][0]["message"].endswith(f"{NO_PODS}; {REMEDY}")
