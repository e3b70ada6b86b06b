"""Environment variables of a container, and `$(VAR)` in them, in the command and in the arguments."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.downward_api import field_value, resource_value

REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")


class ConfigurationMissing(Exception):
    """Something that the container refers to is not there: reason CreateContainerConfigError."""


@dataclass(frozen=True)
class Surroundings:
    """Everything that variables may be taken from."""

    pod: Manifest
    pod_ip: str
    host_ip: str
    allocatable: Mapping[str, str]
    objects: Mapping[tuple[str, str], Manifest | None]
    """ConfigMaps and Secrets by ("configmap" or "secret", name); None is one that does not exist."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; `$$` is a dollar; an unknown name stays as it is written."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return REFERENCE.sub(replacement, text)


def referenced_variables(text: str) -> list[str]:
    """The names in `$(NAME)`."""
    return [match[1] for match in REFERENCE.finditer(text) if match[1] is not None]


def object_data(kind: str, manifest: Manifest) -> dict[str, bytes]:
    """The entries of a ConfigMap or Secret as bytes."""
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in (manifest.get("data") or {}).items()}
    plain = {key: value.encode() for key, value in (manifest.get("data") or {}).items()}
    binary = {key: base64.b64decode(value) for key, value in (manifest.get("binaryData") or {}).items()}
    return plain | binary


def found(kind: str, reference: Manifest, surroundings: Surroundings) -> dict[str, bytes] | None:
    """The entries of the object that `reference` names, binary ones left out; None when it is optional and missing."""
    manifest = surroundings.objects.get((kind, reference["name"]))
    if manifest is not None:
        return object_data(kind, {**manifest, "binaryData": None})
    if reference.get("optional"):
        return None
    raise ConfigurationMissing(f'{kind} "{reference["name"]}" not found')


def value_from(source: Manifest, container: str, surroundings: Surroundings) -> str | None:
    """The value that a `valueFrom` names; None when it is optional and missing."""
    if reference := source.get("fieldRef"):
        return field_value(surroundings.pod, reference["fieldPath"], surroundings.pod_ip, surroundings.host_ip)
    if reference := source.get("resourceFieldRef"):
        return resource_value(surroundings.pod, reference, container, surroundings.allocatable)
    for kind, key in (("configmap", "configMapKeyRef"), ("secret", "secretKeyRef")):
        reference = source.get(key)
        if reference is None:
            continue
        data = found(kind, reference, surroundings)
        if data is not None and reference["key"] in data:
            return data[reference["key"]].decode(errors="replace")
        if reference.get("optional"):
            return None
        namespace = surroundings.pod["metadata"]["namespace"]
        shown = "ConfigMap" if kind == "configmap" else "Secret"
        raise ConfigurationMissing(f"couldn't find key {reference['key']} in {shown} {namespace}/{reference['name']}")
    raise ConfigurationMissing("this node does not support this kind of valueFrom")


def container_environment(
    container: Manifest, services: Mapping[str, str], surroundings: Surroundings
) -> dict[str, str]:
    """The variables that the pod gives a container: those of Services, then envFrom, then env, later ones winning.

    `$(NAME)` stands for these alone, never for what the image brings, such as PATH.

    Raises ConfigurationMissing when a reference that is not optional leads nowhere.
    """
    variables = dict(services)
    for source in container.get("envFrom") or []:
        kind = "configmap" if source.get("configMapRef") else "secret"
        data = found(kind, source.get("configMapRef") or source["secretRef"], surroundings)
        prefix = source.get("prefix") or ""
        variables |= {prefix + key: raw.decode(errors="replace") for key, raw in (data or {}).items()}
    for entry in container.get("env") or []:
        if source := entry.get("valueFrom"):
            value = value_from(source, container["name"], surroundings)
            if value is not None:
                variables[entry["name"]] = value
        else:
            variables[entry["name"]] = expand(entry.get("value") or "", variables)
    return variables


def referenced_objects(container: Manifest) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets that the container's variables need."""
    sources = [entry.get("valueFrom") or {} for entry in container.get("env") or []]
    sources += container.get("envFrom") or []
    kinds = {
        "configMapKeyRef": "configmap",
        "configMapRef": "configmap",
        "secretKeyRef": "secret",
        "secretRef": "secret",
    }
    return {(kind, source[key]["name"]) for source in sources for key, kind in kinds.items() if source.get(key)}
