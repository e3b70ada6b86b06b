"""The pod that every workload gets: the `restricted` Pod Security level, and nothing that a template could undo."""

from typing import Any

from diffusion_operator.api.pod_template import PodTemplate
from diffusion_operator.api.resources import ResourcesSpec
from diffusion_operator.children.pod import Mount, PodRecipe, pod_template


def made(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "container": "trainer",
        "image": "trainer:1",
        "arguments": ("agent",),
        "labels": {"diffusion.dev/training": "digits"},
        "config_map": "digits-run",
        "agent_url": "https://agents:8443",
    }
    return pod_template(PodRecipe(**(facts | changes)))


def test_the_pod_is_restricted() -> None:
    spec = made()["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_agent_can_reach_and_trust_the_operator() -> None:
    spec = made()["spec"]
    volumes = {one["name"]: one for one in spec["volumes"]}
    mounts = {one["mountPath"]: one["name"] for one in spec["containers"][0]["volumeMounts"]}
    (source,) = volumes[mounts["/var/run/secrets/diffusion.dev/agent"]]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "diffusion.dev/agent"
    assert volumes[mounts["/etc/diffusion/config"]]["configMap"] == {"name": "digits-run"}
    assert "emptyDir" in volumes[mounts["/tmp"]]


def test_the_pod_knows_itself_by_the_downward_api() -> None:
    fields = {
        one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in made()["spec"]["containers"][0]["env"]
        if "valueFrom" in one
    }
    assert fields["DIFFUSION_POD_UID"] == "metadata.uid"
    assert fields["DIFFUSION_NODE_NAME"] == "spec.nodeName"


def test_a_template_adds_but_never_takes_away() -> None:
    template = PodTemplate.model_validate(
        {
            "labels": {"team": "vision"},
            "annotations": {"note": "x"},
            "nodeSelector": {"zone": "a", "disk": "ssd"},
            "env": [{"name": "OMP_NUM_THREADS", "value": "3"}, {"name": "EXTRA", "value": "1"}],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "topologySpreadConstraints": [{"topologyKey": "zone"}],
            "runtimeClassName": "nvidia",
        }
    )
    pod = made(template=template, environment={"OMP_NUM_THREADS": "1"}, node_selector={"zone": "b"})
    container = pod["spec"]["containers"][0]
    names = [one["name"] for one in container["env"]]
    assert pod["metadata"]["labels"] == {"team": "vision", "diffusion.dev/training": "digits"}
    assert pod["metadata"]["annotations"] == {"note": "x"}
    assert pod["spec"]["nodeSelector"] == {"zone": "b", "disk": "ssd"}
    assert names.count("OMP_NUM_THREADS") == 1
    assert {"name": "OMP_NUM_THREADS", "value": "3"} in container["env"]
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == {"matchLabels": {"diffusion.dev/training": "digits"}}
    assert pod["spec"]["runtimeClassName"] == "nvidia"


def test_what_is_empty_is_left_out() -> None:
    spec = made()["spec"]
    assert not {"nodeSelector", "tolerations", "affinity", "subdomain", "imagePullSecrets"} & spec.keys()
    assert not {"resources", "ports"} & spec["containers"][0].keys()


def test_ports_probes_and_mounts_are_the_recipes() -> None:
    spec = made(
        ports={"http": 8000},
        probes={"readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}}},
        mounts=[Mount("diffusion-models", {"emptyDir": {}}, "/models", read_only=True)],
        resources=ResourcesSpec(limits={"cpu": "1"}),
        subdomain="workers",
        restart_policy="Never",
        grace_seconds=15,
    )["spec"]
    container = spec["containers"][0]
    assert container["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {"name": "diffusion-models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert container["resources"] == {"limits": {"cpu": "1"}}
    assert (spec["subdomain"], spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("workers", "Never", 15)
