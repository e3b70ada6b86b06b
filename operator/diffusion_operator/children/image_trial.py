"""A Job that finds out whether the image of the workers can be pulled and started, while others train.

Its pod is a worker's without all that a worker works with: the same image, pull secrets and choice of nodes, but no
volumes, no agent, and no accelerators, which those who train may hold. It prints its version, and ends.
"""

from typing import Any

from diffusion_contract.names import IMAGE_TRIAL_ROLE, ROLE_LABEL
from diffusion_operator.api.training_spec import PoolSpec, TrainingCustomResource
from diffusion_operator.children.job import NO_BACKOFF_LIMIT, training_job
from diffusion_operator.children.metadata import Manifest, child_metadata, child_name, spec_hash
from diffusion_operator.children.training_names import JOB_NAME_LIMIT, owner_of, training_labels

RESOURCES = {"cpu": "10m", "memory": "64Mi"}
"""Requests and limits: next to nothing, but said, because some quotas count what pods ask for."""

_LIKE_A_WORKER = (
    "restartPolicy",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "securityContext",
    "nodeSelector",
    "tolerations",
    "imagePullSecrets",
    "runtimeClassName",
    "schedulerName",
)


def image_trial(training: TrainingCustomResource, pool: PoolSpec, image: str) -> Manifest:
    """The Job; `image` is used where the spec names none. Another pod to try is another Job."""
    template = _template(training, pool, image)
    owner, labels = owner_of(training), template["metadata"]["labels"]
    name = child_name(owner, "image", spec_hash(template)[:8], limit=JOB_NAME_LIMIT)
    spec = {"parallelism": 1, "completions": 1, "backoffLimit": NO_BACKOFF_LIMIT, "template": template}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(owner, name, labels),
        "spec": spec,
    }


def _template(training: TrainingCustomResource, pool: PoolSpec, image: str) -> Manifest:
    worker = training_job(training, pool, 1, image, "")["spec"]["template"]
    metadata = {**worker["metadata"], "labels": training_labels(training) | {ROLE_LABEL: IMAGE_TRIAL_ROLE}}
    pod: dict[str, Any] = worker["spec"]
    spec = {key: pod[key] for key in _LIKE_A_WORKER if key in pod}
    if nodes := pod.get("affinity", {}).get("nodeAffinity"):
        spec["affinity"] = {"nodeAffinity": nodes}
    container = {key: pod["containers"][0][key] for key in ("name", "image", "securityContext")}
    resources = {"requests": RESOURCES, "limits": RESOURCES}
    spec["containers"] = [{**container, "args": ["--version"], "resources": resources}]
    return {"metadata": metadata, "spec": {**spec, "terminationGracePeriodSeconds": 1}}
