"""Pods of a simulated Job controller and its kubelets (training_simulator.py)."""

from collections.abc import Mapping
from typing import Any

from diffusion_contract.names import ATTEMPT_LABEL
from diffusion_operator.observe.snapshot import Raw

NO_IMAGE = "nowhere"
"""No kubelet finds an image whose name begins so."""


def made_pod(job: Raw, index: int, node: str, uid: str, moment: str) -> dict[str, Any]:
    """The pod for one index of a Job, on a node: it runs, has tried its image and ended, or lacks it."""
    name, template = job["metadata"]["name"], job["spec"]["template"]
    labels = template["metadata"]["labels"] | {
        "batch.kubernetes.io/job-name": name,
        "batch.kubernetes.io/job-completion-index": str(index),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-{index}-{uid}", "uid": uid, "labels": labels, "creationTimestamp": moment},
        "owner": job["metadata"]["uid"],
        "spec": {"nodeName": node},
        "status": _status(template, uid) | {"podIP": f"10.244.0.{uid[1:]}"},
    }


def _status(template: Mapping[str, Any], uid: str) -> dict[str, Any]:
    image = template["spec"]["containers"][0]["image"]
    if image.startswith(NO_IMAGE):
        waiting = {"reason": "ErrImagePull", "message": f"{image}: not found"}
        return {"phase": "Pending", "containerStatuses": [{"name": "trainer", "state": {"waiting": waiting}}]}
    if ATTEMPT_LABEL not in template["metadata"]["labels"]:
        ended = {"exitCode": 0}
        return {"phase": "Succeeded", "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}]}
    return {"phase": "Running"}


def is_found(one: Raw, uids: set[str]) -> bool:
    """Whether the operator finds an object: by an owner that is there, or because the status names it."""
    return one["kind"] != "Pod" or one["owner"] in uids or one["metadata"]["uid"] in uids


def exit_code(pod: Raw) -> int | None:
    """How a pod ended; -1 where it left no container status, None where it has not ended."""
    if pod["status"]["phase"] not in ("Failed", "Succeeded"):
        return None
    statuses = pod["status"].get("containerStatuses")
    return int(statuses[0]["state"]["terminated"]["exitCode"]) if statuses else -1
