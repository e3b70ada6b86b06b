"""Every child of either kind on a real API server: deleted or edited by hand, it is soon as it was."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from crash_scenarios import ROLLED_OUT, training
from diffusion_contract.names import MANAGED_BY_LABEL
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.resources import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    SERVICE,
    TRAINING,
    Resource,
)
from diffusion_operator.observe.snapshot import Raw
from operator_harness import until
from operator_scene import Scene, scene

KINDS = (SERVICE, CONFIG_MAP, DISRUPTION_BUDGET, DEPLOYMENT, JOB)
EDITS: Mapping[Resource, tuple[Callable[[Raw], Raw], tuple[str, ...]]] = {
    SERVICE: (lambda _: {"spec": {"selector": {"a": "b"}}}, ("spec", "selector")),
    CONFIG_MAP: (lambda item: {"data": dict.fromkeys(item["data"], "{}")}, ("data",)),
    DISRUPTION_BUDGET: (lambda _: {"spec": {"minAvailable": None, "maxUnavailable": 5}}, ("spec",)),
    DEPLOYMENT: (lambda _: {"spec": {"replicas": 7}}, ("spec", "replicas")),
    JOB: (lambda _: {"spec": {"completions": 3, "parallelism": 3}}, ("spec",)),
    CLAIM: (lambda _: {"metadata": {"labels": {MANAGED_BY_LABEL: None}}}, ("metadata", "labels")),
}
"""For each kind a change that somebody could make, and the part of the object by which it is seen."""


async def both_kinds(stage: Scene) -> None:
    """A service that serves, and a training whose workers wait for a node."""
    for resource, item in ROLLED_OUT.objects:
        await stage.create(resource, item)
    await stage.create(TRAINING, training("run"))
    await until(lambda: stage.reason("DiffusionService") == "Serving", 60, "a service that serves")
    await until(lambda: len(stage.objects("Job")) == 2, 60, "the Jobs of a training")
    await stage.settled()


def ours(stage: Scene, resource: Resource) -> dict[str, Raw]:
    """By name, the objects of a kind that belong to one of the two custom resources and stay."""
    found = {}
    for item in stage.objects(resource.kind):
        owners = {owner["kind"] for owner in item["metadata"].get("ownerReferences", ())}
        if owners & {"DiffusionTraining", "DiffusionService"} and "deletionTimestamp" not in item["metadata"]:
            found[item["metadata"]["name"]] = item
    return found


async def test_each_child_that_is_deleted_by_hand_comes_back(control_plane: Cluster, namespace: str) -> None:
    async with scene(control_plane, namespace) as stage:
        await both_kinds(stage)
        before = {resource: ours(stage, resource) for resource in KINDS}
        assert {resource.kind: len(found) for resource, found in before.items()} == {
            "Service": 3,
            "ConfigMap": 3,
            "PodDisruptionBudget": 3,
            "Deployment": 2,
            "Job": 2,
        }
        for resource, found in before.items():
            for name in found:
                await stage.client.call("DELETE", resource.path(namespace, name), {"propagationPolicy": "Background"})

        def are_back() -> bool:
            return all(
                name in (there := ours(stage, resource)) and there[name]["metadata"]["uid"] != old["metadata"]["uid"]
                for resource, found in before.items()
                for name, old in found.items()
            )

        await until(are_back, 60, "all children anew, under the same names")


async def test_each_child_that_is_edited_by_hand_is_put_right(control_plane: Cluster, namespace: str) -> None:
    async with scene(control_plane, namespace) as stage:
        await both_kinds(stage)
        for resource, (patch, path) in EDITS.items():
            changeable = [item for item in ours(stage, resource).values() if not item.get("immutable")]
            assert changeable
            for item in changeable:
                await stage.edit(resource, item, patch(item))
                await until_put_right(stage, resource, item, path)


async def until_put_right(stage: Scene, resource: Resource, item: Raw, path: tuple[str, ...]) -> None:
    """Wait until an object is as it was, in a version that came after the edit."""
    name, before = item["metadata"]["name"], part_of(item, path)
    for _ in range(600):
        found = await stage.client.get(resource, stage.namespace, name)
        newer = found is not None and found["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]
        if newer and part_of(found, path) == before:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{resource.kind} {name} stays edited: {part_of(found, path)}")


def part_of(item: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of an object."""
    for name in path:
        item = (item or {}).get(name)
    return item
