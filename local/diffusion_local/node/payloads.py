"""The files of ConfigMap, Secret, projected and downward API volumes, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.downward_api import field_value, resource_value
from diffusion_local.node.environment import Surroundings, object_data

DEFAULT_MODE = 0o644


class VolumeNotReady(Exception):
    """A volume cannot be filled yet; the message says what is missing."""

    def __init__(self, message: str, volume: str = "") -> None:
        super().__init__(message)
        self.volume = volume
        """Its name in the pod, once that is known."""


class VolumeNotAttached(VolumeNotReady):
    """A volume is on another node, and can only be on one."""


@dataclass(frozen=True)
class File:
    """Content and permission bits."""

    content: bytes
    mode: int = DEFAULT_MODE


Payload = dict[str, File]
"""Files by path relative to the volume."""


def mode_in(entry: Manifest, field: str, otherwise: int) -> int:
    """The permissions that are asked for; 0 asks for none."""
    asked: int | None = entry.get(field)
    return otherwise if asked is None else asked


def object_files(kind: str, source: Manifest, name: str, mode: int, surroundings: Surroundings) -> Payload:
    """The chosen entries of a ConfigMap or Secret; VolumeNotReady when one that is not optional is missing."""
    manifest = surroundings.objects.get((kind, name))
    optional = bool(source.get("optional"))
    if manifest is None:
        if optional:
            return {}
        raise VolumeNotReady(f'{kind} "{name}" not found')
    data = object_data(kind, manifest)
    if "items" not in source or source["items"] is None:
        return {key: File(content, mode) for key, content in data.items()}
    files: Payload = {}
    for item in source["items"]:
        if item["key"] in data:
            files[item["path"]] = File(data[item["key"]], mode_in(item, "mode", mode))
        elif not optional:
            raise VolumeNotReady(f'{kind} "{name}" references non-existent config key: {item["key"]}')
    return files


def downward_files(items: list[Manifest], mode: int, surroundings: Surroundings) -> Payload:
    """Files about the pod itself."""
    files: Payload = {}
    for item in items:
        if reference := item.get("fieldRef"):
            text = field_value(surroundings.pod, reference["fieldPath"], surroundings.pod_ip, surroundings.host_ip)
        else:
            text = resource_value(surroundings.pod, item["resourceFieldRef"], "", surroundings.allocatable)
        files[item["path"]] = File(text.encode(), mode_in(item, "mode", mode))
    return files


def projected_files(source: Manifest, surroundings: Surroundings, token: Callable[[Manifest], str]) -> Payload:
    """All sources of a projected volume together; `token` gives the text for a serviceAccountToken source."""
    mode = mode_in(source, "defaultMode", DEFAULT_MODE)
    files: Payload = {}
    for part in source.get("sources") or []:
        if wanted := part.get("serviceAccountToken"):
            files[wanted["path"]] = File(token(wanted).encode(), mode)
        elif inner := part.get("configMap"):
            files |= object_files("configmap", inner, inner["name"], mode, surroundings)
        elif inner := part.get("secret"):
            files |= object_files("secret", inner, inner["name"], mode, surroundings)
        elif inner := part.get("downwardAPI"):
            files |= downward_files(inner.get("items") or [], mode, surroundings)
        else:
            raise VolumeNotReady(f"this node does not support projected source {', '.join(part)}")
    return files


def volume_files(volume: Manifest, surroundings: Surroundings, token: Callable[[Manifest], str]) -> Payload | None:
    """The files of a volume whose content comes from the API; None for a volume of another kind."""
    if source := volume.get("configMap"):
        mode = mode_in(source, "defaultMode", DEFAULT_MODE)
        return object_files("configmap", source, source["name"], mode, surroundings)
    if source := volume.get("secret"):
        mode = mode_in(source, "defaultMode", DEFAULT_MODE)
        return object_files("secret", source, source["secretName"], mode, surroundings)
    if source := volume.get("projected"):
        return projected_files(source, surroundings, token)
    if source := volume.get("downwardAPI"):
        return downward_files(source.get("items") or [], mode_in(source, "defaultMode", DEFAULT_MODE), surroundings)
    return None


def referenced_by_volume(volume: Manifest) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets that a volume shows."""
    parts = [volume, *((volume.get("projected") or {}).get("sources") or [])]
    names = {("configmap", part["configMap"]["name"]) for part in parts if part.get("configMap")}
    for part in parts:
        if secret := part.get("secret"):
            names.add(("secret", secret.get("secretName") or secret["name"]))
    return names


def token_sources(volume: Manifest) -> list[Mapping[str, object]]:
    """The serviceAccountToken sources of a volume."""
    sources = (volume.get("projected") or {}).get("sources") or []
    return [part["serviceAccountToken"] for part in sources if part.get("serviceAccountToken")]
