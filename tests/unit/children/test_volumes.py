"""One claim is one volume of a pod, however often it is mounted."""

from typing import Any

from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.children.job import training_job
from diffusion_operator.children.volumes import each_claim_once
from world_builders import custom_resource, spec_with


def volume(name: str, claim: str, *, read_only: bool = False) -> dict[str, Any]:
    source: dict[str, Any] = {"claimName": claim} | ({"readOnly": True} if read_only else {})
    return {"name": name, "persistentVolumeClaim": source}


def pod_of(**changes: Any) -> Any:
    parsed = parse_training(custom_resource(spec_with(**changes)))
    return training_job(parsed, parsed.spec.effective_pools[0], 1, "i", "u")["spec"]["template"]["spec"]


def test_checkpoints_models_and_a_dataset_on_one_claim_are_one_volume() -> None:
    data = {
        "volumes": [volume("data", "work", read_only=True)],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    made = pod_of(
        checkpoint__storage={"existingClaim": "work"}, publish={"existingClaim": "work"}, workers={"template": data}
    )
    claims = [one for one in made["volumes"] if "persistentVolumeClaim" in one]
    assert claims == [{"name": "diffusion-checkpoints", "persistentVolumeClaim": {"claimName": "work"}}]
    mounts = {one["mountPath"]: one for one in made["containers"][0]["volumeMounts"]}
    names = {
        mounts[path]["name"] for path in ("/var/lib/diffusion/checkpoints", "/var/lib/diffusion/models/work", "/data")
    }
    assert names == {"diffusion-checkpoints"}
    assert mounts["/data"]["readOnly"], "what was mounted for reading only stays so"
    assert "readOnly" not in mounts["/var/lib/diffusion/checkpoints"]
    assert {one["name"] for one in mounts.values()} == {one["name"] for one in made["volumes"]}


def test_a_claim_that_all_only_read_stays_closed() -> None:
    volumes = [volume("a", "x", read_only=True), volume("b", "x", read_only=True)]
    kept, _ = each_claim_once(volumes, [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}])
    assert kept == [volumes[0]]


def test_a_closed_volume_opens_for_one_that_writes() -> None:
    mounts = [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}]
    kept, moved = each_claim_once([volume("a", "x", read_only=True), volume("b", "x")], mounts)
    assert kept == [volume("a", "x")]
    assert moved == [{"name": "a", "mountPath": "/a", "readOnly": True}, {"name": "a", "mountPath": "/b"}]


def test_other_volumes_and_a_volume_that_is_called_like_a_claim_are_left_alone() -> None:
    volumes = [
        {"name": "x", "emptyDir": {}},
        volume("a", "x"),
        volume("b", "y"),
        {"name": "c", "configMap": {"name": "x"}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("x", "a", "b", "c")]
    assert each_claim_once(volumes, mounts) == (volumes, mounts)
