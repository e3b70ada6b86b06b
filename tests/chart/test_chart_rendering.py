"""What the chart makes of its values, and which values it refuses."""

from importlib.metadata import version
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from chart_rendering import CHART, NAMESPACE, helm, named, render
from custom_resource_tables import CRDS
from diffusion_contract.names import AGENT_PORT, HEALTH_PORT, MANAGED_BY, MANAGED_BY_LABEL, METRICS_PORT
from diffusion_operator.cli.operator_command import main
from diffusion_operator.loop.settings import CERTIFICATE_SECRET, LEADER_LABEL, LEASE_NAME


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return render()


def test_the_charts_crds_are_those_of_the_repository() -> None:
    packaged = {path.name: path.read_text() for path in (CHART / "files" / "crds").iterdir()}
    assert packaged == {path.name: path.read_text() for path in CRDS.iterdir()}


def test_versions_are_those_of_the_distribution() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version("diffusion-operator")


def test_lint_finds_nothing() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_crds_stay_on_uninstall_and_can_be_left_out(objects: list[dict[str, Any]]) -> None:
    crds = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 2
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in crds} == {"keep"}
    assert not [one for one in render("crds.install=false") if one["kind"] == "CustomResourceDefinition"]


def test_the_operator_runs_restricted_and_is_probed(objects: list[dict[str, Any]]) -> None:
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["args"] == ["run"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"agents": AGENT_PORT, "health": HEALTH_PORT, "metrics": METRICS_PORT}


def test_every_variable_is_one_that_the_command_reads(objects: list[dict[str, Any]]) -> None:
    (container,) = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    known = CliRunner().invoke(main, ["run", "--help"]).output + "POD_NAMESPACE"
    for variable in container["env"]:
        assert variable["name"] in known, variable["name"]


def test_agents_reach_the_leader_only(objects: list[dict[str, Any]]) -> None:
    service = named(objects, "Service", "diffusion-operator-agents")
    assert service["spec"]["selector"][LEADER_LABEL] == "true"
    (container,) = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert env["DIFFUSION_AGENT_URL"] == f"https://diffusion-operator-agents.{NAMESPACE}.svc:{AGENT_PORT}"


def test_the_operators_own_pods_are_not_taken_for_its_children(objects: list[dict[str, Any]]) -> None:
    for one in objects:
        assert one["metadata"].get("labels", {}).get(MANAGED_BY_LABEL) != MANAGED_BY
    template = named(objects, "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"].get(MANAGED_BY_LABEL) != MANAGED_BY


def test_only_workload_pods_reach_the_agent_api(objects: list[dict[str, Any]]) -> None:
    agents, metrics = named(objects, "NetworkPolicy")["spec"]["ingress"]
    assert agents["from"][0]["podSelector"]["matchLabels"] == {MANAGED_BY_LABEL: MANAGED_BY}
    assert "from" not in metrics
    limited = render("networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=ops")
    assert named(limited, "NetworkPolicy")["spec"]["ingress"][1]["from"]
    assert not [one for one in render("networkPolicy.enabled=false") if one["kind"] == "NetworkPolicy"]


def test_a_budget_comes_with_the_second_replica(objects: list[dict[str, Any]]) -> None:
    assert not [one for one in objects if one["kind"] == "PodDisruptionBudget"]
    assert named(render("replicas=2"), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_images_take_registry_tag_and_digest() -> None:
    digest = "sha256:" + "a" * 64
    objects = render(
        "image.registry=registry.example.org/team/", f"image.server.digest={digest}", "image.router.tag=v7"
    )
    (container,) = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    root = "registry.example.org/team/diffusion-operator"
    assert container["image"] == f"{root}/operator:{version('diffusion-operator')}"
    assert env["DIFFUSION_SERVER_IMAGE"] == f"{root}/server@{digest}"
    assert env["DIFFUSION_ROUTER_IMAGE"] == f"{root}/router:v7"


def test_a_list_of_namespaces_gives_rights_in_these_only() -> None:
    objects = render("watchNamespaces={one,two}")
    bindings = [one for one in objects if one["kind"] == "RoleBinding" and one["roleRef"]["kind"] == "ClusterRole"]
    assert [one["metadata"]["namespace"] for one in bindings] == ["one", "two"]
    cluster_wide = [one["roleRef"]["name"] for one in objects if one["kind"] == "ClusterRoleBinding"]
    assert cluster_wide == ["diffusion-operator-cluster"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("replicas=-1", "/replicas"),
        ("replica=2", "replica"),
        ("logLevel=LOUD", "/logLevel"),
        ("image.operator.digest=latest", "/image/operator/digest"),
        ("image.registry=https://registry.example.org", "/image/registry"),
        ("watchNamespaces={A_B}", "/watchNamespaces/0"),
        ("workers=0", "/workers"),
        ("image=null", "missing property 'image'"),
        ("image.operator.repository=a:b", "/image/operator/repository"),
        ("image.pullSecrets={A_B}", "/image/pullSecrets/0"),
        ("serviceAccount.name=A_B", "/serviceAccount/name"),
        ("podAnnotations.port=9090", "/podAnnotations/port"),
        ("nodeSelector.gpu=true", "/nodeSelector/gpu"),
        (r"podLabels.app\.kubernetes\.io/name=other", "/podLabels/app.kubernetes.io"),
        (r"podLabels.diffusion\.dev/leader=x", "/podLabels/diffusion.dev"),
    ],
)
def test_wrong_values_are_refused_by_name(value: str, words: str) -> None:
    done = helm("template", "x", str(CHART), "--set", value)
    assert done.returncode != 0
    assert words in done.stderr, done.stderr


def test_names_that_yaml_takes_for_numbers_stay_names() -> None:
    """Namespaces are called after pull requests, and Secrets after years."""
    objects = render(
        'watchNamespaces=["12", "1e3", "null"]',
        'image.pullSecrets=["2026"]',
        'priorityClassName="100"',
        'serviceAccount.name="0"',
        release="7",
        namespace="1234",
        flag="--set-json",
    )
    for one in objects:
        metadata = one["metadata"]
        names = [metadata["name"], metadata.get("namespace", ""), *metadata.get("labels", {}).values()]
        names += [value for subject in one.get("subjects", ()) for value in subject.values()]
        assert all(isinstance(name, str) for name in names), (one["kind"], names)
    pod = named(objects, "Deployment", "7-diffusion-operator")["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("0", "100")
    assert pod["imagePullSecrets"] == [{"name": "2026"}]


def test_a_release_with_dots_names_services_without() -> None:
    services = [one["metadata"]["name"] for one in render(release="team.a") if one["kind"] == "Service"]
    assert services == ["team-a-diffusion-operator-agents", "team-a-diffusion-operator-metrics"]


def test_every_value_is_explained() -> None:
    readme = (CHART / "README.md").read_text()
    for name, value in yaml.safe_load((CHART / "values.yaml").read_text()).items():
        assert f"`{name}" in readme, name
        for inner in value if isinstance(value, dict) and name not in ("image", "resources") else ():
            assert inner in readme, f"{name}.{inner}"


def test_what_the_operator_keeps_goes_with_the_release_and_is_filled_by_nobody_else(
    objects: list[dict[str, Any]],
) -> None:
    for kind, name in (("Lease", LEASE_NAME), ("Secret", CERTIFICATE_SECRET)):
        kept = named(objects, kind, name)
        assert kept["metadata"]["namespace"] == NAMESPACE
        assert not {"spec", "data", "stringData"} & kept.keys(), "an upgrade must leave the content alone"
