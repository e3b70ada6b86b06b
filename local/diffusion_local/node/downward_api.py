"""Values that a pod may ask about itself: fieldRef and resourceFieldRef."""

import re
from collections.abc import Mapping

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.quantity import in_units_of, parse_quantity

SUBSCRIPT = re.compile(r"^(metadata\.(?:labels|annotations))\['([^']*)'\]$")


def escaped_map(table: Mapping[str, str]) -> str:
    """Labels or annotations as a downward API file shows them: `key="escaped value"` lines in order."""
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for key, value in table.items()}
    return "\n".join(f'{key}="{value}"' for key, value in sorted(quoted.items()))


def field_value(pod: Manifest, path: str, pod_ip: str, host_ip: str) -> str:
    """What `fieldPath` stands for; ValueError for a path that Kubernetes does not offer."""
    metadata, spec = pod["metadata"], pod["spec"]
    if match := SUBSCRIPT.match(path):
        table = metadata.get(match[1].split(".")[1]) or {}
        return str(table.get(match[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.split(".")[1]])
        case "metadata.labels" | "metadata.annotations":
            return escaped_map(metadata.get(path.split(".")[1]) or {})
        case "spec.nodeName":
            return str(spec["nodeName"])
        case "spec.serviceAccountName":
            return str(spec.get("serviceAccountName", ""))
        case "status.podIP" | "status.podIPs":
            return pod_ip
        case "status.hostIP" | "status.hostIPs":
            return host_ip
    raise ValueError(f"fieldPath {path!r} is not supported")


def resource_value(pod: Manifest, reference: Manifest, own: str, allocatable: Mapping[str, str]) -> str:
    """What a resourceFieldRef stands for; `own` is the container that asks. No limit means the node's allocatable."""
    wanted = reference.get("containerName") or own
    containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    resources = next((c.get("resources") or {} for c in containers if c["name"] == wanted), None)
    if resources is None:
        raise ValueError(f"there is no container {wanted!r}")
    kind, _, resource = reference["resource"].partition(".")
    table = resources.get(kind) or {}
    text = table.get(resource) or (allocatable.get(resource, "0") if kind == "limits" else "0")
    divisor = parse_quantity(str(reference.get("divisor") or "1"))
    return str(in_units_of(parse_quantity(str(text)), divisor or parse_quantity("1")))
