"""The Indexed Job of one pool in one attempt.

The restart budget is ours, not the Job's: `backoffLimit` is out of reach, codes 64 and 93 fail the Job at once, and a
disruption or a pod that left with 75 is ignored. The controller replaces a worker inside a Job only after a back-off of
its own (10 s, doubling), which is why survivors never wait for one and a new attempt is a new Job.
"""

from collections.abc import Mapping
from typing import Any

from diffusion_contract.exit_codes import ExitCode
from diffusion_contract.names import (
    CHECKPOINT_DIRECTORY,
    CONFIG_DIRECTORY,
    ENV_ATTEMPT,
    ENV_CONFIG_FILE,
    ENV_POOL,
    ENV_PROCESSES,
    MODELS_DIRECTORY,
    TEMPLATE_HASH_ANNOTATION,
    WORKER_HASH_ANNOTATION,
)
from diffusion_contract.run_config import RUN_CONFIG_KEY
from diffusion_operator.api.training_spec import PoolSpec, TrainingCustomResource
from diffusion_operator.children.capacity import SPOT_TOLERATIONS, node_affinity
from diffusion_operator.children.metadata import Manifest, child_metadata, spec_hash
from diffusion_operator.children.pod import Mount, PodRecipe, pod_template
from diffusion_operator.children.threads import threads
from diffusion_operator.children.training_names import (
    COMPONENT,
    checkpoint_claim,
    job_name,
    model_claim,
    owner_of,
    run_config_name,
    worker_labels,
    workers_name,
)

NO_BACKOFF_LIMIT = 2**31 - 1
NODE_LOSS_SECONDS = 30
"""A worker on a node that does not answer is given up after this time (Kubernetes' default is 300)."""
GRACE_SECONDS = {"OnDemand": 110, "Spot": 15}
"""From SIGTERM to SIGKILL. Two minutes is the longest notice of a cloud, 15 s what GKE gives user pods on spot."""


def worker_hash(training: TrainingCustomResource, pool: PoolSpec) -> str:
    """A hash of all parts of the spec that a running worker cannot take over: a change of it needs new pods.

    Defaults are left out, so that a field that a later version of the operator adds restarts nobody.
    """
    workers, place = training.spec.workers.without_defaults(), pool.without_defaults()
    return spec_hash(
        {
            "workers": {name: value for name, value in workers.items() if name not in ("min", "max")},
            "pool": {name: value for name, value in place.items() if name not in ("name", "replicas", "max")},
        }
    )


def training_job(
    training: TrainingCustomResource, pool: PoolSpec, attempt: int, image: str, agent_url: str
) -> Manifest:
    """The Job; `image` is used where the spec names none."""
    labels = worker_labels(training, pool.name, attempt)
    template = pod_template(_recipe(training, pool, attempt, image, agent_url))
    annotations = {WORKER_HASH_ANNOTATION: worker_hash(training, pool), TEMPLATE_HASH_ANNOTATION: spec_hash(template)}
    name = job_name(training, pool.name, attempt)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(owner_of(training), name, labels, annotations),
        "spec": {
            "completionMode": "Indexed",
            "parallelism": pool.size,
            "completions": pool.size,
            "backoffLimit": NO_BACKOFF_LIMIT,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _pod_failure_policy(),
            "template": template,
        },
    }


def _pod_failure_policy() -> dict[str, Any]:
    """The first rule that matches wins; a crash matches none and is counted by us."""
    final = [int(ExitCode.CONFIGURATION_REFUSED), int(ExitCode.DO_NOT_RETRY)]
    return {
        "rules": [
            {"action": "FailJob", "onExitCodes": _exit_codes(final)},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "Ignore", "onExitCodes": _exit_codes([int(ExitCode.RUN_AGAIN)])},
        ]
    }


def _exit_codes(values: list[int]) -> dict[str, Any]:
    return {"containerName": COMPONENT, "operator": "In", "values": values}


def _recipe(training: TrainingCustomResource, pool: PoolSpec, attempt: int, image: str, agent_url: str) -> PodRecipe:
    workers = training.spec.workers
    affinity = workers.template.affinity
    theirs = affinity.node_affinity.to_wire() if affinity and affinity.node_affinity else {}
    return PodRecipe(
        container=COMPONENT,
        image=workers.image or image,
        arguments=("agent",),
        labels=worker_labels(training, pool.name, attempt),
        config_map=run_config_name(training),
        agent_url=agent_url,
        resources=workers.resources,
        template=workers.template,
        environment=_environment(training, pool, attempt),
        mounts=_mounts(training),
        node_selector=pool.node_selector,
        node_affinity=node_affinity(pool.capacity, theirs),
        tolerations=_tolerations(pool),
        restart_policy="Never",
        grace_seconds=GRACE_SECONDS[pool.capacity],
        subdomain=workers_name(training),
    )


def _environment(training: TrainingCustomResource, pool: PoolSpec, attempt: int) -> dict[str, str]:
    workers = training.spec.workers
    return {
        ENV_ATTEMPT: str(attempt),
        ENV_POOL: pool.name,
        ENV_PROCESSES: str(workers.processes_per_worker),
        ENV_CONFIG_FILE: f"{CONFIG_DIRECTORY}/{RUN_CONFIG_KEY}",
        "OMP_NUM_THREADS": str(threads(workers.resources.limits, workers.processes_per_worker)),
    }


def _mounts(training: TrainingCustomResource) -> tuple[Mount, ...]:
    def claim(name: str) -> dict[str, Any]:
        return {"persistentVolumeClaim": {"claimName": name}}

    checkpoints = checkpoint_claim(training)
    mounts = [Mount("diffusion-checkpoints", claim(checkpoints), CHECKPOINT_DIRECTORY)]
    if models := model_claim(training):
        mounts.append(Mount("diffusion-models", claim(models), f"{MODELS_DIRECTORY}/{models}"))
    return tuple(mounts)


def _tolerations(pool: PoolSpec) -> list[Mapping[str, Any]]:
    loss: list[Mapping[str, Any]] = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_LOSS_SECONDS}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]
    spot = SPOT_TOLERATIONS if pool.capacity == "Spot" else ()
    return [*loss, *spot, *(toleration.to_wire() for toleration in pool.tolerations)]
