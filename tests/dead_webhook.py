"""An admission webhook at which nobody listens: the API server answers 500 to all that it should judge."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import Resource

CONFIGURATION = Resource(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
)


@contextlib.asynccontextmanager
async def dead_webhook(client: ApiClient, namespace: str, rule: Mapping[str, Any]) -> AsyncIterator[None]:
    """It judges what `rule` names (apiGroups, operations, resources) in one namespace, until left."""
    name = f"dead-{namespace}"
    judge = {
        "name": "dead.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/", "caBundle": ""},
        "rules": [{"apiVersions": ["*"], **rule}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    kind = {"apiVersion": CONFIGURATION.api_version, "kind": CONFIGURATION.kind}
    await client.create(CONFIGURATION, {**kind, "metadata": {"name": name}, "webhooks": [judge]})
    try:
        yield
    finally:
        await client.call("DELETE", CONFIGURATION.path(name=name))
