"""Which volume a claim gets."""

from typing import Any

import pytest

from diffusion_local import claims

OURS = {claims.TO_PROVISION_BY: claims.PROVISIONER}


def claim(meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "data", "namespace": "ns", "uid": "1234", "annotations": OURS, **(meta or {})},
        "spec": {
            "storageClassName": "local",
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "2Gi"}},
            **spec,
        },
    }


def test_a_claim_of_a_class_of_ours_without_a_volume_wants_one() -> None:
    assert claims.wants_volume(claim())
    assert claims.wants_volume(claim(storageClassName="fast"))


@pytest.mark.parametrize(
    "other",
    [
        claim({"annotations": {claims.TO_PROVISION_BY: "another.example"}}),
        claim({"annotations": None}),
        claim(storageClassName=None),
        claim(volumeName="pvc-1"),
        claim({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
)
def test_others_do_not(other: dict[str, Any]) -> None:
    assert not claims.wants_volume(other)


def test_a_class_may_be_named_by_an_annotation_as_it_once_was() -> None:
    old = claim({"annotations": OURS | {claims.CLASS_ANNOTATION: "old"}}, storageClassName=None)
    assert claims.wants_volume(old)
    assert (claims.class_of(old), claims.class_of(claim())) == ("old", "local")


def test_the_volume_has_the_claims_size_and_modes_and_is_bound_to_it_alone() -> None:
    volume = claims.volume_for(claim(), {"metadata": {"name": "local"}}, "/somewhere")
    assert volume["metadata"]["name"] == "pvc-1234"
    assert volume["spec"]["capacity"] == {"storage": "2Gi"}
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["spec"]["claimRef"]["uid"] == "1234"
    assert volume["spec"]["hostPath"]["path"] == "/somewhere"
    assert volume["spec"]["storageClassName"] == "local"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


def test_the_volume_is_kept_where_its_class_says_so() -> None:
    kept = claims.volume_for(claim(), {"metadata": {"name": "kept"}, "reclaimPolicy": "Retain"}, "/somewhere")
    assert kept["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert kept["spec"]["storageClassName"] == "kept"


@pytest.mark.parametrize(
    ("spec", "word"), [({"volumeMode": "Block"}, "volumeMode"), ({"selector": {"matchLabels": {"a": "b"}}}, "selector")]
)
def test_what_cannot_be_a_folder_is_refused_with_the_field(spec: dict[str, Any], word: str) -> None:
    reason = claims.refusal(claim(**spec))
    assert reason is not None
    assert word in reason
    assert claims.refusal_event(claim(), reason, "2026-01-01T00:00:00Z")["message"] == reason


def test_an_ordinary_claim_is_not_refused() -> None:
    assert claims.refusal(claim()) is None


@pytest.mark.parametrize(
    ("phase", "policy", "owner", "expected"),
    [
        ("Released", "Delete", claims.PROVISIONER, True),
        ("Bound", "Delete", claims.PROVISIONER, False),
        ("Released", "Retain", claims.PROVISIONER, False),
        ("Released", "Delete", "another.example", False),
    ],
)
def test_only_our_own_released_volumes_are_discarded(phase: str, policy: str, owner: str, expected: bool) -> None:
    volume = {
        "metadata": {"annotations": {claims.PROVISIONED_BY: owner}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
        "status": {"phase": phase},
    }
    assert claims.is_discarded(volume) is expected


def test_the_class_is_the_default_one() -> None:
    annotations = claims.STORAGE_CLASS_OBJECT["metadata"]["annotations"]
    assert annotations == {"storageclass.kubernetes.io/is-default-class": "true"}
