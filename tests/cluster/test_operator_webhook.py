"""An admission webhook that does not answer, on a real API server: said in the status, and over when it is over."""

from crash_scenarios import ROLLED_OUT
from dead_webhook import dead_webhook
from diffusion_local.cluster import Cluster
from operator_harness import until
from operator_scene import scene

MAKING_DEPLOYMENTS = {"apiGroups": ["apps"], "operations": ["CREATE"], "resources": ["deployments"]}


async def test_a_webhook_that_does_not_answer_is_said_and_holds_up_nothing_else(
    control_plane: Cluster, namespace: str
) -> None:
    async with scene(control_plane, namespace) as stage:
        async with dead_webhook(stage.client, namespace, MAKING_DEPLOYMENTS):
            for resource, item in ROLLED_OUT.objects:
                await stage.create(resource, item)
            await until(lambda: stage.reason("DiffusionService") == "WriteRefused", 60, "the reason")
            said = [one["message"] for one in stage.status("DiffusionService")["conditions"]]
            assert [one for one in said if 'failed calling webhook "dead.example.com"' in one], said
            assert not stage.objects("Deployment")
            assert stage.objects("Service"), "what the webhook does not judge is made"
        await until(lambda: len(stage.objects("Deployment")) == 2, 90, "both Deployments")
        await until(lambda: stage.reason("DiffusionService") != "WriteRefused", 60, "the end of the reason")
