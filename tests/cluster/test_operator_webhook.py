"""An admission webhook that does not answer, on a real API server: said in the status, and over when it is over."""

from typing import Any

from crash_scenarios import ROLLED_OUT
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.resources import Resource
from operator_harness import until
from operator_scene import scene

CONFIGURATION = Resource(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
)


def webhook(namespace: str) -> dict[str, Any]:
    """It judges Deployments of one namespace, and nobody listens where it should."""
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
    return {
        "apiVersion": CONFIGURATION.api_version,
        "kind": CONFIGURATION.kind,
        "metadata": {"name": f"dead-{namespace}"},
        "webhooks": [
            {
                "name": "dead.example.com",
                "clientConfig": {"url": "https://127.0.0.1:1/", "caBundle": ""},
                "rules": [rule],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
            }
        ],
    }


async def test_a_webhook_that_does_not_answer_is_said_and_holds_up_nothing_else(
    control_plane: Cluster, namespace: str
) -> None:
    async with scene(control_plane, namespace) as stage:
        await stage.client.create(CONFIGURATION, webhook(namespace))
        try:
            for resource, item in ROLLED_OUT.objects:
                await stage.create(resource, item)
            await until(lambda: stage.reason("DiffusionService") == "WriteRefused", 30, "the reason")
            said = [one["message"] for one in stage.status("DiffusionService")["conditions"]]
            assert [one for one in said if 'failed calling webhook "dead.example.com"' in one], said
            assert not stage.objects("Deployment")
            assert stage.objects("Service"), "what the webhook does not judge is made"
        finally:
            await stage.client.call("DELETE", CONFIGURATION.path(name=f"dead-{namespace}"))
        await until(lambda: len(stage.objects("Deployment")) == 2, 40, "both Deployments")
        await until(lambda: stage.reason("DiffusionService") != "WriteRefused", 20, "the end of the reason")
