"""The Job of a pool: its failure rules, its size, and which nodes it wants."""

from typing import Any

import pytest

from diffusion_operator.api.training_spec import TrainingCustomResource, parse_training
from diffusion_operator.children.job import training_job, worker_hash
from diffusion_operator.children.threads import threads
from world_builders import MINIMAL, TWO_POOLS, custom_resource, spec_with


def training(spec: Any = TWO_POOLS) -> TrainingCustomResource:
    return parse_training(custom_resource(spec))


def job(spec: Any = TWO_POOLS, pool: int = 0, attempt: int = 1) -> dict[str, Any]:
    parsed = training(spec)
    return training_job(parsed, parsed.spec.effective_pools[pool], attempt, "trainer:1", "https://agents:8443")


def environment(made: dict[str, Any]) -> dict[str, str]:
    container = made["spec"]["template"]["spec"]["containers"][0]
    return {one["name"]: one.get("value", "") for one in container["env"]}


def test_the_job_never_gives_up_by_itself_and_fails_at_once_where_a_retry_is_useless() -> None:
    spec = job()["spec"]
    assert spec["backoffLimit"] == 2147483647
    assert spec["podReplacementPolicy"] == "Failed"
    fail, disrupted, again = spec["podFailurePolicy"]["rules"]
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailJob", [64, 93])
    assert (disrupted["action"], disrupted["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (again["action"], again["onExitCodes"]["values"]) == ("Ignore", [75])
    assert fail["onExitCodes"]["containerName"] == spec["template"]["spec"]["containers"][0]["name"]


def test_the_job_is_indexed_and_may_be_resized() -> None:
    spec = job(spec_with(workers__max=3))["spec"]
    assert (spec["completionMode"], spec["parallelism"], spec["completions"]) == ("Indexed", 3, 3)


def test_names_fit_whatever_the_custom_resource_is_called() -> None:
    raw = custom_resource(TWO_POOLS)
    long = {**raw, "metadata": {**raw["metadata"], "name": "a" * 63}}
    parsed = parse_training(long)
    names = {
        training_job(parsed, pool, attempt, "i", "u")["metadata"]["name"]
        for pool in parsed.spec.effective_pools
        for attempt in (1, 12345)
    }
    assert len(names) == 4
    assert all(len(name) <= 52 for name in names)


def test_another_custom_resource_of_the_same_name_has_other_jobs() -> None:
    raw = custom_resource(TWO_POOLS)
    again = parse_training({**raw, "metadata": {**raw["metadata"], "uid": "other"}})
    made = training_job(again, again.spec.effective_pools[0], 1, "i", "u")
    assert made["metadata"]["name"] != job()["metadata"]["name"]


def test_pods_know_who_they_are() -> None:
    values = environment(job(spec_with(TWO_POOLS, workers__processesPerWorker=2), pool=1, attempt=3))
    assert values["DIFFUSION_ATTEMPT"] == "3"
    assert values["DIFFUSION_POOL"] == "spot"
    assert values["DIFFUSION_PROCESSES"] == "2"
    assert values["DIFFUSION_AGENT_URL"] == "https://agents:8443"
    assert values["DIFFUSION_CONFIG_FILE"] == "/etc/diffusion/config/run.json"


@pytest.mark.parametrize(
    ("limit", "processes", "expected"),
    [
        ("4", 2, 2),
        ("1500m", 1, 1),
        ("500m", 1, 1),
        ("8", 3, 2),
        ("2k", 1, 1024),
        ("1e400", 1, 1024),
        ("1e9999", 2, 1024),
        ("many", 1, 1),
        (None, 2, 1),
    ],
)
def test_threads_are_the_share_of_the_cpu_limit(limit: str | None, processes: int, expected: int) -> None:
    assert threads({"cpu": limit} if limit else {}, processes) == expected


def test_on_demand_workers_keep_off_spot_nodes_and_spot_workers_prefer_them() -> None:
    base = job(pool=0)["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    spot = job(pool=1)["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = base["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {"key": "karpenter.sh/capacity-type", "operator": "NotIn", "values": ["spot"]} in term["matchExpressions"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in spot
    assert all(one["weight"] == 100 for one in spot["preferredDuringSchedulingIgnoredDuringExecution"])


def test_the_users_own_affinity_stays() -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}, {}]}
    theirs = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    made = job(spec_with(TWO_POOLS, workers__template={"affinity": theirs}))
    affinity = made["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    first, second = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert first["matchExpressions"][0]["key"] == "zone"
    assert len(first["matchExpressions"]) == len(second["matchExpressions"]) + 1


def test_a_lost_node_is_given_up_after_half_a_minute() -> None:
    tolerations = job()["spec"]["template"]["spec"]["tolerations"]
    lost = {one["key"]: one.get("tolerationSeconds") for one in tolerations}
    assert lost["node.kubernetes.io/not-ready"] == lost["node.kubernetes.io/unreachable"] == 30


def test_spot_workers_have_the_grace_that_a_cloud_gives_them() -> None:
    assert job(pool=0)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 110
    assert job(pool=1)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 15


def test_the_volumes_are_the_claims_of_the_spec() -> None:
    spec = spec_with(checkpoint__storage={"existingClaim": "mine"}, publish={"existingClaim": "models"})
    made = job(spec)["spec"]["template"]["spec"]
    claims = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in made["volumes"]}
    assert (claims["diffusion-checkpoints"], claims["diffusion-models"]) == ("mine", "models")
    mounts = {one["name"]: one["mountPath"] for one in made["containers"][0]["volumeMounts"]}
    assert mounts["diffusion-checkpoints"] == "/var/lib/diffusion/checkpoints"
    assert mounts["diffusion-models"] == "/var/lib/diffusion/models/models"


def test_the_image_of_the_spec_wins() -> None:
    assert job()["spec"]["template"]["spec"]["containers"][0]["image"] == "trainer:1"
    made = job(spec_with(workers__image="mine:2"))
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "mine:2"


@pytest.mark.parametrize(
    ("changes", "needs_new_pods"),
    [
        ({"workers__image": "other"}, True),
        ({"workers__resources": {"limits": {"cpu": "2"}}}, True),
        ({"workers__template": {"env": [{"name": "A", "value": "1"}]}}, True),
        ({"workers__processesPerWorker": 2}, True),
        ({"workers__min": 1, "workers__max": 4}, False),
        ({"training__targetSteps": 99}, False),
        ({"checkpoint__interval": {"seconds": 60}}, False),
        ({"failurePolicy": {"maxRestarts": 3}}, False),
    ],
)
def test_only_what_a_running_pod_cannot_take_over_needs_new_pods(changes: Any, needs_new_pods: bool) -> None:
    before, after = training(MINIMAL), training(spec_with(**changes))
    hashes = [worker_hash(one, one.spec.effective_pools[0]) for one in (before, after)]
    assert (hashes[0] != hashes[1]) == needs_new_pods
