"""What a snapshot holds: the family by owners, and the members of a run whoever owns them now."""

from typing import Any

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.cluster import Cluster
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.resources import JOB, NODE, POD, TRAINING
from diffusion_operator.kube.store import Store
from diffusion_operator.plan.plan import ObjectReference
from diffusion_operator.plan.training_kind import TRAINING as KIND
from scripted_transport import ScriptedTransport
from world_builders import MINIMAL, OPERATOR, custom_resource, job, node, pod, training_status

KEY = Key("DiffusionTraining", "team", "digits")


def cluster_with(*pods: dict[str, Any], members: tuple[str, ...], jobs: bool = True) -> Cluster:
    """A cluster whose store holds a training with `members`, its Job, and these pods."""
    store = Store()
    store.put(TRAINING, custom_resource(MINIMAL, training_status(*members)))
    store.put(NODE, {**node(), "metadata": {"name": "n1"}})
    if jobs:
        owned = job()
        owned["metadata"]["ownerReferences"] = [{"uid": "cr-uid"}]
        store.put(JOB, owned)
    for one in pods:
        one["metadata"] |= {"namespace": "team", "ownerReferences": [{"uid": "uid-job-base-1"}]}
        store.put(POD, one)
    return Cluster(ApiClient(ScriptedTransport()), store, OPERATOR, "operator")


async def pods_of(cluster: Cluster) -> list[str]:
    """The UIDs of the pods in a snapshot."""
    snapshot = await cluster.snapshot(KEY, KIND)
    assert snapshot is not None
    assert set(snapshot.nodes) <= {"n1"}
    return [child["metadata"]["uid"] for child in snapshot.children if child["kind"] == "Pod"]


async def test_pods_are_found_through_their_job() -> None:
    assert await pods_of(cluster_with(pod("a"), pod("b"), members=("a",))) == ["a", "b"]


async def test_members_are_found_when_their_job_is_gone_and_others_are_not() -> None:
    assert await pods_of(cluster_with(pod("a"), pod("b"), members=("a",), jobs=False)) == ["a"]


async def test_a_namesake_of_a_member_is_somebody_else() -> None:
    namesake = pod("a")
    namesake["metadata"]["uid"] = "another"
    assert await pods_of(cluster_with(namesake, members=("a",), jobs=False)) == []


async def test_a_job_stays_until_its_pods_have_ended() -> None:
    transport = ScriptedTransport()
    transport.say("DELETE /apis/batch/v1/namespaces/team/jobs/job-base-1", {})
    cluster = Cluster(ApiClient(transport), Store(), OPERATOR, "operator")
    assert await cluster.delete(KEY, ObjectReference("batch/v1", "Job", "team", "job-base-1", "uid-job-base-1", "7"))
    assert transport.asked[0].body["propagationPolicy"] == "Foreground"
