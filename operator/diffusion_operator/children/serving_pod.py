"""What engine and router pods have in common: the keys of their callers, and how the kubelet judges them."""

from typing import Any

from diffusion_contract.names import KEYS_DIRECTORY
from diffusion_operator.children.metadata import Manifest, Owner, child_metadata
from diffusion_operator.children.pod import Mount
from diffusion_operator.children.service_names import pod_selector

PROGRESS_SECONDS = 600
"""After this time without a new ready pod a Deployment says that it does not get on."""


def keys_mount(secret: str) -> Mount:
    """The Secret of `auth.keysRef`. Pods wait for it where it is missing."""
    return Mount("diffusion-keys", {"secret": {"secretName": secret}}, KEYS_DIRECTORY, read_only=True)


def probes(port: str, startup_seconds: int) -> dict[str, Any]:
    """Ready by `/readyz`, alive by `/healthz`. To become ready for the first time it has `startup_seconds`.

    `/healthz` answers from the beginning, so only `/readyz` can tell a start that hangs from one that is over.
    """
    health = {"path": "/healthz", "port": port, "scheme": "HTTP"}
    ready = {"path": "/readyz", "port": port, "scheme": "HTTP"}
    return {
        "startupProbe": {"httpGet": ready, "periodSeconds": 1, "failureThreshold": startup_seconds},
        "readinessProbe": {"httpGet": ready, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {"httpGet": health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
    }


def deployment(owner: Owner, name: str, labels: dict[str, str], replicas: int, template: Manifest) -> Manifest:
    """A Deployment that starts a new pod before it stops an old one."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(owner, name, labels),
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": pod_selector(labels)},
            "template": template,
        },
    }
