"""What the end-to-end tests apply: small custom resources, and pods of the `restricted` level that act as clients."""

import hashlib
from typing import Any

from cluster_fixtures import access_mode
from cluster_objects import python_pod
from custom_resource_tables import service, training
from trainer_workers import TINY_UNET

Manifest = dict[str, Any]
KEY = "dk-a-key-for-tests-only"
KEYS_SECRET = "line-keys"
WORKER_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "3Gi"}}
ON_SPOT_NODES = {"nodeSelector": {"karpenter.sh/capacity-type": "spot"}}
TWO_WORKERS = {"min": 1, "max": 2, "resources": WORKER_RESOURCES}
RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def two_pools(**choice: Any) -> list[Manifest]:
    """One worker on demand and one on spot; `choice` says which nodes are spot ones."""
    return [
        {"name": "base", "capacity": "OnDemand", "replicas": 1},
        {"name": "spot", "capacity": "Spot", "max": 1, **choice},
    ]


def claim() -> Manifest:
    """A claim of the operator's, in a mode that the cluster under test can give."""
    return {"size": "1Gi", "accessModes": [access_mode()]}


def placed(manifest: Manifest, name: str, namespace: str) -> Manifest:
    """The object under this name in this namespace."""
    return {**manifest, "metadata": {"name": name, "namespace": namespace}}


def small_training(**changes: Any) -> Manifest:
    """One worker that trains a tiny network on the digits; 256 samples a step, so that a step takes its time."""
    settled: dict[str, Any] = {
        "spec__model": {
            "denoiser": {"type": "UNet2DModel", "sampleSize": 8, "channels": 1, "config": TINY_UNET},
            "conditioning": {"type": "Class", "classes": 10},
        },
        "spec__diffusion": {"schedule": {"type": "FlowMatching"}, "prediction": "Flow"},
        "spec__training": {"targetSteps": 150, "globalBatchSize": 256, "seed": 3},
        "spec__workers": {"min": 1, "max": 1, "resources": WORKER_RESOURCES},
        "spec__checkpoint__interval": {"steps": 25},
        "spec__checkpoint__storage": {"claim": claim()},
    }
    return training(**(settled | changes))


def small_service(training_name: str, **changes: Any) -> Manifest:
    """A service that waits for a training, with few steps to an image."""
    settled: dict[str, Any] = {
        "spec__model": {"fromTraining": {"name": training_name}},
        "spec__sampling": {"sampler": "Euler", "classes": [{"name": "quick", "steps": 4}]},
        "spec__batching": {"maxBatch": 4},
        "spec__auth__keysRef__name": KEYS_SECRET,
    }
    return service(**(settled | changes))


def keys_secret(namespace: str) -> Manifest:
    """The Secret that knows KEY by its hash."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    metadata = {"name": KEYS_SECRET, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"me": f"sha256:{digest}"}}


def client_pod(namespace: str, name: str, program: str, claim: str | None = None, **variables: str) -> Manifest:
    """A pod of the standard library's Python alone, with `claim` mounted at /volume."""
    container: Manifest = {
        "securityContext": RESTRICTED_CONTAINER,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
    }
    spec: Manifest = {"securityContext": RESTRICTED_POD}
    if claim:
        container["volumeMounts"] = [{"name": "volume", "mountPath": "/volume"}]
        spec["volumes"] = [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}]
    return python_pod(namespace, name, program, container=container, **spec)


ASK = """
import base64, json, os, urllib.error, urllib.request

def ask(body, key=os.environ["KEY"]):
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    url = os.environ["URL"] + "/v1/images/generations"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            document = json.load(answer)
            said = {"code": answer.status, "png": document["data"][0]["b64_json"],
                    "revision": answer.headers["x-diffusion-revision"]}
    except urllib.error.HTTPError as error:
        said = {"code": error.code, "error": json.load(error)["error"]}
    except OSError as error:
        said = {"code": 0, "error": repr(error)}
    return said
"""

ASK_ALL = (
    ASK
    + """
for body, key in json.loads(os.environ["QUESTIONS"]):
    print(json.dumps(ask(body, key)), flush=True)
"""
)

VISIT = (
    ASK
    + """
import time
while True:
    began = time.time()
    said = ask({"label": 3, "seed": 7, "class": "quick"})
    print(json.dumps(said | {"began": began}), flush=True)
    time.sleep(0.5)
"""
)
