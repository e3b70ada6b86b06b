"""The Deployment of one revision: engine pods that hold one model version and draw with it."""

from diffusion_contract.names import (
    CONFIG_DIRECTORY,
    ENGINE_PORT,
    ENV_CONFIG_FILE,
    METRICS_PORT,
    MODELS_DIRECTORY,
)
from diffusion_operator.api.service_revision import RevisionSpec
from diffusion_operator.children.metadata import Manifest, Owner
from diffusion_operator.children.pod import Mount, PodRecipe, pod_template
from diffusion_operator.children.service_names import ENGINE, engine_name, revision_labels
from diffusion_operator.children.serving_config_map import ENGINE_CONFIG_KEY
from diffusion_operator.children.serving_pod import deployment, keys_mount, probes
from diffusion_operator.children.threads import threads

STARTUP_SECONDS = 600
"""How long verifying, loading and warming up a model may take before the container is started again."""
GRACE_SECONDS = 45
"""From SIGTERM to SIGKILL: time to finish the images that are being drawn."""


def engine_deployment(owner: Owner, revision: RevisionSpec, replicas: int, keys: str, agent_url: str) -> Manifest:
    """`replicas` engine pods; `keys` is the Secret that says who may ask.

    Replicas and keys are no part of the revision: a change of them changes this Deployment and makes no other.
    """
    name, labels = engine_name(owner, revision.digest), revision_labels(owner, revision.digest)
    recipe = PodRecipe(
        container=ENGINE,
        image=revision.image,
        arguments=("serve",),
        labels=labels,
        config_map=name,
        agent_url=agent_url,
        resources=revision.resources,
        template=revision.template,
        environment=_environment(revision),
        mounts=(keys_mount(keys), _model_mount(revision.reference.claim)),
        ports={"http": ENGINE_PORT, "metrics": METRICS_PORT},
        probes=probes("http", STARTUP_SECONDS),
        grace_seconds=GRACE_SECONDS,
    )
    return deployment(owner, name, labels, replicas, pod_template(recipe))


def _environment(revision: RevisionSpec) -> dict[str, str]:
    environment = {ENV_CONFIG_FILE: f"{CONFIG_DIRECTORY}/{ENGINE_CONFIG_KEY}"}
    if "cpu" in revision.resources.limits:
        environment["OMP_NUM_THREADS"] = str(threads(revision.resources.limits, processes=1))
    return environment


def _model_mount(claim: str) -> Mount:
    source = {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    return Mount("diffusion-model", source, f"{MODELS_DIRECTORY}/{claim}", read_only=True)
