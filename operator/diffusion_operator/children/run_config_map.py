"""The ConfigMap that every worker reads: the run (`run.json`) and whom to trust at the agent API (`agent-ca.crt`).

Mounted files follow a ConfigMap by themselves, so a renewed authority or a later target step restarts no pod.
"""

import json

from diffusion_contract.names import AGENT_CA_KEY
from diffusion_contract.run_config import RUN_CONFIG_KEY, CheckpointSpec, PublishTarget, RunConfig
from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.metadata import Manifest, child_metadata
from diffusion_operator.children.training_names import model_claim, owner_of, run_config_name, training_labels


def run_config(training: TrainingCustomResource) -> RunConfig:
    """What the pods of `training` read, the same for every worker and every attempt."""
    spec = training.spec
    return RunConfig(
        name=training.name,
        namespace=training.namespace,
        uid=training.uid,
        model=spec.model,
        diffusion=spec.diffusion,
        dataset=spec.dataset,
        training=spec.training,
        checkpoint=CheckpointSpec(
            interval=spec.checkpoint.interval,
            on_preemption=spec.checkpoint.on_preemption,
            retain=spec.checkpoint.retain,
        ),
        publish=_publish_target(training),
    )


def _publish_target(training: TrainingCustomResource) -> PublishTarget | None:
    publish, claim = training.spec.publish, model_claim(training)
    if publish is None or claim is None:
        return None
    return PublishTarget(
        claim=claim,
        name=publish.name or training.name,
        license=publish.card.license,
        intended_use=publish.card.intended_use,
    )


def run_config_map(training: TrainingCustomResource, agent_ca: str) -> Manifest:
    """The ConfigMap; `agent_ca` is PEM and may hold two authorities while one replaces the other."""
    document = json.dumps(run_config(training).to_wire(), indent=1, sort_keys=True)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(owner_of(training), run_config_name(training), training_labels(training)),
        "data": {RUN_CONFIG_KEY: document, AGENT_CA_KEY: agent_ca},
    }
