"""The ConfigMaps of a DiffusionService: what engines and routers read when they start."""

import json

from diffusion_contract.agent_messages import Route, RouterInstruction
from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.names import AGENT_CA_KEY, ENGINE_PORT
from diffusion_contract.serving_config import EngineConfig, RouterConfig, SamplingSpec
from diffusion_operator.api.service_revision import REVISION_KEY, RevisionSpec
from diffusion_operator.children.metadata import Manifest, Owner, child_metadata
from diffusion_operator.children.service_names import (
    ROUTER,
    engine_host,
    engine_name,
    revision_labels,
    router_name,
    service_labels,
)

ENGINE_CONFIG_KEY = "engine.json"
ROUTER_CONFIG_KEY = "router.json"


def engine_config_map(owner: Owner, revision: RevisionSpec) -> Manifest:
    """Immutable, as the revision is: another configuration is another revision with a ConfigMap of its own."""
    config = EngineConfig(
        service=owner.name,
        namespace=owner.namespace,
        revision=revision.digest,
        model=revision.model,
        sampling=revision.sampling,
        max_batch=revision.max_batch,
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(owner, engine_name(owner, revision.digest), revision_labels(owner, revision.digest)),
        "immutable": True,
        "data": {ENGINE_CONFIG_KEY: _text(config), REVISION_KEY: _text(revision)},
    }


def route_to(owner: Owner, revision: str, model_digest: str) -> Route:
    """All requests to the engines of one revision."""
    return Route(revision=revision, host=engine_host(owner, revision), port=ENGINE_PORT, model_digest=model_digest)


def router_config(owner: Owner, sampling: SamplingSpec, told: RouterInstruction) -> RouterConfig:
    """What a router starts from; newer routes reach it over the agent channel, or in this file while that is down."""
    return RouterConfig(
        service=owner.name,
        namespace=owner.namespace,
        sampling=sampling,
        routes=told.routes,
        since=told.since,
    )


def router_config_map(owner: Owner, config: RouterConfig, agent_ca: str) -> Manifest:
    """Not immutable: mounted files follow it, so a renewed authority restarts no router, and a route restarts none.

    Routers read `router.json` again whenever the operator does not answer them.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(owner, router_name(owner), service_labels(owner, ROUTER)),
        "data": {ROUTER_CONFIG_KEY: _text(config), AGENT_CA_KEY: agent_ca},
    }


def _text(document: FrozenModel) -> str:
    return json.dumps(document.to_wire(), indent=1, sort_keys=True)
