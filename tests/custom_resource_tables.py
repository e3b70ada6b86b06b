"""The smallest good object of each kind, a way to change one field of it, and a client that asks a real API server."""

import copy
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from kubernetes.client.exceptions import ApiException

from cluster_fixtures import Kubernetes, fresh_namespace
from deadline import wait_until
from diffusion_operator.api.service_spec import parse_service_spec
from diffusion_operator.api.training_spec import parse_training

CRDS = Path(__file__).parents[1] / "crds"
DIGEST = "sha256:" + "0123456789abcdef" * 4
PLURALS = {"DiffusionTraining": "diffusiontrainings", "DiffusionService": "diffusionservices"}

REMOVE = object()
"""As a value: the field is taken out."""


def training(**changes: Any) -> dict[str, Any]:
    """The smallest good DiffusionTraining; a change is `spec__workers__max=2`."""
    spec = {
        "dataset": {"uri": "builtin://digits"},
        "training": {"targetSteps": 100},
        "checkpoint": {"storage": {"claim": {"size": "1Gi"}}},
    }
    return _changed(_object("DiffusionTraining", spec), changes)


def service(**changes: Any) -> dict[str, Any]:
    """The smallest good DiffusionService."""
    spec = {"model": {"ref": f"pvc://models/digits@{DIGEST}"}, "auth": {"keysRef": {"name": "digits-keys"}}}
    return _changed(_object("DiffusionService", spec), changes)


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    return {"apiVersion": "diffusion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _changed(raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = changed
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is REMOVE:
            place.pop(last, None)
        else:
            place[last] = value
    return changed


def parse(raw: dict[str, Any]) -> Any:
    """The typed spec of a custom resource; raises SpecInvalid."""
    return parse_training(raw).spec if raw["kind"] == "DiffusionTraining" else parse_service_spec(raw)


@cache
def schema_of(kind: str) -> dict[str, Any]:
    """The OpenAPI schema of the kind, from crds/; do not change it, it is read once."""
    definition = yaml.safe_load((CRDS / f"{PLURALS[kind]}.diffusion.dev.yaml").read_text())
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def install_crds(cluster: Kubernetes) -> None:
    """Apply crds/ and wait until both kinds are served and explained (the server publishes that a little later)."""
    done = cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    assert done.returncode == 0, done.stderr
    done = cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
    assert done.returncode == 0, done.stderr
    for short_name in ("dt", "dsv"):
        spec = f"{short_name}.spec"
        wait_until(partial(is_explained, cluster, spec), 30, f"kubectl explain {spec}")


def is_explained(cluster: Kubernetes, path: str) -> bool:
    return cluster.kubectl("explain", path).returncode == 0


class CustomResources:
    """Creates and changes custom resources, and tells the API server's refusal instead of raising it."""

    def __init__(self, cluster: Kubernetes, namespace: str) -> None:
        self._client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
        self._api = kubernetes.client.CustomObjectsApi(self._client)
        self._namespace = namespace

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def create(self, raw: dict[str, Any], dry_run: bool = False) -> dict[str, Any]:
        """The object as it was stored; AssertionError with the server's words where it is refused."""
        stored = self._try_to_create(raw, dry_run)
        assert isinstance(stored, dict), stored
        return stored

    def refusal(self, raw: dict[str, Any]) -> str:
        """Why this object is refused; empty where it is accepted. Nothing is stored."""
        answer = self._try_to_create(raw, dry_run=True)
        return answer if isinstance(answer, str) else ""

    def refusal_of_change(self, stored: dict[str, Any], patch: dict[str, Any]) -> str:
        """Why this merge patch on a stored object is refused; empty where it is accepted."""
        try:
            self._api.patch_namespaced_custom_object(
                *self._place(stored), stored["metadata"]["name"], {"spec": patch}, field_validation="Strict"
            )
        except ApiException as error:
            return str(error.body)
        return ""

    def put_status(self, stored: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """The status as the server keeps it."""
        body = {**stored, "status": status}
        found: dict[str, Any] = self._api.replace_namespaced_custom_object_status(
            *self._place(stored), stored["metadata"]["name"], body
        )
        kept: dict[str, Any] = found["status"]
        return kept

    def _try_to_create(self, raw: dict[str, Any], dry_run: bool) -> dict[str, Any] | str:
        options = {"dry_run": "All"} if dry_run else {}
        try:
            stored: dict[str, Any] = self._api.create_namespaced_custom_object(
                *self._place(raw), raw, field_validation="Strict", **options
            )
        except ApiException as error:
            return str(error.body)
        return stored

    def _place(self, raw: dict[str, Any]) -> tuple[str, str, str, str]:
        return "diffusion.dev", "v1alpha1", self._namespace, PLURALS[raw["kind"]]


@contextmanager
def custom_resources(cluster: Kubernetes) -> Iterator[CustomResources]:
    """A client for both kinds in a fresh namespace."""
    install_crds(cluster)
    with fresh_namespace(cluster) as namespace:
        client = CustomResources(cluster, namespace)
        yield client
        client.close()
