"""The Deployment of the routers: two small pods that check keys and send each request to a ready engine."""

from collections.abc import Sequence

from diffusion_contract.names import (
    CONFIG_DIRECTORY,
    ENV_CONFIG_FILE,
    METRICS_PORT,
    ROUTER_PORT,
    STATE_DIRECTORY,
)
from diffusion_contract.serving_config import SamplingSpec
from diffusion_operator.api.affinity import TopologySpreadConstraint
from diffusion_operator.api.pod_template import LocalReference, PodTemplate
from diffusion_operator.api.resources import ResourcesSpec
from diffusion_operator.children.metadata import Manifest, Owner, spec_hash
from diffusion_operator.children.pod import Mount, PodRecipe, pod_template
from diffusion_operator.children.service_names import ROUTER, router_name, service_labels
from diffusion_operator.children.serving_config_map import ROUTER_CONFIG_KEY
from diffusion_operator.children.serving_pod import deployment, keys_mount, probes

REPLICAS = 2
"""One may be lost or replaced at any time."""
STARTUP_SECONDS = 120
GRACE_SECONDS = 45
SAMPLING_ANNOTATION = "diffusion.dev/sampling-hash"
"""On router pods: routers read service classes when they start, so other classes need other pods."""

_RESOURCES = ResourcesSpec(requests={"cpu": "50m", "memory": "96Mi"}, limits={"memory": "512Mi"})
_APART = TopologySpreadConstraint(topology_key="kubernetes.io/hostname", when_unsatisfiable="ScheduleAnyway")


def router_deployment(
    owner: Owner,
    image: str,
    keys: str,
    sampling: SamplingSpec,
    pull_secrets: Sequence[LocalReference],
    agent_url: str,
) -> Manifest:
    """The router pods. Of the user's template they take the pull secrets only: the rest is for engines."""
    name, labels = router_name(owner), service_labels(owner, ROUTER)
    recipe = PodRecipe(
        container=ROUTER,
        image=image,
        arguments=("serve",),
        labels=labels,
        config_map=name,
        agent_url=agent_url,
        resources=_RESOURCES,
        template=PodTemplate(topology_spread_constraints=(_APART,), image_pull_secrets=tuple(pull_secrets)),
        environment={ENV_CONFIG_FILE: f"{CONFIG_DIRECTORY}/{ROUTER_CONFIG_KEY}"},
        mounts=(keys_mount(keys), Mount("diffusion-state", {"emptyDir": {}}, STATE_DIRECTORY)),
        ports={"http": ROUTER_PORT, "metrics": METRICS_PORT},
        probes=probes("http", STARTUP_SECONDS),
        grace_seconds=GRACE_SECONDS,
    )
    template = pod_template(recipe)
    sampling_hash = spec_hash(sampling.model_dump(mode="json", exclude_defaults=True))
    metadata = template["metadata"] | {"annotations": {SAMPLING_ANNOTATION: sampling_hash}}
    return deployment(owner, name, labels, REPLICAS, {**template, "metadata": metadata})
