"""Operators without their shell on a real API server: repairs, rest, and two at once."""

import asyncio
import contextlib
import copy
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import diffusion_operator.plan.service_routing
from crash_runs import Outcome, Run
from crash_scenarios import ROLLED_OUT, TRAINED, Scenario, service, training
from custom_resource_tables import install_crds
from diffusion_contract.names import TRAINING_LABEL
from diffusion_local.cluster import Cluster
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    MODEL_SERVICE,
    NODE,
    POD,
    SERVICE,
    TRAINING,
    Resource,
)
from diffusion_operator.observe.snapshot import Raw
from end_state import differences
from operator_harness import Bench, Witness, client_for, until
from operator_scene import Scene, scene


async def served(stage: Scene) -> None:
    """A service with its children up."""
    for resource, item in ROLLED_OUT.objects:
        await stage.create(resource, item)
    await until(lambda: len(stage.objects("Deployment")) == 2, 20, "two Deployments")
    await stage.settled()


def with_a_value_from_elsewhere(deployment: Raw) -> Raw:
    """A patch by which a variable of the container gets its value from elsewhere; beside our value that is invalid."""
    containers = copy.deepcopy(deployment["spec"]["template"]["spec"]["containers"])
    variable = next(one for one in containers[0]["env"] if one.pop("value", None))
    variable["valueFrom"] = {"fieldRef": {"fieldPath": "metadata.name"}}
    return {"spec": {"template": {"spec": {"containers": containers}}}}


@pytest.mark.parametrize(
    ("resource", "patch"),
    [
        (SERVICE, {"spec": {"ports": [{"name": "http", "port": 81}]}}),
        (SERVICE, lambda victim: {"spec": {"ports": [*victim["spec"]["ports"], {"name": "more", "port": 99}]}}),
        (DEPLOYMENT, with_a_value_from_elsewhere),
        (DISRUPTION_BUDGET, {"spec": {"minAvailable": None, "maxUnavailable": 5}}),
        (DEPLOYMENT, {"spec": {"replicas": 7}}),
        (DEPLOYMENT, {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}}),
        (SERVICE, {"spec": {"selector": {"app.kubernetes.io/component": "elsewhere"}}}),
        (CONFIG_MAP, {"metadata": {"ownerReferences": None}}),
        (DEPLOYMENT, {"metadata": {"annotations": {"diffusion.dev/spec-hash": None}}}),
        (DEPLOYMENT, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    ],
    ids=[
        *("port", "one-port-more", "value", "budget"),
        *("replicas", "template", "selector", "owner", "stamp", "managed-by"),
    ],
)
async def test_a_child_that_is_edited_by_hand_is_put_right(
    control_plane: Cluster, namespace: str, resource: Resource, patch: Raw | Callable[[Raw], Raw]
) -> None:
    async with scene(control_plane, namespace) as stage:
        await served(stage)
        victim = stage.objects(resource.kind)[-1]
        name = victim["metadata"]["name"]
        before = await stage.client.get(resource, namespace, name)
        await stage.edit(resource, victim, patch(victim) if callable(patch) else patch)
        right = restored(before)

        async def is_right() -> bool:
            return restored(await stage.client.get(resource, namespace, name)) == right

        for _ in range(600):
            if await is_right():
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(differences(right, restored(await stage.client.get(resource, namespace, name))))
        await stage.settled()
        writes = len(stage.transport.writes)
        await stage.engine.resync()
        await stage.settled()
        assert not [said for said in stage.transport.writes[writes:] if name in said], "it is right for good"


def restored(item: Raw | None) -> dict[str, Any]:
    """What must be as it was after a hand edit: what we said, and not what controllers count in it."""
    assert item is not None
    metadata = {part: item["metadata"].get(part) for part in ("uid", "labels", "annotations", "ownerReferences")}
    metadata["annotations"] = {
        name: value for name, value in (metadata["annotations"] or {}).items() if name.startswith("diffusion.dev/")
    }
    return {**metadata, "spec": item.get("spec"), "data": item.get("data")}


async def test_what_others_add_to_a_child_is_left_alone(control_plane: Cluster, namespace: str) -> None:
    async with scene(control_plane, namespace) as stage:
        await served(stage)
        writes = len(stage.transport.writes)
        for item in stage.objects("Service"):
            await stage.edit(SERVICE, item, {"metadata": {"annotations": {"someone": "was here"}}})
        await stage.settled()
        assert len(stage.transport.writes) == writes
        assert all(item["metadata"]["annotations"]["someone"] == "was here" for item in stage.objects("Service"))


def pods_without_a_node(stage: Scene, sentence: str) -> list[str]:
    """The workers of which the scheduler has said that they have no node, in a sentence that begins so."""
    told = []
    for pod in stage.objects("Pod"):
        verdicts = {one["type"]: one for one in pod["status"].get("conditions", ())}
        if verdicts.get("PodScheduled", {}).get("message", "").startswith(sentence):
            told.append(pod["metadata"]["name"])
    return told


async def tried_again(stage: Scene, sentence: str, seconds: float = 240) -> None:
    """Make the scheduler try both workers again, after its back-off, which grows, until it says `sentence`.

    Another toleration is what makes it try. It may have done so before it saw the newest node: then once more.
    """
    deadline = time.monotonic() + seconds
    while len(pods_without_a_node(stage, sentence)) < 2:
        assert time.monotonic() < deadline, f"the scheduler has not said within {seconds:g} s: {sentence}"
        for pod in stage.objects("Pod"):
            if TRAINING_LABEL in pod["metadata"]["labels"]:
                more = {"key": f"test/{uuid.uuid4().hex[:8]}", "operator": "Exists"}
                await stage.edit(POD, pod, {"spec": {"tolerations": [*pod["spec"]["tolerations"], more]}})
        with contextlib.suppress(AssertionError):
            await until(lambda: len(pods_without_a_node(stage, sentence)) == 2, 5, sentence)


@contextlib.asynccontextmanager
async def closed_nodes(client: ApiClient, namespace: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Nodes that take nobody, one more at each call (which says how many there are now); gone afterwards."""
    names: list[str] = []

    async def one_more() -> int:
        names.append(f"{namespace}-{len(names)}")
        spec = {"taints": [{"key": "test/closed", "effect": "NoSchedule"}]}
        await client.create(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": names[-1]}, "spec": spec})
        return len(names)

    try:
        yield one_more
    finally:
        for name in names:
            await client.call("DELETE", NODE.path(name=name))


async def test_at_rest_nothing_is_written_however_often_it_looks(control_plane: Cluster, namespace: str) -> None:
    async with scene(control_plane, namespace) as stage, closed_nodes(stage.client, namespace) as one_more:
        await served(stage)
        await one_more()
        await stage.create(TRAINING, training("other"))
        await until(lambda: len(pods_without_a_node(stage, "0/1 nodes")) == 2, 30, "two workers without a node")
        await until(lambda: stage.reason("DiffusionTraining") == "Unschedulable", 20, "that in the status")
        await stage.settled()
        writes = list(stage.transport.writes)
        for _ in range(3):  # the scheduler tries again so often
            await tried_again(stage, f"0/{await one_more()} nodes")
            await stage.engine.resync()
            await until(lambda: stage.engine.queue.is_quiet, 10, "quiet")
        assert stage.transport.writes == writes


async def test_namesakes_of_both_kinds_do_not_touch_each_other(control_plane: Cluster, namespace: str) -> None:
    async with scene(control_plane, namespace) as stage:
        await served(stage)
        await stage.create(TRAINING, training("digits"))
        await until(lambda: stage.objects("Job"), 20, "the training's Jobs")
        await stage.settled()
        owners = {
            item["metadata"]["name"]: item["metadata"]["ownerReferences"][0]["kind"]
            for item in stage.witness.objects(namespace)
            if item["metadata"].get("ownerReferences")
        }
        assert {"DiffusionTraining", "DiffusionService", "Job", "Deployment", "ReplicaSet"} >= set(owners.values())


async def test_a_namesake_of_a_deleted_custom_resource_starts_afresh(control_plane: Cluster, namespace: str) -> None:
    async with scene(control_plane, namespace) as stage:
        await served(stage)
        first = {item["metadata"]["uid"] for item in stage.objects("Deployment")}
        metadata = stage.objects("DiffusionService")[0]["metadata"]
        await stage.client.call("DELETE", MODEL_SERVICE.path(namespace, metadata["name"]))
        await until(lambda: not stage.objects("DiffusionService"), 10, "the end of the first")
        await stage.create(MODEL_SERVICE, service())

        def is_fresh() -> bool:
            present = {item["metadata"]["uid"] for item in stage.objects("Deployment")}
            return len(present) == 2 and not present & first

        await until(is_fresh, 40, "two Deployments of its own")


def recorded_differently(outcome: Outcome, reference: Outcome) -> list[str]:
    """Differences in what was made and in what stands in the status.

    Deletions are left out: of two operators one hears no agents, and may clear an ended run away a little earlier.
    """

    def custom_resources(state: list[Raw]) -> list[Raw]:
        return [item for item in state if item["apiVersion"].startswith("diffusion.dev/")]

    return differences(reference.created, outcome.created, "created") + differences(
        custom_resources(reference.state), custom_resources(outcome.state)
    )


@pytest.mark.parametrize("scenario", [TRAINED, ROLLED_OUT], ids=lambda scenario: scenario.name)
async def test_two_operators_at_once_come_to_the_same_end(
    control_plane: Cluster, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_crds(control_plane)
    monkeypatch.setattr(diffusion_operator.plan.service_routing, "DRAIN_SECONDS", 1)
    client = client_for(control_plane.kubeconfig)
    try:
        async with Witness(client_for(control_plane.kubeconfig)).watching() as witness:

            def run() -> Run:
                name = f"two-{uuid.uuid4().hex[:10]}"
                return Run(scenario, control_plane.kubeconfig, client, witness, name, recorded_differently)

            reference: Outcome = await run().play()
            assert reference.reached_the_end
            both = run()
            bench = Bench(control_plane.kubeconfig, scenario.kinds, both.namespace)
            async with bench.operator():  # It hears no agents: they are connected to the other one.
                outcome = await both.play(None, reference)
            assert not recorded_differently(outcome, reference)
            assert outcome.reached_the_end
    finally:
        await client.transport.close()
