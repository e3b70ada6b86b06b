"""Which PersistentVolume a claim gets, and when its folder goes: pure."""

from typing import Any

Object = dict[str, Any]
STORAGE_CLASS = "local"
PROVISIONER = "diffusion.dev/local"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
TO_PROVISION_BY = "volume.kubernetes.io/storage-provisioner"
"""What the controller manager writes on a claim whose turn it is: at once, or once a pod that uses it has its node."""
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
"""Where claims named their class before there was spec.storageClassName; Kubernetes still obeys it, and first."""
STORAGE_CLASS_OBJECT: Object = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": STORAGE_CLASS,
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "Immediate",
    "allowVolumeExpansion": False,
}


def wants_volume(claim: Object) -> bool:
    """Whether the claim waits for a volume of ours: of the class `local`, or of another one with our provisioner."""
    meta = claim["metadata"]
    ours = (meta.get("annotations") or {}).get(TO_PROVISION_BY) == PROVISIONER and class_of(claim) != ""
    return ours and not claim["spec"].get("volumeName") and not meta.get("deletionTimestamp")


def class_of(claim: Object) -> str:
    """Return the name of the claim's storage class, empty where it has none."""
    annotated = (claim["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
    return str(annotated or claim["spec"].get("storageClassName") or "")


def refusal(claim: Object) -> str | None:
    """Return why this claim cannot have a folder, or None when it can."""
    if claim["spec"].get("volumeMode", "Filesystem") != "Filesystem":
        return "volumes of this class are folders: volumeMode must be Filesystem"
    if claim["spec"].get("selector"):
        return "this class makes a volume for each claim: remove spec.selector"
    return None


def volume_name(claim: Object) -> str:
    """Return the name of the claim's volume and of its folder."""
    return f"pvc-{claim['metadata']['uid']}"


def volume_for(claim: Object, storage_class: Object, path: str) -> Object:
    """Return the PersistentVolume, bound to `claim`, that shows the folder `path`; access modes are the claim's."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": "Filesystem",
            "hostPath": {"path": path, "type": "Directory"},
            "claimRef": _reference(claim),
        },
    }


def is_provisioned(volume: Object) -> bool:
    """Whether the volume is one of ours."""
    return (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY) == PROVISIONER


def is_discarded(volume: Object) -> bool:
    """Whether the volume is ours, its claim is gone, and its folder should go."""
    return (
        is_provisioned(volume)
        and volume.get("status", {}).get("phase") == "Released"
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    )


def refusal_event(claim: Object, reason: str, moment: str) -> Object:
    """Return the Event that tells the claim's owner `reason`; `moment` is RFC 3339."""
    meta = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{meta['uid'][:8]}", "namespace": meta["namespace"]},
        "involvedObject": _reference(claim),
        "type": "Warning",
        "reason": "ProvisioningFailed",
        "message": reason,
        "source": {"component": PROVISIONER},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


def _reference(claim: Object) -> Object:
    """The claim as other objects name it."""
    identity = {part: claim["metadata"][part] for part in ("namespace", "name", "uid")}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **identity}
