"""The operator's roles list every verb that it uses, and no other. What it uses is asked of the code itself."""

from collections import defaultdict
from typing import Any

from chart_rendering import named, render
from custom_resource_tables import training
from diffusion_operator.kube.resources import (
    ACCESS_REVIEW,
    CHILDREN,
    CUSTOM_RESOURCES,
    EVENT,
    LEASE,
    NODE,
    POD,
    SECRET,
    TOKEN_REVIEW,
    Resource,
    resource_of,
)
from diffusion_operator.loop.settings import CERTIFICATE_SECRET, LEASE_NAME
from diffusion_operator.plan.service_kind import SERVICE
from diffusion_operator.plan.training_kind import TRAINING
from service_simulation import Simulation, model, stored, training_children

Rights = dict[tuple[str, str], set[str]]


def _group(resource: Resource) -> str:
    return resource.api_version.rpartition("/")[0]


def _granted(role: dict[str, Any]) -> Rights:
    rights: Rights = defaultdict(set)
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                rights[(group, resource)] |= set(rule["verbs"])
    return dict(rights)


def _applied_and_deleted() -> tuple[set[Resource], set[Resource]]:
    """The kinds in the plans of a whole service rollout and of a training that publishes; attempts end Jobs."""
    simulation = Simulation()
    simulation.reconcile()
    simulation.settle()
    simulation.change(model={"ref": model("b")})
    simulation.settle()
    simulation.settle()
    made = [one for plan in simulation.plans for one in plan.apply]
    made += training_children(stored(training(spec__publish={"claim": {"size": "1Gi"}})))
    applied = {resource_of(one["apiVersion"], one["kind"]) for one in made}
    deleted = {resource_of(one.api_version, one.kind) for plan in simulation.plans for one in plan.delete}
    return applied, deleted | {resource_of("batch/v1", "Job")}


def _referenced() -> set[Resource]:
    claim = {"existingClaim": "a"}
    raws = (
        (TRAINING, stored(training(spec__checkpoint__storage=claim, spec__publish=claim))),
        (SERVICE, Simulation().raw),
    )
    found = {resource_of(ref.api_version, ref.kind) for kind, raw in raws for ref in kind.references(raw)}
    return found - set(CUSTOM_RESOURCES)


def test_the_role_for_workloads_lists_what_is_used() -> None:
    used: Rights = defaultdict(set)
    for resource in (*CHILDREN, *CUSTOM_RESOURCES):
        used[(_group(resource), resource.plural)] |= {"list", "watch"}
    for resource in CUSTOM_RESOURCES:
        used[(_group(resource), resource.plural)] |= {"get"}  # Whether it is there still, when a child of it went.
        used[(_group(resource), f"{resource.plural}/status")] |= {"update"}
    applied, deleted = _applied_and_deleted()
    for resource in applied:
        used[(_group(resource), resource.plural)] |= {"create", "patch"}
    for resource in deleted:
        used[(_group(resource), resource.plural)] |= {"delete"}
    for resource in _referenced():
        used[(_group(resource), resource.plural)] |= {"get"}
    used[(_group(EVENT), EVENT.plural)] = {"get", "list", "create", "patch"}
    assert _granted(named(render(), "ClusterRole")) == dict(used)


def test_the_role_for_the_cluster_lists_what_is_used() -> None:
    assert _granted(named(render(), "ClusterRole", "diffusion-operator-cluster")) == {
        (_group(NODE), NODE.plural): {"list", "watch"},
        (_group(TOKEN_REVIEW), TOKEN_REVIEW.plural): {"create"},
        (_group(ACCESS_REVIEW), ACCESS_REVIEW.plural): {"create"},
    }


def test_the_role_at_home_names_its_objects() -> None:
    role = named(render(), "Role")
    assert _granted(role) == {
        (_group(LEASE), LEASE.plural): {"create", "get", "update"},
        (_group(SECRET), SECRET.plural): {"create", "get", "update"},
        (_group(POD), POD.plural): {"patch"},
    }
    for rule in role["rules"]:
        if "create" not in rule["verbs"] and rule["resources"] != [POD.plural]:
            assert rule["resourceNames"] in ([LEASE_NAME], [CERTIFICATE_SECRET])


def test_no_rule_has_a_star() -> None:
    for one in render():
        for rule in one.get("rules", []) if one["kind"] in ("Role", "ClusterRole") else []:
            assert "*" not in {*rule["verbs"], *rule.get("resources", []), *rule.get("apiGroups", [])}
