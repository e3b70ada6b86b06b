"""A namespace that is deleted with all that is in it, on a real API server: nobody makes anything anew in it."""

import asyncio

from crash_scenarios import ROLLED_OUT, training
from dead_webhook import dead_webhook
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.errors import ApiRefusal
from diffusion_operator.kube.resources import MODEL_SERVICE, TRAINING, Resource
from operator_harness import until
from operator_scene import Scene, scene

NAMESPACE = Resource("v1", "Namespace", "namespaces", namespaced=False)
DELETING_OURS = {"apiGroups": ["diffusion.dev"], "operations": ["DELETE"], "resources": ["*"]}
CUSTOM_RESOURCES = frozenset({"DiffusionService", "DiffusionTraining"})


async def until_it_judges(stage: Scene) -> None:
    """The API server learns of a webhook a moment after it was stored."""
    path = TRAINING.path(stage.namespace, "run")
    async with asyncio.timeout(60):
        while True:
            try:
                await stage.client.call("DELETE", path, {"dryRun": "All"})
            except ApiRefusal:
                return
            await asyncio.sleep(0.1)


async def test_while_a_namespace_goes_nothing_is_made_anew_in_it(control_plane: Cluster, namespace: str) -> None:
    async with scene(control_plane, namespace) as stage:

        def kinds() -> set[str]:
            return {item["kind"] for item in stage.witness.objects(namespace)}

        for resource, item in (*ROLLED_OUT.objects, (TRAINING, training("run"))):
            await stage.create(resource, item)
        await until(lambda: len(stage.objects("Deployment")) == 2, 60, "a service")
        await until(lambda: len(stage.objects("Job")) == 2, 60, "a training")
        await stage.settled(60)
        async with dead_webhook(stage.client, namespace, DELETING_OURS):
            await until_it_judges(stage)
            before = len(stage.transport.writes)
            await stage.client.call("DELETE", NAMESPACE.path(name=namespace))
            await until(lambda: kinds() == CUSTOM_RESOURCES, 120, "that all children are gone")
            await stage.settled(60)
            await stage.engine.resync()
            await stage.settled(60)
            applied = [one for one in stage.transport.writes[before:] if one.startswith("PATCH ")]
            assert len(applied) <= 3 * len(CUSTOM_RESOURCES), (
                f"one look at each, after what may still be edited: {applied}"
            )
        for resource, name in ((MODEL_SERVICE, "digits"), (TRAINING, "run")):
            # The namespace's controller would come back to them before long; how soon is its own affair.
            await stage.client.call("DELETE", resource.path(namespace, name))
        await until(lambda: not kinds(), 120, "that nothing is left")
        await until(lambda: not stage.engine.reconciler.ending, 60, "that nothing is remembered")
