"""What the objects of a DiffusionService say to Kubernetes."""

import json
from typing import Any

import pytest

from diffusion_contract.agent_messages import RouterInstruction
from diffusion_contract.names import KEYS_DIRECTORY, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL
from diffusion_contract.serving_config import EngineConfig, RouterConfig, SamplingSpec
from diffusion_operator.api.pod_template import LocalReference
from diffusion_operator.api.resources import ResourcesSpec
from diffusion_operator.api.service_revision import RevisionSpec
from diffusion_operator.children.engine_deployment import engine_deployment
from diffusion_operator.children.engine_service import engine_service
from diffusion_operator.children.metadata import Owner
from diffusion_operator.children.router_deployment import router_deployment
from diffusion_operator.children.router_service import router_service
from diffusion_operator.children.service_disruption_budget import engine_disruption_budget, router_disruption_budget
from diffusion_operator.children.serving_config_map import (
    engine_config_map,
    route_to,
    router_config,
    router_config_map,
)

OWNER = Owner("DiffusionService", "digits", "vision", "uid-1")
DIGEST = "sha256:" + "a" * 64
REVISION = RevisionSpec(model=f"pvc://models/digits@{DIGEST}", image="server:1")


def engine() -> dict[str, Any]:
    return engine_deployment(OWNER, REVISION, 3, "keys", "https://agents:8443")


def router() -> dict[str, Any]:
    pull = [LocalReference(name="registry")]
    return router_deployment(OWNER, "router:1", "keys", SamplingSpec(), pull, "https://agents:8443")


def children() -> list[dict[str, Any]]:
    return [
        engine(),
        router(),
        engine_service(OWNER, REVISION.digest),
        router_service(OWNER),
        engine_disruption_budget(OWNER, REVISION.digest),
        router_disruption_budget(OWNER),
        engine_config_map(OWNER, REVISION),
        router_config_map(OWNER, router_config(OWNER, SamplingSpec(), RouterInstruction()), "PEM"),
    ]


@pytest.mark.parametrize("child", children(), ids=lambda child: f"{child['kind']} {child['metadata']['name']}")
def test_each_is_labelled_owned_and_named_by_the_owners_uid(child: dict[str, Any]) -> None:
    metadata = child["metadata"]
    assert metadata["labels"][MANAGED_BY_LABEL] == MANAGED_BY
    assert metadata["labels"][SERVICE_LABEL] == "digits"
    assert metadata["namespace"] == "vision"
    assert metadata["ownerReferences"][0]["uid"] == "uid-1"
    assert metadata["ownerReferences"][0]["controller"] is True
    assert len(metadata["name"]) <= 63


@pytest.mark.parametrize("made", [engine(), router()], ids=["engine", "router"])
def test_selectors_find_the_pods_and_no_others(made: dict[str, Any]) -> None:
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    other = (router() if made["metadata"]["name"] == engine()["metadata"]["name"] else engine())["spec"]["template"]
    assert not made["spec"]["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items()


def test_services_and_budgets_select_the_pods() -> None:
    pairs = (
        (engine(), engine_service(OWNER, REVISION.digest)["spec"]["selector"]),
        (router(), router_service(OWNER)["spec"]["selector"]),
        (engine(), engine_disruption_budget(OWNER, REVISION.digest)["spec"]["selector"]["matchLabels"]),
        (router(), router_disruption_budget(OWNER)["spec"]["selector"]["matchLabels"]),
    )
    for deployment, selector in pairs:
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("made", [engine(), router()], ids=["engine", "router"])
def test_no_pod_is_stopped_before_its_successor_is_ready(made: dict[str, Any]) -> None:
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("made", [engine(), router()], ids=["engine", "router"])
def test_doors_are_probed_and_know_the_keys(made: dict[str, Any]) -> None:
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["serve"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz", "a start that hangs is alive all the while"
    assert KEYS_DIRECTORY in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"name": "diffusion-keys", "secret": {"secretName": "keys"}} in made["spec"]["template"]["spec"]["volumes"]


def test_the_model_is_mounted_for_reading_only() -> None:
    spec = engine()["spec"]["template"]["spec"]
    mount = next(one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "diffusion-model")
    assert mount == {"name": "diffusion-model", "mountPath": "/var/lib/diffusion/models/models", "readOnly": True}
    volume = next(one for one in spec["volumes"] if one["name"] == "diffusion-model")
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}


def test_threads_follow_the_cpu_limit() -> None:
    limited = REVISION.model_copy(update={"resources": ResourcesSpec(limits={"cpu": "2500m"})})
    (container,) = engine_deployment(OWNER, limited, 1, "keys", "u")["spec"]["template"]["spec"]["containers"]
    assert {"name": "OMP_NUM_THREADS", "value": "2"} in container["env"]
    (free,) = engine()["spec"]["template"]["spec"]["containers"]
    assert "OMP_NUM_THREADS" not in {variable["name"] for variable in free["env"]}


def test_engines_read_back_what_was_written() -> None:
    made = engine_config_map(OWNER, REVISION)
    assert made["immutable"] is True
    config = EngineConfig.model_validate_json(made["data"]["engine.json"])
    assert (config.service, config.revision, config.model) == ("digits", REVISION.digest, REVISION.model)
    assert RevisionSpec.model_validate_json(made["data"]["revision.json"]) == REVISION


def test_routers_read_back_what_was_written() -> None:
    route = route_to(OWNER, REVISION.digest, DIGEST)
    made = router_config_map(
        OWNER,
        router_config(OWNER, SamplingSpec(), RouterInstruction(routes=(route,), since="2026-01-01T00:00:00Z")),
        "PEM",
    )
    assert "immutable" not in made
    assert RouterConfig.model_validate_json(made["data"]["router.json"]).routes == (route,)
    assert made["data"]["agent-ca.crt"] == "PEM"
    assert route.host == f"{engine_service(OWNER, REVISION.digest)['metadata']['name']}.vision.svc"


def test_a_renewed_authority_restarts_no_pod() -> None:
    assert "PEM" not in json.dumps([engine(), router()])


def test_routers_take_the_pull_secrets_and_spread_out() -> None:
    spec = router()["spec"]["template"]["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert router()["spec"]["replicas"] == 2
